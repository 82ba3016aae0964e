//! The device language of Lockstep: what a kernel may call.
//!
//! One kernel source has two back ends. Compiled for `nvptx64-nvidia-cuda` every function here is one PTX instruction (or
//! the few that it takes); compiled for the host it calls `simt`, the simulator of the machine, and gives the same bits.
//! Kernels have no `asm!` of their own: what they need of it is here.
//!
//! # The device crate
//!
//! A crate of kernels starts with
//!
//! ```ignore
//! #![cfg_attr(target_arch = "nvptx64", no_std)]
//! #![cfg_attr(target_arch = "nvptx64", feature(abi_ptx, asm_experimental_arch, stdarch_nvptx))]
//! ```
//!
//! and marks its entries with [`kernel`].
//!
//! # Beside Rust-CUDA
//!
//! Names follow Rust-CUDA's `cuda_std` (0.2, and its later `warp` module), so that kernels move over with few changes.
//!
//! | module | same as Rust-CUDA | different here | added here | not here |
//! | --- | --- | --- | --- | --- |
//! | [`kernel`] | `#[kernel] pub unsafe fn`, slices as pointer and length | no generic kernels | `threads`, `min_blocks`, `archs`, `allow_local`; `&TensorMap`; on the host a typed `NAME::KERNEL` | |
//! | [`thread`] | indices, dims, `index*`, `first`, `sync_threads*`, fences, `nanosleep` | vectors are [`UVec2`], [`UVec3`] | named barriers, programmatic dependent launch | |
//! | [`warp`] | `lane_id`, `sync_warp`, `warp_shuffle_*`, `warp_vote_*`, `warp_match_*`, `warp_reduce` | | short forms for a full warp (`shuffle_xor`, `ballot`, ...), reductions in a fixed tree | `activemask` |
//! | [`shared`] | [`shared_array!`], `dynamic_shared_mem` | a [`Shared`](shared::Shared) handle instead of a pointer | `cp.async`, `ldmatrix`, `stmatrix`, atomics on shared memory | |
//! | [`atomic`] | `AtomicF32` and the like | device scope only; one generic function an operation | integer types | block and system scope |
//! | [`mem`] | | no allocator | loads and stores with cache hints | `malloc`, `CUDAAllocator` |
//! | [`ptr`] | `AddressSpace`, the three conversions | | | |
//! | [`float`] | [`GpuFloat`](float::GpuFloat) | only what is exact on both sides | `fma`, `min`, `max` with PTX's rules, conversions of f16, bf16, e4m3 and e2m1, exact elementary functions | libdevice's approximations |
//! | [`mma`], [`int`], [`random`] | | | tensor cores, `dp4a`, Philox | |
//! | [`mbarrier`], [`tma`], [`wgmma`], [`cluster`], [`proxy`] | | | Hopper: barriers in shared memory, tensor copies, warpgroup products, clusters | |
//! | [`launch`] | | | the host's side of [`kernel`] | |
//! | `io`, `misc`, `cfg` | | | | printing, profiling |
#![cfg_attr(target_arch = "nvptx64", no_std)]
#![cfg_attr(
    target_arch = "nvptx64",
    feature(
        asm_experimental_arch,
        stdarch_nvptx,
        link_llvm_intrinsics,
        abi_unadjusted,
        portable_simd,
        core_float_math
    )
)]
#![cfg_attr(target_arch = "nvptx64", allow(internal_features, improper_ctypes))]

/// Picks the block of the target that is compiled for; the other one is not even resolved.
#[cfg(target_arch = "nvptx64")]
macro_rules! target {
    (gpu $gpu:block cpu $cpu:block) => {
        $gpu
    };
}
#[cfg(not(target_arch = "nvptx64"))]
macro_rules! target {
    (gpu $gpu:block cpu $cpu:block) => {
        $cpu
    };
}

#[cfg(target_arch = "nvptx64")]
mod intrinsics;

pub mod atomic;
pub mod cluster;
pub mod float;
pub mod int;
pub mod launch;
pub mod mbarrier;
pub mod mem;
pub mod mma;
pub mod proxy;
pub mod ptr;
pub mod random;
pub mod shared;
pub mod thread;
pub mod tma;
pub mod vec;
pub mod warp;
pub mod wgmma;

#[doc(hidden)]
pub use cuda_std_macros::__shared_symbol;
pub use cuda_std_macros::kernel;
pub use half::{bf16, f16};
pub use vec::{F32x2, F32x4, U32x2, U32x4, UVec2, UVec3};

/// What most kernels need in scope.
pub mod prelude {
    pub use crate::float::GpuFloat as _;
    pub use crate::shared::Shared;
    pub use crate::{F32x2, F32x4, U32x2, U32x4, bf16, f16, kernel, mem, shared, thread, warp};
}
