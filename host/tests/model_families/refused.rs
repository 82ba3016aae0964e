//! Configs that are wrong, contradict themselves or ask for what is not there: each error names the field and the value.

use crate::{PUBLISHED, changed, published};
use host::model::ModelError;
use serde_json::{Value, json};

/// The error's text, which must have all of `parts`.
fn refused(name: &str, path: &str, value: Value, parts: &[&str]) {
    match changed(name, path, Some(value.clone())) {
        Ok(config) => panic!("{name}: {path} = {value} was read as {config:?}"),
        Err(e) => {
            let text = e.to_string();
            for part in parts {
                assert!(text.contains(part), "{name}: {path} = {value}: `{text}` lacks `{part}`");
            }
        }
    }
}

#[test]
fn values_that_do_not_fit_each_other() {
    refused(
        "qwen3-8b",
        "num_key_value_heads",
        json!(5),
        &["num_attention_heads", "32", "5"],
    );
    refused("qwen3-8b", "head_dim", json!(100), &["head_dim", "100"]);
    refused("qwen3-8b", "hidden_size", json!(0), &["hidden_size", "0"]);
    refused("qwen3-8b", "rms_norm_eps", json!(0.0), &["rms_norm_eps", "0"]);
    refused("qwen3-8b", "eos_token_id", json!(151936), &["eos_token_id", "151936"]);
    refused(
        "qwen3-8b",
        "num_hidden_layers",
        json!(4294967295u32),
        &["num_hidden_layers", "4294967295", "4096"],
    );
    refused(
        "qwen3-8b",
        "layer_types",
        json!(["full_attention"]),
        &["layer_types", "1 types", "36"],
    );
    refused(
        "qwen3.5-4b",
        "text_config.layer_types",
        json!(["full_attention"]),
        &["text_config.layer_types", "32"],
    );
    refused(
        "qwen3-next-80b-a3b",
        "full_attention_interval",
        json!(0),
        &["full_attention_interval", "0"],
    );
    refused(
        "qwen3-next-80b-a3b",
        "decoder_sparse_step",
        json!(0),
        &["decoder_sparse_step", "0"],
    );
    refused(
        "qwen3-next-80b-a3b",
        "mlp_only_layers",
        json!([48]),
        &["mlp_only_layers", "48"],
    );
    refused(
        "qwen3-next-80b-a3b",
        "num_experts_per_tok",
        json!(513),
        &["num_experts_per_tok", "513"],
    );
    refused(
        "qwen3-next-80b-a3b",
        "num_local_experts",
        json!(511),
        &["num_experts", "512", "511"],
    );
    refused(
        "qwen3-next-80b-a3b",
        "linear_value_head_dim",
        json!(64),
        &["linear_value_head_dim", "64", "128"],
    );
    refused(
        "qwen3-next-80b-a3b",
        "linear_num_value_heads",
        json!(40),
        &["linear_num_value_heads", "40", "16"],
    );
    refused(
        "qwen3-next-80b-a3b",
        "partial_rotary_factor",
        json!(1.5),
        &["partial_rotary_factor", "1.5"],
    );
    refused(
        "qwen3.6-35b-a3b",
        "text_config.model_type",
        json!("qwen3_5_text"),
        &["text_config.model_type", "qwen3_5_text"],
    );
    refused(
        "qwen3.6-35b-a3b",
        "text_config.norm_topk_prob",
        json!(false),
        &["norm_topk_prob", "false"],
    );
    refused("llama-3.2-3b", "rope_theta", json!(-1.0), &["rope_parameters", "-1"]);
}

