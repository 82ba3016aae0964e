//! `harness sweep`: for every case, every config's bytes first, then its time (GPU) or its place in the cost model
//! (simulator); a record each as soon as it is finished, and a table of winners at the end.

pub mod record;
mod resume;
mod summary;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use host::results::{Kind, Record, RecordFile, Status};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::{PeerArg, SweepArgs, TableArgs};
use crate::drive::{Driver, Fate};
use crate::exit::{Exit, usage};
use crate::plan::{CasePlan, plan};
use crate::provenance::default_results_dir;
use crate::simt_slice::{self, Slice};
use crate::table::{Format, Table, print};
use crate::worker::protocol::{Outcome, PeerTimed, Request, Spent, SweepJob};
use record::Context;
use resume::Finished;
pub use summary::{Winner, winner};

/// The command.
///
/// # Errors
/// A command line that asks for what does not exist; a device that does not open; records that cannot be written.
pub fn command(args: &SweepArgs) -> Result<Exit> {
    args.table.on_stdout().map_err(usage)?;
    let mut plans = plan(&args.select, host::ops::all()).map_err(usage)?;
    let mut driver = Driver::open(&args.device, Duration::from_secs(args.timeout.max(1)))?;
    let opened = driver.opened().clone();
    plans.iter_mut().for_each(|p| p.prune_for(&opened.arch));
    let dir = args.out.clone().unwrap_or_else(default_results_dir);
    let mut file = RecordFile::for_device(&dir, &opened.name)?;
    let slices = slices(&mut plans, opened.simulator, args.simt_budget);
    let finished = if args.resume {
        Finished::read(file.path(), &opened, args.seed)?
    } else {
        Finished::default()
    };

    let total: usize = plans.iter().map(|p| p.run.len()).sum();
    eprintln!(
        "{} on {}: {} cases, {total} runs of a case with a config",
        opened.name,
        driver.spec(),
        plans.len()
    );
    let copy_gb_s = if total > 0 { driver.copy_rate()? } else { None };
    if let Some(rate) = copy_gb_s {
        eprintln!("copy rate of this device: {rate:.0} GB/s read and written");
    }
    let peer = total > 0 && peers(&mut driver, args.peer)?;
    let context = Context {
        spec: driver.spec().to_string(),
        opened,
        seed: args.seed,
        copy_gb_s,
    };
    let started = Instant::now();
    let mut spent = Spent::default();
    let bar = progress(total as u64);
    let mut results = Vec::new();
    for (p, slice) in plans.iter().zip(&slices) {
        bar.set_message(p.selected.label());
        let run = Run {
            context: &context,
            plan: p,
            slice,
            bar: &bar,
            ask: Ask {
                peer,
                cold: args.cold,
                quick: args.quick,
            },
        };
        results.push(run.case(&mut driver, &mut file, &finished, &mut spent)?);
    }
    bar.finish_and_clear();
    file.sync()?;
    eprintln!(
        "{total} runs in {:.1} s ({:.1} preparing, {:.1} checking bytes, {:.1} timing); records in {}",
        started.elapsed().as_secs_f64(),
        spent.prepare_s,
        spent.check_s,
        spent.time_s,
        file.path().display()
    );

    let rows: Vec<_> = plans
        .iter()
        .zip(&slices)
        .zip(&results)
        .map(|((p, s), r)| (p, s, r.as_slice()))
        .collect();
    let table = summary::table(&rows, &context, args.select.mode);
    write(&table, &args.table, &summary::notes(&rows, &context))?;
    Ok(results
        .iter()
        .flatten()
        .filter(|r| r.kind != Kind::Peer)
        .map(|r| exit_of(r.status))
        .max()
        .unwrap_or_default())
}

/// Looks for peers on a GPU, and says what there is.
fn peers(driver: &mut Driver, wanted: PeerArg) -> Result<bool> {
    if wanted == PeerArg::Off || (driver.opened().simulator && wanted == PeerArg::Auto) {
        return Ok(false);
    }
    let (found, missing) = driver.peers()?;
    for peer in &found {
        eprintln!("peer: {} {} ({})", peer.name, peer.version, peer.file);
    }
    for why in &missing {
        eprintln!("no peer: {why}");
    }
    if found.is_empty() && wanted == PeerArg::On {
        return Err(usage(anyhow::anyhow!(
            "--peer on, and there is no peer on {}",
            driver.opened().name
        )));
    }
    Ok(!found.is_empty())
}

fn exit_of(status: Status) -> Exit {
    match status {
        Status::Passed | Status::Skipped => Exit::Good,
        Status::Incorrect => Exit::Mismatch,
        Status::Error | Status::Timeout => Exit::Failed,
    }
}

