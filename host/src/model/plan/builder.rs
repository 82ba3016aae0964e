//! Putting a plan together: launches in order, their configs chosen, their temporary tensors laid out.

use super::{Node, Plan, StepShape};
use crate::device::DevPtr;
use crate::dispatch::Dispatcher;
use crate::model::ModelError;
use crate::model::caches::Caches;
use crate::model::config::ModelConfig;
use crate::model::inputs::Inputs;
use crate::model::limits::Limits;
use crate::model::plan::Outputs;
use crate::model::weights::ModelWeights;
use crate::op::call::Call;

/// Temporary tensors begin at multiples of so many bytes.
const ALIGN: usize = 256;

/// What plans of one loaded model are made of.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The model.
    pub config: &'a ModelConfig,
    /// Its weights.
    pub weights: &'a ModelWeights,
    /// Its caches.
    pub caches: &'a Caches,
    /// Inputs of steps.
    pub inputs: &'a Inputs,
    /// Outputs of steps.
    pub outputs: &'a Outputs,
    /// What it is ready for.
    pub limits: &'a Limits,
    /// Chooses configs.
    pub dispatcher: &'a Dispatcher,
    /// Work memory; any address where a plan is only to be looked at or measured.
    pub work: DevPtr<u8>,
    /// Its size.
    pub work_bytes: usize,
}

/// A plan in the making.
pub(super) struct Builder<'a> {
    pub(super) context: Context<'a>,
    pub(super) shape: StepShape,
    nodes: Vec<Node>,
    layer: Option<u32>,
    used: usize,
    peak: usize,
    /// Quantised activations that are still there: by the address of what was quantised.
    pub(super) quantised: Vec<(usize, DevPtr<u8>, DevPtr<f32>)>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(context: Context<'a>, shape: StepShape) -> Self {
        Self {
            context,
            shape,
            nodes: Vec::new(),
            layer: None,
            used: 0,
            peak: 0,
            quantised: Vec::new(),
        }
    }

    /// The layer that the next launches belong to.
    pub(super) fn enter(&mut self, layer: Option<u32>) {
        self.layer = layer;
    }

    /// A temporary tensor of so many elements, until the scope ends.
    pub(super) fn temp<T>(&mut self, elements: usize) -> DevPtr<T> {
        let at = self.used;
        self.used += (elements * size_of::<T>()).next_multiple_of(ALIGN).max(ALIGN);
        self.peak = self.peak.max(self.used);
        self.context.work.add(at).cast()
    }

    /// Runs `f`, whose temporary tensors are gone afterwards.
    pub(super) fn scope<R>(&mut self, f: impl FnOnce(&mut Self) -> Result<R, ModelError>) -> Result<R, ModelError> {
        let (used, quantised) = (self.used, self.quantised.len());
        let result = f(self);
        self.used = used;
        self.quantised.truncate(quantised);
        result
    }

    /// Adds a launch, its config chosen by the dispatcher.
    pub(super) fn call(&mut self, role: &'static str, call: impl Call + 'static) -> Result<(), ModelError> {
        let case = call.case();
        let (config, choice) = match (call.only(), call.operation()) {
            (Some(only), _) => (only.config.to_string(), None),
            (None, Some(operation)) => {
                let choice = self
                    .context
                    .dispatcher
                    .choose_at(operation, &case, &|config| call.takes(config))?;
                (choice.config.clone(), Some(choice))
            }
            (None, None) => (crate::op::spec::PLAIN.to_string(), None),
        };
        self.nodes.push(Node {
            layer: self.layer,
            role,
            op: case.op.clone(),
            dims: case.dims_text(),
            config,
            choice,
            call: Box::new(call),
        });
        Ok(())
    }

    pub(super) fn finish(self) -> Plan {
        Plan {
            shape: self.shape,
            nodes: self.nodes,
            work_bytes: self.peak,
        }
    }
}
