//! Loading: counted first, so that a model that does not fit is refused with the numbers, then taken.

use std::collections::BTreeMap;

use super::pool::Pool;
use super::sequence::Sequences;
use super::{Engine, Options};
use crate::device::{DevPtr, Device, DeviceInfo};
use crate::dispatch::Dispatcher;
use crate::model::ModelError;
use crate::model::caches::Caches;
use crate::model::config::ModelConfig;
use crate::model::inputs::Inputs;
use crate::model::layout::ModelLayout;
use crate::model::limits::{Limits, buckets};
use crate::model::memory::Memory;
use crate::model::plan::{Context, Head, Kind, Net, Outputs, Plan, StepShape};
use crate::model::tokenizer::Tokenizer;
use crate::model::weights::{ModelWeights, Origin};

/// A model whose files (or seed) have been looked at, and nothing more.
pub trait Opened {
    /// What it is.
    fn config(&self) -> &ModelConfig;

    /// Where its weights are.
    fn layout(&self) -> &ModelLayout;

    /// What makes its weights.
    ///
    /// # Errors
    /// Those of the files.
    fn origin(&self) -> Result<Box<dyn Origin + '_>, ModelError>;

    /// Its tokenizer; none where its files have none.
    ///
    /// # Errors
    /// A tokenizer that is broken or of a kind that is not read.
    fn tokenizer(&self) -> Result<Option<Tokenizer>, ModelError> {
        Ok(None)
    }
}

/// What a model takes of a device, and its plans: made without one.
pub struct Footprint {
    /// Bytes by part.
    pub parts: BTreeMap<&'static str, u64>,
    /// The plans asked for.
    pub plans: Vec<Plan>,
}

/// What plans are made of, everything but the work memory.
pub(super) struct Parts {
    pub weights: ModelWeights,
    pub caches: Caches,
    pub inputs: Inputs,
    pub outputs: Outputs,
}

impl Parts {
    fn new(opened: &dyn Opened, memory: &mut Memory, limits: &Limits) -> Result<Self, ModelError> {
        let config = opened.config();
        let mut origin = opened.origin()?;
        Ok(Self {
            weights: ModelWeights::load(origin.as_mut(), memory, opened.layout(), [config.vocab, config.hidden])?,
            caches: Caches::new(memory, config, limits)?,
            inputs: Inputs::new(memory, limits)?,
            outputs: Outputs::new(memory, config, limits)?,
        })
    }

    /// With work memory at an address and of a size.
    pub fn context<'a>(
        &'a self,
        config: &'a ModelConfig,
        limits: &'a Limits,
        dispatcher: &'a Dispatcher,
        (work, work_bytes): (DevPtr<u8>, usize),
    ) -> Context<'a> {
        Context {
            config,
            weights: &self.weights,
            caches: &self.caches,
            inputs: &self.inputs,
            outputs: &self.outputs,
            limits,
            dispatcher,
            work,
            work_bytes,
        }
    }
}

/// The steps that need the most work memory.
fn largest(config: &ModelConfig, limits: &Limits) -> Vec<StepShape> {
    let shape = |net, kind, n_tok, n_seq| StepShape {
        net,
        kind,
        n_tok,
        n_seq,
        n_out: limits.max_out.min(n_tok),
        head: Head::Sample,
    };
    let mut shapes = Vec::new();
    for net in [Net::Main, Net::Mtp] {
        if net == Net::Mtp && !config.mtp {
            continue;
        }
        // Experts are done in one way for few tokens and in another for many, so every size is looked at.
        for n_tok in buckets(limits.chunk) {
            shapes.push(shape(net, Kind::Prefill, n_tok, limits.max_seqs));
        }
        for n_seq in buckets(limits.max_seqs) {
            for per_seq in 1..=limits.per_seq {
                shapes.push(shape(net, Kind::Decode, n_seq * per_seq, n_seq));
            }
        }
    }
    shapes
}

