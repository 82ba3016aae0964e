//! Mixture of experts: router, sort, grouped products, combine; and decode, which is all of them one after another.

use half::bf16;

use super::gemm::Operands;
use super::nvfp4::{Convention, Product, Weights};
use super::rows::row_sum;
use super::{ReferenceError, expect, to_bf16};
use crate::op::data::rows;

/// Chosen experts and their weights, each `[n_tok][top_k]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Routed {
    /// Experts in rank order.
    pub ids: Vec<i32>,
    /// Their weights.
    pub weights: Vec<f32>,
}

/// Whether logit a is of a better rank than b, not looking at indices: larger, or a number where b is NaN.
fn better(a: f32, b: f32) -> bool {
    a > b || (!a.is_nan() && b.is_nan())
}

/// The `top_k` best of each row of logits `[n_tok][experts]`, with softmax weights over all experts, or over the chosen ones.
///
/// # Errors
/// [`ReferenceError`] where there are not that many logits.
pub fn router(
    logits: &[f32],
    n_tok: usize,
    experts: usize,
    top_k: usize,
    normalise: bool,
) -> Result<Routed, ReferenceError> {
    expect("logits", logits.len(), &[("n_tok", n_tok), ("experts", experts)])?;
    let mut chosen = vec![(0i32, 0f32); n_tok * top_k];
    rows(&mut chosen, top_k, |token, chosen| {
        let row = &logits[token * experts..][..experts];
        // A stable sort keeps the lower index first where neither is better.
        let mut order: Vec<usize> = (0..experts).collect();
        order.sort_by(|&a, &b| {
            if better(row[a], row[b]) {
                std::cmp::Ordering::Less
            } else if better(row[b], row[a]) {
                std::cmp::Ordering::Greater
            } else {
                std::cmp::Ordering::Equal
            }
        });
        let max = row[order[0]];
        let e = |expert: usize| cuda_std::float::exact::exp(row[expert] - max);
        let sum = if normalise {
            order[..top_k].iter().fold(0.0, |sum, &expert| sum + e(expert))
        } else {
            row_sum(&(0..experts).map(e).collect::<Vec<f32>>())
        };
        for (out, &expert) in chosen.iter_mut().zip(&order) {
            *out = (expert as i32, one_nan(e(expert) / sum));
        }
    });
    let (ids, weights) = chosen.into_iter().unzip();
    Ok(Routed { ids, weights })
}

/// The NaN that results have, for any.
fn one_nan(v: f32) -> f32 {
    if v.is_nan() { f32::from_bits(0x7FFF_FFFF) } else { v }
}

/// Pairs in the order of their experts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sorted {
    /// `[experts + 1]`: where each expert's pairs begin; at last, where those without an expert do.
    pub offsets: Vec<i32>,
    /// The pair at each place.
    pub sorted: Vec<i32>,
}

/// Sorts the pairs 0, 1, ... by their expert `ids`, equal ones by pair; ids that are no expert come last.
pub fn sort(ids: &[i32], experts: usize) -> Sorted {
    let group = |pair: i32| {
        let id = ids[pair as usize];
        if (0..experts as i32).contains(&id) {
            id
        } else {
            experts as i32
        }
    };
    let mut sorted: Vec<i32> = (0..ids.len() as i32).collect();
    sorted.sort_by_key(|&pair| group(pair));
    let before = |expert: i32| sorted.partition_point(|&pair| group(pair) < expert);
    let offsets = (0..=experts as i32).map(|expert| before(expert) as i32).collect();
    Sorted { offsets, sorted }
}

/// The weights of all experts, each `[n][k]`.
#[derive(Clone, Copy, Debug)]
pub enum Experts<'a> {
    /// `[experts][n][k]`.
    Bf16(&'a [bf16]),
    /// NVFP4, `[experts][n][k / 2]` codes and `[experts][n][k / 16]` scales, and a tensor scale for each expert.
    Nvfp4 {
        /// E2M1.
        codes: &'a [u8],
        /// E4M3.
        scales: &'a [u8],
        /// As stored.
        tensor: &'a [f32],
        /// What they mean.
        convention: Convention,
    },
}

