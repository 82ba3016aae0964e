//! Attention of prompts on a paged cache: o = softmax(scale q k^T) v, causal, optionally in a sliding window, gated by sigmoid(gate).
//!
//! Tensors: [`crate::attn`]'s table. Order: docs/numerics.md, attn_prefill. K's and V's granules of G positions begin at multiples of
//! G: 128 where head_dim <= 128, else 64.
//!
//! A block does 64 query tokens of one sequence and one head, a warp 16 of them. Per granule:
//! ```text
//! K arrives | S = Q K^T, one chain a score | next K starts | m, P, l in registers | V arrives | O += P V | next V starts
//! ```
//! All four warps share K and V; a barrier stands before each first read and before each overwrite. P goes from S's registers to
//! the A operand of the second product as it lies. A head of 512 is two blocks, each with half of O and all of S.
//!
//! Grid: x over query heads, y over [`tiles`], z over parts of the head. Which sequence a tile belongs to is searched in cu_seqlens
//! on the device; tiles that no sequence fills end at once. Takes head_dim 64, 128, 256 and 512, any lengths, zero too.
//!
//! | version | what | measured |
//! | --- | --- | --- |
//! | plain | mma.sync, one stage of K and one of V | H200: 16/2 heads of 256, 2048 tokens 222.5 us, 16 % of the roof; 8192 2859.4 us, 19 % of the roof |

use cuda_std::{kernel, shared, thread, warp};
use half::{bf16, f16};

use crate::attn::{Args, Half, Sequence, Tile, quotient};
use steps::{Eight, Rows};

mod steps;

/// Threads of a block.
pub const THREADS: u32 = 128;
/// Query tokens of a block.
pub const TILE: u32 = 64;

/// Tiles of a launch: as many as `n_tok` tokens in `n_seq` sequences can make at most, however long each is.
pub const fn tiles(n_tok: u32, n_seq: u32) -> u32 {
    n_tok / TILE + n_seq
}

/// Positions of a granule.
pub const fn granule(head_dim: u32) -> u32 {
    if head_dim <= 128 { 128 } else { 64 }
}

/// Elements of a head of o that one block makes.
pub const fn part(head_dim: u32) -> u32 {
    if head_dim <= 256 { head_dim } else { 256 }
}

/// Dynamic shared memory of a block in bytes: a tile of q, a granule of k and of v.
pub const fn shared_bytes(head_dim: u32) -> u32 {
    2 * (TILE * head_dim + granule(head_dim) * (head_dim + part(head_dim)))
}

/// One block. G: a granule, SC * 64 positions; W: the elements of o that a block makes, OC * 64.
///
/// # Safety
/// The tensors have the shapes of [`crate::attn`]'s table, on the device, and n_seq > 0.
#[inline(always)]
unsafe fn body<T: Half, const D: u32, const G: u32, const W: u32, const SC: usize, const OC: usize>(args: &Args<T>) {
    const { assert!(granule(D) == G && part(D) == W && 64 * SC as u32 == G && 64 * OC as u32 == W) };
    let head = thread::block_idx_x();
    let kv_head = quotient(head, args.group);
    // The last tiles have the most positions to see, so they start first.
    let slot = thread::grid_dim_y() - 1 - thread::block_idx_y();
    let from = thread::block_idx_z() * W;
    // SAFETY: no sequences, no launch.
    let seq = unsafe { args.sequence(args.search(slot, TILE, 1)) };
    let first_row = (slot - seq.first / TILE - seq.index) * TILE;
    if first_row >= seq.tokens {
        return;
    }
    let (tid, lane) = (thread::thread_idx_x(), warp::lane_id());
    let warp_row = tid / 32 * 16;

    let base = shared::dynamic::<u8>();
    let q_tile = Tile::<D>::at(base);
    let k_tile = Tile::<D>::at(base.add(Tile::<D>::bytes(TILE)));
    let v_tile = Tile::<W>::at(base.add(Tile::<D>::bytes(TILE + G)));

    let block_first = args.admitted(seq, first_row).0;
    let block_last = args.admitted(seq, last_row_of(seq, first_row + TILE)).1;
    // SAFETY: rows beyond the sequence's tokens and positions beyond its end are not read, but zeroed.
    unsafe { fetch_queries::<T, D>(args, seq, head, first_row, q_tile, tid) };
    let mut at = block_first as u32 / G * G;
    if block_last >= 0 {
        // SAFETY: as above.
        unsafe {
            args.fetch::<D, D, G, THREADS>(args.k, seq, kv_head, at, 0, k_tile, tid);
            shared::copy_async_commit();
            args.fetch::<D, W, G, THREADS>(args.v, seq, kv_head, at, from, v_tile, tid);
        }
    }
    shared::copy_async_commit();

    let row = first_row + warp_row + lane / 4;
    let (top, bottom) = (args.admitted(seq, row), args.admitted(seq, row + 8));
    let mut rows = Rows {
        m: [f32::NEG_INFINITY; 2],
        l: [[0.0; 2]; 2],
        first: [top.0, bottom.0],
        last: [top.1, bottom.1],
    };
    let has_rows = first_row + warp_row < seq.tokens;
    // What the whole warp sees, by its first and its last row.
    let warp_first = args.admitted(seq, first_row + warp_row).0;
    let warp_last = args.admitted(seq, first_row + warp_row + 15).1;
    let all_first = args.admitted(seq, first_row + warp_row + 15).0;
    let all_last = args.admitted(seq, first_row + warp_row).1;
    // SAFETY: an array of floats of zero bits.
    let mut o: [Eight; OC] = unsafe { core::mem::zeroed() };

    while at as i32 <= block_last {
        let (low, high) = (at as i32, (at + G - 1) as i32);
        let seen = has_rows && low <= warp_last && high >= warp_first;
        shared::copy_async_wait::<1>();
        thread::sync_threads();
        // SAFETY: as above.
        let mut s: [Eight; SC] = unsafe { core::mem::zeroed() };
        if seen {
            steps::scores::<T, D, SC>(q_tile, k_tile, warp_row, lane, &mut s);
        }
        thread::sync_threads();
        at += G;
        if at as i32 <= block_last {
            // SAFETY: as above.
            unsafe { args.fetch::<D, D, G, THREADS>(args.k, seq, kv_head, at, 0, k_tile, tid) };
        }
        shared::copy_async_commit();
        if seen {
            if low < all_first || high > all_last {
                steps::mask(&rows, low as u32 + 2 * (lane % 4), &mut s);
            }
            steps::softmax(&mut rows, args.scale_log2, &mut s, &mut o);
        }
        shared::copy_async_wait::<1>();
        thread::sync_threads();
        if seen {
            steps::products::<T, W, SC, OC>(v_tile, lane, &s, &mut o);
        }
        thread::sync_threads();
        if at as i32 <= block_last {
            // SAFETY: as above.
            unsafe { args.fetch::<D, W, G, THREADS>(args.v, seq, kv_head, at, from, v_tile, tid) };
        }
        shared::copy_async_commit();
    }
    shared::copy_async_wait::<0>();
    thread::sync_threads();

    steps::finish(&rows, &mut o);
    steps::put::<T, D, OC>(q_tile, warp_row, lane, &o);
    // SAFETY: rows beyond the sequence's tokens are not written.
    unsafe { steps::store::<T, D, W>(args, seq, head, first_row + warp_row, from, q_tile, warp_row, lane) };
}

