//! nvfp4_quantize: a bf16 matrix to E2M1 codes, E4M3 block scales and an f32 tensor scale, as the two writers of checkpoints do it.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | x | `[rows][k]` | bf16 |
//! | amax | `[1]` | u32, zero before the first kernel: the bits of A as f32 |
//! | codes | `[rows][k / 2]` | two E2M1 a byte, the low nibble is the even k |
//! | scales | `[rows][k / 16]` | E4M3 |
//! | tensor_scale | `[1]` | f32 |
//!
//! # Canonical order
//! A is the largest magnitude of the matrix, a that of a block of 16, x a value; NaN is the largest of all. Maxima are of bits, as
//! integers, so their order is free. Every operation is one f32 operation rounded to nearest; `bf16()`, `e4m3()` and `e2m1()`
//! round to nearest, ties to even.
//! ```text
//! ModelOpt (divide = 0)                                compressed-tensors (divide = 1)
//! s     = A / 2688                                     r = bf16(1 / max(A, 2^-126)); s = bf16(r * 2688)
//!                                                      s = 1 where that is NaN or infinite
//! v     = a / (6 * s); 1 where v is 0                  v = s * bf16(a / 6)
//! scale = e4m3(min(max(v, 2^-9), 448))                 scale = e4m3(min(v, 448)); 0.125 where that is 0
//! q     = x / (scale * s)                              q = x / (scale / s)
//! code  = e2m1(min(|q|, 6)), with the sign bit where q < 0: a negative that rounds to zero keeps it, a quotient of -0 has none
//! code  = 7 where q is NaN                             code  = 0 where q is NaN
//! ```
//! A NaN v is scale 0x7F; a NaN s is stored as 0x7FFFFFFF. These are the operations of `NVFP4QTensor` of nvidia-modelopt 0.47 on the CPU
//! (`quantize`: `get_weights_scaling_factor_2`, `get_weights_scaling_factor` with its clamp, `_cast_fp4`; 0 / 0 in a matrix of zeros
//! gives NaN scales there, so here too), and of compressed-tensors 0.20 for bf16 weights (`generate_gparam`, where PyTorch computes
//! `2688 / amax` as a reciprocal and a product, each rounded to bf16; `calculate_qparams`; `_quantize` and `cast_to_fp4`). On a
//! GPU PyTorch divides by a number through its reciprocal, so ModelOpt's s may differ there in its last bit.
//!
//! *Roles*: no shared memory; one block of 16 a thread. Takes any rows and any k that is a multiple of 16; x at a multiple of 16 bytes
//! is read 16 bytes at a time, else by elements; codes at a multiple of 8.
//!
//! | version | what | measured |
//! | --- | --- | --- |
//! | plain 1 | two passes over x | H200: quantize_ffn_down 112.9 us, 27 % of the roof |

use cuda_std::vec::{U32x2, U32x4};
use cuda_std::{atomic, float, kernel, mem, thread, warp};

/// Threads of a block of either kernel.
pub const THREADS: u32 = 256;
/// Values of a block.
pub const BLOCK: u32 = 16;
/// Blocks of the grid of [`fn@nvfp4_amax`] at the most; beyond it a thread takes several.
pub const AMAX_BLOCKS: u32 = 1056;

/// One block of 16 values, two a register.
///
/// # Safety
/// The block is inside `x`.
#[inline(always)]
unsafe fn load(x: *const u16, block: u32) -> [u32; 8] {
    let from = x.wrapping_add(block as usize * BLOCK as usize);
    if (x as usize).is_multiple_of(16) {
        // SAFETY: the caller's promise; a block is 32 bytes.
        let (a, b) = unsafe {
            (
                mem::load(from.cast::<U32x4>()).0,
                mem::load(from.add(8).cast::<U32x4>()).0,
            )
        };
        return [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]];
    }
    // SAFETY: integers.
    let mut words: [u32; 8] = unsafe { core::mem::zeroed() };
    let mut i = 0;
    while i < 8 {
        // SAFETY: the caller's promise.
        words[i] = unsafe { mem::load(from.add(2 * i)) as u32 | (mem::load(from.add(2 * i + 1)) as u32) << 16 };
        i += 1;
    }
    words
}

/// The bits of the largest magnitude as f32.
#[inline(always)]
fn largest(words: &[u32; 8]) -> u32 {
    let mut most = 0;
    let mut i = 0;
    while i < 8 {
        most = most.max(words[i] << 16 & 0x7fff_0000).max(words[i] & 0x7fff_0000);
        i += 1;
    }
    most
}

