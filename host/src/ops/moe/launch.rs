//! One launch of `moe_grouped` on tensors that lie anywhere on a device.

use cuda_std::launch::Kernel;
use half::bf16;
use kernels_gpu::moe_grouped::{self as kernels, Choice, choose, launch};

use super::weights::ExpertWeights;
use super::{MoeGrouped, expect_routing};
use crate::device::{DevPtr, Device, LaunchDims, Stream};
use crate::op::call::{Call, MODEL, expect_plain};
use crate::op::spec::Spec;
use crate::op::{Case, OpError, Values};

/// The kernels of bf16 weights.
type Dense = Kernel<(
    *const u16,
    *const u16,
    *const i32,
    *const i32,
    *mut u8,
    u32,
    u32,
    u32,
    u32,
    u32,
    u32,
)>;

/// The kernels of NVFP4 weights.
type Packed = Kernel<(
    *const u16,
    *const u8,
    *const u8,
    *const f32,
    u32,
    *const i32,
    *const i32,
    *mut u8,
    u32,
    u32,
    u32,
    u32,
    u32,
    u32,
)>;

/// The kernel of a tile with bf16 weights.
pub(in crate::ops) fn dense(choice: Choice) -> Dense {
    match choice {
        Choice::Wide => kernels::moe_grouped_bf16_wide::KERNEL,
        Choice::Middle => kernels::moe_grouped_bf16_middle::KERNEL,
        Choice::Thin => kernels::moe_grouped_bf16_thin::KERNEL,
    }
}

/// The kernel of a tile with NVFP4 weights.
pub(in crate::ops) fn packed(choice: Choice) -> Packed {
    match choice {
        Choice::Wide => kernels::moe_grouped_nvfp4_wide::KERNEL,
        Choice::Middle => kernels::moe_grouped_nvfp4_middle::KERNEL,
        Choice::Thin => kernels::moe_grouped_nvfp4_thin::KERNEL,
    }
}

/// Each expert's rows times its weights: row r of the sorted order, y = x w[expert of r]^T.
#[derive(Clone, Copy, Debug)]
pub struct MoeGroupedCall {
    /// `[n_tok][k]` with `gather`, else `[pairs][k]` in sorted order.
    pub x: DevPtr<bf16>,
    /// `[experts][n][k]`.
    pub w: ExpertWeights,
    /// `[experts + 1]`, of a [`super::MoeSortCall`].
    pub offsets: DevPtr<i32>,
    /// `[pairs]`, likewise.
    pub sorted: DevPtr<i32>,
    /// `[pairs][n]`, in sorted order with `gather`, else in pair order.
    pub y: DevPtr<bf16>,
    /// Tokens times `top_k`.
    pub pairs: u32,
    /// Experts.
    pub experts: u32,
    /// Slots of a token.
    pub top_k: u32,
    /// Rows of an expert's weights: outputs.
    pub n: u32,
    /// Columns of them: inputs.
    pub k: u32,
    /// Whether rows come from tokens and stay in sorted order (gate and up); else they come in sorted order and go to their pairs
    /// (down).
    pub gather: bool,
}

impl Call for MoeGroupedCall {
    fn case(&self) -> Case {
        let dims = [
            ("n_tok", u64::from(self.pairs / self.top_k.max(1))),
            ("experts", u64::from(self.experts)),
            ("top_k", u64::from(self.top_k)),
            ("n", u64::from(self.n)),
            ("k", u64::from(self.k)),
            ("nvfp4", self.w.format()),
            ("gather", u64::from(self.gather)),
        ];
        Case::of::<MoeGrouped>(MODEL, MoeGrouped::NAME, &dims, Values::Normal)
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        const OP: &str = MoeGrouped::NAME;
        expect_plain(OP, config)?;
        let Self {
            x,
            w,
            offsets,
            sorted,
            y,
            pairs,
            experts,
            top_k,
            n,
            k,
            gather,
        } = *self;
        if !pairs.is_multiple_of(top_k.max(1)) {
            return Err(OpError::Shape(format!(
                "{OP}: {pairs} pairs, and a token has top_k = {top_k}"
            )));
        }
        expect_routing(OP, pairs / top_k.max(1), experts, top_k)?;
        w.check(OP, &[("k", u64::from(k))])?;
        let choice = choose(pairs, experts);
        let (grid, threads, shared_bytes) = launch(choice, w.format() != 0, pairs, experts, n);
        if n == 0 || k == 0 || grid.1 > 65_535 {
            return Err(OpError::Shape(format!(
                "{OP}: {pairs} pairs by [{experts}][{n}][{k}], {} row tiles: n and k are at least 1, row tiles at most 65535",
                grid.1
            )));
        }
        if pairs == 0 {
            return Ok(());
        }
        let dims = LaunchDims::new(grid, threads).shared(shared_bytes);
        let (x, offsets, sorted) = (x.cast().get(), offsets.get(), sorted.get());
        let (y, gather) = (y.cast().get_mut(), u32::from(gather));
        match w {
            ExpertWeights::Bf16(w) => {
                let args = (
                    x,
                    w.cast().get(),
                    offsets,
                    sorted,
                    y,
                    pairs,
                    experts,
                    top_k,
                    n,
                    k,
                    gather,
                );
                Ok(device.launch(stream, &dense(choice), dims, args)?)
            }
            ExpertWeights::Nvfp4 {
                codes,
                scales,
                tensor,
                convention,
            } => {
                let (codes, scales, tensor, divide) = (codes.get(), scales.get(), tensor.get(), convention.divide());
                let args = (
                    x, codes, scales, tensor, divide, offsets, sorted, y, pairs, experts, top_k, n, k, gather,
                );
                Ok(device.launch(stream, &packed(choice), dims, args)?)
            }
        }
    }
}
