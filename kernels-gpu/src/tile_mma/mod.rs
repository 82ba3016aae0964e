//! The tile loop of every matrix product: y = a w^T on `mma.sync.m16n8k16`, one output tile a block.
//!
//! A kernel picks a [`Tile`] and two [`Operand`]s, and gets the accumulators of its lanes back:
//! ```ignore
//! let a = Dense::new(|r| row_pointer_or_null(r), k, wide);      // tile rows: tokens, gathered or not
//! let w = Nvfp4::new(|r| (packed_or_null(r), scales(r)), k);    // tile columns: rows of weights; or Dense again
//! let sums = unsafe { Wide::product::<Bf16, _, _>(a, w, k) };   // the whole block calls it
//! Wide::each(&sums, |row, column, four| ...);                   // so too; four values of a row, column a multiple of 4
//! ```
//! - **Rows** are a function from the row of the tile to a pointer, null where there is no such row: a gather costs nothing, since
//!   every thread asks once for the few rows that it copies. Rows that are null, and k beyond K, are zeros in shared memory
//!   and are not read.
//! - **Arithmetic**: accumulators start from +0, k16 steps in ascending order, the last one filled up with zeros: the MMA chain of
//!   docs/numerics.md, whatever the tile.
//! - **Launch**: [`Block::THREADS`] threads, [`shared_bytes`] of dynamic shared memory, which `product` and `each` use from its start;
//!   when they return, the block may still be reading it, so a barrier comes before another use (a second `product` too).
//!
//! # Protocol
//! A ring of `STAGES` stages of `16 * KS` k each. Turn t: wait for this thread's copies of stage t; operands that unpack do so
//! ([`Operand::settle`]); barrier; start the copies of stage t + STAGES - 1, whose room everybody has left before the barrier;
//! multiply stage t. One barrier a turn.
//!
//! Rows of a stage lie in chunks of 16 bytes, chunk c of row r at place `c ^ swizzle(r)`: the eight rows of an `ldmatrix` are in
//! different banks. At the end the accumulators go through shared memory too, so that `each` is a short loop whose stores run along
//! rows.

mod dense;
mod element;
mod nvfp4;
mod output;

pub use dense::{Dense, is_wide, rows_of};
pub use element::{Bf16, Element, F16};
pub use nvfp4::Nvfp4;
pub use output::{Output, Scale};

use core::marker::PhantomData;
use cuda_std::shared::{self, Shared};
use cuda_std::vec::{F32x2, F32x4};
use cuda_std::{thread, warp};

/// Elements of a chunk: 16 bytes.
pub(crate) const CHUNK: u32 = 8;

/// An output tile of `16 MT WM` rows by `8 NT WN` columns: `WM` by `WN` warps of `MT` by `NT` MMAs each; `KS` k16 steps a stage,
/// `STAGES` stages.
#[derive(Clone, Copy)]
pub struct Tile<const MT: usize, const NT: usize, const WM: u32, const WN: u32, const KS: usize, const STAGES: u32>;

/// 128 x 128, 256 threads: for many rows.
pub type Wide = Tile<4, 4, 2, 4, 4, 3>;
/// 64 x 64, 128 threads: where tiles of 128 would leave SMs without work.
pub type Middle = Tile<2, 4, 2, 2, 4, 4>;
/// 16 x 32, 128 threads: up to 16 rows, bound by the reading of the weights.
pub type Thin = Tile<1, 1, 1, 4, 8, 4>;
/// [`Thin`] for packed weights: they are a quarter of the bytes, so it takes twice the stages to have enough of them under way.
pub type ThinPacked = Tile<1, 1, 1, 4, 8, 8>;

/// One side of a tile: the rows of a stage and who copies them.
pub trait Side: Copy {
    /// Rows of the tile on this side.
    const ROWS: u32;
    /// k16 steps of a stage.
    const STEPS: u32;
    /// Threads of the block.
    const THREADS: u32;
    /// Stages of the ring.
    const STAGES: u32;
    /// Chunks of 16 bytes in a row of a stage.
    const CHUNKS: u32 = 2 * Self::STEPS;
    /// Bytes of a stage of 16-bit elements.
    const BYTES: u32 = Self::ROWS * Self::CHUNKS * 16;
    /// Rows that the block's threads take at a time, a chunk each.
    const ROWS_AT_A_TIME: u32 = Self::THREADS / Self::CHUNKS;
}

