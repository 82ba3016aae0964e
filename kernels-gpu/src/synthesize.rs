//! Seeded weights: tensors filled on the device with numbers that depend on the seed, the tensor and the element's place alone.
//!
//! | tensor | shape | dtype | kernel |
//! | --- | --- | --- | --- |
//! | out | `[len]` | bf16, about normal | [`fn@synthesize_normal`] |
//! | out | `[len]` | f32, uniform in a range | [`fn@synthesize_uniform`] |
//! | out | `[len]` | u8: E2M1 codes, two a byte, or E4M3 scales | [`fn@synthesize_bytes`] |
//! | qs, ws | the quad layout of `[n][k]` ([`crate::q8`]) | Q8_0 | [`fn@synthesize_q8`] |
//! | out | `[blocks][34]`, rows of k / 32 blocks one behind the other | Q8_0 as GGUF has it | [`fn@synthesize_q8_0`] |
//!
//! Order (docs/numerics.md, "Synthetic weights"): word w of `words(i)` is Philox4x32-10's, counter (i, tensor), key seed. Each element is
//! a function of one or two words, by exact integers and one rounded operation, so that any grid gives the same bytes, and a
//! tensor's part those of the whole.
//!
//! Threads do not meet. One thread does 16 bytes (of Q8_0 a block's half for two rows, a scale for two rows, or one block of GGUF) and
//! goes on by the size of the grid. Addresses are multiples of 16; a last part of a vector is written by elements.
//!
//! | version | what | measured |
//! | --- | --- | --- |
//! | plain | as above; four bytes added up for a normal value: two of Philox's blocks for 16 bytes of bf16 | H200: a model of 80 B weights in NVFP4, 43.7 GiB, loaded in 0.15 s (`harness forward`) |

use cuda_std::random::philox4x32_10;
use cuda_std::vec::U32x4;
use cuda_std::{float, kernel, mem, thread};
use half::{bf16, f16};

use crate::q8::{GGUF_BLOCK_BYTES, QUAD_BLOCKS, QUAD_BYTES, QUAD_WEIGHT_SCALES, ROW_TILE};
use crate::rows;
use crate::unroll::unroll;

/// Threads of a block.
pub const THREADS: u32 = 256;
/// Blocks of a grid at the most: enough to fill a GPU, and beyond it a thread does several.
pub const MAX_BLOCKS: u32 = 2112;
/// Standard deviation of the sum of four bytes: sqrt(4 (256^2 - 1) / 12).
pub const NORMAL_DEVIATION: f64 = 147.800_541_270_998_05;
/// Steps of 1 / 2^24 in the range of a uniform value.
pub const UNIFORM_STEPS: f64 = 16_777_216.0;
/// The mean of the factors 768 to 1279 that a Q8_0 block's scale is made with.
pub const SCALE_FACTOR: f64 = 1023.5;

/// Blocks of a launch of [`fn@synthesize_normal`], [`fn@synthesize_uniform`] and [`fn@synthesize_bytes`] over so many bytes.
pub const fn grid(bytes: u64) -> u32 {
    blocks(bytes.div_ceil(16))
}

/// Blocks of a launch of [`fn@synthesize_q8_0`].
pub const fn grid_q8_0(gguf_blocks: u64) -> u32 {
    blocks(gguf_blocks)
}

/// The grid of [`fn@synthesize_q8`]: row tiles, and parts of a row tile.
pub const fn grid_q8(n: u32, k: u32) -> [u32; 2] {
    let parts = (crate::q8::quads(k) * UNITS).div_ceil(THREADS);
    [crate::q8::row_tiles(n), if parts < 8 { parts } else { 8 }]
}

/// Blocks for so many threads' work, at least one.
const fn blocks(threads: u64) -> u32 {
    let wanted = threads.div_ceil(THREADS as u64);
    match wanted {
        0 => 1,
        _ if wanted > MAX_BLOCKS as u64 => MAX_BLOCKS,
        _ => wanted as u32,
    }
}

/// Threads' shares of a (row tile, quad) of integers: 32 bytes each.
const UNITS: u32 = QUAD_BYTES / 32;
/// Threads' shares of a (row tile, quad) of scales: two f16 each.
const SCALE_UNITS: u32 = QUAD_WEIGHT_SCALES / 2;

/// Four random words.
#[inline(always)]
fn words(i: u64, tensor: u64, seed: u64) -> [u32; 4] {
    let counter = [i as u32, (i >> 32) as u32, tensor as u32, (tensor >> 32) as u32];
    philox4x32_10(counter, [seed as u32, (seed >> 32) as u32])
}

