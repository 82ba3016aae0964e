//! The launch of a grouped product, for `moe_grouped` and for the path that `moe_decode` is compared with.

use cuda_std::launch::Kernel;
use kernels_gpu::moe_grouped::{self as kernels, Choice, choose, launch};

use super::weights::Pointers;
use crate::device::{Device, LaunchDims, Stream};
use crate::op::OpError;

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

/// A launch on pointers.
#[derive(Clone, Copy)]
pub(super) struct Launch {
    pub x: *const u16,
    pub w: Pointers,
    pub offsets: *const i32,
    pub sorted: *const i32,
    pub y: *mut u8,
    pub pairs: u32,
    pub experts: u32,
    pub top_k: u32,
    pub n: u32,
    pub k: u32,
    pub gather: bool,
}

impl Launch {
    /// Launches it; nothing where there are no pairs.
    pub fn run(self, device: &Device, stream: &Stream) -> Result<(), OpError> {
        let Launch {
            x,
            offsets,
            sorted,
            y,
            pairs,
            experts,
            top_k,
            n,
            k,
            ..
        } = self;
        if pairs == 0 {
            return Ok(());
        }
        let choice = choose(pairs, experts);
        let nvfp4 = matches!(self.w, Pointers::Nvfp4 { .. });
        let (grid, threads, shared_bytes) = launch(choice, nvfp4, pairs, experts, n);
        let dims = LaunchDims::new(grid, threads).shared(shared_bytes);
        let gather = u32::from(self.gather);
        match self.w {
            Pointers::Bf16(w) => {
                let args = (x, w, offsets, sorted, y, pairs, experts, top_k, n, k, gather);
                Ok(device.launch(stream, &dense(choice), dims, args)?)
            }
            Pointers::Nvfp4 {
                codes,
                scales,
                tensor,
                divide,
            } => {
                let args = (
                    x, codes, scales, tensor, divide, offsets, sorted, y, pairs, experts, top_k, n, k, gather,
                );
                Ok(device.launch(stream, &packed(choice), dims, args)?)
            }
        }
    }
}
