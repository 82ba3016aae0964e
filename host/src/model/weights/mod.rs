//! Weights on a device: what the layers' code launches on, and how it is loaded.

pub mod files;
pub mod synthetic;

use half::bf16;

use super::ModelError;
use super::layout::{
    AttentionLayout, DenseLayout, ExpertsLayout, GdnLayout, LayerLayout, LinearLayout, MixerLayout, MlpLayout,
    ModelLayout, MoeLayout, MtpLayout, VectorLayout,
};
use super::memory::Memory;
use crate::device::DevPtr;
use crate::ops::nvfp4::Convention;

/// What the weights' memory is called in tables.
pub const WEIGHTS: &str = "weights";

/// One matrix `[n][k]` on a device.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    /// Outputs.
    pub n: u32,
    /// Inputs.
    pub k: u32,
    /// Its tensors.
    pub format: Format,
}

/// How a matrix is stored.
#[derive(Clone, Copy, Debug)]
pub enum Format {
    /// bf16 `[n][k]`.
    Bf16(DevPtr<bf16>),
    /// NVFP4.
    Nvfp4 {
        /// `[n][k / 2]`.
        codes: DevPtr<u8>,
        /// `[n][k / 16]` E4M3.
        scales: DevPtr<u8>,
        /// `[1]`.
        tensor: DevPtr<f32>,
        /// What the tensor scale means.
        convention: Convention,
    },
    /// Q8_0 in the quad layout of [`kernels_gpu::q8`].
    Q8 {
        /// The integers' plane.
        qs: DevPtr<u8>,
        /// The scales' plane, f16 bits.
        ws: DevPtr<u16>,
    },
}

/// Products of one input.
#[derive(Clone, Debug)]
pub struct Linear {
    /// What plans call it: `attn_qkv`.
    pub role: &'static str,
    /// Inputs.
    pub k: u32,
    /// One matrix of all parts, or one for each part.
    pub matrices: Vec<Matrix>,
    /// Names and outputs of the parts, in order.
    pub parts: Vec<(&'static str, u32)>,
}

impl Linear {
    /// Outputs of all parts.
    pub fn n(&self) -> u32 {
        self.parts.iter().map(|part| part.1).sum()
    }

    /// Whether all parts are one matrix.
    pub fn is_fused(&self) -> bool {
        self.matrices.len() == 1
    }
}

/// The matrices of all experts.
#[derive(Clone, Copy, Debug)]
pub struct Experts {
    /// What plans call it: `experts_down`.
    pub role: &'static str,
    /// Experts.
    pub experts: u32,
    /// Outputs of one.
    pub n: u32,
    /// Inputs.
    pub k: u32,
    /// bf16 `[experts][n][k]`, or NVFP4 with `[experts]` tensor scales; never Q8.
    pub format: Format,
}

/// A vector of bf16.
pub type Vector = DevPtr<bf16>;

pub use crate::ops::embedding::EmbeddingTable;

/// Where weights come from: files, or a generator.
pub trait Origin {
    /// Makes the products of one input: one matrix where formats and tensor scales of all parts are the same, else one for each part.
    ///
    /// # Errors
    /// Tensors that are missing or of another shape or type; the memory's.
    fn linear(&mut self, memory: &mut Memory, layout: &LinearLayout) -> Result<Linear, ModelError>;

    /// As [`Origin::linear`], always in bf16 (rounded to nearest even from whatever the file has) and always one matrix.
    ///
    /// # Errors
    /// As [`Origin::linear`].
    fn linear_bf16(&mut self, memory: &mut Memory, layout: &LinearLayout) -> Result<Linear, ModelError>;

    /// Makes the matrices of all experts.
    ///
    /// # Errors
    /// As [`Origin::linear`]; gate and up of an expert with different tensor scales.
    fn experts(&mut self, memory: &mut Memory, layout: &ExpertsLayout) -> Result<Experts, ModelError>;

    /// Makes a vector; bf16 or f32 as the layout says.
    ///
    /// # Errors
    /// As [`Origin::linear`].
    fn vector(&mut self, memory: &mut Memory, layout: &VectorLayout) -> Result<DevPtr<u8>, ModelError>;

