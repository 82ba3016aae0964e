//! exp and exp2 in f32, and what attention's softmax takes in their place.

use super::{horner, limit, or_nan, power_of_two};
use crate::float::{fma, max};

/// Adding 1.5 * 2^23 to |v| < 2^22 rounds v to an integer (to even at a half) and leaves it in the low bits.
const ROUNDER: f32 = 12_582_912.0;

/// 1 / ln 2.
const LOG2_E: f32 = f32::from_bits(0x3fb8_aa3b);
/// ln 2 as the sum of two f32.
const LN2_HIGH: f32 = f32::from_bits(0x3f31_7218);
const LN2_LOW: f32 = f32::from_bits(0xb102_e308);

// 2^f = 1 + f * q(f), |f| <= 1/2, relative error 2^-28.3
const EXP2: [f32; 6] = [
    f32::from_bits(0x3f31_7218), // 0.693147182
    f32::from_bits(0x3e75_fdee), // 0.240226477
    f32::from_bits(0x3d63_57be), // 0.0555035993
    f32::from_bits(0x3c1d_96f0), // 0.00961850584
    f32::from_bits(0x3aaf_8417), // 0.00133908063
    f32::from_bits(0x3920_b5a1), // 0.000153264511
];

// e^r = 1 + r + r^2 * q(r), |r| <= ln 2 / 2, relative error 2^-28.2
const EXP: [f32; 5] = [
    f32::from_bits(0x3eff_fffe), // 0.49999994
    f32::from_bits(0x3e2a_aa4a), // 0.166665226
    f32::from_bits(0x3d2a_ac5f), // 0.0416682921
    f32::from_bits(0x3c09_1c2a), // 0.00836853124
    f32::from_bits(0x3ab5_1e77), // 0.00138182833
];

// 2^f = 1 + f * q(f), |f| <= 1/2, relative error 2^-13.27
const EXP2A: [f32; 3] = [
    f32::from_bits(0x3f31_7afe), // 0.693282962
    f32::from_bits(0x3e78_0624), // 0.242210925
    f32::from_bits(0x3d61_50ee), // 0.0550088212
];

/// The integer that adding [`ROUNDER`] left in the low bits of `t`; anything at all when `t` is a NaN.
#[inline(always)]
fn integer_of(t: f32) -> i32 {
    t.to_bits().wrapping_sub(ROUNDER.to_bits()) as i32
}

/// p * 2^n with one rounding at most (overflow and subnormal results included), p in [0.7, 1.5], n in -151..=129.
#[inline(always)]
fn scale(p: f32, n: i32) -> f32 {
    // Added to the exponent as far as the result stays normal; the rest, nearly always 2^0, by multiplication.
    let near = n.clamp(-125, 127);
    let y = f32::from_bits(p.to_bits().wrapping_add((near as u32) << 23));
    y * power_of_two(n.wrapping_sub(near))
}

/// 2^x. Largest error 0.879 ulp, in subnormal results; 0.800 in normal ones. 0.2 % of the results are not
/// the nearest f32.
///
/// x = n + f, n the nearest integer; 2^f by a polynomial of degree 6, then n goes to the exponent.
#[inline]
pub fn exp2(x: f32) -> f32 {
    let c = limit(x, -151.0, 129.0);
    let t = c + ROUNDER;
    let f = c - (t - ROUNDER);
    let p = fma(f, horner(f, &EXP2), 1.0);
    or_nan(scale(p, integer_of(t)), x.is_nan())
}

/// e^x = (high + low) * 2^n for x in -110..=89, where high is the f32 nearest to the sum, in [0.7, 1.42].
///
/// x = n ln 2 + r (Cody and Waite: n * LN2_HIGH cancels without a rounding), and 1 + r + r^2 q(r) is summed so that
/// the rounding errors of r and of 1 + r land in the low part.
#[inline(always)]
pub(super) fn exp_parts(x: f32) -> (f32, f32, i32) {
    let t = fma(x, LOG2_E, ROUNDER);
    let n = t - ROUNDER;
    let r_exact = fma(n, -LN2_HIGH, x);
    let r_small = n * -LN2_LOW;
    let r = r_exact + r_small;
    let r_error = (r_exact - r) + r_small;
    let tail = fma(r * r, horner(r, &EXP), r_error);
    let one_r = 1.0 + r;
    let low = (r - (one_r - 1.0)) + tail;
    let high = one_r + low;
    (high, (one_r - high) + low, integer_of(t))
}

/// e^x. Largest error 0.775 ulp, in subnormal results; 0.686 in normal ones. 0.1 % of the results are not
/// the nearest f32.
///
/// x = n ln 2 + r; e^r by a polynomial of degree 6 whose last sums are compensated, then n goes to the exponent.
#[inline]
pub fn exp(x: f32) -> f32 {
    let (high, _, n) = exp_parts(limit(x, -104.0, 89.0));
    or_nan(scale(high, n), x.is_nan())
}

/// 2^x to 13 bits in eight instructions, for attention's softmax: relative error below 1.02e-4 for x in -126..=127.5.
///
/// x = t + f, t the nearest integer; 2^f by a cubic, then t is added to the bits of the exponent. Exactly 2^x for
/// integers x in that range, exactly +0 for x <= -127 and for a NaN. Between -127 and -126 it runs through the
/// subnormals, off by at most 2^-127. Above 127.5 there is a fixed value for every x, and no meaning in it.
#[inline(always)]
pub fn exp2a(x: f32) -> f32 {
    let c = max(x, -127.0);
    let t = c + ROUNDER;
    let f = c - (t - ROUNDER);
    let p = fma(f, horner(f, &EXP2A), 1.0);
    // Of ROUNDER's own bits, none is left by the shift.
    f32::from_bits(p.to_bits().wrapping_add(t.to_bits() << 23))
}

/// 2^n for an integer n in -126..=127, +0 for every n below and for a NaN: the factor by which a running sum of softmax is
/// moved from one maximum to a larger one.
#[inline(always)]
pub fn pow2(n: f32) -> f32 {
    let t = (n + ROUNDER).to_bits() << 23;
    let power = f32::from_bits(t.wrapping_add(0x3f80_0000));
    if n >= -126.0 { power } else { 0.0 }
}
