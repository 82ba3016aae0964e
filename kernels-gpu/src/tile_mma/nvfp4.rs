//! Rows of NVFP4, unpacked on the way to the tensor cores.
//!
//! A row of K values is K / 2 bytes of E2M1 codes (the low nibble is the even k) and K / 16 bytes of E4M3 scales. code * scale
//! is exact in bf16 and in f16, so the products are those of the dequantised matrix. The tensor scale is not applied here.
//!
//! A thread copies blocks of 16 codes, 8 bytes, asynchronously into its own part of the ring, and unpacks those same blocks a few
//! turns later into one of two buffers of 16-bit rows: no barrier in between, and the buffer that others still read is the
//! other one. Scales are single bytes at any alignment: each is loaded one turn before its use, mostly from L1, since the turns of
//! 128 bytes of them, 2048 k, share a line.

use core::marker::PhantomData;
use cuda_std::shared::{self, Shared};
use cuda_std::vec::{U32x2, U32x4};
use cuda_std::{mem, thread};

use super::{Element, Operand, Side, swizzle};

/// Blocks of 16 codes a thread unpacks a turn, at the most.
const MOST: usize = 4;

/// An operand of NVFP4 rows of `k` values each, unpacked to elements `E`.
#[derive(Clone, Copy)]
pub struct Nvfp4<E, R> {
    rows: R,
    k: u32,
    element: PhantomData<E>,
}

/// What a thread keeps: where its blocks come from, and the scales of the turn that comes next.
#[derive(Clone, Copy)]
pub struct Blocks {
    codes: [*const u8; MOST],
    scales: [*const u8; MOST],
    next: [u8; MOST],
}

impl<E: Element, R: Fn(u32) -> (*const u8, *const u8) + Copy> Nvfp4<E, R> {
    /// `rows(r)` gives the addresses of the codes and of the block scales of row r of the tile; that of the codes is a multiple
    /// of 8, or null where there is no such row. `k` is a multiple of 16.
    #[inline(always)]
    pub fn new(rows: R, k: u32) -> Self {
        let element = PhantomData;
        Self { rows, k, element }
    }

    /// Block `i` of this thread: its row in the tile, and its place in the row of a stage.
    #[inline(always)]
    fn block<S: Side>(i: usize) -> (u32, u32) {
        let item = i as u32 * S::THREADS + thread::thread_idx_x();
        (item / S::STEPS, item % S::STEPS)
    }

    /// Blocks a thread has in a stage.
    const fn count<S: Side>() -> usize {
        (S::ROWS * S::STEPS / S::THREADS) as usize
    }

    /// Where block `i` of this thread lies in its stage.
    #[inline(always)]
    fn place<S: Side>(room: Shared<u8>, stage: u32, i: usize) -> Shared<u8> {
        room.add((stage * S::ROWS * S::STEPS + i as u32 * S::THREADS + thread::thread_idx_x()) * 8)
    }

    /// Loads the scales of turn `turn`.
    ///
    /// # Safety
    /// As [`Operand::begin`].
    #[inline(always)]
    unsafe fn load_scales<S: Side>(&self, lane: &mut Blocks, turn: u32) {
        let mut i = 0;
        while i < Self::count::<S>() {
            let block = turn * S::STEPS + Self::block::<S>(i).1;
            if !lane.codes[i].is_null() && block * 16 < self.k {
                // SAFETY: the block is inside the row.
                lane.next[i] = unsafe { mem::load_nc(lane.scales[i].add(block as usize)) };
            }
            i += 1;
        }
    }
}

impl<E: Element, R: Fn(u32) -> (*const u8, *const u8) + Copy> Operand for Nvfp4<E, R> {
    type Lane = Blocks;

    #[inline(always)]
    fn bytes<S: Side>() -> u32 {
        S::STAGES * S::ROWS * S::STEPS * 8 + 2 * S::BYTES
    }

    #[inline(always)]
    unsafe fn begin<S: Side>(&self) -> Blocks {
        const {
            assert!(
                (S::ROWS * S::STEPS).is_multiple_of(S::THREADS) && Self::count::<S>() <= MOST,
                "every thread unpacks the same number of blocks, four at the most"
            );
        }
        // SAFETY: addresses and bytes, for which all zeroes is a value.
        let mut lane: Blocks = unsafe { core::mem::zeroed() };
        let mut i = 0;
        while i < Self::count::<S>() {
            (lane.codes[i], lane.scales[i]) = (self.rows)(Self::block::<S>(i).0);
            i += 1;
        }
        // SAFETY: the caller's promise.
        unsafe { self.load_scales::<S>(&mut lane, 0) };
        lane
    }

    #[inline(always)]
    unsafe fn fetch<S: Side>(&self, lane: &Blocks, room: Shared<u8>, turn: u32, stage: u32) {
        let mut i = 0;
        while i < Self::count::<S>() {
            let block = turn * S::STEPS + Self::block::<S>(i).1;
            if !lane.codes[i].is_null() && block * 16 < self.k {
                // SAFETY: the block is inside the row, and its 8 bytes are aligned to 8. The stage is free.
                unsafe { shared::copy_async8(Self::place::<S>(room, stage, i), lane.codes[i].add(block as usize * 8)) };
            }
            i += 1;
        }
    }

    #[inline(always)]
    unsafe fn settle<S: Side>(&self, lane: &mut Blocks, room: Shared<u8>, turn: u32, stage: u32) {
        let buffer = Self::rows::<S>(room, turn, stage);
        let mut i = 0;
        while i < Self::count::<S>() {
            let (row, block) = Self::block::<S>(i);
            // Rows and blocks that are not there are zeros.
            let mut values = [U32x4::default(); 2];
            if !lane.codes[i].is_null() && (turn * S::STEPS + block) * 16 < self.k {
                let codes = Self::place::<S>(room, stage, i).cast::<U32x2>().load();
                let scale = E::scale_pair(lane.next[i]);
                values = [
                    U32x4(E::dequantise(codes.0[0], scale)),
                    U32x4(E::dequantise(codes.0[1], scale)),
                ];
            }
            let mut half = 0;
            while half < 2 {
                let chunk = (2 * block + half) ^ swizzle::<S>(row);
                buffer
                    .add((row * S::CHUNKS + chunk) * 16)
                    .cast::<U32x4>()
                    .store(values[half as usize]);
                half += 1;
            }
            i += 1;
        }
        // SAFETY: the caller's promise.
        unsafe { self.load_scales::<S>(lane, turn + 1) };
    }

    #[inline(always)]
    fn rows<S: Side>(room: Shared<u8>, turn: u32, _stage: u32) -> Shared<u8> {
        room.add(S::STAGES * S::ROWS * S::STEPS * 8 + turn % 2 * S::BYTES)
    }
}
