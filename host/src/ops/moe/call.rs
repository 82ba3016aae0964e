//! One launch of `moe_decode` on tensors that lie anywhere on a device.

use half::bf16;
use kernels_gpu::moe_decode::{
    DOWN_THREADS, GATE_UP_SHARED, GATE_UP_THREADS, ROWS, down_shared, moe_decode_down_bf16, moe_decode_down_nvfp4,
    moe_decode_gate_up_bf16, moe_decode_gate_up_nvfp4,
};

use super::decode::MAX_TOKENS;
use super::weights::ExpertWeights;
use super::{MoeDecode, expect_gate, expect_routing};
use crate::device::{DevPtr, Device, LaunchDims, Stream};
use crate::op::call::{Call, MODEL, expect_plain};
use crate::op::spec::Spec;
use crate::op::{Case, OpError, Values};

/// The experts of a few tokens without a sort, from x to the combined output. Its case has the format of gate and up; down may have
/// another one.
#[derive(Clone, Copy, Debug)]
pub struct MoeDecodeCall {
    /// `[n_tok][k]`.
    pub x: DevPtr<bf16>,
    /// `[n_tok][top_k]`, the router's; any other number is no expert.
    pub ids: DevPtr<i32>,
    /// `[n_tok][top_k]`, the router's.
    pub weights: DevPtr<f32>,
    /// `[experts][2 n][k]`: an expert's gate, then its up.
    pub gate_up: ExpertWeights,
    /// `[experts][k][n]`.
    pub down: ExpertWeights,
    /// Scratch, `[n_tok * top_k][n]`.
    pub h: DevPtr<bf16>,
    /// `[n_tok]`, the shared expert's logits; null without it.
    pub shared_gate: DevPtr<f32>,
    /// `[n_tok][k]`, the shared expert's output, or null.
    pub shared: DevPtr<bf16>,
    /// `[n_tok][k]`.
    pub y: DevPtr<bf16>,
    /// Tokens; at most 16.
    pub n_tok: u32,
    /// Experts.
    pub experts: u32,
    /// Slots of a token.
    pub top_k: u32,
    /// Width inside.
    pub n: u32,
    /// Width outside.
    pub k: u32,
}

impl Call for MoeDecodeCall {
    fn case(&self) -> Case {
        let dims = [
            ("n_tok", u64::from(self.n_tok)),
            ("experts", u64::from(self.experts)),
            ("top_k", u64::from(self.top_k)),
            ("n", u64::from(self.n)),
            ("k", u64::from(self.k)),
            ("nvfp4", self.gate_up.format()),
            ("shared", u64::from(!self.shared.is_null())),
        ];
        Case::of::<MoeDecode>(MODEL, MoeDecode::NAME, &dims, Values::Normal)
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        const OP: &str = MoeDecode::NAME;
        expect_plain(OP, config)?;
        let Self {
            n_tok,
            experts,
            top_k,
            n,
            k,
            ..
        } = *self;
        expect_routing(OP, n_tok, experts, top_k)?;
        expect_gate(OP, self.shared_gate, self.shared)?;
        if u64::from(n_tok) > MAX_TOKENS || n == 0 || k == 0 {
            return Err(OpError::Shape(format!(
                "{OP}: n_tok = {n_tok}, n = {n}, k = {k}: at most {MAX_TOKENS} tokens (more take moe_sort and moe_grouped), n and \
                 k at least 1"
            )));
        }
        self.gate_up.check(OP, &[("k", u64::from(k))])?;
        self.down.check(OP, &[("n", u64::from(n))])?;
        if n_tok == 0 {
            return Ok(());
        }
        self.launch_gate_up(device, stream)?;
        self.launch_down(device, stream)
    }
}

impl MoeDecodeCall {
    /// x to h.
    fn launch_gate_up(&self, device: &Device, stream: &Stream) -> Result<(), OpError> {
        let (x, ids, h) = (self.x.cast().get(), self.ids.get(), self.h.get_mut());
        let Self {
            experts, top_k, n, k, ..
        } = *self;
        let grid = (n.div_ceil(ROWS), self.n_tok * top_k);
        let dims = LaunchDims::new(grid, GATE_UP_THREADS).shared(GATE_UP_SHARED);
        match self.gate_up {
            ExpertWeights::Bf16(w) => {
                let args = (x, ids, w.cast().get(), h, experts, top_k, n, k);
                device.launch(stream, &moe_decode_gate_up_bf16::KERNEL, dims, args)?;
            }
            ExpertWeights::Nvfp4 {
                codes,
                scales,
                tensor,
                convention,
            } => {
                let (codes, scales, tensor, divide) = (codes.get(), scales.get(), tensor.get(), convention.divide());
                let args = (x, ids, codes, scales, tensor, divide, h, experts, top_k, n, k);
                device.launch(stream, &moe_decode_gate_up_nvfp4::KERNEL, dims, args)?;
            }
        }
        Ok(())
    }

    /// h to y.
    fn launch_down(&self, device: &Device, stream: &Stream) -> Result<(), OpError> {
        let (h, ids, weights, y) = (
            self.h.cast().get(),
            self.ids.get(),
            self.weights.get(),
            self.y.get_mut(),
        );
        let (gate, shared) = (self.shared_gate.get(), self.shared.get());
        let Self {
            experts, top_k, n, k, ..
        } = *self;
        let dims = LaunchDims::new((k.div_ceil(ROWS), self.n_tok), DOWN_THREADS).shared(down_shared(top_k));
        match self.down {
            ExpertWeights::Bf16(w) => {
                let args = (h, ids, weights, w.cast().get(), gate, shared, y, experts, top_k, n, k);
                device.launch(stream, &moe_decode_down_bf16::KERNEL, dims, args)?;
            }
            ExpertWeights::Nvfp4 {
                codes,
                scales,
                tensor,
                convention,
            } => {
                let (codes, scales, tensor, divide) = (codes.get(), scales.get(), tensor.get(), convention.divide());
                let args = (
                    h, ids, weights, codes, scales, tensor, divide, gate, shared, y, experts, top_k, n, k,
                );
                device.launch(stream, &moe_decode_down_nvfp4::KERNEL, dims, args)?;
            }
        }
        Ok(())
    }
}
