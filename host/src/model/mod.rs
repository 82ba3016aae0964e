//! Models: from files or a seed to logits.
//!
//! ```text
//! config.json + safetensors, GGUF, synthetic:NAME
//!        |  family: what the model is (ModelConfig), where its weights are (ModelLayout)
//!        v
//! weights on the device ---> plan: the launches of a step with their configs ---> eager, or a CUDA graph ---> logits, tokens
//!        ^                        ^ caches, states, inputs: taken once, at load
//! ```
//! A new family is one file in [`family`]. The blocks of layers are common to all families; which kernels run is the dispatcher's choice
//! for each launch of a plan, so that a faster kernel changes no line here.

pub mod caches;
pub mod config;
pub mod engine;
mod error;
pub mod family;
pub mod files;
pub mod inputs;
pub mod layout;
pub mod limits;
pub mod memory;
mod open;
pub mod plan;
pub mod synthetic;
pub mod tokenizer;
pub mod weights;

pub use error::ModelError;
pub use open::open;
