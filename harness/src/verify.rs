//! `harness verify`: random cases, weighted to the edges of shapes and values; tuned kernels, plain kernel, CPU reference and
//! simulator must agree to the byte.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use host::op::{Case, Operation, Order};
use serde::Serialize;

use crate::cli::VerifyArgs;
use crate::drive::{Driver, Fate};
use crate::exit::{Exit, usage};
use crate::provenance::{provenance, shell_line};
use crate::select::Globs;
use crate::sweep::progress;
use crate::table::{Format, Table, print};
use crate::worker::protocol::{Outcome, Request, VerifyJob};

/// On a GPU, every so manyth case is compared with the simulator too: it is slower by orders of magnitude.
const SIMULATOR_SHARE: u64 = 8;
/// So many findings are printed in full; the rest are in the table's counts and in the JSON.
const SHOWN: usize = 20;

/// What became of one implementation over all cases.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Tally {
    byte_equal: u64,
    within_tolerance: u64,
    wrong: u64,
    failed: u64,
}

/// One mismatch or failure.
#[derive(Debug, Serialize)]
struct Finding {
    op: String,
    case: String,
    index: u64,
    config: String,
    /// `wrong` or `failed`.
    what: &'static str,
    message: String,
    command: String,
}

/// The outcome as JSON has it.
#[derive(Debug, Serialize)]
struct Report<'a> {
    device: &'a str,
    seed: u64,
    repeat: u32,
    cases: u64,
    commit: &'a str,
    dirty: bool,
    configs: &'a BTreeMap<String, Tally>,
    findings: &'a [Finding],
}

