//! Whole products of matrices: chains of steps, eight columns at a time.
//!
//! The steps are those of [`super::step`], value by value; they stand here once more for eight outputs, because every matrix product
//! that a test checks goes through them. A group with an infinity or a NaN in it takes the plain way.

// The loops over all columns by index become vector instructions.
#![allow(clippy::needless_range_loop)]

use super::{Arch, Element, Factor, LEAST, NOTHING, chain, power_of_two, truncate};
use half::{bf16, f16};
use std::num::NonZeroUsize;

/// Columns done together.
const GROUP: usize = 8;

/// Products of one step; K is padded to a multiple of it.
const STEP: usize = 16;

/// Multiply-adds below which one thread does it all.
const WORTH_A_THREAD: usize = 1 << 18;

/// Rows of A, or columns of B in groups, as factors: values and exponents apart.
struct Operand {
    /// `[row][k]`, or `[group][k][column of the group]`.
    values: Vec<f64>,
    exponents: Vec<i32>,
}

impl Operand {
    /// `rows` rows of `k` elements, in groups of `group` rows that lie side by side; what is missing is zero.
    fn new<T: Element>(elements: &[T], k: usize, group: usize) -> Operand {
        let (rows, padded) = (elements.len() / k, k.next_multiple_of(STEP));
        let size = rows.next_multiple_of(group) * padded;
        let (mut values, mut exponents) = (vec![0.0; size], vec![NOTHING; size]);
        for (row, line) in elements.chunks_exact(k).enumerate() {
            let first = row / group * group * padded + row % group;
            for (at, element) in line.iter().enumerate() {
                let factor = element.factor();
                (values[first + at * group], exponents[first + at * group]) = (factor.value, factor.exponent);
            }
        }
        Operand { values, exponents }
    }
}

/// D = A * B^T on Hopper, `d[m][n]` from zero: A `[M][K]`, B `[N][K]`, both row-major, over all cores. K is padded with zeros to a
/// multiple of 16.
///
/// # Panics
/// If `k` is 0 or a matrix is not made of rows of `k` elements.
pub fn gemm<T: Element>(a: &[T], b: &[T], k: usize) -> Vec<f32> {
    assert!(
        k > 0 && a.len().is_multiple_of(k) && b.len().is_multiple_of(k),
        "matrices of {} and {} elements are not made of rows of {k}",
        a.len(),
        b.len()
    );
    let (m, n) = (a.len() / k, b.len() / k);
    let mut d = vec![0.0; m * n];
    if d.is_empty() {
        return d;
    }
    let (padded, groups) = (k.next_multiple_of(STEP), n.div_ceil(GROUP));
    let (rows, columns) = (Operand::new(a, k, 1), Operand::new(b, k, GROUP));
    // Cores take groups of outputs, whatever the shape: one row of A, or few columns, still use all of them.
    let mut sums = vec![[0.0f32; GROUP]; m * groups];
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let part = if m * n * k < WORTH_A_THREAD {
        sums.len()
    } else {
        sums.len().div_ceil(cores)
    };
    let fill = |first: usize, sums: &mut [[f32; GROUP]]| {
        for (at, sums) in (first..).zip(sums) {
            let (row, group) = (at / groups, at % groups);
            let of_a = row * padded..(row + 1) * padded;
            let of_b = group * GROUP * padded..(group + 1) * GROUP * padded;
            *sums = eight_chains(
                (&rows.values[of_a.clone()], &rows.exponents[of_a]),
                (&columns.values[of_b.clone()], &columns.exponents[of_b]),
            );
        }
    };
    if part == sums.len() {
        fill(0, &mut sums);
    } else {
        std::thread::scope(|scope| {
            for (i, sums) in sums.chunks_mut(part).enumerate() {
                let fill = &fill;
                scope.spawn(move || fill(i * part, sums));
            }
        });
    }
    for (at, output) in d.iter_mut().enumerate() {
        *output = sums[at / n * groups + at % n / GROUP][at % n % GROUP];
    }
    d
}

/// Values and exponents.
type Parts<'a> = (&'a [f64], &'a [i32]);

