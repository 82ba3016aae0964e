//! Barriers in shared memory, and the fences that make them and plain writes known to copies.

use super::perhaps_switch;
use crate::block::Block;
use crate::current::{here, let_others_run, raise, raise_once, suspend};
use crate::error::Fault;
use crate::flight::{Flight, Load};
use std::panic::Location;

type At = &'static Location<'static>;

/// Runs an operation of the block; its error ends the launch.
pub(super) fn run(at: At, f: impl FnOnce(&mut Block, usize) -> Result<(), Box<Fault>>) {
    let (block, t) = here();
    // SAFETY: the running block; the borrows end with each statement, and none is held across the switch.
    unsafe {
        if (*block).aborting {
            return;
        }
        perhaps_switch(block, t, at);
        if let Err(fault) = f(&mut *block, t) {
            raise_once(at, *fault);
        }
    }
}

/// Makes the 8 bytes at `addr` (a multiple of 8) a barrier whose phases take `count` arrivals (PTX `mbarrier.init`).
///
/// # Errors
/// `BadArgument` for a count of zero or above 2^20 - 1; `BadBarrier` where a barrier is already; with checks on those of
/// [`super::shared_store`].
#[track_caller]
pub fn mbarrier_init(addr: u32, count: u32) {
    let at = Location::caller();
    run(at, |block, t| block.init_barrier(t, addr, count, at));
}

/// Ends the barrier at `addr` (PTX `mbarrier.inval`): its bytes hold nothing, and may be used for something else.
///
/// # Errors
/// `BadBarrier` where there is none, or while threads wait for it or copies are to land on it.
#[track_caller]
pub fn mbarrier_inval(addr: u32) {
    run(Location::caller(), |block, t| block.end_barrier(t, addr));
}

/// Announces `tx` bytes (0 for none), then arrives once (PTX `mbarrier.arrive`, `mbarrier.arrive.expect_tx`). What this thread did
/// before is ordered before what those do who wait for the phase. `addr` may be of another block ([`super::cluster_map`]).
///
/// # Errors
/// `BadBarrier` where there is none, for an arrival more than a phase takes, for a barrier of another block that was not made known
/// by [`fence_mbarrier_init`] or whose block has ended; `SharedRace` if no barrier orders its initialisation before;
/// `WrongByteCount` if the phase can no longer end, because copies brought more bytes than were announced.
#[track_caller]
pub fn mbarrier_arrive(addr: u32, tx: u32) {
    run(Location::caller(), |block, t| block.arrive_barrier(t, addr, tx, true));
}

/// Announces `tx` more bytes for the current phase (PTX `mbarrier.expect_tx`).
///
/// # Errors
/// As for [`mbarrier_arrive`].
#[track_caller]
pub fn mbarrier_expect(addr: u32, tx: u32) {
    run(Location::caller(), |block, t| block.arrive_barrier(t, addr, tx, false));
}

/// Waits until the phase of parity `parity` is over: the current phase, or at once if it was the one before (PTX
/// `mbarrier.try_wait.parity` in a loop). Orders what was done before the arrivals, and copies that landed on it, before what this
/// thread does next.
///
/// # Errors
/// Those of [`mbarrier_arrive`] for the barrier; if the phase never ends, `WrongByteCount` when only bytes are missing and
/// `Deadlock` otherwise; `Deadlock` also if the next phase was over before this thread ran again.
#[track_caller]
pub fn mbarrier_wait(addr: u32, parity: u32) {
    let at = Location::caller();
    let (block, t) = here();
    // SAFETY: the running block; no borrow of it is held across a switch.
    unsafe {
        if (*block).aborting {
            return;
        }
        perhaps_switch(block, t, at);
        match (*block).test_barrier(t, addr, parity) {
            Ok(true) => {}
            Ok(false) => {
                let phase = (*block).wait_barrier(t, addr, at);
                suspend(block, t);
                if let Err(fault) = (*block).missed_phase(t, addr, phase) {
                    raise(at, *fault);
                }
            }
            Err(fault) => raise(at, *fault),
        }
    }
}

/// Whether the phase of parity `parity` is over; orders as [`mbarrier_wait`] if it is, and lets other threads run if not.
///
/// # Errors
/// As for [`mbarrier_arrive`]; `Deadlock` if every thread that can run only tests.
#[track_caller]
pub fn mbarrier_test(addr: u32, parity: u32) -> bool {
    let at = Location::caller();
    let (block, t) = here();
    // SAFETY: the running block; no borrow of it is held across a switch.
    unsafe {
        if (*block).aborting {
            return true;
        }
        perhaps_switch(block, t, at);
        match (*block).test_barrier(t, addr, parity) {
            Ok(true) => true,
            Ok(false) => {
                let_others_run(block, t, at);
                false
            }
            Err(fault) => raise(at, *fault),
        }
    }
}

/// Has the barrier count one arrival when all `cp.async` copies that this thread issued before have landed (PTX
/// `cp.async.mbarrier.arrive.noinc`).
///
/// # Errors
/// As for [`mbarrier_arrive`].
#[track_caller]
pub fn mbarrier_arrive_on_copies(addr: u32) {
    let at = Location::caller();
    run(at, |block, t| {
        let flight = Flight {
            cta: block.own_block_only(t, addr, "cp.async.mbarrier.arrive")?,
            barrier: addr,
            owner: t,
            loc: at,
            load: Load::Copies {
                first: block.aside(t).copies.issued(),
            },
        };
        block.set_off(flight)
    });
}

/// Makes the barriers that this thread initialised known to copies and to the cluster's other blocks (PTX
/// `fence.mbarrier_init.release.cluster`), once a barrier of the block or cluster has been passed.
#[track_caller]
pub fn fence_mbarrier_init() {
    run(Location::caller(), |block, t| {
        block.fence_barriers(t, false);
        Ok(())
    });
}

/// Orders what this thread wrote to shared memory by plain stores before later accesses by copies and tensor cores (PTX
/// `fence.proxy.async.shared::cta`); for barriers that it initialised it does what copies need of [`fence_mbarrier_init`].
#[track_caller]
pub fn fence_proxy_async() {
    run(Location::caller(), |block, t| {
        block.fence_barriers(t, true);
        if block.checks {
            block.clocks.fence_proxy(t);
        }
        Ok(())
    });
}
