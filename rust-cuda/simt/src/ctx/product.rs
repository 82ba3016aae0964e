//! Products of a warpgroup (PTX `wgmma`).

use super::perhaps_switch;
use crate::current::{here, raise, raise_once, suspend};
use std::panic::Location;

/// The type of the factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WgmmaFormat {
    /// `bf16`, 16 of k.
    Bf16,
    /// `f16`, 16 of k.
    F16,
    /// Signed bytes, 32 of k.
    S8,
}

/// Where A comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WgmmaA {
    /// Shared memory: PTX's matrix descriptor.
    Shared(u64),
    /// The threads' registers, as `mma.sync` has them for the 16 rows of each warp.
    Registers([u32; 4]),
}

/// One product of 64 rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wgmma {
    /// Columns: 8 to 256, a multiple of 8; with bytes 8, 16, 24 or a multiple of 16.
    pub n: u32,
    /// The factors.
    pub format: WgmmaFormat,
    /// Registers of D in each thread: n / 2, or n / 4 for an accumulator of `f16`.
    pub registers: u32,
    /// Whether D is added (`scale-d`).
    pub accumulate: bool,
}

/// Issues this thread's part of D = A * B^T (+ D): the 128 threads of the warpgroup meet here. `d` are the thread's registers of D,
/// `b` the descriptor of B. Returns the ticket for [`wgmma_landed`].
///
/// # Safety
/// `d` must point to `form.registers` words of this thread until the call returns.
///
/// # Errors
/// `PartialWarp` if threads of the warpgroup end, never come, or are at another product; `BadArgument` for columns that do not exist,
/// descriptors that differ or that no tile can have, and without a [`wgmma_fence`] before the first product or after a read of the
/// accumulator; `AsyncNotWaited` if the registers are in flight in a product of another shape, or an operand has not been waited for;
/// with checks on, for the operands, those of [`super::shared_load`] for each of the 128 threads, `NotFenced` and `WrongSwizzle` as
/// for [`super::tma_store`]. Whoever writes an operand before the wait for the product's group: `AsyncNotWaited`.
#[track_caller]
pub unsafe fn wgmma(form: Wgmma, d: *mut u32, a: WgmmaA, b: u64) -> u64 {
    let at = Location::caller();
    let (block, t) = here();
    // SAFETY: the running block; no borrow of it is held across a switch.
    unsafe {
        if (*block).aborting {
            return 0;
        }
        perhaps_switch(block, t, at);
        match (*block).join_product(t, form, (d, a, b), at) {
            Ok((ticket, true)) => ticket,
            Ok((ticket, false)) => {
                suspend(block, t);
                ticket
            }
            Err(fault) => raise(at, *fault),
        }
    }
}

/// Orders this thread's accesses to registers before its later products (PTX `wgmma.fence`).
///
/// # Panics
/// Outside a kernel.
#[track_caller]
pub fn wgmma_fence() {
    let (block, t) = here();
    // SAFETY: the running block; the borrow ends with the statement.
    unsafe { (*block).aside(t).products.fence() };
}

/// Closes the group of the products issued since the last one (PTX `wgmma.commit_group`).
///
/// # Panics
/// Outside a kernel.
#[track_caller]
pub fn wgmma_commit() {
    let (block, t) = here();
    // SAFETY: the running block; the borrow ends with the statement.
    unsafe { (*block).aside(t).products.commit() };
}

/// Waits until at most the `left` newest groups are under way (PTX `wgmma.wait_group`).
///
/// # Panics
/// Outside a kernel.
#[track_caller]
pub fn wgmma_wait(left: u32) {
    let (block, t) = here();
    // SAFETY: the running block; the borrow ends with the statement.
    unsafe { (*block).wait_products(t, left) };
}

/// The thread looks at the registers whose newest product has this ticket (0 for none).
///
/// # Errors
/// `AsyncNotWaited` if its group has not been waited for.
#[track_caller]
pub fn wgmma_landed(ticket: u64) {
    let at = Location::caller();
    let (block, t) = here();
    // SAFETY: the running block; the borrow ends with the statement.
    if let Err(fault) = unsafe { (*block).aside(t).products.touch(ticket) } {
        raise_once(at, *fault);
    }
}
