//! MoE router: the `top_k` largest of a token's E logits, and their softmax weights:
//! `ids[t] = top_k of logits[t]`, `weights[t][r] = exp(logits[t][ids[t][r]] - max) / sum`.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | logits | `[n_tok][E]` | f32 |
//! | ids | `[n_tok][top_k]`, in rank order | i32 |
//! | weights | `[n_tok][top_k]` | f32 |
//!
//! # Canonical order
//! docs/numerics.md, "Mixture of experts". Rank: logit descending, NaN below everything, the lower index at ties (-0 and +0
//! tie). max is the logit of rank 0. The sum is over all experts as a row reduction of 256 slots, or, normalised, a chain
//! over the chosen in rank order. One f32 division a weight; a NaN is stored as 0x7FFFFFFF.
//!
//! # How
//! One warp a token, no shared memory and no barrier. Lane l holds the vectors of 8 logits l, l + 32, ...: the slots of the
//! row reduction that it owns, so the tree's levels above 16 are its own additions. Logits become integer keys whose order is
//! the rank order; each rank is two warp reductions (the largest key, then the lowest index that has it), and the winner's key
//! is struck out. Every lane can make the logit from the key again, so all of them know all chosen logits; lane r keeps rank r.
//!
//! *Shapes.* Any n_tok; E up to 1024 (kernels for 256, 512 and 1024); top_k up to 32 and E.
//!
//! # Versions
//! | version | what | H200, us |
//! | --- | --- | --- |
//! | 1 | as above | H200: 256 experts, 1 token 2.4 us, 0 % of the roof; 8192 12.8 us, 17 % of the roof |

use cuda_std::float::exact;
use cuda_std::vec::F32x4;
use cuda_std::{float, kernel, mem, thread, warp};

/// Threads of a block: four tokens.
pub const THREADS: u32 = 128;
/// The most experts it takes.
pub const MAX_EXPERTS: u32 = 1024;
/// The most experts a token may choose.
pub const MAX_TOP_K: u32 = 32;

/// Thread blocks of a launch.
pub fn grid(n_tok: u32) -> u32 {
    n_tok.div_ceil(THREADS / 32)
}

/// An integer that is larger for a logit of a better rank: 1 for a NaN, more for everything else.
#[inline(always)]
fn key(logit: f32) -> u32 {
    let bits = logit.to_bits();
    let magnitude = bits & 0x7FFF_FFFF;
    if magnitude > 0x7F80_0000 {
        1
    } else if magnitude == 0 {
        0x8000_0000
    } else if bits >> 31 == 1 {
        !bits
    } else {
        bits | 0x8000_0000
    }
}

/// The logit of a key; +0 for either zero.
#[inline(always)]
fn logit(key: u32) -> f32 {
    if key == 1 {
        float::CANONICAL_NAN
    } else if key >> 31 == 1 {
        f32::from_bits(key & 0x7FFF_FFFF)
    } else {
        f32::from_bits(!key)
    }
}

/// One warp's token. `V`: vectors of 8 logits a lane.
///
/// # Safety
/// The tensors have the shapes of the module's table, and `experts <= 256 V`.
#[inline(always)]
unsafe fn body<const V: usize>(
    logits: *const f32,
    ids: *mut i32,
    weights: *mut f32,
    n_tok: u32,
    experts: u32,
    top_k: u32,
    normalise: u32,
) {
    let lane = warp::lane_id();
    let token = thread::block_idx_x() * (THREADS / 32) + thread::thread_idx_x() / 32;
    if token >= n_tok {
        return;
    }
    // SAFETY: plain numbers, for which all zeroes is a value. Key 0 is a logit that does not exist.
    let (mut x, mut keys): ([[f32; 8]; V], [[u32; 8]; V]) = unsafe { core::mem::zeroed() };
    // SAFETY: the token exists.
    let row = unsafe { logits.add(token as usize * experts as usize) };
    // By macro: too large for LLVM to unroll.
    macro_rules! load_each {
        ($($v:literal)*) => {
            $(if $v < V {
                // SAFETY: the row has `experts` logits.
                (x[$v % V], keys[$v % V]) = unsafe { load(row, 8 * (lane + 32 * $v), experts) };
            })*
        };
    }
    load_each!(0 1 2 3);

    // The best rank's logit is the maximum of the softmax; its key is not yet struck out.
    let max = logit(warp::reduce_max_u32(best(&keys, lane).0));
    let mut sum = 0.0f32;
    if normalise == 0 {
        sum = row_sum(&x, &keys, max);
    }
    let (mut my_id, mut my_e) = (0u32, 0.0f32);
    let mut rank = 0;
    while rank < top_k {
        let (mine, at) = best(&keys, lane);
        let top = warp::reduce_max_u32(mine);
        let id = warp::reduce_min_u32(if mine == top { at } else { u32::MAX });
        let mut v = 0;
        while v < V {
            let mut j = 0;
            while j < 8 {
                if 8 * (lane + 32 * v as u32) + j as u32 == id {
                    keys[v][j] = 0;
                }
                j += 1;
            }
            v += 1;
        }
        let e = exact::exp(logit(top) - max);
        if normalise != 0 {
            sum += e;
        }
        if lane == rank {
            (my_id, my_e) = (id, e);
        }
        rank += 1;
    }
    if lane < top_k {
        let weight = my_e / sum;
        let at = token as usize * top_k as usize + lane as usize;
        // SAFETY: token < n_tok and the rank is below top_k.
        unsafe {
            mem::store(ids.add(at), my_id as i32);
            mem::store(
                weights.add(at),
                if weight.is_nan() { float::CANONICAL_NAN } else { weight },
            );
        }
    }
}

