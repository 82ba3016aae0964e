//! Qwen3, dense: as Llama, with normed q and k heads.

use serde_json::Value;

use super::Family;
use super::hf::Config;
use super::meta::Meta;
use super::parts::Parts;
use crate::gguf::Gguf;
use crate::model::ModelError;
use crate::model::config::{Attention, Mixer, Mlp, ModelConfig};

/// The family.
pub struct Qwen3;

impl Family for Qwen3 {
    fn name(&self) -> &'static str {
        "qwen3"
    }

    fn model_types(&self) -> &'static [&'static str] {
        &["qwen3"]
    }

    fn read_json(&self, name: &str, json: &Value) -> Result<ModelConfig, ModelError> {
        let config = Config::new(name, json, self.model_types())?;
        let mixers = config.mixers(None)?;
        config.model(
            self.name(),
            Parts {
                mlps: vec![Mlp::Dense; mixers.len()],
                mixers,
                attention: Attention {
                    qk_norm: true,
                    ..config.attention(Some(128), 1.0)?
                },
                gdn: None,
                moe: None,
                zero_centered: false,
                mtp: false,
            },
        )
    }

    fn gguf_architectures(&self) -> &'static [&'static str] {
        &["qwen3"]
    }

    fn read_gguf(&self, name: &str, gguf: &Gguf) -> Result<ModelConfig, ModelError> {
        let meta = Meta::new(name, gguf)?;
        let n = meta.n_layers()? as usize;
        meta.model(
            self.name(),
            Parts {
                mixers: vec![Mixer::Attention; n],
                mlps: vec![Mlp::Dense; n],
                attention: Attention {
                    qk_norm: true,
                    ..meta.attention()?
                },
                gdn: None,
                moe: None,
                zero_centered: false,
                mtp: false,
            },
        )
    }
}
