//! The `[model]` table of a shape file: a whole model, from which its facts follow and seeded weights can be made.

use super::Facts;
use crate::model::config::{Attention, Gdn, Layer, Mixer, Mlp, ModelConfig, Moe};
use crate::rope::Scaling;
use serde::{Deserialize, Serialize};

/// How matrices of seeded weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightFormat {
    /// bf16, everything.
    Bf16,
    /// NVFP4 as ModelOpt makes it; what its checkpoints leave alone (router, gates, the small projections of a gated delta net,
    /// embedding, head) in bf16.
    Nvfp4,
    /// Q8_0, the embedding too; routed experts, router and shared gate in bf16.
    Q8_0,
}

impl WeightFormat {
    /// All of them.
    pub const ALL: [WeightFormat; 3] = [WeightFormat::Bf16, WeightFormat::Nvfp4, WeightFormat::Q8_0];

    /// Its name in shape files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            WeightFormat::Bf16 => "bf16",
            WeightFormat::Nvfp4 => "nvfp4",
            WeightFormat::Q8_0 => "q8_0",
        }
    }

    /// By its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// The `[model]` table. Fields are those of [`ModelConfig`], which says what they are; `shapes/README.md` has the schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelTable {
    /// The family's name.
    pub family: String,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Layers.
    pub layers: u32,
    /// Every so manieth layer has attention, the others a gated delta net; 1 where it is left out: all have attention.
    #[serde(default = "one")]
    pub full_attention_interval: u32,
    /// Entries of the vocabulary.
    pub vocab: u32,
    /// Positions the model was made for.
    pub max_positions: u32,
    /// Added to the mean of the squares in every norm.
    pub norm_eps: f64,
    /// Whether norm weights are stored as w - 1.
    #[serde(default)]
    pub zero_centered: bool,
    /// Whether the head uses the embedding's weights.
    #[serde(default)]
    pub tied_embeddings: bool,
    /// Whether there is a head that predicts the token after the next.
    #[serde(default)]
    pub mtp: bool,
    /// How seeded weights are stored where a name does not say.
    pub weights: WeightFormat,
    /// Width of dense feed-forwards; in a model without experts.
    pub ffn: Option<u32>,
    /// Softmax attention.
    pub attention: AttentionTable,
    /// The gated delta nets.
    pub gdn: Option<GdnTable>,
    /// The mixtures of experts, one in each layer.
    pub moe: Option<MoeTable>,
}

/// `[model.attention]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionTable {
    /// Query heads.
    pub q_heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Leading elements of a head that are turned; all where it is left out.
    pub rot: Option<u32>,
    /// Base of the frequencies.
    pub theta: f64,
    /// How positions are stretched.
    pub scaling: Option<ScalingTable>,
    /// Whether q and k heads are normed.
    #[serde(default)]
    pub qk_norm: bool,
    /// Whether there is an output gate.
    #[serde(default)]
    pub gate: bool,
}

/// `scaling = { rule = "..", .. }`, with the names of a `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScalingTable {
    /// [`Scaling::Linear`].
    Linear {
        /// What frequencies are divided by.
        factor: f64,
    },
    /// [`Scaling::Llama3`].
    Llama3 {
        /// What long waves are divided by.
        factor: f64,
        /// Turns below which a wave is long.
        low_freq_factor: f64,
        /// Turns above which it is short.
        high_freq_factor: f64,
        /// Positions before stretching.
        original_positions: u64,
    },
    /// [`Scaling::Yarn`] with its usual ramp.
    Yarn {
        /// What frequencies are divided by.
        factor: f64,
        /// Positions before stretching.
        original_positions: u64,
    },
}

/// `[model.gdn]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GdnTable {
    /// Heads of q and k.
    pub k_heads: u32,
    /// Heads of v.
    pub v_heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Taps of the convolution.
    pub conv_width: u32,
}

/// `[model.moe]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoeTable {
    /// Routed experts.
    pub experts: u32,
    /// Routed experts of a token.
    pub top_k: u32,
    /// Width of one.
    pub ffn: u32,
    /// Whether the chosen experts' weights are made to add up to 1.
    pub normalise: bool,
    /// Width of the shared expert; absent where there is none.
    pub shared_ffn: Option<u32>,
}

fn one() -> u32 {
    1
}

impl ModelTable {
    /// Layers with attention.
    fn attention_layers(&self) -> u32 {
        self.layers.checked_div(self.full_attention_interval).unwrap_or(0)
    }