/// The largest magnitude of all `blocks` blocks of x, into `amax`. Grid: x, any number of blocks.
///
/// # Safety
/// The tensors must have the shapes of the module's table, on the device; `amax` is zero.
#[kernel(threads = 256)]
pub unsafe fn nvfp4_amax(x: *const u16, amax: *mut u32, blocks: u32) {
    let stride = thread::grid_dim_x() * THREADS;
    let mut block = thread::index_1d();
    let mut most = 0;
    while block < blocks {
        // SAFETY: block < blocks.
        most = most.max(largest(&unsafe { load(x, block) }));
        // Saturating, so that a grid near 2^32 threads ends too.
        block = block.saturating_add(stride);
    }
    let mut lane = 16;
    while lane > 0 {
        most = most.max(warp::shuffle_xor(most, lane));
        lane /= 2;
    }
    if warp::lane_id() == 0 && most > 0 {
        // SAFETY: one word, which is accessed atomically only.
        unsafe { atomic::fetch_max(amax, most) };
    }
}

/// The nearest E4M3, ties to even, of a v from 0 to 448; a NaN is 0x7F.
#[inline(always)]
fn to_e4m3(v: f32) -> u32 {
    if v.is_nan() {
        return 0x7f;
    }
    if v < f32::from_bits((127 - 6) << 23) {
        // Subnormal: in units of 2^-9; eight of them are the smallest normal one.
        return float::to_i32_even(v * 512.0) as u32;
    }
    let bits = v.to_bits();
    // Twenty bits go; the carry of rounding runs into the exponent as it should. Then the other bias.
    ((bits + 0x7_ffff + (bits >> 20 & 1)) >> 20) - ((127 - 7) << 3)
}

/// The code of the E2M1 nearest to q, ties to even; `nan` for a NaN.
#[inline(always)]
fn to_e2m1(q: f32, nan: u32) -> u32 {
    let a = float::abs(q);
    // The halfway points between neighbours; an even code takes its own on both sides.
    let above = |bound: f32| (a > bound) as u32;
    let from = |bound: f32| (a >= bound) as u32;
    let code = above(0.25) + from(0.75) + above(1.25) + from(1.75) + above(2.5) + from(3.5) + above(5.0);
    if q.is_nan() {
        nan
    } else {
        code | ((q < 0.0) as u32) << 3
    }
}

/// bf16 and back.
#[inline(always)]
fn to_bf16(v: f32) -> f32 {
    float::bf16_to_f32(float::f32_to_bf16(v))
}

/// The tensor scale of a matrix whose largest magnitude is `most`.
#[inline(always)]
fn tensor_scale(most: f32, divide: bool) -> f32 {
    if !divide {
        let s = most / 2688.0;
        return if s.is_nan() { float::CANONICAL_NAN } else { s };
    }
    let tiny = f32::from_bits(1 << 23);
    let s = to_bf16(to_bf16(1.0 / if most < tiny { tiny } else { most }) * 2688.0);
    if s.is_nan() || s == f32::INFINITY { 1.0 } else { s }
}

/// The E4M3 scale of a block whose largest magnitude is `a`.
#[inline(always)]
fn block_scale(a: f32, s: f32, divide: bool) -> u32 {
    if divide {
        let v = s * to_bf16(a / 6.0);
        let scale = to_e4m3(if v > 448.0 { 448.0 } else { v });
        return if scale == 0 { 0x20 } else { scale };
    }
    let v = a / (6.0 * s);
    let v = if v == 0.0 { 1.0 } else { v };
    let least = f32::from_bits((127 - 9) << 23);
    let v = if v < least { least } else { v };
    to_e4m3(if v > 448.0 { 448.0 } else { v })
}

/// Quantises block i of x, thread i. Grid: x over `blocks`.
///
/// # Safety
/// The tensors must have the shapes of the module's table, on the device; `amax` is [`fn@nvfp4_amax`]'s.
#[kernel(threads = 256)]
pub unsafe fn nvfp4_quantize(
    x: *const u16,
    amax: *const u32,
    codes: *mut u8,
    scales: *mut u8,
    scale_out: *mut f32,
    blocks: u32,
    divide: u32,
) {
    let i = thread::index_1d();
    if i >= blocks {
        return;
    }
    let divide = divide != 0;
    // SAFETY: one word; i < blocks.
    let (most, words) = unsafe { (f32::from_bits(mem::load(amax)), load(x, i)) };
    let s = tensor_scale(most, divide);
    let scale = block_scale(f32::from_bits(largest(&words)), s, divide);
    let value = float::e4m3_to_f32(scale as u8);
    let (unit, nan) = if divide { (value / s, 0) } else { (value * s, 7) };
    // SAFETY: integers.
    let mut packed: [u32; 2] = unsafe { core::mem::zeroed() };
    let mut j = 0;
    while j < 8 {
        let [lo, hi] = float::bf16x2_to_f32(words[j]);
        let pair = to_e2m1(lo / unit, nan) | to_e2m1(hi / unit, nan) << 4;
        packed[j / 4] |= pair << (8 * (j % 4));
        j += 1;
    }
    // SAFETY: i < blocks; codes are 8 bytes a block.
    unsafe {
        mem::store(codes.add(i as usize * 8).cast(), U32x2(packed));
        mem::store(scales.add(i as usize), scale as u8);
        if i == 0 {
            mem::store(scale_out, s);
        }
    }
}
