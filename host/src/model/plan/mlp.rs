//! Feed-forwards: dense, and mixtures of experts with or without a shared one.

use half::bf16;

use super::builder::Builder;
use crate::device::DevPtr;
use crate::model::ModelError;
use crate::model::weights::{DenseWeights, Experts, Format, MlpWeights, MoeWeights};
use crate::ops::moe::{
    ExpertWeights, MoeCombineCall, MoeDecodeCall, MoeGroupedCall, MoeRouterCall, MoeSortCall, decode,
    sort_scratch_bytes,
};
use crate::ops::silu_mul::SiluMulCall;

/// The names of a dense feed-forward's activation: a layer's, and a shared expert's.
const ACT: &str = "ffn_act";
const SHARED_ACT: &str = "shared_act";

impl Builder<'_> {
    /// branch = mlp(x), both `[n_tok][hidden]`.
    pub(super) fn mlp(&mut self, w: &MlpWeights, x: DevPtr<bf16>, branch: DevPtr<bf16>) -> Result<(), ModelError> {
        match w {
            MlpWeights::Dense(dense) => self.dense(ACT, dense, x, branch),
            MlpWeights::Moe(moe) => self.moe(moe, x, branch),
        }
    }

    fn dense(
        &mut self,
        act: &'static str,
        w: &DenseWeights,
        x: DevPtr<bf16>,
        branch: DevPtr<bf16>,
    ) -> Result<(), ModelError> {
        let n_tok = self.shape.n_tok;
        self.scope(|b| {
            let parts = b.linear(&w.gate_up, x, n_tok)?;
            let [(_, gate), (_, up)] = parts[..] else {
                let message = format!("{} parts: gate and up are two", parts.len());
                return Err(b.context.config.error(w.gate_up.role, message));
            };
            let h = b.temp::<bf16>(n_tok as usize * gate.n as usize);
            b.call(
                act,
                SiluMulCall {
                    gate: gate.ptr,
                    up: up.ptr,
                    gate_stride: gate.stride,
                    up_stride: up.stride,
                    y: h,
                    n_tok,
                    n: gate.n,
                },
            )?;
            b.linear_to(&w.down, h, branch, n_tok)
        })
    }

    fn moe(&mut self, w: &MoeWeights, x: DevPtr<bf16>, branch: DevPtr<bf16>) -> Result<(), ModelError> {
        let n_tok = self.shape.n_tok;
        let config = self.context.config;
        let moe = config.moe.ok_or_else(|| config.error("num_experts", "is missing"))?;
        let pairs = n_tok * moe.top_k;
        let logits = self.temp::<f32>(n_tok as usize * moe.experts as usize);
        let (ids, weights) = (self.temp::<i32>(pairs as usize), self.temp::<f32>(pairs as usize));
        self.linear_f32(&w.router, x, logits, n_tok)?;
        self.call(
            "route",
            MoeRouterCall {
                logits,
                ids,
                weights,
                n_tok,
                experts: moe.experts,
                top_k: moe.top_k,
                normalise: moe.normalise,
            },
        )?;
        let (mut shared, mut gate) = (DevPtr::NULL, DevPtr::NULL);
        if let Some((dense, gate_weights)) = &w.shared {
            shared = self.temp::<bf16>(n_tok as usize * config.hidden as usize);
            gate = self.temp::<f32>(n_tok as usize);
            self.linear_f32(gate_weights, x, gate, n_tok)?;
            self.dense(SHARED_ACT, dense, x, shared)?;
        }
        let routed = Routed {
            ids,
            weights,
            gate,
            shared,
            pairs,
        };
        if u64::from(n_tok) <= decode::MAX_TOKENS {
            self.unsorted(w, &routed, x, branch)
        } else {
            self.sorted(w, &routed, x, branch)
        }
    }

    /// The experts of a few tokens.
    fn unsorted(
        &mut self,
        w: &MoeWeights,
        routed: &Routed,
        x: DevPtr<bf16>,
        branch: DevPtr<bf16>,
    ) -> Result<(), ModelError> {
        let h = self.temp::<bf16>(routed.pairs as usize * w.down.k as usize);
        let call = MoeDecodeCall {
            x,
            ids: routed.ids,
            weights: routed.weights,
            gate_up: self.experts(&w.gate_up)?,
            down: self.experts(&w.down)?,
            h,
            shared_gate: routed.gate,
            shared: routed.shared,
            y: branch,
            n_tok: self.shape.n_tok,
            experts: w.down.experts,
            top_k: routed.pairs / self.shape.n_tok,
            n: w.down.k,
            k: w.down.n,
        };
        self.call("experts", call)
    }

    /// The experts of many tokens, in the order of the experts: each is read once.
    fn sorted(
        &mut self,
        w: &MoeWeights,
        routed: &Routed,
        x: DevPtr<bf16>,
        branch: DevPtr<bf16>,
    ) -> Result<(), ModelError> {
        let (n_tok, pairs) = (self.shape.n_tok, routed.pairs);
        let (experts, top_k) = (w.down.experts, pairs / n_tok);
        let (hidden, ffn) = (w.down.n, w.down.k);
        let rows = pairs as usize;
        let counts = self.temp::<u8>(sort_scratch_bytes(pairs, experts)).cast();
        let (offsets, sorted) = (self.temp::<i32>(experts as usize + 1), self.temp::<i32>(rows));
        self.call(
            "sort",
            MoeSortCall {
                ids: routed.ids,
                counts,
                offsets,
                sorted,
                pairs,
                experts,
            },
        )?;
        let gu = self.temp::<bf16>(rows * 2 * ffn as usize);
        let grouped = MoeGroupedCall {
            x,
            w: self.experts(&w.gate_up)?,
            offsets,
            sorted,
            y: gu,
            pairs,
            experts,
            top_k,
            n: 2 * ffn,
            k: hidden,
            gather: true,
        };
        self.call(w.gate_up.role, grouped)?;
        let h = self.temp::<bf16>(rows * ffn as usize);
        self.call("experts_act", SiluMulCall::of_product(gu, h, pairs, ffn))?;
        let y = self.temp::<bf16>(rows * hidden as usize);
        let down = MoeGroupedCall {
            x: h,
            w: self.experts(&w.down)?,
            y,
            n: hidden,
            k: ffn,
            gather: false,
            ..grouped
        };
        self.call(w.down.role, down)?;
        self.call(
            "combine",
            MoeCombineCall {
                x: y,
                weights: routed.weights,
                gate: routed.gate,
                shared: routed.shared,
                residual: DevPtr::NULL,
                y: branch,
                n_tok,
                top_k,
                n: hidden,
            },
        )
    }

    fn experts(&self, experts: &Experts) -> Result<ExpertWeights, ModelError> {
        match experts.format {
            Format::Bf16(w) => Ok(ExpertWeights::Bf16(w)),
            Format::Nvfp4 {
                codes,
                scales,
                tensor,
                convention,
            } => Ok(ExpertWeights::Nvfp4 {
                codes,
                scales,
                tensor,
                convention,
            }),
            Format::Q8 { .. } => {
                let message = "experts in Q8_0 have no grouped product: the loader makes them bf16";
                Err(self.context.config.error(experts.role, message))
            }
        }
    }
}

/// What the router says, and the shared expert.
struct Routed {
    ids: DevPtr<i32>,
    weights: DevPtr<f32>,
    gate: DevPtr<f32>,
    shared: DevPtr<bf16>,
    pairs: u32,
}
