//! The 8- and 4-bit floats of NVFP4, decoded by plain arithmetic: there is no instruction for them before sm_89.
//!
//! Both have fewer exponent bits than `f32`: exponent and fraction go to their places in an `f32`, and an exact factor makes up
//! for the other bias. Subnormals are decoded by the same factor, since the `f32` that it multiplies is a subnormal with the
//! same fraction.

/// The value of an E4M3 (4 exponent bits, bias 7, 3 fraction bits; no infinity), exactly. The two NaN, 0x7f and 0xff, become
/// [`super::CANONICAL_NAN`].
#[inline(always)]
pub fn e4m3_to_f32(x: u8) -> f32 {
    let magnitude = (x as u32) & 0x7f;
    let value = f32::from_bits(magnitude << 20) * f32::from_bits((127 + 120) << 23);
    let bits = value.to_bits() | ((x as u32) & 0x80) << 24;
    f32::from_bits(if magnitude == 0x7f { 0x7fff_ffff } else { bits })
}

/// The value of an E2M1 (2 exponent bits, bias 1, 1 fraction bit: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives) in the low
/// 4 bits of `x`, exactly. The other bits are not looked at.
#[inline(always)]
pub fn e2m1_to_f32(x: u32) -> f32 {
    let value = f32::from_bits((x & 7) << 22) * f32::from_bits((127 + 126) << 23);
    f32::from_bits(value.to_bits() | (x & 8) << 28)
}
