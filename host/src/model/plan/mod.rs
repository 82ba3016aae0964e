//! The plan of a step: every launch with its config, made before the forward and printable.
//!
//! A plan depends on the shape of a step alone ([`StepShape`]): what differs from step to step (tokens, lengths, pages, slots) is read from
//! [`super::inputs::Inputs`] on the device, so a plan can be captured in a graph once and replayed.

mod attention;
mod builder;
mod forward;
mod gdn;
mod linear;
mod mlp;
mod mtp;

use std::sync::Arc;

use super::ModelError;
use crate::cost::Work;
use crate::device::{Device, Stream};
use crate::dispatch::Choice;
use crate::op::call::Call;

pub use builder::Context;
pub use forward::Outputs;

/// What a token is decides the order of attention and of gated delta nets (docs/numerics.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Tokens of prompts.
    Prefill,
    /// Generated and drafted tokens: the same number of each sequence.
    Decode,
}

/// What is made of the last hidden states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Head {
    /// Nothing: a chunk of a prompt that is not its last.
    None,
    /// Logits and the largest one's token.
    Greedy,
    /// Logits and a drawn token.
    Sample,
}

/// Which network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Net {
    /// The model.
    Main,
    /// The head that predicts the token after the next.
    Mtp,
}

/// The shape of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepShape {
    /// Which network.
    pub net: Net,
    /// What its tokens are.
    pub kind: Kind,
    /// Rows: of prompts at most; of decode, `n_seq` times the tokens of each.
    pub n_tok: u32,
    /// Sequences at most.
    pub n_seq: u32,
    /// Rows of logits.
    pub n_out: u32,
    /// What is made of them.
    pub head: Head,
}

impl StepShape {
    /// Tokens of a sequence of a decode step.
    pub fn per_seq(&self) -> u32 {
        self.n_tok / self.n_seq.max(1)
    }

    /// A short name: `decode 4x1`, `prefill 512`.
    pub fn label(&self) -> String {
        let net = if self.net == Net::Mtp { "mtp " } else { "" };
        match self.kind {
            Kind::Prefill => format!("{net}prefill {}x{}", self.n_seq, self.n_tok),
            Kind::Decode => format!("{net}decode {}x{}", self.n_seq, self.per_seq()),
        }
    }
}

/// One launch of a plan.
#[derive(Debug)]
pub struct Node {
    /// The layer; none before, between and after layers.
    pub layer: Option<u32>,
    /// What it is in the model: `attn_qkv`.
    pub role: &'static str,
    /// The operation's name.
    pub op: String,
    /// Its dimensions.
    pub dims: String,
    /// The config that runs.
    pub config: String,
    /// Why, and what else there was; none for a launch that has one config only.
    pub choice: Option<Arc<Choice>>,
    /// The launch.
    pub call: Box<dyn Call>,
}

impl Node {
    /// What it moves and computes, where its operation says.
    pub fn work(&self, sm_count: u32) -> Option<Work> {
        self.call.work(&self.config, sm_count)
    }
}

/// The launches of a step.
#[derive(Debug)]
pub struct Plan {
    /// Of which step.
    pub shape: StepShape,
    /// In order.
    pub nodes: Vec<Node>,
    /// Bytes of work memory it uses.
    pub work_bytes: usize,
}

impl Plan {
    /// Queues every launch. Allocates nothing and waits for nothing.
    ///
    /// # Errors
    /// A launch's, with its layer and role.
    pub fn launch(&self, device: &Device, stream: &Stream) -> Result<(), ModelError> {
        for node in &self.nodes {
            node.call.launch(device, stream, &node.config).map_err(|e| {
                tracing::error!(layer = node.layer, role = node.role, "{e}");
                e
            })?;
        }
        Ok(())
    }
}
