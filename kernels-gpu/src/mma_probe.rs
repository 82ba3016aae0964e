//! One `mma.sync` a warp, for asking tensor cores what they compute: D = A * B^T + C.
//!
//! | tensor | shape | `mma_probe_bf16`, `mma_probe_f16` | `mma_probe_s8` |
//! | --- | --- | --- | --- |
//! | a | `[problems][16][k]` | bf16 or f16, k = 16 | int8, k = 32 |
//! | b | `[problems][8][k]` | the same | the same |
//! | c, d | `[problems][16][8]` | f32 | int32 |
//!
//! Rows of A and B are 32 bytes either way, so that one layout of the registers serves all three. Canonical order: none, it is the
//! one instruction; `docs/tensor-cores.md` says what it computes. D keeps the bits that the tensor core gave, NaN included.
//!
//! A warp does one problem; there are no barriers. Any number of problems is taken; a grid is [`grid`] blocks of [`THREADS`].
//!
//! | version | what | measured |
//! | --- | --- | --- |
//! | 1 | registers straight from global memory, no `ldmatrix`: nothing stands between the data and the instruction | not timed |

use cuda_std::{F32x2, U32x2, kernel, mem, mma, thread, warp};

/// Threads of a block: four problems.
pub const THREADS: u32 = 128;

/// Blocks for so many problems.
pub const fn grid(problems: u32) -> u32 {
    problems.div_ceil(THREADS / 32)
}

/// The warp's problem, the same for all its lanes.
#[inline(always)]
fn problem() -> u32 {
    thread::block_idx_x() * (THREADS / 32) + thread::thread_idx_x() / 32
}

/// A lane's registers of A and B of problem `i`, each row 8 words long.
///
/// # Safety
/// `a` and `b` have the shapes of the module's table, on the device, and `i` is below the number of problems.
#[inline(always)]
unsafe fn factors(a: *const u32, b: *const u32, i: u32) -> ([u32; 4], [u32; 2]) {
    let lane = warp::lane_id();
    let (g, t) = (lane / 4, lane % 4);
    let (i, row, word) = (i as usize, (g * 8) as usize, t as usize);
    // SAFETY: g < 8 and t < 4: all words are within problem i.
    unsafe {
        let (a, b) = (a.add(i * 128 + row + word), b.add(i * 64 + row + word));
        (
            [
                mem::load(a),
                mem::load(a.add(64)),
                mem::load(a.add(4)),
                mem::load(a.add(68)),
            ],
            [mem::load(b), mem::load(b.add(4))],
        )
    }
}

/// Where a lane's first pair of C and D begins; the second one is 64 elements on.
#[inline(always)]
fn pair(i: u32) -> usize {
    let lane = warp::lane_id();
    i as usize * 128 + (lane / 4 * 8 + lane % 4 * 2) as usize
}

/// Defines the kernel of a type of 16-bit factors.
macro_rules! probe {
    ($(#[$doc:meta])* $name:ident, $product:ident) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// The tensors must have the shapes of the module's table, on the device, aligned to 8 bytes.
        #[kernel(threads = 128)]
        pub unsafe fn $name(a: *const u32, b: *const u32, c: *const f32, d: *mut f32, problems: u32) {
            let i = problem();
            if i >= problems {
                return;
            }
            // SAFETY: i < problems; a pair begins at an even element, and both pairs are within problem i.
            unsafe {
                let (a, b) = factors(a, b, i);
                let (c, d) = (c.add(pair(i)).cast::<F32x2>(), d.add(pair(i)).cast::<F32x2>());
                let (F32x2([c0, c1]), F32x2([c2, c3])) = (mem::load(c), mem::load(c.add(32)));
                let [[d0, d1, d2, d3]] = mma::$product::<1>(&[a], &[b], &[[c0, c1, c2, c3]]);
                mem::store(d, F32x2([d0, d1]));
                mem::store(d.add(32), F32x2([d2, d3]));
            }
        }
    };
}
probe! {
    /// Products of bf16 with an accumulator of f32.
    mma_probe_bf16, m16n8k16_bf16
}
probe! {
    /// Products of f16 with an accumulator of f32.
    mma_probe_f16, m16n8k16_f16
}

/// Products of int8 with an accumulator of int32.
///
/// # Safety
/// The tensors must have the shapes of the module's table, on the device, aligned to 8 bytes.
#[kernel(threads = 128)]
pub unsafe fn mma_probe_s8(a: *const u32, b: *const u32, c: *const i32, d: *mut i32, problems: u32) {
    let i = problem();
    if i >= problems {
        return;
    }
    // SAFETY: i < problems; a pair begins at an even element, and both pairs are within problem i.
    unsafe {
        let (a, b) = factors(a, b, i);
        let (c, d) = (c.add(pair(i)).cast::<U32x2>(), d.add(pair(i)).cast::<U32x2>());
        let (U32x2([c0, c1]), U32x2([c2, c3])) = (mem::load(c), mem::load(c.add(32)));
        let c = [c0 as i32, c1 as i32, c2 as i32, c3 as i32];
        let [[d0, d1, d2, d3]] = mma::m16n8k32_s8::<1>(&[a], &[b], &[c]);
        mem::store(d, U32x2([d0 as u32, d1 as u32]));
        mem::store(d.add(32), U32x2([d2 as u32, d3 as u32]));
    }
}
