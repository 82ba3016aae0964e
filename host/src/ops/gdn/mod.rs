//! Gated delta net: convolution, gates, steps (decode) and chunks (prefill). What the two forms of the recurrence share is here.

mod call;
mod call_recurrence;
pub mod conv;
pub mod decode;
pub mod gates;
pub mod prefill;
mod slots;

pub use call::{GdnConvCall, GdnGatesCall};
pub use call_recurrence::{GdnDecodeCall, GdnPrefillCall, chunks_bytes};
pub use conv::GdnConv;
pub use decode::GdnDecode;
pub use gates::GdnGates;
pub use prefill::GdnPrefill;

use half::bf16;
use std::ops::Range;

use crate::device::DevPtr;
use crate::op::OpError;
use crate::op::Values;
use crate::op::data::Draw;
use crate::op::random::Random;
use crate::op::spec::{Axis, Bound, Dims, Tensor};
use crate::reference::gdn::{self as reference, D, Heads, Inputs, Rows};

/// The config that takes the gates' inputs a, b, A_log and dt_bias in place of g and beta.
const FUSED: &str = "fused";

/// f32 of one head's state.
const STATE: usize = D * D;

/// Kinds of values that the recurrence is checked with. All but [`Values::Normal`] have extreme gates among others; rows of
/// [`Values::WideRange`] are an odd number of elements apart.
const VALUES: &[Values] = &[
    Values::Normal,
    Values::Zeros,
    Values::NonFinite,
    Values::Huge,
    Values::Tiny,
    Values::Single,
    Values::WideRange,
];

/// The axes of the heads.
const HEAD_AXES: [Axis; 4] = [
    Axis::required("k_heads"),
    Axis::required("v_heads"),
    Axis::optional("head_dim", D as u64),
    Axis::optional("head_map", 0).at_least(0),
];

fn check_heads(dims: &Dims) -> Result<(), String> {
    check_head_counts(dims.u64("k_heads"), dims.u64("v_heads"))?;
    if dims.u64("head_dim") != D as u64 {
        let d = dims.u64("head_dim");
        return Err(format!(
            "head_dim = {d}: the state's layout and the order of the sums are of {D}"
        ));
    }
    match dims.u64("head_map") {
        0 | 1 => Ok(()),
        map => Err(format!(
            "head_map = {map}: 0 (h / (v_heads / k_heads)) or 1 (h mod k_heads)"
        )),
    }
}

/// Refuses heads that do not fit each other or a grid.
fn check_head_counts(k: u64, v: u64) -> Result<(), String> {
    if k == 0 || v == 0 || !v.is_multiple_of(k) {
        return Err(format!("v_heads = {v} is no multiple of k_heads = {k}"));
    }
    if v > 65_535 {
        return Err(format!("v_heads = {v}: at most 65535"));
    }
    Ok(())
}

fn heads(dims: &Dims) -> Heads {
    Heads {
        keys: dims.usize("k_heads"),
        values: dims.usize("v_heads"),
        modulo: dims.u64("head_map") == 1,
    }
}

/// A choice that is taken once in `n` times.
fn one_in(n: u64, random: Random, i: usize) -> bool {
    random.below(i as u64, n) == 0
}

/// cu_seqlens of `n_seq` sequences of `n_tok` tokens together: alike, or cut anywhere (some are empty then).
fn sequences(n_tok: usize, n_seq: usize, ragged: bool, random: Random) -> Vec<i32> {
    let mut cuts: Vec<i32> = (1..n_seq as u64)
        .map(|i| match ragged {
            true => random.below(i, n_tok as u64 + 1) as i32,
            false => (i * n_tok as u64 / n_seq as u64) as i32,
        })
        .collect();
    cuts.sort_unstable();
    [vec![0], cuts, vec![n_tok as i32]].concat()
}

/// What the recurrence reads besides the state: q, k and v in one row a token, as the convolution leaves them, and both forms of
/// the gates.
#[derive(Clone)]
struct Mixer {
    heads: Heads,
    /// Tokens.
    n: usize,
    /// Elements from one token to the next.
    stride: usize,
    qkv: Vec<bf16>,
    a: Vec<bf16>,
    b: Vec<bf16>,
    a_log: Vec<f32>,
    dt_bias: Vec<f32>,
    g: Vec<f32>,
    beta: Vec<f32>,
}

impl Mixer {
    /// q and k are unit vectors in every kind of values; v and the gates are what the kind says.
    fn draw(heads: Heads, n: usize, draw: Draw) -> Mixer {
        let keys = 2 * heads.keys * D;
        let stride = keys + heads.values * D + if draw.values == Values::WideRange { 5 } else { 0 };
        let mut qkv: Vec<bf16> = draw.floats("gdn qkv", n, stride, 1.0);
        if draw.values != Values::Zeros {
            let units: Vec<bf16> = draw.ordinary("gdn q and k", n, keys, 1.0);
            for (row, unit) in qkv.chunks_mut(stride).zip(units.chunks(keys)) {
                for (out, x) in row.chunks_mut(D).zip(unit.chunks(D)) {
                    let norm = x.iter().map(|v| v.to_f64().powi(2)).sum::<f64>().sqrt();
                    out.iter_mut()
                        .zip(x)
                        .for_each(|(o, v)| *o = bf16::from_f64(v.to_f64() / norm));
                }
            }
        }
        let mut a: Vec<bf16> = draw.ordinary("gdn a", n, heads.values, 1.0);
        let mut b: Vec<bf16> = draw.ordinary("gdn b", n, heads.values, 2.0);
        let random = draw.random("gdn gates");
        // exp(A_log) from 2^-10 to 2^4: gates from nearly none to about -20.
        let mut a_log: Vec<f32> = (0..heads.values as u64)
            .map(|h| std::f32::consts::LN_2 * (random.below(h, 1400) as f32 / 100.0 - 10.0))
            .collect();
        let dt_bias = draw.ordinary("gdn dt_bias", 1, heads.values, 0.5);
        if draw.values != Values::Normal {
            // A head that forgets everything in a token (g about -1e4), tokens that keep everything, beta 0 and 1.
            a_log[heads.values - 1] = 9.2;
            for i in 0..n * heads.values {
                match random.at(i as u64 ^ 1 << 40) % 16 {
                    0 => a[i] = bf16::from_f32(-200.0),
                    1 => b[i] = bf16::from_f32(-300.0),
                    2 => b[i] = bf16::from_f32(300.0),
                    3 if draw.values == Values::NonFinite && i % 7 == 0 => a[i] = bf16::INFINITY,
                    _ => {}
                }
            }
        }
        let gates = |i: usize| reference::gates(a[i], b[i], a_log[i % heads.values], dt_bias[i % heads.values]);
        let (g, beta) = (0..n * heads.values).map(gates).unzip();
        Mixer {
            heads,
            n,
            stride,
            qkv,
            a,
            b,
            a_log,
            dt_bias,
            g,
            beta,
        }
    }

