//! How the norms go over their rows: sum of squares, reciprocal root of the mean, then every vector once more.
//!
//! Short rows (256 elements at most) take a half or a whole warp each, one vector a lane. Longer ones take a block:
//! thread t owns slot t of the row sum, holds its first vectors in registers and reads the others again.

use core::mem::zeroed;
use cuda_std::shared::Shared;
use cuda_std::vec::U32x4;
use cuda_std::{float, thread};

use crate::rows::{self, Half, VECTOR};

/// Threads of a block of every norm.
pub(crate) const THREADS: u32 = 256;
/// The longest row that a warp takes.
pub(crate) const WARP_ROW: u32 = 256;
/// Vectors of a row that a thread of a block holds: rows of 4096 are read once.
const HELD: u32 = 2;

/// Lanes that take a row of `n` elements; 0 where it takes a block.
#[inline(always)]
pub(crate) const fn lanes(n: u32) -> u32 {
    if n <= WARP_ROW / 2 {
        16
    } else if n <= WARP_ROW {
        32
    } else {
        0
    }
}

/// One row's place: its token and head.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// The token.
    pub(crate) token: usize,
    /// The first element of the head in the token's row.
    pub(crate) first: usize,
}

/// Row `row` of `heads` heads of `n` elements a token.
#[inline(always)]
pub(crate) fn place(row: u32, heads: u32, n: u32) -> Place {
    // Never 0; the compiler is told, so that it makes no check of the division.
    let heads = heads.max(1);
    Place {
        token: (row / heads) as usize,
        first: (row % heads) as usize * n as usize,
    }
}

/// 1 / sqrt(sum / n + eps).
#[inline(always)]
fn rstd(sum: f32, n: u32, eps: f32) -> f32 {
    float::exact::rsqrt(sum / n as f32 + eps)
}

/// Norms short rows: `first(place, v, count)` gives vector v, `finish(place, v, count, x, rstd)` stores its result.
#[inline(always)]
#[track_caller]
pub(crate) fn short_rows<T: Half>(
    rows: u32,
    heads: u32,
    n: u32,
    eps: f32,
    first: impl Fn(Place, u32, u32) -> U32x4,
    finish: impl Fn(Place, u32, u32, [f32; 8], f32),
) {
    let lanes = if n <= WARP_ROW / 2 { 16 } else { 32 };
    let thread = thread::index_1d();
    let (row, v) = (thread / lanes, thread % lanes);
    // Lanes without a vector stay for the shuffles.
    let live = row < rows && v * VECTOR < n;
    let at = place(row, heads, n);
    let count = n.wrapping_sub(v * VECTOR);
    // SAFETY: plain floats.
    let mut x: [f32; 8] = unsafe { zeroed() };
    if live {
        x = rows::widen::<T>(first(at, v, count));
    }
    let sum = rows::warp_sum(rows::add_squares(x, 0.0), lanes);
    if live {
        finish(at, v, count, x, rstd(sum, n, eps));
    }
}

/// Norms the row of this block: as [`short_rows`], and `again` gives a vector that `first` has given before. Takes
/// [`rows::SUM_BYTES`] of shared memory.
#[inline(always)]
#[track_caller]
pub(crate) fn long_row<T: Half>(
    slots: Shared<f32>,
    heads: u32,
    n: u32,
    eps: f32,
    first: impl Fn(Place, u32, u32) -> U32x4,
    again: impl Fn(Place, u32, u32) -> U32x4,
    finish: impl Fn(Place, u32, u32, [f32; 8], f32),
) {
    let (tid, at) = (thread::thread_idx_x(), place(thread::block_idx_x(), heads, n));
    let vectors = n.div_ceil(VECTOR);
    // A thread's vectors number 0 and 1 are held, by name: an array of them would end up in local memory.
    let held = |v: u32| {
        if v < vectors {
            first(at, v, n - v * VECTOR)
        } else {
            // SAFETY: plain integers.
            unsafe { zeroed() }
        }
    };
    let (v0, v1) = (tid, tid + THREADS);
    let (held0, held1) = (held(v0), held(v1));
    let sum = rows::add_squares(rows::widen::<T>(held0), 0.0);
    let mut sum = rows::add_squares(rows::widen::<T>(held1), sum);
    let mut v = tid + THREADS * HELD;
    while v < vectors {
        sum = rows::add_squares(rows::widen::<T>(first(at, v, n - v * VECTOR)), sum);
        v += THREADS;
    }
    let rstd = rstd(rows::block_sum(slots, sum), n, eps);
    // One place that finishes: a long body in several is not inlined, and its arguments go through local memory.
    let mut v = tid;
    while v < vectors {
        let x = if v == v0 {
            held0
        } else if v == v1 {
            held1
        } else {
            again(at, v, n - v * VECTOR)
        };
        finish(at, v, n - v * VECTOR, rows::widen::<T>(x), rstd);
        v += THREADS;
    }
}
