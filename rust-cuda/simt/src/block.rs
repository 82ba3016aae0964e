//! The state of one block, or of the blocks of one cluster, while it is simulated.
//!
//! The blocks of a cluster run together: their threads are numbered one block after the other, each block from a whole warp on, and
//! so are their warps. What each block has for itself is a [`Cta`].

use crate::barrier::WarpArrival;
use crate::bulk::Stores;
use crate::clock::Clocks;
use crate::cluster::{ClusterBarrier, Cta};
use crate::copies::Copies;
use crate::dims::Dim3;
use crate::error::{ErrorKind, Fault, SimError};
use crate::flight::Flight;
use crate::launch::Launch;
use crate::product::{Products, Warpgroup};
use crate::schedule::Rng;
use crate::shared::Layout;
use crate::stats::LaunchStats;
use crate::warp::Group;
use corosensei::Yielder;
use std::fmt::Display;
use std::panic::Location;

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Nothing: it runs, is ready, or is done.
    Nothing,
    /// The exchange in this group of its warp.
    Warp(usize),
    /// `sync_threads`.
    All,
    /// The named barrier its warp is at.
    Named,
    /// The barrier in shared memory at this address.
    Barrier(u32),
    /// The other threads of its warpgroup, for a product.
    Product,
    /// The cluster's barrier.
    Cluster,
}

/// Why a coroutine gave control back to the scheduler.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Yielded {
    /// Its thread waits.
    Blocked,
    /// Its thread is done, and the coroutine can take another.
    Idle,
}

pub(crate) const NO_FIBER: u32 = u32::MAX;

/// One thread.
pub(crate) struct Lane {
    pub idx: Dim3,
    /// The coroutine it runs on; none before it starts and after it ends.
    pub fiber: u32,
    pub yielder: *const Yielder<(), Yielded>,
    pub wait: Wait,
    /// Atomics since this thread last let others run.
    pub spins: u32,
}

/// What only some kernels need of a thread; kept apart, so that all threads' [`Lane`]s stay together.
#[derive(Default)]
pub(crate) struct Aside {
    /// Where it waits for a barrier in shared memory or of the cluster.
    pub at: Option<&'static Location<'static>>,
    /// The phase of the cluster's barrier at which it has arrived and for which it has not waited.
    pub arrived: Option<u64>,
    pub copies: Copies,
    pub stores: Stores,
    pub products: Products,
}

/// One warp.
#[derive(Default)]
pub(crate) struct Warp {
    /// The lanes it was launched with.
    pub init: u32,
    /// Those that have not ended.
    pub live: u32,
    /// Those that can run now.
    pub ready: u32,
    /// Those that let others go first, and can run in the next round.
    pub later: u32,
    pub groups: Vec<Box<Group>>,
    pub named: Option<WarpArrival>,
    /// At which phase of the cluster's barrier its lanes arrived last, and where.
    pub cluster: Option<(u64, &'static Location<'static>)>,
    /// The actor that reads for its bulk stores.
    pub store_agent: Option<usize>,
}

/// One block, or one cluster. A worker reuses it for all that it runs.
pub(crate) struct Block {
    pub kernel: String,
    /// The running thread's block.
    pub idx: Dim3,
    pub dim: Dim3,
    pub grid: Dim3,
    pub checks: bool,
    pub tensor: crate::tensor::TensorCore,
    /// Threads and warps of all blocks of the cluster, and of each.
    pub threads: usize,
    pub warps: usize,
    pub cta_threads: usize,
    pub cta_warps: usize,
    /// Blocks of the cluster.
    pub blocks: usize,
    pub lanes: Vec<Lane>,
    /// One for each lane; all as new unless `asides_used`.
    pub asides: Vec<Aside>,
    asides_used: bool,
    pub warp: Vec<Warp>,
    /// The blocks; a worker may have more than this launch uses.
    pub ctas: Vec<Cta>,
    pub cluster: ClusterBarrier,
    pub clocks: Clocks,
    pub layout: Layout,
    /// Copies on their way to barriers in shared memory, oldest first.
    pub flights: Vec<Flight>,
    /// By their first warps.
    pub warpgroups: Vec<Warpgroup>,
    pub exited: usize,
    /// The thread that runs.
    pub cur: usize,
    /// Set at the first error; from then on the threads are only unwound.
    pub aborting: bool,
    pub error: Option<SimError>,
    pub stats: LaunchStats,
    /// A thread blocked or ended since the last round of yielding threads.
    pub progress: bool,
    /// Where a thread last let the others go first.
    pub yielded_at: Option<&'static Location<'static>>,
    pub idle_rounds: u32,
    pub cur_warp: usize,
    pub ready_warps: u64,
    pub rng: Option<Rng>,
}

