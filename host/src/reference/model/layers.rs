//! The sublayers: attention, gated delta net, dense feed-forward, experts.

use half::bf16;
use half::slice::HalfFloatSliceExt;
use half::vec::HalfBitsVecExt;

use super::{Attention, Dense, Gdn, Model, Moe};
use crate::op::data::rows;
use crate::reference::attention::{self, Heads, Order};
use crate::reference::gdn::{self as net, Conv, D, Inputs, Rows};
use crate::reference::moe;
use crate::reference::rope::rope;
use crate::reference::rows::Half;
use crate::reference::{ReferenceError, expect, gdn_prefill, norms, silu_mul};

impl Model {
    /// Projections, norms of heads, rotation, attention with its gate, projection.
    pub(super) fn attention(&self, w: &Attention, x: &[bf16], prompt: usize) -> Result<Vec<bf16>, ReferenceError> {
        let (c, hidden) = (&self.config.attention, self.config.hidden);
        let (d, n_tok) = (c.head_dim, x.len() / hidden);
        w.q.check("q", c.q_heads * d, hidden)?;
        w.k.check("k", c.kv_heads * d, hidden)?;
        w.v.check("v", c.kv_heads * d, hidden)?;
        w.o.check("o", hidden, c.q_heads * d)?;
        let (mut q, mut k, v) = (w.q.rounded(x)?, w.k.rounded(x)?, w.v.rounded(x)?);
        if let Some([q_norm, k_norm]) = &w.qk_norm {
            expect("q_norm", q_norm.len(), &[("head_dim", d)])?;
            expect("k_norm", k_norm.len(), &[("head_dim", d)])?;
            (q, k) = (self.norm(&q, q_norm)?, self.norm(&k, k_norm)?);
        }
        for (x, heads) in [(&mut q, c.q_heads), (&mut k, c.kv_heads)] {
            for (i, head) in x.chunks_mut(d).enumerate() {
                rope(head, (i / heads) as i32, &c.inv_freq, c.interleaved);
            }
        }
        let gate = match &w.gate {
            Some(gate) => {
                gate.check("gate", c.q_heads * d, hidden)?;
                Some(gate.rounded(x)?)
            }
            None => None,
        };
        // A cache of one page, which is as long as the sequence.
        let by_head = |x: &[bf16]| -> Vec<bf16> {
            let row = |head, token| &x[(token * c.kv_heads + head) * d..][..d];
            let of_head = |head| (0..n_tok).flat_map(move |token| row(head, token)).copied();
            (0..c.kv_heads).flat_map(of_head).collect()
        };
        let (k, v) = (by_head(&k), by_head(&v));
        let heads = |data| {
            let (row, head) = (c.q_heads * d, d);
            Heads { data, row, head }
        };
        let all = attention::Attention {
            q: heads(&q),
            gate: gate.as_deref().map(heads),
            k: &k,
            v: &v,
            block_table: &[0],
            cu_seqlens: &[0, n_tok as i32],
            seq_lens: &[n_tok as i32],
            q_heads: c.q_heads,
            kv_heads: c.kv_heads,
            head_dim: d,
            page: n_tok,
            window: 0,
            scale_log2: c.scale_log2,
        };
        all.check()?;
        let mut y = vec![bf16::ZERO; n_tok * c.q_heads * d];
        rows(&mut y, d, |i, row| {
            let (token, head) = (i / c.q_heads, i % c.q_heads);
            let order = if token < prompt { Order::Prefill } else { Order::Decode };
            row.copy_from_slice(&all.row(order, token, head));
        });
        w.o.rounded(&y)
    }

