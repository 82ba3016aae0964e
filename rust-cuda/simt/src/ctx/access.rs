//! Device memory, shared memory, atomics and asynchronous copies.
//!
//! With checks off these are plain loads and stores behind one predictable branch. A `T` must be valid for any bytes
//! (integers, floats and vectors of them): with checks off, memory that nobody wrote is read as it is.

use crate::block::Block;
use crate::current::{CURRENT, here, let_others_run, raise_once};
use crate::error::{ErrorKind, Fault};
use crate::memory;
use crate::race::Touch;
use std::panic::Location;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

type At = &'static Location<'static>;

#[inline(always)]
fn checks() -> bool {
    CURRENT.with(|c| c.checks.get())
}

/// Loads from device memory.
///
/// # Safety
/// With checks off, or outside a kernel, `p` must be readable.
///
/// # Errors
/// With checks on: `OutOfBounds`, `UseAfterFree`, `Misaligned`, `Uninitialized`.
#[inline(always)]
#[track_caller]
pub unsafe fn load<T: Copy>(p: *const T) -> T {
    if checks() {
        return checked_load(p, Location::caller());
    }
    // SAFETY: the caller vouches for `p`.
    unsafe { p.read_unaligned() }
}

#[inline(never)]
fn checked_load<T: Copy>(p: *const T, at: At) -> T {
    let (block, _) = here();
    match memory::check(p as usize, size_of::<T>(), align_of::<T>(), false, "load") {
        // SAFETY: the whole value lies in live device memory; the block is the running one.
        Ok(()) => unsafe {
            (*block).stats.loads += 1;
            (*block).stats.global_load_bytes += size_of::<T>() as u64;
            p.read()
        },
        Err(fault) => {
            raise_once(at, *fault);
            nothing()
        }
    }
}

/// The value of a failed load in a destructor that runs while the launch is being ended.
#[cold]
pub(super) fn nothing<T: Copy>() -> T {
    // SAFETY: the module demands that a `T` is valid for any bytes.
    unsafe { std::mem::zeroed() }
}

/// Stores to device memory.
///
/// # Safety
/// With checks off, or outside a kernel, `p` must be writable.
///
/// # Errors
/// With checks on: `OutOfBounds`, `UseAfterFree`, `Misaligned`.
#[inline(always)]
#[track_caller]
pub unsafe fn store<T: Copy>(p: *mut T, v: T) {
    if checks() {
        return checked_store(p, v, Location::caller());
    }
    // SAFETY: the caller vouches for `p`.
    unsafe { p.write_unaligned(v) }
}

#[inline(never)]
fn checked_store<T: Copy>(p: *mut T, v: T, at: At) {
    let (block, _) = here();
    match memory::check(p as usize, size_of::<T>(), align_of::<T>(), true, "store") {
        // SAFETY: the whole value lies in live device memory; the block is the running one.
        Ok(()) => unsafe {
            (*block).stats.stores += 1;
            (*block).stats.global_store_bytes += size_of::<T>() as u64;
            p.write(v);
        },
        Err(fault) => raise_once(at, *fault),
    }
}

/// Others run after this many atomics of one thread, so that one that spins on another's atomic store ends.
const SPINS: u32 = 256;

/// Counts an atomic and lets other threads run now and then.
fn before_atomic(at: At) {
    let (block, t) = here();
    // SAFETY: the running block; no borrow of it is held across the switch.
    unsafe {
        if (*block).aborting {
            return;
        }
        (*block).stats.atomics += u64::from((*block).checks);
        (*block).lane(t).spins += 1;
        if (*block).lane(t).spins >= SPINS || (*block).coin() {
            let_others_run(block, t, at);
        }
    }
}

