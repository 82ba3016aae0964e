//! The block's shared memory.
//!
//! rustc knows no shared address space, so shared memory is a typed 32-bit address, [`Shared`], with loads and stores of its
//! own, on both back ends. Threads of a block see each other's writes after [`crate::thread::sync_threads`], those of a warp
//! after [`crate::warp::sync_warp`]; the simulator reports accesses that are not ordered so.

mod copy;
mod matrix;

pub use copy::{copy_async_commit, copy_async_wait, copy_async4, copy_async8, copy_async16, copy_async16_zfill};
pub use matrix::*;

use crate::mem::Word;
use core::marker::PhantomData;

/// The address of a `T` in shared memory.
pub struct Shared<T> {
    addr: u32,
    of: PhantomData<*mut T>,
}

impl<T> Clone for Shared<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Shared<T> {}

impl<T> Shared<T> {
    /// The `T` at a byte address of shared memory, from [`Shared::addr`].
    #[inline(always)]
    pub const fn at(addr: u32) -> Self {
        Self { addr, of: PhantomData }
    }

    /// The byte address in the block's shared memory.
    #[inline(always)]
    pub const fn addr(self) -> u32 {
        self.addr
    }

    /// The `T` that is `i` further on.
    // Not `core::ops::Add`: the index is a count of `T`, as for pointers.
    #[allow(clippy::should_implement_trait)]
    #[inline(always)]
    pub const fn add(self, i: u32) -> Self {
        Self::at(self.addr.wrapping_add(i.wrapping_mul(size_of::<T>() as u32)))
    }

    /// The same address as one of a `U`.
    #[inline(always)]
    pub const fn cast<U>(self) -> Shared<U> {
        Shared::at(self.addr)
    }
}

impl<T: Word> Shared<T> {
    /// Reads the value (PTX `ld.shared`). The address is within the block's shared memory and aligned to `T`.
    #[inline(always)]
    #[track_caller]
    pub fn load(self) -> T {
        target! {
            gpu {
                // SAFETY: shared memory is the block's own; an address outside it stops the launch.
                unsafe { T::shared_load(self.addr) }
            }
            cpu { simt::ctx::shared_load(self.addr) }
        }
    }

    /// Writes the value (PTX `st.shared`). The address is within the block's shared memory and aligned to `T`.
    #[inline(always)]
    #[track_caller]
    pub fn store(self, v: T) {
        target! {
            gpu {
                // SAFETY: as in `load`.
                unsafe { T::shared_store(self.addr, v) }
            }
            cpu { simt::ctx::shared_store(self.addr, v) }
        }
    }
}

// One symbol for every kernel: the launch sets how large it is. 1024 is what TMA's swizzled tiles ask for.
#[cfg(target_arch = "nvptx64")]
core::arch::global_asm!(".extern .shared .align 1024 .b8 lockstep_dynamic_shared[];");

/// The dynamic shared memory that the launch asked for, aligned to 1024 bytes. Every call gives the same address.
#[inline(always)]
#[track_caller]
pub fn dynamic<T: Word>() -> Shared<T> {
    target! {
        gpu {
            let addr: u32;
            // SAFETY: makes an address.
            unsafe {
                core::arch::asm!("mov.u32 {}, lockstep_dynamic_shared;", out(reg32) addr,
                    options(pure, nomem, nostack, preserves_flags));
            }
            Shared::at(addr)
        }
        cpu { Shared::at(0) }
    }
}

/// Rust-CUDA's name of [`dynamic`].
#[inline(always)]
#[track_caller]
pub fn dynamic_shared_mem<T: Word>() -> Shared<T> {
    dynamic()
}

/// Bytes of dynamic shared memory of this launch.
#[inline(always)]
#[track_caller]
pub fn dynamic_bytes() -> u32 {
    target! {
        gpu {
            let bytes: u32;
            // SAFETY: reads a special register.
            unsafe {
                core::arch::asm!("mov.u32 {}, %dynamic_smem_size;", out(reg32) bytes,
                    options(pure, nomem, nostack, preserves_flags));
            }
            bytes
        }
        cpu { simt::ctx::shared_bytes() }
    }
}

/// An array in the block's static shared memory: `shared_array![T; N]` is a [`Shared<T>`] to `N` values that nobody wrote
/// yet. Each place in the source is one array, the same for all threads of the block. `N` is a constant expression that
/// may name constants of the module, not those of the function. The simulator tells arrays apart by line and column, so one
/// `macro_rules` call may expand to one array only.
///
/// (Rust-CUDA's macro gives a `*mut T`, which no Rust code could read here.)
#[macro_export]
macro_rules! shared_array {
    ($t:ty; $n:expr) => {{
        #[cfg(target_arch = "nvptx64")]
        let array: $crate::shared::Shared<$t> = $crate::__shared_symbol!($t; $n);
        #[cfg(not(target_arch = "nvptx64"))]
        let array: $crate::shared::Shared<$t> = {
            mod declaration {
                #[allow(unused_imports)]
                use super::*;
                pub const BYTES: usize = ::core::mem::size_of::<$t>() * $n;
            }
            $crate::shared::static_array(declaration::BYTES as u32)
        };
        array
    }};
}
pub use crate::shared_array;

/// For [`shared_array!`]: the simulator's array of the calling line.
#[cfg(not(target_arch = "nvptx64"))]
#[doc(hidden)]
#[inline(always)]
#[track_caller]
pub fn static_array<T: Word>(bytes: u32) -> Shared<T> {
    // 16, so that an array may be cast to the widest word, as on the device.
    Shared::at(simt::ctx::static_shared(bytes, (align_of::<T>() as u32).max(16)))
}
