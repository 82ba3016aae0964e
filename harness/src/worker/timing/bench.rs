//! What is timed and how a sample of it is taken.

use anyhow::{Context, Result};
use host::device::{Buffer, ClockState, Device, Event as DeviceEvent, Graph, Stream};
use host::op::{ConfigInfo, Prepared};
use host::peer::PeerRun;
use host::results::{Clocks, Times};

use super::super::child::Emit;
use super::super::protocol::{Event, Measured, Phase};
use super::budget::Budget;

/// Rounds in a row that stayed throttled through their repeats, after which nobody waits for the device to recover any more: it
/// will not.
const GIVE_UP: u32 = 3;
/// Between a throttled round and its repeat.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// How often a worker's rounds stayed throttled in a row.
#[derive(Debug, Default)]
pub struct Patience {
    throttled: u32,
}

impl Patience {
    /// Whether a throttled round is worth repeating.
    fn left(&self) -> bool {
        self.throttled < GIVE_UP
    }

    fn ended(&mut self, throttled: bool) {
        self.throttled = if throttled { self.throttled + 1 } else { 0 };
    }
}

/// A config or one of a peer's algorithms.
#[derive(Clone, Copy)]
pub enum What<'c> {
    /// A config.
    Config(&'c ConfigInfo),
    /// A peer by its place among those of the case, and one of its algorithms.
    Peer {
        /// Its name.
        name: &'static str,
        /// Its place.
        index: usize,
        /// What it runs.
        run: &'c dyn PeerRun,
        /// Which of its algorithms.
        algorithm: usize,
    },
}

impl What<'_> {
    /// The name in events.
    pub fn id(&self) -> &str {
        match self {
            What::Config(config) => &config.id,
            What::Peer { name, .. } => name,
        }
    }

    /// Tells the parent that this is next.
    pub fn start(&self, phase: Phase, emit: Emit) -> Result<()> {
        emit(Event::Start {
            config: self.id().to_string(),
            phase: match self {
                What::Config(_) => phase,
                What::Peer { .. } => Phase::Peer,
            },
        })
    }
}

/// The rounds whose samples a candidate has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Of all.
    Short,
    /// Of those not far behind.
    Main,
    /// Of the fastest.
    Final,
}

/// Something that is timed.
pub struct Candidate<'c> {
    pub what: What<'c>,
    pub graph: Graph,
    pub launches: usize,
    pub samples: Vec<f64>,
    pub stage: Stage,
    pub cold: Vec<f64>,
    pub before: Clocks,
    pub clocks: Clocks,
    pub repeated: u32,
}

impl Candidate<'_> {
    /// The least sample.
    pub fn least(&self) -> f64 {
        self.samples.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The median sample.
    pub fn median(&self) -> f64 {
        Times::from_samples(&self.samples).map_or(f64::INFINITY, |t| t.median_us)
    }

    /// What is reported of it.
    ///
    /// # Errors
    /// The events gave no finite time.
    pub fn measured(&self) -> Result<Measured> {
        let times = Times::from_samples(&self.samples);
        Ok(Measured {
            times: times.with_context(|| format!("{}: the device's events gave no finite time", self.what.id()))?,
            cold: Times::from_samples(&self.cold),
            before: self.before.clone(),
            clocks: self.clocks.clone(),
            repeated: self.repeated,
        })
    }
}

/// Where a case is timed.
pub struct Bench<'a> {
    pub device: &'a Device,
    pub stream: &'a Stream,
    pub budget: &'a Budget,
    events: (DeviceEvent, DeviceEvent),
    copies: usize,
    patience: &'a mut Patience,
}

