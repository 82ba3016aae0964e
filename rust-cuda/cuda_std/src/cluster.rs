//! Clusters: blocks that run at the same time and reach each other's shared memory (sm_90). A launch without clusters has clusters of
//! one block.
//!
//! A block must not end while others still reach into its shared memory: [`sync`] before the end.

use crate::mem::Word;
use crate::shared::Shared;

macro_rules! registers {
    ($($(#[$doc:meta])* $name:ident = $ptx:literal, $cpu:ident;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        #[track_caller]
        pub fn $name() -> u32 {
            target! {
                gpu {
                    let value: u32;
                    // SAFETY: reads a special register.
                    unsafe { core::arch::asm!($ptx, out(reg32) value, options(pure, nomem, nostack, preserves_flags)) }
                    value
                }
                cpu { simt::ctx::$cpu() }
            }
        }
    )*};
}
registers! {
    /// The block's number in its cluster.
    rank = "mov.u32 {}, %cluster_ctarank;", cluster_rank;
    /// Blocks of the cluster.
    size = "mov.u32 {}, %cluster_nctarank;", cluster_size;
}

/// Counts this thread as arrived at the cluster's barrier; what it did before is seen by those who [`wait`]. Whole warps, once for
/// each wait.
#[inline(always)]
#[track_caller]
pub fn arrive() {
    target! {
        gpu {
            // SAFETY: every thread of the cluster comes here (the function's rule).
            unsafe { core::arch::asm!("barrier.cluster.arrive.release.aligned;", options(nostack, preserves_flags)) }
        }
        cpu { simt::ctx::cluster_arrive() }
    }
}

/// Waits until all threads of the cluster have arrived.
#[inline(always)]
#[track_caller]
pub fn wait() {
    target! {
        gpu {
            // SAFETY: as for `arrive`.
            unsafe { core::arch::asm!("barrier.cluster.wait.acquire.aligned;", options(nostack, preserves_flags)) }
        }
        cpu { simt::ctx::cluster_wait() }
    }
}

/// [`arrive`], then [`wait`].
#[inline(always)]
#[track_caller]
pub fn sync() {
    arrive();
    wait();
}

/// The address of a `T` in the shared memory of a block of the cluster.
pub struct ClusterShared<T> {
    at: Shared<T>,
}

impl<T> Clone for ClusterShared<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for ClusterShared<T> {}

impl<T> ClusterShared<T> {
    /// The `T` at the same place in block `cta` of the cluster (PTX `mapa`).
    #[inline(always)]
    #[track_caller]
    pub fn of(here: Shared<T>, cta: u32) -> Self {
        target! {
            gpu {
                let addr: u32;
                // SAFETY: makes an address.
                unsafe {
                    core::arch::asm!("mapa.shared::cluster.u32 {}, {}, {};", out(reg32) addr, in(reg32) here.addr(), in(reg32) cta,
                        options(pure, nomem, nostack, preserves_flags));
                }
                Self { at: Shared::at(addr) }
            }
            cpu { Self { at: Shared::at(simt::ctx::cluster_map(here.addr(), cta)) } }
        }
    }

    /// The address in the cluster's window.
    #[inline(always)]
    pub const fn addr(self) -> u32 {
        self.at.addr()
    }

    /// The `T` that is `i` further on.
    #[allow(clippy::should_implement_trait)]
    #[inline(always)]
    pub const fn add(self, i: u32) -> Self {
        Self { at: self.at.add(i) }
    }
}

impl<T: Word> ClusterShared<T> {
    /// Reads the value (PTX `ld.shared::cluster`).
    #[inline(always)]
    #[track_caller]
    pub fn load(self) -> T {
        target! {
            gpu {
                // SAFETY: a block of the cluster that has not ended (the module's rule).
                unsafe { T::cluster_load(self.at.addr()) }
            }
            cpu { simt::ctx::cluster_load(self.at.addr()) }
        }
    }

    /// Writes the value (PTX `st.shared::cluster`).
    #[inline(always)]
    #[track_caller]
    pub fn store(self, v: T) {
        target! {
            gpu {
                // SAFETY: as for `load`.
                unsafe { T::cluster_store(self.at.addr(), v) }
            }
            cpu { simt::ctx::cluster_store(self.at.addr(), v) }
        }
    }
}
