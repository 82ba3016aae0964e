//! The blocks of a cluster: what each has for itself, which of them a thread, an address or a message belongs to, and the barrier of
//! all their threads.

use crate::barrier::{AllBarrier, NamedBarrier};
use crate::block::{Block, Wait, same_place};
use crate::clock::Access;
use crate::dims::Dim3;
use crate::error::{ErrorKind, Fault};
use crate::know::Know;
use crate::race::Touch;
use crate::shared::Shared;
use std::io;
use std::ops::Range;
use std::panic::Location;

/// The most blocks of a cluster that every GPU with clusters takes.
pub(crate) const MAX_CLUSTER: u32 = 8;

/// Addresses from here on are of the cluster's window: `(rank + 1) << WINDOW | address`.
pub(crate) const WINDOW: u32 = 24;

/// What a block has for itself.
pub(crate) struct Cta {
    pub idx: Dim3,
    pub all: AllBarrier,
    pub named: [NamedBarrier; 16],
    pub shared: Shared,
    /// Threads that have ended.
    pub exited: usize,
}

impl Cta {
    pub(crate) fn new() -> io::Result<Cta> {
        Ok(Cta {
            idx: Dim3::from(0),
            all: AllBarrier::default(),
            named: Default::default(),
            shared: Shared::new()?,
            exited: 0,
        })
    }

    /// Prepares for block `idx`; `fits` is what [`crate::clock::Clocks::begin`] said.
    pub(crate) fn begin(&mut self, idx: Dim3, checks: bool, fits: bool) {
        (self.idx, self.exited) = (idx, 0);
        self.all = AllBarrier::default();
        self.named.iter_mut().for_each(NamedBarrier::reset);
        if checks {
            self.shared.races.begin(fits);
        }
    }
}

/// The barrier of a cluster's threads: each arrives, and later waits.
#[derive(Default)]
pub(crate) struct ClusterBarrier {
    phase: u64,
    /// Threads that have arrived in this phase, and those of them that have ended since.
    pub arrived: usize,
    gone: usize,
    joined: Know,
    done: Know,
    waiting: Vec<usize>,
}

impl ClusterBarrier {
    pub(crate) fn begin(&mut self) {
        (self.phase, self.arrived, self.gone) = (0, 0, 0);
        self.joined.clear();
        self.done.clear();
        self.waiting.clear();
    }
}

impl Block {
    /// Thread `t` arrives at the cluster's barrier.
    pub(crate) fn arrive_cluster(&mut self, t: usize, at: &'static Location<'static>) -> Result<(), Box<Fault>> {
        if self.asides[t].arrived.is_some() {
            let m = "arrives at the cluster's barrier again without having waited for it";
            return Err(Fault::new(ErrorKind::PartialBarrier, m));
        }
        let phase = self.cluster.phase;
        // As the instruction's `.aligned` form wants it.
        match &mut self.warp[t / 32].cluster {
            Some((of, place)) if *of == phase && !same_place(place, at) => {
                let m = format!("other lanes of this warp arrive at the cluster's barrier at {place}");
                return Err(Fault::new(ErrorKind::PartialBarrier, m));
            }
            place => *place = Some((phase, at)),
        }
        let aside = self.aside(t);
        (aside.arrived, aside.at) = (Some(phase), Some(at));
        if self.checks {
            let exist = self.warp[t / 32].init;
            self.clocks.release(t, exist, &mut self.cluster.joined);
        }
        self.cluster.arrived += 1;
        self.perhaps_all_arrived();
        Ok(())
    }

    /// Thread `t` waits for the phase of the cluster's barrier at which it arrived. True if that is over.
    pub(crate) fn wait_cluster(&mut self, t: usize, at: &'static Location<'static>) -> Result<bool, Box<Fault>> {
        let Some(phase) = self.aside(t).arrived.take() else {
            let m = "waits for the cluster's barrier without having arrived at it";
            return Err(Fault::new(ErrorKind::PartialBarrier, m));
        };
        if self.cluster.phase > phase {
            if self.checks {
                self.clocks.acquire(t, &self.cluster.done);
            }
            return Ok(true);
        }
        self.lanes[t].wait = Wait::Cluster;
        self.aside(t).at = Some(at);
        self.cluster.waiting.push(t);
        Ok(false)
    }

    /// Thread `t` has ended while threads have arrived at the cluster's barrier: nobody waits for it.
    pub(crate) fn leave_cluster(&mut self, t: usize) {
        if self.asides[t].arrived == Some(self.cluster.phase) {
            self.cluster.gone += 1;
        }
        self.perhaps_all_arrived();
    }

    /// Threads that have neither arrived at the cluster's barrier nor ended.
    fn absent(&self) -> usize {
        self.threads - self.exited - (self.cluster.arrived - self.cluster.gone)
    }

    fn perhaps_all_arrived(&mut self) {
        if self.absent() > 0 {
            return;
        }
        let barrier = &mut self.cluster;
        (barrier.phase, barrier.arrived, barrier.gone) = (barrier.phase + 1, 0, 0);
        barrier.done.join(&barrier.joined);
        barrier.joined.clear();
        self.stats.barriers += 1;
        for t in std::mem::take(&mut self.cluster.waiting) {
            if self.checks {
                self.clocks.acquire(t, &self.cluster.done);
            }
            self.wake(t / 32, 1 << (t % 32));
        }
    }

