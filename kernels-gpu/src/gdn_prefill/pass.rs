//! The second launch: the chain over the chunks of a sequence, for one value head and 16 columns of V a warp.
//!
//! Everything is transposed, columns of V as rows, so that results are the next product's A operand as they lie in registers:
//! ```text
//! X^T, Y^T [16][64 i] = S~ [16][128 k] x k, q [64 i][128 k]         S~: the state's accumulators, rounded
//! n^T      [16][64 i] = r^T [16][64 j] x B [64 i][64 j]             r^T: X^T and v
//! o^T      [16][64 i] = n^T [16][64 j] x P [64 i][64 j] + e^G Y^T
//! S        [16][128 k] = nd^T [16][64 j] x k [64 j][128 k] + e^G_63 S
//! ```
//! Warps share nothing but what they read. Two stages of copies (one, on GPUs with little shared memory), each:
//!
//! | shared memory | shape |
//! | --- | --- |
//! | k, q | bf16 `[64][PITCH]` |
//! | B, P; e^G_i, e^(G_63 - G_j) | the chunk's scratch as it is |
//! | v, then o | bf16 `[64][16 * warps + 8]` |
//!
//! Barriers: one when a stage has arrived, one when it has been read.

use cuda_std::shared::{self, Shared};
use cuda_std::vec::{F32x2, U32x4};
use cuda_std::{float, mem, mma, thread, warp};
use half::bf16;

use super::{Args, CHUNK_BYTES, MATRIX_BYTES, PITCH};
use crate::gdn::{self, CHUNK, STATE, zeros};
use crate::rows;
use crate::unroll::unroll;

const Q_AT: u32 = CHUNK * PITCH;
const CHUNK_AT: u32 = 2 * CHUNK * PITCH;
const V_AT: u32 = CHUNK_AT + CHUNK_BYTES;

/// Bytes from one token to the next in the stage's v: 16 more than its columns, as for [`PITCH`].
#[inline(always)]
fn v_pitch(warps: u32) -> u32 {
    32 * warps + 16
}

#[inline(always)]
fn stage_bytes(warps: u32) -> u32 {
    V_AT + CHUNK * v_pitch(warps)
}

/// Stages of copies, and dynamic shared memory of the launch with `warps` warps a block, where a block can have
/// `most` bytes: one stage where two do not fit, the same bytes without copies that run ahead.
pub fn stages(warps: u32, most: u32) -> (u32, u32) {
    let stages = if 2 * stage_bytes(warps) <= most { 2 } else { 1 };
    (stages, stages * stage_bytes(warps))
}

/// Accumulators of 16 rows and 8 `N` columns.
type Tile<const N: usize> = [[f32; 4]; N];

/// Two tiles of accumulators, rounded, as the A operand of a k16 step.
#[inline(always)]
fn operand(low: [f32; 4], high: [f32; 4]) -> [u32; 4] {
    [
        float::f32x2_to_bf16x2(low[0], low[1]),
        float::f32x2_to_bf16x2(low[2], low[3]),
        float::f32x2_to_bf16x2(high[0], high[1]),
        float::f32x2_to_bf16x2(high[2], high[3]),
    ]
}

/// What a block knows of its sequence and head.
struct Place {
    head: u32,
    warps: u32,
    /// The slot of its first chunk in the scratch.
    slot: u32,
    /// The packed index of the sequence's first token, and its tokens.
    first: u32,
    len: u32,
    /// The first column of V of the block.
    column: u32,
}

