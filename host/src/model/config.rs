//! What a model is, whatever file says it: sizes, layers, constants.

use crate::model::ModelError;
use crate::rope::Scaling;

/// A model. Made of a `config.json`, of a GGUF file's metadata or of a shape file; checked by [`ModelConfig::check`].
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// What lists call it: the folder's, the file's or the shape file's name.
    pub name: String,
    /// The family's name, by which [`crate::model::family::by_name`] finds it.
    pub family: &'static str,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Entries of the vocabulary, as the embedding has rows.
    pub vocab: u32,
    /// Positions the model was made for.
    pub max_positions: u32,
    /// Added to the mean of the squares in every norm.
    pub norm_eps: f32,
    /// Whether norm weights are stored as w - 1 (all but the gated norm's).
    pub zero_centered: bool,
    /// Whether the head uses the embedding's weights.
    pub tied_embeddings: bool,
    /// The layers in order.
    pub layers: Vec<Layer>,
    /// Of the layers with attention.
    pub attention: Attention,
    /// Of the layers with a gated delta net; absent where no layer has one.
    pub gdn: Option<Gdn>,
    /// Width of dense feed-forwards; absent where no layer has one.
    pub ffn: Option<u32>,
    /// Of the layers with experts; absent where no layer has them.
    pub moe: Option<Moe>,
    /// Whether the checkpoint has a head that predicts the token after the next (one layer with attention, and the feed-forward that
    /// the last layer has).
    pub mtp: bool,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
}

/// One layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What mixes positions.
    pub mixer: Mixer,
    /// What follows it.
    pub mlp: Mlp,
}

/// What mixes positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixer {
    /// Softmax attention.
    Attention,
    /// A gated delta net.
    Gdn,
}

/// A layer's feed-forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mlp {
    /// Gate, up and down.
    Dense,
    /// Routed experts, with or without a shared one.
    Moe,
}

/// Softmax attention.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub q_heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Leading elements of a head that are turned.
    pub rot: u32,
    /// Pairs are (2i, 2i + 1) and not (i, i + rot / 2).
    pub interleaved: bool,
    /// Base of the frequencies.
    pub theta: f64,
    /// How positions are stretched.
    pub scaling: Scaling,
    /// Divisors of the frequencies `[rot / 2]`, as GGUF files of Llama 3 have them in place of a scaling rule.
    pub freq_factors: Option<Vec<f32>>,
    /// Whether q and k heads are normed.
    pub qk_norm: bool,
    /// Whether the output is multiplied by the sigmoid of a gate that is projected with q.
    pub gate: bool,
}

/// A gated delta net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gdn {
    /// Heads of q and k.
    pub k_heads: u32,
    /// Heads of v, the state and the output.
    pub v_heads: u32,
    /// Width of a head: 128.
    pub head_dim: u32,
    /// Taps of the convolution: 4.
    pub conv_width: u32,
    /// Value head h reads key head h mod k_heads, not h / (v_heads / k_heads).
    pub modulo: bool,
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moe {
    /// Routed experts.
    pub experts: u32,
    /// Routed experts of a token.
    pub top_k: u32,
    /// Width of one.
    pub ffn: u32,
    /// Whether the chosen experts' weights are made to add up to 1.
    pub normalise: bool,
    /// Width of the shared expert, whose output a sigmoid gates; absent where there is none.
    pub shared_ffn: Option<u32>,
}

impl Gdn {
    /// Channels of the convolution: q, k and v.
    pub fn channels(&self) -> u32 {
        (2 * self.k_heads + self.v_heads) * self.head_dim
    }

    /// Elements of v, z and the output of a token.
    pub fn v_width(&self) -> u32 {
        self.v_heads * self.head_dim
    }

    /// f32 of one sequence's state in one layer.
    pub fn state_len(&self) -> usize {
        self.v_heads as usize * (self.head_dim * self.head_dim) as usize
    }

    /// bf16 of one sequence's last inputs of the convolution in one layer.
    pub fn conv_len(&self) -> usize {
        self.channels() as usize * (self.conv_width as usize - 1)
    }
}

impl ModelConfig {
    /// Layers with attention, the MTP head's not counted.
    pub fn attention_layers(&self) -> usize {
        self.layers.iter().filter(|l| l.mixer == Mixer::Attention).count()
    }

    /// Layers with a gated delta net.
    pub fn gdn_layers(&self) -> usize {
        self.layers.iter().filter(|l| l.mixer == Mixer::Gdn).count()
    }

    /// The same model with its first `n` layers alone.
    ///
    /// # Errors
    /// [`ModelError::Config`]: no layers, or more than the model has.
    pub fn truncated(mut self, n: usize) -> Result<Self, ModelError> {
        if n == 0 || n > self.layers.len() {
            return Err(self.error("layers", format!("{n}: the model has {}", self.layers.len())));
        }
        self.layers.truncate(n);
        Ok(self)
    }

    /// An error about a field of this model.
    pub fn error(&self, field: &str, message: impl Into<String>) -> ModelError {
        ModelError::Config {
            origin: self.name.clone(),
            field: field.into(),
            message: message.into(),
        }
    }

