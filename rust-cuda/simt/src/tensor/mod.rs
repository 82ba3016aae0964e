//! What tensor cores compute, to the bit: one fused sum of products and accumulator after the other.
//!
//! A step of [`TensorCore::products`] products a_k * b_k and an accumulator c of `f32` gives d:
//!
//! 1. If a factor or c is a NaN, a zero meets an infinity in a product, or infinities of both signs meet in the sum, d is the NaN
//!    0x7fffffff. Else if anything is infinite, so is d.
//! 2. A factor is an integer times a power of two, with the exponent of its encoding: a subnormal one is not normalised, nor is c.
//!    A product has the product of the integers and the sum of the exponents, so that its significand lies below 4. It is not
//!    normalised.
//! 3. E is the largest exponent of c and the products, those dropped that are zero, and at least -133 ([`TensorCore::exponent_floor`]).
//! 4. Each addend is truncated toward zero to a multiple of 2^(E - F), F being [`TensorCore::fraction_bits`]; the sum is exact.
//! 5. d is the sum truncated toward zero to an `f32`, subnormal or not; a sum of 2^128 or more is infinite. A zero is always +0.
//!
//! `docs/tensor-cores.md` says how each of these was asked of an H200. The other fields of [`TensorCore`] are what other answers
//! would have meant: with them `harness probe` tells what a GPU that disagrees does.
//!
//! Steps of a chain take the products in ascending k. `host::reference` has an implementation of its own, and the two are compared
//! with each other and with what GPUs answered.

mod half;
mod vector;
pub mod wgmma;

pub use half::F16Rounding;

/// The most products of one step.
const MOST: usize = 16;

/// An exponent floor below the exponent of every product (-252 at least), which thus is none.
pub const NO_FLOOR: i32 = -300;

/// A generation of tensor cores, for factors of `f16` and `bf16` and an accumulator of `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorCore {
    /// Products of one step: a divisor of 16.
    pub products: usize,
    /// F: addends are multiples of 2^(E - F).
    pub fraction_bits: u32,
    /// The least E, whatever the addends: [`NO_FLOOR`] to 0.
    pub exponent_floor: i32,
    /// Whether a product that is zero has an exponent.
    pub zero_products: ZeroProducts,
    /// The sign of a sum that is zero.
    pub zero_sum: ZeroSum,
    /// The least E of an instruction whose accumulator is an `f16`.
    pub f16_exponent_floor: i32,
    /// How a sum becomes an `f16`, where the instruction's accumulator is one.
    pub f16_rounding: F16Rounding,
}

/// Whether the exponent of a product that is zero counts for E.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroProducts {
    /// It does not.
    Dropped,
    /// It does; the exponent of a zero factor is that of subnormals.
    Counted,
}

/// The sign of a sum that is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroSum {
    /// Always +0.
    Positive,
    /// -0 if c and all products are -0, as IEEE 754 has it for sums; else +0.
    Ieee,
}

impl TensorCore {
    /// A100 and Ada: a k16 instruction is two steps, the lower k first.
    pub const AMPERE: TensorCore = TensorCore {
        products: 8,
        fraction_bits: 24,
        ..Self::HOPPER
    };
    /// H100 and H200.
    pub const HOPPER: TensorCore = TensorCore {
        products: 16,
        fraction_bits: 25,
        exponent_floor: -133,
        zero_products: ZeroProducts::Dropped,
        zero_sum: ZeroSum::Positive,
        f16_exponent_floor: -21,
        f16_rounding: F16Rounding::OfSumWithoutNegativeZero,
    };

    /// # Panics
    /// If [`TensorCore::products`] does not divide 16, or the exponent floor is not within [`NO_FLOOR`] and 0.
    fn check(&self) {
        assert!(
            (1..=MOST).contains(&self.products) && MOST.is_multiple_of(self.products),
            "{} products a step: they must divide 16",
            self.products
        );
        for floor in [self.exponent_floor, self.f16_exponent_floor] {
            assert!(
                (NO_FLOOR..=0).contains(&floor),
                "an exponent floor of {floor}: it must be within {NO_FLOOR} and 0"
            );
        }
    }
}