macro_rules! atomics {
    ($global:ident, $shared:ident, $word:ty, $atomic:ty) => {
        /// Replaces the word at `p` by `f` of it, atomically across all threads and blocks; returns the old value. `f`
        /// may be called more than once.
        ///
        /// # Safety
        /// With checks off `p` must be an aligned word of device memory.
        ///
        /// # Errors
        /// As for [`load`]: the old value is read, so it must have been written.
        #[track_caller]
        pub unsafe fn $global(p: *mut $word, f: impl Fn($word) -> $word) -> $word {
            let at = Location::caller();
            before_atomic(at);
            if checks()
                && let Err(fault) = memory::check(
                    p as usize,
                    size_of::<$word>(),
                    size_of::<$word>(),
                    false,
                    "atomic",
                )
            {
                raise_once(at, *fault);
                return 0;
            }
            // SAFETY: checked above, or the caller vouches for it; device memory is only shared through atomics.
            let word = unsafe { <$atomic>::from_ptr(p) };
            update!(word, f)
        }

        /// Replaces the word of shared memory at `addr` by `f` of it; returns the old value.
        ///
        /// # Errors
        /// As for [`shared_load`]. Atomics do not race with atomics, but with plain loads and stores.
        #[track_caller]
        pub fn $shared(addr: u32, f: impl Fn($word) -> $word) -> $word {
            let at = Location::caller();
            before_atomic(at);
            let size = size_of::<$word>() as u32;
            if checks() && !touch(addr, size, size, Touch::Atomic, at) {
                return 0;
            }
            // The threads of a block take turns on one OS thread, and nobody else sees its shared memory.
            let p = shared_at::<$word>(addr);
            // SAFETY: `shared_at` gives a readable and writable address.
            unsafe {
                let old = p.read_unaligned();
                p.write_unaligned(f(old));
                old
            }
        }
    };
}

macro_rules! update {
    ($word:ident, $f:ident) => {{
        let mut old = $word.load(Ordering::Relaxed);
        loop {
            match $word.compare_exchange_weak(old, $f(old), Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return old,
                Err(now) => old = now,
            }
        }
    }};
}

atomics!(atomic_u32, shared_atomic_u32, u32, AtomicU32);
atomics!(atomic_u64, shared_atomic_u64, u64, AtomicU64);

/// Bytes of dynamic shared memory of this launch.
///
/// # Panics
/// Outside a kernel.
#[track_caller]
pub fn shared_bytes() -> u32 {
    let (block, _) = here();
    // SAFETY: the running block.
    unsafe { (*block).layout.dynamic }
}

/// Static shared memory of the caller's source line: the same address for all threads of the block, after the dynamic
/// part. (A call site inside a generic function is one call site, whatever the type.)
///
/// # Errors
/// `LaunchConfig` if it does not fit, `BadArgument` if two calls at one place differ or the alignment is no power of
/// two of at most 1024.
#[track_caller]
pub fn static_shared(bytes: u32, align: u32) -> u32 {
    let at = Location::caller();
    let (block, _) = here();
    // SAFETY: the running block; the borrow ends with the call.
    match unsafe { (*block).layout.static_part(bytes, align, at) } {
        Ok(addr) => addr,
        Err(fault) => {
            raise_once(at, *fault);
            0
        }
    }
}

/// A host address that is readable and writable for up to 512 bytes for every `addr`.
#[inline(always)]
#[track_caller]
fn shared_at<T>(addr: u32) -> *mut T {
    let base = CURRENT.with(|c| c.shared.get());
    if base.is_null() {
        here();
    }
    base.wrapping_add(addr as usize).cast()
}

/// Checks an access to shared memory; false only in a destructor of a failed launch.
#[inline(never)]
fn touch(addr: u32, len: u32, align: u32, touch: Touch, at: At) -> bool {
    let (block, t) = here();
    // SAFETY: the running block; the borrow ends with the call.
    match unsafe { (*block).touch_shared(t, (addr, len, align), touch, at) } {
        Ok(()) => {
            count(block, touch, len);
            true
        }
        Err(fault) => {
            raise_once(at, *fault);
            false
        }
    }
}

/// Counts an access to shared memory that was checked.
pub(super) fn count(block: *mut Block, touch: Touch, len: u32) {
    // SAFETY: the running block; the borrow ends with the call.
    let stats = unsafe { &mut (*block).stats };
    match touch {
        Touch::Read => stats.shared_load_bytes += u64::from(len),
        Touch::Write => stats.shared_store_bytes += u64::from(len),
        Touch::Issue => stats.async_copy_bytes += u64::from(len),
        Touch::Atomic | Touch::Land => {}
    }
}

