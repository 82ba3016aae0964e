//! What the metadata of GGUF files of several families have in common. Keys: llama.cpp's `gguf` package 0.19, `constants.py`.

use super::parts::{MAX_LAYERS, Parts, every};
use crate::gguf::{Gguf, Value};
use crate::model::ModelError;
use crate::model::config::{Attention, Gdn, Mixer, Mlp, ModelConfig, Moe};
use crate::rope::Scaling;

/// A GGUF file with the names that its keys begin with.
pub struct Meta<'a> {
    name: &'a str,
    gguf: &'a Gguf,
    architecture: &'a str,
}

impl<'a> Meta<'a> {
    /// `name` is what errors call the file.
    ///
    /// # Errors
    /// A file that does not say its architecture; one with biases or a sliding window, which are not implemented.
    pub fn new(name: &'a str, gguf: &'a Gguf) -> Result<Self, ModelError> {
        let meta = Self {
            name,
            gguf,
            architecture: gguf.meta("general.architecture")?,
        };
        for base in ["attn_q", "attn_k", "attn_v", "attn_output", "attn_qkv", "ffn_up"] {
            let tensor = format!("blk.0.{base}.bias");
            if gguf.tensor(&tensor).is_ok() {
                return Err(ModelError::Tensor {
                    origin: name.into(),
                    tensor,
                    message: "biases are not implemented".into(),
                });
            }
        }
        for key in ["attention.sliding_window", "leading_dense_block_count"] {
            if let Some(value) = meta.u32(key)?.filter(|value| *value != 0) {
                return Err(meta.error(key, format!("{value}: it is not implemented, only 0 is")));
            }
        }
        for key in ["rope.scale_linear", "expert_weights_scale"] {
            if let Some(value) = meta.f64(key)?.filter(|value| *value != 1.0 && *value != 0.0) {
                return Err(meta.error(key, format!("{value}: it is not implemented, only 1 is")));
            }
        }
        Ok(meta)
    }

    /// An error about a key of this architecture.
    pub fn error(&self, key: &str, message: impl Into<String>) -> ModelError {
        ModelError::Config {
            origin: self.name.into(),
            field: format!("{}.{key}", self.architecture),
            message: message.into(),
        }
    }

