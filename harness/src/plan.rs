//! `harness plan`, and the plan that `sweep` works off: cases, the configs that run for each, and why the others do not.

use anyhow::{Result, bail};
use host::op::{ConfigInfo, Operation, Order};

use crate::cli::{ModeArg, PlanArgs, Selection};
use crate::exit::usage;
use crate::globs::Globs;
use crate::model::planning_device;
use crate::select::{self, Ops, Selected};
use crate::simt_slice::Slice;
use crate::table::{Format, Table, print};

/// One case with its configs.
pub struct CasePlan {
    /// The case and its names.
    pub selected: Selected,
    /// Its operation.
    pub op: &'static dyn Operation,
    /// The configs that run.
    pub run: Vec<ConfigInfo>,
    /// The configs that do not, with the reason.
    pub pruned: Vec<(String, String)>,
}

impl CasePlan {
    /// Prunes what takes the case but not the part of it that the simulator runs.
    pub fn prune_on(&mut self, slice: &Slice) {
        let (op, mut pruned) = (self.op, Vec::new());
        self.run.retain(|config| match op.admits(&slice.case, &config.id) {
            Ok(()) => true,
            Err(reason) => {
                let (rows, of) = (slice.rows, slice.of);
                pruned.push((
                    config.id.clone(),
                    format!("of {rows} of {of} rows on the simulator: {reason}"),
                ));
                false
            }
        });
        self.pruned.append(&mut pruned);
    }

    /// Prunes what does not run on a device of this architecture (`sm_90`, `simt`).
    pub fn prune_for(&mut self, arch: &str) {
        let (mut run, mut pruned) = (Vec::new(), Vec::new());
        for config in self.run.drain(..) {
            match config.runs_on(arch) {
                Ok(()) => run.push(config),
                Err(reason) => pruned.push((config.id, reason)),
            }
        }
        self.run = run;
        self.pruned.append(&mut pruned);
    }
}

/// What a selection comes to, on a device that runs every config ([`CasePlan::prune_for`] says which do).
///
/// # Errors
/// Anything in the selection that does not exist: a glob without a match, a shape file, an axis, a config.
pub fn plan(sel: &Selection, ops: &Ops) -> Result<Vec<CasePlan>> {
    let cases = select::cases(sel, ops)?;
    let mut config_ids: Vec<String> = ops.iter().flat_map(|op| op.configs()).map(|c| c.id).collect();
    config_ids.sort();
    config_ids.dedup();
    if let Some(id) = &sel.config
        && !config_ids.contains(id)
    {
        bail!("no operation has a config `{id}`; `harness list configs` shows them");
    }
    let (case_globs, config_globs) = Globs::new(&sel.globs)?.split(&cases, &config_ids)?;
    let mut out = Vec::new();
    for selected in select::matching(cases, &case_globs) {
        if sel.shard.is_some_and(|shard| !select::in_shard(&selected.key(), shard)) {
            continue;
        }
        let Some(op) = ops.iter().find(|op| op.name() == selected.case.op) else {
            continue;
        };
        let (mut run, mut pruned) = (Vec::new(), Vec::new());
        for config in op.configs() {
            if sel.config.as_ref().is_some_and(|id| *id != config.id) || !config_globs.any(&[&config.id]) {
                continue;
            }
            if sel.mode == ModeArg::Strict && config.order != Order::Canonical {
                pruned.push((
                    config.id,
                    "not in the canonical order, which --mode strict asks for".into(),
                ));
            } else if let Err(reason) = op.admits(&selected.case, &config.id) {
                pruned.push((config.id, reason));
            } else {
                run.push(config);
            }
        }
        out.push(CasePlan {
            selected,
            op: *op,
            run,
            pruned,
        });
    }
    Ok(out)
}

/// The command.
///
/// # Errors
/// As [`plan`]; a GPU that nothing is known of; stdout is gone.
pub fn command(args: &PlanArgs) -> Result<()> {
    let mut plans = plan(&args.select, host::ops::all()).map_err(usage)?;
    let device = planning_device(args.whole.gpu.as_deref())?;
    plans.iter_mut().for_each(|p| p.prune_for(&device.arch()));
    let mut table = Table::new(&["case", "op", "shape", "configs", "pruned", "why pruned"]);
    let mut pairs = 0;
    for p in &plans {
        pairs += p.run.len();
        table.row([
            p.selected.label(),
            p.selected.case.op.clone(),
            p.selected.case.dims_text(),
            p.run.len().to_string(),
            p.pruned.len().to_string(),
            if plans.len() <= SHOWN_IN_FULL {
                reasons(&p.pruned)
            } else {
                first_reason(&p.pruned)
            },
        ]);
    }
    if args.json {
        let json: Vec<serde_json::Value> = plans
            .iter()
            .map(|p| {
                serde_json::json!({
                    "case": p.selected.case.id(),
                    "key": p.selected.key(),
                    "labels": p.selected.labels,
                    "run": p.run.iter().map(|c| &c.id).collect::<Vec<_>>(),
                    "pruned": p.pruned.iter().map(|(c, why)| serde_json::json!({ "config": c, "reason": why }))
                        .collect::<Vec<_>>(),
                })
            })
            .collect();
        print(&(serde_json::to_string_pretty(&json)? + "\n"))?;
    } else {
        let mut text = table.render(Format::Text);
        text += &format!("{} cases, {pairs} runs of a case with a config\n", plans.len());
        if plans.len() > SHOWN_IN_FULL {
            text += &format!(
                "one reason a case is shown; --json has all, as has a plan of at most {SHOWN_IN_FULL} cases\n"
            );
        }
        print(&text)?;
    }
    Ok(())
}

/// Up to so many cases are shown with every reason.
const SHOWN_IN_FULL: usize = 4;

/// The first reason with its config, and how many other configs were pruned.
fn first_reason(pruned: &[(String, String)]) -> String {
    match pruned {
        [] => String::new(),
        [(config, why)] => format!("{config}: {why}"),
        [(config, why), rest @ ..] => format!("{config}: {why}; +{}", rest.len()),
    }
}

/// The reasons, each once with its configs.
fn reasons(pruned: &[(String, String)]) -> String {
    let mut grouped: Vec<(&str, Vec<&str>)> = Vec::new();
    for (config, why) in pruned {
        match grouped.iter_mut().find(|(w, _)| w == why) {
            Some((_, configs)) => configs.push(config),
            None => grouped.push((why, vec![config])),
        }
    }
    let texts: Vec<String> = grouped
        .iter()
        .map(|(why, configs)| format!("{}: {why}", configs.join(" ")))
        .collect();
    texts.join("; ")
}
