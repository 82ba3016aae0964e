//! The kernel itself, for any [`Tiles`]: roles, barriers, epilogue. The module's page says what the operands are.
//!
//! # Roles and barriers
//! A block is `WARPGROUPS` consumers (warps 0 to 4 WARPGROUPS - 1) and one producer warp, of which one thread works. A ring of `STAGES`
//! stages holds 64 k of the tile's rows of P and of Q each, as the copy engine writes them with the 128-byte swizzle.
//! `full[s]`: the producer arrives and expects the stage's bytes. `empty[s]`: one arrival of each consumer warp, in every block of the
//! cluster that gets bytes from here. Blocks of a cluster have different tiles of one side and the same tile of the other; of that
//! one each copies its part to all of them.
//!
//! Blocks stay for several tiles (the grid is what fits on the device). In ping-pong every warpgroup has tiles of its own, and one
//! multiplies while the other stores; else the warpgroups share a tile's rows.

use cuda_std::cluster;
use cuda_std::mbarrier::{self, Barrier, Barriers, Stage};
use cuda_std::shared::{self, Shared};
use cuda_std::tma::{self, Hint, TensorMap};
use cuda_std::wgmma::{self, Accumulator, Descriptor, Land, Multiply, Swizzle};
use cuda_std::{thread, warp};

use super::order::{Order, Place};
use super::tiles::{BK, FEW_ROWS, Operand, PING_PONG, ROW, SHARE_P, STORE_COLUMNS, Tiles};
use crate::tile_mma::Output;
use crate::unroll::unroll;

