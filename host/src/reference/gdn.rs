//! Gated delta net, from docs/numerics.md: convolution, gates, and the recurrence step by step. The chunked form is in
//! [`super::gdn_prefill`].

use std::ops::Range;

use cuda_std::float::exact;
use half::bf16;

use super::rows::square_sum;
use super::{ReferenceError, expect, to_bf16};

/// Elements of a head: K and V.
pub const D: usize = 128;
const NAN: f32 = f32::from_bits(0x7FFF_FFFF);

/// A result as it is stored in f32.
pub(super) fn stored(x: f32) -> f32 {
    if x.is_nan() { NAN } else { x }
}

/// Rows of bf16, a fixed number of elements apart.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The elements, from the first row's first on.
    pub data: &'a [bf16],
    /// Elements from one row to the next.
    pub stride: usize,
}

impl<'a> Rows<'a> {
    /// Elements `range` of row `row`.
    ///
    /// # Panics
    /// If they are not there.
    pub fn get(&self, row: usize, range: Range<usize>) -> &'a [bf16] {
        &self.data[row * self.stride + range.start..row * self.stride + range.end]
    }

    /// The same rows from row `first` on.
    pub fn from(&self, first: usize) -> Rows<'a> {
        let data = &self.data[(first * self.stride).min(self.data.len())..];
        Rows { data, ..*self }
    }
}

/// The heads and which key head a value head reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Heads of q and k.
    pub keys: usize,
    /// Heads of v, of the outputs and of the state.
    pub values: usize,
    /// Value head h reads key head h mod keys, not h / (values / keys).
    pub modulo: bool,
}

impl Heads {
    /// The key head of a value head.
    pub fn key(&self, value_head: usize) -> usize {
        if self.modulo {
            value_head % self.keys
        } else {
            value_head / (self.values / self.keys)
        }
    }
}

/// What the recurrence reads, in either form: q, k `[n_tok][keys][128]`, v `[n_tok][values][128]`, g, beta
/// `[n_tok][values]`.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Queries.
    pub q: Rows<'a>,
    /// Keys.
    pub k: Rows<'a>,
    /// Values.
    pub v: Rows<'a>,
    /// Decay gates, logarithms.
    pub g: &'a [f32],
    /// Update gates.
    pub beta: &'a [f32],
    /// The heads.
    pub heads: Heads,
    /// Factor of the outputs.
    pub scale: f32,
}

impl<'a> Inputs<'a> {
    /// (q, k) of a token for a value head.
    pub(super) fn query_and_key(&self, token: usize, head: usize) -> (&'a [bf16], &'a [bf16]) {
        let at = self.heads.key(head) * D;
        (self.q.get(token, at..at + D), self.k.get(token, at..at + D))
    }

    /// v of a token and value head.
    pub(super) fn value(&self, token: usize, head: usize) -> &'a [bf16] {
        self.v.get(token, head * D..head * D + D)
    }

    /// (g, beta) of a token and value head.
    pub(super) fn gates(&self, token: usize, head: usize) -> (f32, f32) {
        let at = token * self.heads.values + head;
        (self.g[at], self.beta[at])
    }

    /// The same tokens from token `first` on.
    pub fn from(&self, first: usize) -> Inputs<'a> {
        let gates = first * self.heads.values;
        Inputs {
            q: self.q.from(first),
            k: self.k.from(first),
            v: self.v.from(first),
            g: &self.g[gates..],
            beta: &self.beta[gates..],
            ..*self
        }
    }
}

/// What the convolution is besides its inputs.
#[derive(Clone, Copy, Debug)]
pub struct Conv<'a> {
    /// `[channels][4]`, the oldest input's first.
    pub w: &'a [bf16],
    /// `[channels]`.
    pub bias: Option<&'a [bf16]>,
    /// Leading heads of 128 channels that are L2-normalised.
    pub l2_heads: usize,
}

