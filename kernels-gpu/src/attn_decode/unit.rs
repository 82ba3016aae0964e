//! One unit of 64 positions by one warp.

use cuda_std::float::exact::exp2a;
use cuda_std::float::{ceil, fma, max_nan};
use cuda_std::shared::{self, Shared};
use cuda_std::warp;

use super::{COLUMNS, THREADS};
use crate::attn::{Args, Half, Sequence, Tile, quotient};
use crate::unroll::unroll;

/// The columns of a block: column c is head c mod group of token c / group.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    pub(super) first: u32,
    pub(super) end: u32,
}

/// One column.
#[derive(Clone, Copy)]
pub(super) struct Column {
    /// Its token in the sequence.
    pub(super) token: u32,
    /// Its head in the group.
    pub(super) in_group: u32,
    /// The first position it sees.
    pub(super) first: i32,
    /// The last one; before the first where there is no such column.
    pub(super) last: i32,
}

impl Columns {
    /// Column `i` of the block.
    #[inline(always)]
    pub(super) fn get<T: Half>(self, args: &Args<T>, seq: Sequence, i: u32) -> Column {
        let column = self.first + i;
        let token = quotient(column, args.group);
        let (first, last) = args.admitted(seq, token);
        Column {
            token,
            in_group: column - token * args.group,
            first,
            last: if column < self.end { last } else { first - 1 },
        }
    }
}

/// Starts copying the queries of a block's columns; those that do not exist become zeros.
///
/// # Safety
/// The tensors have the shapes of [`crate::attn`]'s table.
#[inline(always)]
pub(super) unsafe fn fetch_queries<T: Half, const D: u32>(
    args: &Args<T>,
    seq: Sequence,
    kv_head: u32,
    columns: Columns,
    tile: Tile<D>,
    tid: u32,
) {
    let mut i = tid;
    while i < COLUMNS * (D / 8) {
        let (row, chunk) = (i / (D / 8), i % (D / 8));
        let column = columns.get(args, seq, row);
        let inside = columns.first + row < columns.end;
        let head = kv_head * args.group + column.in_group;
        let at = (seq.first + column.token) as usize * args.q_row as usize + (head * args.q_head + chunk * 8) as usize;
        let source = if inside { args.q.wrapping_add(at) } else { args.q };
        // SAFETY: a column that exists has its query; of others nothing is read.
        unsafe { shared::copy_async16_zfill(tile.chunk(row, chunk), source.cast(), if inside { 16 } else { 0 }) };
        i += THREADS;
    }
}

/// Starts copying 16 positions of a cache, from a multiple of 16 on, by one warp. A page has at least 16, so they lie together.
/// Those outside the sequence become zeros: whatever the page holds there is not read.
///
/// # Safety
/// The tensors have the shapes of [`crate::attn`]'s table; the stage is free.
#[inline(always)]
pub(super) unsafe fn fetch<T: Half, const D: u32>(
    args: &Args<T>,
    cache: *const T,
    seq: Sequence,
    kv_head: u32,
    first: u32,
    tile: Tile<D>,
    lane: u32,
) {
    let some = (first as i32) < seq.len;
    let start = if some {
        // SAFETY: the table has an entry for a page that the sequence has positions in.
        unsafe { args.row_of::<D>(seq, kv_head, first) }
    } else {
        0
    };
    let mut i = lane;
    while i < 16 * (D / 8) {
        let (row, chunk) = (i / (D / 8), i % (D / 8));
        let inside = ((first + row) as i32) < seq.len;
        let source = if inside {
            cache.wrapping_add(start + (row * D + chunk * 8) as usize)
        } else {
            cache
        };
        // SAFETY: inside the sequence the row exists; outside nothing is read.
        unsafe { shared::copy_async16_zfill(tile.chunk(row, chunk), source.cast(), if inside { 16 } else { 0 }) };
        i += 32;
    }
}

/// S^T of 16 positions and eight columns, a chain over head_dim each: lane 4 g + t has positions g and g + 8 of columns 2 t and
/// 2 t + 1.
#[inline(always)]
pub(super) fn scores<T: Half, const D: u32>(k: Tile<D>, q: Tile<D>, lane: u32) -> [f32; 4] {
    let mut s = [[0.0f32; 4]];
    let mut step = 0;
    while step < D / 16 {
        // Two steps at a time: the queries' four matrices are B of both.
        let [b0, b1, b2, b3] = shared::ldmatrix_x4(q.chunk(lane & 7, 2 * step + (lane >> 3)));
        let a = shared::ldmatrix_x4(k.rows_first(0, step, lane));
        s = T::mma(&[a], &[[b0, b1]], &s);
        let a = shared::ldmatrix_x4(k.rows_first(0, step + 1, lane));
        s = T::mma(&[a], &[[b2, b3]], &s);
        step += 2;
    }
    s[0]
}

