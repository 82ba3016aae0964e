//! Gated delta net: what its kernels share. The mathematics and the canonical order are in docs/numerics.md, "Gated delta
//! net"; the kernels are [`crate::gdn_conv`], [`crate::gdn_gates`], [`crate::gdn_decode`] and [`crate::gdn_prefill`].
//!
//! | what | layout |
//! | --- | --- |
//! | recurrent state S | f32 `[slots][v_heads][V = 128][K = 128]`, K contiguous |
//! | conv state | bf16 `[slots][channels][3]`, the oldest input first |
//! | sequences | `cu_seqlens` i32 `[n_seq + 1]`, ascending: sequence s is the packed tokens `cu_seqlens[s] .. cu_seqlens[s + 1]` |
//! | slots | i32 per sequence; -1 as a source: zeros (a new sequence); -1 as a destination: not written |
//!
//! Destinations are per token in the convolution and the steps: a rejected draft is rolled back by going on from the slot of the last
//! accepted token. A slot is touched by its own sequence alone; source and destination may be the same one.

use cuda_std::float::{self, exact};
use cuda_std::shared::{self, Shared};
use cuda_std::vec::U32x4;
use cuda_std::{mem, thread};
use half::bf16;

use crate::rows;

/// Elements of a head: K and V.
pub const HEAD_DIM: u32 = 128;
/// f32 of one head's state.
pub const STATE: usize = 128 * 128;
/// Tokens of a chunk of the prefill order.
pub const CHUNK: u32 = 64;

/// Tile slots for `n_tok` packed tokens of `n_seq` sequences in tiles of `tile` tokens that begin anew with each sequence:
/// enough for any lengths, so a launch needs no length. See `find`.
pub const fn tile_slots(n_tok: u32, n_seq: u32, tile: u32) -> u32 {
    n_tok / tile + n_seq
}

/// A tile of tokens of one sequence.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// The sequence.
    pub(crate) seq: u32,
    /// The tile's number in its sequence.
    pub(crate) index: u32,
    /// The packed index of its first token.
    pub(crate) first: u32,
    /// Its tokens: fewer than a whole tile at the end of the sequence, none in a slot that is left over.
    pub(crate) count: u32,
    /// Tokens of the whole sequence.
    pub(crate) len: u32,
}

/// The first tile slot of the sequence that begins `begin` tokens after the first sequence. The next sequence's is far enough: with b tokens
/// before and n of its own, floor((b + n) / tile) + 1 - floor(b / tile) >= ceil(n / tile), and at least 1.
#[inline(always)]
pub(crate) fn first_slot(begin: u32, seq: u32, tile: u32) -> u32 {
    begin / tile + seq
}

/// The tile of a slot, by bisection: first slots ascend strictly. A sequence has at least one slot, even without tokens.
///
/// # Safety
/// `cu_seqlens` has `n_seq + 1` ascending entries, `n_seq` is at least 1.
#[inline(always)]
pub(crate) unsafe fn find(cu_seqlens: *const i32, n_seq: u32, slot: u32, tile: u32) -> Tile {
    // SAFETY: callers keep below n_seq + 1.
    let begin = |seq: u32| unsafe { mem::load_nc(cu_seqlens.add(seq as usize)) } as u32;
    let origin = begin(0);
    let (mut seq, mut end) = (0, n_seq);
    while end - seq > 1 {
        let middle = (seq + end) / 2;
        if first_slot(begin(middle) - origin, middle, tile) <= slot {
            seq = middle;
        } else {
            end = middle;
        }
    }
    let first = begin(seq);
    let len = begin(seq + 1) - first;
    let index = slot - first_slot(first - origin, seq, tile);
    let before = (index * tile).min(len);
    Tile {
        seq,
        index,
        first: first + before,
        count: (len - before).min(tile),
        len,
    }
}

/// The key head that a value head reads.
#[inline(always)]
pub(crate) fn key_head(v_head: u32, k_heads: u32, v_heads: u32, modulo: bool) -> u32 {
    // Neither divisor is zero in a launch; saying so keeps a panic out of the code.
    let (k_heads, group) = (k_heads.max(1), (v_heads / k_heads.max(1)).max(1));
    if modulo { v_head % k_heads } else { v_head / group }
}

