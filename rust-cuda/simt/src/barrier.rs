//! Block barriers: `sync_threads`, and the sixteen named barriers that count whole warps.

use crate::block::{Block, Wait, same_place};
use crate::error::{ErrorKind, Fault};
use crate::know::Know;
use std::panic::Location;

/// `sync_threads` in progress.
#[derive(Default)]
pub(crate) struct AllBarrier {
    pub arrived: usize,
    pub loc: Option<&'static Location<'static>>,
    count: u32,
    /// How many threads said true at the barrier that completed last. The next one cannot complete before all have
    /// read this.
    pub result: u32,
}

impl AllBarrier {
    /// Where threads wait for it, if any do.
    pub(crate) fn in_progress(&self) -> Option<&'static Location<'static>> {
        self.loc.filter(|_| self.arrived > 0)
    }
}

/// One of the named barriers.
#[derive(Default)]
pub(crate) struct NamedBarrier {
    expected: u32,
    arrived: u32,
    /// Warps that wait (those that only arrived do not).
    waiting: u32,
    joined: Know,
    loc: Option<&'static Location<'static>>,
}

impl NamedBarrier {
    /// As at the start of a block.
    pub(crate) fn reset(&mut self) {
        (self.expected, self.arrived, self.waiting, self.loc) = (0, 0, 0, None);
        self.joined.clear();
    }
}

/// A warp whose lanes are gathering at a named barrier.
#[derive(Clone, Copy)]
pub(crate) struct WarpArrival {
    id: u32,
    threads: u32,
    waits: bool,
    pub arrived: u32,
    pub loc: &'static Location<'static>,
}

impl WarpArrival {
    pub(crate) fn name(&self) -> String {
        let op = if self.waits { "barrier_sync" } else { "barrier_arrive" };
        format!("{op}({}, {})", self.id, self.threads)
    }
}

impl Block {
    /// Thread `t` reaches `sync_threads`. True if it was the last: all others are ready to run.
    pub(crate) fn arrive_all(
        &mut self,
        t: usize,
        pred: bool,
        loc: &'static Location<'static>,
    ) -> Result<bool, Box<Fault>> {
        let fault = |m| Err(Fault::new(ErrorKind::PartialBarrier, m));
        let c = self.cta_of(t);
        let cta = &mut self.ctas[c];
        if cta.exited > 0 {
            let mut warps = self.warps_of(c);
            let warp = warps
                .find(|&w| self.warp[w].live != self.warp[w].init)
                .unwrap_or(t / 32);
            let gone = warp * 32 + (self.warp[warp].init & !self.warp[warp].live).trailing_zeros() as usize;
            return fault(format!(
                "thread {} has ended without reaching this sync_threads",
                self.lanes[gone].idx
            ));
        }
        if cta.named[0].arrived > 0 {
            return fault(format!(
                "{} warps have arrived at barrier 0, the same one, by number",
                cta.named[0].arrived
            ));
        }
        match cta.all.in_progress() {
            Some(other) if !same_place(other, loc) => {
                let n = cta.all.arrived;
                return fault(format!("{n} threads wait at another sync_threads, at {other}"));
            }
            Some(_) => {}
            None => (cta.all.loc, cta.all.count) = (Some(loc), 0),
        }
        cta.all.arrived += 1;
        cta.all.count += u32::from(pred);
        if cta.all.arrived < self.cta_threads {
            self.lanes[t].wait = Wait::All;
            return Ok(false);
        }
        (cta.all.arrived, cta.all.result) = (0, cta.all.count);
        self.stats.barriers += 1;
        if self.checks {
            match self.blocks {
                1 => self.clocks.sync_all(self.warps),
                _ => self.clocks.sync_some(self.warps_of(c)),
            }
        }
        for w in self.warps_of(c) {
            let me = if w == t / 32 { 1 << (t % 32) } else { 0 };
            self.wake(w, self.warp[w].init & !me);
        }
        Ok(true)
    }