/// Loads from shared memory.
///
/// # Errors
/// With checks on: `OutOfBounds`, `Misaligned`, `Uninitialized`, `SharedRace`, `AsyncNotWaited`.
///
/// # Panics
/// Outside a kernel.
#[inline(always)]
#[track_caller]
pub fn shared_load<T: Copy>(addr: u32) -> T {
    const { assert!(size_of::<T>() <= 512) };
    if checks()
        && !touch(
            addr,
            size_of::<T>() as u32,
            align_of::<T>() as u32,
            Touch::Read,
            Location::caller(),
        )
    {
        return nothing();
    }
    // SAFETY: `shared_at` gives a readable address, and a `T` is valid for any bytes.
    unsafe { shared_at::<T>(addr).read_unaligned() }
}

/// Stores to shared memory.
///
/// # Errors
/// With checks on: `OutOfBounds`, `Misaligned`, `SharedRace`, `AsyncNotWaited`.
///
/// # Panics
/// Outside a kernel.
#[inline(always)]
#[track_caller]
pub fn shared_store<T: Copy>(addr: u32, v: T) {
    const { assert!(size_of::<T>() <= 512) };
    if checks()
        && !touch(
            addr,
            size_of::<T>() as u32,
            align_of::<T>() as u32,
            Touch::Write,
            Location::caller(),
        )
    {
        return;
    }
    // SAFETY: `shared_at` gives a writable address.
    unsafe { shared_at::<T>(addr).write_unaligned(v) }
}

/// Starts an asynchronous copy of `src_bytes` from `src` to shared memory at `dst_shared`, where `bytes` (4, 8 or 16)
/// are written; the rest are zeros. Both addresses are multiples of `bytes`. The bytes land at the [`copy_async_wait`]
/// that covers the copy; until then nobody may touch the destination, and afterwards other threads need a barrier.
///
/// # Safety
/// With checks off `src` must be readable for `src_bytes`.
///
/// # Errors
/// `BadArgument` for other sizes; with checks on those of [`load`] for the source and of [`shared_store`] for the
/// destination.
#[track_caller]
pub unsafe fn copy_async(dst_shared: u32, src: *const u8, bytes: u32, src_bytes: u32) {
    let at = Location::caller();
    if !matches!(bytes, 4 | 8 | 16) || src_bytes > bytes {
        let m = format!("an asynchronous copy of {src_bytes} of {bytes} bytes: it must be of 4, 8 or 16");
        return raise_once(at, *Fault::new(ErrorKind::BadArgument, m));
    }
    let (n, mut value) = (src_bytes as usize, [0u8; 16]);
    if checks() {
        if n > 0
            && let Err(fault) = memory::check(src as usize, n, bytes as usize, false, "asynchronous copy")
        {
            return raise_once(at, *fault);
        }
        if !touch(dst_shared, bytes, bytes, Touch::Issue, at) {
            return;
        }
    }
    // SAFETY: checked, or the caller vouches for the source.
    unsafe { std::ptr::copy_nonoverlapping(src, value.as_mut_ptr(), n) };
    if checks() {
        let (block, t) = here();
        // SAFETY: the running block; the borrows end with the statements.
        unsafe {
            (*block).stats.global_load_bytes += n as u64;
            (*block).aside(t).copies.issue(dst_shared, bytes, value, at);
        }
        return;
    }
    // SAFETY: `shared_at` gives a writable address.
    unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), shared_at(dst_shared), bytes as usize) };
}

/// Closes the group of the copies that this thread has issued since the last commit.
#[inline]
#[track_caller]
pub fn copy_async_commit() {
    if checks() {
        let (block, t) = here();
        // SAFETY: the running block; the borrow ends with the statement.
        unsafe { (*block).aside(t).copies.commit() }
    }
}

/// Waits for this thread's groups of copies, all but the `n_left` newest. Copies not yet committed stay pending.
#[inline]
#[track_caller]
pub fn copy_async_wait(n_left: u32) {
    if checks() {
        let (block, t) = here();
        // SAFETY: the running block; the borrows end with the statements.
        let landed = unsafe {
            (*block).aside(t).copies.waited = (*block).clocks.stamp(t / 32) + 1;
            (*block).aside(t).copies.land(n_left)
        };
        for p in landed {
            if touch(p.addr, p.len, 1, Touch::Land, p.loc) {
                // SAFETY: `shared_at` gives a writable address.
                unsafe { std::ptr::copy_nonoverlapping(p.bytes.as_ptr(), shared_at(p.addr), p.len as usize) };
            }
        }
    }
}
