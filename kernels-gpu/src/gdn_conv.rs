//! Depthwise causal convolution of width 4 over each sequence, with SiLU, and L2 norm of the q and k heads:
//! `y_t = silu(w0 x_{t-3} + w1 x_{t-2} + w2 x_{t-1} + w3 x_t + bias)`, then per head `y / sqrt(sum y^2 + 1e-6)`.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | x | `[n_tok]` rows, `x_stride` elements apart, channels used | bf16 |
//! | w | `[channels][4]`, the oldest input's first | bf16 |
//! | bias | `[channels]`, or null | bf16 |
//! | state | `[slots][channels][3]`, the last three inputs, the oldest first; read and written | bf16 |
//! | state_in | `[n_seq]` slots; -1: zeros | i32 |
//! | state_out | `[n_tok]`: the slot for the state after each token; -1: not written | i32 |
//! | cu_seqlens | `[n_seq + 1]` | i32 |
//! | y | `[n_tok][channels]` | bf16 |
//!
//! # Canonical order
//! docs/numerics.md, "Gated delta net": `acc = w0 * x`, three fma, the bias, bf16(silu); where a head is normalised, `rowsum` of the
//! squares of the rounded values. A row of 128 is 16 lanes of eight elements: eight fma a lane, then a tree over lanes at
//! distance 8, 4, 2, 1. Levels L1 to L3: a token's inputs are the same wherever a call was cut.
//!
//! # How
//! A thread has eight channels of a tile of 16 tokens of one sequence; the last three inputs move along in registers, and after a
//! token they are its state. Tile slots (`gdn::find`) need no lengths on the host. No shared memory, no barriers. Heads that are
//! normalised are the leading `l2_heads` of 128 channels each.
//!
//! The slot that a sequence starts from may be the slot of one of its tokens too. The first tile alone reads it, so the first tile
//! alone writes it, after that: for a token of a later tile it looks for that token in `state_out`, at the last one first.
//!
//! *Shapes.* Any. 16-byte accesses where eight channels exist and are aligned, else element by element.
//!
//! | version | what | measured |
//! | --- | --- | --- |
//! | 1 | 16 tokens a thread, four rows in flight | H200: 8192 channels, 512 tokens 29.8 us; 8192 328.3 us, 19 % of the roof |
//! | plain | and a state for every token that has a slot | H200: 512 tokens 30.5 us; 8192 338.3 us, 19 % of the roof |

use cuda_std::float::{self, exact};
use cuda_std::vec::U32x4;
use cuda_std::{kernel, mem, thread, warp};
use half::bf16;

use crate::gdn::{self, zeros};
use crate::rows;
use crate::unroll::unroll;

/// Threads of a block.
pub const THREADS: u32 = 128;
/// Tokens of a tile. At least 3: the first tile alone reads the old state.
pub const TILE: u32 = 16;
/// Rows that a thread loads ahead.
const AHEAD: usize = 4;
/// Under the root of the L2 norm.
const EPS: f32 = 1e-6;

/// Blocks of a launch (x, y).
pub fn grid(n_tok: u32, n_seq: u32, channels: u32) -> (u32, u32) {
    (gdn::tile_slots(n_tok, n_seq, TILE), channels.div_ceil(8 * THREADS))
}

/// Vector `i` of the consecutive elements from `p`, of which `live` exist; those that do not are zero.
///
/// # Safety
/// `p` has `live` elements.
#[inline(always)]
unsafe fn load(p: *const bf16, i: usize, live: u32) -> U32x4 {
    // SAFETY: the caller's promise.
    unsafe { rows::load8(p.add(8 * i), live.saturating_sub(8 * i as u32)) }
}

/// The i-th of eight bf16, as bits.
#[inline(always)]
fn half_of(v: &U32x4, i: usize) -> u16 {
    (v.0[i / 2] >> (16 * (i % 2))) as u16
}

