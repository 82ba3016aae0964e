//! What the `config.json` files of several families have in common.

use serde_json::Value;

use super::fields::{Fields, rope};
use super::parts::{MAX_LAYERS, Parts, every};
use crate::model::ModelError;
use crate::model::config::{Attention, Gdn, Mixer, Mlp, ModelConfig, Moe};

/// A `config.json`: the object with the text model's fields, and the whole.
pub struct Config<'a> {
    /// The whole file.
    pub top: Fields<'a>,
    /// The text model's fields: those of `text_config` where there is one, else the whole file's.
    pub text: Fields<'a>,
}

impl<'a> Config<'a> {
    /// Finds the text model's fields, and refuses what no family implements: biases, other activations than SiLU, quantisations other
    /// than NVFP4, a nested model of another type.
    ///
    /// # Errors
    /// A file that is no object, or says one of those.
    pub fn new(name: &'a str, json: &'a Value, model_types: &[&str]) -> Result<Self, ModelError> {
        let top = Fields::new(name, json)?;
        let text = match top.object("text_config")? {
            Some(text) => {
                if let Some(inner) = text.str("model_type")?.filter(|inner| !model_types.contains(inner)) {
                    return Err(text.error(
                        "model_type",
                        format!("`{inner}`: it must be one of {}", model_types.join(", ")),
                    ));
                }
                text
            }
            None => top.clone(),
        };
        for field in ["attention_bias", "mlp_bias", "qkv_bias"] {
            text.refuse(field)?;
        }
        if let Some(act) = text.str("hidden_act")?.filter(|act| *act != "silu") {
            return Err(text.error("hidden_act", format!("`{act}`: only `silu` is implemented")));
        }
        check_quantization(&top)?;
        check_quantization(&text)?;
        Ok(Self { top, text })
    }

    /// Number of layers.
    ///
    /// # Errors
    /// A count that is missing or out of bounds.
    pub fn n_layers(&self) -> Result<u32, ModelError> {
        let n = self.text.need_u32("num_hidden_layers")?;
        if n == 0 || n > MAX_LAYERS {
            return Err(self
                .text
                .error("num_hidden_layers", format!("{n}: it must be from 1 to {MAX_LAYERS}")));
        }
        Ok(n)
    }

    /// What mixes positions in each layer: `layer_types` where it is given. Else with `interval` every `full_attention_interval`-th layer
    /// (or every `interval`-th, where that is absent) has attention and the others have a gated delta net; without, all have attention.
    ///
    /// # Errors
    /// Fields of wrong types, a list of another length, types that are not implemented, an interval of 0, a sliding window in use.
    pub fn mixers(&self, interval: Option<u32>) -> Result<Vec<Mixer>, ModelError> {
        let text = &self.text;
        let n = self.n_layers()?;
        let types = text.strs("layer_types")?;
        if let Some(window) = text.u32("sliding_window")?
            && text.bool("use_sliding_window")? == Some(true)
            && types.is_none()
            && text.u32("max_window_layers")?.unwrap_or(0) < n
        {
            return Err(text.error(
                "sliding_window",
                format!("{window}: use_sliding_window is true, and sliding windows are not implemented"),
            ));
        }
        if let Some(types) = types {
            if types.len() != n as usize {
                return Err(text.error(
                    "layer_types",
                    format!("{} types, and num_hidden_layers is {n}", types.len()),
                ));
            }
            let mixer = |kind: &&str| match (*kind, interval) {
                ("full_attention", _) => Ok(Mixer::Attention),
                ("linear_attention", Some(_)) => Ok(Mixer::Gdn),
                (other, Some(_)) => Err(text.error(
                    "layer_types",
                    format!("`{other}`: it must be full_attention or linear_attention"),
                )),
                (other, None) => Err(text.error("layer_types", format!("`{other}`: it must be full_attention"))),
            };
            return types.iter().map(mixer).collect();
        }
        let Some(interval) = interval else {
            return Ok(vec![Mixer::Attention; n as usize]);
        };
        let interval = text.u32("full_attention_interval")?.unwrap_or(interval);
        if interval == 0 {
            return Err(text.error("full_attention_interval", "0: it must be at least 1"));
        }
        Ok(every(n, interval))
    }

    /// Attention's sizes and rotation. `head_dim` is what the family takes where the file says nothing (hidden_size over heads if that is
    /// absent too), `part` how much of a head is turned then.
    ///
    /// # Errors
    /// Fields that are missing or of wrong types or values.
    pub fn attention(&self, head_dim: Option<u32>, part: f64) -> Result<Attention, ModelError> {
        let text = &self.text;
        let q_heads = text.need_u32("num_attention_heads")?;
        let hidden = text.need_u32("hidden_size")?;
        let head_dim = match text.u32("head_dim")?.or(head_dim) {
            Some(head_dim) => head_dim,
            None => match hidden.checked_div(q_heads) {
                Some(head_dim) if head_dim * q_heads == hidden => head_dim,
                _ => {
                    return Err(text.error(
                        "num_attention_heads",
                        format!("{q_heads}: it must divide hidden_size = {hidden}, as there is no head_dim"),
                    ));
                }
            },
        };
        let rope = rope(text, head_dim, part, text.need_u32("max_position_embeddings")?)?;
        Ok(Attention {
            q_heads,
            kv_heads: text.u32("num_key_value_heads")?.unwrap_or(q_heads),
            head_dim,
            rot: rope.rot,
            interleaved: false,
            theta: rope.theta,
            scaling: rope.scaling,
            freq_factors: None,
            qk_norm: false,
            gate: false,
        })
    }

