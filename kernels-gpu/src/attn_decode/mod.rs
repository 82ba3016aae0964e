//! Attention of generated and drafted tokens on a paged cache: o = softmax(scale q k^T) v, causal, optionally in a sliding window, gated by
//! sigmoid(gate).
//!
//! Tensors: [`crate::attn`]'s table, and two of partial results, row = token * q_heads + head:
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | part_o | `[n_tok * q_heads][n_splits][head_dim]` | f32 |
//! | part_ml | `[n_tok * q_heads][n_splits][2]`: m and l | f32 |
//!
//! Order: docs/numerics.md, attn_decode. Two kernels:
//!
//! `attn_decode_*`: a block does one split of 256 positions of one sequence and KV head for eight columns: query tokens times the
//! heads of the group. A warp does one unit of 64. Operands are swapped, K and V^T are the 16-row A, so eight columns fill the B:
//! ```text
//! ring of stages of 16 positions: 4 of K, then 4 of V | S^T = K Q^T | m, l over the lanes | P^T through shared memory | O^T = V^T P^T
//! ```
//! Each warp has a ring of its own, filled by cp.async; there is no barrier until its partial result is in shared memory. Then the
//! block folds the four units. Splits that no column sees end at once and are not written.
//!
//! `attn_decode_fold_*`: a block does 32 elements of one row: eight threads fold a span's four splits, 32 spans at a time; the first
//! eight threads fold the spans.
//!
//! Grid: [`grid`] and [`fold_grid`], from the number of tokens, the longest sequence's tokens and the cache's capacity. Takes head_dim
//! 64, 128, 256 and 512, any lengths, zero tokens too.
//!
//! | version | what | measured |
//! | --- | --- | --- |
//! | plain | mma.sync, a warp a unit, eight columns | H200: 16/2 heads of 256, 8192 positions 13.7 us, 29 % of the roof; 32768 26.6 us, 60 % of the roof |

use cuda_std::{kernel, shared, thread, warp};
use half::{bf16, f16};

use crate::attn::{Args, Half, Tile, quotient};
use crate::unroll::unroll;
use fold::Partial;
use unit::Columns;

mod fold;
mod unit;

/// Threads of a block of `attn_decode_*`: a warp a unit.
pub const THREADS: u32 = 128;
/// Threads of a block of `attn_decode_fold_*`.
pub const FOLD_THREADS: u32 = 256;
/// Positions of a unit.
pub const UNIT: u32 = 64;
/// Positions of a split.
pub const SPLIT: u32 = 256;
/// Positions of a span.
pub const SPAN: u32 = 1024;
/// Query tokens times heads of a group that a block does.
pub const COLUMNS: u32 = 8;

/// Splits of a cache of `capacity` positions a sequence.
pub const fn splits(capacity: u32) -> u32 {
    capacity.div_ceil(SPLIT)
}

/// The grid of `attn_decode_*`. `max_tok`: query tokens of a sequence at most; `capacity`: positions of the longest sequence at most.
pub const fn grid(n_seq: u32, kv_heads: u32, group: u32, max_tok: u32, capacity: u32) -> (u32, u32, u32) {
    (kv_heads * (max_tok * group).div_ceil(COLUMNS), splits(capacity), n_seq)
}

/// The grid of `attn_decode_fold_*`.
pub const fn fold_grid(n_tok: u32, q_heads: u32, head_dim: u32) -> (u32, u32, u32) {
    (q_heads * (head_dim / fold::SLICE), n_tok, 1)
}

/// Stages of a warp's ring.
const fn stages(head_dim: u32) -> u32 {
    if head_dim <= 128 { 4 } else { 3 }
}

/// Bytes of a warp's ring.
const fn ring_bytes(head_dim: u32) -> u32 {
    stages(head_dim) * 32 * head_dim
}

/// Bytes before the rings: a tile of queries, P of four warps, m and l of four warps.
const fn fixed_bytes(head_dim: u32) -> u32 {
    16 * head_dim + 4 * 1024 + 4 * 64
}

/// Dynamic shared memory of a block of `attn_decode_*` in bytes.
pub const fn shared_bytes(head_dim: u32) -> u32 {
    fixed_bytes(head_dim) + 4 * ring_bytes(head_dim)
}