impl Default for TensorCore {
    /// [`TensorCore::HOPPER`].
    fn default() -> Self {
        Self::HOPPER
    }
}

/// The type of the factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// IEEE's binary16: 5 exponent bits, 10 fraction bits.
    F16,
    /// The upper half of an `f32`: 8 exponent bits, 7 fraction bits.
    Bf16,
}

impl Format {
    const fn fraction_bits(self) -> u32 {
        match self {
            Format::F16 => 10,
            Format::Bf16 => 7,
        }
    }

    /// The exponent of subnormals, which is also that of the smallest normal numbers.
    const fn min_exponent(self) -> i32 {
        match self {
            Format::F16 => -14,
            Format::Bf16 => -126,
        }
    }
}

/// A number as the tensor core takes it: `magnitude * 2^(exponent - fraction bits of the format)`.
#[derive(Clone, Copy)]
struct Number {
    negative: bool,
    magnitude: u32,
    exponent: i32,
    /// An infinity (magnitude 0) or a NaN (another).
    special: bool,
}

impl Number {
    #[inline(always)]
    fn of(bits: u32, fraction_bits: u32, exponent_bits: u32, min_exponent: i32) -> Number {
        let fraction = bits & ((1 << fraction_bits) - 1);
        let field = bits >> fraction_bits & ((1 << exponent_bits) - 1);
        let special = field == (1 << exponent_bits) - 1;
        let hidden = u32::from(field != 0 && !special) << fraction_bits;
        Number {
            negative: bits >> (fraction_bits + exponent_bits) & 1 != 0,
            magnitude: fraction | hidden,
            exponent: min_exponent + field.max(1) as i32 - 1,
            special,
        }
    }

    #[inline(always)]
    fn factor(bits: u16, format: Format) -> Number {
        let fraction = format.fraction_bits();
        Number::of(bits.into(), fraction, 15 - fraction, format.min_exponent())
    }

    #[inline(always)]
    fn accumulator(c: f32) -> Number {
        Number::of(c.to_bits(), 23, 8, -126)
    }

    fn nan(self) -> bool {
        self.special && self.magnitude != 0
    }
}

/// The NaN that tensor cores make.
const NAN: f32 = f32::from_bits(0x7fff_ffff);

/// D = A * B^T + C as one instruction of shape 16 x 8 x 16 gives it: A `[m][k]` and B `[n][k]` in the bits of `format`, C and D
/// `[m][n]`.
///
/// # Panics
/// If [`TensorCore::products`] does not divide 16, or the exponent floor is not within [`NO_FLOOR`] and 0.
pub fn m16n8k16(
    core: TensorCore,
    format: Format,
    a: &[[u16; 16]; 16],
    b: &[[u16; 16]; 8],
    c: &[[f32; 8]; 16],
) -> [[f32; 8]; 16] {
    core.check();
    let mut d = *c;
    vector::product(core, format, a, b, d.as_flattened_mut());
    d
}

/// One output of [`m16n8k16`], an addend at a time: row a of A, row b of B^T, and c.
pub fn k16(core: TensorCore, format: Format, a: &[u16; 16], b: &[u16; 16], c: f32) -> f32 {
    let steps = a.chunks_exact(core.products).zip(b.chunks_exact(core.products));
    steps.fold(c, |c, (a, b)| step(core, format, a, b, c))
}

/// One fused step.
fn step(core: TensorCore, format: Format, a: &[u16], b: &[u16], c: f32) -> f32 {
    match sum(core, format, a, b, Number::accumulator(c)) {
        Sum::Done(d) => d,
        Sum::Exact(units, exponent) => truncate(units as f64, exponent),
    }
}