    /// Makes the embedding's table `[vocab][hidden]`.
    ///
    /// # Errors
    /// As [`Origin::linear`].
    fn embedding(
        &mut self,
        memory: &mut Memory,
        base: &str,
        vocab: u32,
        hidden: u32,
    ) -> Result<EmbeddingTable, ModelError>;
}

/// Softmax attention's weights.
#[derive(Clone, Debug)]
pub struct AttentionWeights {
    /// Parts `q`, `gate` (where there is one), `k`, `v`.
    pub qkv: Linear,
    /// `[head_dim]`.
    pub q_norm: Option<Vector>,
    /// `[head_dim]`.
    pub k_norm: Option<Vector>,
    /// One part.
    pub o: Linear,
}

/// A gated delta net's weights.
#[derive(Clone, Debug)]
pub struct GdnWeights {
    /// Parts `qkv`, `z`, `b`, `a`.
    pub input: Linear,
    /// `[channels][4]`.
    pub conv: Vector,
    /// `[v_heads]`.
    pub a_log: DevPtr<f32>,
    /// `[v_heads]`.
    pub dt_bias: DevPtr<f32>,
    /// `[128]`.
    pub norm: Vector,
    /// One part.
    pub out: Linear,
}

/// A dense feed-forward's weights.
#[derive(Clone, Debug)]
pub struct DenseWeights {
    /// Parts `gate`, `up`.
    pub gate_up: Linear,
    /// One part.
    pub down: Linear,
}

/// A mixture of experts' weights.
#[derive(Clone, Debug)]
pub struct MoeWeights {
    /// bf16, one part.
    pub router: Linear,
    /// `[experts][2 ffn][hidden]`.
    pub gate_up: Experts,
    /// `[experts][hidden][ffn]`.
    pub down: Experts,
    /// The shared expert, and its gate in bf16.
    pub shared: Option<(DenseWeights, Linear)>,
}

/// A mixer's weights.
#[derive(Clone, Debug)]
pub enum MixerWeights {
    /// Softmax attention.
    Attention(AttentionWeights),
    /// A gated delta net.
    Gdn(GdnWeights),
}

/// A feed-forward's weights.
#[derive(Clone, Debug)]
pub enum MlpWeights {
    /// Dense.
    Dense(DenseWeights),
    /// Experts.
    Moe(Box<MoeWeights>),
}

/// A layer's weights.
#[derive(Clone, Debug)]
pub struct LayerWeights {
    /// Before the mixer.
    pub input_norm: Vector,
    /// What mixes positions.
    pub mixer: MixerWeights,
    /// Before the feed-forward.
    pub post_norm: Vector,
    /// The feed-forward.
    pub mlp: MlpWeights,
}

/// The weights of the head that predicts the token after the next.
#[derive(Clone, Debug)]
pub struct MtpWeights {
    /// Of the embedding.
    pub embedding_norm: Vector,
    /// Of the hidden state.
    pub hidden_norm: Vector,
    /// `[hidden][2 hidden]`.
    pub fc: Linear,
    /// Its layer.
    pub layer: LayerWeights,
    /// Before the head.
    pub norm: Vector,
}

/// All weights of a model.
#[derive(Clone, Debug)]
pub struct ModelWeights {
    /// The embedding.
    pub embedding: EmbeddingTable,
    /// The layers.
    pub layers: Vec<LayerWeights>,
    /// The last norm.
    pub final_norm: Vector,
    /// The head.
    pub lm_head: Linear,
    /// The MTP head.
    pub mtp: Option<MtpWeights>,
}

impl ModelWeights {
    /// Loads everything a layout names, in the order of the layers.
    ///
    /// # Errors
    /// The origin's.
    pub fn load(
        origin: &mut dyn Origin,
        memory: &mut Memory,
        layout: &ModelLayout,
        [vocab, hidden]: [u32; 2],
    ) -> Result<Self, ModelError> {
        let mut from = Loader { origin, memory };
        Ok(Self {
            embedding: from.origin.embedding(from.memory, &layout.embedding, vocab, hidden)?,
            layers: layout
                .layers
                .iter()
                .map(|layer| from.layer(layer))
                .collect::<Result<_, _>>()?,
            final_norm: from.vector(&layout.final_norm)?,
            lm_head: from.linear(&layout.lm_head)?,
            mtp: layout.mtp.as_ref().map(|mtp| from.mtp(mtp)).transpose()?,
        })
    }
}

/// An origin with the memory it loads to.
struct Loader<'a> {
    origin: &'a mut dyn Origin,
    memory: &'a mut Memory,
}

