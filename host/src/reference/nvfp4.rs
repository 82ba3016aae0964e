//! NVFP4 on the CPU: the formats from their definitions, the product with such weights, and the quantiser of both checkpoint
//! conventions.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | codes | `[n][k / 2]` | two E2M1 a byte, the low nibble is the even k |
//! | scales | `[n][k / 16]` | E4M3 |
//! | tensor scale | one | f32: multiplied by (ModelOpt), or divided by (compressed-tensors) |
//!
//! # Canonical order
//! *Product*: the weight code * scale is exact in bf16 and in f16; acc is the tensor core's chain over all of K on those from +0; then
//! the tensor scale once, in f32; then bias; then one rounding.
//!
//! *Quantiser*: [`quantise`] says it step by step.

use super::gemm::{Number, Operands};
use super::{ReferenceError, expect, to_bf16};
use half::bf16;

/// Values of a block.
pub const BLOCK: usize = 16;
const NAN: f32 = f32::from_bits(0x7FFF_FFFF);

/// Who wrote the checkpoint: what its tensor scale means, and how its values were rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convention {
    /// NVIDIA ModelOpt: weight = code * scale * tensor scale.
    ModelOpt,
    /// compressed-tensors: weight = code * (scale / tensor scale).
    CompressedTensors,
}

/// The value of an E2M1 code (the low 4 bits): sign, two exponent bits of bias 1, one fraction bit.
pub fn e2m1(code: u8) -> f32 {
    let (exponent, fraction) = (i32::from(code >> 1 & 3), f32::from(code & 1));
    let magnitude = match exponent {
        0 => fraction / 2.0,
        _ => (1.0 + fraction / 2.0) * 2f32.powi(exponent - 1),
    };
    if code & 8 == 0 { magnitude } else { -magnitude }
}

/// The value of an E4M3: sign, four exponent bits of bias 7, three fraction bits; no infinity, all ones is NaN.
pub fn e4m3(byte: u8) -> f32 {
    let (exponent, fraction) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let magnitude = match (exponent, byte & 7) {
        (15, 7) => return NAN,
        (0, _) => fraction / 8.0 * 2f32.powi(-6),
        _ => (1.0 + fraction / 8.0) * 2f32.powi(exponent - 7),
    };
    if byte & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The code among `0..=last`, whose values ascend, that is nearest to `v >= 0`; of two the even one. Beyond the last it is the last.
fn nearest(v: f32, last: u8, value: fn(u8) -> f32) -> u8 {
    let mut best = 0;
    for code in 1..=last {
        // In f64 the distances are exact enough: the codes have few bits, and v is an f32 between two of them.
        let distance = |code: u8| (f64::from(value(code)) - f64::from(v)).abs();
        let closer = distance(code) < distance(best) || (distance(code) == distance(best) && code % 2 == 0);
        if closer {
            best = code;
        }
    }
    best
}

/// The nearest E4M3 of a value from 0 to 448; a NaN is 0x7F.
fn to_e4m3(v: f32) -> u8 {
    if v.is_nan() { 0x7F } else { nearest(v, 0x7E, e4m3) }
}

/// NVFP4 weights without their tensor scale.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// `[n][k / 2]`.
    pub codes: &'a [u8],
    /// `[n][k / 16]`.
    pub scales: &'a [u8],
    /// Rows.
    pub n: usize,
    /// Columns, a multiple of 16.
    pub k: usize,
}

impl Weights<'_> {
    /// `[n][k]`: code * scale, exact.
    ///
    /// # Errors
    /// A tensor that does not have its shape.
    pub fn dequantised<T: Number>(&self) -> Result<Vec<T>, ReferenceError> {
        expect("codes", self.codes.len(), &[("n", self.n), ("k / 2", self.k / 2)])?;
        expect(
            "scales",
            self.scales.len(),
            &[("n", self.n), ("k / 16", self.k / BLOCK)],
        )?;
        let value = |i: usize| {
            let code = self.codes[i / 2] >> (4 * (i % 2));
            T::rounded(e2m1(code) * e4m3(self.scales[i / BLOCK]))
        };
        Ok((0..self.n * self.k).map(value).collect())
    }
}

/// A product with NVFP4 weights.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a, T> {
    /// `[m][k]`, the dequantised weights (without the tensor scale) and the shape; no bias and no residual.
    pub operands: Operands<'a, T>,
    /// The tensor scale as stored.
    pub tensor_scale: f32,
    /// What it means.
    pub convention: Convention,
    /// `[n]`.
    pub bias: Option<&'a [T]>,
}

