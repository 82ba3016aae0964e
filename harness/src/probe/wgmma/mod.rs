//! `harness probe wgmma`: the products of a warpgroup, every form of them, compared with the simulator's model, with `mma.sync` of the
//! same device and, a part of them, with the reference.

mod corners;
mod device;
mod group;
mod model;
mod questions;
mod report;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use host::device::Device;
use simt::tensor::TensorCore;

use super::{ProbeArgs, TRIED, Types, cores, side_by_side, write};
use crate::exit::Exit;
use crate::sweep::progress;
use device::{Answers, Runner};
use group::{Batch, Tile, Type, View, category_of, generate};
use report::{Counts, Finding, Key, Report, differing};

/// Groups of a batch: about 65 thousand problems, as their mean is 31.
const BATCH: u64 = 1 << 11;
/// So many findings are kept of each type and category.
const KEPT: usize = 3;
/// N of saved groups is at most this: the larger ones differ in nothing but their size.
const MOST_SAVED_COLUMNS: u32 = 64;

/// The types asked for: f16 stands for both accumulators.
fn types(types: Types) -> &'static [Type] {
    match types {
        Types::All => &[Type::Bf16, Type::F16, Type::S8, Type::F16F16],
        Types::Bf16 => &[Type::Bf16],
        Types::F16 => &[Type::F16, Type::F16F16],
        Types::S8 => &[Type::S8],
    }
}

/// The command.
///
/// # Errors
/// The device's; a file that cannot be written.
pub fn command(args: &ProbeArgs, device: &Device) -> Result<Exit> {
    let name = device.info().name.clone();
    if args.corners {
        return corners::report(&name, &corners::ask(device)?, args.json.as_deref());
    }
    let mut report = Report::new(&name, args.seed, args.reference_share);
    for &ty in types(args.types) {
        probe(args, ty, device, &mut report)?;
    }
    report.finish(args.json.as_deref())
}

/// Where the time goes.
#[derive(Default)]
struct Times {
    drawing: Duration,
    device: Duration,
    comparing: Duration,
}

fn probe(args: &ProbeArgs, ty: Type, device: &Device, report: &mut Report) -> Result<()> {
    // The simulator takes long for a batch, and its progress should show.
    let size = if device.info().is_simulator { BATCH / 64 } else { BATCH };
    let mut runner = Runner::new(device)?;
    let mut times = Times::default();
    let bar = progress(args.problems);
    bar.set_message(ty.name());
    let mut saved = Saved::new(args.save);
    let (mut first, mut done) = (0, 0);
    while done < args.problems {
        let started = Instant::now();
        let batch = generate(ty, args.seed, first, size, args.problems - done);
        let drawn = Instant::now();
        let answers = runner.run(ty, &batch)?;
        let answered = Instant::now();
        (0..batch.groups.len()).for_each(|i| saved.take(ty, &batch.view(i), of_group(&batch.view(i), &answers.d)));
        check(args, ty, first, &batch, &answers, report);
        times.drawing += drawn - started;
        times.device += answered - drawn;
        times.comparing += answered.elapsed();
        first += batch.groups.len() as u64;
        done += batch.c.len() as u64;
        bar.inc(batch.c.len() as u64);
    }
    bar.finish_and_clear();
    eprintln!(
        "{}: {done} problems in {first} groups; {:.1} s drawing, {:.1} s device and transfers, {:.1} s comparing ({:.0} problems/s)",
        ty.name(),
        times.drawing.as_secs_f64(),
        times.device.as_secs_f64(),
        times.comparing.as_secs_f64(),
        done as f64 / times.comparing.as_secs_f64().max(1e-9)
    );
    saved.write(&args.out.join(format!("wgmma_{}.bin", ty.name())))
}

/// The group's part of a batch's tiles.
fn of_group<'a>(view: &View, tiles: &'a [Tile]) -> &'a [Tile] {
    &tiles[view.group.first_tile as usize..][..view.c.len()]
}

