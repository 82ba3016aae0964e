//! Conversions between `f32` and the 16-bit floats, one instruction each on the GPU.
//!
//! `half`'s own conversions run in software there. To 16 bits they round to nearest, ties to even; a NaN becomes PTX's
//! canonical one (0x7fff). To 32 bits they are exact; a NaN of `f16` becomes 0x7fffffff, one of `bf16` keeps its bits.

use half::{bf16, f16};

/// The value of an `f16`, exactly (PTX `cvt.f32.f16`).
#[inline(always)]
pub fn f16_to_f32(x: f16) -> f32 {
    target! {
        gpu {
            let d: f32;
            // SAFETY: works on registers.
            unsafe {
                core::arch::asm!("cvt.f32.f16 {}, {};", out(reg32) d, in(reg16) x.to_bits(),
                    options(pure, nomem, nostack, preserves_flags));
            }
            d
        }
        cpu {
            let bits = u32::from(x.to_bits());
            let (sign, magnitude) = ((bits & 0x8000) << 16, bits & 0x7fff);
            f32::from_bits(match magnitude {
                0x7c01.. => 0x7fff_ffff,
                0x7c00 => sign | 0x7f80_0000,
                // Exponent and fraction in place, then a factor of 2^112 makes up for the other bias; subnormals too,
                // since the first factor is then a subnormal f32 with the same fraction.
                _ => sign | (f32::from_bits(magnitude << 13) * f32::from_bits((127 + 112) << 23)).to_bits(),
            })
        }
    }
}

/// The value of a `bf16`, exactly: its bits are the upper half of the `f32`'s.
#[inline(always)]
pub const fn bf16_to_f32(x: bf16) -> f32 {
    f32::from_bits((x.to_bits() as u32) << 16)
}

/// The two `f16` of a register as `f32`, low half first.
#[inline(always)]
pub fn f16x2_to_f32(x: u32) -> [f32; 2] {
    [
        f16_to_f32(f16::from_bits(x as u16)),
        f16_to_f32(f16::from_bits((x >> 16) as u16)),
    ]
}

/// The two `bf16` of a register as `f32`, low half first.
#[inline(always)]
pub const fn bf16x2_to_f32(x: u32) -> [f32; 2] {
    [f32::from_bits(x << 16), f32::from_bits(x & 0xffff_0000)]
}

/// The nearest `f16`, ties to even; beyond 65504 by half a unit or more it is infinite (PTX `cvt.rn.f16.f32`).
#[inline(always)]
pub fn f32_to_f16(x: f32) -> f16 {
    target! {
        gpu {
            let d: u16;
            // SAFETY: works on registers.
            unsafe {
                core::arch::asm!("cvt.rn.f16.f32 {}, {};", out(reg16) d, in(reg32) x,
                    options(pure, nomem, nostack, preserves_flags));
            }
            f16::from_bits(d)
        }
        cpu {
            let bits = x.to_bits();
            let (sign, magnitude) = ((bits >> 16 & 0x8000) as u16, bits & 0x7fff_ffff);
            f16::from_bits(match magnitude {
                0x7f80_0001.. => 0x7fff,
                // 65520 and above round to infinity.
                0x477f_f000.. => sign | 0x7c00,
                // Normal f16: drop 13 bits, and the carry of rounding runs into the exponent as it should.
                0x3880_0000.. => sign | ((round_off(magnitude, 13) - (112 << 10)) as u16),
                // Subnormal f16: adding 0.5 puts 2^-24 at the last place, so that the addition rounds.
                _ => sign | (f32::from_bits(magnitude) + 0.5).to_bits() as u16,
            })
        }
    }
}

/// The nearest `bf16`, ties to even (PTX `cvt.rn.bf16.f32`, sm_80).
#[inline(always)]
pub fn f32_to_bf16(x: f32) -> bf16 {
    target! {
        gpu {
            let d: u16;
            // SAFETY: works on registers.
            unsafe {
                core::arch::asm!("cvt.rn.bf16.f32 {}, {};", out(reg16) d, in(reg32) x,
                    options(pure, nomem, nostack, preserves_flags));
            }
            bf16::from_bits(d)
        }
        cpu { bf16::from_bits(if x.is_nan() { 0x7fff } else { round_off(x.to_bits(), 16) as u16 }) }
    }
}

/// Two `f32` as a register of two `bf16`, `lo` in the low half, each as [`f32_to_bf16`] rounds it (PTX `cvt.rn.bf16x2.f32`,
/// sm_80).
#[inline(always)]
pub fn f32x2_to_bf16x2(lo: f32, hi: f32) -> u32 {
    target! {
        gpu {
            let d: u32;
            // SAFETY: works on registers.
            unsafe {
                core::arch::asm!("cvt.rn.bf16x2.f32 {}, {}, {};", out(reg32) d, in(reg32) hi, in(reg32) lo,
                    options(pure, nomem, nostack, preserves_flags));
            }
            d
        }
        cpu { u32::from(f32_to_bf16(lo).to_bits()) | u32::from(f32_to_bf16(hi).to_bits()) << 16 }
    }
}

/// Two `f32` as a register of two `f16`, `lo` in the low half, each as [`f32_to_f16`] rounds it (PTX `cvt.rn.f16x2.f32`,
/// sm_80).
#[inline(always)]
pub fn f32x2_to_f16x2(lo: f32, hi: f32) -> u32 {
    target! {
        gpu {
            let d: u32;
            // SAFETY: works on registers.
            unsafe {
                core::arch::asm!("cvt.rn.f16x2.f32 {}, {}, {};", out(reg32) d, in(reg32) hi, in(reg32) lo,
                    options(pure, nomem, nostack, preserves_flags));
            }
            d
        }
        cpu { u32::from(f32_to_f16(lo).to_bits()) | u32::from(f32_to_f16(hi).to_bits()) << 16 }
    }
}

/// `bits >> n`, rounded to nearest, ties to even.
#[cfg(not(target_arch = "nvptx64"))]
#[inline(always)]
fn round_off(bits: u32, n: u32) -> u32 {
    (bits + (1 << (n - 1)) - 1 + (bits >> n & 1)) >> n
}
