//! log, log1p and softplus: f64 inside, rounded once.

use super::{horner64, limit, or_nan};
use crate::float::fma_f64;

/// ln 2 as the sum of two f64, and 1 / ln 2.
const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fefa_39ef);
const LN2_LOW: f64 = f64::from_bits(0x3c7a_bc9e_3b39_803f);
const LOG2_E: f64 = f64::from_bits(0x3ff7_1547_652b_82fe);
/// Adding 1.5 * 2^52 to a small value rounds it to an integer and leaves that in the low bits.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
/// The bits of sqrt(1/2), where the significand's interval [sqrt(1/2), sqrt(2)) begins.
const SQRT_HALF_BITS: u64 = 0x3fe6_a09e_667f_3bcd;

// log((1 + s) / (1 - s)) = 2 s + s z p(z), z = s^2, |s| <= (sqrt 2 - 1) / (sqrt 2 + 1), relative error 2^-59.5
const LOG: [f64; 7] = [
    f64::from_bits(0x3fe5_5555_5555_5592), // 0.6666666666666734
    f64::from_bits(0x3fd9_9999_9997_ff70), // 0.39999999999417124
    f64::from_bits(0x3fd2_4924_941d_a599), // 0.28571428741869337
    f64::from_bits(0x3fcc_71c5_21ae_8660), // 0.22222198624244793
    f64::from_bits(0x3fc7_4663_b78c_a1fd), // 0.18183561766024062
    f64::from_bits(0x3fc3_9a20_fd29_4893), // 0.15314113961591555
    f64::from_bits(0x3fc2_f022_8f53_73d3), // 0.14795333860720791
];

// e^r = 1 + r + r^2 * q(r), |r| <= ln 2 / 2, relative error 2^-57.9
const EXP_F64: [f64; 10] = [
    f64::from_bits(0x3fe0_0000_0000_000a), // 0.50000000000000111
    f64::from_bits(0x3fc5_5555_5555_550d), // 0.16666666666666466
    f64::from_bits(0x3fa5_5555_5555_07ba), // 0.041666666666528809
    f64::from_bits(0x3f81_1111_1112_4540), // 0.0083333333334701942
    f64::from_bits(0x3f56_c16c_1843_1a21), // 0.0013888888943697291
    f64::from_bits(0x3f2a_01a0_1384_ed51), // 0.00019841269546270549
    f64::from_bits(0x3efa_0199_a21a_8121), // 2.4801493174409919e-05
    f64::from_bits(0x3ec7_1df0_cc7c_2e2b), // 2.7557558474106221e-06
    f64::from_bits(0x3e92_8ad4_c37e_7b90), // 2.7630193554812702e-07
    f64::from_bits(0x3e5a_d9ee_2f2b_7c7f), // 2.500721314301726e-08
];

/// log(u) in f64 for a positive normal u. `u_minus_1` takes the place of u - 1 where u is near 1: 1 + t may have
/// lost the last bits of t that log1p still needs.
#[inline(always)]
fn log_f64(u: f64, u_minus_1: f64) -> f64 {
    let k = (u.to_bits().wrapping_sub(SQRT_HALF_BITS) as i64 >> 52) as i32;
    let m = f64::from_bits(u.to_bits().wrapping_sub((k as u64) << 52));
    let f = if k == 0 { u_minus_1 } else { m - 1.0 };
    let s = f / (2.0 + f);
    let z = s * s;
    let log_m = fma_f64(s * z, horner64(z, &LOG), s + s);
    let k = f64::from(k);
    fma_f64(k, LN2_HIGH, fma_f64(k, LN2_LOW, log_m))
}

/// e^x in f64 for x in -110..=0.
#[inline(always)]
fn exp_f64(x: f64) -> f64 {
    let t = fma_f64(x, LOG2_E, ROUNDER);
    let n = t - ROUNDER;
    let r = fma_f64(n, -LN2_LOW, fma_f64(n, -LN2_HIGH, x));
    let p = 1.0 + fma_f64(r * r, horner64(r, &EXP_F64), r);
    f64::from_bits(p.to_bits().wrapping_add(t.to_bits() << 52))
}

/// Natural logarithm; log(+-0) is -inf, below 0 NaN. Largest error under 0.50000001 ulp: all but 5 of the 2^32 results
/// are the nearest f32.
///
/// x = m * 2^k with m in [sqrt(1/2), sqrt(2)); log(m) = 2 atanh((m - 1) / (m + 1)).
#[inline]
pub fn log(x: f32) -> f32 {
    let u = f64::from(x);
    let y = log_f64(u, u - 1.0) as f32;
    let y = if x == f32::INFINITY { x } else { y };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    or_nan(y, x.is_nan() || x < 0.0)
}

/// log(1 + x); log1p(-1) is -inf, below -1 NaN, log1p(-0) is -0. Largest error under 0.50000001 ulp: all but 8
/// of the 2^32 results are the nearest f32.
#[inline]
pub fn log1p(x: f32) -> f32 {
    let t = f64::from(x);
    let y = log_f64(1.0 + t, t) as f32;
    let y = if x == f32::INFINITY || x == 0.0 { x } else { y };
    let y = if x == -1.0 { f32::NEG_INFINITY } else { y };
    or_nan(y, x.is_nan() || x < -1.0)
}

/// log(1 + e^x), as max(x, 0) + log1p(e^-|x|). Largest error under 0.50000001 ulp: all but 1 of the 2^32
/// results are the nearest f32.
#[inline]
pub fn softplus(x: f32) -> f32 {
    let t = exp_f64(f64::from(-limit(x.abs(), 0.0, 110.0)));
    let positive = if x > 0.0 { x } else { 0.0 };
    let y = (f64::from(positive) + log_f64(1.0 + t, t)) as f32;
    or_nan(y, x.is_nan())
}
