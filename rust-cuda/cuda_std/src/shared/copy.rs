//! Asynchronous copies from global to shared memory (PTX `cp.async`, sm_80).
//!
//! A copy runs on its own. [`copy_async_commit`] closes the group of copies that the thread issued since the last one;
//! [`copy_async_wait`] waits until all but the newest N groups have arrived. Then this thread sees the bytes, and after a
//! barrier the others do.

use super::Shared;

macro_rules! copies {
    ($($(#[$doc:meta])* $name:ident, $bytes:literal, $ptx:literal;)*) => {
        $($(#[$doc])*
        ///
        /// # Safety
        /// `src` points to as many readable bytes of device memory; both addresses are aligned to that size. Nobody
        /// touches the destination before the wait, nobody writes the source.
        #[inline(always)]
        #[track_caller]
        pub unsafe fn $name(dst: Shared<u8>, src: *const u8) {
            target! {
                gpu {
                    // SAFETY: the caller's promise.
                    unsafe {
                        core::arch::asm!(concat!($ptx, " [{}], [{}], ", $bytes, ";"), in(reg32) dst.addr(), in(reg64) src,
                            options(nostack, preserves_flags));
                    }
                }
                cpu {
                    // SAFETY: the caller's promise.
                    unsafe { simt::ctx::copy_async(dst.addr(), src, $bytes, $bytes) }
                }
            }
        })*
    };
}
copies! {
    /// Starts the copy of 4 bytes.
    copy_async4, 4, "cp.async.ca.shared.global";
    /// Starts the copy of 8 bytes.
    copy_async8, 8, "cp.async.ca.shared.global";
    /// Starts the copy of 16 bytes, past L1.
    copy_async16, 16, "cp.async.cg.shared.global";
}

/// [`copy_async16`] of the first `src_bytes` (0 to 16) bytes only; the rest of the 16 is zeroed.
///
/// # Safety
/// As for [`copy_async16`], with `src_bytes` readable bytes.
#[inline(always)]
#[track_caller]
pub unsafe fn copy_async16_zfill(dst: Shared<u8>, src: *const u8, src_bytes: u32) {
    target! {
        gpu {
            // SAFETY: the caller's promise.
            unsafe {
                core::arch::asm!("cp.async.cg.shared.global [{}], [{}], 16, {};", in(reg32) dst.addr(), in(reg64) src,
                    in(reg32) src_bytes, options(nostack, preserves_flags));
            }
        }
        cpu {
            // SAFETY: the caller's promise.
            unsafe { simt::ctx::copy_async(dst.addr(), src, 16, src_bytes) }
        }
    }
}

/// Closes the group of copies this thread has started since the last commit (the group may be empty).
#[inline(always)]
#[track_caller]
pub fn copy_async_commit() {
    target! {
        gpu {
            // SAFETY: orders this thread's copies.
            unsafe { core::arch::asm!("cp.async.commit_group;", options(nostack, preserves_flags)) }
        }
        cpu { simt::ctx::copy_async_commit() }
    }
}

/// Waits until at most the `N` newest groups of this thread are still under way.
#[inline(always)]
#[track_caller]
pub fn copy_async_wait<const N: u32>() {
    target! {
        gpu {
            // SAFETY: waits for this thread's copies.
            unsafe { core::arch::asm!("cp.async.wait_group {};", const N, options(nostack, preserves_flags)) }
        }
        cpu { simt::ctx::copy_async_wait(N) }
    }
}
