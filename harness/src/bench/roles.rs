//! Where a step's time goes: the time of each role (`attn_qkv`, `experts`, `lm_head`) over all layers.
//!
//! A role is timed as a graph of its launches of all layers in order, between two events, each time right after a replay of the
//! whole step: so its weights are as cold as in the step, and the inputs are a real step's. Experts and what sorts for them read
//! the indices that the router wrote, and other launches use that memory in between; so their graph has the router's launches of
//! the same layer in front, and the time of a graph of those alone is taken off again.

use anyhow::Result;
use host::cost::Target;
use host::device::{Device, Event, Graph, Stream};
use host::model::engine::Engine;
use host::model::plan::{Head, Kind, Net, Node, StepShape};
use host::results::Times;
use serde::{Deserialize, Serialize};

use super::speed;
use crate::model::fail;

/// Replays of a graph on a GPU, after one that is not counted.
const SAMPLES: usize = 9;

/// A step to be taken apart.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// One token of so many sequences.
    Decode(u32),
    /// So many tokens of one prompt.
    Prefill(u32),
}

/// A step's time by role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepTimes {
    /// Which step: `decode 1x1`.
    pub step: String,
    /// A replay of the whole step's graph.
    pub step_us: f64,
    /// Launches of the step.
    pub launches: usize,
    /// By role, in the order of the step.
    pub roles: Vec<RoleTime>,
    /// The step less the roles' sum: what lies between the launches of different roles. Below 0 where roles overlap in the step.
    pub between_us: f64,
}

/// A role's time in a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoleTime {
    /// The role.
    pub role: String,
    /// Its operations.
    pub ops: Vec<String>,
    /// Its launches in the step.
    pub launches: usize,
    /// Its time, all launches.
    pub us: f64,
    /// Of the step's.
    pub share: f64,
    /// Bytes it has to move at least, where the operations say.
    pub bytes: Option<u64>,
    /// The least time that takes at the device's copy rate, or its multiply-adds at their units' rate.
    pub floor_us: Option<f64>,
    /// `floor_us` over `us`.
    pub roof_share: Option<f64>,
}

/// Measures a step. Leaves no sequence open.
///
/// # Errors
/// The model's and the device's.
pub fn measure(engine: &mut Engine, step: Step, copy_gb_s: Option<f64>) -> Result<StepTimes> {
    let shape = prepare(engine, step)?;
    let device = engine.device().clone();
    let stream = device.stream()?;
    let info = device.info().clone();
    let plan = engine.plan(shape).map_err(fail)?;
    let all: Vec<&Node> = plan.nodes.iter().collect();
    let bench = Bench::new(&device, &stream, &all)?;
    let step_us = bench.time(&bench.whole)?;
    let mut roles: Vec<RoleTime> = Vec::new();
    for node in &all {
        if roles.iter().any(|known| known.role == node.role) {
            continue;
        }
        let own: Vec<&Node> = all.iter().copied().filter(|n| n.role == node.role).collect();
        let us = bench.role(&all, node.role)?;
        let works: Option<Vec<_>> = own.iter().map(|n| n.work(info.sms)).collect();
        let floor = |rate: f64| {
            let works = works.as_ref()?;
            Some(
                works
                    .iter()
                    .map(|w| w.floor_us(1e9 * rate, Target::of(&info.name)))
                    .sum::<f64>(),
            )
        };
        let floor_us = copy_gb_s.and_then(floor);
        let mut ops: Vec<String> = own.iter().map(|n| n.op.clone()).collect();
        ops.sort();
        ops.dedup();
        roles.push(RoleTime {
            role: node.role.into(),
            ops,
            launches: own.len(),
            us,
            share: us / step_us,
            bytes: works.as_ref().map(|works| works.iter().map(|w| w.bytes()).sum()),
            floor_us,
            roof_share: floor_us.filter(|_| us > 0.0).map(|floor| floor / us),
        });
    }
    let sum: f64 = roles.iter().map(|role| role.us).sum();
    Ok(StepTimes {
        step: shape.label(),
        step_us,
        launches: all.len(),
        roles,
        between_us: step_us - sum,
    })
}