/// Starts the copies of chunk `c` into `stage`.
///
/// # Safety
/// The chunk exists; the tensors have the shapes of the parent module's table.
#[inline(always)]
unsafe fn fetch(x: &Args, place: &Place, stage: Shared<u8>, c: u32) {
    let token = (place.first + c * CHUNK) as usize;
    let rows = (place.len - c * CHUNK).min(CHUNK);
    let at = x.key_head(place.head) as usize * 128;
    // SAFETY: the caller's promise: tokens of the sequence, and heads that exist.
    unsafe {
        let k = x.k.add(token * x.k_stride as usize + at);
        let q = x.q.add(token * x.q_stride as usize + at);
        let v =
            x.v.add(token * x.v_stride as usize + place.head as usize * 128 + place.column as usize);
        gdn::copy_rows(stage, PITCH, k, x.k_stride, rows, 16, gdn::by_16_bytes(k, x.k_stride));
        gdn::copy_rows(
            stage.add(Q_AT),
            PITCH,
            q,
            x.q_stride,
            rows,
            16,
            gdn::by_16_bytes(q, x.q_stride),
        );
        let (v_at, pieces) = (stage.add(V_AT), 2 * place.warps);
        gdn::copy_rows(
            v_at,
            v_pitch(place.warps),
            v,
            x.v_stride,
            rows,
            pieces,
            gdn::by_16_bytes(v, x.v_stride),
        );
        let chunk = x.chunk(place.slot + c, place.head);
        let mut i = thread::thread_idx_x() * 16;
        while i < CHUNK_BYTES {
            shared::copy_async16(stage.add(CHUNK_AT + i), chunk.add(i as usize));
            i += thread::block_dim_x() * 16;
        }
    }
}

/// D += A x B^T over 64 j for all 64 i, where B lies in fragment order: `a` is four k16 steps of A.
#[inline(always)]
fn multiply(a: &[[u32; 4]; 4], matrix: Shared<u8>, lane: u32, d: &mut Tile<8>) {
    unroll!(n < 8 => {
        unroll!(p < 2 => {
            let at = ((n as u32 * 2 + p as u32) * 32 + lane) * 16;
            let U32x4([b0, b1, b2, b3]) = matrix.add(at).cast::<U32x4>().load();
            [d[n]] = mma::m16n8k16_bf16(&[a[2 * p]], &[[b0, b1]], &[d[n]]);
            [d[n]] = mma::m16n8k16_bf16(&[a[2 * p + 1]], &[[b2, b3]], &[d[n]]);
        });
    });
}

