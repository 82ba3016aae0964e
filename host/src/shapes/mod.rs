//! The shapes that are measured: one TOML file per model or workload, in the folder `shapes/` at the workspace's root.
//!
//! The files are embedded in the binary ([`ShapeSet::embedded`]); a folder of others takes their place with
//! [`ShapeSet::load`]. The schema is written down in `shapes/README.md`; what dimensions an operation has it says itself
//! ([`crate::op::Operation::axes`]). A file that does not follow the schema is refused with an error that names the file, the
//! entry and the field.

mod load;
mod model;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub use load::ShapeError;
pub use model::{AttentionTable, GdnTable, ModelTable, MoeTable, ScalingTable, WeightFormat};

/// What is known of a model, as its `config.json` says it: of its `[model]` table, or by itself where a model is shapes alone. A fact that
/// does not apply is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Facts {
    /// Width of the residual stream.
    pub hidden: Option<u64>,
    /// Layers in all.
    pub layers: Option<u64>,
    /// Layers with softmax attention.
    pub attention_layers: Option<u64>,
    /// Query heads of an attention layer.
    pub q_heads: Option<u64>,
    /// Key and value heads of an attention layer.
    pub kv_heads: Option<u64>,
    /// Width of an attention head.
    pub head_dim: Option<u64>,
    /// Attention has a sigmoid output gate, projected together with q.
    pub gated_attention: bool,
    /// Width of the dense feed-forward.
    pub ffn: Option<u64>,
    /// Routed experts of a layer.
    pub experts: Option<u64>,
    /// Routed experts a token goes through.
    pub experts_used: Option<u64>,
    /// Experts every token goes through.
    pub shared_experts: Option<u64>,
    /// Width of one expert.
    pub expert_ffn: Option<u64>,
    /// Entries of the vocabulary.
    pub vocab: Option<u64>,
    /// The head uses the embedding's weights.
    pub tied_embeddings: Option<bool>,
    /// Layers with a gated delta net.
    pub gdn_layers: Option<u64>,
    /// Key (and query) heads of a gated delta net.
    pub gdn_k_heads: Option<u64>,
    /// Value heads of a gated delta net.
    pub gdn_v_heads: Option<u64>,
    /// Width of a gated delta net's heads.
    pub gdn_head_dim: Option<u64>,
    /// Taps of the convolution before a gated delta net.
    pub gdn_conv_width: Option<u64>,
}

/// One call of an operation in a model's forward: its dimensions and the token counts it is measured at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpShape {
    /// The file's stem: `qwen3-8b`.
    pub model: String,
    /// The call's name within the model: `ffn_down`.
    pub name: String,
    /// The operation: `q8_matmul`.
    pub op: String,
    /// Every dimension the operation has but `n_tok`, defaults filled in; in elements.
    pub dims: BTreeMap<String, u64>,
    /// Token counts, ascending; one 1 where the operation has no tokens.
    pub n_tok: Vec<u32>,
    /// Calls in one forward of the model.
    pub count: u64,
}

impl OpShape {
    /// A dimension by its name; `None` where the operation has none of that name.
    pub fn dim(&self, name: &str) -> Option<u64> {
        self.dims.get(name).copied()
    }

    /// `model/name`, by which globs and tables refer to the shape.
    pub fn label(&self) -> String {
        format!("{}/{}", self.model, self.name)
    }
}

/// One shape file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Model {
    /// The file's stem: `qwen3-8b`.
    pub name: String,
    /// The name people use: `Qwen3-8B`.
    pub title: String,
    /// What is known of the model; empty for a workload that is no model.
    pub facts: Facts,
    /// The whole model, where the file says it: what seeded weights are made of.
    #[serde(skip)]
    pub model: Option<ModelTable>,
    /// Its calls, in the file's order.
    pub ops: Vec<OpShape>,
}

/// All shape files of one folder, ordered by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShapeSet {
    /// The files.
    pub models: Vec<Model>,
}

impl ShapeSet {
    /// A file by its stem.
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|m| m.name == name)
    }

    /// Every call of every file, in order.
    pub fn ops(&self) -> impl Iterator<Item = &OpShape> {
        self.models.iter().flat_map(|m| &m.ops)
    }
}
