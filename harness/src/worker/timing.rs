//! Timing on a GPU: device events around replays of a graph of launches over rotating copies of the operands.
//!
//! 1. A short round of every config. One that is more than [`PRUNE_RATIO`] times behind the best is dropped, and says so.
//! 2. The main round: one replay of each remaining config after another, [`MAIN_SAMPLES`] times, with a rotating start,
//!    so that a drift of the clock meets all of them alike.
//! 3. The final round: those within [`FINAL_RATIO`] of the best again. Their times are of this round alone, so that a
//!    winner is not one by the luck of the main round.
//!
//! Before a config's times are given out, its graph runs once more on poisoned outputs and every copy's bytes are compared:
//! what was timed is what was right, launched just so, and a config whose bytes do not hold gets no time.
//!
//! A sample is the time of one replay over its launches. A round in which the GPU was throttled is repeated, at most
//! [`RETRIES`] times, then kept and marked.

use anyhow::Result;
use host::device::{ClockState, Device, DeviceError, Event as DeviceEvent, Graph, Stream};
use host::op::{ConfigInfo, OpError, Prepared};
use host::results::{Clocks, Times};

use super::child::{Emit, exit_if};
use super::protocol::{Event, Outcome, Phase, Timed};
use super::sweep_job::{References, check_run};

/// A config slower than the best by more than this factor in the short round is dropped.
const PRUNE_RATIO: f64 = 1.5;
/// Configs within this factor of the best are timed again.
const FINAL_RATIO: f64 = 1.05;
/// At most so many of them.
const MAX_FINALISTS: usize = 4;
const SHORT_SAMPLES: usize = 3;
const MAIN_SAMPLES: usize = 15;
const FINAL_SAMPLES: usize = 21;
/// A replay should take about this long, so that the events' own cost (about a microsecond) does not show.
const REPLAY_US: f64 = 1000.0;
/// Nodes of a graph at most.
const MAX_LAUNCHES: usize = 512;
/// Repeats of a round that was throttled.
const RETRIES: usize = 2;

struct Candidate<'c> {
    config: &'c ConfigInfo,
    graph: Graph,
    launches: usize,
    samples: Vec<f64>,
    clocks: Clocks,
}

/// Times every config and emits its result.
///
/// # Errors
/// The device's; then the whole case has no times.
pub fn time_all(
    device: &Device,
    prepared: &mut dyn Prepared,
    stream: &Stream,
    configs: &[&ConfigInfo],
    against: &References,
    emit: Emit,
) -> Result<()> {
    let copies = prepared.copies();
    let events = (device.event()?, device.event()?);
    let mut candidates = Vec::new();
    for &config in configs {
        emit(Event::Start {
            config: config.id.clone(),
            phase: Phase::Time,
        })?;
        let graph = capture(device, prepared, stream, &config.id, copies)?;
        let mut short = Candidate {
            config,
            graph,
            launches: copies,
            samples: Vec::new(),
            clocks: Clocks::default(),
        };
        sample(&mut short, stream, &events)?;
        short.samples.clear();
        for _ in 0..SHORT_SAMPLES {
            sample(&mut short, stream, &events)?;
        }
        candidates.push(short);
    }
    let send = |c: &Candidate, pruned: Option<String>, finalist: bool, prepared: &mut dyn Prepared, emit: Emit| {
        emit(Event::Start {
            config: c.config.id.clone(),
            phase: Phase::Check,
        })?;
        // What is updated in place changes with every launch: then each copy is launched once, from a graph all the same.
        let once = if prepared.repeatable() {
            None
        } else {
            Some(capture(device, prepared, stream, &c.config.id, copies)?)
        };
        let graph = once.as_ref().unwrap_or(&c.graph);
        let (outcome, lost) = check_run(device, prepared, c.config, against, |_| Ok(graph.launch(stream)?));
        if !matches!(outcome, Outcome::Held { .. }) {
            emit(Event::Checked {
                config: c.config.id.clone(),
                outcome,
            })?;
            exit_if(lost);
            return Ok(());
        }
        let Some(times) = Times::from_samples(&c.samples) else {
            anyhow::bail!("{}: the device's events gave no finite time", c.config.id);
        };
        let timed = Timed {
            times,
            clocks: c.clocks.clone(),
            pruned,
            finalist,
            copies,
        };
        emit(Event::Timed {
            config: c.config.id.clone(),
            timed,
        })
    };
    let best = candidates.iter().map(least).fold(f64::INFINITY, f64::min);
    let (mut kept, behind): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|c| least(c) <= PRUNE_RATIO * best);
    for mut c in behind {
        c.clocks = clocks(device);
        let why = format!(
            "dropped after {SHORT_SAMPLES} samples: {:.1} times the fastest",
            least(&c) / best
        );
        send(&c, Some(why), false, prepared, emit)?;
    }
    for c in &mut kept {
        let launches = launches(least(c), copies);
        if launches > c.launches {
            c.graph = capture(device, prepared, stream, &c.config.id, launches)?;
            c.launches = launches;
            sample(c, stream, &events)?;
        }
    }
    round(device, &mut kept, stream, &events, MAIN_SAMPLES, emit)?;
    kept.sort_by(|a, b| median(a).total_cmp(&median(b)));
    let best = kept.first().map_or(0.0, median);
    let near = kept
        .iter()
        .take_while(|c| median(c) <= FINAL_RATIO * best)
        .count()
        .min(MAX_FINALISTS);
    let finalists = if near > 1 { near } else { 0 };
    round(device, &mut kept[..finalists], stream, &events, FINAL_SAMPLES, emit)?;
    for (i, c) in kept.iter().enumerate() {
        send(c, None, i < finalists, prepared, emit)?;
    }
    Ok(())
}

