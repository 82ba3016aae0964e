//! What can go wrong in a simulated kernel, and how it is reported.

use crate::Dim3;
use std::fmt;

/// The kind of mistake that ended a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An access outside every allocation (or outside the block's shared memory).
    OutOfBounds,
    /// An access to device memory that has been freed.
    UseAfterFree,
    /// An address that is no multiple of the accessed type's alignment.
    Misaligned,
    /// A read of device or shared memory that nobody wrote.
    Uninitialized,
    /// Two threads touch the same shared memory, at least one writes, and nothing orders them.
    SharedRace,
    /// A block barrier that only part of its threads reaches.
    PartialBarrier,
    /// A warp's or warpgroup's collective that only part of its threads reaches, or a lane outside its mask.
    PartialWarp,
    /// Shared memory touched while an asynchronous copy to it is still pending, or written while one from it or a product reads it;
    /// an accumulator touched while a product into it is under way.
    AsyncNotWaited,
    /// A barrier in shared memory misused: never initialised, or twice, not made known to a copy or another block, with more
    /// arrivals in a phase than it takes, its bytes loaded or stored.
    BadBarrier,
    /// A barrier in shared memory that was told of another number of bytes than copies brought.
    WrongByteCount,
    /// Shared memory written by plain stores and read by the copy engine or the tensor cores without a proxy fence in between.
    NotFenced,
    /// Shared memory that a tensor copy laid out with one swizzle, read with another.
    WrongSwizzle,
    /// A Rust panic inside the kernel.
    Panic,
    /// Threads that wait for each other, or spin on an atomic that no running thread will change.
    Deadlock,
    /// An argument of a device operation that no GPU accepts (a 5-byte asynchronous copy, barrier 17, ...).
    BadArgument,
    /// A launch that no GPU accepts (no threads, more than 1024 a block, too much shared memory, ...).
    LaunchConfig,
}

/// One error of a simulated kernel. Of several failing blocks the lowest is reported, whatever the number of cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimError {
    /// The kernel's name, as given to the launch.
    pub kernel: String,
    /// The block of the failing thread.
    pub block: Dim3,
    /// The failing thread's index in its block.
    pub thread: Dim3,
    /// `file:line:column` in the kernel's source.
    pub location: String,
    /// What kind of mistake it is.
    pub kind: ErrorKind,
    /// What happened, with the values involved.
    pub message: String,
}

impl fmt::Display for SimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SimError {
            kernel,
            block,
            thread,
            location,
            kind,
            message,
        } = self;
        write!(
            f,
            "{kind:?} in kernel `{kernel}`, block {block}, thread {thread}, at {location}: {message}"
        )
    }
}

impl std::error::Error for SimError {}

/// An error before it is known which thread it belongs to.
#[derive(Debug)]
pub(crate) struct Fault {
    pub kind: ErrorKind,
    pub message: String,
}

impl Fault {
    #[cold]
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Box<Fault> {
        Box::new(Fault {
            kind,
            message: message.into(),
        })
    }
}
