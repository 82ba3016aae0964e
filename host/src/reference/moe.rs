//! Mixture of experts: router, sort, grouped products, combine; and decode, which is all of them one after another.

use half::bf16;

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
