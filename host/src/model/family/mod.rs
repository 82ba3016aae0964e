//! Families of models, a file each: how a config is read, and where the weights are. What is common to all (the blocks of a layer, the
//! plan) is not here.

mod build;
mod fields;
mod hf;
mod llama;
mod meta;
mod names;
mod open;
mod parts;
mod qwen3;
mod qwen3_5;
mod qwen3_5_moe;
mod qwen3_moe;
mod qwen3_next;

use serde_json::Value;

use super::ModelError;
use super::config::ModelConfig;
use super::layout::ModelLayout;
use crate::gguf::Gguf;

pub use open::{for_gguf, for_model_type, from_folder, from_gguf, from_json, resolve};

/// Whose names a file's tensors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// A Hugging Face checkpoint's.
    HuggingFace,
    /// llama.cpp's.
    Gguf,
}

/// One family of models.
#[allow(clippy::wrong_self_convention)] // they read a config from a file, for the family that is self
pub trait Family: Sync {
    /// Its name: `qwen3_next`.
    fn name(&self) -> &'static str;

    /// The values of `model_type` in a `config.json` that mean it.
    fn model_types(&self) -> &'static [&'static str];

    /// The values of `general.architecture` in a GGUF file that mean it; empty where GGUF files of it are not read.
    fn gguf_architectures(&self) -> &'static [&'static str] {
        &[]
    }

    /// Reads a `config.json`. `name` is what the model is to be called.
    ///
    /// # Errors
    /// [`ModelError::Config`] for a field that is missing or of a wrong type or value.
    fn read_json(&self, name: &str, json: &Value) -> Result<ModelConfig, ModelError>;

    /// Reads a GGUF file's metadata.
    ///
    /// # Errors
    /// As [`Family::read_json`]; [`ModelError::Architecture`] for a family without GGUF files.
    fn read_gguf(&self, name: &str, gguf: &Gguf) -> Result<ModelConfig, ModelError> {
        let _ = gguf;
        Err(ModelError::Architecture {
            origin: name.into(),
            name: self.name().into(),
            known: gguf_names(),
        })
    }

    /// Where the weights of a model are. `has` says whether a file has a tensor of a whole name: checkpoints of one family differ in
    /// prefixes and in how experts are stored.
    fn layout(&self, config: &ModelConfig, naming: Naming, has: &dyn Fn(&str) -> bool) -> ModelLayout {
        build::layout(config, naming, has)
    }
}

/// Every family.
pub fn all() -> &'static [&'static dyn Family] {
    &[
        &llama::Llama,
        &qwen3::Qwen3,
        &qwen3_moe::Qwen3Moe,
        &qwen3_next::Qwen3Next,
        &qwen3_5::Qwen3_5,
        &qwen3_5_moe::Qwen3_5Moe,
    ]
}

/// A family by its name.
pub fn by_name(name: &str) -> Option<&'static dyn Family> {
    all().iter().copied().find(|family| family.name() == name)
}

/// The model types of `config.json` files that are read.
fn json_names() -> String {
    let names = all().iter().flat_map(|family| family.model_types());
    names.copied().collect::<Vec<_>>().join(", ")
}

/// The architectures of GGUF files that are read.
fn gguf_names() -> String {
    let names = all().iter().flat_map(|family| family.gguf_architectures());
    names.copied().collect::<Vec<_>>().join(", ")
}