/// One chunk: updates `s`, and leaves the outputs, bf16, where v was.
#[inline(always)]
fn advance(stage: Shared<u8>, v_tile: Shared<u8>, v_pitch: u32, scale: f32, lane: u32, s: &mut Tile<16>) {
    let (g, t) = (lane / 4, lane % 4);
    let (k_tile, q_tile) = (stage, stage.add(Q_AT));
    let (b, p) = (stage.add(CHUNK_AT), stage.add(CHUNK_AT + MATRIX_BYTES));
    let from_start = stage.add(CHUNK_AT + 2 * MATRIX_BYTES).cast::<f32>();
    let to_end = from_start.add(CHUNK);

    // X^T and Y^T.
    let (mut x, mut y): (Tile<8>, Tile<8>) = (zeros(), zeros());
    let at = (lane % 8 + lane / 16 * 8) * PITCH + lane / 8 % 2 * 16;
    unroll!(step < 8 => {
        let a = operand(s[2 * step], s[2 * step + 1]);
        unroll!(n < 4 => {
            let at = at + n as u32 * 16 * PITCH + step as u32 * 32;
            let [k0, k1, k2, k3] = shared::ldmatrix_x4(k_tile.add(at));
            let [q0, q1, q2, q3] = shared::ldmatrix_x4(q_tile.add(at));
            [x[2 * n], x[2 * n + 1], y[2 * n], y[2 * n + 1]] = mma::m16n8k16_bf16(
                &[a; 4],
                &[[k0, k1], [k2, k3], [q0, q1], [q2, q3]],
                &[x[2 * n], x[2 * n + 1], y[2 * n], y[2 * n + 1]],
            );
        });
    });

    // r^T. The transposed load gives v in the accumulators' order: two tokens of a column in a register.
    let v_at = v_tile.add((lane % 8 + lane / 16 * 8) * v_pitch + lane / 8 % 2 * 16);
    let mut r: [[u32; 4]; 4] = zeros();
    unroll!(n < 4 => {
        let words = shared::ldmatrix_x4_trans(v_at.add(n as u32 * 16 * v_pitch));
        unroll!(half < 2 => {
            let i = 16 * n as u32 + 8 * half as u32 + 2 * t;
            let F32x2([e0, e1]) = from_start.add(i).cast::<F32x2>().load();
            let [v0, v1] = float::bf16x2_to_f32(words[2 * half]);
            let [v2, v3] = float::bf16x2_to_f32(words[2 * half + 1]);
            let x = x[2 * n + half];
            r[n][2 * half] = float::f32x2_to_bf16x2(float::fma(-e0, x[0], v0), float::fma(-e1, x[1], v1));
            r[n][2 * half + 1] = float::f32x2_to_bf16x2(float::fma(-e0, x[2], v2), float::fma(-e1, x[3], v3));
        });
    });

    // n^T, as it is and decayed to the end of the chunk.
    let mut d: Tile<8> = zeros();
    multiply(&r, b, lane, &mut d);
    let (mut plain, mut decayed): ([[u32; 4]; 4], [[u32; 4]; 4]) = (zeros(), zeros());
    unroll!(n < 8 => {
        let F32x2([e0, e1]) = to_end.add(8 * n as u32 + 2 * t).cast::<F32x2>().load();
        let at = n % 2 * 2;
        plain[n / 2][at] = float::f32x2_to_bf16x2(d[n][0], d[n][1]);
        plain[n / 2][at + 1] = float::f32x2_to_bf16x2(d[n][2], d[n][3]);
        decayed[n / 2][at] = float::f32x2_to_bf16x2(d[n][0] * e0, d[n][1] * e1);
        decayed[n / 2][at + 1] = float::f32x2_to_bf16x2(d[n][2] * e0, d[n][3] * e1);
    });

    // o^T.
    unroll!(n < 8 => {
        let F32x2([e0, e1]) = from_start.add(8 * n as u32 + 2 * t).cast::<F32x2>().load();
        y[n] = [e0 * y[n][0], e1 * y[n][1], e0 * y[n][2], e1 * y[n][3]];
    });
    multiply(&plain, p, lane, &mut y);
    // All lanes have read v.
    warp::sync();
    unroll!(n < 8 => {
        let at = v_tile.add((8 * n as u32 + 2 * t) * v_pitch + 2 * g);
        unroll!(e < 4 => {
            let o = float::f32_to_bf16(scale * y[n][e]);
            at.add(e as u32 % 2 * v_pitch + e as u32 / 2 * 16).cast::<bf16>().store(o);
        });
    });

    // The state.
    let rest = from_start.add(CHUNK - 1).load();
    unroll!(n < 16 => {
        s[n] = [s[n][0] * rest, s[n][1] * rest, s[n][2] * rest, s[n][3] * rest];
    });
    let at = (lane % 16) * PITCH + lane / 16 * 16;
    unroll!(step < 4 => {
        unroll!(n < 8 => {
            let [b0, b1, b2, b3] = shared::ldmatrix_x4_trans(k_tile.add(at + step as u32 * 16 * PITCH + n as u32 * 32));
            [s[2 * n], s[2 * n + 1]] =
                mma::m16n8k16_bf16(&[decayed[step]; 2], &[[b0, b1], [b2, b3]], &[s[2 * n], s[2 * n + 1]]);
        });
    });
}

