//! The tensors of a checkpoint by the modeling files of transformers: names and rows, written down apart from the layout.

use host::model::config::{Mixer, Mlp, ModelConfig};
use std::collections::BTreeMap;

/// Whole names with their rows (of the first dimensions flattened).
pub type Tensors = BTreeMap<String, u64>;

/// How a checkpoint is made.
#[derive(Clone, Copy)]
pub struct Form {
    /// Before `layers`.
    pub prefix: &'static str,
    /// One tensor for all experts.
    pub fused_experts: bool,
    /// The last part of a matrix's name.
    pub weight: &'static str,
}

pub const PLAIN: Form = Form {
    prefix: "model.",
    fused_experts: false,
    weight: "weight",
};

/// Every tensor of a checkpoint of this model.
pub fn checkpoint(c: &ModelConfig, form: Form) -> Tensors {
    let mut t = Tensors::new();
    let matrix = |t: &mut Tensors, base: String, rows: u32| {
        t.insert(format!("{base}.{}", form.weight), rows.into());
    };
    let p = form.prefix;
    t.insert(format!("{p}embed_tokens.weight"), c.vocab.into());
    t.insert(format!("{p}norm.weight"), c.hidden.into());
    if !c.tied_embeddings {
        matrix(&mut t, "lm_head".into(), c.vocab);
    }
    for (i, layer) in c.layers.iter().enumerate() {
        one_layer(&mut t, c, &format!("{p}layers.{i}"), layer.mixer, layer.mlp, form);
    }
    if c.mtp {
        for norm in ["pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm"] {
            t.insert(format!("mtp.{norm}.weight"), c.hidden.into());
        }
        matrix(&mut t, "mtp.fc".into(), c.hidden);
        one_layer(&mut t, c, "mtp.layers.0", Mixer::Attention, c.layers[0].mlp, form);
    }
    t
}

fn one_layer(t: &mut Tensors, c: &ModelConfig, at: &str, mixer: Mixer, mlp: Mlp, form: Form) {
    let mut vector = |name: &str, rows: u32| {
        t.insert(format!("{at}.{name}"), rows.into());
    };
    vector("input_layernorm.weight", c.hidden);
    vector("post_attention_layernorm.weight", c.hidden);
    let mut matrices: Vec<(String, u32)> = Vec::new();
    if mixer == Mixer::Attention {
        let a = &c.attention;
        if a.qk_norm {
            vector("self_attn.q_norm.weight", a.head_dim);
            vector("self_attn.k_norm.weight", a.head_dim);
        }
        let gates = if a.gate { 2 } else { 1 };
        matrices.push(("self_attn.q_proj".into(), a.q_heads * a.head_dim * gates));
        matrices.push(("self_attn.k_proj".into(), a.kv_heads * a.head_dim));
        matrices.push(("self_attn.v_proj".into(), a.kv_heads * a.head_dim));
        matrices.push(("self_attn.o_proj".into(), c.hidden));
    } else {
        let g = c.gdn.unwrap();
        let (keys, values) = (g.k_heads * 128, g.v_heads * 128);
        vector("linear_attn.conv1d.weight", (2 * keys + values) * 4);
        vector("linear_attn.A_log", g.v_heads);
        vector("linear_attn.dt_bias", g.v_heads);
        vector("linear_attn.norm.weight", 128);
        if c.family == "qwen3_next" {
            matrices.push(("linear_attn.in_proj_qkvz".into(), 2 * keys + 2 * values));
            matrices.push(("linear_attn.in_proj_ba".into(), 2 * g.v_heads));
        } else {
            matrices.push(("linear_attn.in_proj_qkv".into(), 2 * keys + values));
            matrices.push(("linear_attn.in_proj_z".into(), values));
            matrices.push(("linear_attn.in_proj_b".into(), g.v_heads));
            matrices.push(("linear_attn.in_proj_a".into(), g.v_heads));
        }
        matrices.push(("linear_attn.out_proj".into(), c.hidden));
    }
    if mlp == Mlp::Dense {
        let ffn = c.ffn.unwrap();
        matrices.push(("mlp.gate_proj".into(), ffn));
        matrices.push(("mlp.up_proj".into(), ffn));
        matrices.push(("mlp.down_proj".into(), c.hidden));
    } else {
        let moe = c.moe.unwrap();
        matrices.push(("mlp.gate".into(), moe.experts));
        if form.fused_experts {
            vector("mlp.experts.gate_up_proj", moe.experts * 2 * moe.ffn);
            vector("mlp.experts.down_proj", moe.experts * c.hidden);
        } else {
            for e in 0..moe.experts {
                matrices.push((format!("mlp.experts.{e}.gate_proj"), moe.ffn));
                matrices.push((format!("mlp.experts.{e}.up_proj"), moe.ffn));
                matrices.push((format!("mlp.experts.{e}.down_proj"), c.hidden));
            }
        }
        if let Some(ffn) = moe.shared_ffn {
            matrices.push(("mlp.shared_expert.gate_proj".into(), ffn));
            matrices.push(("mlp.shared_expert.up_proj".into(), ffn));
            matrices.push(("mlp.shared_expert.down_proj".into(), c.hidden));
            matrices.push(("mlp.shared_expert_gate".into(), 1));
        }
    }
    for (base, rows) in matrices {
        t.insert(format!("{at}.{base}.{}", form.weight), rows.into());
    }
}