/// The command.
///
/// # Errors
/// A glob without a match; a device that does not open; a file that cannot be written.
pub fn command(args: &VerifyArgs) -> Result<Exit> {
    let chosen = choose(&args.globs).map_err(usage)?;
    let mut driver = Driver::open(&args.device, Duration::from_secs(args.timeout.max(1)))?;
    let mut run = Run {
        args,
        device: driver.spec().to_string(),
        simulator: driver.opened().simulator,
        tallies: BTreeMap::new(),
        findings: Vec::new(),
        cases: 0,
    };
    let started = Instant::now();
    for (op, configs) in &chosen {
        let wanted: Vec<(u64, Case)> = cases(*op, args);
        let bar = progress(wanted.len() as u64);
        bar.set_message(op.name());
        for (index, case) in wanted {
            let before = run.findings.len();
            run.case(&mut driver, *op, configs, index, &case)?;
            for f in run.findings.iter().take(SHOWN).skip(before) {
                let Finding {
                    what,
                    config,
                    case,
                    message,
                    command,
                    ..
                } = f;
                let text = format!("{what}: {config} on {case}: {message}\n  again: {command}\n");
                bar.suspend(|| print(&text))?;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
    }
    run.finish(driver.opened().name.as_str(), started.elapsed())
}

/// The operations and config ids that the globs mean.
type Chosen = Vec<(&'static dyn Operation, Vec<String>)>;

fn choose(globs: &[String]) -> Result<Chosen> {
    let (mut for_ops, mut for_configs) = (Vec::new(), Vec::new());
    for pattern in globs {
        let one = Globs::new(std::slice::from_ref(pattern))?;
        if host::ops::all().iter().any(|op| one.any(&[op.name()])) {
            for_ops.push(pattern.clone());
        } else if host::ops::all()
            .iter()
            .any(|op| op.configs().iter().any(|c| one.any(&[&c.id])))
        {
            for_configs.push(pattern.clone());
        } else {
            bail!("`{pattern}` matches no operation and no config; `harness list configs` shows them");
        }
    }
    let (for_ops, for_configs) = (Globs::new(&for_ops)?, Globs::new(&for_configs)?);
    let mut chosen = Chosen::new();
    for op in host::ops::all().iter().filter(|op| for_ops.any(&[op.name()])) {
        let ids: Vec<String> = op
            .configs()
            .into_iter()
            .map(|c| c.id)
            .filter(|id| for_configs.any(&[id]))
            .collect();
        if !ids.is_empty() {
            chosen.push((*op, ids));
        }
    }
    Ok(chosen)
}

fn cases(op: &dyn Operation, args: &VerifyArgs) -> Vec<(u64, Case)> {
    let count = args.case.map_or(args.cases, |i| i.saturating_add(1));
    let all = op.random_cases(args.seed, usize::try_from(count).unwrap_or(usize::MAX));
    let numbered = (0u64..).zip(all);
    numbered
        .filter(|(i, _)| args.case.is_none_or(|only| only == *i))
        .collect()
}

struct Run<'a> {
    args: &'a VerifyArgs,
    device: String,
    simulator: bool,
    tallies: BTreeMap<String, Tally>,
    findings: Vec<Finding>,
    cases: u64,
}

impl Run<'_> {
    fn case(
        &mut self,
        driver: &mut Driver,
        op: &dyn Operation,
        configs: &[String],
        index: u64,
        case: &Case,
    ) -> Result<()> {
        self.cases += 1;
        let admitted: Vec<String> = configs.iter().filter(|c| op.admits(case, c).is_ok()).cloned().collect();
        let with_simulator = !self.simulator && (index.is_multiple_of(SIMULATOR_SHARE) || self.args.case.is_some());
        let request = |configs: &[String]| {
            Request::Verify(VerifyJob {
                case: case.clone(),
                index,
                seed: self.args.seed,
                configs: configs.to_vec(),
                repeat: self.args.repeat,
                with_simulator,
            })
        };
        let known = op.configs();
        let mut heard: Vec<(String, Fate)> = Vec::new();
        driver.run(&admitted, false, &request, &mut |id, fate| {
            heard.push((id.to_string(), fate));
            Ok(())
        })?;
        // `plain` is every operation's; the others' ids are their own.
        let prefix = if known.iter().any(|c| c.plain) {
            format!("{} ", op.name())
        } else {
            String::new()
        };
        for (id, fate) in heard {
            let canonical = known
                .iter()
                .find(|c| c.id == id)
                .is_none_or(|c| c.order == Order::Canonical);
            let tally = self.tallies.entry(format!("{prefix}{id}")).or_default();
            let (what, message) = match fate {
                Fate::Checked(Outcome::Held { .. }) | Fate::Timed(_) => {
                    *(if canonical {
                        &mut tally.byte_equal
                    } else {
                        &mut tally.within_tolerance
                    }) += 1;
                    continue;
                }
                Fate::Checked(Outcome::Wrong { message, .. }) => {
                    tally.wrong += 1;
                    ("wrong", message)
                }
                Fate::Checked(Outcome::Failed { message }) | Fate::Died(message) | Fate::TimedOut(message) => {
                    tally.failed += 1;
                    ("failed", message)
                }
            };
            let command = self.again(op.name(), index);
            let (op, case) = (op.name().to_string(), case.id());
            self.findings.push(Finding {
                op,
                case,
                index,
                config: id,
                what,
                message,
                command,
            });
        }
        Ok(())
    }

    fn again(&self, op: &str, index: u64) -> String {
        let mut words = vec!["harness".to_string(), "verify".into(), op.into()];
        words.extend([
            "--seed".into(),
            self.args.seed.to_string(),
            "--case".into(),
            index.to_string(),
        ]);
        words.extend(["--device".into(), self.device.clone()]);
        if self.args.repeat > 1 {
            words.extend(["--repeat".into(), self.args.repeat.to_string()]);
        }
        shell_line(words)
    }

    fn finish(&self, device: &str, took: Duration) -> Result<Exit> {
        let mut table = Table::new(&["config", "byte_equal", "within_tolerance", "wrong", "failed"]);
        let mut sum = Tally::default();
        for (config, t) in &self.tallies {
            let cells = [t.byte_equal, t.within_tolerance, t.wrong, t.failed].map(|v| v.to_string());
            table.row([config.clone()].into_iter().chain(cells));
            sum.wrong += t.wrong;
            sum.failed += t.failed;
            sum.byte_equal += t.byte_equal;
        }
        let on_stdout = self.args.json.as_ref().is_some_and(|p| p.as_os_str() == "-");
        let verdict = format!(
            "{} cases, seed {}, on {device}: {} comparisons byte-equal, {} wrong, {} failed",
            self.cases, self.args.seed, sum.byte_equal, sum.wrong, sum.failed
        );
        if !on_stdout {
            print(&format!("{}{verdict}\n", table.render(Format::Text)))?;
        }
        eprintln!("took {:.1} s", took.as_secs_f64());
        if let Some(path) = &self.args.json {
            let (commit, dirty) = (provenance().commit.as_str(), provenance().dirty);
            let (seed, repeat, cases) = (self.args.seed, self.args.repeat, self.cases);
            let report = Report {
                device,
                seed,
                repeat,
                cases,
                commit,
                dirty,
                configs: &self.tallies,
                findings: &self.findings,
            };
            let text = serde_json::to_string_pretty(&report)? + "\n";
            if on_stdout {
                print(&text)?;
            } else {
                std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        Ok(match (sum.wrong, sum.failed) {
            (0, 0) => Exit::Good,
            (0, _) => Exit::Failed,
            _ => Exit::Mismatch,
        })
    }
}