/// The thread's first share of a one-dimensional grid, and how far it is to the next.
#[inline(always)]
fn shares() -> (u64, u64) {
    let first = thread::block_idx_x() as u64 * THREADS as u64 + thread::thread_idx_x() as u64;
    (first, thread::grid_dim_x() as u64 * THREADS as u64)
}

/// A value of about a normal distribution: of the sum of a word's bytes.
#[inline(always)]
fn normal(word: u32, mean: f32, scale: f32) -> f32 {
    let sum = (word & 0xff) + (word >> 8 & 0xff) + (word >> 16 & 0xff) + (word >> 24);
    float::fma((sum as i32 - 510) as f32, scale, mean)
}

/// bf16(mean + scale * S), S the sum of four random bytes less 510: the standard deviation is scale * [`NORMAL_DEVIATION`].
/// Grid: x over [`grid`] of the bytes.
///
/// # Safety
/// `out` has `len` elements on the device and is aligned to 16 bytes.
#[kernel(threads = 256)]
pub unsafe fn synthesize_normal(out: *mut bf16, len: u64, mean: f32, scale: f32, tensor: u64, seed: u64) {
    let (mut v, stride) = shares();
    while v < len.div_ceil(8) {
        let (a, b) = (words(2 * v, tensor, seed), words(2 * v + 1, tensor, seed));
        let values = [
            normal(a[0], mean, scale),
            normal(a[1], mean, scale),
            normal(a[2], mean, scale),
            normal(a[3], mean, scale),
            normal(b[0], mean, scale),
            normal(b[1], mean, scale),
            normal(b[2], mean, scale),
            normal(b[3], mean, scale),
        ];
        let left = len - 8 * v;
        let count = if left < 8 { left as u32 } else { 8 };
        // SAFETY: the vector begins inside the tensor, and `count` elements of it are.
        unsafe { rows::store8(out.add(8 * v as usize), rows::narrow::<bf16>(values), count) };
        v += stride;
    }
}

/// low + step * u, u a random integer below 2^24: uniform from `low` over [`UNIFORM_STEPS`] steps. Grid: x over [`grid`] of the bytes.
///
/// # Safety
/// `out` has `len` elements on the device and is aligned to 16 bytes.
#[kernel(threads = 256)]
pub unsafe fn synthesize_uniform(out: *mut f32, len: u64, low: f32, step: f32, tensor: u64, seed: u64) {
    let (mut v, stride) = shares();
    while v < len.div_ceil(4) {
        let w = words(v, tensor, seed);
        let left = len - 4 * v;
        unroll!(i < 4 => {
            if (i as u64) < left {
                let value = float::fma((w[i] >> 8) as f32, step, low);
                // SAFETY: 4 v + i < len.
                unsafe { mem::store(out.add(4 * v as usize + i), value) };
            }
        });
        v += stride;
    }
}

/// Random bytes, of which the bits of `keep` stay and those of `set` are set; both are one byte four times. Codes E2M1 are any byte;
/// E4M3 scales from 16 to 30 are keep 7, set 0x58. Grid: x over [`grid`].
///
/// # Safety
/// `out` has `len` elements on the device and is aligned to 16 bytes.
#[kernel(threads = 256)]
pub unsafe fn synthesize_bytes(out: *mut u8, len: u64, keep: u32, set: u32, tensor: u64, seed: u64) {
    let (mut v, stride) = shares();
    while v < len.div_ceil(16) {
        let w = words(v, tensor, seed);
        let w = [
            w[0] & keep | set,
            w[1] & keep | set,
            w[2] & keep | set,
            w[3] & keep | set,
        ];
        let (left, at) = (len - 16 * v, out.wrapping_add(16 * v as usize));
        if left >= 16 {
            // SAFETY: 16 bytes from here are inside, and the place is a multiple of 16.
            unsafe { mem::store(at.cast::<U32x4>(), U32x4(w)) };
        } else {
            unroll!(i < 16 => {
                if (i as u64) < left {
                    // SAFETY: 16 v + i < len.
                    unsafe { mem::store(at.add(i), (w[i / 4] >> (8 * (i % 4))) as u8) };
                }
            });
        }
        v += stride;
    }
}

/// A matrix of Q8_0.
#[derive(Clone, Copy)]
struct Matrix {
    n: u64,
    /// Blocks of a row.
    blocks: u64,
    tensor: u64,
    seed: u64,
}

impl Matrix {
    /// Integers 16 half to 16 half + 15 of a block, zeros for one of padding.
    #[inline(always)]
    fn half(self, row: u64, block: u64, half: u64) -> [u32; 4] {
        if row < self.n && block < self.blocks {
            words(4 * (row * self.blocks + block) + half, self.tensor, self.seed)
        } else {
            [0, 0, 0, 0]
        }
    }

