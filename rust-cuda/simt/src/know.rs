//! What a thread, a warp or a barrier knows of what the others did: a vector clock that is exact to the lane where it has to be.
//!
//! An *actor* is a warp of the cluster, or the agent of the copies that land on one barrier in shared memory. Actor `v` is known
//! "before tick `k`" when each of its accesses with a smaller stamp is ordered before the knower. Most synchronisation is of whole
//! warps, one number an actor; a lane that arrives at a barrier in shared memory by itself adds a [`Part`] for its warp.

/// The most warps a block, or a cluster of blocks, can have.
pub(crate) const WARPS: usize = 64;
/// Warps, then the agents of copies.
pub(crate) const ACTORS: usize = 256;

/// Ticks of the lanes of one warp, where they are not all the same; lanes that the warp never had count as known.
#[derive(Clone)]
struct Part {
    warp: u8,
    ticks: [u32; 32],
}

/// A vector clock.
#[derive(Clone, Default)]
pub(crate) struct Know {
    row: Vec<u32>,
    parts: Vec<Part>,
}

impl Know {
    pub(crate) fn clear(&mut self) {
        self.row.clear();
        self.parts.clear();
    }

    /// Before which tick all of actor `v` is known.
    #[inline]
    pub(crate) fn all_of(&self, v: usize) -> u32 {
        self.row.get(v).copied().unwrap_or(0)
    }

    /// The ticks of all actors, as far as any is known.
    pub(crate) fn row(&self) -> &[u32] {
        &self.row
    }

    /// Whether it knows of actors from `v` on, or of lanes one by one: more than whole warps tell each other.
    pub(crate) fn has_more_than(&self, v: usize) -> bool {
        self.row.len() > v || !self.parts.is_empty()
    }

    /// Learns that all of actor `v` is known before `tick`.
    pub(crate) fn learn(&mut self, v: usize, tick: u32) {
        if self.row.len() <= v {
            self.row.resize(v + 1, 0);
        }
        self.row[v] = self.row[v].max(tick);
    }

    /// Learns of the lanes of warp `v` one by one; those outside `lanes` do not exist.
    pub(crate) fn learn_lanes(&mut self, v: usize, lanes: u32, mut ticks: [u32; 32]) {
        for (l, tick) in ticks.iter_mut().enumerate() {
            if lanes >> l & 1 == 0 {
                *tick = u32::MAX;
            }
        }
        self.add_part(&Part { warp: v as u8, ticks });
    }

    fn add_part(&mut self, new: &Part) {
        let v = usize::from(new.warp);
        let i = match self.parts.iter().position(|p| p.warp == new.warp) {
            Some(i) => {
                let ticks = self.parts[i].ticks.iter_mut().zip(&new.ticks);
                ticks.for_each(|(a, b)| *a = (*a).max(*b));
                i
            }
            None => {
                self.parts.push(new.clone());
                self.parts.len() - 1
            }
        };
        let ticks = self.parts[i].ticks;
        self.learn(v, ticks.iter().copied().min().unwrap_or(0));
        let all = self.row[v];
        if ticks.iter().all(|&t| t <= all || t == u32::MAX) {
            self.parts.swap_remove(i);
        }
    }

    /// Learns all that `other` knows.
    pub(crate) fn join(&mut self, other: &Know) {
        if self.row.len() < other.row.len() {
            self.row.resize(other.row.len(), 0);
        }
        let pairs = self.row.iter_mut().zip(&other.row);
        pairs.for_each(|(a, b)| *a = (*a).max(*b));
        other.parts.iter().for_each(|p| self.add_part(p));
    }

    /// Which of `lanes` of actor `v` are not known to have done before now what they did at `stamp`.
    #[inline]
    pub(crate) fn unknown(&self, v: usize, stamp: u32, lanes: u32) -> u32 {
        if stamp < self.all_of(v) {
            return 0;
        }
        let part = self.parts.iter().find(|p| usize::from(p.warp) == v);
        part.map_or(lanes, |p| {
            let known = |l: usize| u32::from(stamp < p.ticks[l]) << l;
            lanes & !(0..32).fold(0, |m, l| m | known(l))
        })
    }
}
