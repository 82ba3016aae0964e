//! The head that predicts the token after the next, as Qwen's checkpoints have it: for position i it reads the embedding of token i + 1 and
//! the last hidden state of position i, and has one layer of attention with a cache of its own.

use half::bf16;

use super::Net;
use super::builder::Builder;
use crate::device::DevPtr;
use crate::model::ModelError;
use crate::model::caches::LayerCache;
use crate::ops::embedding::{EmbeddingCall, EmbeddingTable};
use crate::ops::rms_norm::RmsNormCall;

impl Builder<'_> {
    pub(super) fn mtp(&mut self) -> Result<(), ModelError> {
        let context = self.context;
        let config = context.config;
        let (Some(w), Some(cache)) = (&context.weights.mtp, context.caches.mtp) else {
            return Err(config.error("mtp", "this model has no head that predicts the token after the next"));
        };
        let (hidden, n_tok) = (config.hidden, self.shape.n_tok);
        let size = n_tok as usize * hidden as usize;
        let [residual, branch, x] = [(); 3].map(|()| self.temp::<bf16>(size));
        self.scope(|b| {
            let (embedded, states) = (b.temp::<bf16>(size), b.temp::<bf16>(size));
            let both = b.temp::<bf16>(2 * size);
            b.embed(embedded)?;
            let gather = EmbeddingCall {
                table: EmbeddingTable::Bf16(context.outputs.hidden.ptr()),
                ids: context.inputs.at(context.inputs.hidden_rows),
                y: states,
                n_tok,
                n: hidden,
                vocab: 2 * context.limits.max_tok(),
            };
            b.call("mtp_gather", gather)?;
            for (role, w, x, y) in [
                ("mtp_embedding_norm", w.embedding_norm, embedded, both),
                ("mtp_hidden_norm", w.hidden_norm, states, both.add(hidden as usize)),
            ] {
                let norm = RmsNormCall {
                    x,
                    residual: DevPtr::NULL,
                    w,
                    y,
                    n_tok,
                    heads: 1,
                    n: hidden,
                    x_stride: hidden,
                    r_stride: 0,
                    y_stride: 2 * hidden,
                    eps: config.norm_eps,
                    zero_centered: config.zero_centered,
                };
                b.call(role, norm)?;
            }
            b.linear_to(&w.fc, both, residual, n_tok)
        })?;
        self.layer(&w.layer, LayerCache::Kv(cache), None, residual, branch, x)?;
        let last = context.outputs.hidden_of(Net::Mtp, config, context.limits);
        self.norm("mtp_norm", w.norm, Some(branch), residual, last)?;
        self.head(&context.weights.lm_head, last)
    }
}