/// Runs the step, so that its inputs are on the device and its kernels loaded; gives its shape.
fn prepare(engine: &mut Engine, step: Step) -> Result<StepShape> {
    let limits = *engine.limits();
    let shape = |kind, n_tok, n_seq| StepShape {
        net: Net::Main,
        kind,
        n_tok,
        n_seq,
        n_out: n_seq,
        head: Head::Greedy,
    };
    Ok(match step {
        Step::Decode(batch) => {
            let (seqs, tokens) = speed::begin(engine, batch, 1).map_err(fail)?;
            let tokens = speed::step(engine, &seqs, &tokens).map_err(fail)?;
            speed::step(engine, &seqs, &tokens).map_err(fail)?;
            seqs.into_iter().for_each(|seq| engine.close(seq));
            let n_seq = limits.step_seqs(batch);
            shape(Kind::Decode, n_seq, n_seq)
        }
        Step::Prefill(length) => {
            speed::prompts(engine, length, 1).map_err(fail)?;
            let n_tok = limits.prefill_rows(length);
            shape(Kind::Prefill, n_tok, 1)
        }
    })
}

/// What times graphs.
struct Bench<'a> {
    device: &'a Device,
    stream: &'a Stream,
    whole: Graph,
    start: Event,
    end: Event,
}

impl<'a> Bench<'a> {
    fn new(device: &'a Device, stream: &'a Stream, all: &[&Node]) -> Result<Self> {
        Ok(Self {
            whole: capture(device, stream, all)?,
            start: device.event()?,
            end: device.event()?,
            device,
            stream,
        })
    }

    /// The time of a role's launches.
    fn role(&self, all: &[&Node], role: &str) -> Result<f64> {
        let before = |node: &Node| {
            all.iter()
                .any(|n| n.role == role && n.layer == node.layer && needs(n, node))
        };
        let with: Vec<&Node> = all.iter().copied().filter(|n| n.role == role || before(n)).collect();
        let without: Vec<&Node> = all.iter().copied().filter(|n| n.role != role && before(n)).collect();
        let us = self.time(&capture(self.device, self.stream, &with)?)?;
        if without.is_empty() {
            return Ok(us);
        }
        Ok(us - self.time(&capture(self.device, self.stream, &without)?)?)
    }

    /// The median time of a replay in microseconds.
    fn time(&self, graph: &Graph) -> Result<f64> {
        let simulator = self.device.info().is_simulator;
        let mut samples = Vec::new();
        for turn in 0..=if simulator { 0 } else { SAMPLES } {
            if !simulator {
                self.whole.launch(self.stream)?;
            }
            self.start.record(self.stream)?;
            graph.launch(self.stream)?;
            self.end.record(self.stream)?;
            self.end.synchronize()?;
            if simulator || turn > 0 {
                samples.push(Event::elapsed_us(&self.start, &self.end)?);
            }
        }
        let times = Times::from_samples(&samples);
        times
            .map(|times| times.median_us)
            .ok_or_else(|| anyhow::anyhow!("the device's events gave no finite time"))
    }
}

/// Whether a launch reads indices that another of its layer writes.
fn needs(node: &Node, other: &Node) -> bool {
    let routes = other.role == "router" || other.op == "moe_router";
    match node.op.as_str() {
        "moe_router" => other.role == "router",
        "moe_decode" | "moe_sort" => routes,
        "moe_grouped" => routes || other.op == "moe_sort",
        _ => false,
    }
}

/// A graph of some launches.
fn capture(device: &Device, stream: &Stream, nodes: &[&Node]) -> Result<Graph> {
    device.capture_of(stream, || {
        nodes.iter().try_for_each(|node| {
            let launched = node.call.launch(device, stream, &node.config);
            launched.map_err(|e| anyhow::anyhow!("{}: {e}", node.role))
        })
    })
}