#[test]
fn what_is_not_implemented() {
    for name in PUBLISHED {
        let text = if published(name).contains("text_config") {
            "text_config."
        } else {
            ""
        };
        let path = |field: &str| format!("{text}{field}");
        refused(name, &path("attention_bias"), json!(true), &["attention_bias"]);
        refused(name, &path("hidden_act"), json!("gelu"), &["hidden_act", "gelu"]);
        for method in ["fp8", "awq", "gptq", "bitsandbytes"] {
            refused(
                name,
                "quantization_config",
                json!({"quant_method": method}),
                &["quantization_config.quant_method", method],
            );
        }
    }
    let modelopt = |algo: &str| json!({"quant_method": "modelopt", "quant_algo": algo});
    refused(
        "qwen3-8b",
        "quantization_config",
        modelopt("FP8"),
        &["quant_algo", "FP8"],
    );
    assert!(changed("qwen3-8b", "quantization_config", Some(modelopt("NVFP4"))).is_ok());
    let packed = |format: &str| json!({"quant_method": "compressed-tensors", "format": format});
    refused(
        "qwen3-8b",
        "quantization_config",
        packed("float-quantized"),
        &["format", "float-quantized"],
    );
    assert!(changed("qwen3-8b", "quantization_config", Some(packed("nvfp4-pack-quantized"))).is_ok());
    refused("llama-3.2-3b", "mlp_bias", json!(true), &["mlp_bias"]);
    refused(
        "llama-3.2-3b",
        "rope_scaling.rope_type",
        json!("longrope"),
        &["rope_scaling.rope_type", "longrope"],
    );
    refused(
        "qwen3-8b",
        "rope_scaling",
        json!({"rope_type": "yarn"}),
        &["rope_scaling.factor", "missing"],
    );
    refused(
        "qwen3-next-80b-a3b",
        "rope_scaling",
        json!({"rope_type": "yarn", "factor": 4.0}),
        &["yarn"],
    );
    refused(
        "qwen3-8b",
        "layer_types",
        json!(vec!["sliding_attention"; 36]),
        &["layer_types", "sliding_attention"],
    );
    // A window counts when it is used.
    let mut json: Value = serde_json::from_str(&published("qwen3-8b")).unwrap();
    json["sliding_window"] = json!(4096);
    let read = |json: &Value| host::model::family::from_json("m", json.to_string().as_bytes());
    assert!(read(&json).is_ok());
    json["use_sliding_window"] = json!(true);
    assert!(read(&json).is_ok(), "max_window_layers is as large as the model");
    json["max_window_layers"] = json!(28);
    assert!(read(&json).unwrap_err().to_string().contains("sliding_window: 4096"));
}

#[test]
fn fields_that_are_missing_or_of_another_type() {
    let removed = |name, path: &str| changed(name, path, None).map(drop).unwrap_err().to_string();
    for field in [
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
        "intermediate_size",
        "max_position_embeddings",
    ] {
        let text = removed("qwen3-8b", field);
        assert!(text.contains(&format!("{field}: is missing")), "{text}");
        for value in [
            json!("4"),
            json!(-4),
            json!(4.5),
            json!([4]),
            json!({}),
            json!(true),
            json!(4294967296u64),
        ] {
            refused("qwen3-8b", field, value.clone(), &[field, &value.to_string()]);
        }
    }
    for field in [
        "num_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        "shared_expert_intermediate_size",
    ] {
        assert!(removed("qwen3-next-80b-a3b", field).contains(field));
    }
    assert!(removed("qwen3-8b", "model_type").contains("model_type: is missing"));
    refused(
        "qwen3-8b",
        "tie_word_embeddings",
        json!("yes"),
        &["tie_word_embeddings", "yes"],
    );
    let long = "x".repeat(100_000);
    let text = changed("qwen3-8b", "vocab_size", Some(json!(long)))
        .unwrap_err()
        .to_string();
    assert!(text.len() < 300, "{} bytes", text.len());
}

#[test]
fn architectures() {
    let e = changed("qwen3-8b", "model_type", Some(json!("gemma4"))).unwrap_err();
    assert!(matches!(e, ModelError::Architecture { .. }));
    let text = e.to_string();
    for known in ["gemma4", "llama", "qwen3_next", "qwen3_5_moe_text"] {
        assert!(text.contains(known), "{text}");
    }
    for broken in ["", "{", "[]", "null", "3", "{\"model_type\": 3}"] {
        let e = host::model::family::from_json("m", broken.as_bytes()).unwrap_err();
        assert!(matches!(e, ModelError::Config { .. }), "{broken}: {e}");
    }
}