/// The rows of a tile: what `a` has.
#[derive(Clone, Copy)]
pub struct RowsOf<T>(PhantomData<T>);
/// The columns of a tile: what `w` has as its rows.
#[derive(Clone, Copy)]
pub struct ColumnsOf<T>(PhantomData<T>);

impl<T: Block> Side for RowsOf<T> {
    const ROWS: u32 = T::ROWS;
    const STEPS: u32 = T::STEPS;
    const THREADS: u32 = T::THREADS;
    const STAGES: u32 = T::STAGES;
}
impl<T: Block> Side for ColumnsOf<T> {
    const ROWS: u32 = T::COLUMNS;
    const STEPS: u32 = T::STEPS;
    const THREADS: u32 = T::THREADS;
    const STAGES: u32 = T::STAGES;
}

/// Where the rows of one side come from.
pub trait Operand: Copy {
    /// What a thread keeps of it from turn to turn: the addresses of its rows.
    type Lane: Copy;

    /// Bytes of shared memory that this operand needs.
    fn bytes<S: Side>() -> u32;

    /// What this thread keeps.
    ///
    /// # Safety
    /// The rows are what the operand's constructor asks for.
    unsafe fn begin<S: Side>(&self) -> Self::Lane;

    /// Starts this thread's copies of turn `turn` into its stage.
    ///
    /// # Safety
    /// As [`Operand::begin`]; nobody reads the stage.
    unsafe fn fetch<S: Side>(&self, lane: &Self::Lane, room: Shared<u8>, turn: u32, stage: u32);

    /// Unpacks what this thread has copied for turn `turn`, where the operand is packed. The copies have landed.
    ///
    /// # Safety
    /// As [`Operand::begin`].
    unsafe fn settle<S: Side>(&self, lane: &mut Self::Lane, room: Shared<u8>, turn: u32, stage: u32);

    /// Where the 16-bit rows of turn `turn` lie after the barrier.
    fn rows<S: Side>(room: Shared<u8>, turn: u32, stage: u32) -> Shared<u8>;
}

/// The dynamic shared memory of a block of tile `T` with these operands, in bytes.
pub fn shared_bytes<T: Block, A: Operand, W: Operand>() -> u32 {
    (A::bytes::<RowsOf<T>>() + W::bytes::<ColumnsOf<T>>()).max(T::ROWS * pitch::<T>() * 4)
}

/// f32 from one row of accumulators to the next: the eight rows that a warp writes at a time are 8 banks apart.
const fn pitch<T: Block>() -> u32 {
    T::COLUMNS + 8
}

/// What is XORed into the place of a chunk of row `r`: eight rows below each other differ in it, or lie in different halves of the
/// 128 bytes of all banks.
#[inline(always)]
pub(crate) fn swizzle<S: Side>(row: u32) -> u32 {
    if S::CHUNKS >= 8 { row & 7 } else { (row >> 1) & 3 }
}

/// An output tile and its loop.
pub trait Block: Copy {
    /// Rows of the tile.
    const ROWS: u32;
    /// Columns of the tile.
    const COLUMNS: u32;
    /// k16 steps of a stage.
    const STEPS: u32;
    /// Threads of the block.
    const THREADS: u32;
    /// Stages of the ring.
    const STAGES: u32;
    /// A lane's accumulators.
    type Sums;

    /// The block's tile of `a w^T` over all of `k`.
    ///
    /// # Safety
    /// All threads of the block call it, with [`shared_bytes`] of dynamic shared memory; the operands' rows are readable.
    unsafe fn product<E: Element, A: Operand, W: Operand>(a: A, w: W, k: u32) -> Self::Sums;

    /// Calls `f(row, column, values)` for every four columns of every row of the tile, from some thread of the block; the first
    /// column is named, a multiple of 4. Lanes next to each other have places next to each other. All threads of the block call it.
    fn each(sums: &Self::Sums, f: impl FnMut(u32, u32, [f32; 4]));
}

