//! One case of a sweep, in the worker: prepare, check every config's bytes, then time those that held.

use std::time::Instant;

use anyhow::{Result, bail};
use host::device::{Device, Stream};
use host::op::{
    CheckError, Compared, ConfigInfo, Expected, Mismatch, OpError, Prepared, Want, check_after, cpu_answer,
};
use host::results::FirstBad;

use super::child::{Emit, exit_if, operation};
use super::plant::{self, Planted};
use super::protocol::{Event, Outcome, Phase, Spent, SweepJob};
use super::standing::Standing;
use super::timing::{self, Bench, Budget};

/// Fewest copies of the operands that launches rotate over: of operands larger than twice the L2 cache, between two uses of one
/// copy the other has passed through it.
const MIN_COPIES: u64 = 2;
/// Most: beyond it preparing takes longer than timing. A case so small is warm in L2 whatever one does.
const MAX_COPIES: u64 = 256;

/// Runs the job.
///
/// # Errors
/// What keeps the case as a whole from running. What goes wrong with one config is an event.
pub fn run(device: &Device, job: &SweepJob, standing: &mut Standing, emit: Emit) -> Result<()> {
    if job.time && device.info().is_simulator {
        bail!("the simulator is not timed: its times say nothing of a GPU's");
    }
    let op = operation(&job.case.op)?;
    let known = op.configs();
    let configs: Vec<&ConfigInfo> = job
        .configs
        .iter()
        .filter_map(|id| known.iter().find(|c| c.id == *id))
        .collect();
    if configs.len() != job.configs.len() {
        bail!("{} has not all of the configs {}", job.case.op, job.configs.join(", "));
    }
    emit(Event::Start {
        config: "*".into(),
        phase: Phase::Prepare,
    })?;
    let mut spent = Spent::default();
    let mut since = Instant::now();
    let mut lap = || std::mem::replace(&mut since, Instant::now()).elapsed().as_secs_f64();
    let copies = if job.time { copies(device, job, op)? } else { 1 };
    let mut prepared = Planted::new(op.prepare(device, &job.case, job.seed, copies)?);
    let tuned = configs.iter().any(|c| !c.plain);
    let against = references(device, job.checks, tuned, &mut prepared)?;
    let stream = device.stream()?;
    spent.prepare_s = lap();
    let mut held = Vec::new();
    for config in configs {
        emit(Event::Start {
            config: config.id.clone(),
            phase: Phase::Check,
        })?;
        plant::act(&config.id);
        let (outcome, lost) = match plant::fault(&config.id) {
            Some(message) => (Outcome::Failed { message }, true),
            None => check_all(device, &mut prepared, config, &stream, &against),
        };
        if matches!(outcome, Outcome::Held { .. }) {
            held.push(config);
        }
        emit(Event::Checked {
            config: config.id.clone(),
            outcome,
        })?;
        exit_if(lost);
    }
    spent.check_s = lap();
    if job.time && !held.is_empty() {
        let budget = Budget::of(job.quick);
        let Standing { peers, patience } = standing;
        let peers = if job.peer {
            peers.get(device, emit)?.0.as_slice()
        } else {
            &[]
        };
        let mut bench = Bench::new(device, &stream, budget, copies, patience)?;
        timing::time_all(&mut bench, &mut prepared, &held, peers, job.cold, &against, emit)?;
    }
    spent.time_s = lap();
    emit(Event::Spent(spent))
}

/// Copies of the weights so that what the launches read exceeds twice the L2 cache before any of it is read again, as far
/// as half the memory allows.
fn copies(device: &Device, job: &SweepJob, op: &dyn host::op::Operation) -> Result<usize> {
    let info = device.info();
    let Some(first) = job.configs.first() else { return Ok(1) };
    let work = op.work(&job.case, first, info.sms)?;
    let bytes = work.read_bytes.max(1);
    let fits = (info.memory_bytes as u64 / 2 / work.bytes().max(1)).max(1);
    let wanted = (2 * u64::from(info.l2_bytes) / bytes + 1).clamp(MIN_COPIES, MAX_COPIES);
    Ok(wanted.min(fits) as usize)
}

/// Makes the references. On a GPU the plain kernel always is one of `tuned` configs, and the CPU where the case is
/// small enough, or by a sample. On the simulator the plain kernel is simulated as well, so it is taken where the checks are
/// on (small cases) or where the CPU has not the whole answer. A plain config has the CPU alone.
pub fn references(device: &Device, checks: bool, tuned: bool, prepared: &mut dyn Prepared) -> Result<References> {
    let mut against = References::new();
    let mut whole = false;
    if let Ok(answer) = cpu_answer(prepared)? {
        whole = answer.0 == Expected::CpuReference;
        against.push(answer);
    }
    if tuned && (!whole || !device.info().is_simulator || checks) {
        against.push((Expected::PlainKernel, Want::Whole(prepared.plain()?.to_vec())));
    }
    Ok(against)
}

/// What outputs are compared with.
pub type References = Vec<(Expected, Want)>;

/// The name in records of the CPU reference where it gave a sample of the output.
pub const SAMPLED: &str = "cpu_sampled";

/// The name of a reference in records.
pub fn reference_name(e: Expected) -> String {
    match e {
        Expected::CpuReference => "cpu".into(),
        Expected::CpuSampled => SAMPLED.into(),
        Expected::PlainKernel => "plain".into(),
    }
}

/// Runs one config and compares it with every reference; also whether the device is lost.
pub fn check_all(
    device: &Device,
    prepared: &mut dyn Prepared,
    config: &ConfigInfo,
    stream: &Stream,
    against: &References,
) -> (Outcome, bool) {
    check_run(device, prepared, config, against, |prepared| {
        (0..prepared.copies()).try_for_each(|copy| prepared.launch(&config.id, stream, copy))
    })
}

/// As [`check_all`], with the launches left to `run`.
pub fn check_run(
    device: &Device,
    prepared: &mut dyn Prepared,
    config: &ConfigInfo,
    against: &References,
    run: impl FnOnce(&dyn Prepared) -> Result<(), OpError>,
) -> (Outcome, bool) {
    match check_after(device, prepared, config, against, run) {
        Ok(compared) => (held(&compared), false),
        Err(CheckError::Mismatch { mismatch, against, .. }) => {
            let message = format!("against the {against}: {mismatch}");
            let first_bad = first_bad(&reference_name(against), &mismatch, prepared);
            let against = vec![reference_name(against)];
            (
                Outcome::Wrong {
                    against,
                    first_bad,
                    message,
                },
                false,
            )
        }
        Err(CheckError::Op(e)) => {
            let lost = matches!(&e, OpError::Device(d) if d.is_fatal());
            (Outcome::Failed { message: e.to_string() }, lost)
        }
    }
}

/// A check that held, as events have it.
pub fn held(compared: &Compared) -> Outcome {
    Outcome::Held {
        against: compared.against.iter().map(|e| reference_name(*e)).collect(),
        compared: compared.elements,
        elements: compared.of,
    }
}

/// A mismatch as records have it.
pub fn first_bad(against: &str, m: &Mismatch, prepared: &dyn Prepared) -> FirstBad {
    FirstBad {
        against: against.into(),
        index: prepared.elements(0..m.index + 1).saturating_sub(1),
        got: m.got.clone(),
        want: m.expected.clone(),
    }
}
