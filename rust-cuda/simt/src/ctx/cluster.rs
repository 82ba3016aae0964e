//! Clusters: blocks that run together, their barrier, and each other's shared memory.

use super::access::{count, nothing};
use super::perhaps_switch;
use crate::cluster::WINDOW;
use crate::current::{here, raise, raise_once, suspend};
use crate::error::{ErrorKind, Fault};
use crate::race::Touch;
use std::panic::Location;

type At = &'static Location<'static>;

/// The block's number in its cluster.
///
/// # Panics
/// Outside a kernel.
#[track_caller]
pub fn cluster_rank() -> u32 {
    let (block, t) = here();
    // SAFETY: the running block.
    unsafe { (*block).cta_of(t) as u32 }
}

/// Blocks of the cluster; 1 in a launch without clusters.
///
/// # Panics
/// Outside a kernel.
#[track_caller]
pub fn cluster_size() -> u32 {
    let (block, _) = here();
    // SAFETY: the running block.
    unsafe { (*block).blocks as u32 }
}

/// Arrives at the cluster's barrier without waiting (PTX `barrier.cluster.arrive.release`). Threads that have ended count as arrived.
///
/// # Errors
/// `PartialBarrier` for a second arrival without [`cluster_wait`] in between.
#[track_caller]
pub fn cluster_arrive() {
    let at = Location::caller();
    let (block, t) = here();
    // SAFETY: the running block; no borrow of it is held across a switch.
    unsafe {
        if (*block).aborting {
            return;
        }
        perhaps_switch(block, t, at);
        if let Err(fault) = (*block).arrive_cluster(t, at) {
            raise(at, *fault);
        }
    }
}

/// Waits until all threads of the cluster have arrived or ended, and orders the shared memory of all its blocks (PTX
/// `barrier.cluster.wait.acquire`).
///
/// # Errors
/// `PartialBarrier` without [`cluster_arrive`] before it, or if some thread never comes.
#[track_caller]
pub fn cluster_wait() {
    let at = Location::caller();
    let (block, t) = here();
    // SAFETY: the running block; no borrow of it is held across a switch.
    unsafe {
        if (*block).aborting {
            return;
        }
        perhaps_switch(block, t, at);
        match (*block).wait_cluster(t, at) {
            Ok(true) => {}
            Ok(false) => suspend(block, t),
            Err(fault) => raise(at, *fault),
        }
    }
}

/// The address of the place `addr` of the own block in block `rank` of the cluster (PTX `mapa`): for [`cluster_load`],
/// [`cluster_store`] and [`super::mbarrier_arrive`] only.
///
/// # Errors
/// `BadArgument` for a rank outside the cluster or an address that is not of the own block's shared memory.
#[track_caller]
pub fn cluster_map(addr: u32, rank: u32) -> u32 {
    let (block, _) = here();
    // SAFETY: the running block.
    let blocks = unsafe { (*block).blocks as u32 };
    if rank >= blocks || addr >> WINDOW != 0 {
        let m = format!(
            "mapa of {addr:#x} in block {rank}: the cluster has {blocks} blocks, and addresses are below 2^{WINDOW}"
        );
        raise_once(Location::caller(), *Fault::new(ErrorKind::BadArgument, m));
        return addr;
    }
    (rank + 1) << WINDOW | addr
}

/// Loads from the shared memory of a block of the cluster (PTX `ld.shared::cluster`).
///
/// # Errors
/// `OutOfBounds` for a block that the cluster does not have; `UseAfterFree` if it has ended; with checks on those of
/// [`super::shared_load`], and `SharedRace` before anything orders the block's start.
#[track_caller]
pub fn cluster_load<T: Copy>(addr: u32) -> T {
    match reach::<T>(addr, Touch::Read, Location::caller()) {
        // SAFETY: `reach` gives a readable address, and a `T` is valid for any bytes.
        Some(p) => unsafe { p.read_unaligned() },
        None => nothing(),
    }
}

/// Stores to the shared memory of a block of the cluster (PTX `st.shared::cluster`).
///
/// # Errors
/// As for [`cluster_load`].
#[track_caller]
pub fn cluster_store<T: Copy>(addr: u32, v: T) {
    if let Some(p) = reach::<T>(addr, Touch::Write, Location::caller()) {
        // SAFETY: `reach` gives a writable address.
        unsafe { p.write_unaligned(v) }
    }
}

/// The host address of a `T` in a block of the cluster, checked; `None` only in a destructor of a failed launch.
fn reach<T>(addr: u32, touch: Touch, at: At) -> Option<*mut T> {
    const { assert!(size_of::<T>() <= 512) };
    let (block, t) = here();
    let (len, align) = (size_of::<T>() as u32, align_of::<T>() as u32);
    let op = if touch == Touch::Read {
        "ld.shared::cluster"
    } else {
        "st.shared::cluster"
    };
    // SAFETY: the running block; the borrows end with the closure.
    let place = unsafe {
        let block = &mut *block;
        block.reach(t, addr, op).and_then(|(cta, local)| {
            if block.checks {
                block.touch_at(cta, (t / 32, t as u32 % 32), (local, len, align), touch, at)?;
                count(block, touch, len);
            }
            Ok(block.shared_of(cta).base().wrapping_add(local as usize))
        })
    };
    match place {
        Ok(p) => Some(p.cast()),
        Err(fault) => {
            raise_once(at, *fault);
            None
        }
    }
}
