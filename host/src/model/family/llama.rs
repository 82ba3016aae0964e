//! Llama 2, 3, 3.1, 3.2 and what has their form: attention over whole turned heads, a dense feed-forward.

use serde_json::Value;

use super::Family;
use super::hf::Config;
use super::meta::Meta;
use super::parts::Parts;
use crate::gguf::Gguf;
use crate::model::ModelError;
use crate::model::config::{Mixer, Mlp, ModelConfig};

/// The family.
pub struct Llama;

/// Its name.
pub const NAME: &str = "llama";

impl Family for Llama {
    fn name(&self) -> &'static str {
        NAME
    }

    fn model_types(&self) -> &'static [&'static str] {
        &["llama"]
    }

    fn read_json(&self, name: &str, json: &Value) -> Result<ModelConfig, ModelError> {
        let config = Config::new(name, json, self.model_types())?;
        let mixers = config.mixers(None)?;
        config.model(
            self.name(),
            Parts {
                mlps: vec![Mlp::Dense; mixers.len()],
                mixers,
                attention: config.attention(None, 1.0)?,
                gdn: None,
                moe: None,
                zero_centered: false,
                mtp: false,
            },
        )
    }

    fn gguf_architectures(&self) -> &'static [&'static str] {
        &["llama"]
    }

    fn read_gguf(&self, name: &str, gguf: &Gguf) -> Result<ModelConfig, ModelError> {
        let meta = Meta::new(name, gguf)?;
        // Mixtral's files are of the same architecture.
        if let Some(experts) = meta.u32("expert_count")?.filter(|experts| *experts != 0) {
            return Err(meta.error(
                "expert_count",
                format!("{experts}: Llama with experts is not implemented"),
            ));
        }
        let n = meta.n_layers()? as usize;
        meta.model(
            self.name(),
            Parts {
                mixers: vec![Mixer::Attention; n],
                mlps: vec![Mlp::Dense; n],
                attention: meta.attention()?,
                gdn: None,
                moe: None,
                zero_centered: false,
                mtp: false,
            },
        )
    }
}
