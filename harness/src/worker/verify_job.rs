//! One random case, in the worker: every implementation of it must give the same bytes, and parts of it by themselves too.

use anyhow::Result;
use host::device::{Device, SimtOptions, Stream};
use host::op::{Compared, ConfigInfo, Expected, Mismatch, Operation, Order, Prepared, Want};

use super::child::{Emit, exit_if, operation};
use super::plant::{self, Planted};
use super::protocol::{Event, Outcome, Phase, VerifyJob};
use super::sweep_job::{References, check_all, check_run, first_bad, held, reference_name, references};

/// The plain kernel's name among the configs of a case.
pub const PLAIN: &str = "plain kernel";
/// The name of a tuned kernel run on the simulator beside the GPU.
pub const SIMULATOR: &str = "simulator";
/// On the simulator, every so manyth case of a config is replayed from a graph.
const REPLAY_SHARE: u64 = 8;
/// What a part of a case is compared with: its bytes in the whole.
const WHOLE: &str = "the whole";

/// Runs the job: plain kernel against CPU reference, every config against both and in parts by itself, and on request one
/// config on the simulator against the GPU's.
///
/// # Errors
/// What keeps the case as a whole from running.
pub fn run(device: &Device, job: &VerifyJob, emit: Emit) -> Result<()> {
    let op = operation(&job.case.op)?;
    emit(Event::Start {
        config: "*".into(),
        phase: Phase::Prepare,
    })?;
    let known = op.configs();
    let chosen: Vec<&ConfigInfo> = known.iter().filter(|c| job.configs.contains(&c.id)).collect();
    let mut prepared = Planted::new(op.prepare(device, &job.case, job.seed, 1)?);
    let tuned = chosen.iter().any(|c| !c.plain);
    let against = references(device, true, tuned, &mut prepared)?;
    // Where the plain kernel is a config of its own, it is checked as one.
    if !known.iter().any(|c| c.plain) {
        let plain = prepared.plain()?.to_vec();
        if let Some((e, cpu)) = against.iter().find(|(e, _)| *e != Expected::PlainKernel) {
            emit(Event::Checked {
                config: PLAIN.into(),
                outcome: equal(*e, cpu, &plain, &prepared),
            })?;
        }
    }
    let stream = device.stream()?;
    let simulator = device.info().is_simulator;
    for (position, config) in chosen.iter().enumerate() {
        emit(Event::Start {
            config: config.id.clone(),
            phase: Phase::Check,
        })?;
        plant::act(&config.id);
        let mut outcome = held(&Compared::default());
        for _ in 0..job.repeat.max(1) {
            let (this, lost) = check_all(device, &mut prepared, config, &stream, &against);
            outcome = this;
            if lost {
                emit(Event::Checked {
                    config: config.id.clone(),
                    outcome: outcome.clone(),
                })?;
            }
            exit_if(lost);
            if !matches!(outcome, Outcome::Held { .. }) {
                break;
            }
        }
        let right = matches!(outcome, Outcome::Held { .. });
        // First: the verdict on the config itself ends its turn.
        let mut lost = false;
        if right {
            alone(&mut prepared, &config.id, &stream, emit)?;
            // A replay costs the simulator as much as the launch did: each config has its turn.
            if !simulator || (job.index + position as u64).is_multiple_of(REPLAY_SHARE) {
                lost = replayed(device, &mut prepared, config, &stream, &against, emit)?;
            }
        }
        emit(Event::Checked {
            config: config.id.clone(),
            outcome,
        })?;
        exit_if(lost);
    }
    if job.with_simulator {
        on_simulator(op, &mut prepared, job, &chosen, emit)?;
    }
    Ok(())
}

/// A graph of the launch, replayed once: an event `CONFIG, graph replay`. Whether the device is lost.
fn replayed(
    device: &Device,
    prepared: &mut Planted,
    config: &ConfigInfo,
    stream: &Stream,
    against: &References,
    emit: Emit,
) -> Result<bool> {
    let graph = device.capture_of(stream, || prepared.launch(&config.id, stream, 0));
    let (outcome, lost) = match graph {
        Ok(graph) => check_run(device, prepared, config, against, |_| Ok(graph.launch(stream)?)),
        Err(error) => {
            let message = format!("capture: {error}");
            (Outcome::Failed { message }, false)
        }
    };
    emit(Event::Checked {
        config: format!("{}, graph replay", config.id),
        outcome,
    })?;
    Ok(lost)
}

/// Parts of the case by themselves: an event for each kind of part, `CONFIG, row alone`.
fn alone(prepared: &mut Planted, config: &str, stream: &Stream, emit: Emit) -> Result<()> {
    let mut outcomes: Vec<(&'static str, Outcome)> = Vec::new();
    for check in prepared.alone(config, stream)? {
        let elements = prepared.elements(0..check.compared);
        let outcome = match check.outcome {
            Ok(()) => Outcome::Held {
                against: vec![WHOLE.into()],
                compared: elements,
                elements,
            },
            Err(m) => wrong(WHOLE, &m, prepared),
        };
        // Several parts of one kind are one line; the first that is wrong stands for them.
        match outcomes.iter_mut().find(|(name, _)| *name == check.name) {
            None => outcomes.push((check.name, outcome)),
            Some((_, known)) if matches!(known, Outcome::Held { .. }) => *known = outcome,
            Some(_) => {}
        }
    }
    for (name, outcome) in outcomes {
        emit(Event::Checked {
            config: format!("{config}, {name}"),
            outcome,
        })?;
    }
    Ok(())
}

/// One canonical config on the simulator, against the plain kernel on this device.
fn on_simulator(
    op: &dyn Operation,
    prepared: &mut Planted,
    job: &VerifyJob,
    chosen: &[&ConfigInfo],
    emit: Emit,
) -> Result<()> {
    let canonical: Vec<_> = chosen.iter().filter(|c| c.order == Order::Canonical).collect();
    let Some(config) = canonical.get(job.index as usize % canonical.len().max(1)) else {
        return Ok(());
    };
    emit(Event::Start {
        config: SIMULATOR.into(),
        phase: Phase::Check,
    })?;
    let here = prepared.plain()?.to_vec();
    let simulator = Device::simt_with(SimtOptions {
        seed: Some(job.seed ^ job.index),
        ..SimtOptions::default()
    });
    let mut simulated = op.prepare(&simulator, &job.case, job.seed, 1)?;
    simulated.poison()?;
    simulated.launch(&config.id, &simulator.stream()?, 0)?;
    let outcome = equal(
        Expected::PlainKernel,
        &Want::Whole(here),
        &simulated.output(0)?,
        prepared,
    );
    emit(Event::Checked {
        config: format!("{SIMULATOR} {}", config.id),
        outcome,
    })
}

fn equal(against: Expected, want: &Want, got: &[u8], prepared: &dyn Prepared) -> Outcome {
    match want.compare(got) {
        Ok(()) => held(&Compared {
            against: vec![against],
            elements: want.elements(prepared, got.len()),
            of: prepared.elements(0..got.len()),
        }),
        Err(m) => wrong(&reference_name(against), &m.at(|byte| prepared.coords(byte)), prepared),
    }
}

fn wrong(against: &str, m: &Mismatch, prepared: &dyn Prepared) -> Outcome {
    Outcome::Wrong {
        against: vec![against.into()],
        first_bad: first_bad(against, m, prepared),
        message: format!("against {against}: {m}"),
    }
}
