//! The recurrence of the gated delta net, step by step: for decode and for the verification of drafted tokens.
//! `S = S exp(g); u = beta (v - S k); S = S + u k^T; o = scale S q`.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | q, k | `[n_seq * n_tok]` rows, `q_stride` and `k_stride` elements apart: `[k_heads][128]` | bf16 |
//! | v | `[n_seq * n_tok]` rows, `v_stride` elements apart: `[v_heads][128]` | bf16 |
//! | g, beta | `[n_seq * n_tok][v_heads]` ([`fn@gdn_decode`]) | f32 |
//! | a, b; A_log, dt_bias | `[n_seq * n_tok][v_heads]`; `[v_heads]` ([`fn@gdn_decode_fused`]) | bf16; f32 |
//! | state | `[slots][v_heads][128][128]`, read and written | f32 |
//! | state_in | `[n_seq]` slots; -1: zeros | i32 |
//! | state_out | `[n_seq][n_tok]`: the slot for the state after each token; -1: not written | i32 |
//! | o | `[n_seq * n_tok][v_heads][128]` | bf16 |
//!
//! # Canonical order
//! docs/numerics.md, "gdn_decode". Eight lanes have a row of the state, lane j the elements k = 32 i + 4 j + e: its sixteen fma are
//! chain j of `dot`, and three shuffles at distance 4, 2, 1 are the tree. Several tokens are several steps: their bytes do not
//! depend on how many a launch has (level L2), and with a slot for each token a rejected draft is rolled back by reading the
//! state of the last accepted one.
//!
//! # How
//! A block has 32 rows of one value head of one sequence: two for each group of eight lanes, in registers for all tokens, read
//! and written once in 16-byte accesses. No shared memory, no barriers.
//!
//! *Shapes.* Head dim 128. Any number of heads, v_heads a multiple of k_heads; any strides (q and k are read 8 bytes at a time where
//! they are aligned for it).
//!
//! | version | what | measured |
//! | --- | --- | --- |
//! | plain | two rows a group of eight lanes | H200: 16/32 heads, 1 token 3.9 us, 26 % of the roof; 16 sequences 20.9 us, 77 % of the roof |

use cuda_std::float::{self, exact};
use cuda_std::launch::KernelArg;
use cuda_std::vec::{F32x4, U32x2};
use cuda_std::{kernel, mem, thread, warp};
use half::bf16;

use crate::gdn::{self, Gates, HEAD_DIM, STATE, zeros};
use crate::unroll::unroll;

/// Threads of a block.
pub const THREADS: u32 = 128;
/// Rows of the state that a group of eight lanes has.
const ROWS: usize = 2;
/// Rows that a block has.
const BLOCK_ROWS: u32 = THREADS / 8 * ROWS as u32;

/// Blocks of a launch (x, y, z).
pub fn grid(n_seq: u32, v_heads: u32) -> (u32, u32, u32) {
    (n_seq, HEAD_DIM / BLOCK_ROWS, v_heads)
}

/// The parameters; shapes are in the module's table. The gates are either `g` and `beta` or the other four; the kernel
/// does not look at those it does not use.
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
    /// States by slot.
    pub state: *mut f32,
    /// The slot each sequence starts from.
    pub state_in: *const i32,
    /// The slot of the state after each token.
    pub state_out: *const i32,
    /// Outputs.
    pub o: *mut bf16,
    /// Factor of the outputs, 1 / sqrt(128).
    pub scale: f32,
    /// Tokens of each sequence.
    pub n_tok: u32,
    /// Heads of q and k.
    pub k_heads: u32,
    /// Heads of v, o and the state.
    pub v_heads: u32,
    /// Which key head value head h reads: 0 is h / (v_heads / k_heads), 1 is h mod k_heads.
    pub head_map: u32,
    /// Elements from one token of q to the next.
    pub q_stride: u32,
    /// Elements from one token of k to the next.
    pub k_stride: u32,
    /// Elements from one token of v to the next.
    pub v_stride: u32,
}

// SAFETY: plain addresses of device memory and numbers, aligned to 8.
unsafe impl KernelArg for Args {}

/// A lane's sixteen elements of a vector of 128: 32 i + 4 j + e.
///
/// # Safety
/// `p` has 128 elements, aligned to 8 bytes where `whole`.
#[inline(always)]
unsafe fn load_16(p: *const bf16, j: u32, whole: bool) -> [f32; 16] {
    let mut out: [f32; 16] = zeros();
    unroll!(i < 4 => {
        // SAFETY: the caller's promise.
        unsafe {
            let p = p.add(32 * i + 4 * j as usize);
            if whole {
                let words = mem::load_nc(p.cast::<U32x2>());
                [out[4 * i], out[4 * i + 1]] = float::bf16x2_to_f32(words.0[0]);
                [out[4 * i + 2], out[4 * i + 3]] = float::bf16x2_to_f32(words.0[1]);
            } else {
                let mut e = 0;
                while e < 4 {
                    out[4 * i + e] = float::bf16_to_f32(mem::load_nc(p.add(e)));
                    e += 1;
                }
            }
        }
    });
    out
}

