//! Barriers in shared memory (PTX `mbarrier`): phases, arrivals, and the bytes of copies.
//!
//! A phase is over when as many arrivals have come as the barrier was initialised for and as many bytes have landed as were
//! announced. Bytes may land before they are announced (another block of the cluster may send them), but only while an arrival is
//! still missing. Threads arrive and wait one by one, and so does what they know: see [`crate::clock`].

use crate::block::{Block, Wait};
use crate::clock::Access;
use crate::error::{ErrorKind, Fault};
use crate::know::Know;
use crate::race::Touch;
use std::fmt;
use std::panic::Location;

type At = &'static Location<'static>;

/// The most arrivals of a phase, and the most bytes it can have outstanding (PTX ISA, "mbarrier").
pub(crate) const MOST: u64 = (1 << 20) - 1;

/// A live barrier.
pub(crate) struct Mbarrier {
    pub addr: u32,
    /// Arrivals of a phase, and those the current phase still needs.
    count: u32,
    pending: u32,
    /// Phases that are over.
    phase: u64,
    /// Bytes announced and bytes landed in this phase.
    expected: u64,
    landed: u64,
    /// The actor as which copies that complete here write.
    agent: Option<usize>,
    init: Access,
    /// The thread that initialised it has passed a fence for other blocks, a fence for copies.
    fenced: bool,
    proxy_fenced: bool,
    /// What those know who have arrived in this phase; who had when the phases before it were over.
    pub joined: Know,
    done: Know,
    waiting: Vec<usize>,
}

impl fmt::Display for Mbarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let init = crate::block::Here(self.init.loc);
        write!(
            f,
            "the barrier at {:#x} (initialised at {init} for {} arrivals)",
            self.addr, self.count
        )
    }
}

/// Who uses a barrier, and so what must have happened after its initialisation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    Thread,
    Copy,
}

fn misuse<T>(message: String) -> Result<T, Box<Fault>> {
    Err(Fault::new(ErrorKind::BadBarrier, message))
}

impl Block {
    /// The block and the place among its barriers of the barrier at `addr`, which thread `t` uses for `op`.
    pub(crate) fn find_barrier(&self, t: usize, addr: u32, user: User, op: &str) -> Result<(usize, usize), Box<Fault>> {
        let (cta, local) = self.place_of(t, addr, op)?;
        let barriers = &self.shared_of(cta).barriers;
        let Some(i) = barriers.iter().position(|b| b.addr == local) else {
            return misuse(format!("{op} at {local:#x}: no barrier was initialised there"));
        };
        let b = &barriers[i];
        if self.checks && self.clocks.unordered(&b.init, t / 32, t as u32 % 32) != 0 {
            let who = self.name_of(b.init.lowest_thread() as usize);
            let m =
                format!("{op}: thread {who} initialised {b}, and no barrier of the block or cluster orders the two");
            return Err(Fault::new(ErrorKind::SharedRace, m));
        }
        let remote = cta != self.cta_of(t);
        if self.checks && (remote && !b.fenced || user == User::Copy && !b.fenced && !b.proxy_fenced) {
            let whom = if remote { "another block" } else { "a copy" };
            return misuse(format!(
                "{op}: {whom} uses {b}, but the thread that initialised it has not passed fence_mbarrier_init since"
            ));
        }
        Ok((cta, i))
    }

    /// The same for a copy that lands there, which has been looked at when it was issued.
    pub(crate) fn find_barrier_of(&self, cta: usize, addr: u32, op: &str) -> Result<(usize, usize), Box<Fault>> {
        match self.shared_of(cta).barriers.iter().position(|b| b.addr == addr) {
            Some(i) => Ok((cta, i)),
            None => misuse(format!("{op} lands on the barrier at {addr:#x}, which has ended")),
        }
    }

    fn barrier(&mut self, (cta, i): (usize, usize)) -> &mut Mbarrier {
        &mut self.shared_of_mut(cta).barriers[i]
    }