/// The convolution of one sequence of `len` tokens, for some of its channels (whole heads where they are normalised). `old`: the
/// last three inputs before it, `[channels][3]`, zeros where there are none.
pub fn conv(conv: Conv<'_>, x: Rows<'_>, len: usize, old: Option<&[bf16]>, channels: Range<usize>) -> Convolved {
    let width = channels.len();
    let (mut y, mut all) = (vec![bf16::ZERO; len * width], Vec::with_capacity(width));
    for (column, c) in channels.clone().enumerate() {
        let before = old.map_or([bf16::ZERO; 3], |old| [old[c * 3], old[c * 3 + 1], old[c * 3 + 2]]);
        let inputs: Vec<bf16> = before
            .into_iter()
            .chain((0..len).map(|t| x.get(t, c..c + 1)[0]))
            .collect();
        let w = [0, 1, 2, 3].map(|i| conv.w[c * 4 + i].to_f32());
        for t in 0..len {
            let x = [0, 1, 2, 3].map(|i| inputs[t + i].to_f32());
            let mut acc = w[0] * x[0];
            for i in 1..4 {
                acc = w[i].mul_add(x[i], acc);
            }
            if let Some(bias) = conv.bias {
                acc += bias[c].to_f32();
            }
            y[t * width + column] = to_bf16(exact::silu(acc));
        }
        all.push(inputs);
    }
    for row in y.chunks_mut(width.max(1)) {
        for (i, head) in row.chunks_mut(D).enumerate() {
            if channels.start / D + i < conv.l2_heads {
                let values: Vec<f32> = head.iter().map(|v| v.to_f32()).collect();
                let scale = exact::rsqrt(square_sum(&values) + 1e-6);
                head.iter_mut()
                    .zip(values)
                    .for_each(|(out, v)| *out = to_bf16(v * scale));
            }
        }
    }
    Convolved { y, inputs: all }
}

/// What the convolution of a sequence gives.
#[derive(Clone, Debug)]
pub struct Convolved {
    /// `[len][channels in range]`.
    pub y: Vec<bf16>,
    /// Of each channel, the three inputs before the sequence and the sequence's.
    inputs: Vec<Vec<bf16>>,
}

impl Convolved {
    /// The state after the first so many tokens: the last three inputs, `[channels in range][3]`.
    ///
    /// # Panics
    /// If the sequence has fewer.
    pub fn state(&self, tokens: usize) -> Vec<bf16> {
        let last = |inputs: &Vec<bf16>| inputs[tokens..tokens + 3].to_vec();
        self.inputs.iter().flat_map(last).collect()
    }
}

/// The gates (g, beta) of one token and head.
pub fn gates(a: bf16, b: bf16, a_log: f32, dt_bias: f32) -> (f32, f32) {
    let g = -(exact::exp(a_log) * exact::softplus(a.to_f32() + dt_bias));
    (stored(g), stored(exact::sigmoid(b.to_f32())))
}

/// The dot product over K of a row of the state: eight chains, then their tree.
fn dot(row: &[f32], x: &[bf16]) -> f32 {
    let mut p = [0.0f32; 8];
    for (j, p) in p.iter_mut().enumerate() {
        for i in 0..4 {
            for e in 0..4 {
                let k = 32 * i + 4 * j + e;
                *p = row[k].mul_add(x[k].to_f32(), *p);
            }
        }
    }
    ((p[0] + p[4]) + (p[2] + p[6])) + ((p[1] + p[5]) + (p[3] + p[7]))
}

/// One step of one value head: updates its state `[V][K]` and gives o `[V]`.
pub fn step(x: &Inputs<'_>, token: usize, head: usize, state: &mut [f32]) -> Vec<bf16> {
    let (q, k) = x.query_and_key(token, head);
    let (g, beta) = x.gates(token, head);
    let decay = exact::exp(g);
    let rows = state.chunks_mut(D).zip(x.value(token, head));
    rows.map(|(row, v)| {
        row.iter_mut().for_each(|s| *s *= decay);
        let u = beta * (v.to_f32() - dot(row, k));
        row.iter_mut()
            .zip(k)
            .for_each(|(s, k)| *s = stored(u.mul_add(k.to_f32(), *s)));
        to_bf16(dot(row, q) * x.scale)
    })
    .collect()
}

/// Refuses inputs that do not have their shapes.
///
/// # Errors
/// [`ReferenceError`] naming the tensor.
pub fn check(x: &Inputs<'_>, n_tok: usize) -> Result<(), ReferenceError> {
    let rows = |name, rows: &Rows<'_>, heads: usize| {
        let last = if n_tok == 0 {
            0
        } else {
            (n_tok - 1) * rows.stride + heads * D
        };
        expect(name, rows.data.len().min(last), &[("the last token's last", last)])
    };
    rows("q", &x.q, x.heads.keys)?;
    rows("k", &x.k, x.heads.keys)?;
    rows("v", &x.v, x.heads.values)?;
    let shape = [("n_tok", n_tok), ("v_heads", x.heads.values)];
    expect("g", x.g.len(), &shape)?;
    expect("beta", x.beta.len(), &shape)
}