/// Counts a model, and makes plans of it, without a device. `info` is the device that it is meant for.
fn count(
    opened: &dyn Opened,
    limits: &Limits,
    dispatcher: &Dispatcher,
    wanted: &[StepShape],
) -> Result<(Memory, Vec<Plan>), ModelError> {
    let config = opened.config();
    let mut memory = Memory::counted();
    let parts = Parts::new(opened, &mut memory, limits)?;
    // Some address: calls tell tensors that are there from those that are not.
    let anywhere = DevPtr::new(std::ptr::without_provenance_mut(1 << 50));
    let context = parts.context(config, limits, dispatcher, (anywhere, usize::MAX));
    let mut work = 0;
    for shape in largest(config, limits) {
        work = work.max(Plan::new(context, shape)?.work_bytes);
    }
    memory.alloc("work", "work", work)?;
    let plans = wanted
        .iter()
        .map(|shape| Plan::new(context, *shape))
        .collect::<Result<_, _>>()?;
    Ok((memory, plans))
}

impl Footprint {
    /// Counts a model and makes the plans of some steps, as they would be on a device of this kind.
    ///
    /// # Errors
    /// The files', the options'; no config for an operation.
    pub fn new(
        opened: &dyn Opened,
        options: &Options,
        info: &DeviceInfo,
        wanted: &[StepShape],
    ) -> Result<Self, ModelError> {
        opened.config().check()?;
        let limits = options.limits(opened.config())?;
        let dispatcher = Dispatcher::new(info, options.mode)?;
        let (memory, plans) = count(opened, &limits, &dispatcher, wanted)?;
        Ok(Self {
            parts: memory.parts().clone(),
            plans,
        })
    }
}

impl Engine {
    /// Loads a model: all memory it will ever use is taken here.
    ///
    /// # Errors
    /// The files', the options'; [`ModelError::DoesNotFit`] before anything is taken; the device's.
    pub fn load(device: &Device, opened: &dyn Opened, options: Options) -> Result<Engine, ModelError> {
        let config = opened.config().clone();
        config.check()?;
        let limits = options.limits(&config)?;
        let dispatcher = Dispatcher::new(device.info(), options.mode)?;
        let (counted, _) = count(opened, &limits, &dispatcher, &[])?;
        if let Some([free, total]) = device.memory()?.map(<[u64; 2]>::from) {
            must_fit(&config.name, &counted, [free, total])?;
        }
        let mut memory = Memory::on(device);
        let parts = Parts::new(opened, &mut memory, &limits)?;
        let work_bytes = counted.parts().get("work").copied().unwrap_or(0) as usize;
        let work = memory.alloc("work", "work", work_bytes)?;
        // Rows that are no token are computed as well: what they read was written once.
        memory.zero(&work)?;
        Ok(Engine {
            stream: device.stream()?,
            device: device.clone(),
            chunk: limits.chunk,
            pool: Pool::default(),
            sequences: Sequences::new(limits),
            config,
            options,
            limits,
            memory,
            image: parts.inputs.image(),
            parts,
            work,
            dispatcher,
            last_rows: 0,
            follow: false,
            guesses: Vec::new(),
            guessed: 0,
            mtp_steps: 0,
        })
    }
}

/// Refuses a model that a device of `total` bytes, of which `free` are free, has too little memory for.
fn must_fit(model: &str, counted: &Memory, [free, total]: [u64; 2]) -> Result<(), ModelError> {
    let needed = counted.total();
    if needed <= free {
        return Ok(());
    }
    let parts: Vec<String> = counted
        .parts()
        .iter()
        .map(|(part, bytes)| format!("{part} {bytes}"))
        .collect();
    Err(ModelError::DoesNotFit {
        model: model.into(),
        needed,
        free,
        total,
        parts: parts.join(", "),
        advice: "Take fewer sequences, a shorter context or fewer layers",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_does_not_fit_is_refused_with_every_number() {
        let mut counted = Memory::counted();
        for (part, bytes) in [("weights", 700), ("kv cache", 250), ("weights", 50)] {
            counted.alloc(part, "tensor", bytes).unwrap();
        }
        must_fit("large", &counted, [1000, 2000]).unwrap();
        let error = must_fit("large", &counted, [999, 2000]).unwrap_err();
        assert!(matches!(error, ModelError::DoesNotFit { .. }));
        let text = error.to_string();
        for part in [
            "large needs 1000 bytes",
            "999 of",
            "2000",
            "kv cache 250",
            "weights 750",
            "Take fewer",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
