//! Qwen3.5 and Qwen3.6 with experts (Qwen3.5-35B-A3B, Qwen3.6-35B-A3B): as the dense ones, with routed experts and a shared one.

use serde_json::Value;

use super::hf::Config;
use super::meta::Meta;
use super::parts::Parts;
use super::{Family, qwen3_5};
use crate::gguf::Gguf;
use crate::model::ModelError;
use crate::model::config::{Mlp, ModelConfig};

/// The family.
pub struct Qwen3_5Moe;

impl Family for Qwen3_5Moe {
    fn name(&self) -> &'static str {
        "qwen3_5_moe"
    }

    fn model_types(&self) -> &'static [&'static str] {
        &["qwen3_5_moe", "qwen3_5_moe_text"]
    }

    fn read_json(&self, name: &str, json: &Value) -> Result<ModelConfig, ModelError> {
        let config = Config::new(name, json, self.model_types())?;
        let mixers = config.mixers(Some(4))?;
        let moe = config.moe(true, true)?;
        if !moe.normalise {
            let message = "false: this family's router always normalises";
            return Err(config.text.error("norm_topk_prob", message));
        }
        config.model(
            self.name(),
            Parts {
                mlps: vec![Mlp::Moe; mixers.len()],
                mixers,
                attention: qwen3_5::attention(&config)?,
                gdn: Some(config.gdn()?),
                moe: Some(moe),
                zero_centered: true,
                mtp: qwen3_5::mtp(&config)?,
            },
        )
    }

    fn gguf_architectures(&self) -> &'static [&'static str] {
        &["qwen35moe"]
    }

    fn read_gguf(&self, name: &str, gguf: &Gguf) -> Result<ModelConfig, ModelError> {
        let meta = Meta::new(name, gguf)?;
        let mixers = meta.hybrid()?;
        let mlps = vec![Mlp::Moe; mixers.len()];
        let moe = Some(meta.moe(true)?);
        let parts = qwen3_5::parts_of_gguf(&meta, mixers, mlps, moe)?;
        meta.model(self.name(), parts)
    }
}
