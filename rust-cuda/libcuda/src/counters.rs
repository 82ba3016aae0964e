//! Counts of driver calls by kind, so that a test can show that a step allocates nothing and does not synchronise.

use std::ops::Sub;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a driver function does, as far as counting goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Kind {
    /// Device or pinned host memory is allocated, reserved or registered.
    Allocation,
    /// Such memory is released.
    Free,
    /// Memory is copied or filled.
    Copy,
    /// A kernel or host function is launched (or recorded, during stream capture).
    Launch,
    /// An instantiated graph is launched.
    GraphLaunch,
    /// The host waits for a context, stream or event.
    Synchronization,
    /// A module is loaded or linked.
    ModuleLoad,
    /// Everything else.
    Other,
}

/// Number of kinds.
pub(crate) const KINDS: usize = Kind::Other as usize + 1;

/// One counter a kind; the trampolines add to them in place.
pub(crate) static COUNTERS: [AtomicU64; KINDS] = [const { AtomicU64::new(0) }; KINDS];

/// Driver calls of the process by kind, since its start or between two snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// See [`Kind::Allocation`].
    pub allocations: u64,
    /// See [`Kind::Free`].
    pub frees: u64,
    /// See [`Kind::Copy`].
    pub copies: u64,
    /// See [`Kind::Launch`].
    pub launches: u64,
    /// See [`Kind::GraphLaunch`].
    pub graph_launches: u64,
    /// See [`Kind::Synchronization`].
    pub synchronizations: u64,
    /// See [`Kind::ModuleLoad`].
    pub module_loads: u64,
    /// See [`Kind::Other`].
    pub other: u64,
}

impl Sub for Calls {
    type Output = Calls;

    /// The calls between the snapshot `earlier` and this one.
    fn sub(self, earlier: Calls) -> Calls {
        Calls {
            allocations: self.allocations - earlier.allocations,
            frees: self.frees - earlier.frees,
            copies: self.copies - earlier.copies,
            launches: self.launches - earlier.launches,
            graph_launches: self.graph_launches - earlier.graph_launches,
            synchronizations: self.synchronizations - earlier.synchronizations,
            module_loads: self.module_loads - earlier.module_loads,
            other: self.other - earlier.other,
        }
    }
}

/// A snapshot of the counts, over all threads. Calls are counted whether or not they succeed.
pub fn calls() -> Calls {
    let of = |kind: Kind| COUNTERS[kind as usize].load(Ordering::Relaxed);
    Calls {
        allocations: of(Kind::Allocation),
        frees: of(Kind::Free),
        copies: of(Kind::Copy),
        launches: of(Kind::Launch),
        graph_launches: of(Kind::GraphLaunch),
        synchronizations: of(Kind::Synchronization),
        module_loads: of(Kind::ModuleLoad),
        other: of(Kind::Other),
    }
}

/// Counts one call made through an address from [`crate::symbol`], which no trampoline sees.
pub fn count(kind: Kind) {
    COUNTERS[kind as usize].fetch_add(1, Ordering::Relaxed);
}
