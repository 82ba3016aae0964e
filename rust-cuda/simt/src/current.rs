//! Which simulated thread this OS thread is running now.

use crate::block::{Block, Yielded};
use crate::dims::Dim3;
use crate::error::{ErrorKind, Fault};
use std::cell::Cell;
use std::fmt::Display;
use std::panic::{Location, resume_unwind};

/// What `ctx` needs at hand. A block never changes its OS thread, so an address of this may live across a switch.
pub(crate) struct Current {
    /// The block; null outside a kernel.
    pub block: Cell<*mut Block>,
    pub checks: Cell<bool>,
    /// The block's shared memory.
    pub shared: Cell<*mut u8>,
    pub idx: Cell<Dim3>,
    pub thread: Cell<usize>,
    /// The first thread of its block: 0 but in a cluster.
    pub first: Cell<usize>,
}

thread_local! {
    pub(crate) static CURRENT: Current = const {
        Current {
            block: Cell::new(std::ptr::null_mut()),
            checks: Cell::new(false),
            shared: Cell::new(std::ptr::null_mut()),
            idx: Cell::new(Dim3 { x: 0, y: 0, z: 0 }),
            thread: Cell::new(0),
            first: Cell::new(0),
        }
    };
}

/// The payload that unwinds a simulated thread once its block has failed.
pub(crate) struct Abort;

/// The running block, with the running thread's number.
///
/// # Panics
/// Outside a kernel: the operation has no meaning there.
#[inline(always)]
#[track_caller]
pub(crate) fn here() -> (*mut Block, usize) {
    let (block, thread) = CURRENT.with(|c| (c.block.get(), c.thread.get()));
    if block.is_null() {
        outside();
    }
    (block, thread)
}

#[cold]
#[track_caller]
fn outside() -> ! {
    panic!("a device operation was called outside a simulated kernel (run it through `simt::Launch`)");
}

/// Lets the scheduler run other threads until this one is woken.
///
/// # Safety
/// `block` is the running block, `t` its running thread, and the caller holds no reference into the block.
#[inline]
pub(crate) unsafe fn suspend(block: *mut Block, t: usize) {
    // SAFETY: the block outlives its threads; the yielder belongs to the coroutine that runs this very code.
    unsafe {
        let yielder = (*block).lane(t).yielder;
        (*block).progress = true;
        (*yielder).suspend(Yielded::Blocked);
        if (*block).aborting {
            resume_unwind(Box::new(Abort));
        }
        (*block).lane(t).wait = crate::block::Wait::Nothing;
    }
}

/// Lets every other thread that can run go first.
///
/// # Safety
/// As for [`suspend`].
pub(crate) unsafe fn let_others_run(block: *mut Block, t: usize, at: &'static Location<'static>) {
    // SAFETY: as the caller vouches.
    unsafe {
        (*block).lane(t).spins = 0;
        (*block).yielded_at = Some(at);
        (*block).put_later(t);
        let yielder = (*block).lane(t).yielder;
        (*yielder).suspend(Yielded::Blocked);
        if (*block).aborting {
            resume_unwind(Box::new(Abort));
        }
    }
}

/// Ends the running thread, and with it the launch, with an error at `location`.
#[cold]
pub(crate) fn raise(location: impl Display, fault: Fault) -> ! {
    let (block, t) = here();
    // SAFETY: the running block; the borrow ends before the unwinding starts.
    unsafe { (*block).record(t, location, fault) };
    resume_unwind(Box::new(Abort))
}

/// As [`raise`], unless the thread is being unwound already: destructors must not fail again. Returns then.
#[cold]
pub(crate) fn raise_once(location: &'static Location<'static>, fault: Fault) {
    let (block, _) = here();
    // SAFETY: the running block.
    if unsafe { !(*block).aborting } {
        raise(location, fault)
    }
}

/// Makes the panic hook silent for simulated threads, whose panics are reported as errors of the launch.
pub(crate) fn install_hook() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let other = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let (block, t) = CURRENT.with(|c| (c.block.get(), c.thread.get()));
            // SAFETY: a non-null block is alive while its threads run, and this is one of them.
            if block.is_null() || unsafe { (*block).aborting } {
                return other(info);
            }
            let message = info.payload_as_str().unwrap_or("(the panic has no message)").to_owned();
            let fault = Fault {
                kind: ErrorKind::Panic,
                message,
            };
            let place = info
                .location()
                .map_or_else(|| "(unknown)".to_owned(), |l| l.to_string());
            // SAFETY: as above.
            unsafe { (*block).record(t, place, fault) }
        }));
    });
}
