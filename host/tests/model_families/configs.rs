//! Published configs, and what they mean.

use crate::{changed, read};
use host::model::config::{Attention, Gdn, Layer, Mixer, Mlp, ModelConfig, Moe};
use host::rope::Scaling;
use serde_json::json;

fn attention(q_heads: u32, kv_heads: u32, head_dim: u32, theta: f64) -> Attention {
    Attention {
        q_heads,
        kv_heads,
        head_dim,
        rot: head_dim,
        interleaved: false,
        theta,
        scaling: Scaling::None,
        freq_factors: None,
        qk_norm: true,
        gate: false,
    }
}

fn all(mixer: Mixer, mlp: Mlp, n: usize) -> Vec<Layer> {
    vec![Layer { mixer, mlp }; n]
}

/// Three of four layers with a gated delta net.
fn hybrid(mlp: Mlp, n: usize) -> Vec<Layer> {
    let mixer = |i| if i % 4 == 3 { Mixer::Attention } else { Mixer::Gdn };
    (0..n).map(|i| Layer { mixer: mixer(i), mlp }).collect()
}

const GDN: Gdn = Gdn {
    k_heads: 16,
    v_heads: 32,
    head_dim: 128,
    conv_width: 4,
    modulo: false,
};

fn qwen3_8b() -> ModelConfig {
    ModelConfig {
        name: "qwen3-8b".into(),
        family: "qwen3",
        hidden: 4096,
        vocab: 151936,
        max_positions: 40960,
        norm_eps: 1e-6,
        zero_centered: false,
        tied_embeddings: false,
        layers: all(Mixer::Attention, Mlp::Dense, 36),
        attention: attention(32, 8, 128, 1e6),
        gdn: None,
        ffn: Some(12288),
        moe: None,
        mtp: false,
        eos: vec![151645],
    }
}

#[test]
fn dense() {
    assert_eq!(read("qwen3-8b"), qwen3_8b());
    let four = ModelConfig {
        name: "qwen3-4b".into(),
        hidden: 2560,
        ffn: Some(9728),
        tied_embeddings: true,
        ..qwen3_8b()
    };
    assert_eq!(read("qwen3-4b"), four);
    let llama = ModelConfig {
        name: "llama-3.2-3b".into(),
        family: "llama",
        hidden: 3072,
        vocab: 128256,
        max_positions: 131072,
        norm_eps: 1e-5,
        tied_embeddings: true,
        layers: all(Mixer::Attention, Mlp::Dense, 28),
        attention: Attention {
            scaling: Scaling::Llama3 {
                factor: 32.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_positions: 8192,
            },
            qk_norm: false,
            ..attention(24, 8, 128, 5e5)
        },
        ffn: Some(8192),
        eos: vec![128001, 128008, 128009],
        ..qwen3_8b()
    };
    assert_eq!(read("llama-3.2-3b"), llama);
}

#[test]
fn experts() {
    let coder = ModelConfig {
        name: "qwen3-coder-30b-a3b".into(),
        family: "qwen3_moe",
        hidden: 2048,
        max_positions: 262144,
        layers: all(Mixer::Attention, Mlp::Moe, 48),
        attention: attention(32, 4, 128, 1e7),
        ffn: None,
        moe: Some(Moe {
            experts: 128,
            top_k: 8,
            ffn: 768,
            normalise: true,
            shared_ffn: None,
        }),
        ..qwen3_8b()
    };
    assert_eq!(read("qwen3-coder-30b-a3b"), coder);
}

#[test]
fn hybrids() {
    let gated = |kv_heads| Attention {
        rot: 64,
        gate: true,
        ..attention(16, kv_heads, 256, 1e7)
    };
    let next = ModelConfig {
        name: "qwen3-next-80b-a3b".into(),
        family: "qwen3_next",
        hidden: 2048,
        max_positions: 262144,
        zero_centered: true,
        layers: hybrid(Mlp::Moe, 48),
        attention: gated(2),
        gdn: Some(GDN),
        ffn: None,
        moe: Some(Moe {
            experts: 512,
            top_k: 10,
            ffn: 512,
            normalise: true,
            shared_ffn: Some(512),
        }),
        mtp: true,
        ..qwen3_8b()
    };
    assert_eq!(read("qwen3-next-80b-a3b"), next);
    let newer = ModelConfig {
        name: "qwen3.6-35b-a3b".into(),
        family: "qwen3_5_moe",
        vocab: 248320,
        layers: hybrid(Mlp::Moe, 40),
        moe: next.moe.map(|moe| Moe {
            experts: 256,
            top_k: 8,
            ..moe
        }),
        eos: vec![248044],
        ..next.clone()
    };
    assert_eq!(read("qwen3.6-35b-a3b"), newer);
    let dense = ModelConfig {
        name: "qwen3.5-4b".into(),
        family: "qwen3_5",
        hidden: 2560,
        tied_embeddings: true,
        layers: hybrid(Mlp::Dense, 32),
        attention: gated(4),
        ffn: Some(9216),
        moe: None,
        ..newer
    };
    assert_eq!(read("qwen3.5-4b"), dense);
}