/// The sum of a step.
enum Sum {
    /// Something infinite, a NaN or a zero.
    Done(f32),
    /// So many units of two to this power, which are not 0.
    Exact(i64, i32),
}

/// One fused step before its rounding.
fn sum(core: TensorCore, format: Format, a: &[u16], b: &[u16], c: Number) -> Sum {
    let mut factors = [(c, c); MOST];
    for (place, (a, b)) in factors.iter_mut().zip(a.iter().zip(b)) {
        *place = (Number::factor(*a, format), Number::factor(*b, format));
    }
    let factors = &factors[..a.len()];
    if c.special || factors.iter().any(|(a, b)| a.special || b.special) {
        return Sum::Done(infinite(factors, c));
    }
    let zero = |a: &Number, b: &Number| a.magnitude == 0 || b.magnitude == 0;
    let mut e = core.exponent_floor;
    if c.magnitude != 0 {
        e = e.max(c.exponent);
    }
    for (a, b) in factors {
        if core.zero_products == ZeroProducts::Counted || !zero(a, b) {
            e = e.max(a.exponent + b.exponent);
        }
    }
    // In units of 2^(E - F). Magnitudes have 22 bits and F is at most 40 or so: nothing is lost to the left.
    let addend = |magnitude: u64, negative: bool, fraction_bits: u32, exponent: i32| {
        let below = (e - exponent).clamp(0, 63) as u32;
        let units = ((u128::from(magnitude) << core.fraction_bits) >> fraction_bits >> below) as i64;
        if negative { -units } else { units }
    };
    let mut sum = addend(c.magnitude.into(), c.negative, 23, c.exponent);
    let mut all_negative = c.negative;
    for (a, b) in factors {
        let magnitude = u64::from(a.magnitude) * u64::from(b.magnitude);
        let negative = a.negative != b.negative;
        // Zero addends have no meaningful distance to E.
        if magnitude != 0 {
            sum += addend(magnitude, negative, 2 * format.fraction_bits(), a.exponent + b.exponent);
        }
        all_negative &= negative && magnitude == 0;
    }
    if sum == 0 {
        let negative = core.zero_sum == ZeroSum::Ieee && all_negative && c.magnitude == 0;
        return Sum::Done(if negative { -0.0 } else { 0.0 });
    }
    Sum::Exact(sum, e - core.fraction_bits as i32)
}

/// The step where something is infinite or a NaN.
fn infinite(factors: &[(Number, Number)], c: Number) -> f32 {
    let mut signs = [false; 2];
    let mut nan = c.nan();
    if c.special {
        signs[usize::from(c.negative)] = true;
    }
    for (a, b) in factors {
        nan |= a.nan() || b.nan();
        if a.special || b.special {
            let zero = |n: &Number| !n.special && n.magnitude == 0;
            nan |= zero(a) || zero(b);
            signs[usize::from(a.negative != b.negative)] = true;
        }
    }
    match (nan, signs) {
        (false, [true, false]) => f32::INFINITY,
        (false, [false, true]) => f32::NEG_INFINITY,
        _ => NAN,
    }
}

/// `sum * 2^exponent` truncated toward zero to an `f32`. The sum is exact in `f64`, and so is its product with a power of two that
/// is normal there.
#[inline(always)]
fn truncate(sum: f64, exponent: i32) -> f32 {
    let x = sum * f64::from_bits((exponent.wrapping_add(1023) as u64) << 52);
    let nearest = x as f32;
    // One step back where the nearest one lies beyond, but to the largest finite one only from below 2^128.
    let beyond = f64::from(nearest).abs() > x.abs() && x.abs() < 2f64.powi(128);
    // + 0.0 makes +0 of a -0, to which a negative sum may have been truncated.
    f32::from_bits(nearest.to_bits().wrapping_sub(u32::from(beyond))) + 0.0
}