/// The last token before `end` that the sequence has.
#[inline(always)]
fn last_row_of(seq: Sequence, end: u32) -> u32 {
    (if end < seq.tokens { end } else { seq.tokens }) - 1
}

/// Starts copying the queries of a tile; rows that are no tokens become zeros.
///
/// # Safety
/// The tensors have the shapes of [`crate::attn`]'s table.
#[inline(always)]
unsafe fn fetch_queries<T: Half, const D: u32>(
    args: &Args<T>,
    seq: Sequence,
    head: u32,
    first_row: u32,
    tile: Tile<D>,
    tid: u32,
) {
    let mut i = tid;
    while i < TILE * (D / 8) {
        let (row, chunk) = (i / (D / 8), i % (D / 8));
        let token = first_row + row;
        let inside = token < seq.tokens;
        let at = (seq.first + token) as usize * args.q_row as usize + (head * args.q_head + chunk * 8) as usize;
        let source = if inside { args.q.wrapping_add(at) } else { args.q };
        // SAFETY: a token of the sequence has its row; of others nothing is read.
        unsafe { shared::copy_async16_zfill(tile.chunk(row, chunk), source.cast(), if inside { 16 } else { 0 }) };
        i += THREADS;
    }
}

/// One kernel a type and head dimension.
macro_rules! kernels {
    ($($name:ident: $t:ty, $d:literal, $g:literal, $w:literal, $sc:literal, $oc:literal;)*) => {$(
        /// Attention of prompts of one type and head dimension.
        ///
        /// # Safety
        /// The tensors have the shapes of [`crate::attn`]'s table, on the device, and n_seq > 0.
        #[kernel(threads = 128)]
        pub unsafe fn $name(args: Args<$t>) {
            // SAFETY: the caller's promise.
            unsafe { body::<$t, $d, $g, $w, $sc, $oc>(&args) }
        }
    )*};
}
kernels! {
    attn_prefill_bf16_d64: bf16, 64, 128, 64, 2, 1;
    attn_prefill_bf16_d128: bf16, 128, 128, 128, 2, 2;
    attn_prefill_bf16_d256: bf16, 256, 64, 256, 1, 4;
    attn_prefill_bf16_d512: bf16, 512, 64, 256, 1, 4;
    attn_prefill_f16_d64: f16, 64, 128, 64, 2, 1;
    attn_prefill_f16_d128: f16, 128, 128, 128, 2, 2;
    attn_prefill_f16_d256: f16, 256, 64, 256, 1, 4;
    attn_prefill_f16_d512: f16, 512, 64, 256, 1, 4;
}