/// Where partial results go.
#[derive(Clone, Copy)]
struct Parts {
    o: *mut f32,
    ml: *mut f32,
    n_splits: u32,
}

/// One block of `attn_decode_*`. OC: head_dim / 64; BEHIND: stages less two.
///
/// # Safety
/// The tensors have the shapes of the module's tables, on the device, and the launch has [`grid`].
#[inline(always)]
unsafe fn body<T: Half, const D: u32, const OC: usize, const BEHIND: u32>(args: &Args<T>, parts: Parts) {
    const { assert!(64 * OC as u32 == D && BEHIND + 2 == stages(D)) };
    let tiles = quotient(thread::grid_dim_x(), args.kv_heads);
    let kv_head = quotient(thread::block_idx_x(), tiles);
    let first_column = (thread::block_idx_x() - kv_head * tiles) * COLUMNS;
    let split = thread::block_idx_y();
    // SAFETY: z is a sequence.
    let seq = unsafe { args.sequence(thread::block_idx_z()) };
    let n_columns = seq.tokens * args.group;
    if first_column >= n_columns {
        return;
    }
    let columns = Columns {
        first: first_column,
        end: if first_column + COLUMNS < n_columns {
            first_column + COLUMNS
        } else {
            n_columns
        },
    };
    // What all columns together see, from the first token's first position to the last token's last.
    let low = args.admitted(seq, quotient(columns.first, args.group)).0;
    let high = args.admitted(seq, quotient(columns.end - 1, args.group)).1;
    if !overlaps(split, SPLIT, low, high) {
        return;
    }
    let (tid, lane, warp) = (thread::thread_idx_x(), warp::lane_id(), thread::thread_idx_x() / 32);
    let base = shared::dynamic::<u8>();
    let q_tile = Tile::<D>::at(base);
    let p_tile = base.add(16 * D + warp * 1024);
    let ml = base.add(16 * D + 4096).cast::<f32>();
    let rings = base.add(fixed_bytes(D));
    let ring = rings.add(warp * ring_bytes(D));

    // SAFETY: columns that do not exist become zeros.
    unsafe { unit::fetch_queries::<T, D>(args, seq, kv_head, columns, q_tile, tid) };
    let unit = split * (SPLIT / UNIT) + warp;
    let live = overlaps(unit, UNIT, low, high);
    let fetch = |chunk: u32| {
        if live && chunk < 8 {
            let tile = Tile::<D>::at(ring.add(chunk % (BEHIND + 2) * 32 * D));
            let cache = if chunk < 4 { args.k } else { args.v };
            // SAFETY: positions outside the sequence become zeros.
            unsafe { unit::fetch::<T, D>(args, cache, seq, kv_head, unit * UNIT + chunk % 4 * 16, tile, lane) };
        }
        shared::copy_async_commit();
    };
    // The queries go with the first stage.
    fetch(0);
    fetch(1);
    if BEHIND == 2 {
        fetch(2);
    }
    shared::copy_async_wait::<BEHIND>();
    thread::sync_threads();
    if live {
        let t = lane % 4;
        let pair = [columns.get(args, seq, 2 * t), columns.get(args, seq, 2 * t + 1)];
        // SAFETY: arrays of floats of zero bits.
        let (mut s, mut o): ([[f32; 4]; 4], [[[f32; 4]; 4]; OC]) = unsafe { core::mem::zeroed() };
        unroll!(c < 4 => {
            shared::copy_async_wait::<BEHIND>();
            warp::sync();
            fetch(c as u32 + BEHIND + 1);
            let tile = Tile::<D>::at(ring.add(c as u32 % (BEHIND + 2) * 32 * D));
            s[c] = unit::scores::<T, D>(tile, q_tile, lane);
        });
        let sums = unit::softmax(&pair, (unit * UNIT + lane / 4) as i32, args.scale_log2, &mut s);
        let p = unit::transposed::<T>(&s, p_tile, lane);
        unroll!(c < 4 => {
            shared::copy_async_wait::<BEHIND>();
            warp::sync();
            fetch(c as u32 + BEHIND + 5);
            let tile = Tile::<D>::at(ring.add((c as u32 + 4) % (BEHIND + 2) * 32 * D));
            unit::products::<T, D, OC>(tile, p[c], lane, &mut o);
        });
        // All of V has been read: the ring is free.
        warp::sync();
        unit::put::<D, OC>(ring.cast(), &o, lane);
        if lane < 4 {
            unroll!(e < 2 => {
                let at = ml.add((warp * COLUMNS + 2 * lane + e as u32) * 2);
                at.store(sums.m[e]);
                at.add(1).store(sums.l[e]);
            });
        }
    }
    thread::sync_threads();

    // The units of the split, ascending: four elements of a column at a time.
    let q_heads = args.kv_heads * args.group;
    let mut i = tid;
    while i < COLUMNS * (D / 4) {
        let (in_tile, j) = (i / (D / 4), i % (D / 4) * 4);
        let column = columns.get(args, seq, in_tile);
        let mut sum = Partial::NOTHING;
        unroll!(w < 4 => {
            let w = w as u32;
            if overlaps(split * (SPLIT / UNIT) + w, UNIT, column.first, column.last) {
                let o = rings.add(w * ring_bytes(D)).cast::<f32>().add(in_tile * unit::pitch(D) + j);
                sum.fold(Partial::load(ml.add((w * COLUMNS + in_tile) * 2), o));
            }
        });
        if sum.some {
            let token = seq.first + column.token;
            let row = token as usize * q_heads as usize + (kv_head * args.group + column.in_group) as usize;
            // SAFETY: the row has its splits.
            unsafe { sum.store::<D>(parts, row, split, j) };
        }
        i += THREADS;
    }
}

