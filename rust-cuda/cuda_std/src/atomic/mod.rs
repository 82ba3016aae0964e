//! Atomic operations: on pointers to global memory, on [`Shared`] addresses, and as `core`-like types.
//!
//! Those on global memory have device scope, those on shared memory block scope. Free functions and methods of [`Shared`]
//! are relaxed; the types take an `Ordering`, and anything above `Relaxed` adds [`device_fence`](crate::thread::device_fence)
//! on both sides. Every function returns the old value.
//!
//! Float addition is here for Rust-CUDA's sake: its result depends on the order of arrival, so no kernel whose bytes are
//! checked may use it.

mod types;
mod words;

pub use types::{AtomicF32, AtomicI32, AtomicI64, AtomicU32, AtomicU64};

use crate::mem::Word;
use crate::shared::Shared;
use words::Op;

/// An integer with atomic operations: `u32`, `i32`, `u64`, `i64`.
pub trait AtomicInt: Word + words::Rmw {}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident, $shared:ident, $op:ident;)*) => {
        $($(#[$doc])*
        ///
        /// # Safety
        /// `p` is aligned and points to a `T` of device memory that others access atomically only.
        #[inline(always)]
        #[track_caller]
        pub unsafe fn $name<T: AtomicInt>(p: *mut T, v: T) -> T {
            // SAFETY: the caller's promise.
            unsafe { T::global(Op::$op, p, v) }
        })*

        impl<T: AtomicInt> Shared<T> {
            $($(#[$doc])*
            #[inline(always)]
            #[track_caller]
            pub fn $shared(self, v: T) -> T {
                T::shared(Op::$op, self.addr(), v)
            })*
        }
    };
}
operations! {
    /// Adds `v`, wrapping.
    fetch_add, atomic_add, Add;
    /// Keeps the smaller value.
    fetch_min, atomic_min, Min;
    /// Keeps the larger value.
    fetch_max, atomic_max, Max;
    /// Bitwise and.
    fetch_and, atomic_and, And;
    /// Bitwise or.
    fetch_or, atomic_or, Or;
    /// Bitwise exclusive or.
    fetch_xor, atomic_xor, Xor;
    /// Puts `v` in the value's place.
    exchange, atomic_exchange, Exch;
}

/// Puts `new` in the value's place if it is `current`.
///
/// # Safety
/// `p` is aligned and points to a `T` of device memory that others access atomically only.
#[inline(always)]
#[track_caller]
pub unsafe fn compare_exchange<T: AtomicInt>(p: *mut T, current: T, new: T) -> T {
    // SAFETY: the caller's promise.
    unsafe { T::global_cas(p, current, new) }
}

impl<T: AtomicInt> Shared<T> {
    /// Puts `new` in the value's place if it is `current`.
    #[inline(always)]
    #[track_caller]
    pub fn atomic_compare_exchange(self, current: T, new: T) -> T {
        T::shared_cas(self.addr(), current, new)
    }
}

/// Reads a value that others write atomically (PTX `ld.relaxed.gpu`).
///
/// # Safety
/// `p` is aligned and points to a `T` of device memory that others access atomically only.
#[inline(always)]
#[track_caller]
pub unsafe fn load<T: AtomicInt>(p: *const T) -> T {
    // SAFETY: the caller's promise.
    unsafe { T::global_load(p) }
}

/// Writes a value that others access atomically (PTX `st.relaxed.gpu`).
///
/// # Safety
/// `p` is aligned and points to a `T` of device memory that others access atomically only.
#[inline(always)]
#[track_caller]
pub unsafe fn store<T: AtomicInt>(p: *mut T, v: T) {
    // SAFETY: the caller's promise.
    unsafe { T::global_store(p, v) }
}

/// Adds to an `f32` in global memory, rounding to nearest; subnormal inputs and results become zeros of their sign (PTX
/// `atom.global.add.f32`).
///
/// # Safety
/// `p` is aligned and points to an `f32` of device memory that others access atomically only.
#[inline(always)]
#[track_caller]
pub unsafe fn fetch_add_f32(p: *mut f32, v: f32) -> f32 {
    target! {
        gpu {
            let old: f32;
            // SAFETY: the caller's promise.
            unsafe {
                core::arch::asm!("atom.relaxed.gpu.global.add.f32 {}, [{}], {};", out(reg32) old, in(reg64) p,
                    in(reg32) v, options(nostack, preserves_flags));
            }
            old
        }
        cpu {
            let flush = |x: f32| if x.is_subnormal() { crate::float::copysign(0.0, x) } else { x };
            let add = |old: u32| flush(flush(f32::from_bits(old)) + flush(v)).to_bits();
            // SAFETY: the caller's promise.
            f32::from_bits(unsafe { simt::ctx::atomic_u32(p.cast(), add) })
        }
    }
}

impl Shared<f32> {
    /// Adds to an `f32` in shared memory, rounding to nearest; subnormals are kept (PTX `atom.shared.add.f32`).
    #[inline(always)]
    #[track_caller]
    pub fn atomic_add_f32(self, v: f32) -> f32 {
        target! {
            gpu {
                let old: f32;
                // SAFETY: shared memory is the block's own; an address outside it stops the launch.
                unsafe {
                    core::arch::asm!("atom.relaxed.cta.shared.add.f32 {}, [{}], {};", out(reg32) old,
                        in(reg32) self.addr(), in(reg32) v, options(nostack, preserves_flags));
                }
                old
            }
            cpu {
                let add = |old: u32| (f32::from_bits(old) + v).to_bits();
                f32::from_bits(simt::ctx::shared_atomic_u32(self.addr(), add))
            }
        }
    }
}