/// m and l of a lane's two columns.
pub(super) struct Sums {
    pub(super) m: [f32; 2],
    pub(super) l: [f32; 2],
}

/// The columns' maxima and P in place of the scores. `position`: that of the lane's first score.
#[inline(always)]
pub(super) fn softmax(columns: &[Column; 2], position: i32, scale_log2: f32, s: &mut [[f32; 4]; 4]) -> Sums {
    let mut sums = Sums {
        m: [0.0; 2],
        l: [0.0; 2],
    };
    unroll!(e < 2 => {
        let mut top = f32::NEG_INFINITY;
        unroll!(c < 4 => {
            unroll!(h < 2 => {
                let p = position + 16 * c as i32 + 8 * h as i32;
                // -inf is no maximum, and its P is +0.
                let seen = p >= columns[e].first && p <= columns[e].last;
                let score = if seen { s[c][2 * h + e] } else { f32::NEG_INFINITY };
                s[c][2 * h + e] = score;
                top = max_nan(top, score);
            });
        });
        top = max_nan(top, warp::shuffle_xor(top, 4));
        top = max_nan(top, warp::shuffle_xor(top, 8));
        top = max_nan(top, warp::shuffle_xor(top, 16));
        // The scale is positive, so the largest product is that of the largest score.
        let m = ceil(top * scale_log2);
        // The lane's positions are g modulo 8: its sum is chain g of l.
        let mut l = 0.0f32;
        unroll!(c < 4 => {
            unroll!(h < 2 => {
                let p = exp2a(fma(s[c][2 * h + e], scale_log2, -m));
                s[c][2 * h + e] = p;
                l += p;
            });
        });
        l += warp::shuffle_xor(l, 4);
        l += warp::shuffle_xor(l, 8);
        l += warp::shuffle_xor(l, 16);
        sums.m[e] = m;
        sums.l[e] = l;
    });
    sums
}

/// P^T as B of the products, 16 positions each: S^T has positions in rows, B wants them along k. Through 1 KiB of the warp's
/// own, 16 bytes a position.
#[inline(always)]
pub(super) fn transposed<T: Half>(p: &[[f32; 4]; 4], tile: Shared<u8>, lane: u32) -> [[u32; 2]; 4] {
    let own = tile.cast::<u32>().add(lane);
    unroll!(c < 4 => {
        own.add(64 * c as u32).store(T::pack(p[c][0], p[c][1]));
        own.add(64 * c as u32 + 32).store(T::pack(p[c][2], p[c][3]));
    });
    warp::sync();
    let [a0, a1, b0, b1] = shared::ldmatrix_x4_trans(tile.add(lane * 16));
    let [c0, c1, d0, d1] = shared::ldmatrix_x4_trans(tile.add(512 + lane * 16));
    [[a0, a1], [b0, b1], [c0, c1], [d0, d1]]
}

/// O^T += V^T P^T over 16 positions: lane 4 g + t has elements g and g + 8 of 16, of columns 2 t and 2 t + 1.
#[inline(always)]
pub(super) fn products<T: Half, const D: u32, const OC: usize>(
    v: Tile<D>,
    p: [u32; 2],
    lane: u32,
    o: &mut [[[f32; 4]; 4]; OC],
) {
    unroll!(n < 8 => {
        if n < OC {
            let a = |i: u32| shared::ldmatrix_x4_trans(v.columns_first(0, 4 * n as u32 + i, lane));
            o[n] = T::mma(&[a(0), a(1), a(2), a(3)], &[p, p, p, p], &o[n]);
        }
    });
}

/// Floats from a column to the next in a warp's partial O: four more than head_dim, so that the columns of a store lie in different banks.
pub(super) const fn pitch(head_dim: u32) -> u32 {
    head_dim + 4
}

/// O to shared memory, `[column][head_dim]`.
#[inline(always)]
pub(super) fn put<const D: u32, const OC: usize>(to: Shared<f32>, o: &[[[f32; 4]; 4]; OC], lane: u32) {
    let own = to.add(2 * (lane % 4) * pitch(D) + lane / 4);
    unroll!(n < 8 => {
        if n < OC {
            unroll!(i < 4 => {
                let at = own.add((64 * n + 16 * i) as u32);
                at.store(o[n][i][0]);
                at.add(pitch(D)).store(o[n][i][1]);
                at.add(8).store(o[n][i][2]);
                at.add(pitch(D) + 8).store(o[n][i][3]);
            });
        }
    });
}
