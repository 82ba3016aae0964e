//! A whole model, one token's row after another: docs/numerics.md, "A model".
//!
//! ```text
//! h = embedding(token)
//! each layer:  x = norm(h);  h = bf16(mixer(x) + h);  x = norm(h);  h = bf16(mlp(x) + h)
//! logits = head(norm(h)), f32
//! ```
//! All tokens of one sequence go through a layer together, the first `prompt` of them in the orders of prefill, the others in those of decode. A
//! row depends on the rows before it and on nothing else, so it does not matter in how many steps an engine does them.

mod layers;
mod matrix;

use half::bf16;
use half::slice::HalfFloatSliceExt;
use half::vec::HalfBitsVecExt;

use super::norms;
use super::rows::Half;
use super::{ReferenceError, embedding, expect, gdn};

pub use matrix::{Format, Matrix, Stack};

/// What a model is besides its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Added to the mean of the squares in every norm.
    pub eps: f32,
    /// Whether norms multiply by 1 + w (all but the gated norm).
    pub zero_centered: bool,
    /// Of the layers with attention.
    pub attention: AttentionConfig,
    /// Of the layers with a gated delta net; any where there are none.
    pub gdn: gdn::Heads,
    /// Of the layers with experts; any where there are none.
    pub moe: MoeConfig,
}

/// Softmax attention.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionConfig {
    /// Heads of q.
    pub q_heads: usize,
    /// Heads of k and v.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Radians a position, of each pair that is turned.
    pub inv_freq: Vec<f32>,
    /// Pairs are (2i, 2i + 1) and not (i, i + rot / 2).
    pub interleaved: bool,
    /// The softmax's scale times log2 e.
    pub scale_log2: f32,
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoeConfig {
    /// Experts of a token.
    pub top_k: usize,
    /// Whether their weights are made to add up to 1.
    pub normalise: bool,
}

/// The embedding's table.
#[derive(Clone, Debug, PartialEq)]
pub enum Table {
    /// `[vocab][hidden]`.
    Bf16(Vec<bf16>),
    /// GGUF's blocks, `[vocab][hidden / 32][34]`.
    Q8(Vec<u8>),
}

/// Softmax attention's weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// `[q_heads * head_dim][hidden]`.
    pub q: Matrix,
    /// As `q`: the gate of the output, where there is one.
    pub gate: Option<Matrix>,
    /// `[kv_heads * head_dim][hidden]`.
    pub k: Matrix,
    /// As `k`.
    pub v: Matrix,
    /// `[head_dim]`, where heads of q and k are normed.
    pub qk_norm: Option<[Vec<bf16>; 2]>,
    /// `[hidden][q_heads * head_dim]`.
    pub o: Matrix,
}

/// A gated delta net's weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Gdn {
    /// All q heads, all k heads, all v heads: `[channels][hidden]`.
    pub qkv: Matrix,
    /// `[v_heads * 128][hidden]`.
    pub z: Matrix,
    /// `[v_heads][hidden]`.
    pub b: Matrix,
    /// `[v_heads][hidden]`.
    pub a: Matrix,
    /// `[channels][4]`, the oldest input's first.
    pub conv: Vec<bf16>,
    /// `[v_heads]`.
    pub a_log: Vec<f32>,
    /// `[v_heads]`.
    pub dt_bias: Vec<f32>,
    /// `[128]`, of the gated norm.
    pub norm: Vec<bf16>,
    /// `[hidden][v_heads * 128]`.
    pub out: Matrix,
}

/// A dense feed-forward's weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// `[ffn][hidden]`.
    pub gate: Matrix,
    /// `[ffn][hidden]`.
    pub up: Matrix,
    /// `[hidden][ffn]`.
    pub down: Matrix,
}

/// A mixture of experts' weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Moe {
    /// `[experts][hidden]`.
    pub router: Matrix,
    /// Width of a routed expert.
    pub ffn: usize,
    /// Of each expert `[2 ffn][hidden]`: gate, then up.
    pub gate_up: Stack,
    /// Of each expert `[hidden][ffn]`.
    pub down: Stack,
    /// The shared expert and its gate `[1][hidden]`.
    pub shared: Option<Box<(Dense, Matrix)>>,
}

/// What mixes positions.
#[derive(Clone, Debug, PartialEq)]
pub enum Mixer {
    /// Softmax attention.
    Attention(Attention),
    /// A gated delta net.
    Gdn(Gdn),
}

/// A feed-forward.
#[derive(Clone, Debug, PartialEq)]
pub enum Mlp {
    /// Gate, up and down.
    Dense(Dense),
    /// Experts.
    Moe(Moe),
}

