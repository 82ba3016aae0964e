//! Atomic types in the manner of `core::sync::atomic`, for values in global memory.

use core::cell::UnsafeCell;
use core::sync::atomic::Ordering;

/// The fence on either side of an operation, unless its order is `Relaxed`.
#[inline(always)]
fn fence(order: Ordering) {
    if !matches!(order, Ordering::Relaxed) {
        crate::thread::device_fence();
    }
}

macro_rules! methods {
    ($t:ty; $($(#[$doc:meta])* $name:ident($($arg:ident),*) -> $result:ty = $function:path;)*) => {
        $($(#[$doc])*
        #[inline(always)]
        #[track_caller]
        pub fn $name(&self, $($arg: $t,)* order: Ordering) -> $result {
            fence(order);
            // SAFETY: a reference to the value is valid, and every access through this type is atomic.
            let result = unsafe { $function(self.0.get() $(, $arg)*) };
            fence(order);
            result
        })*
    };
}

macro_rules! atomic_type {
    ($(#[$doc:meta])* $name:ident, $t:ty, { $($method:tt)* }) => {
        $(#[$doc])*
        #[repr(transparent)]
        pub struct $name(UnsafeCell<$t>);

        // SAFETY: all accesses are atomic.
        unsafe impl Sync for $name {}

        impl $name {
            /// A value to start from.
            pub const fn new(v: $t) -> Self {
                Self(UnsafeCell::new(v))
            }

            /// The value, which nobody else can have any more.
            pub const fn into_inner(self) -> $t {
                self.0.into_inner()
            }

            methods! { $t; $($method)* }
        }
    };
}

macro_rules! atomic_ints {
    ($($(#[$doc:meta])* $name:ident, $t:ty;)*) => {
        $(atomic_type! {
            $(#[$doc])* $name, $t, {
                /// Reads the value.
                load() -> $t = super::load;
                /// Writes the value.
                store(v) -> () = super::store;
                /// Adds `v`, wrapping; returns the old value.
                fetch_add(v) -> $t = super::fetch_add;
                /// Keeps the smaller value; returns the old one.
                fetch_min(v) -> $t = super::fetch_min;
                /// Keeps the larger value; returns the old one.
                fetch_max(v) -> $t = super::fetch_max;
                /// Bitwise and; returns the old value.
                fetch_and(v) -> $t = super::fetch_and;
                /// Bitwise or; returns the old value.
                fetch_or(v) -> $t = super::fetch_or;
                /// Bitwise exclusive or; returns the old value.
                fetch_xor(v) -> $t = super::fetch_xor;
                /// Puts `v` in the value's place; returns the old value.
                swap(v) -> $t = super::exchange;
            }
        }

        impl $name {
            /// Puts `new` in the value's place if it is `current`: the old value, as `Ok` if it was replaced.
            ///
            /// # Errors
            /// The value found, if it is not `current`.
            #[inline(always)]
            #[track_caller]
            pub fn compare_exchange(&self, current: $t, new: $t, success: Ordering, failure: Ordering) -> Result<$t, $t> {
                fence(success);
                // SAFETY: as in the other methods.
                let old = unsafe { super::compare_exchange(self.0.get(), current, new) };
                if old == current {
                    fence(success);
                    Ok(old)
                } else {
                    fence(failure);
                    Err(old)
                }
            }
        })*
    };
}
atomic_ints! {
    /// A `u32` in global memory that threads share.
    AtomicU32, u32;
    /// An `i32` in global memory that threads share.
    AtomicI32, i32;
    /// A `u64` in global memory that threads share.
    AtomicU64, u64;
    /// An `i64` in global memory that threads share.
    AtomicI64, i64;
}

atomic_type! {
    /// An `f32` in global memory that threads share. Sums of floats depend on the order of arrival.
    AtomicF32, f32, {
        /// Reads the value.
        load() -> f32 = load_f32;
        /// Writes the value.
        store(v) -> () = store_f32;
        /// Adds `v` as [`super::fetch_add_f32`] does; returns the old value.
        fetch_add(v) -> f32 = super::fetch_add_f32;
        /// Puts `v` in the value's place; returns the old value.
        swap(v) -> f32 = exchange_f32;
    }
}

#[inline(always)]
#[track_caller]
unsafe fn load_f32(p: *mut f32) -> f32 {
    // SAFETY: the caller's promise.
    f32::from_bits(unsafe { super::load::<u32>(p.cast()) })
}

#[inline(always)]
#[track_caller]
unsafe fn store_f32(p: *mut f32, v: f32) {
    // SAFETY: the caller's promise.
    unsafe { super::store::<u32>(p.cast(), v.to_bits()) }
}

#[inline(always)]
#[track_caller]
unsafe fn exchange_f32(p: *mut f32, v: f32) -> f32 {
    // SAFETY: the caller's promise.
    f32::from_bits(unsafe { super::exchange::<u32>(p.cast(), v.to_bits()) })
}
