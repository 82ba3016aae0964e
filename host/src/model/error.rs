//! What can go wrong with a model.

use std::path::PathBuf;

use crate::device::DeviceError;
use crate::dispatch::NoConfig;
use crate::gguf::GgufError;
use crate::op::OpError;
use crate::results::TunedError;
use crate::shapes::ShapeError;

/// An error of a model, naming the file, tensor, field or request, its value and what would do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A name that is no model.
    #[error("`{text}` is no model: {why}")]
    Name {
        /// What was given.
        text: String,
        /// What would do.
        why: String,
    },
    /// A file or folder that cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is not what its name says.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, with place and numbers.
        message: String,
    },
    /// A field of a config, or parts that do not fit each other.
    #[error("{origin}: {field}: {message}")]
    Config {
        /// The file or model.
        origin: String,
        /// The field, as the file calls it.
        field: String,
        /// Its value and what would do.
        message: String,
    },
    /// An architecture that no family implements.
    #[error("{origin}: architecture `{name}` is not known; known are: {known}")]
    Architecture {
        /// The file or model.
        origin: String,
        /// What it says it is.
        name: String,
        /// The families' names.
        known: String,
    },
    /// A tensor that is not there.
    #[error("{origin}: tensor `{tensor}` is missing{hint}")]
    Missing {
        /// The file or folder.
        origin: String,
        /// The tensor.
        tensor: String,
        /// Empty, or what is there in its place.
        hint: String,
    },
    /// A tensor of another shape, type or content.
    #[error("{origin}: tensor `{tensor}`: {message}")]
    Tensor {
        /// The file or folder.
        origin: String,
        /// The tensor.
        tensor: String,
        /// What it is and what is wanted.
        message: String,
    },
    /// A model that does not fit the device.
    #[error("{model} needs {needed} bytes, and {free} of the device's {total} are free: {parts}. {advice}")]
    DoesNotFit {
        /// The model.
        model: String,
        /// Bytes of all parts.
        needed: u64,
        /// Free bytes of the device.
        free: u64,
        /// The device's bytes.
        total: u64,
        /// The parts with their bytes.
        parts: String,
        /// What would make it fit.
        advice: &'static str,
    },
    /// A token id outside the vocabulary.
    #[error("token {index} has the id {id}, and the vocabulary has {vocab} entries")]
    Token {
        /// Which token of the request.
        index: usize,
        /// Its id.
        id: u32,
        /// Entries of the vocabulary.
        vocab: u32,
    },
    /// More tokens than a sequence or the cache has room for.
    #[error("{what}: {wanted} positions, and there is room for {room}; {advice}")]
    Context {
        /// The sequence or the cache.
        what: String,
        /// Positions asked for.
        wanted: u64,
        /// Positions there are.
        room: u64,
        /// What would do.
        advice: &'static str,
    },
    /// A request that cannot be.
    #[error("{0}")]
    Request(String),
    /// A tokenizer that is missing, broken or fails on a text.
    #[error("tokenizer {origin}: {message}")]
    Tokenizer {
        /// The file.
        origin: String,
        /// What is wrong.
        message: String,
    },
    /// No config of an operation can run.
    #[error(transparent)]
    NoConfig(#[from] NoConfig),
    /// A GGUF file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A shape file.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A tuned table.
    #[error(transparent)]
    Tuned(#[from] TunedError),
    /// An operation.
    #[error(transparent)]
    Op(#[from] OpError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
}