/// What of each case runs. On the simulator, cases that cannot be cut to near their share of the budget are taken out of
/// `plans`, and how many is said.
fn slices(plans: &mut Vec<CasePlan>, simulator: bool, budget: u64) -> Vec<Slice> {
    if !simulator {
        return plans.iter().map(|p| Slice::whole(p.op, &p.selected.case)).collect();
    }
    let share = simt_slice::share(plans.iter().map(|p| (p.op, &p.selected.case, p.run.len())), budget);
    let before = plans.len();
    let mut slices = Vec::with_capacity(before);
    plans.retain_mut(|p| {
        let slice = simt_slice::slice(p.op, &p.selected.case, share);
        let taken = simt_slice::affordable(p.op, &slice.case, p.run.len(), share);
        if taken {
            p.prune_on(&slice);
            slices.push(slice);
        }
        taken
    });
    if plans.len() < before {
        let left_out = before - plans.len();
        eprintln!(
            "{left_out} cases are too large for the simulator's budget and are left out; --simt-budget 0 runs them whole"
        );
    }
    slices
}

/// A progress bar on stderr; hidden by itself where that is no terminal.
pub fn progress(total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {elapsed}<{eta} {msg}");
    ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Writes a table to the files asked for, and to stdout unless one of those is stdout.
///
/// # Errors
/// A file that cannot be written.
pub fn write(table: &Table, to: &TableArgs, notes: &str) -> Result<()> {
    let files = [
        (&to.json, Format::Json),
        (&to.csv, Format::Csv),
        (&to.md, Format::Markdown),
    ];
    let on_stdout = to.on_stdout().map_err(usage)?;
    // Stdout first: a file that cannot be written must not cost the table of a long sweep.
    if on_stdout {
        eprint!("{notes}");
    } else {
        print(&(table.render(Format::Text) + notes))?;
    }
    for (path, format) in files {
        if let Some(path) = path {
            table.write_to(path, format)?;
        }
    }
    Ok(())
}

/// One case of a sweep.
struct Run<'a> {
    context: &'a Context,
    plan: &'a CasePlan,
    slice: &'a Slice,
    bar: &'a ProgressBar,
    ask: Ask,
}

/// How a case is timed.
#[derive(Clone, Copy)]
struct Ask {
    peer: bool,
    cold: bool,
    quick: bool,
}

impl Run<'_> {
    /// Runs the case's configs and appends their records, the peers' among them; gives the records of all of them, finished
    /// earlier or now.
    fn case(
        &self,
        driver: &mut Driver,
        file: &mut RecordFile,
        finished: &Finished,
        spent: &mut Spent,
    ) -> Result<Vec<Record>> {
        let (mut records, mut todo) = (Vec::new(), Vec::new());
        for config in &self.plan.run {
            match finished.get(self.plan, self.slice, config, &self.context.opened) {
                Some(r) => {
                    records.push(r.clone());
                    self.bar.inc(1);
                }
                None => todo.push(config.id.clone()),
            }
        }
        let time = !self.context.opened.simulator;
        let request = |configs: &[String]| {
            Request::Sweep(SweepJob {
                case: self.slice.case.clone(),
                seed: self.context.seed,
                configs: configs.to_vec(),
                time,
                checks: self.slice.checks,
                peer: self.ask.peer,
                cold: self.ask.cold,
                quick: self.ask.quick,
            })
        };
        let mut checked: HashMap<String, Outcome> = HashMap::new();
        driver.run(&todo, time, &request, &mut |id, fate| {
            if let Fate::Checked(outcome @ Outcome::Held { .. }) = &fate
                && time
            {
                // Not finished before it was timed.
                checked.insert(id.to_string(), outcome.clone());
                return Ok(());
            }
            let fate = match fate {
                Fate::Peer(timed) => {
                    let record = self.context.peer(self.plan, &timed);
                    self.say(&record, &timed);
                    file.append(&record)?;
                    records.push(record);
                    return Ok(());
                }
                Fate::Spent(more) => {
                    spent.prepare_s += more.prepare_s;
                    spent.check_s += more.check_s;
                    spent.time_s += more.time_s;
                    return Ok(());
                }
                fate => fate,
            };
            let config = self
                .plan
                .run
                .iter()
                .find(|c| c.id == id)
                .context("the worker named a config of its own")?;
            let record = self
                .context
                .record(self.plan, self.slice, config, checked.get(id), &fate);
            file.append(&record)?;
            if record.status != Status::Passed {
                let why = record.reason.as_deref().unwrap_or_default();
                let line = format!("{} {id} on {}: {why}", record.status, self.plan.selected.case.id());
                self.bar.suspend(|| eprintln!("{line}"));
            }
            self.bar.inc(1);
            records.push(record);
            Ok(())
        })?;
        Ok(records)
    }

    /// Reports a peer that failed. That it does not take a case is no news.
    fn say(&self, record: &Record, timed: &PeerTimed) {
        if let (Err(why), false) = (&timed.outcome, timed.refused) {
            let line = format!("{} on {}: {why}", record.config, self.plan.selected.case.id());
            self.bar.suspend(|| eprintln!("{line}"));
        }
    }
}
