//! Qwen3-Next (Qwen3-Next-80B-A3B): three layers of four have a gated delta net, with its projections packed by key head, the fourth has
//! gated attention; routed experts and a shared one; norms centred on 0; an MTP head.

use serde_json::Value;

use super::Family;
use super::hf::Config;
use super::meta::Meta;
use super::parts::Parts;
use crate::gguf::Gguf;
use crate::model::ModelError;
use crate::model::config::{Attention, Mlp, ModelConfig};

/// The family.
pub struct Qwen3Next;

impl Family for Qwen3Next {
    fn name(&self) -> &'static str {
        "qwen3_next"
    }

    fn model_types(&self) -> &'static [&'static str] {
        &["qwen3_next"]
    }

    fn read_json(&self, name: &str, json: &Value) -> Result<ModelConfig, ModelError> {
        let config = Config::new(name, json, self.model_types())?;
        config.model(
            self.name(),
            Parts {
                mixers: config.mixers(Some(4))?,
                mlps: config.sparse_layers()?,
                attention: Attention {
                    qk_norm: true,
                    gate: true,
                    ..config.attention(Some(256), 0.25)?
                },
                gdn: Some(config.gdn()?),
                moe: Some(config.moe(true, true)?),
                zero_centered: true,
                // Published configs do not mention the head that the checkpoints have: the layout finds whether it is there.
                mtp: config.text.u32("num_nextn_predict_layers")?.unwrap_or(1) == 1,
            },
        )
    }

    fn gguf_architectures(&self) -> &'static [&'static str] {
        &["qwen3next"]
    }

    fn read_gguf(&self, name: &str, gguf: &Gguf) -> Result<ModelConfig, ModelError> {
        let meta = Meta::new(name, gguf)?;
        let mixers = meta.hybrid()?;
        meta.model(
            self.name(),
            Parts {
                mlps: vec![Mlp::Moe; mixers.len()],
                mixers,
                attention: Attention {
                    qk_norm: true,
                    gate: true,
                    ..meta.attention()?
                },
                gdn: Some(meta.gdn(false)?),
                moe: Some(meta.moe(true)?),
                zero_centered: true,
                mtp: false,
            },
        )
    }
}
