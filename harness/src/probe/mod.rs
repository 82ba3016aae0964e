//! `harness probe`: asks the device's tensor cores what they compute, on random problems and at the corners, and compares every
//! output with the simulator's model, and a part of them with the reference's.

mod category;
mod corners;
mod device;
mod model;
mod problem;
mod report;
mod wgmma;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use host::device::{Device, DeviceSpec};
use host::reference::mma::Arch;
use simt::tensor::TensorCore;

use crate::exit::Exit;
use crate::sweep::progress;
use category::{Category, category};
use device::{Answer, Batch, Runner};
use problem::{Kind, Problem, problem};
use report::{Finding, Report, Tally};

/// What to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// `mma.sync` of bf16, f16 and int8
    Mma,
    /// `wgmma` of bf16, f16 (into f32 and f16) and int8, in all its forms
    Wgmma,
}

/// Which types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Types {
    /// bf16, f16 and s8
    All,
    /// bf16, accumulated in f32
    Bf16,
    /// f16, accumulated in f32
    F16,
    /// int8, accumulated in int32
    S8,
}

impl Types {
    fn kinds(self) -> &'static [Kind] {
        match self {
            Types::All => &[Kind::Bf16, Kind::F16, Kind::S8],
            Types::Bf16 => &[Kind::Bf16],
            Types::F16 => &[Kind::F16],
            Types::S8 => &[Kind::S8],
        }
    }
}

/// `harness probe`
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// What to probe
    pub what: What,
    /// Random problems of each type: 16 x 8 outputs each. An instruction of wgmma has 2 to 128
    #[arg(long, default_value_t = 100_000)]
    pub problems: u64,
    /// Seed of the problems
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Type of the factors
    #[arg(long = "type", value_enum, default_value_t = Types::All)]
    pub types: Types,
    /// auto, cuda, cuda:N or simt
    #[arg(long, default_value = "auto")]
    pub device: DeviceSpec,
    /// Instead of random problems, ask at the corners of the model and print the answers
    #[arg(long)]
    pub corners: bool,
    /// Write the first N problems (of wgmma: groups, up to 64 columns) of each type with the device's answers to files of the folder
    /// --out, for tests without a GPU
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub save: usize,
    /// Folder of the saved problems
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// Compare one problem of so many with the reference too; all are compared with the simulator's model
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..))]
    pub reference_share: u64,
    /// Write the outcome as JSON (`-` for stdout)
    #[arg(long, value_name = "PATH|-")]
    pub json: Option<PathBuf>,
}

/// Problems of one launch.
const BATCH: u64 = 1 << 16;
/// So many findings are kept of each type and category.
const KEPT: usize = 3;
/// So many problems that differ are tried with other models.
const TRIED: usize = 200_000;

/// The command.
///
/// # Errors
/// A device that does not open or fails; a file that cannot be written.
pub fn command(args: &ProbeArgs) -> Result<Exit> {
    let device = Device::open(&args.device)?;
    if args.what == What::Wgmma {
        return wgmma::command(args, &device);
    }
    let name = device.info().name.clone();
    if args.corners {
        let corners = corners::ask(&device)?;
        return report::corners(&name, &corners, args.json.as_deref());
    }
    let mut report = Report::new(&name, args.seed, args.reference_share);
    for &kind in args.types.kinds() {
        let started = Instant::now();
        probe(args, kind, &device, &mut report)?;
        eprintln!(
            "{}: {} problems in {:.1} s",
            kind.name(),
            args.problems,
            started.elapsed().as_secs_f64()
        );
    }
    report.finish(args.json.as_deref())
}

