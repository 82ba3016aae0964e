//! sigmoid and silu in f32, with the quotient kept to twice the precision until the last rounding.

use super::exp::exp_parts;
use super::{limit, or_nan, power_of_two};
use crate::float::fma;

/// sigmoid(x) = (high + low) * 2^n, n <= 0, for x in -110..=110; high is in [0.35, 1].
///
/// With e = e^-|x|: 1 / (1 + e) for x >= 0, e / (1 + e) below. The power of two of the numerator stays apart, so that
/// results below the normal range are rounded once, at the end.
#[inline(always)]
fn sigmoid_parts(x: f32) -> (f32, f32, i32) {
    let (e_high, e_low, n) = exp_parts(-x.abs());
    // Where 2^n is not an f32 any more, e adds nothing to 1, whatever its last bits.
    let power = power_of_two(n.max(-126));
    let e = e_high * power;
    let d = 1.0 + e;
    let d_low = (e - (d - 1.0)) + e_low * power;
    let (num, num_low, n) = if x < 0.0 { (e_high, e_low, n) } else { (1.0, 0.0, 0) };
    let inverse = 1.0 / d;
    let q = num * inverse;
    let rest = fma(-q, d, num) + fma(-q, d_low, num_low);
    (q, rest * inverse, n)
}

/// y * 2^n with one rounding, |y| in [2^-20, 2^7], n in -160..=0. The first factor keeps y normal, so it is exact.
#[inline(always)]
fn scale_down(y: f32, n: i32) -> f32 {
    let near = n.max(-100);
    y * power_of_two(near) * power_of_two(n.wrapping_sub(near))
}

/// 1 / (1 + e^-x). Largest error 0.775 ulp, in subnormal results; 0.682 in normal ones. 0.05 % of the results
/// are not the nearest f32.
#[inline]
pub fn sigmoid(x: f32) -> f32 {
    let (high, low, n) = sigmoid_parts(limit(x, -110.0, 110.0));
    or_nan(scale_down(high + low, n), x.is_nan())
}

/// x / (1 + e^-x), also called swish; silu(-inf) is -0. Largest error 0.829 ulp, in subnormal results;
/// 0.710 in normal ones. 0.25 % of the results are not the nearest f32.
#[inline]
pub fn silu(x: f32) -> f32 {
    let c = limit(x, -110.0, 110.0);
    let (high, low, n) = sigmoid_parts(c);
    let y = c * high;
    let y_low = fma(c, low, fma(c, high, -y));
    // From 64 up e^-x is far below half an ulp of 1, and an infinite or huge x is its own result. So is a zero, whose
    // sign the sum would lose.
    let y = if x > 64.0 || x == 0.0 {
        x
    } else {
        scale_down(y + y_low, n)
    };
    or_nan(y, x.is_nan())
}
