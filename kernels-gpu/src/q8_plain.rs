//! The plain Q8_0 kernels: the full-size reference of the tuned ones, written from the formulas alone.
//!
//! They share nothing with the tuned path but the canonical order of [`crate::q8`]: weights stay in GGUF's 34-byte
//! blocks, activations in plain rows, one thread does one block or one output, one byte at a time.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | x | `[n_tok][k]` | f32 |
//! | q, d | `[n_tok][nb * 32]`, `[n_tok][nb]` | int8, f32 |
//! | blocks | `[N][nb][34]` | GGUF Q8_0 |
//! | y | `[n_tok][N]` | f32 |

use cuda_std::{float, kernel, mem, thread};
use half::f16;

/// Threads of a block of either kernel.
pub const THREADS: u32 = 128;

/// Quantises one block of one token a thread. Grid: x over `n_tok * nb` blocks.
///
/// # Safety
/// The tensors must have the shapes of the module's table, on the device.
#[kernel(threads = 128)]
pub unsafe fn q8_quantize_plain(x: *const f32, q: *mut i8, d: *mut f32, n_tok: u32, k: u32, nb: u32) {
    let i = thread::index_1d();
    if i >= n_tok * nb {
        return;
    }
    let (token, block) = (i / nb, i % nb);
    let value = |j: u32| {
        let at = block * 32 + j;
        if at < k {
            // SAFETY: at < k and token < n_tok.
            unsafe { mem::load(x.add((token * k + at) as usize)) }
        } else {
            0.0
        }
    };
    let mut amax = 0.0f32;
    for j in 0..32 {
        let a = f32::from_bits(value(j).to_bits() & 0x7FFF_FFFF);
        if a > amax || a.is_nan() {
            amax = a;
        }
        if amax.is_nan() {
            break;
        }
    }
    let scale = amax / 127.0;
    // SAFETY: i < n_tok * nb.
    unsafe {
        mem::store(
            d.add(i as usize),
            if scale.is_nan() {
                f32::from_bits(0x7FFF_FFFF)
            } else {
                scale
            },
        )
    };
    for j in 0..32 {
        let quotient = value(j) / scale;
        let byte = if quotient.is_nan() || scale == 0.0 {
            0
        } else if quotient >= 127.0 {
            127
        } else if quotient <= -127.0 {
            -127
        } else {
            float::to_i32_even(quotient)
        };
        // SAFETY: block and j are inside the row.
        unsafe { mem::store(q.add((i * 32 + j) as usize), byte as i8) };
    }
}

/// One output a thread, in canonical order. Grid: x over `n_tok * N` outputs.
///
/// # Safety
/// The tensors must have the shapes of the module's table, on the device.
#[kernel(threads = 128)]
pub unsafe fn q8_matmul_plain(
    blocks: *const u8,
    q: *const i8,
    d: *const f32,
    y: *mut f32,
    n: u32,
    nb: u32,
    n_tok: u32,
) {
    let i = thread::index_1d();
    if i >= n_tok * n {
        return;
    }
    let (token, row) = (i / n, i % n);
    let (mut y_sum, mut acc) = (0.0f32, 0.0f32);
    for b in 0..nb {
        // A segment of 16 blocks is summed from zero, then added.
        if b % 16 == 0 {
            y_sum += acc;
            acc = 0.0;
        }
        // SAFETY: row < N, b < nb and token < n_tok: the block, its activations and their scale are inside the tensors.
        unsafe {
            let block = blocks.add((row as usize * nb as usize + b as usize) * 34);
            let bits = f16::from_bits(mem::load(block) as u16 | ((mem::load(block.add(1)) as u16) << 8));
            let at = token as usize * nb as usize + b as usize;
            let mut dot = 0i32;
            for j in 0..32 {
                dot += mem::load(block.add(2 + j)) as i8 as i32 * mem::load(q.add(at * 32 + j)) as i32;
            }
            let scale = float::f16_to_f32(bits) * mem::load(d.add(at));
            acc = float::fma(scale, dot as f32, acc);
        }
    }
    y_sum += acc;
    let out = if y_sum.is_nan() {
        f32::from_bits(0x7FFF_FFFF)
    } else {
        y_sum
    };
    // SAFETY: i < n_tok * N.
    unsafe { mem::store(y.add(i as usize), out) };
}