    /// A count.
    ///
    /// # Errors
    /// A value of another type.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, ModelError> {
        Ok(self.gguf.meta_opt(&format!("{}.{key}", self.architecture))?)
    }

    fn need_u32(&self, key: &str) -> Result<u32, ModelError> {
        Ok(self.gguf.meta(&format!("{}.{key}", self.architecture))?)
    }

    fn f64(&self, key: &str) -> Result<Option<f64>, ModelError> {
        Ok(self.gguf.meta_opt(&format!("{}.{key}", self.architecture))?)
    }

    fn need_f64(&self, key: &str) -> Result<f64, ModelError> {
        Ok(self.gguf.meta(&format!("{}.{key}", self.architecture))?)
    }

    /// Number of layers, without those of an MTP head, which llama.cpp counts as blocks too.
    ///
    /// # Errors
    /// A count that is missing or out of bounds.
    pub fn n_layers(&self) -> Result<u32, ModelError> {
        let (blocks, heads) = (self.need_u32("block_count")?, self.mtp_layers()?);
        match blocks.checked_sub(heads) {
            Some(n @ 1..=MAX_LAYERS) => Ok(n),
            _ => Err(self.error(
                "block_count",
                format!("{blocks}, {heads} of them of an MTP head: from 1 to {MAX_LAYERS} others must be left"),
            )),
        }
    }

    /// Layers of the MTP head.
    ///
    /// # Errors
    /// A value of another type.
    pub fn mtp_layers(&self) -> Result<u32, ModelError> {
        Ok(self.u32("nextn_predict_layers")?.unwrap_or(0))
    }

    /// What mixes positions in each layer of a hybrid model: `attention.recurrent_layers` where it is given, else attention in every
    /// `full_attention_interval`-th layer.
    ///
    /// # Errors
    /// Values of other types, a list that is too short, an interval of 0.
    pub fn hybrid(&self) -> Result<Vec<Mixer>, ModelError> {
        let n = self.n_layers()?;
        let (key, list) = (format!("{}.attention.recurrent_layers", self.architecture), n as usize);
        if let Some(array) = self.gguf.meta_opt::<crate::gguf::Array<'_>>(&key)? {
            let mixer = |value| match value {
                Value::Bool(true) => Some(Mixer::Gdn),
                Value::Bool(false) => Some(Mixer::Attention),
                _ => None,
            };
            let mixers: Option<Vec<Mixer>> = array.iter().take(list).map(mixer).collect();
            let mixers = mixers.filter(|mixers| mixers.len() == list);
            return mixers.ok_or_else(|| {
                let message = format!("{} of {:?}: {n} of Bool are wanted", array.len(), array.element());
                self.error("attention.recurrent_layers", message)
            });
        }
        match self.u32("full_attention_interval")?.unwrap_or(4) {
            0 => Err(self.error("full_attention_interval", "0: it must be at least 1")),
            interval => Ok(every(n, interval)),
        }
    }

    /// Attention's sizes and rotation.
    ///
    /// # Errors
    /// Keys that are missing or of other types, values that do not fit each other or are not implemented.
    pub fn attention(&self) -> Result<Attention, ModelError> {
        let q_heads = self.need_u32("attention.head_count")?;
        let hidden = self.need_u32("embedding_length")?;
        let head_dim = match self.u32("attention.key_length")? {
            Some(head_dim) => head_dim,
            None => match hidden.checked_div(q_heads) {
                Some(head_dim) if head_dim * q_heads == hidden => head_dim,
                _ => {
                    return Err(self.error(
                        "attention.head_count",
                        format!("{q_heads}: it must divide embedding_length = {hidden}, as there is no key_length"),
                    ));
                }
            },
        };
        if let Some(v) = self.u32("attention.value_length")?.filter(|v| *v != head_dim) {
            return Err(self.error(
                "attention.value_length",
                format!("{v}: it must be as the keys' {head_dim}"),
            ));
        }
        if let Some(scale) = self.f64("attention.scale")? {
            let ours = 1.0 / f64::from(head_dim).sqrt();
            if scale != 0.0 && (scale - ours).abs() > 1e-6 * ours {
                return Err(self.error(
                    "attention.scale",
                    format!("{scale}: only 1 / sqrt({head_dim}) is implemented"),
                ));
            }
        }
        let rot = self.u32("rope.dimension_count")?.unwrap_or(head_dim);
        Ok(Attention {
            q_heads,
            kv_heads: self.u32("attention.head_count_kv")?.unwrap_or(q_heads),
            head_dim,
            rot,
            interleaved: false,
            theta: self.f64("rope.freq_base")?.unwrap_or(10000.0),
            scaling: self.scaling(rot == head_dim)?,
            freq_factors: self.freq_factors(rot)?,
            qk_norm: false,
            gate: false,
        })
    }

    fn scaling(&self, whole: bool) -> Result<Scaling, ModelError> {
        let key = format!("{}.rope.scaling.type", self.architecture);
        let factor = || self.need_f64("rope.scaling.factor");
        match self.gguf.meta_opt::<&str>(&key)?.unwrap_or("none") {
            "none" => Ok(Scaling::None),
            "linear" => Ok(Scaling::Linear { factor: factor()? }),
            "yarn" if whole => {
                for key in ["yarn_ext_factor", "yarn_attn_factor", "attn_factor"] {
                    let key = format!("rope.scaling.{key}");
                    if let Some(value) = self.f64(&key)?.filter(|value| *value != 1.0) {
                        return Err(self.error(&key, format!("{value}: only 1 is implemented")));
                    }
                }
                Ok(Scaling::Yarn {
                    factor: factor()?,
                    beta_fast: self.f64("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                    beta_slow: self.f64("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                    original_positions: self.need_u32("rope.scaling.original_context_length")?.into(),
                })
            }
            other => Err(self.error(
                "rope.scaling.type",
                format!("`{other}` is not implemented; none and linear are, and yarn where whole heads are turned"),
            )),
        }
    }

    /// The divisors of the frequencies, which the converter makes of Llama 3's scaling.
    fn freq_factors(&self, rot: u32) -> Result<Option<Vec<f32>>, ModelError> {
        let Ok(tensor) = self.gguf.tensor("rope_freqs.weight") else {
            return Ok(None);
        };
        if tensor.elements() != u64::from(rot / 2) {
            return Err(ModelError::Tensor {
                origin: self.name.into(),
                tensor: tensor.name().into(),
                message: format!(
                    "{} elements: {} are wanted, half of rope.dimension_count",
                    tensor.elements(),
                    rot / 2
                ),
            });
        }
        // Whether its bytes are in the file comes first: a lie about their number must not get memory.
        tensor.bytes()?;
        let mut factors = vec![0.0; tensor.elements() as usize];
        tensor.to_f32(&mut factors)?;
        Ok(Some(factors))
    }

    /// The gated delta net's sizes. `modulo` says how value heads share key heads.
    ///
    /// # Errors
    /// Keys that are missing or of other types, values that do not fit each other.
    pub fn gdn(&self, modulo: bool) -> Result<Gdn, ModelError> {
        let gdn = Gdn {
            k_heads: self.need_u32("ssm.group_count")?,
            v_heads: self.need_u32("ssm.time_step_rank")?,
            head_dim: self.need_u32("ssm.state_size")?,
            conv_width: self.need_u32("ssm.conv_kernel")?,
            modulo,
        };
        let inner = self.need_u32("ssm.inner_size")?;
        if u64::from(inner) != u64::from(gdn.v_heads) * u64::from(gdn.head_dim) {
            return Err(self.error(
                "ssm.inner_size",
                format!(
                    "{inner}: it must be ssm.time_step_rank * ssm.state_size = {} * {}",
                    gdn.v_heads, gdn.head_dim
                ),
            ));
        }
        Ok(gdn)
    }

    /// The experts' sizes. All architectures that are read normalise the chosen experts' weights, unless the file says otherwise.
    ///
    /// # Errors
    /// Keys that are missing or of other types.
    pub fn moe(&self, shared: bool) -> Result<Moe, ModelError> {
        let key = format!("{}.expert_weights_norm", self.architecture);
        // 1 is softmax; 0 is none said.
        if let Some(function) = self.u32("expert_gating_func")?.filter(|function| *function > 1) {
            return Err(self.error(
                "expert_gating_func",
                format!("{function}: only 1, softmax, is implemented"),
            ));
        }
        Ok(Moe {
            experts: self.need_u32("expert_count")?,
            top_k: self.need_u32("expert_used_count")?,
            ffn: self.need_u32("expert_feed_forward_length")?,
            normalise: self.gguf.meta_opt(&key)?.unwrap_or(true),
            shared_ffn: match shared {
                true => Some(self.need_u32("expert_shared_feed_forward_length")?).filter(|ffn| *ffn != 0),
                false => None,
            },
        })
    }

    /// Puts the parts together with what all architectures have, and checks the whole. The vocabulary is as long as the embedding.
    ///
    /// # Errors
    /// Keys that are missing or of other types, values that do not fit each other or the embedding.
    pub fn model(&self, family: &'static str, parts: Parts) -> Result<ModelConfig, ModelError> {
        let hidden = self.need_u32("embedding_length")?;
        let embedding = self.gguf.tensor("token_embd.weight")?;
        let wrong = |message: String| ModelError::Tensor {
            origin: self.name.into(),
            tensor: embedding.name().into(),
            message,
        };
        if embedding.row_len() != u64::from(hidden) {
            let wanted = format!("rows of {}: embedding_length is {hidden}", embedding.row_len());
            return Err(wrong(wanted));
        }
        let vocab = u32::try_from(embedding.rows()).map_err(|_| wrong(format!("{} rows", embedding.rows())))?;
        if let Some(given) = self.u32("vocab_size")?.filter(|given| *given != vocab) {
            return Err(self.error("vocab_size", format!("{given}: token_embd.weight has {vocab} rows")));
        }
        let config = ModelConfig {
            name: self.name.into(),
            family,
            hidden,
            vocab,
            max_positions: self.need_u32("context_length")?,
            norm_eps: self.need_f64("attention.layer_norm_rms_epsilon")? as f32,
            zero_centered: parts.zero_centered,
            tied_embeddings: self.gguf.tensor("output.weight").is_err(),
            ffn: match parts.mlps.contains(&Mlp::Dense) {
                true => Some(self.need_u32("feed_forward_length")?),
                false => None,
            },
            moe: parts.used_moe(),
            gdn: parts.used_gdn(),
            layers: parts.layers(),
            attention: parts.attention,
            mtp: parts.mtp,
            eos: self.eos(vocab)?,
        };
        config.check()?;
        Ok(config)
    }

    /// The tokens that end a text: of the whole text, of a turn, of a message.
    fn eos(&self, vocab: u32) -> Result<Vec<u32>, ModelError> {
        let mut eos = Vec::new();
        for which in ["eos", "eot", "eom"] {
            let key = format!("tokenizer.ggml.{which}_token_id");
            let Some(id) = self.gguf.meta_opt::<u32>(&key)? else {
                continue;
            };
            if id >= vocab {
                return Err(ModelError::Config {
                    origin: self.name.into(),
                    field: key,
                    message: format!("{id}: token_embd.weight has {vocab} rows"),
                });
            }
            if !eos.contains(&id) {
                eos.push(id);
            }
        }
        Ok(eos)
    }
}