impl Block {
    pub(crate) fn new() -> Block {
        let one = Dim3::from(1);
        Block {
            kernel: String::new(),
            idx: one,
            dim: one,
            grid: one,
            checks: false,
            tensor: crate::tensor::TensorCore::default(),
            threads: 0,
            warps: 0,
            cta_threads: 0,
            cta_warps: 0,
            blocks: 1,
            lanes: Vec::new(),
            asides: Vec::new(),
            asides_used: false,
            warp: Vec::new(),
            ctas: Vec::new(),
            cluster: ClusterBarrier::default(),
            clocks: Clocks::new(),
            layout: Layout::default(),
            flights: Vec::new(),
            warpgroups: Vec::new(),
            exited: 0,
            cur: 0,
            aborting: false,
            error: None,
            stats: LaunchStats::default(),
            progress: false,
            yielded_at: None,
            idle_rounds: 0,
            cur_warp: 0,
            ready_warps: 0,
            rng: None,
        }
    }

    /// Prepares for a launch: sizes that hold for all its blocks. There are as many [`Cta`]s as a cluster has blocks.
    pub(crate) fn begin_launch(&mut self, launch: &Launch<'_>) {
        let dim = launch.block;
        self.kernel = launch.kernel.to_owned();
        (self.grid, self.dim, self.checks, self.tensor) = (launch.grid, dim, launch.checks, launch.tensor);
        self.blocks = launch.cluster as usize;
        self.cta_threads = dim.count() as usize;
        self.cta_warps = self.cta_threads.div_ceil(32);
        (self.threads, self.warps) = (self.cta_threads * self.blocks, self.cta_warps * self.blocks);
        self.stats = LaunchStats::default();
        self.layout.dynamic = launch.shared_bytes;
        self.lanes.clear();
        let stride = self.cta_warps * 32;
        self.lanes.extend((0..self.warps * 32).map(|t| Lane {
            // Past the end of a block that is no multiple of 32 lie lanes that never run.
            idx: dim.unflatten((t % stride) as u64),
            fiber: NO_FIBER,
            yielder: std::ptr::null(),
            wait: Wait::Nothing,
            spins: 0,
        }));
        if self.asides.len() < self.lanes.len() {
            self.asides.resize_with(self.lanes.len(), Aside::default);
        }
        if self.warp.len() < self.warps {
            self.warp.resize_with(self.warps, Warp::default);
        }
    }

    /// Prepares block or cluster `index` of the launch.
    pub(crate) fn begin(&mut self, index: u64, seed: Option<u64>) {
        for (w, warp) in self.warp[..self.warps].iter_mut().enumerate() {
            let n = (self.cta_threads - w % self.cta_warps * 32).min(32);
            warp.init = u32::MAX >> (32 - n);
            (warp.live, warp.ready, warp.later, warp.named) = (warp.init, warp.init, 0, None);
            (warp.store_agent, warp.cluster) = (None, None);
            warp.groups.iter_mut().for_each(|g| g.reset());
        }
        self.layout.statics.clear();
        let fits = !self.checks || self.clocks.begin();
        for (rank, cta) in self.ctas[..self.blocks].iter_mut().enumerate() {
            let idx = self.grid.unflatten(index * self.blocks as u64 + rank as u64);
            cta.begin(idx, self.checks, fits);
        }
        self.idx = self.ctas[0].idx;
        self.cluster.begin();
        (self.exited, self.aborting, self.error, self.progress, self.idle_rounds) = (0, false, None, false, 0);
        self.cur_warp = 0;
        self.ready_warps = u64::MAX >> (64 - self.warps);
        self.rng = seed.map(|s| Rng::new(s, index));
        self.stats.blocks += self.blocks as u64;
        self.stats.threads += self.threads as u64;
    }

