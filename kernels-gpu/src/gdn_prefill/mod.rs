//! The gated delta net over prompts, in chunks of 64 tokens: with G the sums of g in a chunk and D_ij = exp(G_i - G_j),
//! `r = v - e^G (k S); n = (I + tril(beta k k^T D, -1))^-1 (beta r); o = scale (e^G (q S) + tril(q k^T D) n);
//! S = e^G_63 S + sum (e^(G_63 - G_j) n_j) k_j^T`.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | q, k | `[n_tok]` rows, `q_stride` and `k_stride` elements apart: `[k_heads][128]` | bf16 |
//! | v | `[n_tok]` rows, `v_stride` elements apart: `[v_heads][128]` | bf16 |
//! | g, beta | `[n_tok][v_heads]` ([`fn@gdn_prefill_chunks`]) | f32 |
//! | a, b; A_log, dt_bias | `[n_tok][v_heads]`; `[v_heads]` ([`fn@gdn_prefill_chunks_fused`]) | bf16; f32 |
//! | cu_seqlens | `[n_seq + 1]` | i32 |
//! | chunks | scratch, `[tile slots][v_heads][`[`CHUNK_BYTES`]`]` | u8 |
//! | state | `[slots][v_heads][128][128]`, read and written | f32 |
//! | state_in, state_out | `[n_seq]` slots; -1: zeros, not written | i32 |
//! | o | `[n_tok][v_heads][128]` | bf16 |
//!
//! # Canonical order
//! docs/numerics.md, "gdn_prefill". It depends on a token's place in its sequence alone, so batches, slices of V and splits of a
//! prompt at multiples of 64 change nothing (level L2).
//!
//! # How: two launches
//! 1. `gdn_prefill_chunks` (`chunk`): one block for each (chunk, value head), all in parallel: what does not depend on the
//!    state. B and P go to scratch as bf16 in the order of MMA fragments, with e^G_i and e^(G_63 - G_j).
//! 2. `gdn_prefill_state` (`pass`): one block for each (sequence, value head, slice of V): the chain over its chunks.
//!
//! Chunks are found on the device from `cu_seqlens` (`gdn::find`); grids come from `n_tok` and `n_seq`.
//!
//! *Shapes.* Head dim 128; any number of heads, v_heads a multiple of k_heads; any lengths, also empty sequences; any strides
//! (16-byte accesses where they are multiples of 8 and the tensors are aligned).
//!
//! | version | what | measured |
//! | --- | --- | --- |
//! | plain | mma.sync, two launches, state in registers, two stages of copies | H200: 16/32 heads, 2048 tokens 162.2 us, 8 % of the roof; 8192 613.4 us, 8 % of the roof |

mod chunk;
mod pass;

use cuda_std::kernel;
use cuda_std::launch::KernelArg;
use half::bf16;

use crate::gdn::{CHUNK, tile_slots};
pub use chunk::SHARED_BYTES as CHUNKS_SHARED_BYTES;
pub use pass::stages as state_stages;

/// Threads of a block of the first launch.
pub const CHUNKS_THREADS: u32 = 128;
/// Scratch of one chunk of one value head: B and P, bf16 `[64][64]` in fragment order, then e^G_i and e^(G_63 - G_j), f32
/// `[64]` each.
///
/// Fragment order: 16 bytes of lane 4 g + t at `((n * 2 + p) * 32 + lane) * 16` are the elements (i = 8 n + g,
/// j = 32 p + 8 m + 2 t + e), m = 0..4, e = 0..2: the B operand of two k16 steps of an MMA, column tile n.
pub const CHUNK_BYTES: u32 = 2 * MATRIX_BYTES + 512;
/// Bytes of B or P.
const MATRIX_BYTES: u32 = 8192;
/// Bytes from one row of 128 bf16 in shared memory to the next: 16 more than a row, so that eight rows at one column lie in
/// different banks.
const PITCH: u32 = 272;

/// Bytes of scratch of a launch.
pub fn scratch_bytes(n_tok: u32, n_seq: u32, v_heads: u32) -> u64 {
    tile_slots(n_tok, n_seq, CHUNK) as u64 * v_heads as u64 * CHUNK_BYTES as u64
}

/// Blocks of the first launch (x, y).
pub fn chunks_grid(n_tok: u32, n_seq: u32, v_heads: u32) -> (u32, u32) {
    (tile_slots(n_tok, n_seq, CHUNK), v_heads)
}