    /// Thread `t` makes a barrier of `count` arrivals at `addr`.
    pub(crate) fn init_barrier(&mut self, t: usize, addr: u32, count: u32, at: At) -> Result<(), Box<Fault>> {
        if count == 0 || u64::from(count) > MOST {
            let m = format!("a barrier of {count} arrivals: it must have 1 to {MOST}");
            return Err(Fault::new(ErrorKind::BadArgument, m));
        }
        let cta = self.own_block_only(t, addr, "mbarrier.init")?;
        if let Some(b) = self.shared_of(cta).barriers.iter().find(|b| b.addr == addr) {
            return misuse(format!("initialised again without invalidating it first: {b}"));
        }
        self.touch_barrier(t, addr, at)?;
        let init = self.access_of(t, at);
        if self.checks {
            self.shared_of_mut(cta).races.place_barrier(addr, 8);
        }
        self.shared_of_mut(cta).barriers.push(Mbarrier {
            addr,
            count,
            pending: count,
            phase: 0,
            expected: 0,
            landed: 0,
            agent: None,
            init,
            fenced: false,
            proxy_fenced: false,
            joined: Know::default(),
            done: Know::default(),
            waiting: Vec::new(),
        });
        Ok(())
    }

    /// Checks the place of a barrier, and that nothing unordered with thread `t` touched it.
    fn touch_barrier(&mut self, t: usize, addr: u32, at: At) -> Result<(), Box<Fault>> {
        match self.checks {
            true => self.touch_shared(t, (addr, 8, 8), Touch::Write, at),
            false => self.placed(addr, 8, 8, Touch::Write),
        }
    }

    /// Thread `t` ends the barrier at `addr`: its bytes are free, and nobody has written them.
    pub(crate) fn end_barrier(&mut self, t: usize, addr: u32) -> Result<(), Box<Fault>> {
        let cta = self.own_block_only(t, addr, "mbarrier.inval")?;
        let (_, i) = self.find_barrier(t, addr, User::Thread, "mbarrier.inval")?;
        let b = &self.shared_of(cta).barriers[i];
        let flights = self
            .flights
            .iter()
            .filter(|f| (f.cta, f.barrier) == (cta, addr))
            .count();
        if !b.waiting.is_empty() || flights != 0 {
            return misuse(format!(
                "{b} ends while {} threads wait for it and {flights} copies are to land on it",
                b.waiting.len()
            ));
        }
        let shared = self.shared_of_mut(cta);
        shared.barriers.swap_remove(i);
        shared.races.forget(addr, 8);
        Ok(())
    }

    /// Thread `t` announces `tx` bytes and, if `arrives`, arrives once.
    pub(crate) fn arrive_barrier(&mut self, t: usize, addr: u32, tx: u32, arrives: bool) -> Result<(), Box<Fault>> {
        let op = if arrives {
            "mbarrier.arrive"
        } else {
            "mbarrier.expect_tx"
        };
        let place = self.find_barrier(t, addr, User::Thread, op)?;
        if self.ended(place.0) {
            return misuse(format!(
                "{op} at {addr:#x}: all threads of block {} have ended",
                self.block_name(place.0)
            ));
        }
        let b = self.barrier(place);
        b.expected += u64::from(tx);
        if b.expected > b.landed + MOST {
            let (e, l) = (b.expected, b.landed);
            return Err(Fault::new(
                ErrorKind::BadArgument,
                format!(
                    "{op}: {b} is told of {e} bytes in a phase, of which {l} have landed: at most {MOST} can be outstanding"
                ),
            ));
        }
        if arrives {
            let mut joined = std::mem::take(&mut b.joined);
            if self.checks {
                let exist = self.warp[t / 32].init;
                self.clocks.release(t, exist, &mut joined);
            }
            self.barrier(place).joined = joined;
            self.count_arrival(place, op)?;
        }
        self.perhaps_over(place)
    }

