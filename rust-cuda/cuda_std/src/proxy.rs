//! Fences between ordinary accesses and those of the copy engine and the tensor cores, which go another way to shared memory.

/// What this thread wrote to shared memory by ordinary stores (`stmatrix` and `cp.async` too) is seen by tensor copies and `wgmma` that
/// are issued after it, or after a barrier that follows it (PTX `fence.proxy.async.shared::cta`).
#[inline(always)]
#[track_caller]
pub fn fence_async() {
    target! {
        gpu {
            // SAFETY: a fence only orders memory accesses.
            unsafe { core::arch::asm!("fence.proxy.async.shared::cta;", options(nostack, preserves_flags)) }
        }
        cpu { simt::ctx::fence_proxy_async() }
    }
}
