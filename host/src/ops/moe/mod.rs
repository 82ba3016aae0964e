//! Mixture of experts: router, sort into expert order, grouped products, combine, and the decode path that needs no sort.

mod call;
pub mod combine;
pub mod decode;
pub mod grouped;
pub(in crate::ops) mod launch;
mod path;
pub mod router;
pub mod sort;
mod weights;

pub use call::MoeDecodeCall;
pub use combine::{MoeCombine, MoeCombineCall};
pub use decode::MoeDecode;
pub use grouped::MoeGrouped;
pub use launch::MoeGroupedCall;
pub use router::{MoeRouter, MoeRouterCall};
pub use sort::{MoeSort, MoeSortCall, sort_scratch_bytes};
pub use weights::ExpertWeights;

use half::bf16;

use crate::device::DevPtr;
use crate::op::data::Draw;
use crate::op::random::Random;
use crate::op::{OpError, Values};

/// How tokens are spread over experts, the axis `skew`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skew {
    /// 0: each token chooses among all experts alike.
    Uniform,
    /// 1: expert e is chosen about as often as 1 / (e + 1), as routers that were not balanced do.
    Zipf,
    /// 2: every pair is on one expert.
    One,
}

impl Skew {
    /// By the number that the axis has.
    ///
    /// # Errors
    /// The numbers there are.
    pub fn new(skew: u64) -> Result<Self, String> {
        match skew {
            0 => Ok(Skew::Uniform),
            1 => Ok(Skew::Zipf),
            2 => Ok(Skew::One),
            _ => Err(format!("skew = {skew}: 0 (uniform), 1 (zipf) or 2 (one expert)")),
        }
    }

    /// Experts of `n_tok` tokens, `[n_tok][top_k]`; those of a token differ, but for [`Skew::One`].
    pub(crate) fn ids(self, random: Random, n_tok: usize, experts: usize, top_k: usize) -> Vec<i32> {
        let one = random.below(u64::MAX, experts as u64) as i32;
        let mut ids = Vec::with_capacity(n_tok * top_k);
        for token in 0..n_tok {
            let first = ids.len();
            for slot in 0..top_k {
                if self == Skew::One {
                    ids.push(one);
                    continue;
                }
                let draw = random.at((token * top_k + slot) as u64);
                let mut id = match self {
                    Skew::Uniform => (draw % experts as u64) as usize,
                    // (E + 1)^u - 1 for u uniform in [0, 1) has the density of 1 / (e + 1).
                    _ => ((experts as f64 + 1.0).powf((draw >> 11) as f64 / (1u64 << 53) as f64) - 1.0) as usize,
                };
                while ids[first..].contains(&(id as i32)) {
                    id = (id + 1) % experts;
                }
                ids.push(id as i32);
            }
        }
        ids
    }
}

/// Takes about one of `every` pairs its expert away.
fn stray(seed: u64, experts: usize, every: u64, ids: &mut [i32]) {
    let random = Random::new(seed, "moe no expert");
    for (i, id) in ids.iter_mut().enumerate() {
        let draw = random.at(i as u64);
        if draw.is_multiple_of(every) {
            *id = [-1, i32::MIN, i32::MAX, experts as i32][(draw >> 8) as usize % 4];
        }
    }
}

/// Makes the weights of every third slot so small that what cancels before it, after it would swallow it.
fn shrink_each_third(weights: &mut [f32], top_k: usize) {
    for (pair, weight) in weights.iter_mut().enumerate() {
        if pair % top_k % 3 == 2 {
            *weight *= 2f32.powi(-20);
        }
    }
}

/// The experts of a case's tokens; with [`Values::NonFinite`] a quarter of the pairs have none.
fn routed(draw: Draw, skew: Skew, n_tok: usize, experts: usize, top_k: usize) -> Vec<i32> {
    let mut ids = skew.ids(draw.random("moe ids"), n_tok, experts, top_k);
    if draw.values == Values::NonFinite {
        stray(draw.seed, experts, 4, &mut ids);
    }
    ids
}

/// Refuses what no operation of a mixture of experts takes.
fn check_routing(n_tok: u64, experts: u64, top_k: u64) -> Result<(), String> {
    let most = u64::from(kernels_gpu::moe_router::MAX_EXPERTS);
    if experts > most {
        return Err(format!("experts = {experts}: at most {most}"));
    }
    let most = u64::from(kernels_gpu::moe_router::MAX_TOP_K).min(experts);
    if top_k > most {
        return Err(format!("top_k = {top_k} of {experts} experts: at most {most}"));
    }
    if n_tok * top_k >= 1 << 31 {
        return Err(format!("n_tok = {n_tok}, top_k = {top_k}: 2^31 pairs or more"));
    }
    Ok(())
}

/// A token's row of a tensor, of nothing where there is none.
fn row<T: Copy>(all: &[T], token: usize, width: usize) -> Vec<T> {
    all.get(token * width..(token + 1) * width)
        .map_or(Vec::new(), <[T]>::to_vec)
}

/// [`check_routing`] for a call.
fn expect_routing(op: &str, n_tok: u32, experts: u32, top_k: u32) -> Result<(), OpError> {
    if top_k == 0 {
        return Err(OpError::Shape(format!(
            "{op}: top_k = 0: a token has at least one slot"
        )));
    }
    check_routing(u64::from(n_tok), u64::from(experts), u64::from(top_k))
        .map_err(|why| OpError::Shape(format!("{op}: {why}")))
}

/// Refuses a call's shared expert without its logits.
fn expect_gate(op: &str, gate: DevPtr<f32>, shared: DevPtr<bf16>) -> Result<(), OpError> {
    if gate.is_null() && !shared.is_null() {
        return Err(OpError::Shape(format!(
            "{op}: a shared expert without its gate's logits"
        )));
    }
    Ok(())
}

/// A flag's axis: 0 or 1.
fn check_flag(dims: &crate::op::spec::Dims, axis: &str) -> Result<(), String> {
    match dims.u64(axis) {
        0 | 1 => Ok(()),
        other => Err(format!("{axis} = {other}: 0 (without) or 1 (with)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experts_of_a_token_differ_and_the_skews_are_what_they_say() {
        let random = Random::new(1, "skew");
        let counts = |skew: Skew| {
            let ids = skew.ids(random, 1000, 60, 4);
            let mut counts = vec![0; 60];
            ids.iter().for_each(|&id| counts[id as usize] += 1);
            let differ = ids.chunks(4).all(|t| (1..4).all(|i| !t[..i].contains(&t[i])));
            (counts, differ)
        };
        let (uniform, differ) = counts(Skew::Uniform);
        assert!(differ && uniform.iter().all(|c| (30..110).contains(c)), "{uniform:?}");
        let (zipf, differ) = counts(Skew::Zipf);
        assert!(differ && zipf[0] > 500 && zipf[50] < 60, "{zipf:?}");
        let (one, _) = counts(Skew::One);
        assert_eq!(one.iter().filter(|c| **c > 0).collect::<Vec<_>>(), [&4000]);
    }
}
