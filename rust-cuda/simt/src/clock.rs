//! What orders two accesses of the threads of a block or cluster: logical clocks, exact for the barriers of the machine.
//!
//! Every warp has a tick that grows at each synchronisation it takes part in, and an access is stamped with its warp's
//! tick. "Thread `t` knows what lane `m` of warp `v` did before tick `k`" is kept in the coarsest form that is exact:
//! - `floor_all[v]`: known to all, from the last `sync_threads` of a block that is no part of a cluster;
//! - `known[w]`: known to all of warp `w`, from named barriers, which a warp passes as a whole (the lanes of a warp
//!   meet before it counts as arrived, so one number for each pair of warps is exact);
//! - `floor_warp[w]`: known inside warp `w`, from a `sync_warp` of all its lanes;
//! - `lanes[w][l][m]`: known by lane `l` of lane `m`, from a `sync_warp` of part of the warp;
//! - `alone[t]`: known to thread `t` only, from barriers in shared memory, at which threads arrive and wait one by one; its warp
//!   hears of it at the next `sync_warp` or barrier.
//!
//! Asynchronous copies that land on a barrier in shared memory are accesses of that barrier's agent, an actor of its own, known to
//! those who wait for the barrier.
//!
//! Ticks go on from block to block, so nothing needs to be cleared in between: an access stamped before `start` belongs
//! to an earlier block.

use crate::know::{ACTORS, Know, WARPS};
use std::ops::Range;
use std::panic::Location;

/// Accesses of one or more lanes of one actor at one tick.
#[derive(Clone, Copy)]
pub(crate) struct Access {
    /// The source line of (one of) the accesses; `None` only in an empty record.
    pub loc: Option<&'static Location<'static>>,
    pub stamp: u32,
    /// The lanes, one bit each.
    pub lanes: u32,
    /// The warp; from [`WARPS`] on, an agent of copies.
    pub warp: u8,
}

impl Access {
    /// The lowest thread, of an access by a warp.
    pub(crate) fn lowest_thread(&self) -> u32 {
        u32::from(self.warp) * 32 + self.lanes.trailing_zeros()
    }

    /// Whether a copy did it that landed on a barrier.
    pub(crate) fn is_copy(&self) -> bool {
        usize::from(self.warp) >= WARPS
    }
}

pub(crate) struct Clocks {
    tick: [u32; ACTORS],
    start: [u32; ACTORS],
    floor_all: [u32; ACTORS],
    floor_warp: [u32; WARPS],
    known: Vec<Know>,
    lanes: Box<[[[u32; 32]; 32]; WARPS]>,
    alone: Vec<Know>,
    /// The lanes of each warp that know something alone.
    alone_lanes: [u32; WARPS],
    /// Whether anything is known but through whole warps.
    finer: bool,
    /// The tick of each thread's last proxy fence.
    fenced: Vec<u32>,
    /// Actors in use: all warps, and the agents so far.
    actors: usize,
    agents: usize,
}

impl Clocks {
    pub(crate) fn new() -> Clocks {
        Clocks {
            tick: [0; ACTORS],
            start: [0; ACTORS],
            floor_all: [0; ACTORS],
            floor_warp: [0; WARPS],
            known: vec![Know::default(); WARPS],
            lanes: Box::new([[[0; 32]; 32]; WARPS]),
            alone: Vec::new(),
            alone_lanes: [0; WARPS],
            finer: false,
            fenced: Vec::new(),
            actors: WARPS,
            agents: 0,
        }
    }

    /// Begins a block or cluster. Returns false, and forgets everything, when the ticks are about to run out: then every record
    /// made with these clocks has to be cleared as well.
    #[must_use]
    pub(crate) fn begin(&mut self) -> bool {
        let fits = self.tick[..self.actors].iter().all(|&t| t < u32::MAX / 2);
        if !fits {
            *self = Clocks::new();
        }
        if self.finer || self.agents != 0 {
            self.alone.iter_mut().for_each(Know::clear);
            self.known.iter_mut().for_each(Know::clear);
            (self.alone_lanes, self.finer, self.agents) = ([0; WARPS], false, 0);
        }
        for v in 0..self.actors {
            self.tick[v] += 1;
            self.floor_all[v] = self.tick[v];
        }
        self.start = self.tick;
        fits
    }

    pub(crate) fn stamp(&self, actor: usize) -> u32 {
        self.tick[actor]
    }

    /// Whether the record is empty or left over from an earlier block.
    #[inline]
    pub(crate) fn stale(&self, a: &Access) -> bool {
        a.stamp < self.start[usize::from(a.warp)] || a.lanes == 0
    }

