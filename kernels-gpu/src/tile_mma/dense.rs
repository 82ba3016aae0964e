//! Rows of 16-bit elements, as they are in memory.

use cuda_std::shared::{self, Shared};
use cuda_std::vec::U32x4;
use cuda_std::{mem, thread};

use super::{CHUNK, Operand, Side, swizzle};

/// Rows a thread copies of a stage, at the most.
const MOST: usize = 8;

/// An operand of 16-bit rows of `k` contiguous elements each.
#[derive(Clone, Copy)]
pub struct Dense<R> {
    rows: R,
    k: u32,
    wide: bool,
}

impl<R: Fn(u32) -> *const u16 + Copy> Dense<R> {
    /// `rows(r)` is the address of row r of the tile, null where there is none. `wide`: every address is a multiple of 16 bytes
    /// and k of 8 elements, so that rows are copied 16 bytes at a time, asynchronously; otherwise element by element.
    #[inline(always)]
    pub fn new(rows: R, k: u32, wide: bool) -> Self {
        Self { rows, k, wide }
    }
}

/// Whether rows of `k` elements from `base` on can be copied 16 bytes at a time.
#[inline(always)]
pub fn is_wide(base: *const u16, k: u32) -> bool {
    (base as usize).is_multiple_of(16) && k.is_multiple_of(CHUNK)
}

/// The rows of a row-major matrix `[count][k]` from row `first` on, as [`Dense::new`] takes them.
#[inline(always)]
pub fn rows_of(base: *const u16, first: u32, count: u32, k: u32) -> impl Fn(u32) -> *const u16 + Copy {
    move |r| {
        let row = first + r;
        if row < count {
            base.wrapping_add(row as usize * k as usize)
        } else {
            core::ptr::null()
        }
    }
}

impl<R: Fn(u32) -> *const u16 + Copy> Operand for Dense<R> {
    type Lane = [*const u16; MOST];

    #[inline(always)]
    fn bytes<S: Side>() -> u32 {
        S::STAGES * S::BYTES
    }

    #[inline(always)]
    unsafe fn begin<S: Side>(&self) -> Self::Lane {
        const {
            assert!(
                S::ROWS.is_multiple_of(S::ROWS_AT_A_TIME) && S::ROWS / S::ROWS_AT_A_TIME <= MOST as u32,
                "every thread copies the same number of rows, eight at the most"
            );
            assert!(S::ROWS_AT_A_TIME.is_multiple_of(8), "a thread's rows have one swizzle");
        }
        // SAFETY: addresses, for which all zeroes is a value.
        let mut lane: Self::Lane = unsafe { core::mem::zeroed() };
        let row = thread::thread_idx_x() / S::CHUNKS;
        let mut i = 0;
        while i < (S::ROWS / S::ROWS_AT_A_TIME) as usize {
            lane[i] = (self.rows)(row + i as u32 * S::ROWS_AT_A_TIME);
            i += 1;
        }
        lane
    }

    #[inline(always)]
    unsafe fn fetch<S: Side>(&self, lane: &Self::Lane, room: Shared<u8>, turn: u32, stage: u32) {
        let (row, chunk) = (thread::thread_idx_x() / S::CHUNKS, thread::thread_idx_x() % S::CHUNKS);
        let first = (turn * S::CHUNKS + chunk) * CHUNK;
        let to = room.add(stage * S::BYTES + (row * S::CHUNKS + (chunk ^ swizzle::<S>(row))) * 16);
        let mut i = 0;
        while i < (S::ROWS / S::ROWS_AT_A_TIME) as usize {
            let to = to.add(i as u32 * S::ROWS_AT_A_TIME * S::CHUNKS * 16);
            let there = !lane[i].is_null() && first < self.k;
            let from = lane[i].wrapping_add(first as usize);
            if self.wide {
                let (from, bytes) = if there {
                    (from, 16)
                } else {
                    (core::ptr::without_provenance(16), 0)
                };
                // SAFETY: k is a multiple of 8, so the chunk is inside the row or beyond it; the addresses are aligned. The
                // stage is free.
                unsafe { shared::copy_async16_zfill(to, from.cast(), bytes) };
            } else {
                let mut words = U32x4::default();
                let mut e = 0;
                while e < CHUNK {
                    if there && first + e < self.k {
                        // SAFETY: the element is inside the row.
                        let bits = unsafe { mem::load(from.add(e as usize)) };
                        words.0[e as usize / 2] |= (bits as u32) << (16 * (e % 2));
                    }
                    e += 1;
                }
                to.cast::<U32x4>().store(words);
            }
            i += 1;
        }
    }

    #[inline(always)]
    unsafe fn settle<S: Side>(&self, _lane: &mut Self::Lane, _room: Shared<u8>, _turn: u32, _stage: u32) {}

    #[inline(always)]
    fn rows<S: Side>(room: Shared<u8>, _turn: u32, stage: u32) -> Shared<u8> {
        room.add(stage * S::BYTES)
    }
}