    /// Some of the tokens, of one value head or of all.
    fn cut(&self, tokens: Range<usize>, head: Option<usize>) -> Mixer {
        let all = self.heads;
        let Some(head) = head else {
            let gates = tokens.start * all.values..tokens.end * all.values;
            return Mixer {
                n: tokens.len(),
                qkv: self.qkv[tokens.start * self.stride..tokens.end * self.stride].to_vec(),
                a: self.a[gates.clone()].to_vec(),
                b: self.b[gates.clone()].to_vec(),
                g: self.g[gates.clone()].to_vec(),
                beta: self.beta[gates].to_vec(),
                ..self.clone()
            };
        };
        let key = all.key(head);
        let row = |token: usize| {
            let row = &self.qkv[token * self.stride..];
            [key, all.keys + key, 2 * all.keys + head]
                .map(|h| row[h * D..][..D].to_vec())
                .concat()
        };
        fn column<T: Copy>(x: &[T], tokens: &Range<usize>, heads: usize, head: usize) -> Vec<T> {
            tokens.clone().map(|t| x[t * heads + head]).collect()
        }
        Mixer {
            heads: Heads {
                keys: 1,
                values: 1,
                modulo: false,
            },
            n: tokens.len(),
            stride: 3 * D,
            qkv: tokens.clone().flat_map(row).collect(),
            a: column(&self.a, &tokens, all.values, head),
            b: column(&self.b, &tokens, all.values, head),
            a_log: vec![self.a_log[head]],
            dt_bias: vec![self.dt_bias[head]],
            g: column(&self.g, &tokens, all.values, head),
            beta: column(&self.beta, &tokens, all.values, head),
        }
    }

    fn scale() -> f32 {
        1.0 / (D as f32).sqrt()
    }

    /// For the reference.
    fn inputs(&self) -> Inputs<'_> {
        let rows = |first: usize| Rows {
            data: &self.qkv[first.min(self.qkv.len())..],
            stride: self.stride,
        };
        Inputs {
            q: rows(0),
            k: rows(self.heads.keys * D),
            v: rows(2 * self.heads.keys * D),
            g: &self.g,
            beta: &self.beta,
            heads: self.heads,
            scale: Self::scale(),
        }
    }

    fn tensors(&self) -> Vec<Tensor<'_>> {
        let gate = [("n_tok", self.n), ("v_head", self.heads.values)];
        let head = [("v_head", self.heads.values)];
        vec![
            Tensor::weight("qkv", &[("n_tok", self.n), ("channel", self.stride)], &self.qkv),
            Tensor::weight("g", &gate, &self.g),
            Tensor::weight("beta", &gate, &self.beta),
            Tensor::weight("a", &gate, &self.a),
            Tensor::weight("b", &gate, &self.b),
            Tensor::input("a_log", &head, &self.a_log),
            Tensor::input("dt_bias", &head, &self.dt_bias),
        ]
    }

    /// Addresses from token `first` on.
    fn bound(&self, t: &Bound, first: usize) -> Result<Pointers, OpError> {
        let q = t.at("qkv")?.add(first * self.stride);
        let gate = first * self.heads.values;
        Ok(Pointers {
            q,
            k: q.add(self.heads.keys * D),
            v: q.add(2 * self.heads.keys * D),
            g: t.at("g")?.add(gate),
            beta: t.at("beta")?.add(gate),
            a: t.at("a")?.add(gate),
            b: t.at("b")?.add(gate),
            a_log: t.at("a_log")?,
            dt_bias: t.at("dt_bias")?,
        })
    }

    /// Bytes that the recurrence reads of these tensors.
    fn bytes(heads: Heads, n: u64) -> u64 {
        n * (2 * (2 * heads.keys + heads.values) * D + 8 * heads.values) as u64
    }
}

/// A [`Mixer`]'s tensors on the device.
struct Pointers {
    q: DevPtr<bf16>,
    k: DevPtr<bf16>,
    v: DevPtr<bf16>,
    g: DevPtr<f32>,
    beta: DevPtr<f32>,
    a: DevPtr<bf16>,
    b: DevPtr<bf16>,
    a_log: DevPtr<f32>,
    dt_bias: DevPtr<f32>,
}

/// An unknown config of an operation with the configs `plain` and [`FUSED`]; whether it is the latter.
fn is_fused(op: &'static str, config: &str) -> Result<bool, OpError> {
    match config {
        crate::op::spec::PLAIN => Ok(false),
        FUSED => Ok(true),
        _ => Err(OpError::UnknownConfig {
            op,
            config: config.into(),
        }),
    }
}
