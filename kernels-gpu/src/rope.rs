//! Rotary position embedding: each pair (x1, x2) of a head turned by the angle position * inv_freq.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | x | `[n_tok][heads][head_dim]`, tokens `x_stride` elements apart: q and k of a packed qkv are heads of one launch | bf16 |
//! | y | the same, tokens `y_stride` apart; may be x | bf16 |
//! | positions | `[n_tok]` | i32 |
//! | inv_freq | `[rot / 2]` | f32 |
//!
//! Order: docs/numerics.md, "RoPE, KV append". The pairs are (i, i + rot / 2) of a head's first `rot` elements, or (2
//! i, 2 i + 1) where `interleaved` is not 0; rot is even. The others are copied, or left alone in place. c = cos, s =
//! sin of f32(position) * inv_freq\[i\]; y1 = round(fma(x1, c, -(x2 * s))), y2 = round(fma(x2, c, x1 * s)).
//!
//! One block of 128 threads a token: first the token's angles, once for all heads, to shared memory ([`shared_bytes`]);
//! one barrier; then a thread turns eight elements of two halves (or four pairs) at a time. Any sizes and strides:
//! 16-byte accesses where addresses allow.
//!
//! | version | what | measured |
//! | --- | --- | --- |
//! | plain | as above | H200: 18 heads of 256, 64 turned, 1 token 2.2 us, 0 % of the roof; 8192 17.7 us, 51 % of the roof |

use cuda_std::shared::Shared;
use cuda_std::vec::F32x4;
use cuda_std::{float, kernel, mem, shared, thread};
use half::bf16;

use crate::rows::{self, VECTOR};

/// Threads of a block.
pub const THREADS: u32 = 128;

/// Bytes of shared memory of a launch: cosine and sine of every pair, and some that fill a vector.
pub const fn shared_bytes(rot: u32) -> u32 {
    (rot / 2).next_multiple_of(VECTOR) * 8
}

/// Cosines and sines of eight pairs.
#[inline(always)]
#[track_caller]
fn turns(table: Shared<f32>, first: u32) -> ([f32; 8], [f32; 8]) {
    let at = table.add(2 * first).cast::<F32x4>();
    let (a, b, c, d) = (at.load().0, at.add(1).load().0, at.add(2).load().0, at.add(3).load().0);
    (
        [a[0], a[2], b[0], b[2], c[0], c[2], d[0], d[2]],
        [a[1], a[3], b[1], b[3], c[1], c[3], d[1], d[3]],
    )
}

/// Turns the heads of one token a block.
///
/// # Safety
/// The tensors must have the shapes of the module's table, on the device; `rot` is even, at most `head_dim`, and the
/// launch has [`shared_bytes`] of it.
#[kernel(threads = 128)]
pub unsafe fn rope_bf16(
    x: *const bf16,
    y: *mut bf16,
    positions: *const i32,
    inv_freq: *const f32,
    heads: u32,
    head_dim: u32,
    rot: u32,
    interleaved: u32,
    x_stride: u32,
    y_stride: u32,
) {
    let token = thread::block_idx_x() as usize;
    let (tid, half) = (thread::thread_idx_x(), rot / 2);
    let table = shared::dynamic::<f32>();
    // SAFETY: the grid has one block a token.
    let position = unsafe { mem::load(positions.add(token)) } as f32;
    let mut i = tid;
    while i < half.next_multiple_of(VECTOR) {
        let mut angle = 0.0;
        if i < half {
            // SAFETY: i < rot / 2.
            angle = position * unsafe { mem::load(inv_freq.add(i as usize)) };
        }
        table.add(2 * i).store(float::exact::cos(angle));
        table.add(2 * i + 1).store(float::exact::sin(angle));
        i += THREADS;
    }
    thread::sync_threads();

    // What a head has to do: vectors of pairs, then vectors of elements that pass through.
    let turned = if interleaved != 0 { rot } else { half }.div_ceil(VECTOR);
    let kept = if x.cast_mut() == y {
        0
    } else {
        (head_dim - rot).div_ceil(VECTOR)
    };
    // Never 0 where there is an item; the compiler is told, so that it makes no check of the division.
    let items = (turned + kept).max(1);
    let mut item = tid;
    while item < heads * (turned + kept) {
        let (head, k) = (item / items, item % items);
        let at = head as usize * head_dim as usize;
        // SAFETY: the head exists.
        let (from, to) = unsafe {
            (
                x.add(token * x_stride as usize + at),
                y.add(token * y_stride as usize + at),
            )
        };
        if k >= turned {
            let first = rot + (k - turned) * VECTOR;
            // SAFETY: first < head_dim.
            unsafe {
                let v = rows::load8(from.add(first as usize), head_dim - first);
                rows::store8(to.add(first as usize), v, head_dim - first);
            }
        } else if interleaved != 0 {
            let first = k * VECTOR;
            let (count, at) = (rot - first, first as usize);
            // SAFETY: first < rot.
            let v = rows::widen::<bf16>(unsafe { rows::load8(from.add(at), count) });
            let table = table.add(first).cast::<F32x4>();
            let (p, q) = (table.load().0, table.add(1).load().0);
            let (c, s) = ([p[0], p[2], q[0], q[2]], [p[1], p[3], q[1], q[3]]);
            let turned = rows::each(|i| {
                let (j, x1, x2) = (i / 2, v[i & 6], v[i | 1]);
                if i.is_multiple_of(2) {
                    float::fma(x1, c[j], -(x2 * s[j]))
                } else {
                    float::fma(x2, c[j], x1 * s[j])
                }
            });
            // SAFETY: as above.
            unsafe { rows::store8(to.add(at), rows::narrow::<bf16>(turned), count) };
        } else {
            let first = k * VECTOR;
            let (count, low, high) = (half - first, first as usize, (half + first) as usize);
            // SAFETY: first < rot / 2.
            let (x1, x2) = unsafe {
                (
                    rows::widen::<bf16>(rows::load8(from.add(low), count)),
                    rows::widen::<bf16>(rows::load8(from.add(high), count)),
                )
            };
            let (c, s) = turns(table, first);
            let y1 = rows::each(|i| float::fma(x1[i], c[i], -(x2[i] * s[i])));
            let y2 = rows::each(|i| float::fma(x2[i], c[i], x1[i] * s[i]));
            // SAFETY: as above; nobody else reads or writes these pairs.
            unsafe {
                rows::store8(to.add(low), rows::narrow::<bf16>(y1), count);
                rows::store8(to.add(high), rows::narrow::<bf16>(y2), count);
            }
        }
        item += THREADS;
    }
}