    /// For how many threads of its block the `sync_threads` that thread `t` has passed was told true.
    #[inline]
    pub(crate) fn all_result(&self, t: usize) -> u32 {
        self.ctas[self.cta_of(t)].all.result
    }

    /// Thread `t` reaches a named barrier. True if it need not wait.
    pub(crate) fn arrive_named(
        &mut self,
        t: usize,
        (id, threads): (u32, u32),
        waits: bool,
        loc: &'static Location<'static>,
    ) -> Result<bool, Box<Fault>> {
        let bad = |m| Err(Fault::new(ErrorKind::BadArgument, m));
        let most = self.cta_warps as u32 * 32;
        if id >= 16 {
            return bad(format!("barrier {id}: there are the barriers 0 to 15"));
        }
        if threads == 0 || !threads.is_multiple_of(32) || threads > most {
            return bad(format!(
                "barrier {id} for {threads} threads: it must be a multiple of 32, and at most {most} here"
            ));
        }
        let in_all = self.ctas[self.cta_of(t)].all.arrived;
        if id == 0 && in_all > 0 {
            let m = format!("barrier 0 for {threads} threads while {in_all} wait in sync_threads");
            return Err(Fault::new(ErrorKind::PartialBarrier, m));
        }
        let (w, bit) = (t / 32, 1u32 << (t % 32));
        let mine = WarpArrival {
            id,
            threads,
            waits,
            arrived: 0,
            loc,
        };
        let n = self.warp[w].named.get_or_insert(mine);
        if (n.id, n.threads, n.waits) != (id, threads, waits) || !same_place(n.loc, loc) {
            let m = format!(
                "{}, but other lanes of this warp wait in {} at {}",
                mine.name(),
                n.name(),
                n.loc
            );
            return Err(Fault::new(ErrorKind::PartialBarrier, m));
        }
        n.arrived |= bit;
        if n.arrived != self.warp[w].live {
            self.lanes[t].wait = Wait::Named;
            return Ok(false);
        }
        self.warp_arrives(w)?;
        let done = self.warp[w].named.is_none();
        if done {
            self.warp[w].ready &= !bit;
        } else {
            self.lanes[t].wait = Wait::Named;
        }
        Ok(done)
    }

    /// All live lanes of warp `w` are at its named barrier: the warp counts as arrived.
    pub(crate) fn warp_arrives(&mut self, w: usize) -> Result<(), Box<Fault>> {
        let Some(n) = self.warp[w].named else { return Ok(()) };
        let c = self.cta_of(w * 32);
        let first = self.warps_of(c).start;
        let b = &mut self.ctas[c].named[n.id as usize];
        if b.arrived == 0 {
            (b.expected, b.loc) = (n.threads / 32, Some(n.loc));
        } else if b.expected != n.threads / 32 {
            let (id, first) = (n.id, b.expected * 32);
            let at = crate::block::Here(b.loc);
            let m = format!("barrier {id} for {} threads here, but for {first} at {at}", n.threads);
            return Err(Fault::new(ErrorKind::PartialBarrier, m));
        }
        b.arrived += 1;
        if self.checks {
            self.clocks.arrive(w, &mut b.joined);
        }
        if n.waits {
            b.waiting |= 1 << (w - first);
        } else {
            self.warp[w].named = None;
        }
        let complete = b.arrived == b.expected;
        if !n.waits {
            self.wake(w, n.arrived);
        }
        if complete {
            let b = std::mem::take(&mut self.ctas[c].named[n.id as usize]);
            self.stats.barriers += 1;
            for v in self.warps_of(c).filter(|v| b.waiting >> (v - first) & 1 != 0) {
                let Some(there) = self.warp[v].named.take() else {
                    continue;
                };
                if self.checks {
                    let whole = there.arrived == self.warp[v].init;
                    self.clocks.depart(v, &b.joined, there.arrived, whole);
                }
                self.wake(v, there.arrived);
            }
        }
        Ok(())
    }