/// Eight logits from `first` and their keys; +0 and 0 where there are none.
///
/// # Safety
/// The row has `experts` logits, and is aligned to 16 bytes if they are a multiple of 4.
#[inline(always)]
unsafe fn load(row: *const f32, first: u32, experts: u32) -> ([f32; 8], [u32; 8]) {
    // SAFETY: plain numbers, for which all zeroes is a value.
    let (mut x, mut keys): ([f32; 8], [u32; 8]) = unsafe { core::mem::zeroed() };
    if experts.is_multiple_of(4) {
        let mut half = 0;
        while half < 2 {
            if first + 4 * (half as u32) < experts {
                // SAFETY: four logits from a multiple of four below `experts`, which is one itself.
                let F32x4(four) = unsafe { mem::load(row.add(first as usize + 4 * half).cast::<F32x4>()) };
                let mut j = 0;
                while j < 4 {
                    x[4 * half + j] = four[j];
                    keys[4 * half + j] = key(four[j]);
                    j += 1;
                }
            }
            half += 1;
        }
    } else {
        let mut j = 0;
        while j < 8 {
            if first + (j as u32) < experts {
                // SAFETY: the expert exists.
                x[j] = unsafe { mem::load(row.add(first as usize + j)) };
                keys[j] = key(x[j]);
            }
            j += 1;
        }
    }
    (x, keys)
}

/// The lane's largest key and the lowest expert that has it.
#[inline(always)]
fn best<const V: usize>(keys: &[[u32; 8]; V], lane: u32) -> (u32, u32) {
    let (mut key, mut at) = (0, 0);
    let mut v = 0;
    while v < V {
        let mut j = 0;
        while j < 8 {
            if keys[v][j] > key {
                key = keys[v][j];
                at = 8 * (lane + 32 * v as u32) + j as u32;
            }
            j += 1;
        }
        v += 1;
    }
    (key, at)
}

/// The sum of exp(x - max) over the experts there are (keys that are not 0), by the row reduction of 256 slots.
#[inline(always)]
fn row_sum<const V: usize>(x: &[[f32; 8]; V], keys: &[[u32; 8]; V], max: f32) -> f32 {
    // SAFETY: floats, for which all zeroes is a value. Slot lane + 32 v; those beyond V stay +0.
    let mut slots: [f32; 4] = unsafe { core::mem::zeroed() };
    // By macro: with exp inside, these loops are too large for LLVM to unroll, and the arrays would go to local memory.
    macro_rules! chain {
        ($v:literal: $($j:literal)*) => {
            if $v < V {
                $(if keys[$v % V][$j] != 0 {
                    slots[$v] += exact::exp(x[$v % V][$j] - max);
                })*
            }
        };
    }
    chain!(0: 0 1 2 3 4 5 6 7);
    chain!(1: 0 1 2 3 4 5 6 7);
    chain!(2: 0 1 2 3 4 5 6 7);
    chain!(3: 0 1 2 3 4 5 6 7);
    // Levels 64 and 32 of the tree (128 adds +0: at most 128 slots have elements).
    slots[0] += slots[2];
    slots[1] += slots[3];
    slots[0] += slots[1];
    warp::reduce_sum_f32(slots[0])
}

/// One kernel a line: name, vectors of 8 logits a lane.
macro_rules! routers {
    ($($name:ident($v:literal);)*) => {
        $(
            /// Routes `n_tok` tokens; see the module for its parameters and their limits.
            ///
            /// # Safety
            /// The tensors have the shapes of the module's table, on the device; `experts` is at most 256 times the
            /// kernel's vectors, `top_k` at most 32 and `experts`.
            #[kernel(threads = 128)]
            pub unsafe fn $name(
                logits: *const f32,
                ids: *mut i32,
                weights: *mut f32,
                n_tok: u32,
                experts: u32,
                top_k: u32,
                normalise: u32,
            ) {
                // SAFETY: the caller's promise.
                unsafe { body::<$v>(logits, ids, weights, n_tok, experts, top_k, normalise) }
            }
        )*
    };
}

routers! {
    moe_router_e256(1);
    moe_router_e512(2);
    moe_router_e1024(4);
}