/// Groups for a file: of each its packed form, the rows of A and of B, the tiles of C and of D, little-endian. Tiles of f16
/// accumulators are half as large.
struct Saved {
    left: usize,
    asked: bool,
    bytes: Vec<u8>,
}

impl Saved {
    fn new(groups: usize) -> Saved {
        Saved {
            left: groups,
            asked: groups > 0,
            bytes: Vec::new(),
        }
    }

    fn take(&mut self, ty: Type, view: &View, d: &[Tile]) {
        if self.left == 0 || view.group.columns > MOST_SAVED_COLUMNS {
            return;
        }
        self.left -= 1;
        self.bytes
            .extend(view.group.pack().iter().flat_map(|x| x.to_le_bytes()));
        let rows = view.a.as_flattened().iter().chain(view.b.as_flattened());
        self.bytes.extend(rows.flat_map(|x| x.to_le_bytes()));
        for x in view.c.as_flattened().iter().chain(d.as_flattened()) {
            let kept = if ty == Type::F16F16 { 2 } else { 4 };
            self.bytes.extend(&x.to_le_bytes()[..kept]);
        }
    }

    fn write(self, path: &Path) -> Result<()> {
        if self.asked {
            write(path, &self.bytes)?;
            eprintln!("wrote {}", path.display());
        }
        Ok(())
    }
}

/// What one core found in its part of a batch.
#[derive(Default)]
struct Part {
    counts: BTreeMap<Key, Counts>,
    findings: Vec<Finding>,
    differing: Vec<usize>,
}

/// Compares a batch over all cores.
fn check(args: &ProbeArgs, ty: Type, first: u64, batch: &Batch, answers: &Answers, report: &mut Report) {
    // Small parts, by turns: the sizes of groups differ.
    let cores = cores();
    let parts: Vec<Part> = side_by_side(0..cores, |core| {
        check_part(args, ty, first, batch, answers, core, cores)
    });
    for part in parts {
        for (key, counts) in part.counts {
            report.counts.entry((ty, key)).or_default().add(&counts);
        }
        for finding in part.findings {
            report.keep(finding, KEPT);
        }
        for i in part.differing {
            if report.tried < TRIED / 31 {
                let view = batch.view(i);
                report.try_variants(ty, &view, of_group(&view, &answers.d));
            }
        }
    }
}

fn check_part(
    args: &ProbeArgs,
    ty: Type,
    first: u64,
    batch: &Batch,
    answers: &Answers,
    core: usize,
    cores: usize,
) -> Part {
    let mut part = Part::default();
    for i in (core..batch.groups.len()).step_by(cores) {
        let (index, view) = (first + i as u64, batch.view(i));
        let d = of_group(&view, &answers.d);
        let sync = answers.sync.as_ref().map(|sync| of_group(&view, sync));
        let category = category_of(ty, index);
        let simulator = model::simulated(TensorCore::HOPPER, ty, &view);
        // Every 32nd, say, of each category: indices of one category are 4 or 28 apart.
        let to_refer = (index / 28).is_multiple_of(args.reference_share);
        let reference = to_refer.then(|| model::referred(ty, &view));
        let problems = view.c.len() as u64;
        let mut counts = Counts {
            groups: 1,
            instructions: view.group.steps.into(),
            problems,
            referred: if to_refer { problems } else { 0 },
            synced: if sync.is_some() { problems } else { 0 },
            simulator_differs: differing(d, &simulator),
            mma_sync_differs: sync.map_or(0, |sync| differing(d, sync)),
            reference_differs: reference.as_ref().map_or(0, |reference| differing(d, reference)),
            ..Counts::default()
        };
        counts.count_specials(ty, d);
        for key in Key::all(&view, category) {
            part.counts.entry(key).or_default().add(&counts);
        }
        if counts.differs() > 0 {
            part.differing.push(i);
            if part.findings.len() < 4 * KEPT {
                let reference = reference.unwrap_or_else(|| model::referred(ty, &view));
                let what = (ty, category, index);
                part.findings
                    .push(Finding::new(what, &view, d, sync, &simulator, &reference));
            }
        }
    }
    part
}

#[cfg(test)]
mod tests;