/// Launches of a replay for a launch of `us`: whole turns over the copies, for a replay begins with the first copy, which
/// must not have been among the last of the replay before.
fn launches(us: f64, copies: usize) -> usize {
    let wanted = (REPLAY_US / us).ceil().max(1.0) as usize;
    let most = (MAX_LAUNCHES / copies).max(1);
    wanted.div_ceil(copies).min(most) * copies
}

fn least(c: &Candidate) -> f64 {
    c.samples.iter().copied().fold(f64::INFINITY, f64::min)
}

fn median(c: &Candidate) -> f64 {
    Times::from_samples(&c.samples).map_or(f64::INFINITY, |t| t.median_us)
}

/// A graph of `launches` launches over the copies in turn.
fn capture(
    device: &Device,
    prepared: &dyn Prepared,
    stream: &Stream,
    config: &str,
    launches: usize,
) -> Result<Graph, OpError> {
    device.capture_of(stream, || {
        (0..launches).try_for_each(|i| prepared.launch(config, stream, i % prepared.copies()))
    })
}

fn sample(c: &mut Candidate, stream: &Stream, events: &(DeviceEvent, DeviceEvent)) -> Result<(), DeviceError> {
    events.0.record(stream)?;
    c.graph.launch(stream)?;
    events.1.record(stream)?;
    events.1.synchronize()?;
    c.samples
        .push(DeviceEvent::elapsed_us(&events.0, &events.1)? / c.launches as f64);
    Ok(())
}

fn round(
    device: &Device,
    candidates: &mut [Candidate],
    stream: &Stream,
    events: &(DeviceEvent, DeviceEvent),
    samples: usize,
    emit: Emit,
) -> Result<()> {
    let n = candidates.len();
    for attempt in 0..=RETRIES {
        candidates.iter_mut().for_each(|c| c.samples.clear());
        for turn in 0..samples {
            for i in 0..n {
                let c = &mut candidates[(turn + i) % n];
                // Every time, so that a hang is blamed on the config that hangs.
                emit(Event::Start {
                    config: c.config.id.clone(),
                    phase: Phase::Time,
                })?;
                sample(c, stream, events)?;
            }
        }
        let now = clocks(device);
        let throttled = !now.throttle.is_empty();
        candidates.iter_mut().for_each(|c| c.clocks = now.clone());
        if !throttled || n == 0 || attempt == RETRIES {
            break;
        }
        emit(Event::Alive)?;
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    Ok(())
}

fn clocks(device: &Device) -> Clocks {
    let state: ClockState = device.clock_state().unwrap_or_default();
    Clocks {
        sm_mhz: state.sm_mhz,
        temp_c: state.temperature_c,
        power_w: state.power_w,
        throttle: state.throttled_by().into_iter().map(String::from).collect(),
    }
}

#[cfg(test)]
#[path = "timing_tests.rs"]
mod tests;
