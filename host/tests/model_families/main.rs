//! Families of models: what configs and metadata say, and that a layout takes each row of each tensor of a checkpoint exactly once.

mod checkpoints;
mod configs;
mod file;
mod gguf;
mod refused;
mod rows;
mod tensors;

use host::model::ModelError;
use host::model::config::ModelConfig;
use host::model::family;

/// The text of a published `config.json`, cut to what describes the text model.
fn published(name: &str) -> String {
    let path = format!("{}/tests/data/configs/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

fn read(name: &str) -> ModelConfig {
    family::from_json(name, published(name).as_bytes()).unwrap()
}

/// A published config with one field set to another value, or removed. A path `a.b` is a field of an object.
fn changed(name: &str, path: &str, value: Option<serde_json::Value>) -> Result<ModelConfig, ModelError> {
    let mut json: serde_json::Value = serde_json::from_str(&published(name)).unwrap();
    let (mut object, mut rest) = (&mut json, path);
    while let Some((outer, inner)) = rest.split_once('.') {
        (object, rest) = (&mut object[outer], inner);
    }
    match value {
        Some(value) => object[rest] = value,
        None => drop(object.as_object_mut().unwrap().remove(rest)),
    }
    family::from_json(name, json.to_string().as_bytes())
}

const PUBLISHED: [&str; 7] = [
    "llama-3.2-3b",
    "qwen3-4b",
    "qwen3-8b",
    "qwen3-coder-30b-a3b",
    "qwen3-next-80b-a3b",
    "qwen3.5-4b",
    "qwen3.6-35b-a3b",
];