impl<T: Number> Product<'_, T> {
    /// The outputs before rounding, at a list of places.
    fn values(&self, places: &[(usize, usize)]) -> Result<Vec<f32>, ReferenceError> {
        if let Some(bias) = self.bias {
            expect("bias", bias.len(), &[("n", self.operands.n)])?;
        }
        let sums = self.operands.f32_at(places)?;
        let value = |(&(_, column), acc): (&(usize, usize), f32)| {
            let y = match self.convention {
                Convention::ModelOpt => acc * self.tensor_scale,
                Convention::CompressedTensors => acc / self.tensor_scale,
            };
            self.bias.map_or(y, |bias| y + bias[column].value())
        };
        Ok(places.iter().zip(sums).map(value).collect())
    }

    /// f32 outputs at a list of places.
    ///
    /// # Errors
    /// A tensor that does not have its shape.
    pub fn f32_at(&self, places: &[(usize, usize)]) -> Result<Vec<f32>, ReferenceError> {
        let values = self.values(places)?;
        Ok(values.into_iter().map(|v| if v.is_nan() { NAN } else { v }).collect())
    }

    /// 16-bit outputs at a list of places.
    ///
    /// # Errors
    /// A tensor that does not have its shape.
    pub fn at(&self, places: &[(usize, usize)]) -> Result<Vec<T>, ReferenceError> {
        Ok(self.values(places)?.into_iter().map(T::rounded).collect())
    }
}

/// What a quantiser makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantised {
    /// `[rows][k / 2]`.
    pub codes: Vec<u8>,
    /// `[rows][k / 16]`.
    pub scales: Vec<u8>,
    /// As the checkpoint stores it.
    pub tensor_scale: f32,
}

/// The largest magnitude; NaN if there is one.
fn largest(values: &[bf16]) -> f32 {
    values.iter().fold(0.0, |most: f32, v| {
        let v = v.to_f32().abs();
        if v.is_nan() || most.is_nan() {
            f32::NAN
        } else {
            most.max(v)
        }
    })
}

/// The tensor scale of a matrix, as [`quantise`] says it.
pub fn tensor_scale(x: &[bf16], convention: Convention) -> f32 {
    let most = largest(x);
    let s = match convention {
        Convention::ModelOpt => most / 2688.0,
        Convention::CompressedTensors => {
            let most = if most.is_nan() { most } else { most.max(2f32.powi(-126)) };
            let s = to_bf16(to_bf16(1.0 / most).to_f32() * 2688.0).to_f32();
            if s.is_finite() { s } else { 1.0 }
        }
    };
    if s.is_nan() { NAN } else { s }
}

/// The scale of a block and the value that its codes count in.
fn block_scale(block: &[bf16], tensor_scale: f32, convention: Convention) -> (u8, f32) {
    let a = largest(block);
    match convention {
        Convention::ModelOpt => {
            let v = a / (6.0 * tensor_scale);
            let v = if v == 0.0 { 1.0 } else { v };
            let scale = to_e4m3(if v.is_nan() { v } else { v.clamp(2f32.powi(-9), 448.0) });
            (scale, e4m3(scale) * tensor_scale)
        }
        Convention::CompressedTensors => {
            let v = tensor_scale * to_bf16(a / 6.0).to_f32();
            let scale = to_e4m3(if v > 448.0 { 448.0 } else { v });
            let scale = if scale == 0 { 0x20 } else { scale };
            (scale, e4m3(scale) / tensor_scale)
        }
    }
}

/// Quantises a matrix `[rows][k]` of bf16. A is the largest magnitude of the matrix, a that of a block of 16, x a value; operations
/// are f32, each rounded once, where nothing else is said.
/// ```text
///                 ModelOpt                                     compressed-tensors
/// tensor scale s  A / 2688                                     bf16(bf16(1 / max(A, 2^-126)) * 2688); 1 if NaN or infinite
/// block scale     a / (6 * s); 1 if that is 0;                 s * bf16(a / 6); at most 448;
///                 within 2^-9 ..= 448; nearest E4M3            nearest E4M3; 0.125 if that is 0
/// quotient q      x / (scale * s)                              x / (scale / s)
/// code            nearest E2M1 to |q|, at a tie the even code; 6 beyond; sign bit where q < 0 (so not for a quotient of -0)
/// NaN quotient    7                                            0
/// ```
///
/// # Errors
/// `x` is not `rows * k` long.
pub fn quantise(x: &[bf16], rows: usize, k: usize, convention: Convention) -> Result<Quantised, ReferenceError> {
    expect("x", x.len(), &[("rows", rows), ("k", k)])?;
    Ok(quantise_with(x, tensor_scale(x, convention), convention))
}

/// [`quantise`] of whole blocks of a matrix whose tensor scale is known.
pub fn quantise_with(x: &[bf16], tensor_scale: f32, convention: Convention) -> Quantised {
    let mut made = Quantised {
        codes: vec![0; x.len() / 2],
        scales: Vec::with_capacity(x.len() / BLOCK),
        tensor_scale,
    };
    for (b, block) in x.chunks(BLOCK).enumerate() {
        let (scale, unit) = block_scale(block, tensor_scale, convention);
        made.scales.push(scale);
        for (i, x) in block.iter().enumerate() {
            let q = x.to_f32() / unit;
            let code = match (q.is_nan(), convention) {
                (true, Convention::ModelOpt) => 7,
                (true, Convention::CompressedTensors) => 0,
                _ => nearest(q.abs().min(6.0), 7, e2m1) | if q < 0.0 { 8 } else { 0 },
            };
            made.codes[(b * BLOCK + i) / 2] |= code << (4 * (i % 2));
        }
    }
    made
}

#[cfg(test)]
#[path = "nvfp4_tests.rs"]
mod tests;