/// Types for which all zeroes is a value.
pub(crate) trait Plain {}
impl Plain for f32 {}
impl Plain for u32 {}
impl Plain for U32x4 {}
impl<T: Plain, const N: usize> Plain for [T; N] {}

/// An array of zeros that stays in registers: a literal would be a loop of stores.
#[inline(always)]
pub(crate) fn zeros<T: Plain, const N: usize>() -> [T; N] {
    // SAFETY: zeroes are a value of these types.
    unsafe { core::mem::zeroed() }
}

/// A result as it is stored: one NaN.
#[inline(always)]
pub(crate) fn canonical(x: f32) -> f32 {
    if x.is_nan() { float::CANONICAL_NAN } else { x }
}

/// The decay gate g, the logarithm of what a step leaves of the state: -(exp(A_log) * softplus(a + dt_bias)).
#[inline(always)]
pub(crate) fn decay(a: bf16, a_log: f32, dt_bias: f32) -> f32 {
    canonical(-(exact::exp(a_log) * exact::softplus(float::bf16_to_f32(a) + dt_bias)))
}

/// The update gate beta.
#[inline(always)]
pub(crate) fn update(b: bf16) -> f32 {
    exact::sigmoid(float::bf16_to_f32(b))
}

/// Gates of one token and value head: as stored by [`crate::gdn_gates`], or from what that reads.
#[derive(Clone, Copy)]
pub(crate) struct Gates {
    pub(crate) g: *const f32,
    pub(crate) beta: *const f32,
    pub(crate) a: *const bf16,
    pub(crate) b: *const bf16,
    pub(crate) a_log: *const f32,
    pub(crate) dt_bias: *const f32,
}

impl Gates {
    /// (g, beta) of a token.
    ///
    /// # Safety
    /// Those of the two groups of tensors that `FUSED` chooses have their shapes.
    #[inline(always)]
    pub(crate) unsafe fn load<const FUSED: bool>(&self, token: u32, head: u32, v_heads: u32) -> (f32, f32) {
        let at = token as usize * v_heads as usize + head as usize;
        // SAFETY: the caller's promise.
        unsafe {
            if FUSED {
                let (a_log, dt_bias) = (
                    mem::load_nc(self.a_log.add(head as usize)),
                    mem::load_nc(self.dt_bias.add(head as usize)),
                );
                (
                    decay(mem::load_nc(self.a.add(at)), a_log, dt_bias),
                    update(mem::load_nc(self.b.add(at))),
                )
            } else {
                (mem::load_nc(self.g.add(at)), mem::load_nc(self.beta.add(at)))
            }
        }
    }
}

/// Whether rows of bf16 at `p`, `stride` elements apart, can be read 16 bytes at a time.
#[inline(always)]
pub(crate) fn by_16_bytes(p: *const bf16, stride: u32) -> bool {
    (p as usize).is_multiple_of(16) && stride.is_multiple_of(8)
}

/// Starts to bring `rows` rows of `pieces` times eight bf16 to shared memory, `pitch` bytes apart, the whole block together;
/// rows from `rows` to [`CHUNK`] are zeroed. Complete after the copies' wait and a barrier.
///
/// # Safety
/// `src` has `rows` rows, `stride` elements apart; `whole` is [`by_16_bytes`] of them. `rows` is at least 1.
#[inline(always)]
pub(crate) unsafe fn copy_rows(
    dst: Shared<u8>,
    pitch: u32,
    src: *const bf16,
    stride: u32,
    rows: u32,
    pieces: u32,
    whole: bool,
) {
    let mut i = thread::thread_idx_x();
    while i < CHUNK * pieces {
        let (row, piece) = (i / pieces.max(1), i % pieces.max(1));
        let to = dst.add(row * pitch + piece * 16);
        let inside = row < rows;
        // SAFETY: a row that is not there is replaced by the first one, of which nothing is taken.
        let from = unsafe { src.add(if inside { row } else { 0 } as usize * stride as usize + piece as usize * 8) };
        // SAFETY: eight elements of a row, or none of them; aligned where `whole`.
        unsafe {
            if whole {
                shared::copy_async16_zfill(to, from.cast(), if inside { 16 } else { 0 });
            } else {
                to.cast::<U32x4>()
                    .store(if inside { rows::load8(from, 8) } else { U32x4([0; 4]) });
            }
        }
        i += thread::block_dim_x();
    }
}
