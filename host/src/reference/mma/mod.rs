//! The tensor core's fused sum of products, and chains of it: the arithmetic of every matrix product.
//!
//! Written from the description in `docs/tensor-cores.md` in another way than the simulator's model, so that the two check each
//! other: here a number is an exact `f64`, its place is known by its value, and the end is integer arithmetic; there significands
//! are integers and the end is done in floating point.
//!
//! A step of P products and c (P = 16 on Hopper, 8 on Ampere): with E the largest exponent of c and the products, of those that are
//! not zero, and at least -133, every addend is truncated toward zero to a multiple of 2^(E - F) (F = 25 on Hopper, 24 on Ampere), the
//! sum is exact, and the result is the sum truncated toward zero to f32, where a zero is +0. A product's exponent is the sum of its
//! factors' exponents; a subnormal has that of the smallest normal number.

mod gemm;

pub use gemm::{gemm, gemm_bf16, gemm_f16};

use half::{bf16, f16};

/// Whose tensor cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arch {
    /// A100: 8 products a step, 24 bits below the largest exponent.
    Ampere,
    /// H100 and H200: 16 products a step, 25 bits.
    #[default]
    Hopper,
}

impl Arch {
    /// Products of one step.
    pub fn products(self) -> usize {
        match self {
            Arch::Ampere => 8,
            Arch::Hopper => 16,
        }
    }

    fn fraction_bits(self) -> i32 {
        match self {
            Arch::Ampere => 24,
            Arch::Hopper => 25,
        }
    }
}

/// The NaN that tensor cores make.
const NAN: f32 = f32::from_bits(0x7FFF_FFFF);

/// The least E, as an H200 has it; where a step is done that has only zeros.
const LEAST: i32 = -133;

/// The least E where the accumulator is an f16.
const LEAST_F16: i32 = -21;

/// A factor as the tensor core sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factor {
    /// Its exact value; infinities and NaN as they are.
    value: f64,
    /// The exponent of its encoding; of a zero one so low that no product with it counts.
    exponent: i32,
}

/// The exponent of zero.
const NOTHING: i32 = -10_000;

impl Factor {
    fn new(value: f64, least: i32) -> Factor {
        let normalised = (value.to_bits() >> 52 & 0x7FF) as i32 - 1023;
        Factor {
            value,
            exponent: if value == 0.0 { NOTHING } else { normalised.max(least) },
        }
    }
}

/// A 16-bit type of factors.
pub trait Element: Copy + Sync {
    /// The factor of these bits.
    fn factor(self) -> Factor;
}

impl Element for bf16 {
    fn factor(self) -> Factor {
        Factor::new(self.to_f64(), -126)
    }
}

impl Element for f16 {
    fn factor(self) -> Factor {
        Factor::new(self.to_f64(), -14)
    }
}

/// One fused step: `c` plus the products of `a` and `b`, which are [`Arch::products`] long (or shorter: the rest are zeros).
pub fn step(arch: Arch, a: &[Factor], b: &[Factor], c: f32) -> f32 {
    match sum(arch, a, b, Factor::new(f64::from(c), -126), LEAST) {
        Ok((units, last)) => truncate(units, last),
        Err(special) if special.is_nan() => NAN,
        Err(infinity) => infinity as f32,
    }
}

/// The step of an instruction with an accumulator of `f16`: the same sum, rounded once, to the nearest `f16` and at ties to the even
/// one. A NaN is 0x7FFF.
pub fn step_f16(arch: Arch, a: &[Factor], b: &[Factor], c: f16) -> f16 {
    match sum(arch, a, b, c.factor(), LEAST_F16) {
        Ok((units, last)) => nearest_f16(units, last),
        Err(special) if special.is_nan() => f16::from_bits(0x7FFF),
        Err(infinity) if infinity > 0.0 => f16::INFINITY,
        Err(_) => f16::NEG_INFINITY,
    }
}

/// The sum of a step in units of 2^last, and last; or the infinity or NaN that it is. E is at least `least`.
fn sum(arch: Arch, a: &[Factor], b: &[Factor], accumulator: Factor, least: i32) -> Result<(i64, i32), f64> {
    let mut largest = accumulator.exponent.max(least);
    // Finite factors give finite f64 products, so that the plain sum is finite unless something was not.
    let mut plain_sum = accumulator.value;
    for (x, y) in a.iter().zip(b) {
        largest = largest.max(x.exponent + y.exponent);
        plain_sum += x.value * y.value;
    }
    if !plain_sum.is_finite() {
        return Err(plain_sum);
    }
    // The last place that addends keep, 2^last; all of them are scaled so that it becomes 1.
    let last = largest - arch.fraction_bits();
    let to_units = power_of_two(-last);
    let mut units = (accumulator.value * to_units) as i64;
    for (x, y) in a.iter().zip(b) {
        units += (x.value * y.value * to_units) as i64;
    }
    Ok((units, last))
}

