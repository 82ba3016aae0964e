//! The reciprocal square root in f32.

use super::{or_nan, power_of_two};
use crate::float::{fma, sqrt};

/// 1 / sqrt(x); rsqrt(+-0) is +-inf. Largest error 0.5 ulp: all 2^32 results are the nearest f32.
///
/// x = m * 4^k with m in [1, 4); 1 / sqrt(m) in two rounded operations, then one step of third order whose
/// residual 1 - m y^2 is computed without the rounding error of m y. The scaling by 2^-k is exact.
#[inline]
pub fn rsqrt(x: f32) -> f32 {
    let subnormal = x.to_bits() & 0x7fff_ffff < 0x0080_0000;
    // 2^24 normalises; its root 2^12 goes back into the result.
    let bits = (if subnormal { x * 16_777_216.0 } else { x }).to_bits() as i32;
    let k = bits.wrapping_sub(0x3f80_0000) >> 24;
    let m = f32::from_bits(bits.wrapping_sub(k << 24) as u32);
    let y = 1.0 / sqrt(m);
    let my = m * y;
    let my_low = fma(m, y, -my);
    let residual = fma(-my_low, y, fma(-my, y, 1.0));
    let residual = fma(0.75 * residual, residual, residual);
    let y = fma(0.5 * y, residual, y);
    let y = y * power_of_two(if subnormal { 12 - k } else { -k });
    let y = if x == f32::INFINITY { 0.0 } else { y };
    let y = if x == 0.0 { f32::INFINITY.copysign(x) } else { y };
    or_nan(y, x.is_nan() || x < 0.0)
}