impl Experts<'_> {
    /// Some rows of an expert, as they are multiplied.
    fn rows(&self, expert: usize, rows: &[usize], n: usize, k: usize) -> Result<Vec<bf16>, ReferenceError> {
        let mut all = Vec::with_capacity(rows.len() * k);
        for row in rows.iter().map(|row| expert * n + row) {
            match *self {
                Experts::Bf16(w) => all.extend_from_slice(&w[row * k..][..k]),
                Experts::Nvfp4 { codes, scales, .. } => {
                    let one = Weights {
                        codes: &codes[row * k / 2..][..k / 2],
                        scales: &scales[row * k / 16..][..k / 16],
                        n: 1,
                        k,
                    };
                    all.extend(one.dequantised::<bf16>()?);
                }
            }
        }
        Ok(all)
    }
}

/// A grouped product: each row of the sorted order times its expert's weights.
#[derive(Clone, Copy, Debug)]
pub struct Grouped<'a> {
    /// `[n_tok][k]` with `gather`, else `[pairs][k]` in sorted order.
    pub x: &'a [bf16],
    /// The weights.
    pub weights: Experts<'a>,
    /// The order.
    pub order: &'a Sorted,
    /// Slots of a token.
    pub top_k: usize,
    /// Rows of an expert's weights.
    pub n: usize,
    /// Columns of them.
    pub k: usize,
    /// Whether rows come from tokens and stay in sorted order; else they come in sorted order and go to their pairs.
    pub gather: bool,
}

impl Grouped<'_> {
    /// The outputs of some places of the sorted order, at some columns: for each place the row it goes to, and its values.
    ///
    /// # Errors
    /// x or weights that do not have their shape.
    pub fn at(&self, places: &[usize], columns: &[usize]) -> Result<Vec<(usize, Vec<bf16>)>, ReferenceError> {
        let Grouped { n, k, top_k, .. } = *self;
        let Sorted { offsets, sorted } = self.order;
        let (pairs, experts) = (sorted.len(), offsets.len() - 1);
        let rows = if self.gather { pairs / top_k } else { pairs };
        expect("x", self.x.len(), &[("rows", rows), ("k", k)])?;
        let weights = [("experts", experts), ("n", n), ("k", k)];
        match self.weights {
            Experts::Bf16(w) => expect("w", w.len(), &weights)?,
            Experts::Nvfp4 {
                codes, scales, tensor, ..
            } => {
                expect("codes", 2 * codes.len(), &weights)?;
                expect("scales", 16 * scales.len(), &weights)?;
                expect("tensor", tensor.len(), &weights[..1])?;
            }
        }
        let mut out = Vec::with_capacity(places.len());
        let expert_of = |place: usize| offsets[1..].partition_point(|&end| end as usize <= place);
        for group in places.chunk_by(|&a, &b| expert_of(a) == expert_of(b)) {
            let expert = expert_of(group[0]);
            let to = |&place: &usize| if self.gather { place } else { sorted[place] as usize };
            if expert == experts {
                out.extend(group.iter().map(|place| (to(place), vec![bf16::ZERO; columns.len()])));
                continue;
            }
            let from = |&place: &usize| {
                if self.gather {
                    sorted[place] as usize / top_k
                } else {
                    place
                }
            };
            let a: Vec<bf16> = group
                .iter()
                .flat_map(|place| &self.x[from(place) * k..][..k])
                .copied()
                .collect();
            let operands = Operands {
                a: &a,
                w: &self.weights.rows(expert, columns, n, k)?,
                bias: None,
                residual: None,
                m: group.len(),
                n: columns.len(),
                k,
            };
            let everywhere = operands.everywhere();
            let y = match self.weights {
                Experts::Bf16(_) => operands.at(&everywhere)?,
                Experts::Nvfp4 { tensor, convention, .. } => {
                    let (tensor_scale, bias) = (tensor[expert], None);
                    Product {
                        operands,
                        tensor_scale,
                        convention,
                        bias,
                    }
                    .at(&everywhere)?
                }
            };
            let rows = y.chunks(columns.len().max(1)).map(<[bf16]>::to_vec);
            out.extend(group.iter().map(to).zip(rows));
        }
        Ok(out)
    }

    /// Every row, `[pairs][n]`.
    ///
    /// # Errors
    /// As [`Grouped::at`].
    pub fn whole(&self) -> Result<Vec<bf16>, ReferenceError> {
        let places: Vec<usize> = (0..self.order.sorted.len()).collect();
        let columns: Vec<usize> = (0..self.n).collect();
        let mut y = vec![bf16::ZERO; places.len() * self.n];
        for (row, values) in self.at(&places, &columns)? {
            y[row * self.n..][..self.n].copy_from_slice(&values);
        }
        Ok(y)
    }
}

