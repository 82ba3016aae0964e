//! Drives a worker through the configs of one case after another, whatever becomes of the worker.

use std::time::Duration;

use anyhow::{Result, bail};
use host::device::DeviceSpec;

use crate::worker::protocol::{Event, Opened, Outcome, PeerFound, PeerTimed, Phase, Request, Spent, Timed};
use crate::worker::{Heard, Worker};

/// Deaths of the worker that no config is to blame for, before a case is given up.
const UNEXPLAINED_DEATHS: u32 = 2;

/// What became of one config.
#[derive(Debug)]
pub enum Fate {
    /// Its bytes were compared, or it failed to run.
    Checked(Outcome),
    /// It was timed.
    Timed(Box<Timed>),
    /// The worker died or could not go on; the reason has its last words.
    Died(String),
    /// The worker was silent too long and was killed.
    TimedOut(String),
    /// Of a peer, whose name is in the config's place.
    Peer(Box<PeerTimed>),
    /// Of the case, under the name `*`.
    Spent(Spent),
}

/// A worker that is replaced when it dies.
pub struct Driver {
    spec: String,
    limit: Duration,
    worker: Option<Worker>,
    opened: Opened,
    /// A peer has ended a worker: they are left out from then on.
    no_peers: bool,
}

impl Driver {
    /// Starts a worker and waits until its device is open.
    ///
    /// # Errors
    /// No worker, or the device does not open.
    pub fn open(spec: &DeviceSpec, limit: Duration) -> Result<Driver> {
        let (worker, opened) = start(&spec.to_string(), limit)?;
        // A worker that replaces this one must not fall back to another device.
        let spec = match (spec, opened.simulator) {
            (_, true) => DeviceSpec::Simt,
            (DeviceSpec::Auto, false) => DeviceSpec::Cuda(0),
            (other, false) => *other,
        };
        Ok(Driver {
            spec: spec.to_string(),
            limit,
            worker: Some(worker),
            opened,
            no_peers: false,
        })
    }

    /// The device.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// The device's name on the command line: `cuda:0`, `simt`.
    pub fn spec(&self) -> &str {
        &self.spec
    }

    /// The device's copy rate in GB/s; none on the simulator.
    ///
    /// # Errors
    /// The worker failed.
    pub fn copy_rate(&mut self) -> Result<Option<f64>> {
        let mut rate = None;
        self.ask(&Request::CopyRate, "measured the copy rate", &mut |event| {
            if let Event::CopyRate(r) = event {
                rate = r;
            }
        })?;
        Ok(rate)
    }

    /// The peer libraries there are for the device, and why the others are not there. Where looking for them ends the worker,
    /// there are none, and the case goes on without.
    ///
    /// # Errors
    /// A worker cannot be started.
    pub fn peers(&mut self) -> Result<(Vec<PeerFound>, Vec<String>)> {
        let mut told = (Vec::new(), Vec::new());
        let asked = self.ask(&Request::Peers, "looked for peers", &mut |event| {
            if let Event::Peers { found, missing } = event {
                told = (found, missing);
            }
        });
        if let Err(e) = asked {
            self.no_peers = true;
            self.worker()?;
            return Ok((Vec::new(), vec![format!("{e:#}")]));
        }
        Ok(told)
    }

    /// Makes a request that is of no case, and hears it out.
    fn ask(&mut self, request: &Request, doing: &str, on: &mut dyn FnMut(Event)) -> Result<()> {
        let limit = self.limit;
        let worker = self.worker()?;
        worker.send(request)?;
        loop {
            match worker.hear(limit) {
                Heard::Event(e) => match *e {
                    Event::Done => return Ok(()),
                    Event::Failed { message } => bail!("the worker failed while it {doing}: {message}"),
                    other => on(other),
                },
                Heard::Timeout { stderr } | Heard::Died { stderr, .. } => {
                    self.worker = None;
                    bail!("the worker failed while it {doing}: {stderr}");
                }
            }
        }
    }

