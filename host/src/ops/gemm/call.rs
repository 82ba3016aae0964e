//! One launch of `gemm` on tensors that lie anywhere on a device.

use kernels_gpu::gemm as kernels;

use super::common::{check_tiles, launch_dims};
use super::{Gemm, Kernels};
use crate::device::{DevPtr, Device, Stream};
use crate::op::call::{Call, MODEL, expect_plain};
use crate::op::spec::Spec;
use crate::op::{Case, OpError, Values};

/// y = a w^T + bias + residual, of operands `T`.
#[derive(Clone, Copy, Debug)]
pub struct GemmCall<T> {
    /// `[m][k]`.
    pub a: DevPtr<T>,
    /// `[n][k]`.
    pub w: DevPtr<T>,
    /// `[n]`, or null.
    pub bias: DevPtr<T>,
    /// `[m][n]`, or null; may be y. Not where y is f32.
    pub residual: DevPtr<T>,
    /// `[m][n]` of `T`, or of f32.
    pub y: DevPtr<u8>,
    /// Rows of a: tokens.
    pub m: u32,
    /// Rows of w: outputs.
    pub n: u32,
    /// Columns of both: inputs.
    pub k: u32,
    /// Whether y is f32.
    pub out_f32: bool,
}

impl<T: Kernels> Call for GemmCall<T> {
    fn case(&self) -> Case {
        let dims = [
            ("n", u64::from(self.n)),
            ("k", u64::from(self.k)),
            ("n_tok", u64::from(self.m)),
            ("out_f32", u64::from(self.out_f32)),
            ("bias", u64::from(!self.bias.is_null())),
            ("residual", u64::from(!self.residual.is_null())),
        ];
        Case::of::<Gemm>(MODEL, Gemm::NAME, &dims, Values::Normal).with_dtype(T::DTYPE.name())
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        expect_plain(Gemm::NAME, config)?;
        let Self { m, n, k, .. } = *self;
        if n == 0 || k == 0 {
            return Err(OpError::Shape(format!(
                "a product of [{m}][{k}] by [{n}][{k}]: n and k are at least 1"
            )));
        }
        if self.out_f32 && !self.residual.is_null() {
            return Err(OpError::Shape(
                "a residual is added to a 16-bit output, and y is f32".into(),
            ));
        }
        check_tiles(u64::from(m), u64::from(n)).map_err(OpError::Shape)?;
        if m == 0 {
            return Ok(());
        }
        let choice = kernels::choose(m, n);
        let args = (
            self.a.cast().get(),
            self.w.cast().get(),
            self.bias.cast().get(),
            self.residual.cast().get(),
            self.y.get_mut(),
            m,
            n,
            k,
            u32::from(self.out_f32),
        );
        let dims = launch_dims(choice, m, n, kernels::shared(choice));
        Ok(device.launch(stream, &T::kernel(choice), dims, args)?)
    }
}
