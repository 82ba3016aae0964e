//! GGUF files: metadata as llama.cpp's converter writes them, the tensors' names, and files that contradict themselves.

use crate::file::File;
use crate::read;
use crate::rows::{check, layout, ranges};
use crate::tensors::Tensors;
use host::model::config::{Attention, Gdn, Mixer, Mlp, ModelConfig};
use host::model::family::Naming;
use host::model::layout::*;

/// What the converter writes of a model, with its embedding cut to 64 rows.
pub fn metadata(architecture: &str, config: &ModelConfig) -> File {
    let key = |name: &str| format!("{architecture}.{name}");
    let a = &config.attention;
    let mut file = File::default()
        .str("general.architecture", architecture)
        .u32(&key("block_count"), config.layers.len() as u32)
        .u32(&key("context_length"), config.max_positions)
        .u32(&key("embedding_length"), config.hidden)
        .u32(&key("attention.head_count"), a.q_heads)
        .u32(&key("attention.head_count_kv"), a.kv_heads)
        .u32(&key("attention.key_length"), a.head_dim)
        .u32(&key("attention.value_length"), a.head_dim)
        .f32(&key("attention.layer_norm_rms_epsilon"), config.norm_eps)
        .u32(&key("rope.dimension_count"), a.rot)
        .f32(&key("rope.freq_base"), a.theta as f32)
        .u32("tokenizer.ggml.eos_token_id", 7)
        .tensor("token_embd.weight", &[config.hidden.into(), 64]);
    if !config.tied_embeddings {
        file = file.tensor("output.weight", &[config.hidden.into(), 64]);
    }
    if let Some(ffn) = config.ffn {
        file = file.u32(&key("feed_forward_length"), ffn);
    }
    if let Some(moe) = config.moe {
        file = file
            .u32(&key("expert_count"), moe.experts)
            .u32(&key("expert_used_count"), moe.top_k)
            .u32(&key("expert_feed_forward_length"), moe.ffn);
        if let Some(ffn) = moe.shared_ffn {
            file = file.u32(&key("expert_shared_feed_forward_length"), ffn);
        }
    }
    if let Some(gdn) = config.gdn {
        file = file
            .u32(&key("ssm.conv_kernel"), 4)
            .u32(&key("ssm.state_size"), 128)
            .u32(&key("ssm.group_count"), gdn.k_heads)
            .u32(&key("ssm.time_step_rank"), gdn.v_heads)
            .u32(&key("ssm.inner_size"), gdn.v_heads * 128)
            .u32(&key("full_attention_interval"), 4);
    }
    file
}

const ARCHITECTURES: [(&str, &str); 6] = [
    ("llama-3.2-3b", "llama"),
    ("qwen3-4b", "qwen3"),
    ("qwen3-coder-30b-a3b", "qwen3moe"),
    ("qwen3-next-80b-a3b", "qwen3next"),
    ("qwen3.5-4b", "qwen35"),
    ("qwen3.6-35b-a3b", "qwen35moe"),
];

/// The published config as its GGUF file says it.
fn converted(name: &str, architecture: &str) -> ModelConfig {
    let json = read(name);
    ModelConfig {
        name: "model".into(),
        vocab: 64,
        eos: vec![7],
        mtp: false,
        gdn: json.gdn.map(|gdn| Gdn {
            modulo: architecture != "qwen3next",
            ..gdn
        }),
        attention: Attention {
            scaling: host::rope::Scaling::None,
            freq_factors: (name == "llama-3.2-3b").then(|| vec![1.0; 64]),
            ..json.attention.clone()
        },
        ..json
    }
}

fn file(name: &str, architecture: &str) -> File {
    let file = metadata(architecture, &read(name));
    match architecture {
        "llama" => file.tensor("rope_freqs.weight", &[64]),
        _ => file,
    }
}

#[test]
fn metadata_say_what_the_config_said() {
    for (name, architecture) in ARCHITECTURES {
        assert_eq!(file(name, architecture).read().unwrap(), converted(name, architecture));
    }
}

#[test]
fn layers_and_the_last_head() {
    let hybrid = file("qwen3.5-4b", "qwen35");
    let n = 33;
    let with_head = hybrid
        .clone()
        .u32("qwen35.block_count", n)
        .u32("qwen35.nextn_predict_layers", 1);
    let config = with_head.read().unwrap();
    assert_eq!((config.layers.len(), config.mtp), (32, true));
    let mut list = vec![true; 33];
    (list[1], list[32]) = (false, false);
    let listed = with_head
        .bools("qwen35.attention.recurrent_layers", &list)
        .read()
        .unwrap();
    let attention = listed.layers.iter().map(|l| l.mixer == Mixer::Attention);
    assert_eq!(
        attention.collect::<Vec<_>>(),
        list[..32].iter().map(|r| !r).collect::<Vec<_>>()
    );
    let short = hybrid.bools("qwen35.attention.recurrent_layers", &list[..31]);
    assert!(short.read().unwrap_err().to_string().contains("recurrent_layers: 31"));
}

