//! Plans by the shape of a step, and the graphs made of them.

use std::collections::BTreeMap;

use crate::device::{Device, Graph, Stream};
use crate::model::ModelError;
use crate::model::plan::{Context, Plan, StepShape};

/// What has become of a step's graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GraphState {
    /// The step has run eagerly so far.
    None,
    /// There is one, of so many nodes.
    Captured(usize),
    /// The capture failed, with the reason: the step runs eagerly.
    Failed(String),
}

/// A step's plan and graph.
struct Entry {
    plan: Plan,
    graph: Option<Graph>,
    failed: Option<String>,
    /// Whether it has run: kernels are loaded on their first launch, which a capture must not see.
    warm: bool,
}

/// Plans and graphs by shape.
#[derive(Default)]
pub(super) struct Pool {
    entries: BTreeMap<StepShape, Entry>,
}

impl Pool {
    /// The plan of a step, made when it is first asked for.
    pub fn plan(&mut self, context: Context<'_>, shape: StepShape) -> Result<&Plan, ModelError> {
        Ok(&self.entry(context, shape)?.plan)
    }

    fn entry(&mut self, context: Context<'_>, shape: StepShape) -> Result<&mut Entry, ModelError> {
        use std::collections::btree_map::Entry as Slot;
        Ok(match self.entries.entry(shape) {
            Slot::Occupied(entry) => entry.into_mut(),
            Slot::Vacant(slot) => slot.insert(Entry::new(Plan::new(context, shape)?)),
        })
    }

    /// Queues a step: its graph where graphs are on, captured when the step is run for the second time; else launch by launch.
    pub fn run(
        &mut self,
        context: Context<'_>,
        shape: StepShape,
        device: &Device,
        stream: &Stream,
        graphs: bool,
    ) -> Result<(), ModelError> {
        self.entry(context, shape)?.run(device, stream, graphs)
    }

    /// What has become of every step's graph.
    pub fn states(&self) -> Vec<(StepShape, GraphState)> {
        self.entries
            .iter()
            .map(|(shape, entry)| (*shape, entry.state()))
            .collect()
    }
}

impl Entry {
    fn new(plan: Plan) -> Self {
        Self {
            plan,
            graph: None,
            failed: None,
            warm: false,
        }
    }

    fn run(&mut self, device: &Device, stream: &Stream, graphs: bool) -> Result<(), ModelError> {
        if graphs && self.graph.is_none() && self.failed.is_none() && self.warm {
            let captured: Result<Graph, ModelError> = device.capture_of(stream, || self.plan.launch(device, stream));
            match captured {
                Ok(graph) => self.graph = Some(graph),
                Err(e) => {
                    let why = e.to_string();
                    tracing::warn!(
                        step = self.plan.shape.label(),
                        "no graph, the step runs launch by launch: {why}"
                    );
                    self.failed = Some(why);
                }
            }
        }
        match self.graph.as_ref().filter(|_| graphs) {
            Some(graph) => graph.launch(stream)?,
            None => self.plan.launch(device, stream)?,
        }
        self.warm = true;
        Ok(())
    }

    fn state(&self) -> GraphState {
        match (&self.graph, &self.failed) {
            (Some(graph), _) => GraphState::Captured(graph.nodes()),
            (None, Some(why)) => GraphState::Failed(why.clone()),
            (None, None) => GraphState::None,
        }
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