/// A row with eight columns.
fn eight_chains(a: Parts, b: Parts) -> [f32; GROUP] {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has it.
        return unsafe { with_avx2(a, b) };
    }
    chains(a, b)
}

/// The same code with wider vectors.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2(a: Parts, b: Parts) -> [f32; GROUP] {
    chains(a, b)
}

#[inline(always)]
fn chains(a: Parts, b: Parts) -> [f32; GROUP] {
    let mut sums = [0.0; GROUP];
    let of_a = a.0.as_chunks().0.iter().zip(a.1.as_chunks().0);
    let of_b =
        b.0.as_chunks()
            .0
            .as_chunks()
            .0
            .iter()
            .zip(b.1.as_chunks().0.as_chunks().0);
    for (a_step, b_step) in of_a.zip(of_b) {
        match eight_steps(a_step, b_step, &sums) {
            Some(next) => sums = next,
            None => return std::array::from_fn(|column| one_chain(a, b, column)),
        }
    }
    sums
}

/// Values and exponents of a step's part of a row.
type RowStep<'a> = (&'a [f64; STEP], &'a [i32; STEP]);
/// The same of a group of columns.
type ColumnsStep<'a> = (&'a [[f64; GROUP]; STEP], &'a [[i32; GROUP]; STEP]);

/// One step of eight outputs; `None` if anything is infinite or a NaN.
#[inline(always)]
fn eight_steps(a: RowStep, b: ColumnsStep, c: &[f32; GROUP]) -> Option<[f32; GROUP]> {
    // The exponent of c, a subnormal one's being that of the smallest normal number.
    let of_c = |c: f32| ((c.to_bits() >> 23 & 0xFF) as i32 - 127).max(-126);
    let mut largest = c.map(|c| if c == 0.0 { LEAST } else { of_c(c) });
    let mut plain_sums = c.map(f64::from);
    for k in 0..STEP {
        for n in 0..GROUP {
            largest[n] = largest[n].max(a.1[k] + b.1[k][n]);
        }
        for n in 0..GROUP {
            plain_sums[n] += a.0[k] * b.0[k][n];
        }
    }
    if plain_sums.iter().any(|sum| !sum.is_finite()) {
        return None;
    }
    let last = largest.map(|largest| largest - Arch::Hopper.fraction_bits());
    let to_units = last.map(|last| power_of_two(-last));
    // SAFETY: nothing is infinite or a NaN, and no addend reaches 4 * 2^F = 2^27 units, by the choice of E.
    let truncated = |units: f64| f64::from(unsafe { units.to_int_unchecked::<i32>() });
    let mut units = [0.0; GROUP];
    for n in 0..GROUP {
        units[n] = truncated(f64::from(c[n]) * to_units[n]);
    }
    for k in 0..STEP {
        for n in 0..GROUP {
            units[n] += truncated(a.0[k] * b.0[k][n] * to_units[n]);
        }
    }
    let mut d = [0.0; GROUP];
    for n in 0..GROUP {
        d[n] = truncate(units[n] as i64, last[n]);
    }
    Some(d)
}

/// The whole chain of one output.
fn one_chain(a: Parts, b: Parts, column: usize) -> f32 {
    let factor = |(value, exponent): (&f64, &i32)| Factor {
        value: *value,
        exponent: *exponent,
    };
    let row: Vec<Factor> = a.0.iter().zip(a.1).map(factor).collect();
    let of_group = b.0.iter().zip(b.1).skip(column).step_by(GROUP);
    let column: Vec<Factor> = of_group.map(factor).collect();
    chain(Arch::Hopper, &row, &column, 0.0)
}

/// [`gemm`] of bf16.
///
/// # Panics
/// As [`gemm`].
pub fn gemm_bf16(a: &[bf16], b: &[bf16], k: usize) -> Vec<f32> {
    gemm(a, b, k)
}

/// [`gemm`] of f16.
///
/// # Panics
/// As [`gemm`].
pub fn gemm_f16(a: &[f16], b: &[f16], k: usize) -> Vec<f32> {
    gemm(a, b, k)
}