/// # Safety
/// The tensors have the shapes of the parent module's table, and the first launch has run.
#[inline(always)]
pub(super) unsafe fn body(x: Args) {
    let warps = thread::block_dim_x() / 32;
    let (w, lane) = (thread::thread_idx_x() / 32, warp::lane_id());
    let (g, t) = (lane / 4, lane % 4);
    let seq = thread::block_idx_x();
    // SAFETY: the sequence exists.
    let (origin, first, end, from, to) = unsafe {
        (
            mem::load_nc(x.cu_seqlens) as u32,
            mem::load_nc(x.cu_seqlens.add(seq as usize)) as u32,
            mem::load_nc(x.cu_seqlens.add(seq as usize + 1)) as u32,
            mem::load_nc(x.state_in.add(seq as usize)),
            mem::load_nc(x.state_out.add(seq as usize)),
        )
    };
    let place = Place {
        head: thread::block_idx_z(),
        warps,
        slot: gdn::first_slot(first - origin, seq, CHUNK),
        first,
        len: end - first,
        column: thread::block_idx_y() * 16 * warps,
    };
    // Elements 8 n + 2 t, + 1 of rows g and g + 8 of the warp's rows of the state.
    // SAFETY: the slot exists; rows are below 128.
    let share = |slot: i32, row: u32, n: usize| unsafe {
        let head = slot as usize * x.v_heads as usize + place.head as usize;
        let row = place.column + 16 * w + g + row;
        x.state
            .add(head * STATE + row as usize * 128 + 8 * n + 2 * t as usize)
            .cast::<F32x2>()
    };

    let mut s: Tile<16> = zeros();
    if from >= 0 {
        unroll!(n < 16 => {
            // SAFETY: as above, aligned to 8.
            let (F32x2([s0, s1]), F32x2([s2, s3])) =
                unsafe { (mem::load(share(from, 0, n)), mem::load(share(from, 8, n))) };
            s[n] = [s0, s1, s2, s3];
        });
    }

    let shared = shared::dynamic::<u8>();
    let chunks = place.len.div_ceil(CHUNK);
    let ahead = x.stages - 1;
    if ahead > 0 && chunks > 0 {
        // SAFETY: the first chunk exists.
        unsafe { fetch(&x, &place, shared, 0) };
    }
    shared::copy_async_commit();
    let mut c = 0;
    while c < chunks {
        if c + ahead < chunks {
            // SAFETY: the chunk exists.
            unsafe {
                fetch(
                    &x,
                    &place,
                    shared.add((c + ahead) % 2 * ahead * stage_bytes(warps)),
                    c + ahead,
                )
            };
        }
        shared::copy_async_commit();
        if ahead > 0 {
            shared::copy_async_wait::<1>();
        } else {
            shared::copy_async_wait::<0>();
        }
        thread::sync_threads();

        let stage = shared.add(c % 2 * ahead * stage_bytes(warps));
        let v_tile = stage.add(V_AT + 32 * w);
        advance(stage, v_tile, v_pitch(warps), x.scale, lane, &mut s);

        // The warp's outputs, two pieces of 16 bytes a token.
        warp::sync();
        let rows = (place.len - c * CHUNK).min(CHUNK);
        let mut i = lane;
        while i < 2 * rows {
            let (row, piece) = (i / 2, i % 2);
            let four = v_tile.add(row * v_pitch(warps) + piece * 16).cast::<U32x4>().load();
            let token = (place.first + c * CHUNK + row) as usize;
            let column = place.column + 16 * w + 8 * piece;
            // SAFETY: a token of the sequence.
            unsafe {
                let o =
                    x.o.add((token * x.v_heads as usize + place.head as usize) * 128 + column as usize);
                rows::store8(o, four, 8);
            }
            i += 32;
        }
        thread::sync_threads();
        c += 1;
    }

    if to >= 0 {
        unroll!(n < 16 => {
            let [s0, s1, s2, s3] = s[n];
            // SAFETY: as for the load; the old state has been read.
            unsafe {
                mem::store(share(to, 0, n), F32x2([gdn::canonical(s0), gdn::canonical(s1)]));
                mem::store(share(to, 8, n), F32x2([gdn::canonical(s2), gdn::canonical(s3)]));
            }
        });
    }
}
