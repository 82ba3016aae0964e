//! The clocks beside one full vector clock a thread: the same orders, whatever the threads do.

use super::{Access, Clocks, bits};
use crate::know::Know;

const WARPS: usize = 3;
/// Lanes a warp has here.
const LANES: usize = 4;
const ALL: u32 = (1 << LANES) - 1;
const BARRIERS: usize = 3;
/// Threads, then the agent of each barrier.
const ACTORS: usize = WARPS * LANES + BARRIERS;

/// How many of each actor's accesses are known.
type Vector = [u32; ACTORS];

fn join(a: &mut Vector, b: &Vector) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a = (*a).max(*b));
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(0x5851_F42D_4C95_7F2D)
            .wrapping_add(0x1405_7B7E_F767_814F);
        (self.0 >> 33) as usize % n
    }
}

/// Both kinds of clocks.
struct Both {
    clocks: Clocks,
    agents: Vec<usize>,
    barriers: Vec<Know>,
    /// Of each actor; an agent's only counts its own.
    exact: [Vector; ACTORS],
    exact_barriers: [Vector; BARRIERS],
    /// All accesses: the actor, how many it had made with this one, and the clocks' record.
    accesses: Vec<(usize, u32, Access)>,
}

/// Lane `l` of warp `w` as an actor.
fn actor(w: usize, l: usize) -> usize {
    w * LANES + l
}

impl Both {
    fn new() -> Both {
        let mut clocks = Clocks::new();
        assert!(clocks.begin());
        Both {
            agents: (0..BARRIERS).map(|_| clocks.agent()).collect(),
            clocks,
            barriers: vec![Know::default(); BARRIERS],
            exact: [[0; ACTORS]; ACTORS],
            exact_barriers: [[0; ACTORS]; BARRIERS],
            accesses: Vec::new(),
        }
    }

    fn access(&mut self, who: usize) {
        let (warp, lane) = match who.checked_sub(WARPS * LANES) {
            Some(b) => (self.agents[b], 0),
            None => (who / LANES, who % LANES),
        };
        let record = Access {
            loc: None,
            stamp: self.clocks.stamp(warp),
            lanes: 1 << lane,
            warp: warp as u8,
        };
        self.exact[who][who] += 1;
        self.accesses.push((who, self.exact[who][who], record));
    }

    /// The lanes of `mask` of warp `w` know what any of them does.
    fn meet(&mut self, w: usize, mask: u32, with: &Vector) {
        let mut all = *with;
        bits(mask).for_each(|l| join(&mut all, &self.exact[actor(w, l)]));
        bits(mask).for_each(|l| self.exact[actor(w, l)] = all);
    }

    fn step(&mut self, r: &mut Random, cluster: bool) {
        let (w, l, b) = (r.below(WARPS), r.below(LANES), r.below(BARRIERS));
        let (t, me) = (w * 32 + l, actor(w, l));
        match r.below(16) {
            0..4 => self.access(me),
            4..7 => {
                self.clocks.release(t, ALL, &mut self.barriers[b]);
                let known = self.exact[me];
                join(&mut self.exact_barriers[b], &known);
            }
            7..10 => {
                self.clocks.acquire(t, &self.barriers[b]);
                join(&mut self.exact[me], &self.exact_barriers[b]);
            }
            10 => {
                // A copy lands on the barrier.
                let agent = WARPS * LANES + b;
                self.access(agent);
                self.clocks.landed(self.agents[b], &mut self.barriers[b]);
                self.exact_barriers[b][agent] = self.exact[agent][agent];
            }
            11..13 => {
                let mask = match r.below(3) {
                    0 => ALL,
                    _ => 1 << l | r.below(1 << LANES) as u32,
                };
                self.clocks.sync_warp(w, mask, mask == ALL);
                self.meet(w, mask, &[0; ACTORS]);
            }
            13..15 => {
                // A named barrier of this warp, which waits or not, and the next one, which waits.
                let (next, waits) = ((w + 1) % WARPS, r.below(2) == 0);
                let (mut joined, mut exact) = (Know::default(), [0; ACTORS]);
                for v in [w, next] {
                    self.clocks.arrive(v, &mut joined);
                    bits(ALL).for_each(|l| join(&mut exact, &self.exact[actor(v, l)]));
                }
                for v in [next].into_iter().chain(waits.then_some(w)) {
                    self.clocks.depart(v, &joined, ALL, true);
                    self.meet(v, ALL, &exact);
                }
            }
            _ if r.below(4) == 0 => {
                match cluster {
                    true => self.clocks.sync_some(0..WARPS),
                    false => self.clocks.sync_all(WARPS),
                }
                let mut all = [0; ACTORS];
                self.exact[..WARPS * LANES].iter().for_each(|v| join(&mut all, v));
                self.exact[..WARPS * LANES].fill(all);
            }
            _ => {
                // A phase is over.
                self.barriers[b].clear();
                self.exact_barriers[b] = [0; ACTORS];
            }
        }
    }

    /// Asks both of every access and every thread.
    fn compare(&self, what: &str) -> (usize, usize) {
        let mut counts = (0, 0);
        for (who, number, record) in &self.accesses {
            for me in (0..WARPS * LANES).filter(|me| me != who) {
                let known = self.exact[me][*who] >= *number;
                let clocks = self.clocks.unordered(record, me / LANES, (me % LANES) as u32) == 0;
                assert_eq!(clocks, known, "{what}: access {number} of actor {who}, for thread {me}");
                *(if known { &mut counts.0 } else { &mut counts.1 }) += 1;
            }
        }
        counts
    }
}

#[test]
fn the_clocks_order_what_vector_clocks_order() {
    let (mut known, mut unknown) = (0, 0);
    for seed in 0..400 {
        let mut r = Random(seed);
        let mut both = Both::new();
        for step in 0..120 {
            both.step(&mut r, seed % 2 == 0);
            if step % 10 == 9 {
                let (k, u) = both.compare(&format!("seed {seed}, step {step}"));
                (known, unknown) = (known + k, unknown + u);
            }
        }
    }
    // Both answers occur often.
    assert!(known > 100_000 && unknown > 100_000, "{known} {unknown}");
}

#[test]
fn earlier_blocks_are_forgotten() {
    let mut both = Both::new();
    let mut r = Random(7);
    (0..200).for_each(|_| both.step(&mut r, false));
    assert!(both.accesses.iter().all(|(_, _, a)| !both.clocks.stale(a)));
    assert!(both.clocks.begin());
    assert!(both.accesses.iter().all(|(_, _, a)| both.clocks.stale(a)));
}
