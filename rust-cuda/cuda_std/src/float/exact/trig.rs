//! sin and cos of any finite f32 in radians: f64 inside, rounded once.

use super::{horner64, or_nan};
use crate::float::fma_f64;

/// pi / 2 as the sum of two f64, and 2 / pi.
const HALF_PI_HIGH: f64 = f64::from_bits(0x3ff9_21fb_5444_2d18);
const HALF_PI_LOW: f64 = f64::from_bits(0x3c91_a626_3314_5c07);
const TWO_OVER_PI: f64 = f64::from_bits(0x3fe4_5f30_6dc9_c883);
/// Adding 1.5 * 2^52 to a small value rounds it to an integer and leaves that in the low bits.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
/// Below 2^30 two f64 of pi / 2 are enough: the multiple's error is under 2^-76, the reduced argument over 2^-31.
const SMALL: f32 = 1_073_741_824.0;

/// 2 / pi = 0.b1 b2 b3 ... in binary: entry i holds bits 32 i + 1 to 32 i + 128 in two words.
static TWO_OVER_PI_BITS: [(u64, u64); 4] = [
    (0xa2f9_836e_4e44_1529, 0xfc27_57d1_f534_ddc0),
    (0x4e44_1529_fc27_57d1, 0xf534_ddc0_db62_9599),
    (0xfc27_57d1_f534_ddc0, 0xdb62_9599_3c43_9041),
    (0xf534_ddc0_db62_9599, 0x3c43_9041_fe51_63ab),
];

// sin r = r + r z p(z), z = r^2, |r| <= pi / 4, relative error 2^-57.9
const SIN: [f64; 6] = [
    f64::from_bits(0xbfc5_5555_5555_5548), // -0.1666666666666663
    f64::from_bits(0x3f81_1111_1110_f731), // 0.0083333333333218424
    f64::from_bits(0xbf2a_01a0_19be_9794), // -0.00019841269829362336
    f64::from_bits(0x3ec7_1de3_555a_81bc), // 2.7557313540678911e-06
    f64::from_bits(0xbe5a_e5e4_c0ab_7f21), // -2.5050734857029943e-08
    f64::from_bits(0x3de5_d8b8_718b_974e), // 1.5895467648088692e-10
];

// cos r = 1 - z / 2 + z^2 q(z), z = r^2, |r| <= pi / 4, relative error 2^-63.9
const COS: [f64; 6] = [
    f64::from_bits(0x3fa5_5555_5555_554b), // 0.041666666666666595
    f64::from_bits(0xbf56_c16c_16c1_5016), // -0.0013888888888873344
    f64::from_bits(0x3efa_01a0_19c8_f4a5), // 2.4801587289004088e-05
    f64::from_bits(0xbe92_7e4f_7f1b_07f5), // -2.7557314217715693e-07
    f64::from_bits(0x3e21_ee9d_be5c_0c31), // 2.0875705494774537e-09
    f64::from_bits(0xbda8_fa69_0b6d_a0a8), // -1.1358754524747979e-11
];

/// x = n pi/2 + r, |r| <= pi/4: (r, n) with n modulo 2^32.
#[inline(always)]
fn reduce(x: f32) -> (f64, u32) {
    if x.abs() < SMALL {
        reduce_small(f64::from(x))
    } else {
        reduce_large(x)
    }
}

/// [`reduce`] after Cody and Waite. The first fma is exact: x and n * HALF_PI_HIGH are multiples of 2^-52 that cancel
/// to less than 1.
#[inline(always)]
fn reduce_small(x: f64) -> (f64, u32) {
    let t = fma_f64(x, TWO_OVER_PI, ROUNDER);
    let n = t - ROUNDER;
    let r = fma_f64(n, -HALF_PI_LOW, fma_f64(n, -HALF_PI_HIGH, x));
    (r, t.to_bits() as u32)
}

/// [`reduce`] after Payne and Hanek, in integers: x = m * 2^e, and of m * 2^e * (2 / pi) only bits below 4 matter, so
/// m is multiplied with the 96 bits of 2 / pi that begin at weight 2^(1 - e).
#[inline(always)]
fn reduce_large(x: f32) -> (f64, u32) {
    let bits = x.to_bits();
    let m = u64::from(bits & 0x007f_ffff | 0x0080_0000);
    // e = exponent - 150; the window begins with bit e - 1 of 2 / pi, after e - 2 others.
    let skip = (bits >> 23 & 0xff).wrapping_sub(152);
    let (a, b) = TWO_OVER_PI_BITS[(skip >> 5 & 3) as usize];
    let shift = skip & 31;
    let window_high = a << shift | b >> 1 >> (63 - shift);
    let window_low = b << shift >> 32;
    // The product's top 64 of 96 bits, in units of 2^-62 quarter turns, and the 32 below them.
    let low = m * window_low;
    let high = m.wrapping_mul(window_high).wrapping_add(low >> 32);
    let n = (high.wrapping_add(1 << 61) >> 62) as u32;
    let rest = high.wrapping_sub(u64::from(n) << 62) as i64;
    let turns = fma_f64(f64::from(low as u32), POW2_M94, rest as f64 * POW2_M62);
    let r = turns * HALF_PI_HIGH;
    if x < 0.0 { (-r, n.wrapping_neg()) } else { (r, n) }
}

/// 2^-62 and 2^-94.
const POW2_M62: f64 = f64::from_bits((1023 - 62) << 52);
const POW2_M94: f64 = f64::from_bits((1023 - 94) << 52);

/// sin(r + n pi/2), rounded to f32.
#[inline(always)]
fn sin_of_quadrant(r: f64, n: u32) -> f32 {
    let z = r * r;
    let y = if n & 1 == 0 {
        fma_f64(r * z, horner64(z, &SIN), r)
    } else {
        fma_f64(z * z, horner64(z, &COS), fma_f64(z, -0.5, 1.0))
    };
    (if n & 2 == 0 { y } else { -y }) as f32
}

/// Sine of x radians; NaN for an infinity. Largest error under 0.50000001 ulp: all but 2 of the 2^32 results
/// are the nearest f32.
#[inline]
pub fn sin(x: f32) -> f32 {
    let (r, n) = reduce(x);
    // The polynomial's sum would make +0 of -0.
    let y = if x == 0.0 { x } else { sin_of_quadrant(r, n) };
    or_nan(y, !x.is_finite())
}

/// Cosine of x radians; NaN for an infinity. Largest error under 0.50000001 ulp: all but 4 of the 2^32 results
/// are the nearest f32.
#[inline]
pub fn cos(x: f32) -> f32 {
    let (r, n) = reduce(x);
    or_nan(sin_of_quadrant(r, n.wrapping_add(1)), !x.is_finite())
}