fn probe(args: &ProbeArgs, kind: Kind, device: &Device, report: &mut Report) -> Result<()> {
    // The simulator takes long for a batch, and its progress should show.
    let size = if device.info().is_simulator { BATCH / 64 } else { BATCH }.min(args.problems.max(1));
    let runner = Runner::new(device, size as usize)?;
    let bar = progress(args.problems);
    bar.set_message(kind.name());
    let mut saved = Vec::new();
    let mut first = 0;
    while first < args.problems {
        let count = size.min(args.problems - first);
        let batch = generate(kind, args.seed, first, count as usize);
        let answers = runner.run(kind, &batch)?;
        for (i, answer) in answers
            .iter()
            .enumerate()
            .take(args.save.saturating_sub(first as usize))
        {
            save(&mut saved, &batch.problem(i), answer);
        }
        check(args, kind, first, &batch, &answers, report);
        first += count;
        bar.inc(count);
    }
    bar.finish_and_clear();
    if args.save > 0 {
        let path = args.out.join(format!("probe_{}.bin", kind.name()));
        write(&path, &saved)?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// One problem of a file: A, B, C, D, little-endian.
fn save(bytes: &mut Vec<u8>, p: &Problem, answer: &Answer) {
    bytes.extend(p.a.iter().chain(&p.b).flat_map(|x| x.to_le_bytes()));
    bytes.extend(p.c.iter().chain(answer).flat_map(|x| x.to_le_bytes()));
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Makes `count` problems from `first` on, over all cores.
fn generate(kind: Kind, seed: u64, first: u64, count: usize) -> Batch {
    let mut batch = Batch {
        a: vec![[0; 256]; count],
        b: vec![[0; 128]; count],
        c: vec![[0; 128]; count],
    };
    let part = count.div_ceil(cores()).max(1);
    std::thread::scope(|scope| {
        let parts = batch
            .a
            .chunks_mut(part)
            .zip(batch.b.chunks_mut(part))
            .zip(batch.c.chunks_mut(part));
        for (i, ((a, b), c)) in parts.enumerate() {
            scope.spawn(move || {
                for (j, ((a, b), c)) in a.iter_mut().zip(b).zip(c).enumerate() {
                    let p = problem(kind, seed, first + (i * part + j) as u64);
                    (*a, *b, *c) = (p.a, p.b, p.c);
                }
            });
        }
    });
    batch
}

/// What one core found in its part of a batch.
#[derive(Default)]
struct Part {
    tallies: BTreeMap<Category, Tally>,
    findings: Vec<Finding>,
    differing: Vec<usize>,
}

/// Does every task on a thread of its own; results in the tasks' order. A panic of one is the caller's.
fn side_by_side<T: Send, R: Send>(tasks: impl Iterator<Item = T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = tasks.map(|task| scope.spawn(move || work(task))).collect();
        workers
            .into_iter()
            .map(|w| w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Compares a batch over all cores.
fn check(args: &ProbeArgs, kind: Kind, first: u64, batch: &Batch, answers: &[Answer], report: &mut Report) {
    let part = answers.len().div_ceil(cores()).max(1);
    let parts: Vec<Part> = side_by_side((0..answers.len()).step_by(part), |from| {
        let to = (from + part).min(answers.len());
        check_part(args, kind, first, batch, answers, from..to)
    });
    for part in parts {
        for (category, tally) in part.tallies {
            report.tallies.entry((kind, category)).or_default().add(&tally);
        }
        for finding in part.findings {
            report.keep(finding, KEPT);
        }
        for i in part.differing {
            if report.tried < TRIED {
                report.try_variants(kind, &batch.problem(i), &answers[i]);
            }
        }
    }
}

fn check_part(
    args: &ProbeArgs,
    kind: Kind,
    first: u64,
    batch: &Batch,
    answers: &[Answer],
    range: std::ops::Range<usize>,
) -> Part {
    let mut part = Part::default();
    for i in range {
        let index = first + i as u64;
        let (p, answer) = (batch.problem(i), &answers[i]);
        let category = category(kind, index);
        let simulator = model::simulated(TensorCore::HOPPER, kind, &p);
        // Every 32nd, say, of each category: indices of one category are 4 or 28 apart.
        let to_refer = (index / 28).is_multiple_of(args.reference_share);
        let reference = to_refer.then(|| model::referred(Arch::Hopper, kind, &p));
        let tally = part.tallies.entry(category).or_default();
        tally.problems += 1;
        tally.referred += u64::from(to_refer);
        let wrong = |model: &Answer| answer.iter().zip(model).filter(|(a, b)| a != b).count() as u64;
        let (by_simulator, by_reference) = (wrong(&simulator), reference.as_ref().map_or(0, wrong));
        if kind != Kind::S8 {
            tally.count_specials(answer);
        }
        tally.simulator_differs += by_simulator;
        tally.reference_differs += by_reference;
        if by_simulator + by_reference > 0 {
            part.differing.push(i);
            if part.findings.len() < 4 * KEPT {
                let reference = reference.unwrap_or_else(|| model::referred(Arch::Hopper, kind, &p));
                part.findings.push(Finding::new(
                    (kind, category, index),
                    &p,
                    answer,
                    &simulator,
                    &reference,
                ));
            }
        }
    }
    part
}

#[cfg(test)]
mod tests;
