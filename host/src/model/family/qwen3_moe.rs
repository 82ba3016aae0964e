//! Qwen3 with experts (Qwen3-30B-A3B, Qwen3-Coder-30B-A3B, Qwen3-235B-A22B): Qwen3's attention, routed experts, none shared.

use serde_json::Value;

use super::Family;
use super::hf::Config;
use super::meta::Meta;
use super::parts::Parts;
use crate::gguf::Gguf;
use crate::model::ModelError;
use crate::model::config::{Attention, Mixer, Mlp, ModelConfig};

/// The family.
pub struct Qwen3Moe;

impl Family for Qwen3Moe {
    fn name(&self) -> &'static str {
        "qwen3_moe"
    }

    fn model_types(&self) -> &'static [&'static str] {
        &["qwen3_moe"]
    }

    fn read_json(&self, name: &str, json: &Value) -> Result<ModelConfig, ModelError> {
        let config = Config::new(name, json, self.model_types())?;
        config.model(
            self.name(),
            Parts {
                mixers: config.mixers(None)?,
                mlps: config.sparse_layers()?,
                attention: Attention {
                    qk_norm: true,
                    // transformers takes hidden_size over heads here, and not Qwen3's 128.
                    ..config.attention(None, 1.0)?
                },
                gdn: None,
                moe: Some(config.moe(false, false)?),
                zero_centered: false,
                mtp: false,
            },
        )
    }

    fn gguf_architectures(&self) -> &'static [&'static str] {
        &["qwen3moe"]
    }

    fn read_gguf(&self, name: &str, gguf: &Gguf) -> Result<ModelConfig, ModelError> {
        let meta = Meta::new(name, gguf)?;
        let n = meta.n_layers()? as usize;
        meta.model(
            self.name(),
            Parts {
                mixers: vec![Mixer::Attention; n],
                mlps: vec![Mlp::Moe; n],
                attention: Attention {
                    qk_norm: true,
                    ..meta.attention()?
                },
                gdn: None,
                moe: Some(meta.moe(false)?),
                zero_centered: false,
                mtp: false,
            },
        )
    }
}