    /// Runs one case: `request` makes the request for the configs that are left, `on` hears each config's fates. A config
    /// is done when it was timed, or checked and not to be timed, or when it killed the worker; the others go on with a
    /// fresh one.
    ///
    /// # Errors
    /// A worker cannot be started at all; whatever `on` gives back.
    pub fn run(
        &mut self,
        configs: &[String],
        timed: bool,
        request: &dyn Fn(&[String]) -> Request,
        on: &mut dyn FnMut(&str, Fate) -> Result<()>,
    ) -> Result<()> {
        let mut left = configs.to_vec();
        let mut unexplained = 0;
        while !left.is_empty() {
            let limit = self.limit;
            let mut request = request(&left);
            if let Request::Sweep(job) = &mut request {
                job.peer &= !self.no_peers;
            }
            let worker = self.worker()?;
            worker.send(&request)?;
            let before = left.len();
            let Some((death, during)) = hear_case(worker, limit, timed, &mut left, on)? else {
                // The worker is well; what it said nothing of, it will not say on a second asking either.
                for config in left.drain(..) {
                    on(
                        &config,
                        Fate::Died("the worker ended the case without a word on this config".into()),
                    )?;
                }
                break;
            };
            self.worker = None;
            let fate = |phase: Phase| match &death {
                Heard::Timeout { stderr } => {
                    let silence = limit.as_secs();
                    Fate::TimedOut(with_tail(
                        format!("no sign of life for {silence} s while {phase}"),
                        stderr,
                    ))
                }
                Heard::Died { how, stderr } => Fate::Died(with_tail(format!("the worker {how} while {phase}"), stderr)),
                Heard::Event(_) => Fate::Died("the worker stopped".into()),
            };
            match during {
                Some((config, phase)) if left.contains(&config) => {
                    left.retain(|c| *c != config);
                    on(&config, fate(phase))?;
                }
                // A peer's end is no config's: the others are tried without peers, which do not get a second chance.
                Some((peer, Phase::Peer)) => {
                    self.no_peers = true;
                    let why = match fate(Phase::Peer) {
                        Fate::TimedOut(why) | Fate::Died(why) => why,
                        other => format!("{other:?}"),
                    };
                    eprintln!("{peer} is left out from here on: {why}");
                }
                // A worker that ended after a config's verdict ended because of it (a fault takes the device along): the
                // others have not been tried.
                None if left.len() < before => {}
                during => {
                    unexplained += 1;
                    let phase = during.map_or(Phase::Check, |d| d.1);
                    if phase == Phase::Prepare || unexplained >= UNEXPLAINED_DEATHS {
                        for config in left.drain(..) {
                            on(&config, fate(phase))?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn worker(&mut self) -> Result<&mut Worker> {
        if self.worker.is_none() {
            let (worker, opened) = start(&self.spec, self.limit)?;
            if opened.name != self.opened.name {
                bail!(
                    "device {} was {} and is now {}",
                    self.spec,
                    self.opened.name,
                    opened.name
                );
            }
            self.worker = Some(worker);
        }
        match &mut self.worker {
            Some(w) => Ok(w),
            None => bail!("no worker"),
        }
    }
}

fn start(spec: &str, limit: Duration) -> Result<(Worker, Opened)> {
    let mut worker = Worker::spawn(spec)?;
    match worker.hear(limit) {
        Heard::Event(e) => match *e {
            Event::Ready(opened) => Ok((worker, opened)),
            other => bail!("a worker on {spec} began with {other:?}"),
        },
        Heard::Timeout { stderr } => bail!("device {spec} did not open within {} s. {stderr}", limit.as_secs()),
        Heard::Died { how, stderr } => {
            bail!(
                "device {spec} did not open: {}",
                // The worker reports as every command does; this process says `error:` itself.
                match stderr.strip_prefix("error: ").unwrap_or(&stderr) {
                    "" => &how,
                    words => words,
                }
            )
        }
    }
}

/// A worker's death, and the config and phase it was in.
type Death = (Heard, Option<(String, Phase)>);

/// Hears one request out; gives the death if there was one.
fn hear_case(
    worker: &mut Worker,
    limit: Duration,
    timed: bool,
    left: &mut Vec<String>,
    on: &mut dyn FnMut(&str, Fate) -> Result<()>,
) -> Result<Option<Death>> {
    let mut during: Option<(String, Phase)> = None;
    loop {
        let event = match worker.hear(limit) {
            Heard::Event(e) => *e,
            death => return Ok(Some((death, during))),
        };
        match event {
            Event::Start { config, phase } => during = Some((config, phase)),
            Event::Checked { config, outcome } => {
                during = None;
                if !timed || !matches!(outcome, Outcome::Held { .. }) {
                    left.retain(|c| *c != config);
                }
                on(&config, Fate::Checked(outcome))?;
            }
            Event::Timed { config, timed } => {
                left.retain(|c| *c != config);
                on(&config, Fate::Timed(timed))?;
            }
            Event::Peer(timed) => on(&timed.run.name.clone(), Fate::Peer(timed))?,
            Event::Spent(spent) => on("*", Fate::Spent(spent))?,
            Event::Failed { message } => {
                for config in left.drain(..) {
                    on(&config, Fate::Died(message.clone()))?;
                }
            }
            Event::Done => return Ok(None),
            Event::Alive | Event::Ready(_) | Event::CopyRate(_) | Event::Peers { .. } => {}
        }
    }
}

fn with_tail(what: String, stderr: &str) -> String {
    if stderr.is_empty() {
        what
    } else {
        format!("{what}; its last words: {stderr}")
    }
}