#[test]
fn either_form_of_the_rotation_means_the_same() {
    let old = read("llama-3.2-3b");
    let scaling = json!({"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "rope_theta": 5e5,
        "original_max_position_embeddings": 8192, "rope_type": "llama3"});
    let set = |value| changed("llama-3.2-3b", "rope_parameters", Some(value));
    // Both at once must agree.
    assert!(set(scaling.clone()).unwrap_err().to_string().contains("rope_scaling"));
    let mut text: serde_json::Value = serde_json::from_str(&crate::published("llama-3.2-3b")).unwrap();
    let object = text.as_object_mut().unwrap();
    object.remove("rope_scaling");
    object.remove("rope_theta");
    for form in [scaling.clone(), json!({"full_attention": scaling})] {
        text["rope_parameters"] = form;
        let new = host::model::family::from_json("llama-3.2-3b", text.to_string().as_bytes()).unwrap();
        assert_eq!(new, old);
    }
    // The base may be with the scaling and beside it, if it is the same.
    let with = |theta: f64| changed("llama-3.2-3b", "rope_scaling.rope_theta", Some(json!(theta)));
    assert_eq!(with(5e5).unwrap(), old);
    let e = with(1e4).unwrap_err().to_string();
    assert!(
        e.contains("rope_theta") && e.contains("500000") && e.contains("10000"),
        "{e}"
    );
}

#[test]
fn layers_by_list_and_by_rule() {
    // The rule gives the list that newer files have.
    let listed = read("qwen3.6-35b-a3b");
    assert_eq!(
        changed("qwen3.6-35b-a3b", "text_config.layer_types", None).unwrap(),
        listed
    );
    let sparse = |step: u32, dense: serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_str(&crate::published("qwen3-coder-30b-a3b")).unwrap();
        json["decoder_sparse_step"] = json!(step);
        json["mlp_only_layers"] = dense;
        let config = host::model::family::from_json("m", json.to_string().as_bytes()).unwrap();
        let dense = config.layers.iter().enumerate().filter(|(_, l)| l.mlp == Mlp::Dense);
        (dense.map(|(i, _)| i).collect::<Vec<_>>(), config.ffn)
    };
    assert_eq!(sparse(1, json!([])), (vec![], None));
    assert_eq!(sparse(1, json!([0, 47])), (vec![0, 47], Some(5472)));
    // transformers counts layers from 1 here.
    let even: Vec<usize> = (0..48).filter(|i| i % 2 == 0).collect();
    assert_eq!(sparse(2, json!(null)), (even, Some(5472)));
}

#[test]
fn folders() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("some-model");
    std::fs::create_dir(&inner).unwrap();
    let e = host::model::family::from_folder(&inner).unwrap_err().to_string();
    assert!(e.contains("config.json"), "{e}");
    std::fs::write(inner.join("config.json"), crate::published("qwen3-8b")).unwrap();
    let config = host::model::family::from_folder(&inner).unwrap();
    assert_eq!(
        (config.name.as_str(), config.eos.as_slice()),
        ("some-model", &[151645][..])
    );
    let generation = inner.join("generation_config.json");
    std::fs::write(&generation, r#"{"eos_token_id": [151645, 151643, 999999]}"#).unwrap();
    let config = host::model::family::from_folder(&inner).unwrap();
    assert_eq!(config.eos, [151645, 151643]);
    std::fs::write(&generation, "{").unwrap();
    let e = host::model::family::from_folder(&inner).unwrap_err().to_string();
    assert!(e.contains("generation_config.json"), "{e}");
    std::fs::write(inner.join("config.json"), vec![b' '; (4 << 20) + 1]).unwrap();
    let e = host::model::family::from_folder(&inner).unwrap_err().to_string();
    assert!(e.contains("longer than 4194304"), "{e}");
}
