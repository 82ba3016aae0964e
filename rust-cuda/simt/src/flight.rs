//! Copies in flight that complete on a barrier in shared memory, and when they land.
//!
//! The source bytes are taken at issue; from then on nobody may touch the destination. In order, a copy lands at the first wait for
//! its barrier that needs it, or, when the thread was waiting already, once nothing else can run. In a seeded schedule it lands at
//! a random moment after its issue, before or after copies issued earlier. With checks off it lands at issue, which no correct
//! kernel can tell apart.

use crate::block::Block;
use crate::error::{ErrorKind, Fault};
use crate::mbarrier::User;
use crate::race::Touch;
use std::panic::Location;

/// A copy, or some, on the way.
pub(crate) struct Flight {
    /// The block of the cluster whose shared memory and barrier these are.
    pub cta: usize,
    /// The barrier's address in that block.
    pub barrier: u32,
    /// The thread that issued it, and where.
    pub owner: usize,
    pub loc: &'static Location<'static>,
    pub load: Load,
}

/// What lands.
pub(crate) enum Load {
    /// These bytes, at this address of the block; they count as bytes on the barrier. They are laid out so
    /// ([`crate::tma::Swizzle::layout`], or 0).
    Bytes { to: u32, bytes: Vec<u8>, layout: u8 },
    /// The first `n` of its owner's `cp.async` copies that have not landed yet; together they count as one arrival.
    Copies { first: u64 },
}

impl Block {
    /// A copy sets off.
    ///
    /// # Errors
    /// Those of an access to the destination; a barrier that is none, or not known to copies.
    pub(crate) fn set_off(&mut self, flight: Flight) -> Result<(), Box<Fault>> {
        let op = flight.load.name();
        let (cta, addr, t) = (flight.cta, flight.barrier, flight.owner);
        // `cp.async` is of the same kind as plain stores: it needs no fence.
        let user = match flight.load {
            Load::Bytes { .. } => User::Copy,
            Load::Copies { .. } => User::Thread,
        };
        self.find_barrier(t, self.window(t, cta, addr), user, op)?;
        if self.ended(cta) {
            let m = format!("{op}: all threads of block {} have ended", self.block_name(cta));
            return Err(Fault::new(ErrorKind::BadBarrier, m));
        }
        if !self.checks {
            if let Load::Bytes { to, bytes, .. } = &flight.load {
                self.placed(*to, bytes.len() as u32, 16, Touch::Issue)?;
            }
            return self.land(flight);
        }
        if let Load::Bytes { to, bytes, .. } = &flight.load {
            let len = bytes.len() as u32;
            self.touch_at(cta, (t / 32, t as u32 % 32), (*to, len, 16), Touch::Issue, flight.loc)?;
            self.stats.async_copy_bytes += u64::from(len);
        }
        self.flights.push(flight);
        Ok(())
    }

    fn land(&mut self, flight: Flight) -> Result<(), Box<Fault>> {
        let (cta, addr, t) = (flight.cta, flight.barrier, flight.owner);
        let op = flight.load.name();
        let place = self.find_barrier_of(cta, addr, op)?;
        let agent = if self.checks { self.agent_of(place) } else { 0 };
        match flight.load {
            Load::Bytes { to, bytes, layout } => {
                self.shared_of_mut(cta).races.landing = layout;
                let written = self.write_landed((cta, agent), to, &bytes, flight.loc);
                self.shared_of_mut(cta).races.landing = 0;
                written?;
                if self.checks {
                    self.agent_lands(place, agent);
                }
                self.count_bytes(place, bytes.len() as u64)
            }
            Load::Copies { first } => {
                for p in self.asides[t].copies.land_first(first) {
                    self.write_landed((cta, agent), p.addr, &p.bytes[..p.len as usize], p.loc)?;
                }
                if self.checks {
                    self.agent_lands(place, agent);
                    self.tell_of_copies(t, place, agent);
                }
                self.count_arrival(place, op)?;
                self.perhaps_over(place)
            }
        }
    }

