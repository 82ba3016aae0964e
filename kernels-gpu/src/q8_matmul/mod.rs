//! Q8_0 matmul for 1..8 tokens at once (share-warp): `y[t][n] = sum_k W[n][k] X[t][k]`, weights read once for all tokens.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | qs, ws | `[groups]`, quad layout of N x K, [`crate::q8`] | int8, f16 |
//! | xq, dx | `[groups]`, quad layout of n_tok x K, [`crate::q8`] | int8, f32 |
//! | y | `[n_tok][y_stride]`, groups * N used | f32 |
//!
//! # Canonical order
//! Blocks ascending in segments of 16, segments ascending: [`crate::q8`]. It is the same for every config below, any
//! `n_tok` and any number of blocks, so share-warp and batch invariance are strict by construction.
//!
//! # How
//! The weights are the MMA's A operand (16 rows), the tokens its B operand (8 columns): one 16-byte read is a lane's share of
//! A. One `mma.m16n8k32.s8` from zero is one block's exact dots for 16 rows and 8 tokens, whatever `n_tok` is; lanes of
//! tokens that do not exist read the last one and store nothing. A lane's share of the result is two rows of two
//! tokens; where `lane_tokens` is 1 (up to 4 tokens), tokens take every second column, and a lane sums up one of them.
//!
//! *Work.* A thread block owns `tiles` row tiles at a time; its `k_warps` warps take the segments of K in turn, `quads` quads at
//! a time. A warp's weights arrive in a ring of `stages` in shared memory, its own, by asynchronous copies; activations
//! come through L1 into registers one turn ahead. Blocks are persistent: the sequence of segments runs on over row tiles,
//! so the next tile's loads are in flight while this one ends.
//!
//! *Barriers.* A warp leaves each segment's sum in shared memory; at the end of a row tile all warps meet once, and one of
//! them (another one each time) adds the sums in order and stores, while the others go on. Sums are double buffered:
//! whoever writes the buffer again has met the adder at the next tile's barrier, after the adder was done.
//!
//! *Shapes.* Any N, any K whose quads are a multiple of `quads` (the padding of [`crate::q8`] counts) and that has at least
//! `k_warps` segments, any n_tok (grid y has one block for 4 `lane_tokens` of them), any number of groups (grid z). Configs with one quad and one warp take everything.
//!
//! # Versions tried
//! H200, 4096 x 14336, n_tok = 1 / 8, us, cold weights, programmatic launch (versions before 4 by a prototype's script, which
//! read about 0.5 us more than `sweep`); to version 2b the canonical order was one chain over K.
//! | version | what | us |
//! | --- | --- | --- |
//! | 1 | one chain over K handed from warp to warp (relay), loads one turn ahead in registers | 16.9 / 17.0 |
//! | 2 | the same, weights through asynchronous copies, ring of 2..4 stages | 16.4 / 17.0 |
//! | 2b | the same, ring filled again before the wait for the hand-over | 16.9 / 17.4 |
//! | - | no chain to wait for: partial sums a warp (another order) | 15.7 / 16.3 |
//! | 3 | canonical order in segments, sums added at the end of the tile; 8-row tiles, weights as B | 17.1 / 17.7 |
//! | 4 | 16-row tiles, weights as A: half the MMAs, no moves to line operands up; 7, 8 or 14 warps by K | 15.3 / 16.4 |
//! | - | the same, weights straight into registers one turn ahead, no ring | never a winner |

mod cursor;
mod load;
mod sums;

use cuda_std::vec::U32x4;
use cuda_std::{kernel, shared, thread, warp};

use crate::q8;
use crate::q8_args::Args;
#[cfg(not(target_arch = "nvptx64"))]
pub use crate::q8_config::{Entry, MatmulArgs};
pub use crate::q8_config::{Order, TileConfig};
use crate::q8_config::{stage_bytes, sum_bytes};
use cursor::{Cursor, Extent};
use load::{Source, Tokens, wait_all_but_newest};
use sums::{add_segments, multiply, slot, store};

