//! What a simulated thread can do: the functions that `cuda_std` is made of on the CPU.
//!
//! Every operation takes its caller's source line for error messages, so wrappers are to be `#[track_caller]` too.
//! An error does not return: it unwinds the thread and ends the launch. Destructors run during that unwinding; device operations
//! inside them do nothing then (loads give zeros), and a panic in one of them ends the process, as everywhere in Rust.

mod access;
mod bulk;
mod cluster;
mod mbarrier;
mod product;

pub use access::*;
pub use bulk::*;
pub use cluster::*;
pub use mbarrier::*;
pub use product::*;

use crate::block::Block;
use crate::current::{CURRENT, here, let_others_run, raise, suspend};
use crate::dims::Dim3;
use crate::error::{ErrorKind, Fault};
use crate::warp::{DEPOSIT, Request};
use std::any::TypeId;
use std::panic::Location;

/// The running thread's index in its block; zero outside a kernel.
#[inline(always)]
pub fn thread_idx() -> Dim3 {
    CURRENT.with(|c| c.idx.get())
}

macro_rules! block_field {
    ($($(#[$doc:meta])* $name:ident $field:ident),*) => {$(
        $(#[$doc])*
        ///
        /// # Panics
        /// Outside a kernel.
        #[inline(always)]
        #[track_caller]
        pub fn $name() -> Dim3 {
            let (block, _) = here();
            // SAFETY: the running block; the field does not change while its threads run.
            unsafe { (*block).$field }
        }
    )*};
}

block_field! {
    /// The running block's index in the grid.
    block_idx idx,
    /// The size of a block.
    block_dim dim,
    /// The size of the grid, in blocks.
    grid_dim grid
}

/// The running thread's lane in its warp, 0 to 31; zero outside a kernel.
#[inline(always)]
pub fn lane_id() -> u32 {
    CURRENT.with(|c| c.thread.get()) as u32 % 32
}

/// The running thread's warp in its block; zero outside a kernel.
#[inline(always)]
pub fn warp_id() -> u32 {
    CURRENT.with(|c| c.thread.get() - c.first.get()) as u32 / 32
}

/// Whether this OS thread is running a simulated thread.
#[inline(always)]
pub fn in_kernel() -> bool {
    CURRENT.with(|c| !c.block.get().is_null())
}

/// Ends the launch with an error at the caller's source line.
///
/// # Panics
/// Outside a kernel, with the message.
#[cold]
#[track_caller]
pub fn fail(kind: ErrorKind, message: String) -> ! {
    if !in_kernel() {
        panic!("{kind:?}: {message}");
    }
    raise(Location::caller(), Fault { kind, message })
}

/// Switches threads here, in a seeded schedule, if the coin says so.
///
/// # Safety
/// `block` and `t` are the running ones and the caller holds no reference into the block.
#[inline]
pub(crate) unsafe fn perhaps_switch(block: *mut Block, t: usize, loc: &'static Location<'static>) {
    // SAFETY: as the caller vouches.
    unsafe {
        if (*block).coin() {
            let_others_run(block, t, loc);
        }
    }
}

/// Waits for all threads of the block; orders their shared memory.
///
/// # Errors
/// `PartialBarrier` if a thread has ended, waits at another source line or never comes.
#[inline]
#[track_caller]
pub fn sync_threads() {
    sync_threads_reduce(false);
}

/// As [`sync_threads`]; returns for how many threads `pred` was true.
#[inline]
#[track_caller]
pub fn sync_threads_reduce(pred: bool) -> u32 {
    let loc = Location::caller();
    let (block, t) = here();
    // SAFETY: the running block; no borrow of it is held across a switch.
    unsafe {
        if (*block).aborting {
            return 0;
        }
        perhaps_switch(block, t, loc);
        match (*block).arrive_all(t, pred, loc) {
            Ok(true) => {}
            Ok(false) => suspend(block, t),
            Err(fault) => raise(loc, *fault),
        }
        (*block).all_result(t)
    }
}

/// PTX's `bar.sync id, threads`: waits until `threads / 32` warps have arrived at barrier `id`, this one included. A
/// warp arrives when all its live lanes have; its lanes have to be at the same source line.
/// Barrier 0 for all threads is [`sync_threads`].
///
/// # Errors
/// `BadArgument` for an id above 15 or a number of threads that is zero, no multiple of 32 or larger than the block;
/// `PartialBarrier` if the lanes of a warp or the numbers of threads differ, or too few warps come;
/// `Deadlock` if warps wait for each other at different barriers.
#[inline]
#[track_caller]
pub fn barrier_sync(id: u32, threads: u32) {
    named(id, threads, true);
}

/// PTX's `bar.arrive id, threads`: counts this warp at barrier `id` without waiting for the others. What its lanes
/// wrote to shared memory before is ordered before what the waiting warps do afterwards.
///
/// # Errors
/// As for [`barrier_sync`].
#[inline]
#[track_caller]
pub fn barrier_arrive(id: u32, threads: u32) {
    named(id, threads, false);
}

#[track_caller]
fn named(id: u32, threads: u32, waits: bool) {
    let loc = Location::caller();
    let (block, t) = here();
    // SAFETY: the running block; no borrow of it is held across a switch.
    unsafe {
        if (*block).aborting {
            return;
        }
        if id == 0 && waits && threads as usize == (*block).cta_warps * 32 {
            sync_threads();
            return;
        }
        perhaps_switch(block, t, loc);
        match (*block).arrive_named(t, (id, threads), waits, loc) {
            Ok(true) => {}
            Ok(false) => suspend(block, t),
            Err(fault) => raise(loc, *fault),
        }
    }
}

/// The deposits of one exchange, as one lane reads them.
pub struct Lanes<T> {
    deposits: *const T,
    mask: u32,
    loc: &'static Location<'static>,
}

impl<T: Copy> Lanes<T> {
    /// What lane `lane` deposited.
    ///
    /// # Errors
    /// `PartialWarp` if that lane is not in the exchange's mask, or not in the block: a GPU gives an undefined value.
    #[inline(always)]
    pub fn get(&self, lane: u32) -> T {
        if lane >= 32 || self.mask >> lane & 1 == 0 {
            self.absent(lane);
        }
        // SAFETY: every lane of the mask wrote a `T` at its place before any of them reads, and no place is reused
        // before all have read.
        unsafe { self.deposits.add(lane as usize).read() }
    }

    /// The lanes that take part.
    #[inline(always)]
    pub fn mask(&self) -> u32 {
        self.mask
    }

    #[cold]
    fn absent(&self, lane: u32) -> ! {
        let message = format!(
            "reads lane {lane}, which is not among the lanes {:#010x} of this exchange",
            self.mask
        );
        raise(
            self.loc,
            Fault {
                kind: ErrorKind::PartialWarp,
                message,
            },
        )
    }
}

/// The one rendezvous of a warp: every lane of `mask` deposits `value`, waits for all the others, then computes its own
/// result from all deposits. Shuffles, votes, matches and matrix operations are made of it.
///
/// It orders no shared memory (as on a GPU, where only `sync_warp` does).
///
/// # Errors
/// `PartialWarp` if a lane of `mask` ends, reaches another `op`, mask or source line, or the caller is not in `mask`.
#[inline(always)]
#[track_caller]
pub fn warp_exchange<T: Copy + 'static, R>(op: &'static str, mask: u32, value: T, f: impl FnOnce(&Lanes<T>) -> R) -> R {
    exchange(
        Request {
            op,
            mask,
            ty: TypeId::of::<T>(),
            orders: false,
            loc: Location::caller(),
        },
        value,
        f,
    )
}

/// Waits for the lanes of `mask` and orders their shared memory.
///
/// # Errors
/// As for [`warp_exchange`].
#[inline]
#[track_caller]
pub fn sync_warp(mask: u32) {
    let request = Request {
        op: "sync_warp",
        mask,
        ty: TypeId::of::<()>(),
        orders: true,
        loc: Location::caller(),
    };
    exchange(request, (), |_| ());
}

#[inline(always)]
fn exchange<T: Copy + 'static, R>(request: Request, value: T, f: impl FnOnce(&Lanes<T>) -> R) -> R {
    const {
        assert!(
            size_of::<T>() <= DEPOSIT && align_of::<T>() <= 64,
            "a lane deposits at most 640 bytes"
        )
    };
    let (block, t) = here();
    // SAFETY: the running block; no borrow of it is held across a switch. The deposit lies in the group's room for
    // lane `t % 32`: 32 values of at most `DEPOSIT` bytes each, 64-byte aligned, which no other lane writes.
    unsafe {
        if (*block).aborting {
            return alone(request, value, f);
        }
        perhaps_switch(block, t, request.loc);
        let group = match (*block).join(t, &request) {
            Ok(group) => group,
            Err(fault) => raise(request.loc, *fault),
        };
        let deposits = (*group).deposits().cast::<T>();
        deposits.add(t % 32).write(value);
        if !(*block).arrive(t, group) {
            suspend(block, t);
        }
        let lanes = Lanes {
            deposits,
            mask: (*group).mask,
            loc: request.loc,
        };
        let result = f(&lanes);
        (*group).leave(t % 32);
        result
    }
}