    /// Projections, convolution, gates, recurrence, gated norm, projection.
    pub(super) fn gdn(&self, w: &Gdn, x: &[bf16], prompt: usize) -> Result<Vec<bf16>, ReferenceError> {
        let (heads, hidden) = (self.config.gdn, self.config.hidden);
        let (keys, values) = (heads.keys, heads.values);
        let (channels, n_tok) = ((2 * keys + values) * D, x.len() / hidden);
        w.qkv.check("qkv", channels, hidden)?;
        w.z.check("z", values * D, hidden)?;
        w.b.check("b", values, hidden)?;
        w.a.check("a", values, hidden)?;
        w.out.check("out", hidden, values * D)?;
        expect("conv", w.conv.len(), &[("channels", channels), ("taps", 4)])?;
        expect("a_log", w.a_log.len(), &[("v_heads", values)])?;
        expect("dt_bias", w.dt_bias.len(), &[("v_heads", values)])?;
        let (qkv, z) = (w.qkv.rounded(x)?, w.z.rounded(x)?);
        let (b, a) = (w.b.rounded(x)?, w.a.rounded(x)?);
        let by_token = |data, stride| Rows { data, stride };
        let conv = Conv {
            w: &w.conv,
            bias: None,
            l2_heads: 2 * keys,
        };
        let mixed = net::conv(conv, by_token(&qkv, channels), n_tok, None, 0..channels).y;
        let gate = |i: usize| net::gates(a[i], b[i], w.a_log[i % values], w.dt_bias[i % values]);
        let (g, beta): (Vec<f32>, Vec<f32>) = (0..n_tok * values).map(gate).unzip();
        let inputs = Inputs {
            q: by_token(&mixed, channels),
            k: by_token(&mixed[keys * D..], channels),
            v: by_token(&mixed[2 * keys * D..], channels),
            g: &g,
            beta: &beta,
            heads,
            scale: 1.0 / (D as f32).sqrt(),
        };
        net::check(&inputs, n_tok)?;
        // `[v_heads][n_tok][128]`: a state goes from token to token.
        let mut o = vec![bf16::ZERO; values * n_tok * D];
        rows(&mut o, n_tok * D, |head, o| {
            let mut state = vec![0.0; D * D];
            let prompt = prompt.min(n_tok);
            let of_prompt = gdn_prefill::sequence(&inputs, prompt, head, 0..D, &mut state);
            o[..prompt * D].copy_from_slice(&of_prompt);
            for token in prompt..n_tok {
                o[token * D..][..D].copy_from_slice(&net::step(&inputs, token, head, &mut state));
            }
        });
        let mut y = Vec::with_capacity(o.len());
        for (i, z) in z.chunks(D).enumerate() {
            let row = &o[(i % values * n_tok + i / values) * D..][..D];
            let (row, z) = (row.reinterpret_cast(), z.reinterpret_cast());
            let gated = norms::gated_rms_norm(Half::Bf16, row, z, w.norm.reinterpret_cast(), self.config.eps)?;
            y.extend(gated.reinterpret_into::<bf16>());
        }
        w.out.rounded(&y)
    }

    /// Gate and up, their product, down.
    pub(super) fn dense(&self, w: &Dense, x: &[bf16]) -> Result<Vec<bf16>, ReferenceError> {
        let (hidden, ffn) = (self.config.hidden, w.gate.n);
        w.gate.check("gate", ffn, hidden)?;
        w.up.check("up", ffn, hidden)?;
        w.down.check("down", hidden, ffn)?;
        let (gate, up) = (w.gate.rounded(x)?, w.up.rounded(x)?);
        let pairs = gate.chunks(ffn.max(1)).zip(up.chunks(ffn.max(1)));
        let side_by_side: Vec<bf16> = pairs.flat_map(|(gate, up)| [gate, up].concat()).collect();
        w.down
            .rounded(&silu_mul::silu_mul(&side_by_side, x.len() / hidden, ffn)?)
    }

    /// Router, the chosen experts, the shared one.
    pub(super) fn moe(&self, w: &Moe, x: &[bf16]) -> Result<Vec<bf16>, ReferenceError> {
        let (c, hidden, experts) = (self.config.moe, self.config.hidden, w.router.n);
        let n_tok = x.len() / hidden;
        w.router.check("router", experts, hidden)?;
        expect("top_k", c.top_k.min(experts), &[("top_k", c.top_k)])?;
        let routed = moe::router(&w.router.times(x)?, n_tok, experts, c.top_k, c.normalise)?;
        let shared = match &w.shared {
            Some(shared) => {
                let (dense, gate) = &**shared;
                gate.check("shared_gate", 1, hidden)?;
                Some((gate.times(x)?, self.dense(dense, x)?))
            }
            None => None,
        };
        let layer = moe::Layer {
            gate_up: w.gate_up.experts(),
            down: w.down.experts(),
            experts,
            n: w.ffn,
            k: hidden,
        };
        let shared = shared.as_ref().map(|(gate, y)| (&gate[..], &y[..]));
        layer.forward(x, &routed.ids, &routed.weights, shared, n_tok)
    }
}