/// The kernel's body for one config: `R` row tiles, `KW` warps along K, `U` quads a turn, `S` stages, `P` tokens a lane.
///
/// # Safety
/// The tensors must have the shapes of the module's table and the config must admit the problem.
#[inline(always)]
unsafe fn body<const R: usize, const KW: u32, const U: usize, const S: u32, const P: usize>(a: Args) {
    let lane = warp::lane_id();
    let kw = thread::thread_idx_x() / 32;
    // 4 P tokens a block in grid y: one token tile, or half of one, whose tokens take every second column of the MMA.
    let first_token = thread::block_idx_y() * 4 * P as u32;
    let tok_tile = first_token / q8::TOKEN_TILE;
    let in_tile = first_token % q8::TOKEN_TILE;
    let last = in_tile + (a.n_tok - first_token).min(4 * P as u32) - 1;
    let n_tiles = q8::row_tiles(a.n);
    // Groups, independent products of one launch, lie behind each other in every tensor but y, where they are columns.
    let group = thread::block_idx_z() as usize;
    let tile_quads = group * n_tiles as usize * a.n_quads as usize;
    let token_quads = (group * q8::token_tiles(a.n_tok) as usize + tok_tile as usize) * a.n_quads as usize;
    // SAFETY: the group exists.
    let a = unsafe {
        Args {
            qs: a.qs.add(tile_quads * q8::QUAD_BYTES as usize),
            ws: a.ws.add(tile_quads * q8::QUAD_WEIGHT_SCALES as usize),
            y: a.y.add(group * a.n as usize),
            ..a
        }
    };
    let extent = Extent {
        groups: n_tiles.div_ceil(R as u32),
        segments: a.n_quads.div_ceil(q8::SEGMENT_QUADS),
        turns: q8::SEGMENT_QUADS / U as u32,
        total_turns: a.n_quads / U as u32,
        stride: thread::grid_dim_x(),
    };
    // Two buffers of segment sums, then the rings.
    let sums = shared::dynamic::<f32>();
    let rings = if KW == 1 {
        0
    } else {
        2 * sum_bytes(R as u32, P as u32, a.n_quads)
    };
    let source = Source {
        qs: a.qs,
        ws: a.ws,
        // SAFETY: the token tile exists.
        xq: unsafe { a.xq.add(token_quads * q8::QUAD_TOKEN_BYTES as usize) },
        // SAFETY: as above.
        dx: unsafe { a.dx.add(token_quads * q8::QUAD_TOKEN_SCALES as usize) },
        n_tiles,
        n_quads: a.n_quads,
        lane,
        token: (in_tile + lane / 4 * P as u32 / 2).min(last),
        last,
        in_tile,
        ring: shared::dynamic::<u8>().add(rings + kw * S * stage_bytes(R as u32, U as u32)),
    };

    // The kernel after this one may start as soon as there is room, and fetch its weights while this one ends; this one's
    // own weights are on their way before it waits for the kernel before it, which wrote the activations.
    thread::launch_dependents();
    let mut at = Cursor {
        group: thread::block_idx_x(),
        segment: 0,
        turn: 0,
    }
    .skip(kw, extent);
    let mut ahead = at;
    for stage in 0..S {
        if ahead.group < extent.groups {
            // SAFETY: the cursor is inside the extent.
            unsafe { source.fetch::<R, U>(ahead.group, ahead.k_turn(extent), stage) };
        }
        shared::copy_async_commit();
        ahead = ahead.next(KW, extent);
    }
    thread::wait_for_prerequisites();
    // SAFETY: plain words, for which all zeroes is a value; loads overwrite them. Not an array literal: that is a loop of
    // stores, and the array would stay in local memory.
    let mut held: Tokens<U, P> = unsafe { core::mem::zeroed() };
    if at.group < extent.groups {
        // SAFETY: the cursor is inside the extent, and what the kernel before wrote is visible now.
        unsafe { source.load_tokens(at.k_turn(extent), &mut held) };
    }

    let mut stage = 0;
    let mut adder = 0;
    let mut buffer = 0;
    // SAFETY: floats, see above.
    let (mut acc, mut total): ([[[f32; P]; 2]; R], [[[f32; P]; 2]; R]) = unsafe { core::mem::zeroed() };
    while at.group < extent.groups {
        // This turn's stage has landed, in every lane.
        wait_all_but_newest::<S>();
        warp::sync();
        let weights = source.ring.add(stage * stage_bytes(R as u32, U as u32));
        for u in 0..U {
            for r in 0..R {
                let i = (r * U + u) as u32;
                let w = weights.add(i * q8::QUAD_BYTES + lane * 16).cast::<U32x4>();
                let s = weights
                    .add((R * U) as u32 * q8::QUAD_BYTES + i * 128 + (lane / 4) * 16)
                    .cast::<U32x4>();
                multiply(w, &s.load(), &held.x[u], &held.d[u], &mut acc[r]);
            }
        }
        // Every lane has read the stage: it is filled again, and the next turn's activations are asked for.
        warp::sync();
        if ahead.group < extent.groups {
            // SAFETY: the cursor is inside the extent.
            unsafe { source.fetch::<R, U>(ahead.group, ahead.k_turn(extent), stage) };
        }
        shared::copy_async_commit();
        ahead = ahead.next(KW, extent);
        stage = if stage + 1 == S { 0 } else { stage + 1 };
        let this = at;
        at = at.next(KW, extent);
        if at.group < extent.groups {
            // SAFETY: as above.
            unsafe { source.load_tokens(at.k_turn(extent), &mut held) };
        }

        if this.ends_segment(extent) {
            for r in 0..R {
                for half in 0..2 {
                    for p in 0..P {
                        if KW == 1 {
                            total[r][half][p] += acc[r][half][p];
                        } else {
                            let slot = slot::<R, P>(buffer * extent.segments + this.segment, r, half, p, lane);
                            sums.add(slot).store(acc[r][half][p]);
                        }
                        acc[r][half][p] = 0.0;
                    }
                }
            }
        }
        if at.group != this.group {
            if KW > 1 {
                thread::sync_threads();
                if kw == adder {
                    let sums = sums.add(slot::<R, P>(buffer * extent.segments, 0, 0, 0, 0));
                    total = add_segments(sums, extent.segments, lane);
                }
            }
            if KW == 1 || kw == adder {
                // SAFETY: the row tiles are this block's.
                unsafe { store(&a, &total, this.group, lane) };
            }
            // SAFETY: floats, see above.
            total = unsafe { core::mem::zeroed() };
            buffer = 1 - buffer;
            adder = if adder + 1 == KW { 0 } else { adder + 1 };
        }
    }
}

