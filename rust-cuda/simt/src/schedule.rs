//! The choice of the thread that runs next.

use crate::block::{Block, Here};
use crate::error::{ErrorKind, Fault};

/// After this many rounds in which every thread only spins on atomics, they are taken to spin for ever.
const IDLE_ROUNDS: u32 = 1 << 18;

impl Block {
    /// Thread `t` can run, but only after everyone else had a turn.
    pub(crate) fn put_later(&mut self, t: usize) {
        self.warp[t / 32].later |= 1 << (t % 32);
    }

    /// Lets the lanes of `mask` of a warp run again.
    #[inline]
    pub(crate) fn wake(&mut self, warp: usize, mask: u32) {
        if mask != 0 {
            self.warp[warp].ready |= mask;
            self.ready_warps |= 1 << warp;
        }
    }

    /// The thread to run next, now taken from the ready ones; `None` when no thread can run or the block has failed.
    ///
    /// In order: the lowest lane of the warp that ran last, then the lowest warp. Seeded: any warp, any lane.
    pub(crate) fn pick(&mut self) -> Option<usize> {
        if self.aborting {
            return None;
        }
        if !self.flights.is_empty() {
            self.perhaps_land();
            if self.aborting {
                return None;
            }
        }
        loop {
            if let Some(rng) = self.rng.as_mut().filter(|_| self.ready_warps != 0) {
                self.cur_warp = rng.bit_of(self.ready_warps);
            }
            let w = self.cur_warp;
            let warp = &mut self.warp[w];
            if warp.ready != 0 {
                let lane = match &mut self.rng {
                    None => warp.ready.trailing_zeros() as usize,
                    Some(rng) => rng.bit_of(u64::from(warp.ready)),
                };
                warp.ready &= !(1 << lane);
                return Some(w * 32 + lane);
            }
            self.ready_warps &= !(1 << w);
            if self.ready_warps == 0 {
                self.land_when_idle();
                if self.ready_warps == 0 && !self.next_round() {
                    return None;
                }
            }
            if self.aborting {
                return None;
            }
            self.cur_warp = self.ready_warps.trailing_zeros() as usize;
        }
    }

    /// Makes the threads that yielded ready again; false if there are none.
    fn next_round(&mut self) -> bool {
        for (w, warp) in self.warp[..self.warps]
            .iter_mut()
            .enumerate()
            .filter(|(_, warp)| warp.later != 0)
        {
            warp.ready = std::mem::take(&mut warp.later);
            self.ready_warps |= 1 << w;
        }
        self.idle_rounds = if self.progress { 0 } else { self.idle_rounds + 1 };
        self.progress = false;
        if self.idle_rounds > 64 {
            // Perhaps another block, on another core, will change what they wait for.
            std::thread::yield_now();
        }
        if self.idle_rounds > IDLE_ROUNDS {
            let m = "it spins on an atomic or a barrier that no running thread changes; blocks cannot rely on running at the \
                     same time";
            self.record(
                self.cur,
                Here(self.yielded_at),
                Fault {
                    kind: ErrorKind::Deadlock,
                    message: m.to_owned(),
                },
            );
        }
        self.ready_warps != 0
    }

    /// In a seeded schedule: whether to switch threads here, where the machine might.
    #[inline]
    pub(crate) fn coin(&mut self) -> bool {
        self.rng.as_mut().is_some_and(|r| r.next() & 3 == 0)
    }

    pub(crate) fn is_seeded(&self) -> bool {
        self.rng.is_some()
    }

    pub(crate) fn anyone_ready(&self) -> bool {
        self.ready_warps != 0
    }

    /// A random number below `n`; 0 in an unseeded schedule.
    pub(crate) fn random_below(&mut self, n: usize) -> usize {
        self.rng.as_mut().map_or(0, |r| (r.next() % n.max(1) as u64) as usize)
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014).
pub(crate) struct Rng(u64);

impl Rng {
    /// The numbers of block or cluster `index` under a seed.
    pub(crate) fn new(seed: u64, index: u64) -> Rng {
        Rng(seed ^ (index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// The position of a random set bit of `mask`, which is not zero.
    fn bit_of(&mut self, mut mask: u64) -> usize {
        let skip = self.next() % u64::from(mask.count_ones());
        for _ in 0..skip {
            mask &= mask - 1;
        }
        mask.trailing_zeros() as usize
    }
}