    /// After a block: asynchronous copies that nobody waited for are dropped.
    pub(crate) fn end(&mut self) {
        for lane in &mut self.lanes {
            (lane.wait, lane.fiber, lane.spins) = (Wait::Nothing, NO_FIBER, 0);
        }
        if std::mem::take(&mut self.asides_used) {
            let asides = self.asides[..self.lanes.len()].chunks_exact_mut(self.cta_warps * 32);
            for (asides, cta) in asides.zip(&mut self.ctas) {
                for aside in asides {
                    aside.copies.clear(&mut cta.shared);
                    *aside = Aside::default();
                }
            }
            self.forget_products();
        }
        self.drop_flights();
        self.ctas[..self.blocks].iter_mut().for_each(|c| c.shared.end());
    }

    #[inline]
    pub(crate) fn lane(&mut self, t: usize) -> &mut Lane {
        &mut self.lanes[t]
    }

    /// What thread `t` has under way, to be changed.
    #[inline]
    pub(crate) fn aside(&mut self, t: usize) -> &mut Aside {
        self.asides_used = true;
        &mut self.asides[t]
    }

    /// Keeps the first error of the block and starts to end it.
    pub(crate) fn record(&mut self, thread: usize, location: impl Display, fault: Fault) {
        self.aborting = true;
        let block = self.ctas[self.cta_of(thread)].idx;
        self.error.get_or_insert_with(|| SimError {
            kernel: self.kernel.clone(),
            block,
            thread: self.lanes[thread].idx,
            location: location.to_string(),
            kind: fault.kind,
            message: fault.message,
        });
    }

    /// Thread `t` has ended: errors for those that wait for it, and perhaps its warp is now complete at a barrier.
    pub(crate) fn exit(&mut self, t: usize) {
        self.progress = true;
        self.exited += 1;
        let (w, bit) = (t / 32, 1u32 << (t % 32));
        self.warp[w].live &= !bit;
        let c = self.cta_of(t);
        self.ctas[c].exited += 1;
        if self.aborting {
            return;
        }
        if self.ctas[c].exited == self.cta_threads && !self.flights.is_empty() {
            self.nothing_in_flight_to(c);
            return;
        }
        if self.asides_used {
            if let Some((loc, fault)) = self.unread_stores(t) {
                return self.record(t, loc, fault);
            }
            if let Some((t, loc, fault)) = self.missing_in_product(Some(t)) {
                return self.record(t, loc, fault);
            }
        }
        if self.cluster.arrived > 0 {
            self.leave_cluster(t);
        }
        let me = self.lanes[t].idx;
        if let Some(g) = self.warp[w].groups.iter().find(|g| g.open && g.mask & bit != 0) {
            let (waiter, loc) = (w * 32 + g.arrived.trailing_zeros() as usize, g.loc);
            let message = format!(
                "lane {} of mask {:#010x} ended (thread {me}) without {}",
                t % 32,
                g.mask,
                g.op
            );
            self.record(
                waiter,
                Here(loc),
                Fault {
                    kind: ErrorKind::PartialWarp,
                    message,
                },
            );
        } else if let Some(loc) = self.ctas[c].all.in_progress() {
            let waiter = self.lanes_of(c).find(|&t| self.lanes[t].wait == Wait::All).unwrap_or(t);
            let message = format!("thread {me} ended without reaching this sync_threads");
            self.record(
                waiter,
                loc,
                Fault {
                    kind: ErrorKind::PartialBarrier,
                    message,
                },
            );
        } else if let Some(n) = self.warp[w]
            .named
            .filter(|n| n.arrived == self.warp[w].live && n.arrived != 0)
            && let Err(fault) = self.warp_arrives(w)
        {
            self.record(w * 32 + n.arrived.trailing_zeros() as usize, n.loc, *fault);
        }
    }
}

/// A location that may be missing.
pub(crate) struct Here(pub Option<&'static Location<'static>>);

impl Display for Here {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(l) => l.fmt(f),
            None => f.write_str("(unknown)"),
        }
    }
}

/// Whether two locations are the same place in the source (one place can have several addresses).
pub(crate) fn same_place(a: &'static Location<'static>, b: &'static Location<'static>) -> bool {
    std::ptr::eq(a, b) || a == b
}
