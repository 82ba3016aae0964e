//! The first launch: what a chunk contributes whatever the state is. One block a (chunk, value head), four warps.
//!
//! | shared memory | shape | then |
//! | --- | --- | --- |
//! | k | bf16 `[64][PITCH]` | A, f32 `[64][ROW]` |
//! | q | bf16 `[64][PITCH]` | T, f32 `[64][ROW]` |
//! | g, beta, G | f32 `[64]` each | |
//!
//! Warp w has rows 16 w .. 16 w + 16 of k k^T and q k^T. The inverse T goes by 16 x 16 blocks: warp w inverts diagonal block w (a lane
//! a column), then does column w of blocks from the diagonal down (a lane a column and half of the rows).

use cuda_std::float::{self, exact};
use cuda_std::shared::{self, Shared};
use cuda_std::vec::{F32x2, U32x4};
use cuda_std::{mem, mma, thread, warp};

use super::{Args, MATRIX_BYTES, PITCH};
use crate::gdn::{self, CHUNK, Gates, zeros};
use crate::unroll::unroll;

/// f32 from one row of A or T to the next.
const ROW: u32 = PITCH / 4;
const TILE_BYTES: u32 = CHUNK * PITCH;
/// Dynamic shared memory of the launch.
pub const SHARED_BYTES: u32 = 2 * TILE_BYTES + 3 * 256;

/// # Safety
/// The tensors have the shapes of the parent module's table; `FUSED` says which of the gates' there are.
#[inline(always)]
pub(super) unsafe fn body<const FUSED: bool>(x: Args) {
    let (slot, head) = (thread::block_idx_x(), thread::block_idx_y());
    // SAFETY: the caller's promise.
    let tile = unsafe { gdn::find(x.cu_seqlens, x.n_seq, slot, CHUNK) };
    if tile.count == 0 {
        return; // the whole block
    }
    let (tid, lane) = (thread::thread_idx_x(), warp::lane_id());
    let w = tid / 32;
    let (row, t) = (lane / 4, lane % 4);
    let smem = shared::dynamic::<u8>();
    let (k_tile, q_tile) = (smem, smem.add(TILE_BYTES));
    let (a_tile, t_tile) = (k_tile.cast::<f32>(), q_tile.cast::<f32>());
    let gate = smem.add(2 * TILE_BYTES).cast::<f32>();
    let (beta, sum) = (gate.add(CHUNK), gate.add(2 * CHUNK));

    // SAFETY: the tile's tokens and the heads exist.
    unsafe {
        let (first, at) = (tile.first as usize, x.key_head(head) as usize * 128);
        let k = x.k.add(first * x.k_stride as usize + at);
        let q = x.q.add(first * x.q_stride as usize + at);
        gdn::copy_rows(
            k_tile,
            PITCH,
            k,
            x.k_stride,
            tile.count,
            16,
            gdn::by_16_bytes(k, x.k_stride),
        );
        gdn::copy_rows(
            q_tile,
            PITCH,
            q,
            x.q_stride,
            tile.count,
            16,
            gdn::by_16_bytes(q, x.q_stride),
        );
        shared::copy_async_commit();
        if tid < CHUNK {
            let gates = Gates {
                g: x.g,
                beta: x.beta,
                a: x.a,
                b: x.b,
                a_log: x.a_log,
                dt_bias: x.dt_bias,
            };
            // Padding has gates of zero: it decays nothing and writes nothing.
            let (g, b) = if tid < tile.count {
                gates.load::<FUSED>(tile.first + tid, head, x.v_heads)
            } else {
                (0.0, 0.0)
            };
            gate.add(tid).store(g);
            beta.add(tid).store(b);
        }
    }
    thread::sync_threads();
    if tid == 0 {
        let mut chain = 0.0;
        let mut i = 0;
        while i < CHUNK {
            chain += gate.add(i).load();
            sum.add(i).store(chain);
            i += 1;
        }
    }
    shared::copy_async_wait::<0>();
    thread::sync_threads();

    // k k^T and q k^T: rows 16 w + .., all 64 columns. Operands: `row_of` for the A side, `column_of` for the B side.
    let (mut kk, mut qk): ([[f32; 4]; 8], [[f32; 4]; 8]) = (zeros(), zeros());
    let a_at = (16 * w + lane % 16) * PITCH + lane / 16 * 16;
    let b_at = (lane % 8 + lane / 16 * 8) * PITCH + lane / 8 % 2 * 16;
    let mut step = 0;
    while step < 8 {
        let (ka, qa) = (
            shared::ldmatrix_x4(k_tile.add(a_at + step * 32)),
            shared::ldmatrix_x4(q_tile.add(a_at + step * 32)),
        );
        unroll!(n < 4 => {
            let [b0, b1, b2, b3] = shared::ldmatrix_x4(k_tile.add(b_at + n as u32 * 16 * PITCH + step * 32));
            let m = 2 * n;
            let d = mma::m16n8k16_bf16(
                &[ka, ka, qa, qa],
                &[[b0, b1], [b2, b3], [b0, b1], [b2, b3]],
                &[kk[m], kk[m + 1], qk[m], qk[m + 1]],
            );
            (kk[m], kk[m + 1], qk[m], qk[m + 1]) = (d[0], d[1], d[2], d[3]);
        });
        step += 1;
    }
    // k and q have been read: A and T take their place.
    thread::sync_threads();

    // SAFETY: the slot and the head exist.
    let out = unsafe { x.chunk(slot, head) };
    unroll!(h < 2 => {
        let i = 16 * w + 8 * h as u32 + row;
        let (g_i, beta_i) = (sum.add(i).load(), beta.add(i).load());
        let mut words: [u32; 8] = zeros();
        unroll!(n < 8 => {
            let j = 8 * n as u32 + 2 * t;
            let d = [
                exact::exp(g_i - sum.add(j).load()),
                exact::exp(g_i - sum.add(j + 1).load()),
            ];
            let at = 2 * h;
            let a = [kk[n][at] * d[0] * beta_i, kk[n][at + 1] * d[1] * beta_i];
            a_tile.add(i * ROW + j).cast::<F32x2>().store(F32x2(a));
            let p = [qk[n][at] * d[0], qk[n][at + 1] * d[1]];
            words[n] = float::f32x2_to_bf16x2(if j <= i { p[0] } else { 0.0 }, if j < i { p[1] } else { 0.0 });
        });
        // SAFETY: inside P.
        unsafe { store_fragments(out.add(MATRIX_BYTES as usize), 2 * w + h as u32, lane, &words) };
    });
    if tid < CHUNK {
        let (g_i, last) = (sum.add(tid).load(), sum.add(CHUNK - 1).load());
        // SAFETY: the gates' part of the scratch.
        unsafe {
            let gates = out.add(2 * MATRIX_BYTES as usize).cast::<f32>();
            mem::store(gates.add(tid as usize), exact::exp(g_i));
            mem::store(gates.add((CHUNK + tid) as usize), exact::exp(last - g_i));
        }
    }
    thread::sync_threads();

    invert_diagonal(a_tile, t_tile, w, lane);
    thread::sync_threads();
    invert_column(a_tile, t_tile, w, lane);
    thread::sync_threads();

    unroll!(h < 2 => {
        let i = 16 * w + 8 * h as u32 + row;
        let mut words: [u32; 8] = zeros();
        unroll!(n < 8 => {
            let j = 8 * n as u32 + 2 * t;
            // Blocks of T above the diagonal are not there, and zero.
            let mut b = [0.0f32; 2];
            if j / 16 <= w {
                let F32x2(inverse) = t_tile.add(i * ROW + j).cast::<F32x2>().load();
                b = [
                    if j <= i { inverse[0] * beta.add(j).load() } else { 0.0 },
                    if j < i { inverse[1] * beta.add(j + 1).load() } else { 0.0 },
                ];
            }
            words[n] = float::f32x2_to_bf16x2(b[0], b[1]);
        });
        // SAFETY: inside B.
        unsafe { store_fragments(out, 2 * w + h as u32, lane, &words) };
    });
}