/// The parameters as launched.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    /// P, in copies of `P_BOX` rows of [`BK`] elements.
    pub p: &'a TensorMap,
    /// Q, in copies of `Q_BOX` rows.
    pub q: &'a TensorMap,
    /// y, in copies of 64 rows of [`STORE_COLUMNS`]; looked at where `staged`.
    pub y: &'a TensorMap,
    /// y, bias, residual.
    pub out: Output,
    /// Rows of P and of Q.
    pub rows: [u32; 2],
    /// Columns of both.
    pub k: u32,
    /// Whether outputs go out by tensor copies.
    pub staged: bool,
}

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
    /// # Safety
    /// The tensors and maps are those of the module's page; grid, cluster and shared memory those of the tile.
    #[inline(always)]
    pub unsafe fn run<E: Operand>(args: Args<'_>)
    where
        Accumulator<f32, R>: Multiply<E::Format> + Land,
    {
        const {
            assert!(
                MODE & FEW_ROWS == 0
                    || (MW == 1 && WARPGROUPS == 1 && CLUSTER == 1 && Self::BP + SLABS * Self::BQ >= 64),
                "a product's 64 rows lie in the stage, all of them"
            );
        }
        let base = shared::dynamic::<u8>();
        let barriers = base.add(STAGES * Self::STAGE_BYTES + Self::STAGING_BYTES).cast::<u64>();
        let (full, empty) = (
            Barriers::<STAGES>::at(barriers),
            Barriers::<STAGES>::at(barriers.add(STAGES)),
        );
        // From lane 0, so that the compiler knows the roles' branches to be the same for a warp.
        let warp = warp::shuffle_idx(thread::thread_idx_x() / 32, 0);
        let producer = warp >= 4 * WARPGROUPS;
        if warp == 4 * WARPGROUPS && warp::lane_id() == 0 {
            full.init_all(1);
            let consumers = if MODE & PING_PONG != 0 { 1 } else { WARPGROUPS };
            empty.init_all(4 * consumers * CLUSTER);
            mbarrier::fence_init();
            tma::prefetch(args.p);
            tma::prefetch(args.q);
        }
        Self::meet();
        // The next kernel may set off: it gets what this one leaves free, and waits for the end of this one itself.
        thread::launch_dependents();
        let order = Order::new::<CLUSTER>(args.rows, [Self::BP, Self::BQ], MODE & SHARE_P != 0);
        if producer {
            if WARPGROUPS > 1 {
                thread::set_max_registers_dec::<40>();
            }
            if warp == 4 * WARPGROUPS && warp::lane_id() == 0 {
                // SAFETY: the caller's promise.
                unsafe { Self::produce(args, order, base, full, empty) };
            }
            // SAFETY: the whole warp is here.
            unsafe { warp::sync_warp(u32::MAX) };
        } else {
            if WARPGROUPS > 1 {
                thread::set_max_registers_inc::<232>();
            }
            // SAFETY: the caller's promise.
            unsafe { Self::consume::<E>(args, order, base, full, empty, warp) };
        }
        // Others may still copy to this block's shared memory, or arrive at its barriers.
        if CLUSTER > 1 {
            cluster::sync();
        }
    }

    /// All threads of all blocks that share barriers.
    #[inline(always)]
    fn meet() {
        if CLUSTER > 1 {
            cluster::sync();
        } else {
            thread::sync_threads();
        }
    }

    /// Copies stage after stage of the block's tiles. The weights of the first stages do not wait for the kernels before this one.
    ///
    /// # Safety
    /// As [`Tiles::run`].
    #[inline(always)]
    unsafe fn produce(args: Args<'_>, order: Order, base: Shared<u8>, full: Barriers<STAGES>, empty: Barriers<STAGES>) {
        let room = |stage: u32| base.add(stage * Self::STAGE_BYTES);
        let Some(first) = order.place(0) else { return };
        let mut early = 0;
        while early < STAGES && early * SLABS * BK < args.k {
            let filled = full.get(early);
            filled.arrive_expect(Self::STAGE_BYTES);
            // SAFETY: nobody has used the stage; the maps are the caller's matter.
            unsafe { Self::copy(Self::SWAPS, args, first, early * SLABS * BK, room(early), filled) };
            early += 1;
        }
        thread::wait_for_prerequisites();
        let mut stage = Stage::<STAGES>::first();
        let mut turn = 0;
        while let Some(place) = order.place(turn) {
            let mut k = 0;
            while k < args.k {
                let filled = full.get(stage.index);
                // SAFETY: the stage is empty; the maps are the caller's matter.
                unsafe {
                    if early == 0 {
                        empty.get(stage.index).wait(stage.phase ^ 1);
                        filled.arrive_expect(Self::STAGE_BYTES);
                        Self::copy(Self::SWAPS, args, place, k, room(stage.index), filled);
                    } else {
                        early -= 1;
                    }
                    Self::copy(!Self::SWAPS, args, place, k, room(stage.index), filled);
                }
                stage.advance();
                k += SLABS * BK;
            }
            turn += 1;
        }
    }

    /// Starts the copies of P's rows (else Q's) for one stage, from `k` on.
    ///
    /// # Safety
    /// As [`Tiles::run`]; the stage's room `to` is free.
    #[inline(always)]
    unsafe fn copy(of_p: bool, args: Args<'_>, place: Place, k: u32, to: Shared<u8>, filled: Barrier) {
        let (map, row, to, bytes) = if of_p {
            (args.p, place.p, to, Self::P_BYTES)
        } else {
            (args.q, place.q, to.add(SLABS * Self::P_BYTES), Self::Q_BYTES)
        };
        // What the cluster shares each of its blocks copies a part of, to all of them.
        let shared = CLUSTER > 1 && of_p == (MODE & SHARE_P != 0);
        let first = if shared {
            cluster::rank() * if of_p { Self::P_BOX } else { Self::Q_BOX }
        } else {
            0
        };
        let all = ((1u32 << CLUSTER) - 1) as u16;
        let mut slab = 0;
        while slab < SLABS {
            let to = to.add(slab * bytes + first * ROW);
            let at = [(k + slab * BK) as i32, (row + first) as i32];
            // SAFETY: the room is the caller's promise.
            unsafe {
                if shared {
                    tma::load_multicast(to, map, at, filled, all, Hint::Normal);
                } else {
                    tma::load(to, map, at, filled, Hint::Normal);
                }
            }
            slab += 1;
        }
    }

    /// Multiplies and stores the tiles of a warpgroup.
    ///
    /// # Safety
    /// As [`Tiles::run`].
    #[inline(always)]
    unsafe fn consume<E: Operand>(
        args: Args<'_>,
        order: Order,
        base: Shared<u8>,
        full: Barriers<STAGES>,
        empty: Barriers<STAGES>,
        warp: u32,
    ) where
        Accumulator<f32, R>: Multiply<E::Format> + Land,
    {
        // y and the residual may be the business of kernels before this one.
        thread::wait_for_prerequisites();
        let warpgroup = warp / 4;
        let ping_pong = MODE & PING_PONG != 0;
        // The warpgroup's rows of the tile.
        let first_row = if ping_pong { 0 } else { warpgroup * 64 * MW as u32 };
        let lane = warp::lane_id();
        let release = |stage: u32| {
            if CLUSTER == 1 {
                if lane == 0 {
                    empty.get(stage).arrive();
                }
            } else if lane < CLUSTER {
                empty.get(stage).arrive_at(lane);
            }
        };
        let mut stage = Stage::<STAGES>::first();
        // The other warpgroup's stages in ping-pong.
        let others = args.k.div_ceil(SLABS * BK);
        let mut turn = 0;
        if ping_pong && warpgroup == 1 {
            stage.skip(others);
            turn = 1;
        }
        while let Some(Place { p, q }) = order.place(turn) {
            if ping_pong && turn > 0 {
                // The ring is the other's until it has read its last stage: a stage's parity says no more than one round.
                thread::barrier_sync_id(Self::turn_of(warpgroup), 256);
            }
            let mut sums = [Accumulator::<f32, R>::zero(); MW];
            let mut previous = stage.index;
            let mut k = 0;
            // At least once, k being at least 1: a way around the loop would bring registers to the wait that no product made.
            loop {
                full.get(stage.index).wait(stage.phase);
                let tile = base.add(stage.index * Self::STAGE_BYTES);
                wgmma::fence();
                unroll!(slab < 4 => {
                    if (slab as u32) < SLABS {
                        let slab = slab as u32;
                        let (rows, columns) = (slab * Self::P_BYTES + first_row * ROW, SLABS * Self::P_BYTES + slab * Self::Q_BYTES);
                        let rows = Descriptor::k_major(tile.add(rows), Swizzle::B128);
                        let columns = Descriptor::k_major(tile.add(columns), Swizzle::B128);
                        unroll!(step < 4 => {
                            let step_bytes = 32 * step as u32;
                            unroll!(i < 2 => {
                                if i < MW {
                                    let rows = rows.advance(i as u32 * 64 * ROW + step_bytes);
                                    sums[i % MW].issue(rows, columns.advance(step_bytes), true);
                                }
                            });
                        });
                    }
                });
                wgmma::commit();
                // All but the products just issued are over: the stage before is read.
                wgmma::wait::<1>();
                if k > 0 {
                    release(previous);
                }
                previous = stage.index;
                stage.advance();
                k += SLABS * BK;
                if k >= args.k {
                    break;
                }
            }
            unroll!(i < 2 => {
                if i < MW {
                    sums[i % MW].wait::<0>();
                }
            });
            release(previous);
            if ping_pong && order.has(turn + 1) {
                thread::barrier_arrive_id(Self::turn_of((warpgroup + 1) % 2), 256);
            }
            unroll!(i < 2 => {
                if i < MW {
                    let row = p + first_row + 64 * i as u32;
                    // SAFETY: the caller's promise.
                    unsafe {
                        let staged = Self::STAGED && args.staged;
                        if staged {
                            Self::store_staged::<E>(args.y, sums[i % MW].values(), [row, q], base, warp);
                        }
                        if !staged || !Self::BQ.is_multiple_of(STORE_COLUMNS) {
                            Self::store_direct::<E>(args, sums[i % MW].values(), [row, q], warp, staged);
                        }
                    }
                }
            });
            if ping_pong {
                stage.skip(others);
            }
            turn += if ping_pong { 2 } else { 1 };
        }
        if Self::STAGED && thread::thread_idx_x().is_multiple_of(128) {
            // Shared memory must outlive the stores.
            tma::wait_read::<0>();
        }
    }

    /// The named barrier at which a warpgroup gets its turn in ping-pong.
    #[inline(always)]
    fn turn_of(warpgroup: u32) -> u32 {
        const { assert!(MODE & PING_PONG == 0 || WARPGROUPS == 2, "two warpgroups take turns") };
        1 + WARPGROUPS + warpgroup
    }
}
