//! The two 16-bit types of matrix products.

use cuda_std::{bf16, f16, float, int, mma};

/// A 16-bit float that tensor cores multiply.
pub trait Element: Copy + 'static {
    /// `B` independent products, as [`mma::m16n8k16_bf16`].
    fn mma<const B: usize>(a: &[[u32; 4]; B], b: &[[u32; 2]; B], c: &[[f32; 4]; B]) -> [[f32; 4]; B];

    /// The nearest element's bits, ties to even; a NaN is 0x7fff.
    fn round(v: f32) -> u16;

    /// [`Element::round`] of two, the first in the low half.
    fn round_pair(v: [f32; 2]) -> u32;

    /// The value of an element, exactly.
    fn widen(bits: u16) -> f32;

    /// The values of two elements, that of the low half first.
    fn widen_pair(bits: u32) -> [f32; 2];

    /// An E4M3 block scale as an element (exact), in both halves.
    fn scale_pair(e4m3: u8) -> u32;

    /// Eight E2M1 codes, low nibble first, times the scale in both halves of `scale`: exact, in order, two a register.
    fn dequantise(codes: u32, scale: u32) -> [u32; 4];
}

/// Codes 0 and 4, 1 and 5, 2 and 6, 3 and 7 in the halves of four registers, to the order of the codes.
#[inline(always)]
fn in_order(pairs: [u32; 4]) -> [u32; 4] {
    [
        int::byte_permute(pairs[0], pairs[1], 0x5410),
        int::byte_permute(pairs[2], pairs[3], 0x5410),
        int::byte_permute(pairs[0], pairs[1], 0x7632),
        int::byte_permute(pairs[2], pairs[3], 0x7632),
    ]
}

/// bfloat16.
#[derive(Clone, Copy)]
pub struct Bf16;

impl Element for Bf16 {
    #[inline(always)]
    fn mma<const B: usize>(a: &[[u32; 4]; B], b: &[[u32; 2]; B], c: &[[f32; 4]; B]) -> [[f32; 4]; B] {
        mma::m16n8k16_bf16(a, b, c)
    }

    #[inline(always)]
    fn round(v: f32) -> u16 {
        float::f32_to_bf16(v).to_bits()
    }

    #[inline(always)]
    fn round_pair([lo, hi]: [f32; 2]) -> u32 {
        float::f32x2_to_bf16x2(lo, hi)
    }

    #[inline(always)]
    fn widen(bits: u16) -> f32 {
        float::bf16_to_f32(bf16::from_bits(bits))
    }

    #[inline(always)]
    fn widen_pair(bits: u32) -> [f32; 2] {
        float::bf16x2_to_f32(bits)
    }

    #[inline(always)]
    fn scale_pair(e4m3: u8) -> u32 {
        // At most 4 significant bits: the upper half of the f32 is all there is.
        let bits = float::e4m3_to_f32(e4m3).to_bits() >> 16;
        bits | bits << 16
    }

    #[inline(always)]
    fn dequantise(codes: u32, scale: u32) -> [u32; 4] {
        // A code whose exponent and fraction are put at the same place of a bf16 is its value times 2^-126, subnormals too; the
        // factor 2^126 makes up for it, then comes the scale: both products are exact (at most 6 significant bits).
        let value = |q: u32| {
            let small = (q & 0x8000_8000) | ((q >> 6) & 0x01c0_01c0);
            float::mul_bf16x2(float::mul_bf16x2(small, 0x7e80_7e80), scale)
        };
        in_order([value(codes << 12), value(codes << 8), value(codes << 4), value(codes)])
    }
}

/// IEEE half precision.
#[derive(Clone, Copy)]
pub struct F16;

impl Element for F16 {
    #[inline(always)]
    fn mma<const B: usize>(a: &[[u32; 4]; B], b: &[[u32; 2]; B], c: &[[f32; 4]; B]) -> [[f32; 4]; B] {
        mma::m16n8k16_f16(a, b, c)
    }

    #[inline(always)]
    fn round(v: f32) -> u16 {
        float::f32_to_f16(v).to_bits()
    }

    #[inline(always)]
    fn round_pair([lo, hi]: [f32; 2]) -> u32 {
        float::f32x2_to_f16x2(lo, hi)
    }

    #[inline(always)]
    fn widen(bits: u16) -> f32 {
        float::f16_to_f32(f16::from_bits(bits))
    }

    #[inline(always)]
    fn widen_pair(bits: u32) -> [f32; 2] {
        float::f16x2_to_f32(bits)
    }

    #[inline(always)]
    fn scale_pair(e4m3: u8) -> u32 {
        let scale = float::e4m3_to_f32(e4m3);
        float::f32x2_to_f16x2(scale, scale)
    }

    #[inline(always)]
    fn dequantise(codes: u32, scale: u32) -> [u32; 4] {
        // As for bf16: the code's value times 2^-14, made up for by 2^14. The product with a scale is from 2^-10 to 2688: exact.
        let value = |q: u32| {
            let small = (q & 0x8000_8000) | ((q >> 3) & 0x0e00_0e00);
            float::mul_f16x2(float::mul_f16x2(small, 0x7400_7400), scale)
        };
        in_order([value(codes << 12), value(codes << 8), value(codes << 4), value(codes)])
    }
}