/// Element `i` of consecutive vectors of eight, as f32.
#[inline(always)]
fn value<const N: usize>(v: &[U32x4; N], i: usize) -> f32 {
    float::bf16_to_f32(bf16::from_bits(half_of(&v[i / 8], i % 8)))
}

/// Grid: [`grid`]. See the module's page.
///
/// # Safety
/// The tensors must have the shapes of the module's table, on the device; `l2_heads * 128 <= channels`, `n_seq >= 1`, slots
/// used by one sequence each, and by one of its tokens.
#[kernel(threads = 128)]
pub unsafe fn gdn_conv(
    x: *const bf16,
    w: *const bf16,
    bias: *const bf16,
    state: *mut bf16,
    state_in: *const i32,
    state_out: *const i32,
    cu_seqlens: *const i32,
    y: *mut bf16,
    n_seq: u32,
    channels: u32,
    x_stride: u32,
    l2_heads: u32,
) {
    // SAFETY: the caller's promise.
    let tile = unsafe { gdn::find(cu_seqlens, n_seq, thread::block_idx_x(), TILE) };
    let channel = (thread::block_idx_y() * THREADS + thread::thread_idx_x()) * 8;
    // Channels of this thread that exist.
    let live = channels.saturating_sub(channel).min(8);
    let c = channel as usize;
    // SAFETY: a row of the sequence (tokens before `first + count`), and within it this thread's channels.
    let row = |token: u32| unsafe { load(x.add(token as usize * x_stride as usize + c), 0, live) };

    // A slot that is left over, or a sequence without tokens. The whole block leaves.
    if tile.count == 0 {
        return;
    }
    // SAFETY: the sequence exists.
    let from = unsafe { mem::load_nc(state_in.add(tile.seq as usize)) };
    // SAFETY: the slot exists, and within it this thread's channels.
    let slot = |slot: u32| unsafe { state.add((slot as usize * channels as usize + c) * 3) };

    // The three inputs before the tile's first token.
    let mut before: [U32x4; 3] = zeros();
    if tile.index > 0 {
        before = [row(tile.first - 3), row(tile.first - 2), row(tile.first - 1)];
    } else if from >= 0 {
        let mut old: [U32x4; 3] = zeros();
        unroll!(i < 3 => {
            // SAFETY: three inputs a channel; only this thread writes them, below.
            old[i] = unsafe { load(slot(from as u32), i, 3 * live) };
        });
        unroll!(i < 3 => {
            unroll!(j < 8 => {
                before[i].0[j / 2] |= (half_of(&old[(3 * j + i) / 8], (3 * j + i) % 8) as u32) << (16 * (j % 2));
            });
        });
        // SAFETY: tokens of the sequence; this thread's share of a slot that it has read.
        unsafe {
            let end = end_in_later_tile(state_out, &tile, from);
            if end > 0 {
                store_state(slot(from as u32), live, &[row(end - 3), row(end - 2), row(end - 1)]);
            }
        }
    }

    let mut weights: [U32x4; 4] = zeros();
    unroll!(i < 4 => {
        // SAFETY: four weights a channel.
        weights[i] = unsafe { load(w.add(c * 4), i, 4 * live) };
    });
    let mut biases: [U32x4; 1] = zeros();
    if !bias.is_null() {
        // SAFETY: one bias a channel.
        biases[0] = unsafe { load(bias.add(c), 0, live) };
    }
    let normalised = c / 128 < l2_heads as usize;
    let mut done = 0;
    while done < tile.count {
        let mut now: [U32x4; AHEAD] = zeros();
        // One more than the slot of the state after each token; 0 where this tile leaves none.
        let mut to: [u32; AHEAD] = zeros();
        unroll!(i < 4 => {
            if done + (i as u32) < tile.count {
                let token = tile.first + done + i as u32;
                now[i] = row(token);
                // SAFETY: a slot for each token.
                let kept = unsafe { mem::load_nc(state_out.add(token as usize)) };
                if kept >= 0 && (tile.index == 0 || kept != from) {
                    to[i] = kept as u32 + 1;
                }
            }
        });
        unroll!(i < 4 => {
            let inputs = [before[0], before[1], before[2], now[i]];
            let mut out: [f32; 8] = zeros();
            let mut squares = 0.0;
            unroll!(j < 8 => {
                let acc = value(&weights, 4 * j) * value(&inputs, j);
                let acc = float::fma(value(&weights, 4 * j + 1), value(&inputs, 8 + j), acc);
                let acc = float::fma(value(&weights, 4 * j + 2), value(&inputs, 16 + j), acc);
                let acc = float::fma(value(&weights, 4 * j + 3), value(&inputs, 24 + j), acc);
                let acc = if bias.is_null() { acc } else { acc + value(&biases, j) };
                out[j] = float::bf16_to_f32(float::f32_to_bf16(exact::silu(acc)));
                squares = float::fma(out[j], out[j], squares);
            });
            // All lanes take part, also those whose head is not normalised.
            if l2_heads > 0 {
                squares += warp::shuffle_xor(squares, 8);
                squares += warp::shuffle_xor(squares, 4);
                squares += warp::shuffle_xor(squares, 2);
                squares += warp::shuffle_xor(squares, 1);
            }
            let scale = if normalised { exact::rsqrt(squares + EPS) } else { 1.0 };
            let mut packed = U32x4([0; 4]);
            unroll!(j < 4 => {
                packed.0[j] = float::f32x2_to_bf16x2(out[2 * j] * scale, out[2 * j + 1] * scale);
            });
            if done + (i as u32) < tile.count {
                // SAFETY: a token of the tile.
                unsafe {
                    let token = tile.first + done + i as u32;
                    rows::store8(y.add(token as usize * channels as usize + c), packed, live)
                };
                before = [before[1], before[2], now[i]];
                if to[i] > 0 {
                    // SAFETY: this thread's share of a slot of this token.
                    unsafe { store_state(slot(to[i] - 1), live, &before) };
                }
            }
        });
        done += AHEAD as u32;
    }
}

