//! Functions over a warp: 32 threads that run together.
//!
//! The `warp_*` functions are Rust-CUDA's and take a mask of lanes; the short names are for a full warp and a full width.
//! All of them are convergent: every lane of the mask has to reach the same call with the same mask. On the GPU anything
//! else is undefined; the simulator reports it.

mod reduce;
mod shuffle;
mod vote;

pub use reduce::{
    WarpReduceValue, WarpReductionOp, reduce_max_f32, reduce_max_i32, reduce_max_u32, reduce_min_i32, reduce_min_u32,
    reduce_sum_f32, reduce_sum_i32, reduce_sum_u32, warp_reduce,
};
pub use shuffle::{
    WarpShuffleValue, broadcast, shuffle_down, shuffle_idx, shuffle_up, shuffle_xor, warp_shuffle_down,
    warp_shuffle_idx, warp_shuffle_up, warp_shuffle_xor,
};
pub use vote::{
    WarpMatchValue, all, any, ballot, match_all, match_any, warp_match_all, warp_match_any, warp_vote_all,
    warp_vote_any, warp_vote_ballot,
};

/// All 32 lanes.
pub const FULL: u32 = u32::MAX;

/// The thread's lane in its warp, 0 to 31.
#[inline(always)]
#[track_caller]
pub fn lane_id() -> u32 {
    target! {
        gpu {
            // SAFETY: reads a special register.
            unsafe { crate::intrinsics::laneid() }
        }
        cpu { simt::ctx::lane_id() }
    }
}

/// Waits for the lanes of `mask`; what any of them wrote before is then seen by all of them.
///
/// # Safety
/// The calling lane is in `mask`, and no lane of `mask` has exited.
#[inline(always)]
#[track_caller]
pub unsafe fn sync_warp(mask: u32) {
    target! {
        gpu {
            // SAFETY: the caller's promise.
            unsafe { crate::intrinsics::bar_warp_sync(mask) }
        }
        cpu { simt::ctx::sync_warp(mask) }
    }
}

/// [`sync_warp`] of the full warp.
#[inline(always)]
#[track_caller]
pub fn sync() {
    // SAFETY: the whole warp is here (the module's rule).
    unsafe { sync_warp(FULL) }
}