/// A collective of the whole warp that one lane computes for all: every lane deposits `value`; the last to arrive makes `f` turn
/// the 32 deposits into the 32 results, and each lane takes its own. Matrix operations are made of it: what the lanes share
/// (decoded operands) is made once and not 32 times.
///
/// It orders no shared memory.
///
/// # Errors
/// As for [`warp_exchange`] with all lanes; `PartialWarp` also in a warp of fewer than 32 threads.
#[inline(always)]
#[track_caller]
pub fn warp_together<T: Copy + 'static>(op: &'static str, value: T, f: impl FnOnce(&mut [T; 32])) -> T {
    const {
        assert!(
            size_of::<T>() <= DEPOSIT && align_of::<T>() <= 64,
            "a lane deposits at most 640 bytes"
        )
    };
    let (ty, loc) = (TypeId::of::<T>(), Location::caller());
    let request = Request {
        op,
        mask: u32::MAX,
        ty,
        orders: false,
        loc,
    };
    let (block, t) = here();
    // SAFETY: as in `exchange`. `f` runs while no other thread does, after all 32 lanes have deposited a `T` and before any
    // has read.
    unsafe {
        if (*block).aborting {
            return value;
        }
        perhaps_switch(block, t, loc);
        let group = match (*block).join(t, &request) {
            Ok(group) => group,
            Err(fault) => raise(loc, *fault),
        };
        if (*group).mask != u32::MAX {
            let message = format!(
                "{op}: the warp has only the lanes {:#010x}; it takes all 32",
                (*group).mask
            );
            raise(
                loc,
                Fault {
                    kind: ErrorKind::PartialWarp,
                    message,
                },
            )
        }
        let deposits = (*group).deposits().cast::<T>();
        deposits.add(t % 32).write(value);
        if (*block).arrive(t, group) {
            f(&mut *deposits.cast::<[T; 32]>());
        } else {
            suspend(block, t);
        }
        let result = deposits.add(t % 32).read();
        (*group).leave(t % 32);
        result
    }
}

/// The tensor core that this launch computes as; the default one outside a kernel.
#[inline]
pub fn tensor_core() -> crate::tensor::TensorCore {
    let block = CURRENT.with(|c| c.block.get());
    if block.is_null() {
        return crate::tensor::TensorCore::default();
    }
    // SAFETY: the running block; the field does not change while its threads run.
    unsafe { (*block).tensor }
}

/// An exchange inside a destructor while the launch is being ended: everyone else's deposit looks like one's own.
#[cold]
fn alone<T: Copy, R>(request: Request, value: T, f: impl FnOnce(&Lanes<T>) -> R) -> R {
    let all = [value; 32];
    f(&Lanes {
        deposits: all.as_ptr(),
        mask: u32::MAX,
        loc: request.loc,
    })
}