    /// The scale's bits of a block, zero for one of padding.
    #[inline(always)]
    fn scale(self, row: u64, block: u64, base: f32) -> u32 {
        if row < self.n && block < self.blocks {
            scale(row * self.blocks + block, base, self.tensor, self.seed)
        } else {
            0
        }
    }
}

/// The bits of the scale of a tensor's block.
#[inline(always)]
fn scale(block: u64, base: f32, tensor: u64, seed: u64) -> u32 {
    let word = words(4 * block + 2, tensor, seed)[0];
    float::f32_to_f16(base * (768 + (word >> 23)) as f32).to_bits() as u32
}

/// A matrix of Q8_0 in the quad layout: integers are any byte, scales f16(base * f), f a random integer from 768 to 1279. Rows and blocks of
/// padding are zero. Grid: [`grid_q8`].
///
/// # Safety
/// `qs` and `ws` have the sizes of the layout for `[n][k]`, on the device, aligned to 16 bytes; k is a multiple of 32.
#[kernel(threads = 256)]
pub unsafe fn synthesize_q8(qs: *mut u8, ws: *mut f16, n: u32, k: u32, base: f32, tensor: u64, seed: u64) {
    let (tile, quads) = (thread::block_idx_x(), crate::q8::quads(k));
    let matrix = Matrix {
        n: n as u64,
        blocks: crate::q8::blocks(k) as u64,
        tensor,
        seed,
    };
    let (first, stride) = (
        thread::block_idx_y() * THREADS + thread::thread_idx_x(),
        thread::grid_dim_y() * THREADS,
    );
    let mut unit = first;
    // [quads][4 blk][8 g][2 h] of 32 bytes: t = 2 h and t = 2 h + 1, which are 16 integers of rows g and g + 8.
    while unit < quads * UNITS {
        let (half, g, block) = ((unit % 2) as u64, unit / 2 % 8, (unit / 16) as u64);
        let row = (tile * ROW_TILE + g) as u64;
        let (a, b) = (matrix.half(row, block, half), matrix.half(row + 8, block, half));
        let at = tile as usize * quads as usize * QUAD_BYTES as usize + unit as usize * 32;
        // SAFETY: the unit is inside the row tile, and 32 bytes long.
        unsafe {
            let at = qs.add(at).cast::<U32x4>();
            mem::store(at, U32x4([a[0], b[0], a[1], b[1]]));
            mem::store(at.add(1), U32x4([a[2], b[2], a[3], b[3]]));
        }
        unit += stride;
    }
    let mut unit = first;
    // [quads][8 g][4 blk] of two scales: rows g and g + 8.
    while unit < quads * SCALE_UNITS {
        let (blk, g, quad) = (unit % QUAD_BLOCKS, unit / QUAD_BLOCKS % 8, unit / SCALE_UNITS);
        let (row, block) = ((tile * ROW_TILE + g) as u64, (quad * QUAD_BLOCKS + blk) as u64);
        let pair = matrix.scale(row, block, base) | matrix.scale(row + 8, block, base) << 16;
        let at = tile as usize * quads as usize * QUAD_WEIGHT_SCALES as usize + unit as usize * 2;
        // SAFETY: the pair is inside the row tile, at a multiple of 4 bytes.
        unsafe { mem::store(ws.add(at).cast::<u32>(), pair) };
        unit += stride;
    }
}

/// The same matrix in GGUF's blocks: an f16 scale, 32 integers. Grid: x over [`grid_q8_0`].
///
/// # Safety
/// `out` has `blocks` blocks of 34 bytes on the device, at an even address.
#[kernel(threads = 256)]
pub unsafe fn synthesize_q8_0(out: *mut u8, blocks: u64, base: f32, tensor: u64, seed: u64) {
    let (mut block, stride) = shares();
    while block < blocks {
        let (a, b) = (words(4 * block, tensor, seed), words(4 * block + 1, tensor, seed));
        let to = out
            .wrapping_add(block as usize * GGUF_BLOCK_BYTES as usize)
            .cast::<u16>();
        // SAFETY: block < blocks: 17 halves from `to` are inside.
        unsafe {
            mem::store(to, scale(block, base, tensor, seed) as u16);
            unroll!(i < 8 => {
                mem::store(to.add(1 + i), (a[i / 2] >> (16 * (i % 2))) as u16);
                mem::store(to.add(9 + i), (b[i / 2] >> (16 * (i % 2))) as u16);
            });
        }
        block += stride;
    }
}
