//! The block of a gated delta net: all inputs in one product, convolution, gates, recurrence, gated norm, output.

use half::bf16;

use super::builder::Builder;
use super::linear::part;
use super::{Kind, ModelError};
use crate::device::DevPtr;
use crate::model::caches::GdnCache;
use crate::model::weights::GdnWeights;
use crate::ops::gated_rms_norm::GatedRmsNormCall;
use crate::ops::gdn::{GdnConvCall, GdnDecodeCall, GdnGatesCall, GdnPrefillCall, chunks_bytes};

impl Builder<'_> {
    /// branch = out(norm(recurrence(x)) * silu(z)), both `[n_tok][hidden]`.
    pub(super) fn gdn(
        &mut self,
        w: &GdnWeights,
        cache: GdnCache,
        x: DevPtr<bf16>,
        branch: DevPtr<bf16>,
    ) -> Result<(), ModelError> {
        let (n_tok, n_seq) = (self.shape.n_tok, self.shape.n_seq);
        let (config, inputs) = (self.context.config, self.context.inputs);
        let gdn = config
            .gdn
            .ok_or_else(|| config.error("linear_num_value_heads", "is missing"))?;
        let rows = n_tok as usize;
        let parts = self.linear(&w.input, x, n_tok)?;
        let part = |name: &str| part(config, w.input.role, &parts, name);
        let (qkv, z, b, a) = (part("qkv")?, part("z")?, part("b")?, part("a")?);
        let channels = gdn.channels();
        let mixed = self.temp::<bf16>(rows * channels as usize);
        self.call(
            "gdn_conv",
            GdnConvCall {
                x: qkv.ptr,
                w: w.conv,
                bias: DevPtr::NULL,
                state: cache.conv,
                state_in: inputs.at(inputs.state_in),
                state_out: inputs.at(inputs.state_out),
                cu_seqlens: inputs.at(inputs.cu_seqlens),
                y: mixed,
                n_tok,
                n_seq,
                channels,
                x_stride: qkv.stride,
                l2_heads: 2 * gdn.k_heads,
            },
        )?;
        let gates = rows * gdn.v_heads as usize;
        let (g, beta) = (self.temp::<f32>(gates), self.temp::<f32>(gates));
        self.call(
            "gdn_gates",
            GdnGatesCall {
                a: a.ptr,
                b: b.ptr,
                a_log: w.a_log,
                dt_bias: w.dt_bias,
                g,
                beta,
                n_tok,
                v_heads: gdn.v_heads,
                a_stride: a.stride,
                b_stride: b.stride,
            },
        )?;
        let o = self.temp::<bf16>(rows * gdn.v_width() as usize);
        let key_width = (gdn.k_heads * gdn.head_dim) as usize;
        let (q, k, v) = (mixed, mixed.add(key_width), mixed.add(2 * key_width));
        match self.shape.kind {
            Kind::Decode => self.call(
                "gdn",
                GdnDecodeCall {
                    q,
                    k,
                    v,
                    g,
                    beta,
                    a: DevPtr::NULL,
                    b: DevPtr::NULL,
                    a_log: DevPtr::NULL,
                    dt_bias: DevPtr::NULL,
                    state: cache.state,
                    state_in: inputs.at(inputs.state_in),
                    state_out: inputs.at(inputs.state_out),
                    o,
                    n_seq,
                    n_tok: self.shape.per_seq(),
                    k_heads: gdn.k_heads,
                    v_heads: gdn.v_heads,
                    modulo: gdn.modulo,
                    q_stride: channels,
                    k_stride: channels,
                    v_stride: channels,
                },
            )?,
            Kind::Prefill => self.scope(|builder| {
                let chunks = builder.temp::<u8>(chunks_bytes(n_tok, n_seq, gdn.v_heads) as usize);
                builder.call(
                    "gdn",
                    GdnPrefillCall {
                        q,
                        k,
                        v,
                        g,
                        beta,
                        a: DevPtr::NULL,
                        b: DevPtr::NULL,
                        a_log: DevPtr::NULL,
                        dt_bias: DevPtr::NULL,
                        cu_seqlens: inputs.at(inputs.cu_seqlens),
                        chunks,
                        state: cache.state,
                        state_in: inputs.at(inputs.state_in),
                        state_out: inputs.at(inputs.state_end),
                        o,
                        n_tok,
                        n_seq,
                        k_heads: gdn.k_heads,
                        v_heads: gdn.v_heads,
                        modulo: gdn.modulo,
                        q_stride: channels,
                        k_stride: channels,
                        v_stride: channels,
                    },
                )
            })?,
        }
        let normed = self.temp::<bf16>(rows * gdn.v_width() as usize);
        self.call(
            "gdn_norm",
            GatedRmsNormCall {
                x: o,
                z: z.ptr,
                w: w.norm,
                y: normed,
                n_tok,
                heads: gdn.v_heads,
                n: gdn.head_dim,
                x_stride: gdn.v_width(),
                z_stride: z.stride,
                y_stride: gdn.v_width(),
                eps: config.norm_eps,
            },
        )?;
        self.linear_to(&w.out, normed, branch, n_tok)
    }
}