/// 2^n, for -1022 <= n <= 1023.
fn power_of_two(n: i32) -> f64 {
    f64::from_bits(((n + 1023) as u64) << 52)
}

/// `units * 2^last` truncated toward zero to an f32; infinite from 2^128 on. What becomes zero is +0.
fn truncate(units: i64, last: i32) -> f32 {
    if units == 0 {
        return 0.0;
    }
    let sign = u32::from(units < 0) << 31;
    let magnitude = units.unsigned_abs();
    // The exponent of the leading bit, and of the last bit that an f32 there has.
    let leading = last + 63 - magnitude.leading_zeros() as i32;
    if leading > 127 {
        return f32::from_bits(sign | 0x7F80_0000);
    }
    let last_kept = leading.max(-126) - 23;
    let significand = if last_kept >= last {
        magnitude.checked_shr((last_kept - last) as u32).unwrap_or(0) as u32
    } else {
        (magnitude << (last - last_kept)) as u32
    };
    if significand == 0 {
        return 0.0;
    }
    let exponent_field = (leading.max(-126) + 127) as u32;
    // The leading bit of a normal number is not stored; without it, it is a subnormal one, of field 0.
    let bits = if significand >> 23 == 1 {
        exponent_field << 23 | (significand & 0x7F_FFFF)
    } else {
        significand
    };
    f32::from_bits(sign | bits)
}

/// `units * 2^last` rounded to the nearest f16, ties to even; infinite from 65520 on. What becomes zero is +0.
fn nearest_f16(units: i64, last: i32) -> f16 {
    let magnitude = units.unsigned_abs();
    if magnitude == 0 {
        return f16::ZERO;
    }
    let leading = last + 63 - magnitude.leading_zeros() as i32;
    if leading > 15 {
        return if units < 0 { f16::NEG_INFINITY } else { f16::INFINITY };
    }
    // f16 keeps ten bits below the leading one, and none below 2^-24.
    let binade = leading.max(-14);
    let dropped = binade - 10 - last;
    let kept = if dropped <= 0 {
        magnitude << -dropped
    } else if dropped > 63 {
        0
    } else {
        let (whole, rest, half) = (
            magnitude >> dropped,
            magnitude & ((1 << dropped) - 1),
            1u64 << (dropped - 1),
        );
        whole + u64::from(rest > half || rest == half && whole % 2 == 1)
    };
    if kept == 0 {
        return f16::ZERO;
    }
    // The leading bit of a normal number adds the one to its exponent field that is missing here; so does rounding up to the next power.
    let bits = ((binade + 14) as u16) << 10;
    f16::from_bits((bits + kept as u16) | u16::from(units < 0) << 15)
}

/// The chain of steps over K in ascending order from `c`; K is padded with zeros to a multiple of 16.
pub fn chain(arch: Arch, a: &[Factor], b: &[Factor], c: f32) -> f32 {
    let products = arch.products();
    let steps = a.chunks(products).zip(b.chunks(products));
    let sum = steps.fold(c, |c, (a, b)| step(arch, a, b, c));
    // Where padding fills a whole step of its own, that step still makes a NaN the tensor core's and a -0 a +0.
    if a.len().next_multiple_of(16) > a.len().next_multiple_of(products) {
        return step(arch, &[], &[], sum);
    }
    sum
}

/// The factors of a row.
pub fn factors<T: Element>(row: &[T]) -> Vec<Factor> {
    row.iter().map(|x| x.factor()).collect()
}

/// The dot product of two rows of bf16 bits on Hopper: k16 steps in ascending order from `c`.
///
/// # Panics
/// If the rows differ in length.
pub fn dot_bf16(a: &[u16], b: &[u16], c: f32) -> f32 {
    assert_eq!(a.len(), b.len(), "rows of a dot product");
    let row = |bits: &[u16]| -> Vec<Factor> { bits.iter().map(|b| bf16::from_bits(*b).factor()).collect() };
    chain(Arch::Hopper, &row(a), &row(b), c)
}

/// [`dot_bf16`] of f16 bits.
///
/// # Panics
/// If the rows differ in length.
pub fn dot_f16(a: &[u16], b: &[u16], c: f32) -> f32 {
    assert_eq!(a.len(), b.len(), "rows of a dot product");
    let row = |bits: &[u16]| -> Vec<Factor> { bits.iter().map(|b| f16::from_bits(*b).factor()).collect() };
    chain(Arch::Hopper, &row(a), &row(b), c)
}