impl<'a> Bench<'a> {
    /// For a case of so many copies.
    ///
    /// # Errors
    /// The device's.
    pub fn new(
        device: &'a Device,
        stream: &'a Stream,
        budget: &'a Budget,
        copies: usize,
        patience: &'a mut Patience,
    ) -> Result<Bench<'a>> {
        let events = (device.event()?, device.event()?);
        Ok(Bench {
            device,
            stream,
            budget,
            events,
            copies,
            patience,
        })
    }

    /// Copies of the operands.
    pub fn copies(&self) -> usize {
        self.copies
    }

    /// A graph of `launches` launches over the copies in turn.
    ///
    /// # Errors
    /// The operation's or the peer's, or the device's.
    pub fn capture(&self, what: &What, prepared: &dyn Prepared, launches: usize) -> Result<Graph> {
        let copy = |i: usize| i % self.copies;
        Ok(match what {
            What::Config(config) => self.device.capture_of(self.stream, || {
                (0..launches).try_for_each(|i| prepared.launch(&config.id, self.stream, copy(i)))
            })?,
            What::Peer { run, algorithm, .. } => self.device.capture_of(self.stream, || {
                (0..launches).try_for_each(|i| run.launch(*algorithm, self.stream, prepared, copy(i)))
            })?,
        })
    }

    /// A candidate with the samples of the short round. One that is hopeless beside `best`, the least sample of those before,
    /// has fewer.
    ///
    /// # Errors
    /// The device's.
    pub fn short<'c>(&self, what: What<'c>, prepared: &dyn Prepared, best: f64) -> Result<Candidate<'c>> {
        let mut candidate = Candidate {
            what,
            graph: self.capture(&what, prepared, self.copies)?,
            launches: self.copies,
            samples: Vec::new(),
            stage: Stage::Short,
            cold: Vec::new(),
            before: Clocks::default(),
            clocks: Clocks::default(),
            repeated: 0,
        };
        self.sample(&mut candidate)?;
        if candidate.least() > self.budget.hopeless_ratio * best {
            return Ok(candidate);
        }
        candidate.samples.clear();
        for _ in 0..self.budget.short_samples {
            self.sample(&mut candidate)?;
        }
        Ok(candidate)
    }

    /// Gives a candidate a graph as long as a replay should be.
    ///
    /// # Errors
    /// The device's.
    pub fn lengthen(&self, candidate: &mut Candidate, prepared: &dyn Prepared) -> Result<()> {
        let launches = self.budget.launches(candidate.least(), self.copies);
        if launches > candidate.launches {
            candidate.graph = self.capture(&candidate.what, prepared, launches)?;
            candidate.launches = launches;
            self.sample(candidate)?;
        }
        Ok(())
    }

    /// Samples of replays of full length in place of the short round's.
    ///
    /// # Errors
    /// The device's.
    pub fn warm(&self, candidate: &mut Candidate, prepared: &dyn Prepared) -> Result<()> {
        self.lengthen(candidate, prepared)?;
        candidate.samples.clear();
        for _ in 0..self.budget.warm_samples {
            self.sample(candidate)?;
        }
        Ok(())
    }

    fn sample(&self, c: &mut Candidate) -> Result<()> {
        let us = self.time(&c.graph)? / c.launches as f64;
        c.samples.push(us);
        Ok(())
    }

    fn time(&self, graph: &Graph) -> Result<f64> {
        self.events.0.record(self.stream)?;
        graph.launch(self.stream)?;
        self.events.1.record(self.stream)?;
        self.events.1.synchronize()?;
        Ok(DeviceEvent::elapsed_us(&self.events.0, &self.events.1)?)
    }

    /// A round: one sample of each candidate after another, with a rotating start, so that a drift of the clock meets all of
    /// them alike. Repeated where the device was throttled, within the budget and its patience.
    ///
    /// # Errors
    /// The device's.
    pub fn round(&mut self, candidates: &mut [&mut Candidate], stage: Stage, wanted: usize, emit: Emit) -> Result<()> {
        let n = candidates.len();
        if n == 0 {
            return Ok(());
        }
        let turn_us = candidates.iter().map(|c| c.least() * c.launches as f64).sum();
        let samples = self.budget.samples(wanted, turn_us);
        for attempt in 0..=self.budget.retries {
            let before = clocks(self.device);
            for c in candidates.iter_mut() {
                c.samples.clear();
                c.stage = stage;
            }
            for turn in 0..samples {
                for i in 0..n {
                    let c = &mut *candidates[(turn + i) % n];
                    // Every time, so that a hang is blamed on the config that hangs.
                    c.what.start(Phase::Time, emit)?;
                    self.sample(c)?;
                }
            }
            let after = clocks(self.device);
            let throttled = !after.throttle.is_empty();
            for c in candidates.iter_mut() {
                (c.before, c.clocks, c.repeated) = (before.clone(), after.clone(), attempt);
            }
            if !throttled || attempt == self.budget.retries || !self.patience.left() {
                self.patience.ended(throttled);
                return Ok(());
            }
            emit(Event::Alive)?;
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Single launches with nothing in the cache: before each a buffer of twice the L2 cache is overwritten. Interleaved as a
    /// round is.
    ///
    /// # Errors
    /// The device's: also where there is no room for that buffer.
    pub fn cold(&self, candidates: &mut [&mut Candidate], prepared: &dyn Prepared, emit: Emit) -> Result<()> {
        let n = candidates.len();
        if n == 0 {
            return Ok(());
        }
        let size = 2 * self.device.info().l2_bytes as usize;
        let flush: Buffer = self.device.alloc(size, "what empties the cache")?;
        let graphs = candidates
            .iter()
            .map(|c| self.capture(&c.what, prepared, 1))
            .collect::<Result<Vec<Graph>>>()?;
        for turn in 0..self.budget.cold_samples {
            for i in 0..n {
                let at = (turn + i) % n;
                candidates[at].what.start(Phase::Time, emit)?;
                // Another byte each time. The launch is queued while this runs, so the host's time does not show.
                self.device.fill(self.stream, &flush, turn as u8)?;
                let us = self.time(&graphs[at])?;
                candidates[at].cold.push(us);
            }
        }
        Ok(())
    }
}

/// The device's state, as records have it.
pub fn clocks(device: &Device) -> Clocks {
    let state: ClockState = device.clock_state().unwrap_or_default();
    Clocks {
        sm_mhz: state.sm_mhz,
        temp_c: state.temperature_c,
        power_w: state.power_w,
        throttle: state.throttled_by().into_iter().map(String::from).collect(),
    }
}