#[test]
fn contradictions_are_refused() {
    let refused = |file: File, parts: &[&str]| {
        let text = file
            .read()
            .map(|config| panic!("read as {config:?}"))
            .unwrap_err()
            .to_string();
        for part in parts {
            assert!(text.contains(part), "`{text}` lacks `{part}`");
        }
    };
    let dense = || file("qwen3-4b", "qwen3");
    refused(
        dense().tensor("token_embd.weight", &[256, 64]),
        &["token_embd.weight", "256", "2560"],
    );
    refused(dense().u32("qwen3.vocab_size", 65), &["qwen3.vocab_size", "65", "64"]);
    refused(
        dense().u32("qwen3.attention.value_length", 64),
        &["value_length", "64", "128"],
    );
    refused(
        dense().u32("qwen3.attention.sliding_window", 512),
        &["sliding_window", "512"],
    );
    refused(dense().f32("qwen3.attention.scale", 1.0), &["attention.scale", "1"]);
    refused(dense().u32("qwen3.block_count", 0), &["block_count", "0"]);
    refused(
        dense().u32("qwen3.block_count", u32::MAX),
        &["block_count", "4294967295"],
    );
    refused(dense().u32("tokenizer.ggml.eos_token_id", 64), &["eos_token_id", "64"]);
    refused(
        dense().str("qwen3.rope.scaling.type", "longrope"),
        &["rope.scaling.type", "longrope"],
    );
    refused(dense().tensor("blk.0.attn_q.bias", &[4096]), &["blk.0.attn_q.bias"]);
    refused(dense().without("qwen3.context_length"), &["qwen3.context_length"]);
    refused(
        dense().str("qwen3.context_length", "many"),
        &["qwen3.context_length", "many"],
    );
    refused(dense().str("general.architecture", "gemma4"), &["gemma4", "qwen3next"]);
    refused(dense().without("general.architecture"), &["general.architecture"]);
    refused(
        dense()
            .without("qwen3.attention.key_length")
            .u32("qwen3.attention.head_count", 7),
        &["head_count", "7", "2560"],
    );
    let llama = || file("llama-3.2-3b", "llama");
    refused(
        llama().tensor("rope_freqs.weight", &[32]),
        &["rope_freqs.weight", "32", "64"],
    );
    refused(llama().u32("llama.expert_count", 8), &["expert_count", "8"]);
    let next = || file("qwen3-next-80b-a3b", "qwen3next");
    refused(
        next().u32("qwen3next.ssm.inner_size", 4095),
        &["ssm.inner_size", "4095", "32 * 128"],
    );
    refused(
        next().u32("qwen3next.expert_gating_func", 2),
        &["expert_gating_func", "2"],
    );
    refused(
        next().u32("qwen3next.full_attention_interval", 0),
        &["full_attention_interval", "0"],
    );
}

#[test]
fn scaling() {
    let yarn = file("qwen3-4b", "qwen3")
        .str("qwen3.rope.scaling.type", "yarn")
        .f32("qwen3.rope.scaling.factor", 4.0)
        .u32("qwen3.rope.scaling.original_context_length", 32768);
    let scaling = yarn.read().unwrap().attention.scaling;
    assert_eq!(scaling, host::rope::Scaling::yarn(4.0, 32768));
    let e = yarn.f32("qwen3.rope.scaling.yarn_ext_factor", 0.5).read().unwrap_err();
    assert!(e.to_string().contains("yarn_ext_factor: 0.5"), "{e}");
}

/// Every tensor of a file by llama.cpp's tables: names and rows.
fn tensors(c: &ModelConfig) -> Tensors {
    let mut t = Tensors::new();
    let mut add = |name: String, rows: u32| {
        t.insert(name, rows.into());
    };
    add("token_embd.weight".into(), c.vocab);
    add("output_norm.weight".into(), c.hidden);
    if !c.tied_embeddings {
        add("output.weight".into(), c.vocab);
    }
    let blocks = c.layers.iter().map(|l| (l.mixer, l.mlp));
    let head = (Mixer::Attention, c.layers[0].mlp);
    for (i, (mixer, mlp)) in blocks.chain(c.mtp.then_some(head)).enumerate() {
        let mut add = |name: &str, rows: u32| add(format!("blk.{i}.{name}"), rows);
        add("attn_norm.weight", c.hidden);
        add(
            if c.gdn.is_some() {
                "post_attention_norm.weight"
            } else {
                "ffn_norm.weight"
            },
            c.hidden,
        );
        if mixer == Mixer::Attention {
            let a = &c.attention;
            add("attn_q.weight", a.q_heads * a.head_dim * if a.gate { 2 } else { 1 });
            add("attn_k.weight", a.kv_heads * a.head_dim);
            add("attn_v.weight", a.kv_heads * a.head_dim);
            add("attn_output.weight", c.hidden);
            if a.qk_norm {
                add("attn_q_norm.weight", a.head_dim);
                add("attn_k_norm.weight", a.head_dim);
            }
        } else {
            let g = c.gdn.unwrap();
            add("attn_qkv.weight", g.channels());
            add("attn_gate.weight", g.v_heads * 128);
            if c.family == "qwen3_next" {
                add("ssm_ba.weight", 2 * g.v_heads);
            } else {
                add("ssm_beta.weight", g.v_heads);
                add("ssm_alpha.weight", g.v_heads);
            }
            add("ssm_conv1d.weight", g.channels() * 4);
            add("ssm_a", g.v_heads);
            add("ssm_dt.bias", g.v_heads);
            add("ssm_norm.weight", 128);
            add("ssm_out.weight", c.hidden);
        }
        if mlp == Mlp::Dense {
            add("ffn_gate.weight", c.ffn.unwrap());
            add("ffn_up.weight", c.ffn.unwrap());
            add("ffn_down.weight", c.hidden);
        } else {
            let moe = c.moe.unwrap();
            add("ffn_gate_inp.weight", moe.experts);
            add("ffn_gate_exps.weight", moe.experts * moe.ffn);
            add("ffn_up_exps.weight", moe.experts * moe.ffn);
            add("ffn_down_exps.weight", moe.experts * c.hidden);
            if let Some(ffn) = moe.shared_ffn {
                add("ffn_gate_inp_shexp.weight", 1);
                add("ffn_gate_shexp.weight", ffn);
                add("ffn_up_shexp.weight", ffn);
                add("ffn_down_shexp.weight", c.hidden);
            }
        }
        if i == c.layers.len() {
            add("nextn.eh_proj.weight", c.hidden);
            for norm in ["enorm", "hnorm", "shared_head_norm"] {
                add(&format!("nextn.{norm}.weight"), c.hidden);
            }
        }
    }
    t
}

