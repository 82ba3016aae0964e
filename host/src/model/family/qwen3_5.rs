//! Qwen3.5 and Qwen3.6, dense (Qwen3.5-4B, 9B, 27B): the text model of a multimodal one. As Qwen3-Next, with a tensor for each of the gated
//! delta net's projections and a dense feed-forward.

use serde_json::Value;

use super::Family;
use super::hf::Config;
use super::meta::Meta;
use super::parts::Parts;
use crate::gguf::Gguf;
use crate::model::ModelError;
use crate::model::config::{Attention, Mixer, Mlp, ModelConfig, Moe};

/// The family.
pub struct Qwen3_5;

/// Gated attention, unless the file says that it is not.
///
/// # Errors
/// Fields that are missing or of wrong types or values.
pub fn attention(config: &Config<'_>) -> Result<Attention, ModelError> {
    Ok(Attention {
        qk_norm: true,
        gate: config.text.bool("attn_output_gate")?.unwrap_or(true),
        ..config.attention(Some(256), 0.25)?
    })
}

/// Whether there may be an MTP head of the form that is implemented: one layer, the model's own embedding.
///
/// # Errors
/// Fields of wrong types.
pub fn mtp(config: &Config<'_>) -> Result<bool, ModelError> {
    let own_embedding = config.text.bool("mtp_use_dedicated_embeddings")? == Some(true);
    Ok(config.text.u32("mtp_num_hidden_layers")? == Some(1) && !own_embedding)
}

/// What a GGUF file's metadata say beside the feed-forward. The converter puts the value heads of each key head `k_heads` apart, in all
/// tensors alike, so value head h reads key head h mod k_heads there.
///
/// # Errors
/// Keys that are missing or of other types, values that do not fit each other.
pub fn parts_of_gguf(
    meta: &Meta<'_>,
    mixers: Vec<Mixer>,
    mlps: Vec<Mlp>,
    moe: Option<Moe>,
) -> Result<Parts, ModelError> {
    Ok(Parts {
        mixers,
        mlps,
        attention: Attention {
            qk_norm: true,
            gate: true,
            ..meta.attention()?
        },
        gdn: Some(meta.gdn(true)?),
        moe,
        zero_centered: true,
        mtp: meta.mtp_layers()? == 1,
    })
}

impl Family for Qwen3_5 {
    fn name(&self) -> &'static str {
        "qwen3_5"
    }

    fn model_types(&self) -> &'static [&'static str] {
        &["qwen3_5", "qwen3_5_text"]
    }

    fn read_json(&self, name: &str, json: &Value) -> Result<ModelConfig, ModelError> {
        let config = Config::new(name, json, self.model_types())?;
        let mixers = config.mixers(Some(4))?;
        config.model(
            self.name(),
            Parts {
                mlps: vec![Mlp::Dense; mixers.len()],
                mixers,
                attention: attention(&config)?,
                gdn: Some(config.gdn()?),
                moe: None,
                zero_centered: true,
                mtp: mtp(&config)?,
            },
        )
    }

    fn gguf_architectures(&self) -> &'static [&'static str] {
        &["qwen35"]
    }

    fn read_gguf(&self, name: &str, gguf: &Gguf) -> Result<ModelConfig, ModelError> {
        let meta = Meta::new(name, gguf)?;
        let mixers = meta.hybrid()?;
        let mlps = vec![Mlp::Dense; mixers.len()];
        let parts = parts_of_gguf(&meta, mixers, mlps, None)?;
        meta.model(self.name(), parts)
    }
}
