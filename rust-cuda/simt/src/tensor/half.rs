//! Accumulators of `f16`: what becomes of a step's sum.

use super::{Format, MOST, NAN, Number, Sum, TensorCore, step, sum, truncate};

/// How the sum of a step becomes an `f16`. An H200 has [`F16Rounding::OfSumWithoutNegativeZero`] (docs/tensor-cores.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum F16Rounding {
    /// The `f32` that the step would give, rounded to the nearest `f16`, ties to even.
    OfF32,
    /// The exact sum, rounded to the nearest `f16`, ties to even.
    OfSum,
    /// As `OfSum`, but what rounds to zero is +0 and not a zero of its sign.
    OfSumWithoutNegativeZero,
    /// The exact sum, truncated toward zero; from 2^16 on infinite.
    Truncated,
    /// As `OfF32`, but what rounds to zero is +0 and not a zero of its sign.
    OfF32WithoutNegativeZero,
}

/// The NaN that tensor cores make.
const NAN16: u16 = 0x7fff;

/// The value of an `f16`; a NaN is [`NAN`].
pub(super) fn to_f32(bits: u16) -> f32 {
    let n = Number::factor(bits, Format::F16);
    let size = match (n.special, n.magnitude) {
        // Exact: 11 bits times a power of two that is normal in f32.
        (false, m) => m as f32 * f32::from_bits(((n.exponent - 10 + 127) as u32) << 23),
        (true, 0) => f32::INFINITY,
        (true, _) => return NAN,
    };
    if n.negative { -size } else { size }
}

/// One output of an instruction with an accumulator of `f16`: the chain of its steps, of which the last is rounded to `f16` and the
/// others, where there are several, to `f32`.
pub(super) fn k16(core: TensorCore, a: &[u16; 16], b: &[u16; 16], c: u16) -> u16 {
    let format = Format::F16;
    let last = MOST - core.products;
    let before = a[..last]
        .chunks_exact(core.products)
        .zip(b[..last].chunks_exact(core.products));
    let c = if last == 0 {
        // With the exponent of its encoding, as factors have it: a subnormal has that of the least normal number.
        let n = Number::factor(c, format);
        Number {
            magnitude: n.magnitude << (23 - format.fraction_bits()),
            ..n
        }
    } else {
        Number::accumulator(before.fold(to_f32(c), |c, (a, b)| step(core, format, a, b, c)))
    };
    let core = TensorCore {
        exponent_floor: core.f16_exponent_floor,
        ..core
    };
    match sum(core, format, &a[last..], &b[last..], c) {
        Sum::Done(d) => of_f32(d, F16Rounding::OfF32),
        Sum::Exact(units, exponent) => match core.f16_rounding {
            F16Rounding::OfSum | F16Rounding::OfSumWithoutNegativeZero | F16Rounding::Truncated => {
                // Exact: at most 50 bits, and an exponent far from the ends of f64's range.
                let power = f64::from_bits(((exponent + 1023) as u64) << 52);
                rounded(units as f64 * power, core.f16_rounding)
            }
            rounding => of_f32(truncate(units as f64, exponent), rounding),
        },
    }
}

/// An `f32` result of a step as `f16`.
pub(super) fn of_f32(d: f32, rounding: F16Rounding) -> u16 {
    if d.is_nan() { NAN16 } else { rounded(d.into(), rounding) }
}

/// A number as `f16`.
fn rounded(x: f64, rounding: F16Rounding) -> u16 {
    let negative = x.is_sign_negative();
    let size = x.abs();
    // The exponent of the f16, at least that of its subnormals. (A zero's is below.)
    let exponent = ((size.to_bits() >> 52) as i32 - 1023).clamp(-14, 16);
    let bits = if exponent == 16 {
        0x7c00
    } else {
        let units = size * f64::from_bits(((10 - exponent + 1023) as u64) << 52);
        let whole = match rounding {
            F16Rounding::Truncated => units.trunc(),
            _ => units.round_ties_even(),
        };
        // A hidden bit adds one to the exponent field, as does what rounds up to the next power: to infinity, in the end.
        (((exponent + 14) as u16) << 10) + whole as u16
    };
    let positive = matches!(
        rounding,
        F16Rounding::OfF32WithoutNegativeZero | F16Rounding::OfSumWithoutNegativeZero
    );
    let keeps_sign = bits != 0 || !positive;
    bits | u16::from(negative && keeps_sign) << 15
}

#[cfg(test)]
#[path = "half_tests.rs"]
mod tests;