impl<const MT: usize, const NT: usize, const WM: u32, const WN: u32, const KS: usize, const STAGES: u32> Block
    for Tile<MT, NT, WM, WN, KS, STAGES>
{
    const ROWS: u32 = 16 * MT as u32 * WM;
    const COLUMNS: u32 = 8 * NT as u32 * WN;
    const STEPS: u32 = KS as u32;
    const THREADS: u32 = 32 * WM * WN;
    const STAGES: u32 = STAGES;
    type Sums = [[[f32; 4]; NT]; MT];

    #[inline(always)]
    unsafe fn product<E: Element, A: Operand, W: Operand>(a: A, w: W, k: u32) -> Self::Sums {
        const {
            assert!(
                NT == 1 || NT.is_multiple_of(2),
                "columns are loaded one MMA or two at a time"
            );
            assert!(STAGES >= 2 && STAGES <= 8, "the ring has two to eight stages");
            assert!(
                KS == 2 || KS == 4 || KS == 8,
                "the swizzle is for rows of 4, 8 or 16 chunks"
            );
        }
        // SAFETY: plain numbers, for which all zeroes is a value. Not an array literal: that would stay in local memory.
        let mut sums: Self::Sums = unsafe { core::mem::zeroed() };
        let a_room = shared::dynamic::<u8>();
        let w_room = a_room.add(A::bytes::<RowsOf<Self>>());
        // SAFETY: the caller's promise.
        let (mut a_lane, mut w_lane) = unsafe { (a.begin::<RowsOf<Self>>(), w.begin::<ColumnsOf<Self>>()) };
        let turns = k.div_ceil(16 * KS as u32);

        let mut stage = 0;
        while stage < STAGES - 1 {
            if stage < turns {
                // SAFETY: the caller's promise; nobody reads yet.
                unsafe {
                    a.fetch::<RowsOf<Self>>(&a_lane, a_room, stage, stage);
                    w.fetch::<ColumnsOf<Self>>(&w_lane, w_room, stage, stage);
                }
            }
            shared::copy_async_commit();
            stage += 1;
        }
        let (mut turn, mut stage, mut free) = (0, 0, STAGES - 1);
        while turn < turns {
            wait_all_but::<STAGES>();
            // SAFETY: the caller's promise; this thread's copies of the turn have landed.
            unsafe {
                a.settle::<RowsOf<Self>>(&mut a_lane, a_room, turn, stage);
                w.settle::<ColumnsOf<Self>>(&mut w_lane, w_room, turn, stage);
            }
            thread::sync_threads();
            if turn + (STAGES - 1) < turns {
                // SAFETY: the caller's promise; the barrier says that everybody is done with the turn that was in this stage.
                unsafe {
                    a.fetch::<RowsOf<Self>>(&a_lane, a_room, turn + (STAGES - 1), free);
                    w.fetch::<ColumnsOf<Self>>(&w_lane, w_room, turn + (STAGES - 1), free);
                }
            }
            shared::copy_async_commit();
            let rows = A::rows::<RowsOf<Self>>(a_room, turn, stage);
            let columns = W::rows::<ColumnsOf<Self>>(w_room, turn, stage);
            multiply::<E, MT, NT, WM, WN, KS, STAGES>(rows, columns, &mut sums);
            turn += 1;
            stage = if stage + 1 == STAGES { 0 } else { stage + 1 };
            free = if free + 1 == STAGES { 0 } else { free + 1 };
        }
        sums
    }

    #[inline(always)]
    fn each(sums: &Self::Sums, mut f: impl FnMut(u32, u32, [f32; 4])) {
        let tile = shared::dynamic::<f32>();
        let (row, column) = warp_place::<MT, NT, WM>();
        let lane = warp::lane_id();
        let at = tile.add((row + lane / 4) * pitch::<Self>() + column + lane % 4 * 2);
        // The last stage has been read by all.
        thread::sync_threads();
        let mut i = 0;
        while i < MT {
            let mut j = 0;
            while j < NT {
                let [y0, y1, y2, y3] = sums[i][j];
                let at = at.add(i as u32 * 16 * pitch::<Self>() + j as u32 * 8);
                at.cast::<F32x2>().store(F32x2([y0, y1]));
                at.add(8 * pitch::<Self>()).cast::<F32x2>().store(F32x2([y2, y3]));
                j += 1;
            }
            i += 1;
        }
        thread::sync_threads();
        let mut item = thread::thread_idx_x();
        while item < Self::ROWS * Self::COLUMNS / 4 {
            let (row, column) = (item / (Self::COLUMNS / 4), item % (Self::COLUMNS / 4) * 4);
            f(
                row,
                column,
                tile.add(row * pitch::<Self>() + column).cast::<F32x4>().load().0,
            );
            item += Self::THREADS;
        }
    }
}