    /// One arrival less is missing.
    pub(crate) fn count_arrival(&mut self, place: (usize, usize), op: &str) -> Result<(), Box<Fault>> {
        let b = self.barrier(place);
        if b.pending == 0 {
            let missing = b.expected - b.landed.min(b.expected);
            return misuse(format!(
                "{op}: one arrival too many in phase {} of {b}; the phase is not over because {missing} of {} bytes are missing",
                b.phase, b.expected
            ));
        }
        b.pending -= 1;
        Ok(())
    }

    /// `bytes` of a copy have landed on the barrier, written by its agent.
    pub(crate) fn count_bytes(&mut self, place: (usize, usize), bytes: u64) -> Result<(), Box<Fault>> {
        let b = self.barrier(place);
        b.landed += bytes;
        if b.landed > b.expected + MOST {
            return Err(b.wrong_bytes());
        }
        self.perhaps_over(place)
    }

    /// The agent as which copies to this barrier write, with what its arrivers know.
    pub(crate) fn agent_of(&mut self, place: (usize, usize)) -> usize {
        if let Some(agent) = self.barrier(place).agent {
            return agent;
        }
        let agent = self.clocks.agent();
        *self.barrier(place).agent.insert(agent)
    }

    /// What the agent has written is known to those who wait for this phase.
    pub(crate) fn agent_lands(&mut self, place: (usize, usize), agent: usize) {
        let mut joined = std::mem::take(&mut self.barrier(place).joined);
        self.clocks.landed(agent, &mut joined);
        self.barrier(place).joined = joined;
    }

    /// Ends the phase if nothing is missing: the waiting threads run again, knowing what the arrivers knew.
    pub(crate) fn perhaps_over(&mut self, place: (usize, usize)) -> Result<(), Box<Fault>> {
        let b = self.barrier(place);
        if b.pending != 0 || b.expected > b.landed {
            return Ok(());
        }
        if b.landed > b.expected {
            return Err(b.wrong_bytes());
        }
        (b.pending, b.expected, b.landed) = (b.count, 0, 0);
        b.phase += 1;
        b.done.join(&b.joined);
        b.joined.clear();
        let (done, waiting) = (std::mem::take(&mut b.done), std::mem::take(&mut b.waiting));
        for &t in &waiting {
            if self.checks {
                self.clocks.acquire(t, &done);
            }
            self.wake(t / 32, 1 << (t % 32));
        }
        self.barrier(place).done = done;
        Ok(())
    }

    /// Whether the phase of `parity` is over, for thread `t`; copies to this barrier may land now.
    pub(crate) fn test_barrier(&mut self, t: usize, addr: u32, parity: u32) -> Result<bool, Box<Fault>> {
        const OP: &str = "mbarrier.try_wait";
        if parity > 1 {
            return Err(Fault::new(
                ErrorKind::BadArgument,
                format!("{OP}: a parity of {parity}: it is 0 or 1"),
            ));
        }
        self.own_block_only(t, addr, OP)?;
        let place = self.find_barrier(t, addr, User::Thread, OP)?;
        let over = |block: &mut Block| block.barrier(place).phase & 1 != u64::from(parity);
        if !over(self) {
            self.land_for_wait(place, |block| over(block))?;
        }
        if !over(self) {
            return Ok(false);
        }
        if self.checks {
            let done = std::mem::take(&mut self.barrier(place).done);
            self.clocks.acquire(t, &done);
            self.barrier(place).done = done;
        }
        Ok(true)
    }

    /// Thread `t` waits until the current phase of the barrier is over, whose number is returned; [`Block::test_barrier`] said no.
    pub(crate) fn wait_barrier(&mut self, t: usize, addr: u32, at: At) -> u64 {
        let cta = self.cta_of(t);
        self.lanes[t].wait = Wait::Barrier(addr);
        self.aside(t).at = Some(at);
        let found = self.shared_of_mut(cta).barriers.iter_mut().find(|b| b.addr == addr);
        found.map_or(0, |b| {
            b.waiting.push(t);
            b.phase
        })
    }

