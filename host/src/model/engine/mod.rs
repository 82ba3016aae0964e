//! A loaded model: sequences, steps, graphs.
//!
//! ```text
//! Engine::load -> open(sampling) -> prefill(prompt) -> decode(token and drafts) ... -> close
//! ```
//! A step takes no memory and waits for nothing but its result: the inputs are copied in, the plan's launches (or the graph made of them) are
//! queued, the tokens are copied out.

mod drafts;
mod generate;
mod image;
mod load;
mod options;
mod pool;
mod sequence;
mod steps;

use crate::device::{Device, Stream};
use crate::dispatch::{Choice, Dispatcher};
use crate::model::ModelError;
use crate::model::config::ModelConfig;
use crate::model::inputs::Image;
use crate::model::limits::Limits;
use crate::model::memory::{Memory, Region};
use crate::model::plan::{Plan, StepShape};
use std::sync::Arc;

pub use generate::{Draft, Generated, Request};
pub use load::{Footprint, Opened};
pub use options::Options;
pub use pool::GraphState;
pub use sequence::{Sampling, SeqId};
pub use steps::{Feed, Wanted};

use drafts::Guess;
use load::Parts;
use pool::Pool;
use sequence::Sequences;

/// A model on a device.
pub struct Engine {
    device: Device,
    stream: Stream,
    config: ModelConfig,
    options: Options,
    limits: Limits,
    memory: Memory,
    parts: Parts,
    work: Region,
    dispatcher: Dispatcher,
    pool: Pool,
    sequences: Sequences,
    image: Image,
    /// Tokens of a prefill step now: at most the limit's.
    chunk: u32,
    /// Rows of logits that the last step left.
    last_rows: usize,
    /// Whether the MTP head goes along with every step.
    follow: bool,
    /// What the MTP head says of sequences.
    guesses: Vec<Guess>,
    /// Rows of logits that the MTP head's last step left.
    guessed: usize,
    /// Steps of the MTP head so far.
    mtp_steps: u64,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("model", &self.config.name)
            .field("device", self.device.info())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// What the model is.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What it was loaded for.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// How much it is ready for.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The stream that steps run on.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Bytes on the device, by part.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Every choice of a config made so far, with what it passed over: in strict mode, what strictness excluded.
    pub fn choices(&self) -> Vec<Arc<Choice>> {
        self.dispatcher.choices()
    }

    /// The graphs there are, and the captures that failed with their reasons.
    pub fn graphs(&self) -> Vec<(StepShape, GraphState)> {
        self.pool.states()
    }

    /// Sets the tokens of a prefill step.
    ///
    /// # Errors
    /// [`ModelError::Request`]: no multiple of 64, or more than the model was loaded for.
    pub fn set_chunk(&mut self, chunk: u32) -> Result<(), ModelError> {
        if chunk == 0 || !chunk.is_multiple_of(64) || chunk > self.limits.chunk {
            return Err(ModelError::Request(format!(
                "chunks of {chunk} tokens: a multiple of 64, at most the {} that the model was loaded for",
                self.limits.chunk
            )));
        }
        self.chunk = chunk;
        Ok(())
    }

    /// Switches graphs on or off.
    pub fn set_graphs(&mut self, on: bool) {
        self.options.graphs = on;
    }

    /// The plan of a step.
    ///
    /// # Errors
    /// A shape beyond the limits; no config for an operation.
    pub fn plan(&mut self, shape: StepShape) -> Result<&Plan, ModelError> {
        let work = (self.work.ptr(), self.work.len_bytes());
        let context = self.parts.context(&self.config, &self.limits, &self.dispatcher, work);
        self.pool.plan(context, shape)
    }

    /// Opens a sequence.
    ///
    /// # Errors
    /// [`ModelError::Request`]: as many are open as the model was loaded for.
    pub fn open(&mut self, sampling: Sampling) -> Result<SeqId, ModelError> {
        self.sequences.open(sampling)
    }

    /// Closes a sequence; its pages and slots are free again. One that is closed already stays so.
    pub fn close(&mut self, id: SeqId) {
        self.sequences.close(id);
        self.forget(id);
    }

    /// The tokens of a sequence whose keys, values and states are on the device.
    ///
    /// # Errors
    /// [`ModelError::Request`]: it is not open.
    pub fn tokens(&self, id: SeqId) -> Result<&[u32], ModelError> {
        Ok(&self.sequences.get(id)?.tokens)
    }
}
