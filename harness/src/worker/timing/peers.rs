//! The peers of a case: their algorithms tried, the fastest of them timed beside the configs, their bytes compared.
//!
//! A peer that fails costs itself alone. One that takes the device with it ends the worker while the parent has heard that a
//! peer was running, and the parent goes on without peers.

use anyhow::Result;
use host::device::DeviceError;
use host::op::{Case, ConfigInfo, OpError, Order, Prepared};
use host::peer::{Peer, PeerError, PeerRun};
use host::results::PeerRun as PeerRecord;

use super::super::child::{Emit, exit_if};
use super::super::protocol::{Event, Outcome, PeerTimed, Phase};
use super::super::sweep_job::{References, check_run};
use super::bench::{Bench, Candidate, Stage, What};

/// Algorithms within this factor of the fastest are sampled once more.
const NEAR: f64 = 1.1;

/// A peer that takes the case.
pub struct Rival<'p> {
    peer: &'p dyn Peer,
    run: Box<dyn PeerRun + 'p>,
}

/// The peers that take the case. Of the others that are peers of its operation, results are emitted here.
///
/// # Errors
/// The parent is gone.
pub fn prepare<'p>(peers: &'p [Box<dyn Peer>], case: &Case, emit: Emit) -> Result<Vec<Rival<'p>>> {
    let mut taken = Vec::new();
    let concerned = |peer: &&dyn Peer| peer.operations().contains(&case.op.as_str());
    for peer in peers.iter().map(AsRef::as_ref).filter(concerned) {
        emit(Event::Start {
            config: peer.name().into(),
            phase: Phase::Peer,
        })?;
        let refused = peer.supports(case).err();
        match refused {
            Some(why) => failed(record(peer), why, true, emit)?,
            None => match peer.prepare(case) {
                Ok(run) => taken.push(Rival { peer, run }),
                Err(e) => {
                    lost(&e);
                    let is_refusal = matches!(e, PeerError::Refused { .. });
                    failed(record(peer), e.to_string(), is_refusal, emit)?;
                }
            },
        }
    }
    Ok(taken)
}

fn record(peer: &dyn Peer) -> PeerRecord {
    PeerRecord {
        name: peer.name().into(),
        version: peer.version().into(),
        ..PeerRecord::default()
    }
}

fn failed(run: PeerRecord, why: String, refused: bool, emit: Emit) -> Result<()> {
    let outcome = Err(why);
    emit(Event::Peer(Box::new(PeerTimed { run, outcome, refused })))
}

/// Ends the worker where a peer's error has taken the device.
fn lost(e: &PeerError) {
    exit_if(matches!(e, PeerError::Device(d) if d.is_fatal()));
}

/// Tells the parent that a peer runs, runs it, and ends the worker where that cost the device.
///
/// # Errors
/// The peer's.
pub fn guard<T>(what: &What, emit: Emit, run: impl FnOnce() -> Result<T>) -> Result<T> {
    what.start(Phase::Peer, emit)?;
    run().inspect_err(|e| {
        if let Some(e) = e.downcast_ref::<PeerError>() {
            lost(e);
        }
        exit_if(e.downcast_ref::<DeviceError>().is_some_and(DeviceError::is_fatal));
    })
}

/// Each peer by the fastest of its algorithms: all of them are sampled as in the short round, and those near the fastest once more
/// in replays of full length. Algorithms that fail are passed over; of a peer of which all fail the result is emitted.
///
/// # Errors
/// The parent is gone.
pub fn warm<'r>(bench: &Bench, rivals: &'r [Rival], prepared: &dyn Prepared, emit: Emit) -> Result<Vec<Candidate<'r>>> {
    let mut warmed = Vec::new();
    for (index, rival) in rivals.iter().enumerate() {
        let mut tried: Vec<Candidate> = Vec::new();
        let mut best = f64::INFINITY;
        let mut why = "it offers no algorithm".to_string();
        for algorithm in 0..rival.run.algorithms().len() {
            let run = rival.run.as_ref();
            let what = What::Peer {
                name: rival.peer.name(),
                index,
                run,
                algorithm,
            };
            let sampled = guard(&what, emit, || {
                // Once outside of a graph: libraries load kernels at their first launch, which a capture does not allow.
                run.launch(algorithm, bench.stream, prepared, 0)?;
                bench.device.synchronize()?;
                bench.short(what, prepared, best)
            });
            match sampled {
                Ok(candidate) => {
                    best = best.min(candidate.least());
                    tried.push(candidate);
                }
                Err(e) => why = format!("{}: {e:#}", rival.run.algorithms()[algorithm]),
            }
        }
        tried.retain(|c| c.least() <= NEAR * best);
        let mut near = Vec::new();
        for mut c in tried {
            let what = c.what;
            match guard(&what, emit, || bench.warm(&mut c, prepared)) {
                Ok(()) => near.push(c),
                Err(e) => why = format!("{e:#}"),
            }
        }
        match near.into_iter().min_by(|a, b| a.median().total_cmp(&b.median())) {
            Some(candidate) => warmed.push(candidate),
            None => failed(record(rival.peer), why, false, emit)?,
        }
    }
    Ok(warmed)
}

/// The least median among the peers with samples of a stage.
pub fn fastest(rivals: &[Candidate], stage: Stage) -> Option<f64> {
    let of_stage = rivals.iter().filter(|c| c.stage == stage);
    of_stage.map(Candidate::median).min_by(f64::total_cmp)
}

/// Emits the peers' times, with what became of their bytes.
///
/// # Errors
/// The parent is gone; the device's.
pub fn report(
    bench: &Bench,
    prepared: &mut dyn Prepared,
    warmed: &[Candidate],
    rivals: &[Rival],
    against: &References,
    emit: Emit,
) -> Result<()> {
    for c in warmed {
        let What::Peer { index, algorithm, .. } = c.what else {
            continue;
        };
        let rival = &rivals[index];
        let names = rival.run.algorithms();
        let (outcome, lost) = guard(&c.what, emit, || {
            Ok(check_run(
                bench.device,
                prepared,
                &stand_in(rival.peer.name()),
                against,
                |_| Ok::<(), OpError>(c.graph.launch(bench.stream)?),
            ))
        })?;
        exit_if(lost);
        let mut run = PeerRecord {
            algorithm: names[algorithm].clone(),
            tried: u32::try_from(names.len()).unwrap_or(u32::MAX),
            ..record(rival.peer)
        };
        let mut measured = c.measured().map_err(|e| e.to_string());
        match outcome {
            Outcome::Held { .. } => run.bytes_equal = Some(true),
            Outcome::Wrong { first_bad, .. } => {
                run.bytes_equal = Some(false);
                run.first_bad = Some(first_bad);
            }
            Outcome::Failed { message } => measured = Err(message),
        }
        emit(Event::Peer(Box::new(PeerTimed {
            run,
            outcome: measured,
            refused: false,
        })))?;
    }
    Ok(())
}

/// What a check takes for a config: one in the canonical order, so that every reference is asked.
fn stand_in(name: &str) -> ConfigInfo {
    ConfigInfo {
        id: name.into(),
        family: "",
        kernel: "",
        order: Order::Canonical,
        threads: 0,
        shared_bytes: 0,
        min_blocks: 0,
        archs: &[],
        plain: false,
    }
}
