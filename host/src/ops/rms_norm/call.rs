//! A launch of `rms_norm` on tensors that lie anywhere.

use half::bf16;

use super::{Args, Norm, RmsNorm, check_rows, launch_dims};
use crate::device::{DevPtr, Device, Stream};
use crate::op::call::{Call, MODEL, expect_plain, refused};
use crate::op::spec::Spec;
use crate::op::{Case, OpError, Values};

/// RMSNorm of every head of every token: y = x / rms(x) * w, after the addition of a residual where there is one. The order is
/// docs/numerics.md's, "Norms". Tensors are of bf16 or f16.
#[derive(Clone, Copy, Debug)]
pub struct RmsNormCall<T = bf16> {
    /// `[n_tok][heads][n]`.
    pub x: DevPtr<T>,
    /// `[n_tok][heads][n]`, or null: read, and replaced by x + residual, which is what is normed.
    pub residual: DevPtr<T>,
    /// `[n]`.
    pub w: DevPtr<T>,
    /// `[n_tok][heads][n]`; may be `x`.
    pub y: DevPtr<T>,
    /// Tokens.
    pub n_tok: u32,
    /// Rows of a token, one after another; 1 for all but QK-norm.
    pub heads: u32,
    /// Elements of a row.
    pub n: u32,
    /// Elements from a token of `x` to the next.
    pub x_stride: u32,
    /// Elements from a token of `residual` to the next.
    pub r_stride: u32,
    /// Elements from a token of `y` to the next.
    pub y_stride: u32,
    /// What is added to the mean of the squares.
    pub eps: f32,
    /// The weight is 1 + w.
    pub zero_centered: bool,
}

impl<T: Norm> Call for RmsNormCall<T> {
    fn case(&self) -> Case {
        let dims = [
            ("n_tok", u64::from(self.n_tok)),
            ("heads", u64::from(self.heads)),
            ("n", u64::from(self.n)),
            ("residual", u64::from(!self.residual.is_null())),
            ("zero_centered", u64::from(self.zero_centered)),
        ];
        Case::of::<RmsNorm>(MODEL, RmsNorm::NAME, &dims, Values::Normal).with_dtype(T::DTYPE.name())
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        expect_plain(RmsNorm::NAME, config)?;
        let (n_tok, heads, n) = (self.n_tok, self.heads, self.n);
        check_rows(n_tok.into(), heads.into(), n.into()).map_err(|why| refused(RmsNorm::NAME, why))?;
        if n_tok == 0 || heads == 0 || n == 0 {
            return Ok(());
        }
        let (dims, short) = launch_dims(n_tok as usize * heads as usize, n as usize);
        let args: Args<T> = (
            self.x.get(),
            self.residual.get_mut(),
            self.w.get(),
            self.y.get_mut(),
            n_tok,
            heads,
            n,
            self.x_stride,
            self.r_stride,
            self.y_stride,
            self.eps,
            u32::from(self.zero_centered),
        );
        let [of_short, of_long] = T::kernels();
        Ok(device.launch(stream, if short { &of_short } else { &of_long }, dims, args)?)
    }
}