impl Loader<'_> {
    fn linear(&mut self, layout: &LinearLayout) -> Result<Linear, ModelError> {
        self.origin.linear(self.memory, layout)
    }

    fn linear_bf16(&mut self, layout: &LinearLayout) -> Result<Linear, ModelError> {
        self.origin.linear_bf16(self.memory, layout)
    }

    fn vector(&mut self, layout: &VectorLayout) -> Result<Vector, ModelError> {
        Ok(self.origin.vector(self.memory, layout)?.cast())
    }

    fn vector_f32(&mut self, layout: &VectorLayout) -> Result<DevPtr<f32>, ModelError> {
        Ok(self.origin.vector(self.memory, layout)?.cast())
    }

    fn attention(&mut self, layout: &AttentionLayout) -> Result<AttentionWeights, ModelError> {
        Ok(AttentionWeights {
            qkv: self.linear(&layout.qkv)?,
            q_norm: layout.q_norm.as_ref().map(|v| self.vector(v)).transpose()?,
            k_norm: layout.k_norm.as_ref().map(|v| self.vector(v)).transpose()?,
            o: self.linear(&layout.o)?,
        })
    }

    fn gdn(&mut self, layout: &GdnLayout) -> Result<GdnWeights, ModelError> {
        Ok(GdnWeights {
            input: self.linear(&layout.input)?,
            conv: self.vector(&layout.conv)?,
            a_log: self.vector_f32(&layout.a_log)?,
            dt_bias: self.vector_f32(&layout.dt_bias)?,
            norm: self.vector(&layout.norm)?,
            out: self.linear(&layout.out)?,
        })
    }

    fn dense(&mut self, layout: &DenseLayout) -> Result<DenseWeights, ModelError> {
        Ok(DenseWeights {
            gate_up: self.linear(&layout.gate_up)?,
            down: self.linear(&layout.down)?,
        })
    }

    fn moe(&mut self, layout: &MoeLayout) -> Result<MoeWeights, ModelError> {
        let shared = match &layout.shared {
            Some((dense, gate)) => Some((self.dense(dense)?, self.linear_bf16(gate)?)),
            None => None,
        };
        Ok(MoeWeights {
            router: self.linear_bf16(&layout.router)?,
            gate_up: self.origin.experts(self.memory, &layout.gate_up)?,
            down: self.origin.experts(self.memory, &layout.down)?,
            shared,
        })
    }

    fn layer(&mut self, layout: &LayerLayout) -> Result<LayerWeights, ModelError> {
        Ok(LayerWeights {
            input_norm: self.vector(&layout.input_norm)?,
            mixer: match &layout.mixer {
                MixerLayout::Attention(a) => MixerWeights::Attention(self.attention(a)?),
                MixerLayout::Gdn(g) => MixerWeights::Gdn(self.gdn(g)?),
            },
            post_norm: self.vector(&layout.post_norm)?,
            mlp: match &layout.mlp {
                MlpLayout::Dense(d) => MlpWeights::Dense(self.dense(d)?),
                MlpLayout::Moe(m) => MlpWeights::Moe(Box::new(self.moe(m)?)),
            },
        })
    }

    fn mtp(&mut self, layout: &MtpLayout) -> Result<MtpWeights, ModelError> {
        Ok(MtpWeights {
            embedding_norm: self.vector(&layout.embedding_norm)?,
            hidden_norm: self.vector(&layout.hidden_norm)?,
            fc: self.linear(&layout.fc)?,
            layer: self.layer(&layout.layer)?,
            norm: self.vector(&layout.norm)?,
        })
    }
}
