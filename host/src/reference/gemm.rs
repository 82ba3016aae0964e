//! gemm on the CPU: y`[m][n]` = sum over k of a`[m][k]` w`[n][k]`, plus bias and residual.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | a | `[m][k]` | bf16 or f16 |
//! | w | `[n][k]` | the same |
//! | bias | `[n]`, may be missing | the same |
//! | residual | `[m][n]`, may be missing | the same |
//! | y | `[m][n]` | the same, or f32 without a residual |
//!
//! # Canonical order
//! acc is the tensor core's chain over all of K from +0 ([`super::mma`]). v = acc + bias in f32. An f32 output is v; a 16-bit one is
//! v rounded, and with a residual that value plus the residual (in f32), rounded again.

use super::mma::{self, Arch, Factor};
use super::{ReferenceError, expect, to_bf16};
use half::{bf16, f16};

/// A dtype of the operation.
pub trait Number: mma::Element {
    /// The nearest value, ties to even; a NaN is 0x7FFF.
    fn rounded(v: f32) -> Self;
    /// The value, exactly.
    fn value(self) -> f32;
}

impl Number for bf16 {
    fn rounded(v: f32) -> Self {
        to_bf16(v)
    }

    fn value(self) -> f32 {
        self.to_f32()
    }
}

impl Number for f16 {
    fn rounded(v: f32) -> Self {
        if v.is_nan() {
            f16::from_bits(0x7FFF)
        } else {
            f16::from_f32(v)
        }
    }

    fn value(self) -> f32 {
        self.to_f32()
    }
}

/// The NaN of f32 outputs.
const NAN: f32 = f32::from_bits(0x7FFF_FFFF);

/// The operands of one product.
#[derive(Clone, Copy, Debug)]
pub struct Operands<'a, T> {
    /// `[m][k]`.
    pub a: &'a [T],
    /// `[n][k]`.
    pub w: &'a [T],
    /// `[n]`.
    pub bias: Option<&'a [T]>,
    /// `[m][n]`; for 16-bit outputs only.
    pub residual: Option<&'a [T]>,
    /// Rows of a.
    pub m: usize,
    /// Rows of w.
    pub n: usize,
    /// Columns of both.
    pub k: usize,
}

impl<T: Number> Operands<'_, T> {
    fn check(&self) -> Result<(), ReferenceError> {
        expect("a", self.a.len(), &[("m", self.m), ("k", self.k)])?;
        expect("w", self.w.len(), &[("n", self.n), ("k", self.k)])?;
        if let Some(bias) = self.bias {
            expect("bias", bias.len(), &[("n", self.n)])?;
        }
        if let Some(residual) = self.residual {
            expect("residual", residual.len(), &[("m", self.m), ("n", self.n)])?;
        }
        Ok(())
    }

    /// The accumulators of a list of places (row, column).
    fn sums(&self, places: &[(usize, usize)]) -> Vec<f32> {
        let mut rows = Factors::new(self.a, self.k);
        let mut columns = Factors::new(self.w, self.k);
        for &(row, column) in places {
            rows.decode(row);
            columns.decode(column);
        }
        let mut out = vec![0.0; places.len()];
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let part = places.len().div_ceil(cores).max(1);
        std::thread::scope(|scope| {
            for (out, places) in out.chunks_mut(part).zip(places.chunks(part)) {
                let (rows, columns) = (&rows, &columns);
                scope.spawn(move || {
                    for (out, &(row, column)) in out.iter_mut().zip(places) {
                        *out = mma::chain(Arch::Hopper, rows.get(row), columns.get(column), 0.0);
                    }
                });
            }
        });
        out
    }

    /// What becomes of the accumulator of a column: v.
    fn biased(&self, column: usize, sum: f32) -> f32 {
        self.bias.map_or(sum, |bias| sum + bias[column].value())
    }

    /// f32 outputs at a list of places.
    ///
    /// # Errors
    /// A tensor that does not have its shape.
    pub fn f32_at(&self, places: &[(usize, usize)]) -> Result<Vec<f32>, ReferenceError> {
        self.check()?;
        let sums = self.sums(places);
        let v = places
            .iter()
            .zip(sums)
            .map(|(&(_, column), sum)| self.biased(column, sum));
        Ok(v.map(|v| if v.is_nan() { NAN } else { v }).collect())
    }

    /// 16-bit outputs at a list of places.
    ///
    /// # Errors
    /// A tensor that does not have its shape.
    pub fn at(&self, places: &[(usize, usize)]) -> Result<Vec<T>, ReferenceError> {
        self.check()?;
        let sums = self.sums(places);
        let output = |(&(row, column), sum): (&(usize, usize), f32)| {
            let v = T::rounded(self.biased(column, sum));
            match self.residual {
                Some(residual) => T::rounded(v.value() + residual[row * self.n + column].value()),
                None => v,
            }
        };
        Ok(places.iter().zip(sums).map(output).collect())
    }

    /// Every place of the output, row by row.
    pub fn everywhere(&self) -> Vec<(usize, usize)> {
        (0..self.m * self.n).map(|i| (i / self.n, i % self.n)).collect()
    }
}

/// The rows of a matrix as the tensor core sees them, decoded when first asked for.
struct Factors<'a, T> {
    matrix: &'a [T],
    k: usize,
    rows: Vec<Option<Vec<Factor>>>,
}

impl<'a, T: Number> Factors<'a, T> {
    fn new(matrix: &'a [T], k: usize) -> Self {
        let rows = vec![None; matrix.len() / k.max(1)];
        Self { matrix, k, rows }
    }

    fn decode(&mut self, row: usize) {
        if self.rows[row].is_none() {
            self.rows[row] = Some(mma::factors(&self.matrix[row * self.k..][..self.k]));
        }
    }

    fn get(&self, row: usize) -> &[Factor] {
        self.rows[row].as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "gemm_tests.rs"]
mod tests;