/// One more than the packed index of the token beyond the sequence's first tile whose state goes to `slot`; 0: there is none. The
/// whole warp looks.
///
/// # Safety
/// `tile` is the first of its sequence, and `state_out` has its tokens.
#[inline(always)]
unsafe fn end_in_later_tile(state_out: *const i32, tile: &gdn::Tile, slot: i32) -> u32 {
    // SAFETY: the caller's promise, for tokens before `end`.
    let goes_there = |token: u32| unsafe { mem::load_nc(state_out.add(token as usize)) } == slot;
    let end = tile.first + tile.len;
    if tile.len <= TILE {
        return 0;
    }
    if goes_there(end - 1) {
        return end;
    }
    let (mut token, mut found) = (tile.first + TILE + warp::lane_id(), 0);
    while token < end {
        // Eight loads at a time: each takes as long as all.
        unroll!(i < 8 => {
            let token = token + 32 * i as u32;
            if token < end && goes_there(token) {
                found = token + 1;
            }
        });
        token += 256;
    }
    warp::reduce_max_u32(found)
}

/// Writes a state: the last three inputs, the oldest first, of this thread's channels.
///
/// # Safety
/// `slot` is this thread's share of a slot.
#[inline(always)]
unsafe fn store_state(slot: *mut bf16, live: u32, last: &[U32x4; 3]) {
    let mut mixed: [U32x4; 3] = zeros();
    unroll!(i < 3 => {
        unroll!(j < 8 => {
            let at = 8 * i + j;
            mixed[i].0[j / 2] |= (half_of(&last[at % 3], at / 3) as u32) << (16 * (j % 2));
        });
    });
    unroll!(i < 3 => {
        // SAFETY: three inputs a channel.
        unsafe { rows::store8(slot.add(8 * i), mixed[i], (3 * live).saturating_sub(8 * i as u32)) };
    });
}