    /// The lanes of `a` whose access did not happen before what thread (`warp`, `lane`) does now; never that thread.
    #[inline]
    pub(crate) fn unordered(&self, a: &Access, warp: usize, lane: u32) -> u32 {
        let v = usize::from(a.warp);
        if a.stamp < self.floor_all[v] {
            return 0;
        }
        if v != warp {
            if a.stamp < self.known[warp].all_of(v) {
                return 0;
            }
            return if self.finer {
                self.finer_unordered(a, a.lanes, warp, lane)
            } else {
                a.lanes
            };
        }
        if a.stamp < self.floor_warp[v] {
            return 0;
        }
        let (mut others, mut found) = (a.lanes & !(1 << lane), 0);
        while others != 0 {
            let m = others.trailing_zeros();
            if a.stamp >= self.lanes[v][lane as usize][m as usize] {
                found |= 1 << m;
            }
            others &= others - 1;
        }
        if self.finer && found != 0 {
            found = self.finer_unordered(a, found, warp, lane);
        }
        found
    }

    fn finer_unordered(&self, a: &Access, lanes: u32, warp: usize, lane: u32) -> u32 {
        let v = usize::from(a.warp);
        let left = self.known[warp].unknown(v, a.stamp, lanes);
        if left == 0 || self.alone_lanes[warp] >> lane & 1 == 0 {
            return left;
        }
        self.alone[warp * 32 + lane as usize].unknown(v, a.stamp, left)
    }

    /// All threads of a block that is no part of a cluster have met.
    pub(crate) fn sync_all(&mut self, warps: usize) {
        for v in 0..warps {
            self.tick[v] += 1;
            self.floor_all[v] = self.tick[v];
        }
        if self.finer {
            // All that any thread knew of the copies, all know now; what they knew of each other is less than the floor.
            let knowers = self.known.iter().chain(&self.alone);
            for row in knowers.map(Know::row).filter(|r| r.len() > WARPS) {
                let floor = self.floor_all[WARPS..].iter_mut().zip(&row[WARPS..]);
                floor.for_each(|(f, k)| *f = (*f).max(*k));
            }
            self.alone.iter_mut().for_each(Know::clear);
            (self.alone_lanes, self.finer) = ([0; WARPS], false);
        }
    }

    /// All threads of the block of these warps have met; it is one of several of a cluster.
    pub(crate) fn sync_some(&mut self, warps: Range<usize>) {
        let mut joined = Know::default();
        warps.clone().for_each(|w| self.arrive(w, &mut joined));
        warps.for_each(|w| self.depart(w, &joined, u32::MAX, true));
    }

    /// The lanes of `mask` have met; `whole` says that these are all the lanes the warp ever had.
    pub(crate) fn sync_warp(&mut self, warp: usize, mask: u32, whole: bool) {
        self.tick[warp] += 1;
        let now = self.tick[warp];
        if self.finer {
            self.share_alone(warp, mask, whole);
        }
        if whole {
            self.floor_warp[warp] = now;
            return;
        }
        let rows = &mut self.lanes[warp];
        let inside = |l: usize| mask >> l & 1 != 0;
        let mut joined = [0u32; 32];
        for (l, row) in rows.iter().enumerate().filter(|(l, _)| inside(*l)) {
            joined.iter_mut().zip(row).for_each(|(j, &k)| *j = (*j).max(k));
            joined[l] = now;
        }
        rows.iter_mut()
            .enumerate()
            .filter(|(l, _)| inside(*l))
            .for_each(|(_, row)| *row = joined);
    }

    /// What lanes of `mask` know alone, all of `mask` know now.
    fn share_alone(&mut self, warp: usize, mask: u32, whole: bool) {
        if self.alone_lanes[warp] & mask == 0 {
            return;
        }
        let mut all = if whole {
            std::mem::take(&mut self.known[warp])
        } else {
            Know::default()
        };
        for l in bits(self.alone_lanes[warp] & mask) {
            all.join(&self.alone[warp * 32 + l]);
        }
        if whole {
            bits(self.alone_lanes[warp]).for_each(|l| self.alone[warp * 32 + l].clear());
            self.alone_lanes[warp] = 0;
            self.known[warp] = all;
        } else {
            bits(mask).for_each(|l| self.teach(warp, l, &all));
        }
    }

    /// Warp `warp` arrives at a named barrier: what it did and knows so far goes to the barrier.
    pub(crate) fn arrive(&mut self, warp: usize, joined: &mut Know) {
        self.tick[warp] += 1;
        joined.join(&self.known[warp]);
        if self.finer {
            bits(self.alone_lanes[warp]).for_each(|l| joined.join(&self.alone[warp * 32 + l]));
        }
        joined.learn(warp, self.tick[warp]);
    }

