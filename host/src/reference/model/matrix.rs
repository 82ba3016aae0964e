//! Weights in the formats of files, and products with them.

use half::bf16;
use half::slice::HalfFloatSliceExt;

use crate::reference::gemm::Operands;
use crate::reference::moe::Experts;
use crate::reference::nvfp4::{Convention, Product, Weights};
use crate::reference::{ReferenceError, expect, mma, q8, to_bf16};

/// How a matrix is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// `[n][k]`.
    Bf16(Vec<bf16>),
    /// Two numbers a byte and a scale for 16.
    Nvfp4 {
        /// E2M1, `[n][k / 2]`.
        codes: Vec<u8>,
        /// E4M3, `[n][k / 16]`.
        scales: Vec<u8>,
        /// The tensor scale as stored.
        tensor: f32,
        /// What it means.
        convention: Convention,
    },
    /// GGUF's blocks, `[n][k / 32][34]`.
    Q8(Vec<u8>),
}

/// A matrix of weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Outputs.
    pub n: usize,
    /// Inputs.
    pub k: usize,
    /// Its contents.
    pub format: Format,
}

impl Matrix {
    /// The products of rows x `[rows][k]` with it in f32, `[rows][n]`.
    ///
    /// # Errors
    /// [`ReferenceError`]: contents or x that do not have their shapes.
    pub fn times(&self, x: &[bf16]) -> Result<Vec<f32>, ReferenceError> {
        let (n, k) = (self.n, self.k);
        let m = x.len() / k.max(1);
        expect("x", x.len(), &[("rows", m), ("k", k)])?;
        match &self.format {
            Format::Bf16(w) => {
                expect("w", w.len(), &[("n", n), ("k", k)])?;
                Ok(mma::gemm_bf16(x, w, k))
            }
            Format::Nvfp4 {
                codes,
                scales,
                tensor,
                convention,
            } => {
                let w = Weights { codes, scales, n, k }.dequantised::<bf16>()?;
                let operands = Operands {
                    a: x,
                    w: &w,
                    bias: None,
                    residual: None,
                    m,
                    n,
                    k,
                };
                let product = Product {
                    operands,
                    tensor_scale: *tensor,
                    convention: *convention,
                    bias: None,
                };
                product.f32_at(&operands.everywhere())
            }
            Format::Q8(blocks) => q8::matmul(blocks, q8::Input::Bf16(x.reinterpret_cast()), n, k, m),
        }
    }

    /// [`Matrix::times`], each output rounded to bf16: what the next operation reads.
    ///
    /// # Errors
    /// As [`Matrix::times`].
    pub fn rounded(&self, x: &[bf16]) -> Result<Vec<bf16>, ReferenceError> {
        Ok(self.times(x)?.into_iter().map(to_bf16).collect())
    }

    /// Refuses a matrix of another shape than its place in the model has.
    pub(super) fn check(&self, name: &'static str, n: usize, k: usize) -> Result<(), ReferenceError> {
        expect(name, self.n, &[("n", n)])?;
        expect(name, self.k, &[("k", k)])
    }
}

/// The same matrix of every expert, `[experts][n][k]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Stack {
    /// bf16.
    Bf16(Vec<bf16>),
    /// As [`Format::Nvfp4`], with a tensor scale for each expert.
    Nvfp4 {
        /// E2M1, `[experts][n][k / 2]`.
        codes: Vec<u8>,
        /// E4M3, `[experts][n][k / 16]`.
        scales: Vec<u8>,
        /// `[experts]`.
        tensor: Vec<f32>,
        /// What they mean.
        convention: Convention,
    },
}

impl Stack {
    /// The same as the grouped products take it.
    pub(super) fn experts(&self) -> Experts<'_> {
        match self {
            Stack::Bf16(w) => Experts::Bf16(w),
            Stack::Nvfp4 {
                codes,
                scales,
                tensor,
                convention,
            } => Experts::Nvfp4 {
                codes,
                scales,
                tensor,
                convention: *convention,
            },
        }
    }
}
