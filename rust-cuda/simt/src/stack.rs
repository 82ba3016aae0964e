//! The stacks of the simulated threads: 256 KiB of address space each, committed page by page as they are used.

use crate::vm::Reservation;
use corosensei::stack::{Stack, StackPointer};
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Usable bytes of a simulated thread's stack.
pub(crate) const STACK_BYTES: usize = 256 << 10;
/// An access here is a stack overflow and ends the process; wide enough that a frame of this size cannot jump over it.
const GUARD_BYTES: usize = 64 << 10;
/// Stacks of one size have their hot ends at the same address modulo 4096, so in the same few cache sets. Each starts
/// this many bytes lower than the one before it.
const COLOUR_STEP: usize = 192;
const COLOURS: usize = 64;

static ALIVE: AtomicUsize = AtomicUsize::new(0);
static MADE: AtomicUsize = AtomicUsize::new(0);

/// How many stacks of simulated threads this process holds now, pooled or in use. A launch, failed or not, returns
/// every stack that it took, so this number stops growing once the largest launch has run.
pub fn stacks_alive() -> usize {
    ALIVE.load(Ordering::Relaxed)
}

/// One stack with a guard below it.
pub(crate) struct LaneStack {
    memory: Reservation,
    base: StackPointer,
}

impl LaneStack {
    pub(crate) fn new() -> io::Result<LaneStack> {
        let memory = Reservation::new(STACK_BYTES + GUARD_BYTES)?;
        memory.guard(0, GUARD_BYTES)?;
        let colour = MADE.fetch_add(1, Ordering::Relaxed) % COLOURS * COLOUR_STEP;
        let top = memory.base() as usize + memory.len() - colour;
        let base = NonZeroUsize::new(top & !63).ok_or(io::ErrorKind::InvalidInput)?;
        ALIVE.fetch_add(1, Ordering::Relaxed);
        Ok(LaneStack { memory, base })
    }
}

impl Drop for LaneStack {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

// SAFETY: `limit..base` is one live mapping of over 4 KiB owned by `self`, guarded at its low end, 64-byte aligned.
unsafe impl Stack for LaneStack {
    fn base(&self) -> StackPointer {
        self.base
    }

    fn limit(&self) -> StackPointer {
        // A mapping never starts at address zero.
        NonZeroUsize::new(self.memory.base() as usize).unwrap_or(NonZeroUsize::MIN)
    }
}
