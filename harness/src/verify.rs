//! `harness verify`: random cases, weighted to the edges of shapes and values; tuned kernels, plain kernel, CPU reference and
//! simulator must agree to the byte. Configs that no case has reached are named: nothing was shown of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use host::op::{Case, Operation, Order, typed};
use serde::Serialize;

use crate::cli::VerifyArgs;
use crate::drive::{Driver, Fate};
use crate::exit::{Exit, usage};
use crate::globs::Globs;
use crate::provenance::{provenance, shell_line};
use crate::sweep::progress;
use crate::table::{Format, Table, print};
use crate::worker::protocol::{Outcome, Request, VerifyJob};

/// On a GPU, every so manyth case is compared with the simulator too: it is slower by orders of magnitude.
const SIMULATOR_SHARE: u64 = 8;
/// Unless it costs the simulator more than so much ([`Operation::simulated_work`]): some seconds.
const SIMULATOR_WORK: u64 = 50_000_000;
/// On the simulator, a case runs with so many configs as cost no more than this together: some seconds. With two at the least, and
/// with others for the next large case.
const SIMULATOR_CASE: u64 = 200_000_000;
/// So many findings are printed in full; the rest are in the table's counts and in the JSON.
const SHOWN: usize = 20;
/// So many cases are drawn at most for one of a wanted dtype.
const MOST_DRAWN: u64 = 64;

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
    /// Configs that no case reached.
    unreached: &'a BTreeSet<String>,
    findings: &'a [Finding],
}

/// The command.
///
/// # Errors
/// A glob without a match; a device that does not open; a file that cannot be written.
pub fn command(args: &VerifyArgs) -> Result<Exit> {
    let mut chosen = choose(&args.globs).map_err(usage)?;
    let mut driver = Driver::open(&args.device, Duration::from_secs(args.timeout.max(1)))?;
    leave_out(&mut chosen, &driver.opened().arch);
    let mut run = Run {
        args,
        device: driver.spec().to_string(),
        simulator: driver.opened().simulator,
        tallies: BTreeMap::new(),
        unreached: BTreeSet::new(),
        findings: Vec::new(),
        cases: 0,
    };
    let started = Instant::now();
    for chosen in &chosen {
        let op = chosen.op;
        let wanted = cases(chosen, args);
        let bar = progress(wanted.len() as u64);
        bar.set_message(op.name());
        for (index, case) in wanted {
            let before = run.findings.len();
            run.case(&mut driver, chosen, index, &case)?;
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
        if args.case.is_none() {
            run.unreached(chosen);
        }
    }
    run.finish(driver.opened().name.as_str(), started.elapsed())
}

/// What the globs mean of one operation.
struct Chosen {
    op: &'static dyn Operation,
    /// The dtypes of its cases; all of them where it is empty.
    dtypes: Vec<&'static str>,
    /// Config ids.
    configs: Vec<String>,
}

impl Chosen {
    /// A config's name in tables: `plain` is every operation's, the others' ids are their own.
    fn shown(&self, id: &str) -> String {
        if self.op.configs().iter().any(|c| c.plain) {
            format!("{} {id}", self.op.name())
        } else {
            id.into()
        }
    }

    fn takes(&self, case: &Case) -> bool {
        self.dtypes.is_empty() || self.dtypes.contains(&case.dtype.as_str())
    }
}

/// Patterns for operations (`gemm`), for operations with cases of one dtype (`gemm_bf16`), and for configs.
fn choose(globs: &[String]) -> Result<Vec<Chosen>> {
    let ops = host::ops::all();
    let (mut for_ops, mut for_configs) = (Vec::new(), Vec::new());
    for pattern in globs {
        let one = Globs::new(std::slice::from_ref(pattern))?;
        let named = |op: &&dyn Operation| one.any(&[op.name()]) || !dtypes(*op, &one).is_empty();
        if ops.iter().any(named) {
            for_ops.push(one);
        } else if ops.iter().any(|op| op.configs().iter().any(|c| one.any(&[&c.id]))) {
            for_configs.push(pattern.clone());
        } else {
            bail!("`{pattern}` matches no operation and no config; `harness list configs` shows them");
        }
    }
    let for_configs = Globs::new(&for_configs)?;
    let mut chosen = Vec::new();
    for op in ops {
        let whole = for_ops.is_empty() || for_ops.iter().any(|one| one.any(&[op.name()]));
        let of_dtypes: Vec<_> = for_ops.iter().flat_map(|one| dtypes(*op, one)).collect();
        let ids = op.configs().into_iter().map(|c| c.id);
        let configs: Vec<String> = ids.filter(|id| for_configs.any(&[id])).collect();
        if (whole || !of_dtypes.is_empty()) && !configs.is_empty() {
            chosen.push(Chosen {
                op: *op,
                dtypes: if whole { Vec::new() } else { of_dtypes },
                configs,
            });
        }
    }
    Ok(chosen)
}

/// Takes out the configs that the device cannot run, and says so.
fn leave_out(chosen: &mut Vec<Chosen>, arch: &str) {
    for chosen in chosen.iter_mut() {
        let configs = chosen.op.configs();
        let op = chosen.op.name();
        chosen.configs.retain(|id| {
            let verdict = configs.iter().find(|c| c.id == *id).map_or(Ok(()), |c| c.runs_on(arch));
            if let Err(why) = &verdict {
                eprintln!("left out: {op} {id}: {why}");
            }
            verdict.is_ok()
        });
    }
    chosen.retain(|chosen| !chosen.configs.is_empty());
}

/// The dtypes that a pattern names together with an operation.
fn dtypes(op: &dyn Operation, globs: &Globs) -> Vec<&'static str> {
    let all = op.dtypes().iter().copied();
    all.filter(|dtype| globs.any(&[typed(op.name(), dtype)])).collect()
}

