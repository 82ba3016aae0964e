//! `harness plan --model`: a model's memory and the launches of its steps, made without a device and without weights.

use std::collections::BTreeMap;

use anyhow::Result;
use host::device::DeviceInfo;
use host::model::config::ModelConfig;
use host::model::engine::{Footprint, Opened, Options};
use host::model::plan::{Head, Kind, Net, Node, Plan, StepShape};

use super::plan_text::{fold, refusals};
use super::{fail, open, parameters, planning_device, short_bytes, short_count};
use crate::cli::{ModeArg, PlanArgs};
use crate::table::{Format, Table, print};

/// Positions of a sequence where none are asked for.
const CONTEXT: u32 = 4096;

/// The command.
///
/// # Errors
/// No such model or GPU; options the model does not take; stdout is gone.
pub fn command(args: &PlanArgs) -> Result<()> {
    let opened = open(args.whole.model.as_deref().unwrap_or_default())?;
    let info = planning_device(args.whole.gpu.as_deref())?;
    let (options, steps) = wanted(args, opened.config());
    let footprint = Footprint::new(opened.as_ref(), &options, &info, &steps).map_err(fail)?;
    if args.json {
        let json = json(opened.as_ref(), &info, &options, &footprint);
        return print(&(serde_json::to_string_pretty(&json)? + "\n"));
    }
    print(&text(opened.as_ref(), &info, &options, &footprint))
}

/// What the model is loaded for, and the steps to show.
fn wanted(args: &PlanArgs, config: &ModelConfig) -> (Options, Vec<StepShape>) {
    let whole = &args.whole;
    let options = Options {
        mode: match args.select.mode {
            ModeArg::Fast => host::results::Mode::Fast,
            ModeArg::Strict | ModeArg::Both => host::results::Mode::Strict,
        },
        max_seqs: whole.batch,
        context: whole.context.unwrap_or(CONTEXT.min(config.max_positions)),
        chunk: whole.prompt.next_multiple_of(64),
        ..Options::default()
    };
    let step = |net, kind, n_tok, n_seq| StepShape {
        net,
        kind,
        n_tok,
        n_seq,
        n_out: n_seq,
        head: Head::Greedy,
    };
    let mut steps = vec![
        step(Net::Main, Kind::Decode, whole.batch, whole.batch),
        step(Net::Main, Kind::Prefill, whole.prompt, 1),
    ];
    if config.mtp {
        steps.push(step(Net::Mtp, Kind::Decode, whole.batch, whole.batch));
    }
    (options, steps)
}

fn mode(options: &Options) -> &'static str {
    match options.mode {
        host::results::Mode::Strict => "strict",
        host::results::Mode::Fast => "fast",
    }
}

fn text(opened: &dyn Opened, info: &DeviceInfo, options: &Options, footprint: &Footprint) -> String {
    let config = opened.config();
    let mut text = format!(
        "{}: {}, {} layers, {} parameters; {} mode on {}, {} sequences of {} positions, chunks of {}\n\n",
        config.name,
        config.family,
        config.layers.len(),
        short_count(parameters(config, opened.layout())),
        mode(options),
        info.name,
        options.max_seqs,
        options.context,
        options.chunk
    );
    let mut memory = Table::new(&["memory", "bytes", "size"]);
    for (part, bytes) in &footprint.parts {
        memory.row([part.to_string(), bytes.to_string(), short_bytes(*bytes)]);
    }
    let all: u64 = footprint.parts.values().sum();
    memory.row(["all".to_string(), all.to_string(), short_bytes(all)]);
    text += &memory.render(Format::Text);
    for plan in &footprint.plans {
        text += &format!(
            "\n{}: {} launches, {} of work memory\n",
            plan.shape.label(),
            plan.nodes.len(),
            short_bytes(plan.work_bytes as u64)
        );
        let mut table = Table::new(&["launches", "layers", "role", "op", "dims", "config", "why"]);
        for row in fold(plan) {
            table.row([
                format!("x{}", row.launches),
                row.layers,
                row.node.role.to_string(),
                row.node.op.clone(),
                row.node.dims.clone(),
                row.node.config.clone(),
                why(row.node),
            ]);
        }
        text += &table.render(Format::Text);
        text += &refusals(plan);
    }
    text
}

/// Why this config.
fn why(node: &Node) -> String {
    match (&node.choice, node.call.only()) {
        (Some(choice), _) => choice.reason.to_string(),
        (None, Some(only)) => only.reason.to_string(),
        (None, None) => "there is one".into(),
    }
}

fn json(opened: &dyn Opened, info: &DeviceInfo, options: &Options, footprint: &Footprint) -> serde_json::Value {
    let config = opened.config();
    let memory: BTreeMap<_, _> = footprint.parts.iter().collect();
    serde_json::json!({
        "model": config.name,
        "family": config.family,
        "layers": config.layers.len(),
        "parameters": parameters(config, opened.layout()),
        "gpu": info.name,
        "mode": mode(options),
        "sequences": options.max_seqs,
        "context": options.context,
        "chunk": options.chunk,
        "memory_bytes": memory,
        "plans": footprint.plans.iter().map(plan_json).collect::<Vec<_>>(),
    })
}

fn plan_json(plan: &Plan) -> serde_json::Value {
    let node = |node: &Node| {
        serde_json::json!({
            "layer": node.layer,
            "role": node.role,
            "op": node.op,
            "dims": node.dims,
            "config": node.config,
            "why": why(node),
            "choice": node.choice.as_deref(),
        })
    };
    serde_json::json!({
        "step": plan.shape.label(),
        "work_bytes": plan.work_bytes,
        "launches": plan.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}