    /// The gated delta net's sizes. Absent fields have the values that transformers gives them.
    ///
    /// # Errors
    /// Fields of wrong types or values.
    pub fn gdn(&self) -> Result<Gdn, ModelError> {
        let text = &self.text;
        let head_dim = text.u32("linear_key_head_dim")?.unwrap_or(128);
        let v_head_dim = text.u32("linear_value_head_dim")?.unwrap_or(128);
        if v_head_dim != head_dim {
            return Err(text.error(
                "linear_value_head_dim",
                format!("{v_head_dim}: it must be as linear_key_head_dim = {head_dim}"),
            ));
        }
        Ok(Gdn {
            k_heads: text.u32("linear_num_key_heads")?.unwrap_or(16),
            v_heads: text.u32("linear_num_value_heads")?.unwrap_or(32),
            head_dim,
            conv_width: text.u32("linear_conv_kernel_dim")?.unwrap_or(4),
            modulo: false,
        })
    }

    /// The experts' sizes. `normalise` is what the family takes where the file does not say.
    ///
    /// # Errors
    /// Fields that are missing or of wrong types or values.
    pub fn moe(&self, normalise: bool, shared: bool) -> Result<Moe, ModelError> {
        let text = &self.text;
        let experts = text.u32_of("num_experts", "num_local_experts")?;
        Ok(Moe {
            experts: text.need("num_experts", experts)?,
            top_k: text.need_u32("num_experts_per_tok")?,
            ffn: text.need_u32("moe_intermediate_size")?,
            normalise: text.bool("norm_topk_prob")?.unwrap_or(normalise),
            shared_ffn: match shared {
                true => Some(text.need_u32("shared_expert_intermediate_size")?).filter(|ffn| *ffn != 0),
                false => None,
            },
        })
    }

    /// Each layer's feed-forward by `mlp_only_layers` and `decoder_sparse_step`: dense where the first names the layer, or where the layer's
    /// number, from 1, is no multiple of the second.
    ///
    /// # Errors
    /// Fields of wrong types or values.
    pub fn sparse_layers(&self) -> Result<Vec<Mlp>, ModelError> {
        let text = &self.text;
        let n = self.n_layers()?;
        let step = text.u32("decoder_sparse_step")?.unwrap_or(1);
        if step == 0 {
            return Err(text.error("decoder_sparse_step", "0: it must be at least 1"));
        }
        let dense = text.u32s("mlp_only_layers")?.unwrap_or_default();
        if let Some(layer) = dense.iter().find(|layer| **layer >= n) {
            return Err(text.error("mlp_only_layers", format!("{layer}: the model has {n} layers")));
        }
        let experts = text.u32_of("num_experts", "num_local_experts")?;
        let mlp = |i: u32| match experts == Some(0) || dense.contains(&i) || !(i + 1).is_multiple_of(step) {
            true => Mlp::Dense,
            false => Mlp::Moe,
        };
        Ok((0..n).map(mlp).collect())
    }

    /// Puts the parts together with what all families have, and checks the whole.
    ///
    /// # Errors
    /// Fields that are missing or of wrong types or values; parts that do not fit each other.
    pub fn model(&self, family: &'static str, parts: Parts) -> Result<ModelConfig, ModelError> {
        let text = &self.text;
        let mut eos = text.tokens("eos_token_id")?;
        if eos.is_empty() {
            eos = self.top.tokens("eos_token_id")?;
        }
        let config = ModelConfig {
            name: text.origin().into(),
            family,
            hidden: text.need_u32("hidden_size")?,
            vocab: text.need_u32("vocab_size")?,
            max_positions: text.need_u32("max_position_embeddings")?,
            norm_eps: text.f64("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            zero_centered: parts.zero_centered,
            // Of a nested model the outer field counts: it is the outer model that has the head.
            tied_embeddings: match self.top.bool("tie_word_embeddings")? {
                Some(tied) => tied,
                None => text.bool("tie_word_embeddings")?.unwrap_or(false),
            },
            ffn: match parts.mlps.contains(&Mlp::Dense) {
                true => Some(text.need_u32("intermediate_size")?),
                false => None,
            },
            moe: parts.used_moe(),
            gdn: parts.used_gdn(),
            layers: parts.layers(),
            attention: parts.attention,
            mtp: parts.mtp,
            eos,
        };
        config.check()?;
        if let Some(id) = config.eos.iter().find(|id| **id >= config.vocab) {
            return Err(text.error("eos_token_id", format!("{id}: vocab_size is {}", config.vocab)));
        }
        Ok(config)
    }
}

/// Refuses quantisations that the loader does not read. Which tensors are quantised the loader sees by their names.
fn check_quantization(fields: &Fields<'_>) -> Result<(), ModelError> {
    let Some(quantization) = fields.object("quantization_config")? else {
        return Ok(());
    };
    let method = quantization.str("quant_method")?;
    // ModelOpt says the algorithm, compressed-tensors the format.
    let (field, kind, read): (_, _, &[&str]) = match method {
        Some("modelopt" | "modelopt_fp4") => {
            let known: &[&str] = &["NVFP4", "W4A16_NVFP4"];
            ("quant_algo", quantization.str("quant_algo")?, known)
        }
        Some("compressed-tensors") => {
            let known: &[&str] = &["nvfp4-pack-quantized"];
            ("format", quantization.str("format")?, known)
        }
        other => {
            return Err(quantization.error(
                "quant_method",
                format!(
                    "`{}` is not read; bf16, and NVFP4 of `modelopt` and of `compressed-tensors` are",
                    other.unwrap_or("(none)")
                ),
            ));
        }
    };
    match kind {
        Some(kind) if read.contains(&kind) => Ok(()),
        other => Err(quantization.error(
            field,
            format!("`{}` is not read; {} is", other.unwrap_or("(none)"), read.join(" or ")),
        )),
    }
}
