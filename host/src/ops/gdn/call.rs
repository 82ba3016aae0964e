//! Launches of the convolution and of the gates on tensors that lie anywhere on a device.

use half::bf16;
use kernels_gpu::gdn_conv as kernel_conv;
use kernels_gpu::gdn_gates as kernel_gates;

use super::{GdnConv, GdnGates, conv, gates};
use crate::device::{DevPtr, Device, LaunchDims, Stream};
use crate::op::call::{Call, MODEL, expect_plain};
use crate::op::spec::Spec;
use crate::op::{Case, OpError, Values};

/// The case of a call: sizes by axis.
pub(super) fn case_of<S: Spec>(sizes: &[(&'static str, u32)]) -> Case {
    let dims: Vec<(&str, u64)> = sizes.iter().map(|&(name, size)| (name, size.into())).collect();
    Case::of::<S>(MODEL, S::NAME, &dims, Values::Normal)
}

/// A refusal of sizes.
pub(super) fn shape(op: &'static str) -> impl FnOnce(String) -> OpError {
    move |why| OpError::Shape(format!("{op}: {why}"))
}

/// The convolution over `n_tok` packed tokens of `n_seq` sequences.
#[derive(Clone, Copy, Debug)]
pub struct GdnConvCall {
    /// Inputs, `[n_tok][channels]`, rows `x_stride` apart.
    pub x: DevPtr<bf16>,
    /// Weights, `[channels][4]`, the oldest input's first.
    pub w: DevPtr<bf16>,
    /// `[channels]`; NULL without.
    pub bias: DevPtr<bf16>,
    /// States, `[slots][channels][3]`, the oldest input first; read and written.
    pub state: DevPtr<bf16>,
    /// `[n_seq]`: the slot a sequence starts from; -1: zeros.
    pub state_in: DevPtr<i32>,
    /// `[n_tok]`: the slot of the state after each token; -1: not written. No slot twice, but a sequence's own `state_in` may be
    /// among them.
    pub state_out: DevPtr<i32>,
    /// `[n_seq + 1]`: each sequence's first token, and the number of all.
    pub cu_seqlens: DevPtr<i32>,
    /// Outputs, `[n_tok][channels]`, written.
    pub y: DevPtr<bf16>,
    /// Tokens of all sequences.
    pub n_tok: u32,
    /// Sequences.
    pub n_seq: u32,
    /// Channels: those of q, k and v, in this order.
    pub channels: u32,
    /// Elements from one token's inputs to the next one's.
    pub x_stride: u32,
    /// Leading heads of 128 channels whose outputs are L2-normalised: those of q and k.
    pub l2_heads: u32,
}

impl Call for GdnConvCall {
    fn case(&self) -> Case {
        case_of::<GdnConv>(&[
            ("n_tok", self.n_tok),
            ("n_seq", self.n_seq),
            ("channels", self.channels),
            ("l2_heads", self.l2_heads),
            ("bias", (!self.bias.is_null()).into()),
        ])
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        expect_plain(GdnConv::NAME, config)?;
        if self.n_tok == 0 || self.n_seq == 0 || self.channels == 0 {
            return Ok(());
        }
        conv::check_channels(self.channels.into(), self.l2_heads.into()).map_err(shape(GdnConv::NAME))?;
        let args = (
            self.x.get(),
            self.w.get(),
            self.bias.get(),
            self.state.get_mut(),
            self.state_in.get(),
            self.state_out.get(),
            self.cu_seqlens.get(),
            self.y.get_mut(),
            self.n_seq,
            self.channels,
            self.x_stride,
            self.l2_heads,
        );
        let grid = kernel_conv::grid(self.n_tok, self.n_seq, self.channels);
        Ok(device.launch(
            stream,
            &kernel_conv::gdn_conv::KERNEL,
            LaunchDims::new(grid, kernel_conv::THREADS),
            args,
        )?)
    }
}

/// The gates of `n_tok` tokens.
#[derive(Clone, Copy, Debug)]
pub struct GdnGatesCall {
    /// Inputs of the decay gates, `[n_tok][v_heads]`, rows `a_stride` apart.
    pub a: DevPtr<bf16>,
    /// Inputs of the update gates, `[n_tok][v_heads]`, rows `b_stride` apart.
    pub b: DevPtr<bf16>,
    /// `[v_heads]`.
    pub a_log: DevPtr<f32>,
    /// `[v_heads]`.
    pub dt_bias: DevPtr<f32>,
    /// Decay gates (logarithms), `[n_tok][v_heads]`, written.
    pub g: DevPtr<f32>,
    /// Update gates, `[n_tok][v_heads]`, written.
    pub beta: DevPtr<f32>,
    /// Tokens.
    pub n_tok: u32,
    /// Heads of v.
    pub v_heads: u32,
    /// Elements from one token of a to the next.
    pub a_stride: u32,
    /// Elements from one token of b to the next.
    pub b_stride: u32,
}

impl Call for GdnGatesCall {
    fn case(&self) -> Case {
        case_of::<GdnGates>(&[("n_tok", self.n_tok), ("v_heads", self.v_heads)])
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        expect_plain(GdnGates::NAME, config)?;
        if self.n_tok == 0 || self.v_heads == 0 {
            return Ok(());
        }
        gates::check_count(self.n_tok.into(), self.v_heads.into()).map_err(shape(GdnGates::NAME))?;
        let args = (
            self.a.get(),
            self.b.get(),
            self.a_log.get(),
            self.dt_bias.get(),
            self.g.get_mut(),
            self.beta.get_mut(),
            self.n_tok,
            self.v_heads,
            self.a_stride,
            self.b_stride,
        );
        let dims = LaunchDims::new(kernel_gates::grid(self.n_tok, self.v_heads), kernel_gates::THREADS);
        Ok(device.launch(stream, &kernel_gates::gdn_gates::KERNEL, dims, args)?)
    }
}