/// The dot product in canonical order, in all eight lanes.
#[inline(always)]
fn dot(a: &[f32; 16], b: &[f32; 16]) -> f32 {
    let mut sum = 0.0;
    let mut i = 0;
    while i < 16 {
        sum = float::fma(a[i], b[i], sum);
        i += 1;
    }
    sum += warp::shuffle_xor(sum, 4);
    sum += warp::shuffle_xor(sum, 2);
    sum + warp::shuffle_xor(sum, 1)
}

/// # Safety
/// The tensors must have the shapes of the module's table, and `FUSED` says which of the gates' there are.
#[inline(always)]
unsafe fn body<const FUSED: bool>(x: Args) {
    let (seq, head) = (thread::block_idx_x(), thread::block_idx_z());
    let j = thread::thread_idx_x() % 8;
    let first_row = thread::block_idx_y() * BLOCK_ROWS + thread::thread_idx_x() / 8;
    let key_head = gdn::key_head(head, x.k_heads, x.v_heads, x.head_map != 0);
    let whole = (x.q as usize).is_multiple_of(8)
        && (x.k as usize).is_multiple_of(8)
        && x.q_stride.is_multiple_of(4)
        && x.k_stride.is_multiple_of(4);
    let gates = Gates {
        g: x.g,
        beta: x.beta,
        a: x.a,
        b: x.b,
        a_log: x.a_log,
        dt_bias: x.dt_bias,
    };
    // The lane's share of row r (of ROWS) of this head in a slot.
    // SAFETY: the slot exists; rows are below 128.
    let share = |slot: i32, r: usize, i: usize| unsafe {
        let row = first_row as usize + r * (THREADS / 8) as usize;
        let head = slot as usize * x.v_heads as usize + head as usize;
        x.state.add(head * STATE + row * 128 + 32 * i + 4 * j as usize)
    };

    let mut state: [[f32; 16]; ROWS] = zeros();
    // SAFETY: the sequence exists.
    let from = unsafe { mem::load_nc(x.state_in.add(seq as usize)) };
    if from >= 0 {
        unroll!(r < 2 => {
            unroll!(i < 4 => {
                // SAFETY: 16 bytes of a row, aligned to 16.
                let F32x4([s0, s1, s2, s3]) = unsafe { mem::load(share(from, r, i).cast::<F32x4>()) };
                (state[r][4 * i], state[r][4 * i + 1]) = (s0, s1);
                (state[r][4 * i + 2], state[r][4 * i + 3]) = (s2, s3);
            });
        });
    }

    let mut step = 0;
    while step < x.n_tok {
        let token = seq * x.n_tok + step;
        let at = token as usize;
        // SAFETY: the token and the heads exist.
        let (k, q, (g, beta), to) = unsafe {
            let head_at = key_head as usize * 128;
            (
                load_16(x.k.add(at * x.k_stride as usize + head_at), j, whole),
                load_16(x.q.add(at * x.q_stride as usize + head_at), j, whole),
                gates.load::<FUSED>(token, head, x.v_heads),
                mem::load_nc(x.state_out.add(at)),
            )
        };
        let decay = exact::exp(g);
        unroll!(r < 2 => {
            let row = first_row as usize + r * (THREADS / 8) as usize;
            // SAFETY: as above.
            let v = unsafe { mem::load_nc(x.v.add(at * x.v_stride as usize + head as usize * 128 + row)) };
            let s = &mut state[r];
            let mut i = 0;
            while i < 16 {
                s[i] *= decay;
                i += 1;
            }
            let u = beta * (float::bf16_to_f32(v) - dot(s, &k));
            let mut i = 0;
            while i < 16 {
                s[i] = float::fma(u, k[i], s[i]);
                i += 1;
            }
            let o = float::f32_to_bf16(dot(s, &q) * x.scale);
            if j == 0 {
                // SAFETY: as above.
                unsafe { mem::store(x.o.add((at * x.v_heads as usize + head as usize) * 128 + row), o) };
            }
            if to >= 0 {
                unroll!(i < 4 => {
                    let four = [s[4 * i], s[4 * i + 1], s[4 * i + 2], s[4 * i + 3]];
                    let four = F32x4([
                        gdn::canonical(four[0]),
                        gdn::canonical(four[1]),
                        gdn::canonical(four[2]),
                        gdn::canonical(four[3]),
                    ]);
                    // SAFETY: as for the load.
                    unsafe { mem::store(share(to, r, i).cast::<F32x4>(), four) };
                });
            }
        });
        step += 1;
    }
}

/// Steps with the gates as [`crate::gdn_gates`] stores them. Grid: [`grid`].
///
/// # Safety
/// The tensors must have the shapes of the module's table, on the device; slots are used by one sequence each; `v_heads` is a
/// multiple of `k_heads`.
#[kernel(threads = 128)]
pub unsafe fn gdn_decode(args: Args) {
    // SAFETY: the caller's promise.
    unsafe { body::<false>(args) }
}

/// Steps with the gates computed from a and b, the same bytes. Grid: [`grid`].
///
/// # Safety
/// As for [`fn@gdn_decode`].
#[kernel(threads = 128)]
pub unsafe fn gdn_decode_fused(args: Args) {
    // SAFETY: the caller's promise.
    unsafe { body::<true>(args) }
}