/// Whether part `index` of `size` positions has one from `low` to `high`.
#[inline(always)]
fn overlaps(index: u32, size: u32, low: i32, high: i32) -> bool {
    (index * size) as i32 <= high && ((index + 1) * size) as i32 > low && low <= high
}

/// Two kernels a type and head dimension.
macro_rules! kernels {
    ($($name:ident, $fold:ident: $t:ty, $d:literal, $oc:literal, $behind:literal;)*) => {$(
        /// The splits of decoding attention, of one type and head dimension.
        ///
        /// # Safety
        /// The tensors have the shapes of the module's tables, on the device, and the launch has [`grid`].
        #[kernel(threads = 128)]
        pub unsafe fn $name(args: Args<$t>, part_o: *mut f32, part_ml: *mut f32, n_splits: u32) {
            // SAFETY: the caller's promise.
            unsafe { body::<$t, $d, $oc, $behind>(&args, Parts { o: part_o, ml: part_ml, n_splits }) }
        }

        /// The rows of decoding attention from their splits, of one type and head dimension.
        ///
        /// # Safety
        /// As the splits' kernel, which ran before; the launch has [`fold_grid`].
        #[kernel(threads = 256)]
        pub unsafe fn $fold(args: Args<$t>, part_o: *mut f32, part_ml: *mut f32, n_splits: u32) {
            // SAFETY: the caller's promise.
            unsafe { fold::body::<$t, $d>(&args, Parts { o: part_o, ml: part_ml, n_splits }) }
        }
    )*};
}
kernels! {
    attn_decode_bf16_d64, attn_decode_fold_bf16_d64: bf16, 64, 1, 2;
    attn_decode_bf16_d128, attn_decode_fold_bf16_d128: bf16, 128, 2, 2;
    attn_decode_bf16_d256, attn_decode_fold_bf16_d256: bf16, 256, 4, 1;
    attn_decode_bf16_d512, attn_decode_fold_bf16_d512: bf16, 512, 8, 1;
    attn_decode_f16_d64, attn_decode_fold_f16_d64: f16, 64, 1, 2;
    attn_decode_f16_d128, attn_decode_fold_f16_d128: f16, 128, 2, 2;
    attn_decode_f16_d256, attn_decode_fold_f16_d256: f16, 256, 4, 1;
    attn_decode_f16_d512, attn_decode_fold_f16_d512: f16, 512, 8, 1;
}
