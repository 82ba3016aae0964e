//! The end of a tile: from accumulators to y.

use cuda_std::shared::{self, Shared};
use cuda_std::tma::{self, TensorMap};
use cuda_std::{proxy, thread, warp};

use super::kernel::Args;
use super::tiles::{Operand, ROW, STORE_BYTES, STORE_COLUMNS, SWAPPED, Tiles};
use crate::unroll::unroll;

impl<
    const MW: usize,
    const R: usize,
    const WARPGROUPS: u32,
    const STAGES: u32,
    const SLABS: u32,
    const CLUSTER: u32,
    const MODE: u32,
> Tiles<MW, R, WARPGROUPS, STAGES, SLABS, CLUSTER, MODE>
{
    /// Stores a warpgroup's 64 rows, rounded, through shared memory: 64 columns at a time, two rooms by turns.
    ///
    /// # Safety
    /// As [`Tiles::run`]; n is a multiple of 8, y of 16 bits and without bias and residual.
    #[inline(always)]
    pub(super) unsafe fn store_staged<E: Operand>(
        y: &TensorMap,
        sums: &[f32; R],
        [row, column]: [u32; 2],
        base: Shared<u8>,
        warp: u32,
    ) {
        let (warpgroup, lane) = (warp / 4, warp::lane_id());
        let rooms = base.add(STAGES * Self::STAGE_BYTES + warpgroup * 2 * STORE_BYTES);
        let leader = thread::thread_idx_x().is_multiple_of(128);
        // The row that this lane names in `stmatrix`, and which of two pieces of 16 bytes; pieces are swizzled as the map has it.
        let mine = rooms.add((16 * (warp % 4) + lane % 16) * ROW);
        let (right, swizzle) = (lane / 16, lane % 8);
        unroll!(part < 4 => {
            if (part as u32) < Self::BQ / STORE_COLUMNS {
                let room = (part as u32 % 2) * STORE_BYTES;
                // The store before the last one has left this room; with an odd number of them, the last one of the tile before.
                if leader && part == 0 && !(Self::BQ / STORE_COLUMNS).is_multiple_of(2) {
                    tma::wait_read::<0>();
                } else if leader {
                    tma::wait_read::<1>();
                }
                thread::barrier_sync_id(1 + warpgroup, 128);
                unroll!(j < 4 => {
                    let at = (part * 4 + j) * 8;
                    let piece = (2 * j as u32 + right) ^ swizzle;
                    let pair = |i: usize| E::round_pair([sums[(at + i) % R], sums[(at + i + 1) % R]]);
                    shared::stmatrix_x4(mine.add(room + 16 * piece), [pair(0), pair(2), pair(4), pair(6)]);
                });
                proxy::fence_async();
                thread::barrier_sync_id(1 + warpgroup, 128);
                if leader {
                    let first = column + part as u32 * STORE_COLUMNS;
                    // SAFETY: the room is written and fenced by all; what is outside of y is not stored.
                    unsafe { tma::store(y, [first as i32, row as i32], rooms.add(room)) };
                    tma::commit();
                }
            }
        });
    }

    /// Stores a warpgroup's 64 rows from registers; `rest`: only the columns that [`Tiles::store_staged`] leaves.
    ///
    /// # Safety
    /// As [`Tiles::run`].
    #[inline(always)]
    pub(super) unsafe fn store_direct<E: Operand>(
        args: Args<'_>,
        sums: &[f32; R],
        [row, column]: [u32; 2],
        warp: u32,
        rest: bool,
    ) {
        let lane = warp::lane_id();
        let (g, t) = (lane / 4, lane % 4);
        // Rows of the tile, where it has fewer than the product.
        let end = (row + Self::BP.min(64)).min(args.rows[0]);
        let row = row + 16 * (warp % 4) + g;
        unroll!(j < 32 => {
            let staged = rest && (j as u32) < Self::BQ / STORE_COLUMNS * (STORE_COLUMNS / 8);
            if (j as u32) < Self::BQ / 8 && !staged {
                let column = column + 8 * j as u32 + 2 * t;
                let mut half = 0;
                while half < 2 {
                    let (row, at) = (row + 8 * half as u32, (4 * j + 2 * half) % R);
                    if row < end {
                        // SAFETY: the row exists; columns beyond the last are left out.
                        unsafe {
                            if MODE & SWAPPED != 0 {
                                args.out.store_column::<E>(row, column, args.rows[1], [sums[at], sums[at + 1]]);
                            } else {
                                args.out.store_two::<E>(row as usize, column, [sums[at], sums[at + 1]]);
                            }
                        }
                    }
                    half += 1;
                }
            }
        });
    }
}