    /// Warp `warp`, which waited, leaves a named barrier with what its arrivers knew.
    pub(crate) fn depart(&mut self, warp: usize, joined: &Know, live: u32, whole: bool) {
        self.known[warp].join(joined);
        self.finer |= joined.has_more_than(WARPS);
        self.sync_warp(warp, live, whole);
    }

    /// One thread arrives at a barrier in shared memory: what it did and knows goes there. `exist` are its warp's lanes.
    pub(crate) fn release(&mut self, t: usize, exist: u32, joined: &mut Know) {
        let (w, lane) = (t / 32, t % 32);
        self.tick[w] += 1;
        joined.join(&self.known[w]);
        if self.alone_lanes[w] >> lane & 1 != 0 {
            joined.join(&self.alone[t]);
        }
        let mut ticks = self.lanes[w][lane];
        ticks.iter_mut().for_each(|k| *k = (*k).max(self.floor_warp[w]));
        ticks[lane] = self.tick[w];
        joined.learn_lanes(w, exist, ticks);
    }

    /// One thread has waited at a barrier in shared memory, whose arrivers knew `joined`.
    pub(crate) fn acquire(&mut self, t: usize, joined: &Know) {
        self.teach(t / 32, t % 32, joined);
        self.finer = true;
    }

    fn teach(&mut self, warp: usize, lane: usize, what: &Know) {
        if self.alone.is_empty() {
            self.alone.resize_with(WARPS * 32, Know::default);
        }
        self.alone[warp * 32 + lane].join(what);
        self.alone_lanes[warp] |= 1 << lane;
    }

    /// An agent for the copies that land on a barrier. When there are more barriers than agents they share: then a wait for one
    /// orders the copies of another as well.
    pub(crate) fn agent(&mut self) -> usize {
        let agent = WARPS + self.agents % (ACTORS - WARPS);
        self.agents += 1;
        if agent >= self.actors {
            self.actors = agent + 1;
            // Nothing of this actor is older than the block; zero would look like no stamp at all.
            (self.tick[agent], self.start[agent]) = (1, 1);
        }
        agent
    }

    /// What `agent` wrote so far goes to its barrier.
    pub(crate) fn landed(&mut self, agent: usize, joined: &mut Know) {
        self.tick[agent] += 1;
        joined.learn(agent, self.tick[agent]);
    }

    /// An agent is set to work: the stamp of what it does now, after which comes other work.
    pub(crate) fn work(&mut self, agent: usize) -> u32 {
        self.tick[agent] += 1;
        self.tick[agent] - 1
    }

    /// Thread `t` has waited for what an agent did up to `stamp`.
    pub(crate) fn waited_for(&mut self, t: usize, agent: usize, stamp: u32) {
        if self.alone.is_empty() {
            self.alone.resize_with(WARPS * 32, Know::default);
        }
        self.alone[t].learn(agent, stamp + 1);
        self.alone_lanes[t / 32] |= 1 << (t % 32);
        self.finer = true;
    }

    /// Thread `t` orders its plain writes before later accesses of copies and tensor cores.
    pub(crate) fn fence_proxy(&mut self, t: usize) {
        if self.fenced.is_empty() {
            self.fenced.resize(WARPS * 32, 0);
        }
        self.tick[t / 32] += 1;
        self.fenced[t] = self.tick[t / 32];
    }

    /// Whether `write`, the last one to some place, was a plain one whose thread has not passed a proxy fence since.
    pub(crate) fn unfenced(&self, write: &Access) -> bool {
        let fence = |t: usize| self.fenced.get(t).copied().unwrap_or(0);
        let w = usize::from(write.warp);
        !write.is_copy() && bits(write.lanes).any(|l| write.stamp >= fence(w * 32 + l))
    }

    /// Whether thread (`warp`, `lane`) has heard of any thread of `warps` since they started.
    pub(crate) fn heard_of(&self, warp: usize, lane: u32, mut warps: Range<usize>) -> bool {
        warps.any(|v| {
            let first = Access {
                loc: None,
                stamp: self.start[v],
                lanes: 1,
                warp: v as u8,
            };
            self.unordered(&first, warp, lane) == 0
        })
    }
}

/// The positions of the bits of `mask`.
pub(crate) fn bits(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let l = (mask != 0).then_some(mask.trailing_zeros() as usize);
        mask &= mask.wrapping_sub(1);
        l
    })
}

#[cfg(test)]
#[path = "clock_tests.rs"]
mod tests;