/// One layer's weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// `[hidden]`, before the mixer.
    pub input_norm: Vec<bf16>,
    /// What mixes positions.
    pub mixer: Mixer,
    /// `[hidden]`, before the feed-forward.
    pub post_norm: Vec<bf16>,
    /// The feed-forward.
    pub mlp: Mlp,
}

/// A model with its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// What it is.
    pub config: Config,
    /// The embedding.
    pub embedding: Table,
    /// The layers.
    pub layers: Vec<Layer>,
    /// `[hidden]`, after the layers.
    pub final_norm: Vec<bf16>,
    /// `[vocab][hidden]`.
    pub head: Matrix,
}

impl Model {
    /// The logits `[tokens][vocab]` of one sequence, of which the first `prompt` tokens are its prompt.
    ///
    /// # Errors
    /// [`ReferenceError`]: a weight that does not have its shape.
    pub fn logits(&self, tokens: &[u32], prompt: usize) -> Result<Vec<f32>, ReferenceError> {
        let mut h = self.embed(tokens)?;
        for layer in &self.layers {
            let y = self.mix(&layer.mixer, &self.norm(&h, &layer.input_norm)?, prompt)?;
            h = self.add(&y, &h)?;
            let y = self.feed(&layer.mlp, &self.norm(&h, &layer.post_norm)?)?;
            h = self.add(&y, &h)?;
        }
        self.head.times(&self.norm(&h, &self.final_norm)?)
    }

    /// Rows of the embedding, `[tokens][hidden]`.
    ///
    /// # Errors
    /// [`ReferenceError`]: a table that is not made of rows.
    pub fn embed(&self, tokens: &[u32]) -> Result<Vec<bf16>, ReferenceError> {
        let hidden = self.config.hidden;
        let mut h = Vec::with_capacity(tokens.len() * hidden);
        for &token in tokens {
            // An id that is no i32 is outside every table.
            let id = i32::try_from(token).unwrap_or(-1);
            h.extend(match &self.embedding {
                Table::Bf16(table) => {
                    expect(
                        "embedding",
                        table.len(),
                        &[("vocab", table.len() / hidden), ("hidden", hidden)],
                    )?;
                    embedding::row(table, id, hidden)
                }
                Table::Q8(blocks) => embedding::row_q8_0(blocks, id, hidden)?,
            });
        }
        Ok(h)
    }

    /// Each row of `w.len()` elements normed.
    ///
    /// # Errors
    /// [`ReferenceError`]: rows of another length.
    pub fn norm(&self, x: &[bf16], w: &[bf16]) -> Result<Vec<bf16>, ReferenceError> {
        let width = w.len().max(1);
        expect("rows to norm", x.len(), &[("rows", x.len() / width), ("n", w.len())])?;
        let mut y = Vec::with_capacity(x.len());
        for row in x.chunks(width) {
            let (row, w) = (row.reinterpret_cast(), w.reinterpret_cast());
            let normed = norms::rms_norm(Half::Bf16, row, w, self.config.eps, self.config.zero_centered)?;
            y.extend(normed.reinterpret_into::<bf16>());
        }
        Ok(y)
    }

    /// What a sublayer gives added to the residual stream, rounded.
    ///
    /// # Errors
    /// [`ReferenceError`]: not as many elements.
    pub fn add(&self, y: &[bf16], h: &[bf16]) -> Result<Vec<bf16>, ReferenceError> {
        let sum = norms::add_residual(Half::Bf16, y.reinterpret_cast(), h.reinterpret_cast())?;
        Ok(sum.reinterpret_into())
    }

    /// A layer's mixer on normed rows.
    ///
    /// # Errors
    /// [`ReferenceError`]: a weight that does not have its shape.
    pub fn mix(&self, mixer: &Mixer, x: &[bf16], prompt: usize) -> Result<Vec<bf16>, ReferenceError> {
        match mixer {
            Mixer::Attention(w) => self.attention(w, x, prompt),
            Mixer::Gdn(w) => self.gdn(w, x, prompt),
        }
    }

    /// A layer's feed-forward on normed rows.
    ///
    /// # Errors
    /// [`ReferenceError`]: a weight that does not have its shape.
    pub fn feed(&self, mlp: &Mlp, x: &[bf16]) -> Result<Vec<bf16>, ReferenceError> {
        match mlp {
            Mlp::Dense(w) => self.dense(w, x),
            Mlp::Moe(w) => self.moe(w, x),
        }
    }
}
