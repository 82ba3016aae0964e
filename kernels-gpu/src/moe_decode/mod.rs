//! MoE for a few tokens, without permutation: `y[t] = sum_s w[t][s] * down_e(silu(gate_e(x[t])) * up_e(x[t]))`, e = `ids[t][s]`, plus
//! `sigmoid(gate[t]) * shared[t]` where there is a shared expert.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | x | `[n_tok][k]` | bf16 |
//! | ids, weights | `[n_tok][top_k]`, the router's | i32, f32 |
//! | gate_up | `[E][2 n][k]`, an expert's n rows of gate, then its n rows of up | bf16, or NVFP4 |
//! | down | `[E][k][n]` | bf16, or NVFP4 |
//! | h | `[n_tok * top_k][n]`, scratch | bf16 |
//! | gate | `[n_tok]`, the shared expert's logit; unused without it | f32 |
//! | shared | `[n_tok][k]`, the shared expert's output; null without it | bf16 |
//! | y | `[n_tok][k]` | bf16 |
//!
//! NVFP4 rows of K values are K / 2 bytes of E2M1 codes and K / 16 bytes of E4M3 scales; `[E]` f32 tensor scales, multiplied by
//! (ModelOpt) or divided by (compressed-tensors).
//!
//! # Canonical order
//! docs/numerics.md, "Mixture of experts": the MMA chain over all of k for gate and up, each rounded to bf16; bf16(silu * up);
//! the MMA chain over all of n, rounded to bf16; then the combine in slot order, the shared expert last, and one rounding. So the
//! bytes are those of router, sort, grouped, `silu_mul` and combine (level L3). A pair whose id is no expert counts as +0, as there.
//!
//! # How
//! Two launches. [`fn@moe_decode_gate_up_bf16`]: a block of two warps makes 16 values of h of one pair, one warp the gate's, one
//! the up's. [`fn@moe_decode_down_bf16`]: a block makes 16 outputs of one token; its eight warps take the slots in turn and
//! leave their rounded products in shared memory, where one thread an output adds them up in slot order.
//!
//! A warp's 16 rows of weights are the MMA's A operand, straight from memory to registers; the token is the B operand, in
//! all eight columns alike. Within a k16 step the order of k is free, so lane t takes k 4t..4t+4 of both operands: 8 bytes of
//! bf16, four lanes a whole sector. Eight steps are in flight while eight are multiplied. No step is done beyond K.
//!
//! *Barriers.* One in each kernel, between the warps' products and what is made of them.
//!
//! *Shapes.* Any n_tok, top_k up to 32, any n and k (multiples of 16 for NVFP4). Rows of other alignment than 8 bytes go element
//! by element.
//!
//! # Versions
//! | version | what | H200, us |
//! | --- | --- | --- |
//! | 1 | as above | H200: 256 experts bf16, 1 token 39.4 us, 30 % of the roof; NVFP4 31.1 us, 11 % of the roof |
//! | 2 | the shared expert too | H200: the same with one, 39.1 us, 30 %; NVFP4 30.6 us, 11 % |

mod rows;

use cuda_std::float::{self, exact};
use cuda_std::{bf16, kernel, mem, mma, shared, thread, warp};

use crate::tile_mma::Scale;
use crate::unroll::unroll;
use rows::{Dense, Nvfp4, Row, Weights};

/// Rows of weights a warp multiplies.
pub const ROWS: u32 = 16;
/// Threads of a gate and up block.
pub const GATE_UP_THREADS: u32 = 64;
/// Threads of a down block.
pub const DOWN_THREADS: u32 = 256;
/// Dynamic shared memory of a gate and up block in bytes.
pub const GATE_UP_SHARED: u32 = ROWS * 4;

/// Dynamic shared memory of a down block in bytes.
pub fn down_shared(top_k: u32) -> u32 {
    top_k * ROWS * 4
}

/// Steps in flight.
const AHEAD: usize = 8;

/// The operands of [`AHEAD`] steps: rows of the upper and of the lower eight, and the token.
#[derive(Clone, Copy)]
struct Steps<R: Row> {
    upper: [R::Loaded; AHEAD],
    lower: [R::Loaded; AHEAD],
    x: [[u32; 2]; AHEAD],
}

/// Loads the steps from `first` on.
///
/// # Safety
/// The rows are what their fields say.
#[inline(always)]
unsafe fn fetch<R: Row>(upper: R, lower: R, x: Dense, first: u32) -> Steps<R> {
    // SAFETY: words, for which all zeroes is a value.
    let mut steps: Steps<R> = unsafe { core::mem::zeroed() };
    unroll!(i < 8 => {
        let step = first + i as u32;
        // SAFETY: the caller's promise.
        unsafe {
            steps.upper[i] = upper.load(step);
            steps.lower[i] = lower.load(step);
            steps.x[i] = x.load(step);
        }
    });
    steps
}