    /// Nothing can run, but not all threads have ended: what is wrong, told at the lowest thread that waits.
    pub(crate) fn explain_stuck(&mut self) {
        if self.explain_barrier() {
            return;
        }
        if let Some((t, loc, fault)) = self.missing_in_product(None) {
            return self.record(t, loc, fault);
        }
        let waits = |b: &Block, w: Wait| {
            b.lanes
                .iter()
                .position(|l| std::mem::discriminant(&l.wait) == std::mem::discriminant(&w))
        };
        if let Some(t) = waits(self, Wait::Warp(0))
            && let Wait::Warp(group) = self.lanes[t].wait
        {
            let g = &self.warp[t / 32].groups[group];
            let missing = g.mask & !g.arrived;
            let other = t / 32 * 32 + missing.trailing_zeros() as usize;
            let m = format!(
                "{} waits for lanes {missing:#010x} of mask {:#010x}; {}",
                g.op,
                g.mask,
                self.whereabouts(other)
            );
            let loc = crate::block::Here(g.loc);
            self.record(
                t,
                loc,
                Fault {
                    kind: ErrorKind::PartialWarp,
                    message: m,
                },
            );
        } else if self.explain_cluster() {
        } else if let Some(t) = waits(self, Wait::All)
            && let Some(loc) = self.ctas[self.cta_of(t)].all.loc
        {
            let c = self.cta_of(t);
            let other = self.lanes_of(c).find(|&o| self.lanes[o].wait != Wait::All).unwrap_or(t);
            let (n, of) = (self.ctas[c].all.arrived, self.cta_threads);
            let m = format!(
                "{n} of {of} threads reached this sync_threads; {}",
                self.whereabouts(other)
            );
            self.record(
                t,
                loc,
                Fault {
                    kind: ErrorKind::PartialBarrier,
                    message: m,
                },
            );
        } else if let Some(t) = waits(self, Wait::Named)
            && let Some(n) = self.warp[t / 32].named
        {
            let c = self.cta_of(t);
            let ids: u32 = self.warp[self.warps_of(c)]
                .iter()
                .filter_map(|w| w.named)
                .fold(0, |m, n| m | 1 << n.id);
            let kind = if ids.count_ones() > 1 {
                ErrorKind::Deadlock
            } else {
                ErrorKind::PartialBarrier
            };
            let b = &self.ctas[c].named[n.id as usize];
            let (have, want) = (b.arrived, n.threads / 32);
            let m = format!(
                "{} has {have} of its {want} warps; {} threads have ended, and warps wait at barriers {ids:#06x} (bits)",
                n.name(),
                self.ctas[c].exited
            );
            self.record(t, n.loc, Fault { kind, message: m });
        }
    }

    /// Where thread `t` waits.
    pub(crate) fn whereabouts(&self, t: usize) -> String {
        let at = match self.lanes[t].wait {
            Wait::Nothing => "has ended".to_owned(),
            Wait::Warp(g) => {
                let g = &self.warp[t / 32].groups[g];
                format!(
                    "waits in {} with mask {:#010x} at {}",
                    g.op,
                    g.mask,
                    crate::block::Here(g.loc)
                )
            }
            Wait::Barrier(addr) => {
                let at = crate::block::Here(self.asides[t].at);
                format!("waits for the barrier at {addr:#x}, at {at}")
            }
            Wait::Product => "waits in a wgmma for the rest of its warpgroup".to_owned(),
            Wait::Cluster => format!(
                "waits for the cluster's barrier at {}",
                crate::block::Here(self.asides[t].at)
            ),
            Wait::All => {
                let loc = self.ctas[self.cta_of(t)].all.loc;
                format!("waits in sync_threads at {}", crate::block::Here(loc))
            }
            Wait::Named => match self.warp[t / 32].named {
                Some(n) => format!("waits in {} at {}", n.name(), n.loc),
                None => "waits at a named barrier".to_owned(),
            },
        };
        format!("thread {} {at}", self.name_of(t))
    }
}