    /// Those who wait for the barrier know all copies of thread `t` up to here, on whatever barriers the others landed.
    fn tell_of_copies(&mut self, t: usize, place: (usize, usize), agent: usize) {
        let exist = self.warp[t / 32].init;
        let copies = &mut self.asides[t].copies;
        copies.agents.learn(agent, self.clocks.stamp(agent));
        let joined = &mut self.ctas[place.0].shared.barriers[place.1].joined;
        joined.join(&copies.agents);
        if copies.waited != 0 {
            let mut ticks = [0; 32];
            ticks[t % 32] = copies.waited;
            joined.learn_lanes(t / 32, exist, ticks);
        }
    }

    fn write_landed(
        &mut self,
        (cta, agent): (usize, usize),
        to: u32,
        bytes: &[u8],
        loc: &'static Location<'static>,
    ) -> Result<(), Box<Fault>> {
        if self.checks {
            self.touch_at(cta, (agent, 0), (to, bytes.len() as u32, 1), Touch::Land, loc)?;
        }
        // SAFETY: the bytes lie in the block's shared memory, checked when the copy set off; its threads do not run now.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.shared_of(cta).base().add(to as usize), bytes.len())
        };
        Ok(())
    }

    fn land_nth(&mut self, i: usize) {
        let flight = self.flights.remove(i);
        let (owner, loc) = (flight.owner, flight.loc);
        if let Err(fault) = self.land(flight) {
            self.record(owner, loc, *fault);
        }
    }

    /// A thread looks whether a phase of a barrier is over: copies land for it until `over`; in a seeded schedule perhaps.
    pub(crate) fn land_for_wait(
        &mut self,
        place: (usize, usize),
        over: impl Fn(&mut Block) -> bool,
    ) -> Result<(), Box<Fault>> {
        let addr = self.shared_of(place.0).barriers[place.1].addr;
        while !over(self) && !self.aborting && (!self.is_seeded() || self.coin()) {
            let Some(i) = self.flights.iter().position(|f| (f.cta, f.barrier) == (place.0, addr)) else {
                break;
            };
            let flight = self.flights.remove(i);
            self.land(flight)?;
        }
        Ok(())
    }

    /// In a seeded schedule: some copy may land now.
    pub(crate) fn perhaps_land(&mut self) {
        if self.coin() {
            let i = self.random_below(self.flights.len());
            self.land_nth(i);
        }
    }

    /// No thread can run: copies land until one can, or none is left that somebody waits for.
    pub(crate) fn land_when_idle(&mut self) {
        while !self.anyone_ready() && !self.aborting && !self.flights.is_empty() {
            let i = match self.is_seeded() {
                true => Some(self.random_below(self.flights.len())),
                false => self.flights.iter().position(|f| self.is_awaited(f.cta, f.barrier)),
            };
            let Some(i) = i else { return };
            self.land_nth(i);
        }
    }

    /// The last thread of block `cta` has ended: no copy may still be on its way there.
    pub(crate) fn nothing_in_flight_to(&mut self, cta: usize) {
        let Some(f) = self.flights.iter().find(|f| f.cta == cta) else {
            return;
        };
        let (owner, loc) = (f.owner, f.loc);
        let message = format!(
            "the block ended while {} is on its way to its shared memory: somebody has to wait for the barrier at {:#x}",
            f.load.name(),
            f.barrier
        );
        let kind = ErrorKind::AsyncNotWaited;
        self.record(owner, loc, Fault { kind, message });
    }

    /// At the end of a block: what is still on its way after an error is dropped.
    pub(crate) fn drop_flights(&mut self) {
        for f in std::mem::take(&mut self.flights) {
            if let Load::Bytes { to, bytes, .. } = f.load {
                self.shared_of_mut(f.cta).races.forget_pending(to, bytes.len() as u32);
            }
        }
    }
}

impl Load {
    fn name(&self) -> &'static str {
        match self {
            Load::Bytes { .. } => "a bulk copy",
            Load::Copies { .. } => "cp.async.mbarrier.arrive",
        }
    }
}

#[cfg(test)]
#[path = "flight_tests.rs"]
mod tests;