/// The chain over K of the warp's 16 rows with x: `upper` is this lane's row of the first eight, `lower` that of the others. Gives
/// the sums of those two rows. The whole warp calls it.
///
/// # Safety
/// The rows are what their fields say.
#[inline(always)]
unsafe fn chain<R: Row>(upper: R, lower: R, x: Dense, k: u32) -> [f32; 2] {
    let end = k.div_ceil(16);
    let mut sums = [[0.0f32; 4]; 1];
    // SAFETY: the caller's promise.
    let mut held = unsafe { fetch(upper, lower, x, 0) };
    let mut first = 0;
    while first < end {
        // SAFETY: the caller's promise; beyond K nothing is read.
        let next = unsafe { fetch(upper, lower, x, first + AHEAD as u32) };
        unroll!(i < 8 => {
            // Steps of zeros would change nothing, but take their time.
            if first + (i as u32) < end {
                let ([a0, a2], [a1, a3]) = (R::values(held.upper[i]), R::values(held.lower[i]));
                sums = mma::m16n8k16_bf16(&[[a0, a1, a2, a3]], &[held.x[i]], &sums);
            }
        });
        held = next;
        first += AHEAD as u32;
    }
    [sums[0][0], sums[0][2]]
}

/// The product of rows `first .. first + 16` of an expert with x, in bf16: this lane's of the upper and of the lower eight.
///
/// # Safety
/// The expert exists, `end` is at most its `rows`, and x has k values. The whole warp calls it.
#[inline(always)]
unsafe fn product<W: Weights>(w: W, expert: u32, first: u32, end: u32, rows: u32, x: *const u16, k: u32) -> [f32; 2] {
    let row = first + warp::lane_id() / 4;
    let of = |row: u32| {
        if row < end {
            w.row(expert, row, rows, k)
        } else {
            w.none()
        }
    };
    // SAFETY: the caller's promise.
    let (sums, scale) = unsafe { (chain(of(row), of(row + 8), Dense { row: x, k }, k), w.scale(expert)) };
    let round = |sum: f32| {
        let v = match scale {
            Scale::None => sum,
            Scale::Multiply(s) => sum * s,
            Scale::Divide(s) => sum / s,
        };
        float::bf16_to_f32(float::f32_to_bf16(v))
    };
    [round(sums[0]), round(sums[1])]
}

/// The shared expert of a launch, or none (null output).
#[derive(Clone, Copy)]
struct Shared {
    gate: *const f32,
    output: *const bf16,
}

/// Sizes of a launch.
#[derive(Clone, Copy)]
struct Sizes {
    experts: u32,
    top_k: u32,
    n: u32,
    k: u32,
}

/// 16 values of h of one pair.
///
/// # Safety
/// The tensors have the shapes of the module's table.
#[inline(always)]
unsafe fn gate_up<W: Weights>(x: *const u16, ids: *const i32, w: W, h: *mut bf16, sizes: Sizes) {
    let Sizes { experts, top_k, n, k } = sizes;
    let (pair, first) = (thread::block_idx_y(), thread::block_idx_x() * ROWS);
    // SAFETY: the pair exists.
    let expert = unsafe { mem::load(ids.add(pair as usize)) } as u32;
    if expert >= experts {
        return;
    }
    let is_up = thread::thread_idx_x() / 32;
    let lane = warp::lane_id();
    // SAFETY: the expert and the token exist.
    let sums = unsafe {
        let x = x.add((pair / top_k.max(1)) as usize * k as usize);
        product(w, expert, is_up * n + first, (is_up + 1) * n, 2 * n, x, k)
    };
    let up = shared::dynamic::<f32>();
    if is_up == 1 && lane.is_multiple_of(4) {
        up.add(lane / 4).store(sums[0]);
        up.add(lane / 4 + 8).store(sums[1]);
    }
    thread::sync_threads();
    if is_up == 0 && lane.is_multiple_of(4) {
        let mut half = 0;
        while half < 2 {
            let row = lane / 4 + 8 * half as u32;
            if first + row < n {
                let value = exact::silu(sums[half]) * up.add(row).load();
                // SAFETY: the pair and the row exist.
                unsafe {
                    let to = h.add(pair as usize * n as usize + (first + row) as usize);
                    mem::store(to, float::f32_to_bf16(value));
                }
            }
            half += 1;
        }
    }
}

