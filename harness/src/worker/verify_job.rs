//! One random case, in the worker: every implementation of it must give the same bytes.

use anyhow::Result;
use host::device::{Device, SimtOptions};
use host::op::{Expected, Order, compare_bytes};

use super::child::{Emit, exit_if, operation};
use super::plant::{self, Planted};
use super::protocol::{Event, Outcome, Phase, VerifyJob};
use super::sweep_job::{check_all, first_bad, references};
use host::op::Prepared;

/// The plain kernel's name among the configs of a case.
pub const PLAIN: &str = "plain kernel";
/// The name of a tuned kernel run on the simulator beside the GPU.
pub const SIMULATOR: &str = "simulator";

/// Runs the job: plain kernel against CPU reference, every config against both, and on request one config on the simulator
/// against the GPU's plain kernel.
///
/// # Errors
/// What keeps the case as a whole from running.
pub fn run(device: &Device, job: &VerifyJob, emit: Emit) -> Result<()> {
    let op = operation(&job.case.op)?;
    emit(Event::Start {
        config: "*".into(),
        phase: Phase::Prepare,
    })?;
    let mut prepared = Planted::new(op.prepare(device, &job.case, job.seed, 1)?);
    let against = references(device, true, &mut prepared)?;
    let bytes_of = |wanted| {
        against
            .iter()
            .find(|(e, _)| *e == wanted)
            .map(|(_, bytes)| bytes.as_slice())
    };
    let plain = prepared.plain()?.to_vec();
    if let Some(cpu) = bytes_of(Expected::CpuReference) {
        let outcome = equal(cpu, &plain, "cpu", &prepared);
        emit(Event::Checked {
            config: PLAIN.into(),
            outcome,
        })?;
    }
    let stream = device.stream()?;
    let known = op.configs();
    for config in known.iter().filter(|c| job.configs.contains(&c.id)) {
        emit(Event::Start {
            config: config.id.clone(),
            phase: Phase::Check,
        })?;
        plant::act(&config.id);
        let mut outcome = Outcome::Held { against: Vec::new() };
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
        emit(Event::Checked {
            config: config.id.clone(),
            outcome,
        })?;
    }
    if job.with_simulator {
        let canonical: Vec<_> = known
            .iter()
            .filter(|c| c.order == Order::Canonical && job.configs.contains(&c.id))
            .collect();
        if !canonical.is_empty() {
            let config = canonical[job.index as usize % canonical.len()];
            emit(Event::Start {
                config: SIMULATOR.into(),
                phase: Phase::Check,
            })?;
            let simulator = Device::simt_with(SimtOptions {
                seed: Some(job.seed ^ job.index),
                ..SimtOptions::default()
            });
            let mut simulated = op.prepare(&simulator, &job.case, job.seed, 1)?;
            simulated.poison()?;
            simulated.launch(&config.id, &simulator.stream()?, 0)?;
            let outcome = equal(&plain, &simulated.output(0)?, "plain", &prepared);
            emit(Event::Checked {
                config: format!("{SIMULATOR} {}", config.id),
                outcome,
            })?;
        }
    }
    Ok(())
}

fn equal(want: &[u8], got: &[u8], against: &str, prepared: &dyn Prepared) -> Outcome {
    match compare_bytes(want, got) {
        Ok(()) => Outcome::Held {
            against: vec![against.into()],
        },
        Err(m) => {
            let m = m.at(|byte| prepared.coords(byte));
            let message = format!("against {against}: {m}");
            Outcome::Wrong {
                against: vec![against.into()],
                first_bad: first_bad(against, &m),
                message,
            }
        }
    }
}