/// Stores a lane's elements (i, j = 8 n + 2 t + e) of column tile `tile` = i / 8, in fragment order.
///
/// # Safety
/// `matrix` is B or P of a chunk's scratch.
#[inline(always)]
unsafe fn store_fragments(matrix: *mut u8, tile: u32, lane: u32, words: &[u32; 8]) {
    let mut p = 0;
    while p < 2 {
        let four = U32x4([words[4 * p], words[4 * p + 1], words[4 * p + 2], words[4 * p + 3]]);
        // SAFETY: tile < 8, p < 2, lane < 32: within 8192 bytes, aligned to 16.
        unsafe {
            mem::store(
                matrix.add(((tile as usize * 2 + p) * 32 + lane as usize) * 16).cast(),
                four,
            )
        };
        p += 1;
    }
}

/// Diagonal block `w` of T by substitution; lane c (and c + 16, which does the same) has column c.
#[inline(always)]
fn invert_diagonal(a: Shared<f32>, t: Shared<f32>, w: u32, lane: u32) {
    let c = lane % 16;
    let at = 16 * w * ROW + 16 * w;
    let mut column: [f32; 16] = zeros();
    unroll!(r < 16 => {
        let mut chain = 0.0;
        unroll!(l < 16 => {
            if l < r {
                let next = float::fma(a.add(at + r as u32 * ROW + l as u32).load(), column[l], chain);
                chain = if l as u32 >= c { next } else { chain };
            }
        });
        column[r] = if r as u32 == c {
            1.0
        } else if r as u32 > c {
            -chain
        } else {
            0.0
        };
        if lane < 16 {
            t.add(at + r as u32 * ROW + c).store(column[r]);
        }
    });
}

/// The blocks of T below diagonal block `j`, from the top; lane c + 16 h has rows 8 h .. 8 h + 8 of column c of a block.
#[inline(always)]
fn invert_column(a: Shared<f32>, t: Shared<f32>, j: u32, lane: u32) {
    let (c, first) = (lane % 16, lane / 16 * 8);
    let mut i = j + 1;
    while i < 4 {
        let mut m: [f32; 8] = zeros();
        let mut l = 16 * j;
        while l < 16 * i {
            let below = t.add(l * ROW + 16 * j + c).load();
            unroll!(r < 8 => {
                m[r] = float::fma(a.add((16 * i + first + r as u32) * ROW + l).load(), below, m[r]);
            });
            l += 1;
        }
        // M goes where T_ij will be, for the other half of the rows.
        let block = t.add(16 * i * ROW + 16 * j + c);
        unroll!(r < 8 => {
            block.add((first + r as u32) * ROW).store(m[r]);
        });
        warp::sync();
        let mut sum: [f32; 8] = zeros();
        let mut l = 0;
        while l < 16 {
            let below = block.add(l * ROW).load();
            unroll!(r < 8 => {
                let inverse = t.add((16 * i + first + r as u32) * ROW + 16 * i + l).load();
                sum[r] = float::fma(inverse, below, sum[r]);
            });
            l += 1;
        }
        warp::sync();
        unroll!(r < 8 => {
            block.add((first + r as u32) * ROW).store(-sum[r]);
        });
        warp::sync();
        i += 1;
    }
}