/// 16 outputs of one token.
///
/// # Safety
/// The tensors have the shapes of the module's table.
#[inline(always)]
unsafe fn down<W: Weights>(
    h: *const u16,
    ids: *const i32,
    weights: *const f32,
    w: W,
    extra: Shared,
    y: *mut bf16,
    sizes: Sizes,
) {
    let Sizes { experts, top_k, n, k } = sizes;
    let (token, first) = (thread::block_idx_y() as usize, thread::block_idx_x() * ROWS);
    let (tid, lane) = (thread::thread_idx_x(), warp::lane_id());
    let out = token * k as usize + (first + tid) as usize;
    let adds_up = tid < ROWS && first + tid < k;
    // Loaded while the products are made.
    let (mut gate, mut value) = (0.0, bf16::ZERO);
    if adds_up && !extra.output.is_null() {
        // SAFETY: the token and the output exist.
        unsafe { (gate, value) = (mem::load(extra.gate.add(token)), mem::load(extra.output.add(out))) };
    }
    let products = shared::dynamic::<f32>();
    let mut slot = tid / 32;
    while slot < top_k {
        let pair = token * top_k as usize + slot as usize;
        // SAFETY: the pair exists.
        let expert = unsafe { mem::load(ids.add(pair)) } as u32;
        let mut sums = [0.0; 2];
        if expert < experts {
            // SAFETY: the expert exists, and the kernel before has made the pair's h.
            sums = unsafe { product(w, expert, first, k, k, h.add(pair * n as usize), n) };
        }
        if lane.is_multiple_of(4) {
            products.add(slot * ROWS + lane / 4).store(sums[0]);
            products.add(slot * ROWS + lane / 4 + 8).store(sums[1]);
        }
        slot += DOWN_THREADS / 32;
    }
    thread::sync_threads();
    if adds_up {
        let mut acc = 0.0;
        let mut slot = 0;
        while slot < top_k {
            // SAFETY: the pair exists.
            let weight = unsafe { mem::load(weights.add(token * top_k as usize + slot as usize)) };
            acc = float::fma(weight, products.add(slot * ROWS + tid).load(), acc);
            slot += 1;
        }
        if !extra.output.is_null() {
            acc = float::fma(exact::sigmoid(gate), float::bf16_to_f32(value), acc);
        }
        // SAFETY: the token and the output exist.
        unsafe { mem::store(y.add(out), float::f32_to_bf16(acc)) };
    }
}

/// h from bf16 weights. Grid: x over blocks of [`ROWS`] of n, y over pairs.
///
/// # Safety
/// The tensors have the shapes of the module's table, on the device; the launch has [`GATE_UP_SHARED`].
#[kernel(threads = 64)]
pub unsafe fn moe_decode_gate_up_bf16(
    x: *const u16,
    ids: *const i32,
    w: *const u16,
    h: *mut bf16,
    experts: u32,
    top_k: u32,
    n: u32,
    k: u32,
) {
    // SAFETY: the caller's promise.
    unsafe { gate_up(x, ids, w, h, Sizes { experts, top_k, n, k }) }
}

/// h from NVFP4 weights; `divide`: by the tensor scale. Otherwise as [`fn@moe_decode_gate_up_bf16`].
///
/// # Safety
/// As [`fn@moe_decode_gate_up_bf16`], codes aligned to 2.
#[kernel(threads = 64)]
pub unsafe fn moe_decode_gate_up_nvfp4(
    x: *const u16,
    ids: *const i32,
    codes: *const u8,
    scales: *const u8,
    tensor: *const f32,
    divide: u32,
    h: *mut bf16,
    experts: u32,
    top_k: u32,
    n: u32,
    k: u32,
) {
    let divide = divide != 0;
    let w = Nvfp4 {
        codes,
        scales,
        tensor,
        divide,
    };
    // SAFETY: the caller's promise.
    unsafe { gate_up(x, ids, w, h, Sizes { experts, top_k, n, k }) }
}

/// y from h and bf16 weights, and the shared expert where `shared` is not null. Grid: x over blocks of [`ROWS`] of k, y over tokens.
///
/// # Safety
/// The tensors have the shapes of the module's table, on the device; the launch has [`down_shared`].
#[kernel(threads = 256, min_blocks = 1)]
pub unsafe fn moe_decode_down_bf16(
    h: *const u16,
    ids: *const i32,
    weights: *const f32,
    w: *const u16,
    gate: *const f32,
    shared: *const bf16,
    y: *mut bf16,
    experts: u32,
    top_k: u32,
    n: u32,
    k: u32,
) {
    let extra = Shared { gate, output: shared };
    // SAFETY: the caller's promise.
    unsafe { down(h, ids, weights, w, extra, y, Sizes { experts, top_k, n, k }) }
}

/// y from h and NVFP4 weights; `divide`: by the tensor scale. Otherwise as [`fn@moe_decode_down_bf16`].
///
/// # Safety
/// As [`fn@moe_decode_down_bf16`], codes aligned to 2.
#[kernel(threads = 256, min_blocks = 1)]
pub unsafe fn moe_decode_down_nvfp4(
    h: *const u16,
    ids: *const i32,
    weights: *const f32,
    codes: *const u8,
    scales: *const u8,
    tensor: *const f32,
    divide: u32,
    gate: *const f32,
    shared: *const bf16,
    y: *mut bf16,
    experts: u32,
    top_k: u32,
    n: u32,
    k: u32,
) {
    let divide = divide != 0;
    let w = Nvfp4 {
        codes,
        scales,
        tensor,
        divide,
    };
    let extra = Shared { gate, output: shared };
    // SAFETY: the caller's promise.
    unsafe { down(h, ids, weights, w, extra, y, Sizes { experts, top_k, n, k }) }
}
