//! What orders two accesses of a block's threads: logical clocks, exact for the barriers of the machine.
//!
//! Every warp has a tick that grows at each synchronisation it takes part in, and an access is stamped with its warp's
//! tick. "Thread `t` knows what lane `m` of warp `v` did before tick `k`" is kept in the coarsest form that is exact:
//! - `floor_all[v]`: known to the whole block, from the last `sync_threads`;
//! - `known[w][v]`: known to all of warp `w`, from named barriers, which a warp passes as a whole (the lanes of a warp
//!   meet before it counts as arrived, so one number for each pair of warps is exact);
//! - `floor_warp[w]`: known inside warp `w`, from a `sync_warp` of all its lanes;
//! - `lanes[w][l][m]`: known by lane `l` of lane `m`, from a `sync_warp` of part of the warp.
//!
//! Beside the warps there are *agents*: units that read shared memory on their own, after the instruction that set them to work (the
//! tensor cores of a warpgroup, the copy engine's stores). An agent has a tick like a warp; what it does is ordered after what the warps
//! that set it to work know, and before what a warp does that has waited for it.
//!
//! Ticks go on from block to block, so nothing needs to be cleared in between: an access stamped before `start` belongs
//! to an earlier block.

use std::panic::Location;

/// The most warps a block can have.
pub(crate) const WARPS: usize = 32;
/// Agents: one for the products of each warpgroup, and as many for the stores of warps (several warps share one).
const AGENTS: usize = 32;
/// Warps and agents.
pub(crate) const ACTORS: usize = WARPS + AGENTS;

/// The agent that computes the products of the warpgroup of `warp`.
pub(crate) fn product_agent(warp: usize) -> usize {
    WARPS + warp / 4 % (AGENTS / 2)
}

/// The agent that reads for the bulk stores of `warp`.
pub(crate) fn store_agent(warp: usize) -> usize {
    WARPS + AGENTS / 2 + warp % (AGENTS / 2)
}

/// Accesses of one or more lanes of one warp at one tick.
#[derive(Clone, Copy)]
pub(crate) struct Access {
    /// The source line of (one of) the accesses; `None` only in an empty record.
    pub loc: Option<&'static Location<'static>>,
    pub stamp: u32,
    /// The lanes, one bit each.
    pub lanes: u32,
    pub warp: u8,
}

impl Access {
    pub(crate) fn lowest_thread(&self) -> u32 {
        u32::from(self.warp) * 32 + self.lanes.trailing_zeros()
    }
}

/// The knowledge of warps and agents that a barrier has collected from its arrivers.
#[derive(Clone, Copy)]
pub(crate) struct Joined([u32; ACTORS]);

impl Default for Joined {
    fn default() -> Self {
        Joined([0; ACTORS])
    }
}

impl std::ops::Deref for Joined {
    type Target = [u32; ACTORS];
    fn deref(&self) -> &[u32; ACTORS] {
        &self.0
    }
}

impl std::ops::DerefMut for Joined {
    fn deref_mut(&mut self) -> &mut [u32; ACTORS] {
        &mut self.0
    }
}

pub(crate) struct Clocks {
    tick: [u32; ACTORS],
    start: [u32; ACTORS],
    floor_all: [u32; ACTORS],
    floor_warp: [u32; ACTORS],
    known: Box<[[u32; ACTORS]; ACTORS]>,
    /// An agent was set to work in this block.
    agents: bool,
    lanes: Box<[[[u32; 32]; 32]; WARPS]>,
}

impl Clocks {
    pub(crate) fn new() -> Clocks {
        Clocks {
            tick: [0; ACTORS],
            start: [0; ACTORS],
            floor_all: [0; ACTORS],
            floor_warp: [0; ACTORS],
            known: Box::new([[0; ACTORS]; ACTORS]),
            agents: false,
            lanes: Box::new([[[0; 32]; 32]; WARPS]),
        }
    }

    /// Begins a block. Returns false, and forgets everything, when the ticks are about to run out: then every record
    /// made with these clocks has to be cleared as well.
    #[must_use]
    pub(crate) fn begin(&mut self) -> bool {
        let fits = self.tick.iter().all(|&t| t < u32::MAX / 2);
        if !fits {
            *self = Clocks::new();
        }
        self.agents = false;
        self.sync_all(ACTORS);
        self.start = self.tick;
        fits
    }

    pub(crate) fn stamp(&self, warp: usize) -> u32 {
        self.tick[warp]
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
            return if a.stamp < self.known[warp][v] { 0 } else { a.lanes };
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
        found
    }

    /// `warps` set an agent to work. What it does from now on, with the stamp that this returns, is ordered after what they know.
    pub(crate) fn set_to_work(&mut self, agent: usize, warps: std::ops::Range<usize>) -> u32 {
        self.agents = true;
        let mut joined = Joined(self.known[agent]);
        for w in warps {
            self.arrive(w, &mut joined);
        }
        // The floors are what every warp knows.
        joined
            .iter_mut()
            .zip(&self.floor_all)
            .for_each(|(j, &f)| *j = (*j).max(f));
        self.known[agent] = *joined;
        self.tick[agent] += 1;
        self.tick[agent]
    }

    /// Warp `warp` has waited for what an agent did with a stamp of at most `stamp`.
    pub(crate) fn waited_for(&mut self, warp: usize, agent: usize, stamp: u32) {
        let known = &mut self.known[warp][agent];
        *known = (*known).max(stamp + 1);
    }

    /// All threads of the block's `warps` warps have met.
    pub(crate) fn sync_all(&mut self, warps: usize) {
        for v in 0..warps {
            self.tick[v] += 1;
            self.floor_all[v] = self.tick[v];
        }
        if self.agents {
            // What one of them has waited for, all know now.
            for agent in WARPS..ACTORS {
                let known = self.known[..warps.min(WARPS)].iter().map(|k| k[agent]);
                self.floor_all[agent] = known.fold(self.floor_all[agent], u32::max);
            }
        }
    }

    /// The lanes of `mask` have met; `whole` says that these are all the lanes the warp ever had.
    pub(crate) fn sync_warp(&mut self, warp: usize, mask: u32, whole: bool) {
        self.tick[warp] += 1;
        let now = self.tick[warp];
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

    /// Warp `warp` arrives at a named barrier: what it did and knows so far goes to the barrier.
    pub(crate) fn arrive(&mut self, warp: usize, joined: &mut Joined) {
        self.tick[warp] += 1;
        joined
            .iter_mut()
            .zip(&self.known[warp])
            .for_each(|(j, &k)| *j = (*j).max(k));
        joined[warp] = self.tick[warp];
    }

    /// Warp `warp`, which waited, leaves a named barrier with what its arrivers knew.
    pub(crate) fn depart(&mut self, warp: usize, joined: &Joined, live: u32, whole: bool) {
        self.known[warp]
            .iter_mut()
            .zip(joined.iter())
            .for_each(|(k, &j)| *k = (*k).max(j));
        self.sync_warp(warp, live, whole);
    }
}
