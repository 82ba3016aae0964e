//! What tensors are called, by Hugging Face and by llama.cpp.
//!
//! Sources: the modeling files of transformers 5.23 for the first, `gguf/constants.py` 0.19 and the converter of llama.cpp for the second.

use super::Naming;

/// Base names of a layer's tensors, to be put behind the layer's prefix.
pub struct Names {
    /// A layer's prefix without its number and the dot behind it.
    pub layers: &'static str,
    pub input_norm: &'static str,
    /// Names of the norm before the feed-forward; files of llama.cpp have either.
    pub post_norm: [&'static str; 2],
    pub q: &'static str,
    pub k: &'static str,
    pub v: &'static str,
    pub o: &'static str,
    pub q_norm: &'static str,
    pub k_norm: &'static str,
    /// q, k and v of a gated delta net, all heads of each together.
    pub gdn_qkv: &'static str,
    pub gdn_z: &'static str,
    pub gdn_b: &'static str,
    pub gdn_a: &'static str,
    /// q, k, v, z packed by key head; b and a packed by key head.
    pub gdn_qkvz: &'static str,
    pub gdn_ba: &'static str,
    pub gdn_conv: &'static str,
    /// Whole name.
    pub gdn_a_log: &'static str,
    /// Whole name.
    pub gdn_dt_bias: &'static str,
    pub gdn_norm: &'static str,
    pub gdn_out: &'static str,
    pub gate: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    pub router: &'static str,
    /// Stacks of all experts: gate with up, gate, up, down. An expert's own tensors have its number before the last part.
    pub experts_gate_up: &'static str,
    pub experts_gate: &'static str,
    pub experts_up: &'static str,
    pub experts_down: &'static str,
    pub shared_gate_proj: &'static str,
    pub shared_up: &'static str,
    pub shared_down: &'static str,
    pub shared_gate: &'static str,
}

const HUGGING_FACE: Names = Names {
    layers: "layers",
    input_norm: "input_layernorm",
    post_norm: ["post_attention_layernorm"; 2],
    q: "self_attn.q_proj",
    k: "self_attn.k_proj",
    v: "self_attn.v_proj",
    o: "self_attn.o_proj",
    q_norm: "self_attn.q_norm",
    k_norm: "self_attn.k_norm",
    gdn_qkv: "linear_attn.in_proj_qkv",
    gdn_z: "linear_attn.in_proj_z",
    gdn_b: "linear_attn.in_proj_b",
    gdn_a: "linear_attn.in_proj_a",
    gdn_qkvz: "linear_attn.in_proj_qkvz",
    gdn_ba: "linear_attn.in_proj_ba",
    gdn_conv: "linear_attn.conv1d",
    gdn_a_log: "linear_attn.A_log",
    gdn_dt_bias: "linear_attn.dt_bias",
    gdn_norm: "linear_attn.norm",
    gdn_out: "linear_attn.out_proj",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    down: "mlp.down_proj",
    router: "mlp.gate",
    experts_gate_up: "mlp.experts.gate_up_proj",
    experts_gate: "mlp.experts.gate_proj",
    experts_up: "mlp.experts.up_proj",
    experts_down: "mlp.experts.down_proj",
    shared_gate_proj: "mlp.shared_expert.gate_proj",
    shared_up: "mlp.shared_expert.up_proj",
    shared_down: "mlp.shared_expert.down_proj",
    shared_gate: "mlp.shared_expert_gate",
};

const GGUF: Names = Names {
    layers: "blk",
    input_norm: "attn_norm",
    post_norm: ["ffn_norm", "post_attention_norm"],
    q: "attn_q",
    k: "attn_k",
    v: "attn_v",
    o: "attn_output",
    q_norm: "attn_q_norm",
    k_norm: "attn_k_norm",
    gdn_qkv: "attn_qkv",
    gdn_z: "attn_gate",
    gdn_b: "ssm_beta",
    gdn_a: "ssm_alpha",
    gdn_qkvz: "ssm_in",
    gdn_ba: "ssm_ba",
    gdn_conv: "ssm_conv1d",
    gdn_a_log: "ssm_a",
    gdn_dt_bias: "ssm_dt.bias",
    gdn_norm: "ssm_norm",
    gdn_out: "ssm_out",
    gate: "ffn_gate",
    up: "ffn_up",
    down: "ffn_down",
    router: "ffn_gate_inp",
    experts_gate_up: "ffn_gate_up_exps",
    experts_gate: "ffn_gate_exps",
    experts_up: "ffn_up_exps",
    experts_down: "ffn_down_exps",
    shared_gate_proj: "ffn_gate_shexp",
    shared_up: "ffn_up_shexp",
    shared_down: "ffn_down_shexp",
    shared_gate: "ffn_gate_inp_shexp",
};

/// The names of a layer's tensors.
pub fn names(naming: Naming) -> &'static Names {
    match naming {
        Naming::HuggingFace => &HUGGING_FACE,
        Naming::Gguf => &GGUF,
    }
}

/// Names of the tensors outside the layers.
pub struct Outer {
    /// Before `layers`: empty, or with its dot at the end.
    pub prefix: String,
    /// Base name.
    pub embedding: String,
    /// Whole name.
    pub final_norm: String,
    /// Base name, tied or not.
    pub lm_head: String,
}

/// Whether a tensor of this base name is there, in any of the forms a matrix has.
pub fn there(has: &dyn Fn(&str) -> bool, base: &str) -> bool {
    [".weight", ".weight_packed", ""]
        .iter()
        .any(|end| has(&format!("{base}{end}")))
}

/// Finds the tensors outside the layers: the text model may be a part of a multimodal one.
pub fn outer(naming: Naming, has: &dyn Fn(&str) -> bool) -> Outer {
    if naming == Naming::Gguf {
        return Outer {
            prefix: String::new(),
            embedding: "token_embd".into(),
            final_norm: "output_norm.weight".into(),
            lm_head: "output".into(),
        };
    }
    let of_file = |prefix: &&&str| there(has, &format!("{prefix}embed_tokens"));
    let known = [
        "model.",
        "model.language_model.",
        "language_model.model.",
        "language_model.",
    ];
    let prefix = known.iter().find(of_file).unwrap_or(&"model.");
    let heads = ["lm_head", "language_model.lm_head", "model.lm_head"];
    let head = heads.iter().find(|head| there(has, head)).unwrap_or(&"lm_head");
    Outer {
        prefix: prefix.to_string(),
        embedding: format!("{prefix}embed_tokens"),
        final_norm: format!("{prefix}norm.weight"),
        lm_head: head.to_string(),
    }
}