/// The first row and column of this warp in the tile.
#[inline(always)]
fn warp_place<const MT: usize, const NT: usize, const WM: u32>() -> (u32, u32) {
    let warp = thread::thread_idx_x() / 32;
    (warp % WM * (16 * MT as u32), warp / WM * (8 * NT as u32))
}

/// Waits until the oldest of the `STAGES - 1` groups under way has landed.
#[inline(always)]
fn wait_all_but<const STAGES: u32>() {
    match STAGES {
        2 => shared::copy_async_wait::<0>(),
        3 => shared::copy_async_wait::<1>(),
        4 => shared::copy_async_wait::<2>(),
        5 => shared::copy_async_wait::<3>(),
        6 => shared::copy_async_wait::<4>(),
        7 => shared::copy_async_wait::<5>(),
        _ => shared::copy_async_wait::<6>(),
    }
}

/// Adds the products of one stage to a lane's sums, k16 steps ascending.
#[inline(always)]
fn multiply<
    E: Element,
    const MT: usize,
    const NT: usize,
    const WM: u32,
    const WN: u32,
    const KS: usize,
    const STAGES: u32,
>(
    rows: Shared<u8>,
    columns: Shared<u8>,
    sums: &mut [[[f32; 4]; NT]; MT],
) {
    let lane = warp::lane_id();
    let (row, column) = warp_place::<MT, NT, WM>();
    let pitch = 2 * KS as u32 * 16;
    // `ldmatrix_x4` of A wants rows 0..8, 8..16 at k 0..8, then at k 8..16; of B, columns 0..8 at both k, then columns 8..16.
    let (a_row, a_chunk) = (row + lane % 16, lane / 16);
    let (b_row, b_chunk) = (column + lane / 16 * 8 + lane % 8, lane / 8 % 2);
    // One pair of matrices needs the addresses of 16 lanes; those of the others stay inside the tile too.
    let b_row = if NT == 1 { column + lane % 8 } else { b_row };
    let (a_swizzle, b_swizzle) = (
        swizzle::<RowsOf<Tile<MT, NT, WM, WN, KS, STAGES>>>(a_row),
        swizzle::<ColumnsOf<Tile<MT, NT, WM, WN, KS, STAGES>>>(b_row),
    );
    let (a_at, b_at) = (rows.add(a_row * pitch), columns.add(b_row * pitch));
    let mut step = 0;
    while step < KS {
        // SAFETY: plain numbers, see `product`.
        let (mut a, mut b): ([[u32; 4]; MT], [[u32; 2]; NT]) = unsafe { core::mem::zeroed() };
        let (a_place, b_place) = (
            ((2 * step as u32 + a_chunk) ^ a_swizzle) * 16,
            ((2 * step as u32 + b_chunk) ^ b_swizzle) * 16,
        );
        let mut i = 0;
        while i < MT {
            a[i] = shared::ldmatrix_x4(a_at.add(i as u32 * 16 * pitch + a_place));
            i += 1;
        }
        let mut j = 0;
        while j < NT {
            if NT == 1 {
                b[j] = shared::ldmatrix_x2(b_at.add(b_place));
                j += 1;
            } else {
                let [b0, b1, b2, b3] = shared::ldmatrix_x4(b_at.add(j as u32 * 8 * pitch + b_place));
                b[j] = [b0, b1];
                b[j + 1] = [b2, b3];
                j += 2;
            }
        }
        let mut i = 0;
        while i < MT {
            sums[i] = E::mma::<NT>(&[a[i]; NT], &b, &sums[i]);
            i += 1;
        }
        step += 1;
    }
}
