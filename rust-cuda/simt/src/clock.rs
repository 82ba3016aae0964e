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
//! Ticks go on from block to block, so nothing needs to be cleared in between: an access stamped before `start` belongs
//! to an earlier block.

use std::panic::Location;

/// The most warps a block can have.
pub(crate) const WARPS: usize = 32;

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

/// The warps' knowledge a barrier has collected from its arrivers.
pub(crate) type Joined = [u32; WARPS];

pub(crate) struct Clocks {
    tick: Joined,
    start: Joined,
    floor_all: Joined,
    floor_warp: Joined,
    known: Box<[Joined; WARPS]>,
    lanes: Box<[[[u32; 32]; 32]; WARPS]>,
}

impl Clocks {
    pub(crate) fn new() -> Clocks {
        Clocks {
            tick: [0; WARPS],
            start: [0; WARPS],
            floor_all: [0; WARPS],
            floor_warp: [0; WARPS],
            known: Box::new([[0; WARPS]; WARPS]),
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
        self.sync_all(WARPS);
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

    /// All threads of the block's `warps` warps have met.
    pub(crate) fn sync_all(&mut self, warps: usize) {
        for v in 0..warps {
            self.tick[v] += 1;
            self.floor_all[v] = self.tick[v];
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
            .zip(joined)
            .for_each(|(k, &j)| *k = (*k).max(j));
        self.sync_warp(warp, live, whole);
    }
}
