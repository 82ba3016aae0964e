//! Activation quantiser for the Q8_0 matmul: f32 or bf16 rows to int8 blocks in the quad layout of [`crate::q8`].
//!
//! Per block of 32 values of a token (values beyond K are zero):
//! ```text
//! amax = max |x|            as bits, so that a NaN wins over everything
//! d    = amax / 127         one correctly rounded f32 division; a NaN as 0x7FFFFFFF
//! q    = rne(x / d)         one correctly rounded f32 division, ties to even, clamped to -127..=127;
//!                           0 where d is 0 (amax below 127 * 2^-150) or the quotient is NaN (an infinity over an infinity)
//! ```
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | x | `[n_tok][x_stride]`, groups * K used | f32 or bf16 |
//! | xq | `[groups][n_tok/8][n_quads][2][8][4][16]` | int8 |
//! | dx | `[groups][n_tok/8][n_quads][8][4]` | f32 |
//!
//! One thread does eight values, four lanes a block: lane `4 j + t` of a group of 16 has values `8 t ..` of block `j` of
//! its quad. A thread block of 128 takes 8 quads of one token (grid: x over quads, y over tokens, z over groups). The maximum over a
//! block is an integer maximum over four lanes: its order is free. Slots of tokens that do not exist are not written.

use cuda_std::vec::U32x2;
use cuda_std::{kernel, mem, thread, warp};
use half::bf16;

use crate::q8;

/// Threads of a block of the quantiser.
pub const THREADS: u32 = 128;
/// Quads that one block of the quantiser does.
pub const QUADS_PER_BLOCK: u32 = THREADS / 16;

/// The launch grid (x, y, z) for `n_tok` tokens of `groups` times `n_quads` quads.
pub fn grid(n_tok: u32, n_quads: u32, groups: u32) -> (u32, u32, u32) {
    (n_quads.div_ceil(QUADS_PER_BLOCK), n_tok, groups)
}

/// An activation dtype the quantiser reads.
pub trait Activation: mem::Word {
    /// The value as f32, exactly.
    fn widen(self) -> f32;
}

impl Activation for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Activation for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits((self.to_bits() as u32) << 16)
    }
}

/// A rounded quotient as the byte the format stores.
#[inline(always)]
fn quantise(x: f32, d: f32) -> u32 {
    let v = x / d;
    // Adding 1.5 * 2^23 rounds to an integer, ties to even: the same on every machine, one add instead of a conversion.
    // The clamp comes first: beyond 2^22 the trick does not hold.
    let v = if v > 127.0 { 127.0 } else { v };
    let v = if v < -127.0 { -127.0 } else { v };
    let rounded = (v + 12_582_912.0).to_bits().wrapping_sub(0x4B40_0000);
    if v.is_nan() || d == 0.0 { 0 } else { rounded & 0xFF }
}

/// One thread's share: eight values of one block.
///
/// # Safety
/// `x`, `xq` and `dx` must have the shapes of the module's table.
#[inline(always)]
unsafe fn body<T: Activation>(x: *const T, xq: *mut u8, dx: *mut f32, n_tok: u32, k: u32, x_stride: u32, n_quads: u32) {
    let (token, group) = (thread::block_idx_y(), thread::block_idx_z());
    let tid = thread::thread_idx_x();
    let quad = thread::block_idx_x() * QUADS_PER_BLOCK + tid / 16;
    let block = (tid / 4) % 4;
    let t = tid % 4;
    // A whole group of 16 lanes leaves or stays, but the shuffles below name all 32: no early return.
    let live = quad < n_quads;
    let first = quad * (q8::QUAD_BLOCKS * q8::BLOCK) + block * q8::BLOCK + t * 8;

    // The matmul after this one may fetch its weights meanwhile; what it reads of this kernel it waits for.
    thread::launch_dependents();
    thread::wait_for_prerequisites();
    let mut v = [0.0f32; 8];
    let mut amax = 0u32;
    for (i, v) in v.iter_mut().enumerate() {
        let at = first + i as u32;
        if live && at < k {
            // SAFETY: at < k and the token exists, so the element is inside x.
            *v = unsafe {
                mem::load(x.add(token as usize * x_stride as usize + group as usize * k as usize + at as usize))
            }
            .widen();
        }
        amax = amax.max(v.to_bits() & 0x7FFF_FFFF);
    }
    amax = amax.max(warp::shuffle_xor(amax, 1));
    amax = amax.max(warp::shuffle_xor(amax, 2));
    let d = q8::canonical(f32::from_bits(amax) / 127.0);

    let mut packed = [0u32; 2];
    for i in 0..8 {
        packed[i / 4] |= quantise(v[i], d) << (8 * (i % 4));
    }
    if live {
        let tile = group as usize * q8::token_tiles(n_tok) as usize + (token / q8::TOKEN_TILE) as usize;
        let tile = tile * n_quads as usize + quad as usize;
        let g = token % q8::TOKEN_TILE;
        let at =
            tile * q8::QUAD_TOKEN_BYTES as usize + ((block / 2) * 512 + g * 64 + t * 16 + (block % 2) * 8) as usize;
        // SAFETY: the token tile, the quad and the lane are inside xq; the address is a multiple of 8.
        unsafe { mem::store(xq.add(at).cast::<U32x2>(), U32x2(packed)) };
        if t == 0 {
            let at = tile * q8::QUAD_TOKEN_SCALES as usize + (g * 4 + block) as usize;
            // SAFETY: as above, one scale a block.
            unsafe { mem::store(dx.add(at), d) };
        }
    }
}

/// Quantises f32 activations. `x_stride` is in elements; `n_quads` is [`q8::quads`] of the weights' K.
///
/// # Safety
/// `x`, `xq` and `dx` must have the shapes of the module's table, on the device.
#[kernel(threads = 128)]
pub unsafe fn q8_quantize_f32(
    x: *const f32,
    xq: *mut u8,
    dx: *mut f32,
    n_tok: u32,
    k: u32,
    x_stride: u32,
    n_quads: u32,
) {
    // SAFETY: the caller's promise.
    unsafe { body(x, xq, dx, n_tok, k, x_stride, n_quads) }
}

/// Quantises bf16 activations; otherwise as [`fn@q8_quantize_f32`].
///
/// # Safety
/// `x`, `xq` and `dx` must have the shapes of the module's table, on the device.
#[kernel(threads = 128)]
pub unsafe fn q8_quantize_bf16(
    x: *const bf16,
    xq: *mut u8,
    dx: *mut f32,
    n_tok: u32,
    k: u32,
    x_stride: u32,
    n_quads: u32,
) {
    // SAFETY: the caller's promise.
    unsafe { body(x, xq, dx, n_tok, k, x_stride, n_quads) }
}
