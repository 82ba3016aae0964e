//! What kernels over logits share: their order as integers, 16-byte loads, and integers of a warp or a block.

use core::mem::zeroed;
use cuda_std::shared::Shared;
use cuda_std::vec::F32x4;
use cuda_std::{mem, thread, warp};

/// Logits by size as unsigned integers: a larger logit has a larger key, the two zeros the same, NaN the least, 0.
#[inline(always)]
pub(crate) fn key(logit: f32) -> u32 {
    // -0 becomes +0.
    let bits = if logit == 0.0 { 0 } else { logit.to_bits() };
    let key = if bits >> 31 == 1 { !bits } else { bits | 0x8000_0000 };
    if logit.is_nan() { 0 } else { key }
}

/// The logit of a key; of 0 some NaN.
#[inline(always)]
pub(crate) fn logit(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & 0x7FFF_FFFF } else { !key })
}

/// Key and index as one integer whose maximum is the largest logit, at the lowest index of several.
#[inline(always)]
pub(crate) fn ranked(logit: f32, index: u32) -> u64 {
    ((key(logit) as u64) << 32) | !index as u64
}

/// The index in a [`ranked`] integer.
#[inline(always)]
pub(crate) fn index_of(ranked: u64) -> u32 {
    !(ranked as u32)
}

/// The first `count` (4 at most) logits from `p`, the others zero: one 16-byte load where all are wanted and `p` is
/// aligned.
///
/// # Safety
/// `count` logits from `p` may be read.
#[inline(always)]
#[track_caller]
pub(crate) unsafe fn load4(p: *const f32, count: u32) -> [f32; 4] {
    if count >= 4 && (p as usize).is_multiple_of(16) {
        // SAFETY: four logits may be read, and the address is a multiple of 16.
        return unsafe { mem::load(p.cast::<F32x4>()) }.0;
    }
    // SAFETY: plain floats.
    let mut v: [f32; 4] = unsafe { zeroed() };
    let mut i = 0;
    while i < 4 {
        if (i as u32) < count {
            // SAFETY: i < count.
            v[i] = unsafe { mem::load(p.add(i)) };
        }
        i += 1;
    }
    v
}

/// The largest [`ranked`] of the logits first..end of a row, in this thread's share of a block's `threads`.
///
/// # Safety
/// The logits may be read.
#[inline(always)]
#[track_caller]
pub(crate) unsafe fn thread_max(row: *const f32, first: u32, end: u32, threads: u32) -> u64 {
    let mut most = 0;
    let mut at = first + 4 * thread::thread_idx_x();
    while at < end {
        // SAFETY: at < end.
        let v = unsafe { load4(row.add(at as usize), end - at) };
        let mut i = 0;
        while i < 4 {
            if at + (i as u32) < end {
                most = most.max(ranked(v[i], at + i as u32));
            }
            i += 1;
        }
        at += 4 * threads;
    }
    most
}

/// The largest value of a full warp, in every lane.
#[inline(always)]
#[track_caller]
pub(crate) fn warp_max(value: u64) -> u64 {
    let v = value.max(warp::shuffle_xor(value, 16));
    let v = v.max(warp::shuffle_xor(v, 8));
    let v = v.max(warp::shuffle_xor(v, 4));
    let v = v.max(warp::shuffle_xor(v, 2));
    v.max(warp::shuffle_xor(v, 1))
}

/// The largest value of a block of up to 32 warps, in every thread. `parts` has a place for each warp; the whole block
/// calls this, and waits before it uses them again.
#[inline(always)]
#[track_caller]
pub(crate) fn block_max(parts: Shared<u64>, value: u64, warps: u32) -> u64 {
    let most = warp_max(value);
    if warp::lane_id() == 0 {
        parts.add(thread::thread_idx_x() / 32).store(most);
    }
    thread::sync_threads();
    let mut of_warp = 0;
    if warp::lane_id() < warps {
        of_warp = parts.add(warp::lane_id()).load();
    }
    warp_max(of_warp)
}

/// The sum of the lanes up to and with this one.
#[inline(always)]
#[track_caller]
pub(crate) fn warp_scan(value: u64) -> u64 {
    let lane = warp::lane_id();
    let mut sum = value;
    let mut distance = 1;
    while distance < 32 {
        let below = warp::shuffle_up(sum, distance);
        if lane >= distance {
            sum += below;
        }
        distance *= 2;
    }
    sum
}
