//! Products with a model's matrices, in whatever format they are.

use half::bf16;

use super::builder::Builder;
use crate::device::DevPtr;
use crate::model::ModelError;
use crate::model::config::ModelConfig;
use crate::model::weights::{Format, Linear, Matrix};
use crate::ops::gemm::GemmCall;
use crate::ops::nvfp4::Nvfp4MatmulCall;
use crate::ops::q8::{Q8MatmulCall, Q8QuantizeCall, Q8Source, activation_bytes};
use crate::ops::to_bf16::ToBf16Call;

/// A part's columns in the output of a product: `[rows]`, `stride` elements apart, `n` of them used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    pub ptr: DevPtr<bf16>,
    pub stride: u32,
    pub n: u32,
}

/// The columns of a part of a product, by its name.
pub(super) fn part(
    config: &ModelConfig,
    role: &str,
    parts: &[(&'static str, Columns)],
    name: &str,
) -> Result<Columns, ModelError> {
    let found = parts.iter().find(|(n, _)| *n == name);
    found
        .map(|(_, columns)| *columns)
        .ok_or_else(|| config.error(role, format!("has no part {name}")))
}

impl Builder<'_> {
    /// All parts of a product of `rows` rows of x, `[rows][k]`, in bf16.
    pub(super) fn linear(
        &mut self,
        linear: &Linear,
        x: DevPtr<bf16>,
        rows: u32,
    ) -> Result<Vec<(&'static str, Columns)>, ModelError> {
        if linear.is_fused() {
            let stride = linear.n();
            let y = self.temp::<bf16>(rows as usize * stride as usize);
            self.matrix(linear.role, &linear.matrices[0], x, y, rows)?;
            let mut first = 0;
            let part = |&(name, n): &(&'static str, u32)| {
                let ptr = y.add(first);
                first += n as usize;
                (name, Columns { ptr, stride, n })
            };
            return Ok(linear.parts.iter().map(part).collect());
        }
        let mut all = Vec::with_capacity(linear.parts.len());
        for (matrix, &(name, n)) in linear.matrices.iter().zip(&linear.parts) {
            let ptr = self.temp::<bf16>(rows as usize * n as usize);
            self.matrix(linear.role, matrix, x, ptr, rows)?;
            all.push((name, Columns { ptr, stride: n, n }));
        }
        Ok(all)
    }

    /// A product of one part, to a place of its own: y `[rows][n]`.
    pub(super) fn linear_to(
        &mut self,
        linear: &Linear,
        x: DevPtr<bf16>,
        y: DevPtr<bf16>,
        rows: u32,
    ) -> Result<(), ModelError> {
        let matrix = self.only(linear)?;
        self.matrix(linear.role, &matrix, x, y, rows)
    }

    /// A product of one part with f32 output, `[rows][n]`.
    pub(super) fn linear_f32(
        &mut self,
        linear: &Linear,
        x: DevPtr<bf16>,
        y: DevPtr<f32>,
        rows: u32,
    ) -> Result<(), ModelError> {
        let matrix = self.only(linear)?;
        self.product(linear.role, &matrix, x, y.cast(), rows, true)
    }

    fn only(&self, linear: &Linear) -> Result<Matrix, ModelError> {
        match linear.matrices[..] {
            [matrix] => Ok(matrix),
            _ => Err(ModelError::Request(format!(
                "{}: {} matrices where one is needed",
                linear.role,
                linear.matrices.len()
            ))),
        }
    }

    fn matrix(
        &mut self,
        role: &'static str,
        matrix: &Matrix,
        x: DevPtr<bf16>,
        y: DevPtr<bf16>,
        rows: u32,
    ) -> Result<(), ModelError> {
        if let Format::Q8 { .. } = matrix.format {
            // Q8_0's products are f32: they are rounded where the next operation takes bf16. The quantised x outlives this scope:
            // the next part reads it too.
            let n = matrix.n;
            self.quantised(x, rows, matrix.k)?;
            return self.scope(|b| {
                let wide = b.temp::<f32>(rows as usize * n as usize);
                b.product(role, matrix, x, wide.cast(), rows, true)?;
                b.call(
                    role,
                    ToBf16Call {
                        x: wide,
                        y,
                        n_tok: rows,
                        n,
                        x_stride: n,
                        y_stride: n,
                    },
                )
            });
        }
        self.product(role, matrix, x, y.cast(), rows, false)
    }

    fn product(
        &mut self,
        role: &'static str,
        matrix: &Matrix,
        x: DevPtr<bf16>,
        y: DevPtr<u8>,
        rows: u32,
        out_f32: bool,
    ) -> Result<(), ModelError> {
        let &Matrix { n, k, format } = matrix;
        match format {
            Format::Bf16(w) => self.call(
                role,
                GemmCall::<bf16> {
                    a: x,
                    w,
                    bias: DevPtr::NULL,
                    residual: DevPtr::NULL,
                    y,
                    m: rows,
                    n,
                    k,
                    out_f32,
                },
            ),
            Format::Nvfp4 {
                codes,
                scales,
                tensor,
                convention,
            } => self.call(
                role,
                Nvfp4MatmulCall::<bf16> {
                    a: x,
                    codes,
                    scales,
                    tensor_scale: tensor,
                    convention,
                    bias: DevPtr::NULL,
                    y,
                    m: rows,
                    n,
                    k,
                    out_f32,
                },
            ),
            Format::Q8 { qs, ws } => {
                let (xq, dx) = self.quantised(x, rows, k)?;
                self.call(
                    role,
                    Q8MatmulCall {
                        qs,
                        ws,
                        xq,
                        dx,
                        y: y.cast(),
                        n,
                        k,
                        n_tok: rows,
                    },
                )
            }
        }
    }

    /// The quantised form of x, made once for all products that read it.
    fn quantised(&mut self, x: DevPtr<bf16>, rows: u32, k: u32) -> Result<(DevPtr<u8>, DevPtr<f32>), ModelError> {
        let key = x.get() as usize;
        if let Some(&(_, xq, dx)) = self.quantised.iter().find(|q| q.0 == key) {
            return Ok((xq, dx));
        }
        let [values, scales] = activation_bytes(rows, k);
        let (xq, dx) = (self.temp::<u8>(values), self.temp::<u8>(scales).cast());
        self.quantised.push((key, xq, dx));
        self.call(
            "quantize",
            Q8QuantizeCall {
                x: Q8Source::Bf16(x),
                xq,
                dx,
                n_tok: rows,
                k,
                x_stride: k,
            },
        )?;
        Ok((xq, dx))
    }
}