/// The experts of a feed-forward layer: `n` wide inside, `k` outside.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// `[experts][2 n][k]`: gate, then up.
    pub gate_up: Experts<'a>,
    /// `[experts][k][n]`.
    pub down: Experts<'a>,
    /// Experts.
    pub experts: usize,
    /// Width inside.
    pub n: usize,
    /// Width outside.
    pub k: usize,
}

impl Layer<'_> {
    /// The whole layer on routed tokens x `[n_tok][k]`: sort, gate and up, silu, down, combine, with the shared expert if there is
    /// one (logits, output). Gives `[n_tok][k]`.
    ///
    /// # Errors
    /// A tensor that does not have its shape.
    pub fn forward(
        &self,
        x: &[bf16],
        ids: &[i32],
        weights: &[f32],
        shared: Option<(&[f32], &[bf16])>,
        n_tok: usize,
    ) -> Result<Vec<bf16>, ReferenceError> {
        let Layer {
            gate_up,
            down,
            experts,
            n,
            k,
        } = *self;
        let top_k = (ids.len() / n_tok.max(1)).max(1);
        let order = &sort(ids, experts);
        let both = Grouped {
            x,
            weights: gate_up,
            order,
            top_k,
            n: 2 * n,
            k,
            gather: true,
        };
        let h = super::silu_mul::silu_mul(&both.whole()?, ids.len(), n)?;
        let back = Grouped {
            x: &h,
            weights: down,
            order,
            top_k,
            n: k,
            k: n,
            gather: false,
        };
        let residual = None;
        combine(&back.whole()?, weights, Extras { shared, residual }, n_tok, top_k, k)
    }
}

/// What is added to a token's routed experts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras<'a> {
    /// The shared expert: its logit for each token, its output `[n_tok][n]`.
    pub shared: Option<(&'a [f32], &'a [bf16])>,
    /// The residual `[n_tok][n]`.
    pub residual: Option<&'a [bf16]>,
}

/// Adds up each token's experts: x `[n_tok][top_k][n]` times weights `[n_tok][top_k]`, then the extras. Gives `[n_tok][n]`.
///
/// # Errors
/// [`ReferenceError`] where a tensor has another shape.
pub fn combine(
    x: &[bf16],
    weights: &[f32],
    extras: Extras<'_>,
    n_tok: usize,
    top_k: usize,
    n: usize,
) -> Result<Vec<bf16>, ReferenceError> {
    let (tokens, slots, columns) = (("n_tok", n_tok), ("top_k", top_k), ("n", n));
    expect("x", x.len(), &[tokens, slots, columns])?;
    expect("weights", weights.len(), &[tokens, slots])?;
    if let Some((gate, shared)) = extras.shared {
        expect("gate", gate.len(), &[tokens])?;
        expect("shared", shared.len(), &[tokens, columns])?;
    }
    if let Some(residual) = extras.residual {
        expect("residual", residual.len(), &[tokens, columns])?;
    }
    let mut y = vec![bf16::ZERO; n_tok * n];
    rows(&mut y, n, |token, row| {
        let gate = extras
            .shared
            .map(|(gate, shared)| (cuda_std::float::exact::sigmoid(gate[token]), shared));
        for (j, out) in row.iter_mut().enumerate() {
            let mut acc = 0f32;
            for pair in token * top_k..(token + 1) * top_k {
                acc = weights[pair].mul_add(x[pair * n + j].to_f32(), acc);
            }
            if let Some((weight, shared)) = gate {
                acc = weight.mul_add(shared[token * n + j].to_f32(), acc);
            }
            *out = to_bf16(acc);
            if let Some(residual) = extras.residual {
                *out = to_bf16(out.to_f32() + residual[token * n + j].to_f32());
            }
        }
    });
    Ok(y)
}

#[cfg(test)]
#[path = "moe_tests.rs"]
mod tests;
