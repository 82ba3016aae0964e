//! The CPU back end of the device language: a simulator of the SIMT machine that runs the very kernel functions.
//!
//! A [`Launch`] calls a kernel once for each thread of a grid. A thread is a stackful coroutine; it gives up its turn
//! only where a GPU thread would wait (barriers, warp collectives) and now and then at atomics. A block runs on one OS
//! thread, blocks spread over the cores. [`memory`] is the device memory, [`ctx`] what a running thread can do.
//!
//! With [`Launch::checks`] on, mistakes that a GPU hides are errors that name kernel, block, thread and source line:
//! accesses out of bounds, after free, misaligned, to memory that nobody wrote; races on shared memory; barriers and
//! warp collectives that only part of the threads reach; asynchronous copies read before their wait. With checks off
//! accesses are plain loads and stores and a bad one is undefined, as on a GPU; barriers, collectives and panics are
//! still checked.
//!
//! Barriers in shared memory have phases, arrivals and bytes. Their threads arrive and wait one by one, and what each knows of
//! the others is kept so: data that lane 0 waited for is a race for lane 1 until the two have met. The blocks of a cluster
//! run together on one OS thread, and reach each other's memory and barriers with the same checks.
//!
//! Hopper's units work apart from the threads, and so they do here. Copies of the copy engine land at their barrier's
//! wait, or in a [`Schedule::Seeded`] launch at random moments after their issue; the source of a store and the operands
//! of a `wgmma` count as being read until the wait for their group; accumulators in flight may not be looked at; what
//! plain stores wrote needs a proxy fence; a tile has to be read with the swizzle that it was written with.
//!
//! Not detected: races on device memory between blocks or threads; an access that jumps over a red zone of
//! [`memory::RED_ZONE`] bytes into another allocation; shared memory handed over through atomics alone (there is no
//! acquire or release: such code is reported as a race, a barrier is needed); what lanes that ended before a named
//! barrier did is taken as ordered by it; registers of A that change while a `wgmma` reads them, and accumulators that are
//! moved while in flight; device memory read before the wait for the bulk store that writes it (it has the bytes at once);
//! the copies of `cp.async` that land on a barrier count as seen by the copy engine without a fence; plain stores that a copy overwrites
//! without a proxy fence in between; a fence of the cluster's scope that is missing where blocks of a cluster hand memory over through a barrier; a block of a cluster that ends too early,
//! in schedules in which nobody reaches for it afterwards. A kernel stack larger than 256 KiB ends the process.

mod agent;
mod barrier;
mod block;
mod bulk;
mod clock;
mod cluster;
mod copies;
pub mod ctx;
mod current;
mod dims;
mod error;
mod exec;
mod flight;
mod know;
mod launch;
mod mbarrier;
pub mod memory;
mod operand;
mod product;
mod race;
mod schedule;
mod shadow;
mod shared;
mod stack;
mod stats;
pub mod tensor;
pub mod tma;
mod vm;
mod warp;

pub use dims::Dim3;
pub use error::{ErrorKind, SimError};
pub use launch::{Launch, Schedule};
pub use shared::MAX_SHARED;
pub use stack::stacks_alive;
pub use stats::LaunchStats;
