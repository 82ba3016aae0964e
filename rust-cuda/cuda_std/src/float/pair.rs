//! Products of two 16-bit floats in a register at a time.

/// The products of two pairs of `bf16`, each rounded once to nearest, ties to even; a NaN is 0x7fff. PTX `fma.rn.bf16x2` with -0,
/// which leaves every product as it is: `mul` of `bf16` is missing before sm_90.
#[inline(always)]
pub fn mul_bf16x2(a: u32, b: u32) -> u32 {
    target! {
        gpu {
            let d: u32;
            // SAFETY: works on registers.
            unsafe {
                core::arch::asm!("fma.rn.bf16x2 {}, {}, {}, {};", out(reg32) d, in(reg32) a, in(reg32) b,
                    in(reg32) 0x8000_8000u32, options(pure, nomem, nostack, preserves_flags));
            }
            d
        }
        cpu { pair(a, b, half::bf16::from_bits, |v| super::f32_to_bf16(v).to_bits()) }
    }
}

/// The products of two pairs of `f16`, each rounded once to nearest, ties to even; a NaN is 0x7fff. PTX `fma.rn.f16x2` with -0.
#[inline(always)]
pub fn mul_f16x2(a: u32, b: u32) -> u32 {
    target! {
        gpu {
            let d: u32;
            // SAFETY: works on registers.
            unsafe {
                core::arch::asm!("fma.rn.f16x2 {}, {}, {}, {};", out(reg32) d, in(reg32) a, in(reg32) b,
                    in(reg32) 0x8000_8000u32, options(pure, nomem, nostack, preserves_flags));
            }
            d
        }
        cpu { pair(a, b, half::f16::from_bits, |v| super::f32_to_f16(v).to_bits()) }
    }
}

/// The product of each half. In f64 it is exact; on the way to 16 bits it passes through an f32 that keeps, as its last bit,
/// whether anything was cut off, so that the second rounding is the only one.
#[cfg(not(target_arch = "nvptx64"))]
fn pair<T: Into<f64>>(a: u32, b: u32, from_bits: fn(u16) -> T, round: fn(f32) -> u16) -> u32 {
    let half = |shift: u32| {
        let factor = |x: u32| -> f64 { from_bits((x >> shift) as u16).into() };
        let exact = factor(a) * factor(b);
        let mut near = exact as f32;
        if near.is_finite() && f64::from(near) != exact {
            let away = f64::from(near).abs() > exact.abs();
            near = f32::from_bits((near.to_bits() - u32::from(away)) | 1);
        }
        u32::from(round(near)) << shift
    };
    half(0) | half(16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    /// The nearest 16-bit float to an f64 by search among all of them: the pattern whose distance is least, even at a tie.
    fn nearest(exact: f64, value: impl Fn(u16) -> f64, infinity: u16) -> u16 {
        let sign = if exact.is_sign_negative() { 0x8000 } else { 0 };
        let magnitude = exact.abs();
        // Magnitudes grow with the bits. The first pattern that is not below is the upper neighbour.
        let (mut low, mut high) = (0u16, infinity);
        while low < high {
            let middle = low + (high - low) / 2;
            if value(middle) < magnitude {
                low = middle + 1
            } else {
                high = middle
            }
        }
        if low == 0 || value(low) == magnitude {
            return sign | low;
        }
        // One step above the largest finite number stands for infinity.
        let top = value(infinity - 1);
        let upper = if low == infinity {
            top + (top - value(infinity - 2))
        } else {
            value(low)
        };
        let (down, up) = (magnitude - value(low - 1), upper - magnitude);
        let take_low = down < up || (down == up && (low - 1) % 2 == 0);
        sign | if take_low { low - 1 } else { low }
    }

    #[test]
    fn products_are_rounded_once() {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(0x915f_77f5).wrapping_add(0x6d2b_79f5);
            state ^ state >> 15
        };
        for i in 0..200_000 {
            let (mut a, b) = (next(), next());
            if i % 2 == 0 {
                // Half of them with products near and below the least normal number.
                a = a & 0x83ff_83ff | 0x0400_0400;
            }
            let (x, y) = (mul_bf16x2(a, b), mul_f16x2(a, b));
            for shift in [0, 16] {
                let (p, q) = ((a >> shift) as u16, (b >> shift) as u16);
                let exact = bf16::from_bits(p).to_f64() * bf16::from_bits(q).to_f64();
                let want = if exact.is_nan() {
                    0x7fff
                } else {
                    nearest(exact, |v| bf16::from_bits(v).to_f64(), 0x7f80)
                };
                assert_eq!((x >> shift) as u16, want, "bf16 {p:04x} * {q:04x}");
                let exact = f16::from_bits(p).to_f64() * f16::from_bits(q).to_f64();
                let want = if exact.is_nan() {
                    0x7fff
                } else {
                    nearest(exact, |v| f16::from_bits(v).to_f64(), 0x7c00)
                };
                assert_eq!((y >> shift) as u16, want, "f16 {p:04x} * {q:04x}");
            }
        }
    }
}
