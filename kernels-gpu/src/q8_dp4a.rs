//! Q8_0 matmul for one token with dp4a, no tensor cores: the fast-mode rival of [`crate::q8_matmul`].
//!
//! Tensors as in [`crate::q8_matmul`], n_tok = 1.
//!
//! # Order (not canonical: fast mode only)
//! Lane `4 g + t` of a warp sums a quarter of every block of rows g and g + 8: two dp4a each, then
//! `p = fma(dw * dx, (f32) part, p)`. A
//! warp takes every `k_warps`-th turn of `quads` quads, ascending. At the end the four lanes of a row are added as
//! `(p0 + p1) + (p2 + p3)`, then the warps in ascending order. So a K of one row is 4 `k_warps` chains: more parallel than
//! the canonical order, fewer instructions (no MMA, no exact dot to wait for), and other bytes.
//!
//! It is here to answer what the canonical order costs at one token.

use cuda_std::int::dp4a_s8;
use cuda_std::vec::{F32x4, U32x4};
use cuda_std::{float, kernel, mem, shared, thread, warp};

use crate::q8;
use crate::q8_args::Args;

/// The operands of `U` quads of one row tile.
struct Turn<const U: usize> {
    w: [[U32x4; 4]; U],
    s: [U32x4; U],
}

/// The kernel's body: one row tile a thread block at a time, `KW` warps, `U` quads a turn.
///
/// # Safety
/// The tensors must have the shapes of [`crate::q8_matmul`]; `n_quads` must be a multiple of `KW * U`.
#[inline(always)]
unsafe fn body<const KW: u32, const U: usize>(a: Args) {
    let lane = warp::lane_id();
    let kw = thread::thread_idx_x() / 32;
    let (g, t) = (lane / 4, lane % 4);
    let n_tiles = q8::row_tiles(a.n);
    // Groups lie behind each other in every tensor.
    let group = thread::block_idx_z() as usize;
    let tile_quads = group * n_tiles as usize * a.n_quads as usize;
    let token_quads = group * a.n_quads as usize;
    // SAFETY: the group exists.
    let a = unsafe {
        Args {
            qs: a.qs.add(tile_quads * q8::QUAD_BYTES as usize),
            ws: a.ws.add(tile_quads * q8::QUAD_WEIGHT_SCALES as usize),
            xq: a.xq.add(token_quads * q8::QUAD_TOKEN_BYTES as usize),
            dx: a.dx.add(token_quads * q8::QUAD_TOKEN_SCALES as usize),
            y: a.y.add(group * a.n as usize),
            ..a
        }
    };
    let turns = a.n_quads / U as u32;
    let parts = shared::dynamic::<f32>();

    // SAFETY: `turn * U + U <= n_quads` and `tile < n_tiles`; callers keep to that.
    let load = |tile: u32, turn: u32, into: &mut Turn<U>| unsafe {
        let at = tile as usize * a.n_quads as usize + turn as usize * U;
        let qs =
            a.qs.add(at * q8::QUAD_BYTES as usize + lane as usize * 16)
                .cast::<U32x4>();
        let ws =
            a.ws.add(at * q8::QUAD_WEIGHT_SCALES as usize + g as usize * 8)
                .cast::<U32x4>();
        for u in 0..U {
            for b in 0..4 {
                into.w[u][b] = mem::load_stream(qs.add(u * 128 + b * 32));
            }
            into.s[u] = mem::load_stream(ws.add(u * 8));
        }
    };

    // SAFETY: plain words, for which all zeroes is a value; loads overwrite them.
    let mut held: Turn<U> = unsafe { core::mem::zeroed() };
    let mut tile = thread::block_idx_x();
    let mut turn = kw;
    thread::launch_dependents();
    if tile < n_tiles {
        load(tile, turn, &mut held);
    }
    thread::wait_for_prerequisites();
    let mut acc = [0.0f32; 2];
    while tile < n_tiles {
        let (this_tile, this_turn) = (tile, turn);
        // SAFETY: as above.
        let (mut dots, mut scales): ([[[i32; 2]; 4]; U], [[[f32; 2]; 4]; U]) = unsafe { core::mem::zeroed() };
        for u in 0..U {
            let quad = this_turn as usize * U + u;
            // SAFETY: the quad exists and token 0 was written by the quantiser.
            let (x, d) = unsafe {
                let x =
                    a.xq.add(quad * q8::QUAD_TOKEN_BYTES as usize + t as usize * 16)
                        .cast::<U32x4>();
                let d = a.dx.add(quad * q8::QUAD_TOKEN_SCALES as usize).cast::<F32x4>();
                ([mem::load(x), mem::load_nc(x.add(32))], mem::load_nc(d))
            };
            for b in 0..4 {
                let (h, at) = (b / 2, 2 * (b % 2));
                let dw = float::f16x2_to_f32(held.s[u].0[b]);
                for p in 0..2 {
                    let part = dp4a_s8(held.w[u][b].0[p], x[h].0[at], 0);
                    dots[u][b][p] = dp4a_s8(held.w[u][b].0[2 + p], x[h].0[at + 1], part);
                    scales[u][b][p] = dw[p] * d.0[b];
                }
            }
        }
        turn += KW;
        if turn >= turns {
            turn -= turns;
            tile += thread::grid_dim_x();
        }
        if tile < n_tiles {
            load(tile, turn, &mut held);
        }
        for u in 0..U {
            for b in 0..4 {
                for p in 0..2 {
                    acc[p] = float::fma(scales[u][b][p], dots[u][b][p] as f32, acc[p]);
                }
            }
        }
        if tile != this_tile {
            for p in 0..2 {
                acc[p] += warp::shuffle_xor(acc[p], 1);
                acc[p] += warp::shuffle_xor(acc[p], 2);
                if t == 0 {
                    parts.add(kw * q8::ROW_TILE + 8 * p as u32 + g).store(acc[p]);
                }
                acc[p] = 0.0;
            }
            thread::sync_threads();
            if kw == 0 && lane < q8::ROW_TILE {
                let mut sum = parts.add(lane).load();
                for w in 1..KW {
                    sum += parts.add(w * q8::ROW_TILE + lane).load();
                }
                let row = this_tile * q8::ROW_TILE + lane;
                if row < a.n {
                    // SAFETY: row < N.
                    unsafe { mem::store(a.y.add(row as usize), q8::canonical(sum)) };
                }
            }
            thread::sync_threads();
        }
    }
}