    /// Whether thread `t`, which waited for phase `phase`, could have missed it: a parity cannot tell a phase from the next but one.
    pub(crate) fn missed_phase(&self, t: usize, addr: u32, phase: u64) -> Result<(), Box<Fault>> {
        let mut barriers = self.shared_of(self.cta_of(t)).barriers.iter();
        match barriers.find(|b| b.addr == addr && b.phase > phase + 1) {
            None => Ok(()),
            Some(b) => {
                let m = format!(
                    "waits for phase {phase} of {b}, and phase {} was over before this thread saw it: a wait by parity may never end",
                    phase + 1
                );
                Err(Fault::new(ErrorKind::Deadlock, m))
            }
        }
    }

    /// Thread `t` has made the barriers that it initialised known to other blocks, or to copies.
    pub(crate) fn fence_barriers(&mut self, t: usize, proxy: bool) {
        let cta = self.cta_of(t);
        for b in &mut self.shared_of_mut(cta).barriers {
            if b.init.lowest_thread() as usize == t {
                *(if proxy { &mut b.proxy_fenced } else { &mut b.fenced }) = true;
            }
        }
    }

    /// Whether somebody waits for a barrier.
    pub(crate) fn is_awaited(&self, cta: usize, addr: u32) -> bool {
        let mut barriers = self.shared_of(cta).barriers.iter();
        barriers.any(|b| b.addr == addr && !b.waiting.is_empty())
    }

    /// Threads wait for barriers and nothing can run: what is missing, told at a waiting thread. False if none waits for a barrier.
    pub(crate) fn explain_barrier(&mut self) -> bool {
        let waiting = |l: &crate::block::Lane| match l.wait {
            Wait::Barrier(addr) => Some(addr),
            _ => None,
        };
        let mut found = None;
        for t in 0..self.lanes.len() {
            let Some(addr) = waiting(&self.lanes[t]) else { continue };
            let barriers = &self.shared_of(self.cta_of(t)).barriers;
            let Some(b) = barriers.iter().find(|b| b.addr == addr) else {
                continue;
            };
            // All arrivals are there, only bytes are missing: no other barrier is to blame for this one.
            let bytes = b.pending == 0;
            if found.is_none() || bytes {
                let m = format!(
                    "waits for phase {} (parity {}) of {b}: {} arrivals and {} of {} bytes are missing",
                    b.phase,
                    b.phase & 1,
                    b.pending,
                    b.expected.saturating_sub(b.landed),
                    b.expected
                );
                let kind = if bytes {
                    ErrorKind::WrongByteCount
                } else {
                    ErrorKind::Deadlock
                };
                found = Some((t, kind, m));
            }
            if bytes {
                break;
            }
        }
        let Some((t, kind, mut message)) = found else {
            return false;
        };
        let others = self.lanes.iter().filter(|l| l.wait != Wait::Nothing).count() - 1;
        if others > 0 {
            let other = self
                .lanes
                .iter()
                .position(|l| !matches!(l.wait, Wait::Nothing | Wait::Barrier(_)));
            message += &format!("; {others} other threads wait");
            if let Some(o) = other {
                message += &format!(", {}", self.whereabouts(o));
            }
        }
        let at = crate::block::Here(self.asides[t].at);
        self.record(t, at, Fault { kind, message });
        true
    }
}

impl Mbarrier {
    fn wrong_bytes(&self) -> Box<Fault> {
        let m = format!(
            "phase {} of {self}: copies brought {} bytes, but only {} were announced",
            self.phase, self.landed, self.expected
        );
        Fault::new(ErrorKind::WrongByteCount, m)
    }
}