/// The cases that are meant, with their numbers in the seed's sequence: of the wanted dtypes, as many as are asked for.
fn cases(chosen: &Chosen, args: &VerifyArgs) -> Vec<(u64, Case)> {
    let drawn = |count: u64| {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        (0u64..).zip(chosen.op.random_cases(args.seed, count))
    };
    if let Some(only) = args.case {
        return drawn(only.saturating_add(1)).filter(|(i, _)| *i == only).collect();
    }
    let wanted = usize::try_from(args.cases).unwrap_or(usize::MAX);
    let mut count = args.cases;
    loop {
        let found: Vec<_> = drawn(count)
            .filter(|(_, case)| chosen.takes(case))
            .take(wanted)
            .collect();
        // A dtype that is never drawn must not be waited for.
        if found.len() == wanted || count >= args.cases.saturating_mul(MOST_DRAWN) {
            return found;
        }
        count = count.saturating_mul(2);
    }
}

/// Keeps the first config (the plain one, where there is one) and `most` others at most, of a large case: other ones for other cases.
fn in_turn(configs: &mut Vec<String>, index: u64, most: u64) {
    let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
    let others = configs.len().saturating_sub(1);
    if others > most {
        configs[1..].rotate_left(usize::try_from(index).unwrap_or(0).wrapping_mul(most) % others);
        configs.truncate(1 + most);
    }
}

struct Run<'a> {
    args: &'a VerifyArgs,
    device: String,
    simulator: bool,
    tallies: BTreeMap<String, Tally>,
    unreached: BTreeSet<String>,
    findings: Vec<Finding>,
    cases: u64,
}

impl Run<'_> {
    fn case(&mut self, driver: &mut Driver, chosen: &Chosen, index: u64, case: &Case) -> Result<()> {
        self.cases += 1;
        let op = chosen.op;
        let admitted = chosen.configs.iter().filter(|c| op.admits(case, c).is_ok());
        let mut admitted: Vec<String> = admitted.cloned().collect();
        if self.simulator && self.args.case.is_none() {
            in_turn(&mut admitted, index, SIMULATOR_CASE / op.simulated_work(case).max(1));
        }
        let its_turn = index.is_multiple_of(SIMULATOR_SHARE) && op.simulated_work(case) <= SIMULATOR_WORK;
        let with_simulator = !self.simulator && (its_turn || self.args.case.is_some());
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
        for (id, fate) in heard {
            let canonical = known
                .iter()
                .find(|c| c.id == id)
                .is_none_or(|c| c.order == Order::Canonical);
            let tally = self.tallies.entry(chosen.shown(&id)).or_default();
            let (what, message) = match fate {
                Fate::Peer(_) | Fate::Spent(_) => continue,
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

    /// Notes the configs of an operation that no case has reached.
    fn unreached(&mut self, chosen: &Chosen) {
        let shown = chosen.configs.iter().map(|id| chosen.shown(id));
        self.unreached
            .extend(shown.filter(|name| !self.tallies.contains_key(name)));
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
        let unreached = match self.unreached.len() {
            0 => String::new(),
            _ => {
                let names: Vec<&str> = self.unreached.iter().map(String::as_str).collect();
                format!("no case reached: {}\n", names.join(", "))
            }
        };
        if !on_stdout {
            print(&format!("{}{unreached}{verdict}\n", table.render(Format::Text)))?;
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
                unreached: &self.unreached,
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

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