/// One kernel a line: name, tokens a lane, row tiles a warp, k-warps, quads a turn, stages, threads (32 k-warps), blocks an SM.
macro_rules! configs {
    ($($name:ident($p:literal, $r:literal, $kw:literal, $u:literal, $s:literal, $threads:literal, $blocks:literal);)*) => {
        $(
            /// The kernel of one tile config; see the module for its parameters.
            ///
            /// # Safety
            /// The tensors must have the shapes of the module's table, on the device, and the config must admit them.
            #[kernel(threads = $threads, min_blocks = $blocks)]
            pub unsafe fn $name(
                qs: *const u8,
                ws: *const u16,
                xq: *const u8,
                dx: *const f32,
                y: *mut f32,
                n: u32,
                n_quads: u32,
                n_tok: u32,
                y_stride: u32,
            ) {
                // SAFETY: the caller's promise.
                unsafe { body::<$r, $kw, $u, $s, $p>(Args { qs, ws, xq, dx, y, n, n_quads, n_tok, y_stride }) }
            }
        )*

        /// Every tile config with its kernel.
        #[cfg(not(target_arch = "nvptx64"))]
        pub static CONFIGS: &[Entry] = &[$(Entry {
            config: TileConfig {
                tiles: $r,
                k_warps: $kw,
                quads: $u,
                stages: $s,
                lane_tokens: $p,
                order: Order::Canonical,
                blocks_per_sm: $blocks,
            },
            kernel: $name::KERNEL,
        }),*];
    };
}

configs! {
    q8_matmul_t1_r1_kw1_u1_s4_b8(1, 1, 1, 1, 4, 32, 8);
    q8_matmul_t1_r1_kw2_u1_s3_b8(1, 1, 2, 1, 3, 64, 8);
    q8_matmul_t1_r1_kw2_u2_s2_b6(1, 1, 2, 2, 2, 64, 6);
    q8_matmul_t1_r1_kw4_u2_s2_b4(1, 1, 4, 2, 2, 128, 4);
    q8_matmul_t1_r1_kw4_u4_s1_b3(1, 1, 4, 4, 1, 128, 3);
    q8_matmul_t1_r1_kw5_u2_s2_b3(1, 1, 5, 2, 2, 160, 3);
    q8_matmul_t1_r1_kw6_u2_s2_b2(1, 1, 6, 2, 2, 192, 2);
    q8_matmul_t1_r1_kw7_u2_s2_b2(1, 1, 7, 2, 2, 224, 2);
    q8_matmul_t1_r1_kw8_u1_s2_b3(1, 1, 8, 1, 2, 256, 3);
    q8_matmul_t1_r1_kw8_u2_s1_b2(1, 1, 8, 2, 1, 256, 2);
    q8_matmul_t1_r1_kw8_u2_s2_b2(1, 1, 8, 2, 2, 256, 2);
    q8_matmul_t1_r1_kw8_u4_s1_b1(1, 1, 8, 4, 1, 256, 1);
    q8_matmul_t1_r1_kw14_u1_s2_b2(1, 1, 14, 1, 2, 448, 2);
    q8_matmul_t1_r2_kw4_u1_s2_b3(1, 2, 4, 1, 2, 128, 3);
    q8_matmul_t2_r1_kw1_u1_s4_b8(2, 1, 1, 1, 4, 32, 8);
    q8_matmul_t2_r1_kw2_u1_s3_b8(2, 1, 2, 1, 3, 64, 8);
    q8_matmul_t2_r1_kw2_u2_s2_b6(2, 1, 2, 2, 2, 64, 6);
    q8_matmul_t2_r1_kw4_u2_s1_b4(2, 1, 4, 2, 1, 128, 4);
    q8_matmul_t2_r1_kw4_u2_s2_b4(2, 1, 4, 2, 2, 128, 4);
    q8_matmul_t2_r1_kw5_u2_s2_b3(2, 1, 5, 2, 2, 160, 3);
    q8_matmul_t2_r1_kw6_u2_s2_b2(2, 1, 6, 2, 2, 192, 2);
    q8_matmul_t2_r1_kw7_u2_s1_b2(2, 1, 7, 2, 1, 224, 2);
    q8_matmul_t2_r1_kw8_u1_s2_b3(2, 1, 8, 1, 2, 256, 3);
    q8_matmul_t2_r1_kw8_u2_s1_b2(2, 1, 8, 2, 1, 256, 2);
    q8_matmul_t2_r1_kw8_u2_s2_b2(2, 1, 8, 2, 2, 256, 2);
    q8_matmul_t2_r2_kw4_u1_s2_b2(2, 2, 4, 1, 2, 128, 2);
}
