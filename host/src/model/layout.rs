//! Where a model's weights are in its files: which rows of which tensors make up each matrix. A family says it; the loader follows it.
//!
//! Names of matrices are given without their last part: a base `model.layers.0.mlp.down_proj` is `.weight` in bf16, f16, f32 or Q8_0, or the
//! three tensors of an NVFP4 convention ([`crate::ops::nvfp4::Convention::names`]). A tensor whose file name is not of that form (GGUF's
//! stacks, fused experts) is found by the base itself.

use std::ops::Range;

/// Rows of a tensor, `[rows][k]`; leading dimensions of a stack are rows too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// All of them.
    All,
    /// Consecutive ones.
    Range(Range<u64>),
    /// `count` groups of `len` rows, the first at `first`, `stride` rows apart: heads of a packed projection.
    Strided {
        /// First row.
        first: u64,
        /// Rows of a group.
        len: u64,
        /// From one group to the next.
        stride: u64,
        /// Groups.
        count: u64,
    },
    /// Within each head of `head` rows, rows (2 i, 2 i + 1) of the file become (i, i + rot / 2) for the first `rot`: undoes the permutation
    /// that llama.cpp's converter makes of Llama's q and k.
    Deinterleaved {
        /// Rows of a head.
        head: u64,
        /// Leading rows of a head that are permuted.
        rot: u64,
    },
}

/// Rows of one tensor that a matrix takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The tensor's base name.
    pub base: String,
    /// Which of its rows.
    pub rows: Rows,
}

/// Consecutive outputs of a product that belong together: they always lie side by side in a row of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What the model's code calls it: `q`.
    pub name: &'static str,
    /// Outputs, the sum of the pieces' rows.
    pub n: u32,
    /// Where its rows are, in order.
    pub pieces: Vec<Piece>,
}

/// Products of one input: one matrix where the parts' formats and scales allow, else one for each part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearLayout {
    /// What plans and tables call it: `attn_qkv`.
    pub role: &'static str,
    /// Inputs.
    pub k: u32,
    /// Its parts, in the order of the outputs.
    pub parts: Vec<Part>,
}

/// The matrices of all experts of a layer, `[experts][n][k]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpertsLayout {
    /// What plans and tables call it: `experts_gate_up`.
    pub role: &'static str,
    /// Outputs of an expert.
    pub n: u32,
    /// Inputs.
    pub k: u32,
    /// Each expert's rows: `[gate rows, up rows]`, or those of down.
    pub experts: Vec<Vec<Piece>>,
}

/// What a vector's elements become on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorAs {
    /// bf16, rounded to nearest even where the file has more.
    Bf16,
    /// bf16 of the value less 1: files that store 1 + w of a zero-centred norm.
    Bf16LessOne,
    /// f32, exact.
    F32,
    /// f32, log(-x): files that store -exp(A_log).
    F32LogOfNegative,
}

/// A vector or a small tensor, by its whole name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorLayout {
    /// What plans and tables call it: `input_norm`.
    pub role: &'static str,
    /// The tensor's whole name.
    pub tensor: String,
    /// Elements in all; a convolution's `[channels][1][4]` counts as channels * 4.
    pub len: u64,
    /// What they become.
    pub store: VectorAs,
    /// Which elements, in groups of `len / rows` each: row ranges as a matrix has them, for packed vectors. [`Rows::All`] for all.
    pub rows: Rows,
}

/// Softmax attention's weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttentionLayout {
    /// Parts `q`, `gate` (where there is one), `k`, `v`.
    pub qkv: LinearLayout,
    /// `[head_dim]`, where heads are normed.
    pub q_norm: Option<VectorLayout>,
    /// `[head_dim]`.
    pub k_norm: Option<VectorLayout>,
    /// One part `o`.
    pub o: LinearLayout,
}

/// A gated delta net's weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GdnLayout {
    /// Parts `qkv` (all q heads, all k heads, all v heads), `z`, `b`, `a`.
    pub input: LinearLayout,
    /// `[channels][4]`, bf16.
    pub conv: VectorLayout,
    /// `[v_heads]`, f32.
    pub a_log: VectorLayout,
    /// `[v_heads]`, f32.
    pub dt_bias: VectorLayout,
    /// `[128]` of the gated norm.
    pub norm: VectorLayout,
    /// One part `out`.
    pub out: LinearLayout,
}

/// A dense feed-forward's weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenseLayout {
    /// Parts `gate`, `up`.
    pub gate_up: LinearLayout,
    /// One part `down`.
    pub down: LinearLayout,
}

/// A mixture of experts' weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoeLayout {
    /// One part `router`; always made bf16.
    pub router: LinearLayout,
    /// Each expert's gate rows, then its up rows.
    pub gate_up: ExpertsLayout,
    /// Each expert's down rows.
    pub down: ExpertsLayout,
    /// The shared expert, and its gate (one part `shared_gate` of one output; always made bf16).
    pub shared: Option<(DenseLayout, LinearLayout)>,
}

/// A layer's weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerLayout {
    /// Before the mixer.
    pub input_norm: VectorLayout,
    /// What mixes positions.
    pub mixer: MixerLayout,
    /// Before the feed-forward.
    pub post_norm: VectorLayout,
    /// The feed-forward.
    pub mlp: MlpLayout,
}

/// A mixer's weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MixerLayout {
    /// Softmax attention.
    Attention(AttentionLayout),
    /// A gated delta net.
    Gdn(GdnLayout),
}

/// A feed-forward's weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MlpLayout {
    /// Dense.
    Dense(DenseLayout),
    /// Experts.
    Moe(MoeLayout),
}

/// The head that predicts the token after the next: x = fc([norm(embedding of the next token), norm(hidden)]), one layer, a norm, the model's
/// own lm_head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MtpLayout {
    /// Of the embedding.
    pub embedding_norm: VectorLayout,
    /// Of the last hidden state.
    pub hidden_norm: VectorLayout,
    /// One part `mtp_fc`, `[hidden][2 hidden]`: first the embedding's columns, then the hidden state's.
    pub fc: LinearLayout,
    /// Its layer, with attention.
    pub layer: LayerLayout,
    /// Before the head.
    pub norm: VectorLayout,
}

/// All weights of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelLayout {
    /// Base name of the embedding, `[vocab][hidden]`.
    pub embedding: String,
    /// The layers.
    pub layers: Vec<LayerLayout>,
    /// The last norm.
    pub final_norm: VectorLayout,
    /// One part `lm_head`; of the embedding's tensor where the two are tied.
    pub lm_head: LinearLayout,
    /// The MTP head, where the config has one.
    pub mtp: Option<MtpLayout>,
}