/// One kernel a line: name, k-warps, quads a turn, threads (32 k-warps), blocks an SM.
macro_rules! configs {
    ($($name:ident($kw:literal, $u:literal, $threads:literal, $blocks:literal);)*) => {
        $(
            /// The kernel of one config; parameters as in [`crate::q8_matmul`], `n_tok` = 1.
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
                unsafe { body::<$kw, $u>(Args { qs, ws, xq, dx, y, n, n_quads, n_tok, y_stride }) }
            }
        )*

        /// Every config with its kernel.
        #[cfg(not(target_arch = "nvptx64"))]
        pub static CONFIGS: &[crate::q8_config::Entry] = &[$(crate::q8_config::Entry {
            config: crate::q8_config::TileConfig {
                tiles: 1,
                k_warps: $kw,
                quads: $u,
                stages: 1,
                lane_tokens: 1,
                order: crate::q8_config::Order::Lanes,
                blocks_per_sm: $blocks,
            },
            kernel: $name::KERNEL,
        }),*];
    };
}

configs! {
    q8_dp4a_t1_r1_kw4_u1_s1_b8(4, 1, 128, 8);
    q8_dp4a_t1_r1_kw4_u2_s1_b4(4, 2, 128, 4);
    q8_dp4a_t1_r1_kw8_u1_s1_b4(8, 1, 256, 4);
    q8_dp4a_t1_r1_kw8_u2_s1_b2(8, 2, 256, 2);
}