    /// Checks what the operations take, and that the parts fit each other: every size at least 1 and bounded, heads that divide, head
    /// dims there are kernels for, parts present that layers name.
    ///
    /// # Errors
    /// [`ModelError::Config`] with the field, its value and what would do.
    pub fn check(&self) -> Result<(), ModelError> {
        let a = &self.attention;
        let at_least_one = [
            ("hidden_size", self.hidden),
            ("vocab_size", self.vocab),
            ("max_position_embeddings", self.max_positions),
            ("num_attention_heads", a.q_heads),
            ("num_key_value_heads", a.kv_heads),
            ("head_dim", a.head_dim),
        ];
        // Beyond these a row's elements no longer fit the kernels' 32 bits.
        let most = 1 << 24;
        for (field, value) in at_least_one {
            if value == 0 || value > most {
                return Err(self.error(field, format!("{value}: it must be from 1 to {most}")));
            }
        }
        if self.layers.is_empty() || self.layers.len() > 4096 {
            return Err(self.error(
                "num_hidden_layers",
                format!("{}: it must be from 1 to 4096", self.layers.len()),
            ));
        }
        if !self.hidden.is_multiple_of(8) {
            return Err(self.error("hidden_size", format!("{}: it must be a multiple of 8", self.hidden)));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            return Err(self.error(
                "rms_norm_eps",
                format!("{}: it must be above 0 and below 1", self.norm_eps),
            ));
        }
        self.check_attention()?;
        if self.gdn_layers() > 0 {
            self.check_gdn()?;
        }
        if self.layers.iter().any(|l| l.mlp == Mlp::Dense) {
            match self.ffn {
                Some(ffn) if ffn > 0 && ffn <= most && ffn.is_multiple_of(8) => {}
                other => {
                    return Err(self.error(
                        "intermediate_size",
                        format!("{other:?}: a layer is dense, so it must be a multiple of 8, at most {most}"),
                    ));
                }
            }
        }
        if self.layers.iter().any(|l| l.mlp == Mlp::Moe) {
            self.check_moe()?;
        }
        Ok(())
    }

    fn check_attention(&self) -> Result<(), ModelError> {
        let a = &self.attention;
        if ![64, 128, 256, 512].contains(&a.head_dim) {
            return Err(self.error(
                "head_dim",
                format!("{}: there are kernels for 64, 128, 256 and 512", a.head_dim),
            ));
        }
        if !a.q_heads.is_multiple_of(a.kv_heads) || a.q_heads > 1024 {
            return Err(self.error(
                "num_attention_heads",
                format!(
                    "{}: it must be a multiple of num_key_value_heads = {}, at most 1024",
                    a.q_heads, a.kv_heads
                ),
            ));
        }
        if a.rot == 0 || a.rot > a.head_dim || !a.rot.is_multiple_of(2) {
            return Err(self.error(
                "partial_rotary_factor",
                format!(
                    "{} of {} elements are turned: an even number, at least 2",
                    a.rot, a.head_dim
                ),
            ));
        }
        if let Some(factors) = &a.freq_factors {
            if factors.len() != a.rot as usize / 2 {
                return Err(self.error(
                    "rope_freqs",
                    format!("{} factors, and {} pairs are turned", factors.len(), a.rot / 2),
                ));
            }
            if let Some(bad) = factors.iter().find(|f| !(**f > 0.0 && f.is_finite())) {
                return Err(self.error("rope_freqs", format!("{bad}: a factor must be above 0")));
            }
        }
        crate::rope::frequencies(a.theta, a.rot as usize, &a.scaling)
            .map(drop)
            .map_err(|e| self.error("rope_parameters", e.to_string()))
    }

    fn check_gdn(&self) -> Result<(), ModelError> {
        let Some(gdn) = self.gdn else {
            return Err(self.error("linear_num_value_heads", "is missing, and a layer is a gated delta net"));
        };
        if gdn.head_dim != 128 {
            return Err(self.error(
                "linear_key_head_dim",
                format!("{}: the state's layout is of 128", gdn.head_dim),
            ));
        }
        if gdn.conv_width != 4 {
            return Err(self.error(
                "linear_conv_kernel_dim",
                format!("{}: the convolution has 4 taps", gdn.conv_width),
            ));
        }
        if gdn.k_heads == 0 || gdn.v_heads == 0 || gdn.v_heads > 1024 || !gdn.v_heads.is_multiple_of(gdn.k_heads) {
            return Err(self.error(
                "linear_num_value_heads",
                format!(
                    "{}: it must be a multiple of linear_num_key_heads = {}, at most 1024",
                    gdn.v_heads, gdn.k_heads
                ),
            ));
        }
        Ok(())
    }

    fn check_moe(&self) -> Result<(), ModelError> {
        let Some(moe) = self.moe else {
            return Err(self.error("num_experts", "is missing, and a layer has experts"));
        };
        let most = kernels_gpu::moe_router::MAX_EXPERTS;
        if moe.experts == 0 || moe.experts > most {
            return Err(self.error("num_experts", format!("{}: it must be from 1 to {most}", moe.experts)));
        }
        let most = kernels_gpu::moe_router::MAX_TOP_K.min(moe.experts);
        if moe.top_k == 0 || moe.top_k > most {
            return Err(self.error(
                "num_experts_per_tok",
                format!("{}: it must be from 1 to {most}", moe.top_k),
            ));
        }
        for (field, ffn) in [
            ("moe_intermediate_size", Some(moe.ffn)),
            ("shared_expert_intermediate_size", moe.shared_ffn),
        ] {
            if let Some(ffn) = ffn.filter(|ffn| *ffn == 0 || !ffn.is_multiple_of(8) || *ffn > 1 << 24) {
                return Err(self.error(
                    field,
                    format!("{ffn}: it must be a multiple of 8, from 8 to {}", 1 << 24),
                ));
            }
        }
        Ok(())
    }
}
