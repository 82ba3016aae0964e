//! What kernels over rows share: 16-bit rows in vectors of 8, and the row sum's tree (docs/numerics.md, "Row
//! reductions").

use core::mem::zeroed;
use cuda_std::shared::Shared;
use cuda_std::vec::U32x4;
use cuda_std::{float, mem, thread, warp};
use half::{bf16, f16};

use crate::unroll::unroll;

/// Elements of a vector: 16 bytes.
pub(crate) const VECTOR: u32 = 8;
/// Slots of a row sum.
pub(crate) const SLOTS: u32 = 256;
/// Bytes of shared memory that [`block_sum`] takes.
pub(crate) const SUM_BYTES: u32 = SLOTS * 4;

/// bf16 and f16.
pub(crate) trait Half: mem::Word {
    /// The values of the two in a register, low half first.
    fn widen2(bits: u32) -> [f32; 2];
    /// Two values rounded to nearest even, the first in the low half; a NaN becomes 0x7FFF.
    fn narrow2(low: f32, high: f32) -> u32;
    /// The element's bits.
    fn bits(self) -> u32;
    /// The element of the low 16 bits.
    fn of(bits: u32) -> Self;
}

impl Half for bf16 {
    #[inline(always)]
    fn widen2(bits: u32) -> [f32; 2] {
        float::bf16x2_to_f32(bits)
    }
    #[inline(always)]
    fn narrow2(low: f32, high: f32) -> u32 {
        float::f32_to_bf16(low).to_bits() as u32 | ((float::f32_to_bf16(high).to_bits() as u32) << 16)
    }
    #[inline(always)]
    fn bits(self) -> u32 {
        self.to_bits() as u32
    }
    #[inline(always)]
    fn of(bits: u32) -> Self {
        bf16::from_bits(bits as u16)
    }
}

impl Half for f16 {
    #[inline(always)]
    fn widen2(bits: u32) -> [f32; 2] {
        float::f16x2_to_f32(bits)
    }
    #[inline(always)]
    fn narrow2(low: f32, high: f32) -> u32 {
        float::f32_to_f16(low).to_bits() as u32 | ((float::f32_to_f16(high).to_bits() as u32) << 16)
    }
    #[inline(always)]
    fn bits(self) -> u32 {
        self.to_bits() as u32
    }
    #[inline(always)]
    fn of(bits: u32) -> Self {
        f16::from_bits(bits as u16)
    }
}

/// The first `count` (8 at most) elements from `p`, the others zero: one 16-byte load where all are wanted and `p` is
/// aligned, else element by element.
///
/// # Safety
/// `count` elements from `p` may be read, by [`mem::load`]'s rules.
#[inline(always)]
#[track_caller]
pub(crate) unsafe fn load8<T: Half>(p: *const T, count: u32) -> U32x4 {
    if count >= VECTOR && (p as usize).is_multiple_of(16) {
        // SAFETY: eight elements may be read, and the address is a multiple of 16.
        return unsafe { mem::load(p.cast::<U32x4>()) };
    }
    // SAFETY: plain integers.
    let mut words: [u32; 4] = unsafe { zeroed() };
    unroll!(i < 8 => {
        if (i as u32) < count {
            // SAFETY: i < count.
            words[i / 2] |= unsafe { mem::load(p.add(i)) }.bits() << (16 * (i % 2));
        }
    });
    U32x4(words)
}

/// Writes the first `count` (8 at most) elements of `v` to `p` and on, as [`load8`] reads them.
///
/// # Safety
/// `count` elements from `p` may be written, by [`mem::store`]'s rules.
#[inline(always)]
#[track_caller]
pub(crate) unsafe fn store8<T: Half>(p: *mut T, v: U32x4, count: u32) {
    if count >= VECTOR && (p as usize).is_multiple_of(16) {
        // SAFETY: eight elements may be written, and the address is a multiple of 16.
        return unsafe { mem::store(p.cast::<U32x4>(), v) };
    }
    unroll!(i < 8 => {
        if (i as u32) < count {
            // SAFETY: i < count.
            unsafe { mem::store(p.add(i), T::of(v.0[i / 2] >> (16 * (i % 2)))) };
        }
    });
}

/// The eight values of a vector.
#[inline(always)]
pub(crate) fn widen<T: Half>(v: U32x4) -> [f32; 8] {
    // SAFETY: plain floats.
    let mut x: [f32; 8] = unsafe { zeroed() };
    let mut i = 0;
    while i < 4 {
        [x[2 * i], x[2 * i + 1]] = T::widen2(v.0[i]);
        i += 1;
    }
    x
}

/// Eight values rounded to a vector.
#[inline(always)]
pub(crate) fn narrow<T: Half>(x: [f32; 8]) -> U32x4 {
    // SAFETY: plain integers.
    let mut words: [u32; 4] = unsafe { zeroed() };
    let mut i = 0;
    while i < 4 {
        words[i] = T::narrow2(x[2 * i], x[2 * i + 1]);
        i += 1;
    }
    U32x4(words)
}

/// f(0) to f(7), written out: a loop whose body is long is not unrolled, and what it indexes ends up in local memory.
#[inline(always)]
pub(crate) fn each(f: impl Fn(usize) -> f32) -> [f32; 8] {
    [f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)]
}

/// A vector's part of a slot's chain of squares.
#[inline(always)]
pub(crate) fn add_squares(x: [f32; 8], sum: f32) -> f32 {
    let mut sum = sum;
    let mut i = 0;
    while i < 8 {
        sum = float::fma(x[i], x[i], sum);
        i += 1;
    }
    sum
}

/// The tree over rows of at most 32 slots, one lane a slot, in every lane of the row: `lanes` is 16 (two rows a warp)
/// or 32. The levels above are additions of +0 and change nothing: a slot is never -0.
#[inline(always)]
#[track_caller]
pub(crate) fn warp_sum(slot: f32, lanes: u32) -> f32 {
    let above = warp::shuffle_xor(slot, 16);
    let v = if lanes == 32 { slot + above } else { slot };
    let v = v + warp::shuffle_xor(v, 8);
    let v = v + warp::shuffle_xor(v, 4);
    let v = v + warp::shuffle_xor(v, 2);
    v + warp::shuffle_xor(v, 1)
}

/// The tree over a block of 256 threads, one slot each, in every thread: the slots go through shared memory once, and
/// every warp adds them up for itself. Called once a launch, since nothing waits before the slots are written.
#[inline(always)]
#[track_caller]
pub(crate) fn block_sum(slots: Shared<f32>, slot: f32) -> f32 {
    slots.add(thread::thread_idx_x()).store(slot);
    thread::sync_threads();
    // SAFETY: plain floats.
    let mut v: [f32; 8] = unsafe { zeroed() };
    let mut i = 0;
    while i < 8 {
        v[i] = slots.add(warp::lane_id() + 32 * i as u32).load();
        i += 1;
    }
    // Slots s and s + 128, then 64, 32; the rest is between lanes.
    let (a, b) = (v[0] + v[4], v[1] + v[5]);
    let (c, d) = (v[2] + v[6], v[3] + v[7]);
    warp_sum((a + c) + (b + d), 32)
}
