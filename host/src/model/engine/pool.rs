//! Plans by the shape of a step, and the graphs made of them.

use std::collections::BTreeMap;

use crate::device::{Device, Graph, Stream};
use crate::model::ModelError;
use crate::model::plan::{Context, Plan, StepShape};

/// The sizes that steps are filled up to: 1, 2, 4, ... and the most.
pub(super) fn buckets(most: u32) -> Vec<u32> {
    let mut sizes: Vec<u32> = (0..31).map(|i| 1 << i).take_while(|size| *size < most).collect();
    sizes.push(most);
    sizes
}

/// The size that `count` is filled up to.
pub(super) fn bucket(count: u32, most: u32) -> u32 {
    count.max(1).next_power_of_two().min(most)
}

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
            Slot::Vacant(slot) => slot.insert(Entry {
                plan: Plan::new(context, shape)?,
                graph: None,
                failed: None,
                warm: false,
            }),
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
        let entry = self.entry(context, shape)?;
        if !graphs {
            entry.warm = true;
            return entry.plan.launch(device, stream);
        }
        if entry.graph.is_none() && entry.failed.is_none() && entry.warm {
            let mut error = None;
            let captured = device.capture(stream, || {
                entry.plan.launch(device, stream).map_err(|e| {
                    let text = e.to_string();
                    error = Some(text.clone());
                    crate::device::DeviceError::Capture(text)
                })
            });
            match captured {
                Ok(graph) => entry.graph = Some(graph),
                Err(e) => {
                    let why = error.unwrap_or_else(|| e.to_string());
                    tracing::warn!(step = shape.label(), "no graph, the step runs launch by launch: {why}");
                    entry.failed = Some(why);
                }
            }
        }
        entry.warm = true;
        match &entry.graph {
            Some(graph) => Ok(graph.launch(stream)?),
            None => entry.plan.launch(device, stream),
        }
    }

    /// What has become of every step's graph.
    pub fn states(&self) -> Vec<(StepShape, GraphState)> {
        let state = |entry: &Entry| match (&entry.graph, &entry.failed) {
            (Some(graph), _) => GraphState::Captured(graph.nodes()),
            (None, Some(why)) => GraphState::Failed(why.clone()),
            (None, None) => GraphState::None,
        };
        self.entries
            .iter()
            .map(|(shape, entry)| (*shape, state(entry)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_filled_up() {
        assert_eq!(buckets(6), [1, 2, 4, 6]);
        assert_eq!(buckets(1), [1]);
        assert_eq!((bucket(0, 8), bucket(3, 8), bucket(5, 6), bucket(8, 8)), (1, 4, 6, 8));
    }
}