    /// Threads wait for the cluster's barrier and nothing can run. False if none does.
    pub(crate) fn explain_cluster(&mut self) -> bool {
        let Some(t) = self.lanes.iter().position(|l| l.wait == Wait::Cluster) else {
            return false;
        };
        let here = self.cluster.phase;
        let elsewhere = |&o: &usize| self.lanes[o].wait != Wait::Nothing && self.lanes[o].wait != Wait::Cluster;
        let other = (0..self.lanes.len()).find(|o| elsewhere(o) && self.asides[*o].arrived != Some(here));
        let mut message = format!(
            "{} threads reached the cluster's barrier, {} did not",
            self.cluster.arrived,
            self.absent()
        );
        if let Some(o) = other {
            message += &format!("; {}", self.whereabouts(o));
        }
        let at = crate::block::Here(self.asides[t].at);
        let kind = ErrorKind::PartialBarrier;
        self.record(t, at, Fault { kind, message });
        true
    }

    #[inline]
    pub(crate) fn shared_of(&self, cta: usize) -> &Shared {
        &self.ctas[cta].shared
    }

    #[inline]
    pub(crate) fn shared_of_mut(&mut self, cta: usize) -> &mut Shared {
        &mut self.ctas[cta].shared
    }

    /// The block of thread `t`: its rank in the cluster.
    #[inline]
    pub(crate) fn cta_of(&self, t: usize) -> usize {
        if self.blocks == 1 { 0 } else { t / 32 / self.cta_warps }
    }

    /// The threads of a block, with those that only fill its last warp.
    #[inline]
    pub(crate) fn lanes_of(&self, cta: usize) -> Range<usize> {
        let n = self.cta_warps * 32;
        cta * n..(cta + 1) * n
    }

    /// The warps of a block.
    #[inline]
    pub(crate) fn warps_of(&self, cta: usize) -> Range<usize> {
        cta * self.cta_warps..(cta + 1) * self.cta_warps
    }

    /// Whether all threads of a block have ended.
    pub(crate) fn ended(&self, cta: usize) -> bool {
        self.ctas[cta].exited == self.cta_threads
    }

    /// Thread `t`, in messages.
    pub(crate) fn name_of(&self, t: usize) -> String {
        match self.blocks {
            1 => self.lanes[t].idx.to_string(),
            _ => format!("{} of block {}", self.lanes[t].idx, self.block_name(self.cta_of(t))),
        }
    }

    /// A block, in messages.
    pub(crate) fn block_name(&self, cta: usize) -> String {
        self.ctas[cta].idx.to_string()
    }

    /// The address in the cluster's window, as thread `t` may use it: that of its own block stays as it is.
    pub(crate) fn window(&self, t: usize, cta: usize, addr: u32) -> u32 {
        if cta == self.cta_of(t) {
            addr
        } else {
            (cta as u32 + 1) << WINDOW | addr
        }
    }

    /// The block that an address names, for thread `t`, and the address in that block.
    pub(crate) fn place_of(&self, t: usize, addr: u32, op: &str) -> Result<(usize, u32), Box<Fault>> {
        let rank = (addr >> WINDOW) as usize;
        match rank {
            0 => Ok((self.cta_of(t), addr)),
            _ if rank <= self.blocks => Ok((rank - 1, addr & ((1 << WINDOW) - 1))),
            _ => {
                let m = format!("{op} at {addr:#x}: block {} of a cluster of {}", rank - 1, self.blocks);
                Err(Fault::new(ErrorKind::OutOfBounds, m))
            }
        }
    }

    /// As [`Block::place_of`], of a plain access to memory that may be another block's, which has started and not ended.
    pub(crate) fn reach(&self, t: usize, addr: u32, op: &str) -> Result<(usize, u32), Box<Fault>> {
        let (cta, local) = self.place_of(t, addr, op)?;
        if self.ended(cta) {
            let m = format!("{op} at {local:#x} of block {}, which has ended", self.block_name(cta));
            return Err(Fault::new(ErrorKind::UseAfterFree, m));
        }
        let own = cta == self.cta_of(t);
        if self.checks && !own && !self.clocks.heard_of(t / 32, t as u32 % 32, self.warps_of(cta)) {
            let m = format!(
                "{op} at {local:#x} of block {}, which may not have started: a barrier of the cluster has to come first",
                self.block_name(cta)
            );
            return Err(Fault::new(ErrorKind::SharedRace, m));
        }
        Ok((cta, local))
    }

    /// The block of thread `t`; an error if the address is of the cluster's window.
    pub(crate) fn own_block_only(&self, t: usize, addr: u32, op: &str) -> Result<usize, Box<Fault>> {
        if addr >> WINDOW == 0 {
            return Ok(self.cta_of(t));
        }
        let m = format!(
            "{op} at {addr:#x}: it takes an address of the thread's own block, not one of the cluster's window"
        );
        Err(Fault::new(ErrorKind::BadArgument, m))
    }

    /// What thread `t` does now, as a record.
    pub(crate) fn access_of(&self, t: usize, loc: &'static Location<'static>) -> Access {
        Access {
            loc: Some(loc),
            stamp: self.clocks.stamp(t / 32),
            lanes: 1 << (t % 32),
            warp: (t / 32) as u8,
        }
    }

    /// Checks only that an access lies inside the shared memory, aligned.
    pub(crate) fn placed(&self, addr: u32, len: u32, align: u32, touch: Touch) -> Result<(), Box<Fault>> {
        match self.layout.inside(addr, len) && addr.is_multiple_of(align) {
            true => Ok(()),
            false => Err(self.misplaced(addr, len, align, touch)),
        }
    }
}
