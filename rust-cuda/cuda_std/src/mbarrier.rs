//! Barriers in shared memory (PTX `mbarrier`, sm_90 for the transaction counts): threads arrive, copies complete bytes, and threads
//! wait for a phase.
//!
//! A barrier runs through phases 0, 1, 2, ... A phase is over when as many arrivals have come as [`Barrier::init`] said and all bytes
//! that [`Barrier::expect`] announced have landed. Threads wait for a phase by its parity. A ring of N stages has two arrays of
//! barriers, `full` and `empty`, and on each side a [`Stage`]:
//!
//! ```ignore
//! // one thread of the producer                                  // the consumers
//! let mut s = Stage::<N>::first();                                let mut s = Stage::<N>::first();
//! empty.get(s.index).wait(s.phase ^ 1);                           full.get(s.index).wait(s.phase);
//! full.get(s.index).arrive_expect(BYTES);                         // ... read stage s.index ...
//! tma::load(tile(s.index), map, [k, row], full.get(s.index), ..); if one_of_each_consumer { empty.get(s.index).arrive() }
//! s.advance();                                                    s.advance();
//! ```
//!
//! At the start a wait for the phase before the first (parity 1) is over at once: all stages are empty.

use crate::shared::Shared;

/// One barrier: 8 bytes of shared memory, aligned to 8.
#[derive(Clone, Copy)]
pub struct Barrier {
    at: Shared<u64>,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident($($arg:ident),*) = $ptx:literal, $cpu:ident($($value:expr),*);)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        #[track_caller]
        pub fn $name(self, $($arg: u32),*) {
            target! {
                gpu {
                    // SAFETY: works on the block's own shared memory; the address is a barrier's (the type's rule).
                    unsafe { core::arch::asm!($ptx, in(reg32) self.at.addr(), $(in(reg32) $arg,)* options(nostack, preserves_flags)) }
                }
                cpu { simt::ctx::$cpu(self.at.addr(), $($value),*) }
            }
        }
    )*};
}

/// Whether the phase is over, with the semantics `$semantics` (none: acquire, in the block).
#[cfg(target_arch = "nvptx64")]
macro_rules! try_wait {
    ($semantics:literal, $at:expr, $parity:expr) => {{
        let over: u32;
        // SAFETY: looks at the block's own shared memory; the address is a barrier's (the type's rule).
        unsafe {
            core::arch::asm!(
                concat!("{{ .reg .pred p; mbarrier.try_wait.parity", $semantics, ".shared::cta.b64 p, [{}], {}; selp.b32 {}, 1, 0, p; }}"),
                in(reg32) $at.addr(), in(reg32) $parity, out(reg32) over, options(nostack, preserves_flags));
        }
        over != 0
    }};
}

impl Barrier {
    /// The barrier at an address; [`Barrier::init`] makes it one.
    #[inline(always)]
    pub const fn at(at: Shared<u64>) -> Self {
        Self { at }
    }

    /// Its byte address in shared memory.
    #[inline(always)]
    pub const fn addr(self) -> u32 {
        self.at.addr()
    }

    operations! {
        /// Begins phase 0; each phase takes `count` arrivals (1 to 2^20 - 1). By one thread; the others see it after a barrier of
        /// the block, copies and other blocks of the cluster after [`fence_init`] and a barrier of the cluster.
        init(count) = "mbarrier.init.shared::cta.b64 [{}], {};", mbarrier_init(count);
        /// Ends the barrier: its bytes may be used for something else.
        invalidate() = "mbarrier.inval.shared::cta.b64 [{}];", mbarrier_inval();
        /// Arrives once. What this thread did before is seen by those who wait for the phase.
        arrive() = "mbarrier.arrive.shared::cta.b64 _, [{}];", mbarrier_arrive(0);
        /// [`Barrier::expect`], then [`Barrier::arrive`], as one.
        arrive_expect(bytes) = "mbarrier.arrive.expect_tx.shared::cta.b64 _, [{}], {};", mbarrier_arrive(bytes);
        /// The current phase takes `bytes` more bytes of copies.
        expect(bytes) = "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [{}], {};", mbarrier_expect(bytes);
        /// Has the barrier count one of its arrivals when all copies that this thread started before (`shared::copy_async*`) have
        /// arrived (PTX `cp.async.mbarrier.arrive.noinc`).
        arrive_on_copies() = "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [{}];", mbarrier_arrive_on_copies();
    }