    /// What contradicts itself: the field and why. What operations take is checked by [`ModelConfig::check`].
    pub(super) fn contradiction(&self) -> Option<(&'static str, String)> {
        let interval = self.full_attention_interval;
        if interval == 0 || self.layers > 4096 {
            let (layers, why) = (self.layers, "an interval of at least 1, and at most 4096 layers");
            return Some((
                "full_attention_interval",
                format!("{interval} of {layers} layers: {why}"),
            ));
        }
        if self.gdn.is_some() != (interval > 1) {
            let (is, wanted) = if interval > 1 {
                ("is missing", "has")
            } else {
                ("is given", "has not")
            };
            return Some((
                "gdn",
                format!("{is}, and full_attention_interval = {interval} {wanted} layers of it"),
            ));
        }
        if self.ffn.is_some() == self.moe.is_some() {
            let is = if self.ffn.is_some() {
                "both ffn and [model.moe] are"
            } else {
                "neither ffn nor [model.moe] is"
            };
            return Some((
                "ffn",
                format!("{is} given; a layer's feed-forward is either dense or of experts"),
            ));
        }
        None
    }

    /// The facts that follow.
    pub fn facts(&self) -> Facts {
        let (a, of) = (&self.attention, |v: u32| Some(u64::from(v)));
        let attention_layers = self.attention_layers();
        Facts {
            hidden: of(self.hidden),
            layers: of(self.layers),
            attention_layers: of(attention_layers),
            q_heads: of(a.q_heads),
            kv_heads: of(a.kv_heads),
            head_dim: of(a.head_dim),
            gated_attention: a.gate,
            ffn: self.ffn.and_then(of),
            experts: self.moe.as_ref().and_then(|m| of(m.experts)),
            experts_used: self.moe.as_ref().and_then(|m| of(m.top_k)),
            shared_experts: self.moe.as_ref().and_then(|m| m.shared_ffn).map(|_| 1),
            expert_ffn: self.moe.as_ref().and_then(|m| of(m.ffn)),
            vocab: of(self.vocab),
            tied_embeddings: Some(self.tied_embeddings),
            gdn_layers: self.gdn.as_ref().and(of(self.layers.saturating_sub(attention_layers))),
            gdn_k_heads: self.gdn.as_ref().and_then(|g| of(g.k_heads)),
            gdn_v_heads: self.gdn.as_ref().and_then(|g| of(g.v_heads)),
            gdn_head_dim: self.gdn.as_ref().and_then(|g| of(g.head_dim)),
            gdn_conv_width: self.gdn.as_ref().and_then(|g| of(g.conv_width)),
        }
    }

    /// The model, of a family whose name is `family`; not checked.
    pub fn config(&self, name: &str, family: &'static str) -> ModelConfig {
        let a = &self.attention;
        let mlp = if self.moe.is_some() { Mlp::Moe } else { Mlp::Dense };
        let mixer = |layer: u32| match (layer + 1).is_multiple_of(self.full_attention_interval) {
            true => Mixer::Attention,
            false => Mixer::Gdn,
        };
        ModelConfig {
            name: name.into(),
            family,
            hidden: self.hidden,
            vocab: self.vocab,
            max_positions: self.max_positions,
            norm_eps: self.norm_eps as f32,
            zero_centered: self.zero_centered,
            tied_embeddings: self.tied_embeddings,
            layers: (0..self.layers)
                .map(|layer| Layer {
                    mixer: mixer(layer),
                    mlp,
                })
                .collect(),
            attention: Attention {
                q_heads: a.q_heads,
                kv_heads: a.kv_heads,
                head_dim: a.head_dim,
                rot: a.rot.unwrap_or(a.head_dim),
                interleaved: false,
                theta: a.theta,
                scaling: a.scaling.as_ref().map_or(Scaling::None, ScalingTable::scaling),
                freq_factors: None,
                qk_norm: a.qk_norm,
                gate: a.gate,
            },
            gdn: self.gdn.as_ref().map(|g| Gdn {
                k_heads: g.k_heads,
                v_heads: g.v_heads,
                head_dim: g.head_dim,
                conv_width: g.conv_width,
                modulo: false,
            }),
            ffn: self.ffn,
            moe: self.moe.as_ref().map(|m| Moe {
                experts: m.experts,
                top_k: m.top_k,
                ffn: m.ffn,
                normalise: m.normalise,
                shared_ffn: m.shared_ffn,
            }),
            mtp: self.mtp,
            // Random weights say any token: none ends a text.
            eos: Vec::new(),
        }
    }
}

impl ScalingTable {
    fn scaling(&self) -> Scaling {
        match *self {
            ScalingTable::Linear { factor } => Scaling::Linear { factor },
            ScalingTable::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_positions,
            } => Scaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_positions,
            },
            ScalingTable::Yarn {
                factor,
                original_positions,
            } => Scaling::yarn(factor, original_positions),
        }
    }
}
