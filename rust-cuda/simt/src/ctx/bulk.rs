//! Bulk copies by the copy engine (PTX `cp.async.bulk`), and the groups in which a thread waits for its stores.

use super::mbarrier::run;
use crate::current::here;
use std::panic::Location;

/// Starts the copy of a tile to shared memory (PTX `cp.async.bulk.tensor`): the tile at elements `at` of `map`
/// ([`crate::tma::Map::encode`]), `at[0]` of the innermost dimension. Elements outside the tensor are zeros. The whole tile's bytes
/// count on the barrier at `barrier`. With `blocks` it goes to the same addresses in each block of the cluster whose bit is set.
///
/// # Safety
/// With checks off the tensor's elements in the tile must be readable.
///
/// # Errors
/// `BadArgument` for a map that does not decode, another number of coordinates than it has dimensions, blocks that the cluster does
/// not have; `Misaligned` if `dst` is no multiple of 128; `BadBarrier` and `SharedRace` as [`super::mbarrier_arrive`] for the
/// barrier, which copies have to know of; with checks on those of [`super::load`] for the tensor and of [`super::shared_store`] for
/// the destination. Whoever touches the destination before the barrier's phase is over: `AsyncNotWaited`.
#[track_caller]
pub unsafe fn tma_load(dst: u32, map: &[u64; 16], at: &[i32], barrier: u32, blocks: Option<u16>) {
    let loc = Location::caller();
    run(loc, |block, t| {
        block.load_tile(t, (map, at), (dst, barrier, blocks), loc)
    });
}

/// Starts the copy of a tile from shared memory into the tensor, in the thread's current group of stores; elements outside the tensor
/// are not stored.
///
/// # Safety
/// With checks off the tensor's elements in the tile must be writable.
///
/// # Errors
/// Those of [`tma_load`] for map, coordinates and alignment; with checks on those of [`super::store`] for the tensor; for the source
/// those of [`super::shared_load`], `NotFenced` where the last plain store to it was not followed by [`super::fence_proxy_async`] of
/// its thread, `WrongSwizzle` where a copy with another swizzle wrote it. Whoever writes the source before [`bulk_wait`]:
/// `AsyncNotWaited`; so does a thread that ends without one.
#[track_caller]
pub unsafe fn tma_store(map: &[u64; 16], at: &[i32], src: u32) {
    let loc = Location::caller();
    run(loc, |block, t| block.store_tile(t, (map, at), src, loc));
}

/// Starts the copy of `bytes` (a multiple of 16) to shared memory; they count on the barrier at `barrier`.
///
/// # Safety
/// With checks off `src` must be readable.
///
/// # Errors
/// `Misaligned` if an address is no multiple of 16, `BadArgument` for another number of bytes; else as [`tma_load`].
#[track_caller]
pub unsafe fn bulk_load(dst: u32, src: *const u8, bytes: u32, barrier: u32) {
    let loc = Location::caller();
    run(loc, |block, t| block.load_bytes(t, (src, bytes), (dst, barrier), loc));
}

/// Starts the copy of `bytes` (a multiple of 16) from shared memory, in the thread's current group of stores.
///
/// # Safety
/// With checks off `dst` must be writable.
///
/// # Errors
/// As [`bulk_load`] and [`tma_store`].
#[track_caller]
pub unsafe fn bulk_store(dst: *mut u8, src: u32, bytes: u32) {
    let loc = Location::caller();
    run(loc, |block, t| block.store_bytes(t, dst, (src, bytes), loc));
}

/// Closes the group of the stores that this thread has started since the last one.
///
/// # Panics
/// Outside a kernel.
#[track_caller]
pub fn bulk_commit() {
    let (block, t) = here();
    // SAFETY: the running block; the borrow ends with the statement.
    unsafe { (*block).aside(t).stores.commit() };
}

/// Waits until all but the `left` newest groups of this thread have read their source, or (without `reads_only`) are done; here both
/// are the same.
///
/// # Panics
/// Outside a kernel.
#[track_caller]
pub fn bulk_wait(left: u32, reads_only: bool) {
    let _ = reads_only;
    let (block, t) = here();
    // SAFETY: the running block; the borrow ends with the statement.
    unsafe { (*block).wait_stores(t, left) };
}