#[test]
fn every_row_is_used_once() {
    for (name, architecture) in ARCHITECTURES {
        for mtp in [false, architecture.starts_with("qwen35")] {
            let config = ModelConfig {
                mtp,
                ..converted(name, architecture)
            };
            let config = config.truncated(5).unwrap();
            let mut all = tensors(&config);
            let layout = layout(&config, Naming::Gguf, &all);
            check(&layout, &all).unwrap_or_else(|e| panic!("{architecture}: {e}"));
            assert_eq!(layout.mtp.is_some(), mtp);
            all.insert("blk.0.unknown.weight".into(), 1);
            assert!(check(&layout, &all).is_err());
        }
    }
}

#[test]
fn stacks_of_gate_with_up() {
    let config = converted("qwen3.6-35b-a3b", "qwen35moe").truncated(1).unwrap();
    let mut all = tensors(&config);
    all.remove("blk.0.ffn_gate_exps.weight");
    all.remove("blk.0.ffn_up_exps.weight");
    all.insert("blk.0.ffn_gate_up_exps.weight".into(), 256 * 1024);
    check(&layout(&config, Naming::Gguf, &all), &all).unwrap();
}

#[test]
fn what_the_converter_changed_is_changed_back() {
    // Norms centred on 0 are stored with their 1, A_log as -exp(A_log); the gated norm is as it was.
    let config = converted("qwen3.5-4b", "qwen35").truncated(4).unwrap();
    let hybrid = layout(&config, Naming::Gguf, &tensors(&config));
    let MixerLayout::Gdn(gdn) = &hybrid.layers[0].mixer else {
        panic!("the first layer is a gated delta net");
    };
    let MixerLayout::Attention(attention) = &hybrid.layers[3].mixer else {
        panic!("the fourth layer has attention");
    };
    let stored = |v: &VectorLayout| v.store;
    assert_eq!(stored(&gdn.a_log), VectorAs::F32LogOfNegative);
    assert_eq!(stored(&gdn.norm), VectorAs::Bf16);
    for norm in [
        &hybrid.final_norm,
        &hybrid.layers[0].post_norm,
        attention.q_norm.as_ref().unwrap(),
    ] {
        assert_eq!(stored(norm), VectorAs::Bf16LessOne);
    }
    let plain = converted("qwen3-4b", "qwen3").truncated(1).unwrap();
    assert_eq!(
        stored(&layout(&plain, Naming::Gguf, &tensors(&plain)).final_norm),
        VectorAs::Bf16
    );

    // Of each head [2][d / 2] rows the converter makes [d / 2][2].
    let config = converted("llama-3.2-3b", "llama").truncated(1).unwrap();
    let llama = layout(&config, Naming::Gguf, &tensors(&config));
    let MixerLayout::Attention(attention) = &llama.layers[0].mixer else {
        panic!("all layers have attention");
    };
    for (part, heads) in attention.qkv.parts.iter().zip([24, 8]) {
        let (d, mut file) = (128, Vec::new());
        for head in 0..heads {
            for i in 0..d / 2 {
                file.extend([head * d + i, head * d + d / 2 + i]);
            }
        }
        let rows = ranges(&part.pieces[0].rows, heads * d);
        let back: Vec<u64> = rows.iter().map(|(row, _)| file[*row as usize]).collect();
        assert!(back.iter().copied().eq(0..heads * d), "{}", part.name);
    }
    assert_eq!(attention.qkv.parts[2].pieces[0].rows, Rows::All);
}
