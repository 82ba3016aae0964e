//! The block of softmax attention: q, k, v (and the gate) in one product, heads normed and turned, cache appended, attention, output.

use half::bf16;

use super::builder::Builder;
use super::linear::{Columns, part};
use super::{Kind, ModelError};
use crate::device::DevPtr;
use crate::model::caches::KvCache;
use crate::model::weights::{AttentionWeights, Vector};
use crate::ops::attention::{AttnCall, Order, decode_scratch};
use crate::ops::kv_append::KvAppendCall;
use crate::ops::rms_norm::RmsNormCall;
use crate::ops::rope::RopeCall;

impl Builder<'_> {
    /// branch = o(attention(x)), both `[n_tok][hidden]`.
    pub(super) fn attention(
        &mut self,
        w: &AttentionWeights,
        cache: KvCache,
        x: DevPtr<bf16>,
        branch: DevPtr<bf16>,
    ) -> Result<(), ModelError> {
        let n_tok = self.shape.n_tok;
        let config = self.context.config;
        let a = &config.attention;
        let parts = self.linear(&w.qkv, x, n_tok)?;
        let part = |name: &str| part(config, w.qkv.role, &parts, name);
        let (q, k, v) = (part("q")?, part("k")?, part("v")?);
        let gate = if a.gate { Some(part("gate")?) } else { None };
        if k.stride != v.stride {
            let message = format!(
                "k is in rows of {}, v of {}: they are appended together",
                k.stride, v.stride
            );
            return Err(config.error(w.qkv.role, message));
        }
        for (role, weights, columns) in [("q_norm", w.q_norm, q), ("k_norm", w.k_norm, k)] {
            if let Some(weights) = weights {
                self.head_norm(role, weights, columns)?;
            }
        }
        // q and k side by side are turned in one launch.
        if q.ptr.add(q.n as usize) == k.ptr && q.stride == k.stride {
            self.rope(Columns { n: q.n + k.n, ..q })?;
        } else {
            self.rope(q)?;
            self.rope(k)?;
        }
        let inputs = self.context.inputs;
        let limits = self.context.limits;
        let n_seq = self.shape.n_seq;
        self.call(
            "kv_append",
            KvAppendCall {
                k: k.ptr,
                v: v.ptr,
                k_cache: cache.k,
                v_cache: cache.v,
                block_table: inputs.at(inputs.block_table),
                cu_seqlens: inputs.at(inputs.cu_seqlens),
                seq_lens: inputs.at(inputs.seq_lens),
                n_tok,
                n_seq,
                kv_heads: a.kv_heads,
                head_dim: a.head_dim,
                page: limits.page,
                max_pages: limits.max_pages,
                n_pages: limits.n_pages,
                stride: k.stride,
            },
        )?;
        let width = a.q_heads * a.head_dim;
        let o = self.temp::<bf16>(n_tok as usize * width as usize);
        self.scope(|b| {
            let order = match b.shape.kind {
                Kind::Prefill => Order::Prefill,
                Kind::Decode => Order::Decode,
            };
            let (part_o, part_ml) = match order {
                Order::Prefill => (DevPtr::NULL, DevPtr::NULL),
                Order::Decode => {
                    let [o, ml] = decode_scratch(n_tok, a.q_heads, a.head_dim, limits.context());
                    (b.temp::<u8>(o as usize).cast(), b.temp::<u8>(ml as usize).cast())
                }
            };
            // YaRN's factor on cosines and sines of both q and k, where whole heads are turned.
            let factor = a.scaling.attention_factor();
            let scale = factor * factor / f64::from(a.head_dim).sqrt();
            b.call(
                "attention",
                AttnCall {
                    order,
                    q: q.ptr,
                    gate: gate.map_or(DevPtr::NULL, |gate| gate.ptr),
                    k: cache.k,
                    v: cache.v,
                    o,
                    block_table: inputs.at(inputs.block_table),
                    cu_seqlens: inputs.at(inputs.cu_seqlens),
                    seq_lens: inputs.at(inputs.seq_lens),
                    q_row: q.stride,
                    q_head: a.head_dim,
                    gate_row: gate.map_or(0, |gate| gate.stride),
                    gate_head: a.head_dim,
                    o_row: width,
                    n_tok,
                    n_seq,
                    max_tok: b.shape.per_seq(),
                    q_heads: a.q_heads,
                    kv_heads: a.kv_heads,
                    head_dim: a.head_dim,
                    page: limits.page,
                    max_pages: limits.max_pages,
                    window: 0,
                    scale_log2: (scale * std::f64::consts::LOG2_E) as f32,
                    part_o,
                    part_ml,
                },
            )
        })?;
        self.linear_to(&w.o, o, branch, n_tok)
    }

    /// Norms heads in place.
    fn head_norm(&mut self, role: &'static str, w: Vector, columns: Columns) -> Result<(), ModelError> {
        let config = self.context.config;
        let head_dim = config.attention.head_dim;
        self.call(
            role,
            RmsNormCall {
                x: columns.ptr,
                residual: DevPtr::NULL,
                w,
                y: columns.ptr,
                n_tok: self.shape.n_tok,
                heads: columns.n / head_dim,
                n: head_dim,
                x_stride: columns.stride,
                r_stride: 0,
                y_stride: columns.stride,
                eps: config.norm_eps,
                zero_centered: config.zero_centered,
            },
        )
    }

    /// Turns heads in place.
    fn rope(&mut self, columns: Columns) -> Result<(), ModelError> {
        let a = &self.context.config.attention;
        let inputs = self.context.inputs;
        self.call(
            "rope",
            RopeCall {
                x: columns.ptr,
                y: columns.ptr,
                positions: inputs.at(inputs.positions),
                inv_freq: self.context.caches.inv_freq,
                n_tok: self.shape.n_tok,
                heads: columns.n / a.head_dim,
                head_dim: a.head_dim,
                rot: a.rot,
                interleaved: a.interleaved,
                x_stride: columns.stride,
                y_stride: columns.stride,
            },
        )
    }
}