    /// Arrives once at the barrier of the same address in block `cta` of the cluster: for signals that a place may be written again.
    /// It releases at the block's scope, without the fence of the whole GPU that the cluster's scope takes (which cost a matrix product
    /// a third of its speed on an H200); data that this thread wrote for the other block is another matter.
    #[inline(always)]
    #[track_caller]
    pub fn arrive_at(self, cta: u32) {
        target! {
            gpu {
                // SAFETY: a barrier at this address in each block of the cluster (the type's rule).
                unsafe {
                    core::arch::asm!("{{ .reg .b32 there; mapa.shared::cluster.u32 there, {}, {}; \
                         mbarrier.arrive.shared::cluster.b64 _, [there]; }}",
                        in(reg32) self.at.addr(), in(reg32) cta, options(nostack, preserves_flags));
                }
            }
            cpu { simt::ctx::mbarrier_arrive(simt::ctx::cluster_map(self.at.addr(), cta), 0) }
        }
    }

    /// Waits until the phase of this parity (0 or 1) is over: the current phase, or the one before it.
    #[inline(always)]
    #[track_caller]
    pub fn wait(self, parity: u32) {
        target! {
            gpu { while !self.test(parity) {} }
            cpu { simt::ctx::mbarrier_wait(self.at.addr(), parity) }
        }
    }

    /// [`Barrier::wait`] that also sees what other blocks of the cluster wrote before they arrived.
    #[inline(always)]
    #[track_caller]
    pub fn wait_cluster(self, parity: u32) {
        target! {
            gpu { while !try_wait!(".acquire.cluster", self.at, parity) {} }
            cpu { simt::ctx::mbarrier_wait(self.at.addr(), parity) }
        }
    }

    /// Whether the phase of this parity is over, after a wait of a time that the hardware chooses.
    #[inline(always)]
    #[track_caller]
    pub fn test(self, parity: u32) -> bool {
        target! {
            gpu { try_wait!("", self.at, parity) }
            cpu { simt::ctx::mbarrier_test(self.at.addr(), parity) }
        }
    }
}

/// `N` barriers, one after the other.
#[derive(Clone, Copy)]
pub struct Barriers<const N: u32> {
    at: Shared<u64>,
}

impl<const N: u32> Barriers<N> {
    /// Bytes of shared memory.
    pub const BYTES: u32 = 8 * N;

    /// The barriers from an address on.
    #[inline(always)]
    pub const fn at(at: Shared<u64>) -> Self {
        Self { at }
    }

    /// Barrier `i`, below `N`.
    #[inline(always)]
    pub const fn get(self, i: u32) -> Barrier {
        Barrier { at: self.at.add(i) }
    }

    /// [`Barrier::init`] of all.
    #[inline(always)]
    #[track_caller]
    pub fn init_all(self, count: u32) {
        let mut i = 0;
        while i < N {
            self.get(i).init(count);
            i += 1;
        }
    }
}

/// Where a thread is in a ring of `N` stages: which stage, and the parity of the phase that fills it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage<const N: u32> {
    /// The stage, below `N`.
    pub index: u32,
    /// The parity of the round: `full` barriers are waited for with it, `empty` ones with the other.
    pub phase: u32,
}

impl<const N: u32> Stage<N> {
    /// The first stage of the first round.
    #[inline(always)]
    pub const fn first() -> Self {
        Self { index: 0, phase: 0 }
    }

    /// On to the next stage.
    #[inline(always)]
    pub const fn advance(&mut self) {
        self.index += 1;
        if self.index == N {
            self.index = 0;
            self.phase ^= 1;
        }
    }

    /// On by `stages` stages, as many [`Stage::advance`]s.
    #[inline(always)]
    pub const fn skip(&mut self, stages: u32) {
        let to = self.index + stages % N;
        let rounds = stages / N + if to >= N { 1 } else { 0 };
        self.index = if to >= N { to - N } else { to };
        self.phase ^= rounds & 1;
    }
}

/// After [`Barrier::init`], by the same thread: copies and the cluster's other blocks see the barriers, once a barrier of the block or
/// cluster has been passed (PTX `fence.mbarrier_init.release.cluster`).
#[inline(always)]
#[track_caller]
pub fn fence_init() {
    target! {
        gpu {
            // SAFETY: a fence only orders memory accesses.
            unsafe { core::arch::asm!("fence.mbarrier_init.release.cluster;", options(nostack, preserves_flags)) }
        }
        cpu { simt::ctx::fence_mbarrier_init() }
    }
}