/// Warps of a block of the second launch, 16 columns of V each: as many as leave a block for each multiprocessor. Any of 1, 2,
/// 4, 8 gives the same bytes.
pub fn state_warps(n_seq: u32, v_heads: u32, sm_count: u32) -> u32 {
    let heads = n_seq as u64 * v_heads as u64;
    let mut warps = 4;
    while warps > 1 && heads * (8 / warps as u64) < sm_count as u64 * 3 / 4 {
        warps /= 2;
    }
    warps
}

/// Blocks of the second launch (x, y, z).
pub fn state_grid(n_seq: u32, v_heads: u32, warps: u32) -> (u32, u32, u32) {
    (n_seq, 8 / warps.max(1), v_heads)
}

/// The parameters of all kernels here; shapes are in the module's table. The gates are either `g` and `beta` or the other
/// four; a kernel does not look at what it does not use.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Args {
    /// Queries.
    pub q: *const bf16,
    /// Keys.
    pub k: *const bf16,
    /// Values.
    pub v: *const bf16,
    /// Decay gates, logarithms.
    pub g: *const f32,
    /// Update gates.
    pub beta: *const f32,
    /// Inputs of the decay gates.
    pub a: *const bf16,
    /// Inputs of the update gates.
    pub b: *const bf16,
    /// Of the decay gates.
    pub a_log: *const f32,
    /// Of the decay gates.
    pub dt_bias: *const f32,
    /// Where sequences begin.
    pub cu_seqlens: *const i32,
    /// What the first launch leaves for the second.
    pub chunks: *mut u8,
    /// States by slot.
    pub state: *mut f32,
    /// The slot each sequence starts from.
    pub state_in: *const i32,
    /// The slot of the state after each sequence.
    pub state_out: *const i32,
    /// Outputs.
    pub o: *mut bf16,
    /// Factor of the outputs, 1 / sqrt(128).
    pub scale: f32,
    /// Sequences.
    pub n_seq: u32,
    /// Heads of q and k.
    pub k_heads: u32,
    /// Heads of v, o and the state.
    pub v_heads: u32,
    /// Which key head value head h reads: 0 is h / (v_heads / k_heads), 1 is h mod k_heads.
    pub head_map: u32,
    /// Stages of the second launch, 1 or 2: [`state_stages`].
    pub stages: u32,
    /// Elements from one token of q to the next.
    pub q_stride: u32,
    /// Elements from one token of k to the next.
    pub k_stride: u32,
    /// Elements from one token of v to the next.
    pub v_stride: u32,
}

// SAFETY: plain addresses of device memory and numbers, aligned to 8.
unsafe impl KernelArg for Args {}

impl Args {
    /// The key head of a value head.
    #[inline(always)]
    fn key_head(&self, head: u32) -> u32 {
        crate::gdn::key_head(head, self.k_heads, self.v_heads, self.head_map != 0)
    }

    /// Scratch of a chunk.
    ///
    /// # Safety
    /// The slot and the head exist.
    #[inline(always)]
    unsafe fn chunk(&self, slot: u32, head: u32) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe {
            self.chunks
                .add((slot as usize * self.v_heads as usize + head as usize) * CHUNK_BYTES as usize)
        }
    }
}

/// First launch, with the gates as [`crate::gdn_gates`] stores them. Grid: [`chunks_grid`].
///
/// # Safety
/// The tensors must have the shapes of the module's table, on the device; `n_seq >= 1`, `v_heads` is a multiple of `k_heads`.
#[kernel(threads = 128)]
pub unsafe fn gdn_prefill_chunks(args: Args) {
    // SAFETY: the caller's promise.
    unsafe { chunk::body::<false>(args) }
}

/// First launch, with the gates computed from a and b, the same bytes. Grid: [`chunks_grid`].
///
/// # Safety
/// As for [`fn@gdn_prefill_chunks`].
#[kernel(threads = 128)]
pub unsafe fn gdn_prefill_chunks_fused(args: Args) {
    // SAFETY: the caller's promise.
    unsafe { chunk::body::<true>(args) }
}

/// Second launch. Grid: [`state_grid`]; blocks of 32 times [`state_warps`] threads, shared memory by [`state_stages`].
///
/// # Safety
/// As for [`fn@gdn_prefill_chunks`], which has run; slots are used by one sequence each.
#[kernel(threads = 128)]
pub unsafe fn gdn_prefill_state(args: Args) {
    // SAFETY: the caller's promise.
    unsafe { pass::body(args) }
}
