//! A model by what a user calls it: a checkpoint's folder, a GGUF file, or `synthetic:NAME`.

use std::path::Path;

use super::ModelError;
use super::config::ModelConfig;
use super::engine::Opened;
use super::family::{self, Naming};
use super::files::{Safetensors, Source};
use super::layout::ModelLayout;
use super::synthetic::{PREFIX, Synthetic};
use super::tokenizer::Tokenizer;
use super::weights::Origin;
use super::weights::files::FileOrigin;
use crate::gguf::Gguf;

/// A model in files, whose headers have been read.
struct FromFiles<S> {
    config: ModelConfig,
    layout: ModelLayout,
    source: S,
    /// Reads the tokenizer, which nobody may want.
    tokenizer: fn(&S) -> Result<Option<Tokenizer>, ModelError>,
}

impl<S: Source> FromFiles<S> {
    fn new(
        mut config: ModelConfig,
        naming: Naming,
        source: S,
        tokenizer: fn(&S) -> Result<Option<Tokenizer>, ModelError>,
    ) -> Result<Self, ModelError> {
        let layout = family::resolve(&mut config, naming, &|name| source.find(name).is_some())?;
        config.check()?;
        Ok(Self {
            config,
            layout,
            source,
            tokenizer,
        })
    }
}

impl<S: Source> Opened for FromFiles<S> {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn layout(&self) -> &ModelLayout {
        &self.layout
    }

    fn origin(&self) -> Result<Box<dyn Origin + '_>, ModelError> {
        Ok(Box::new(FileOrigin::new(&self.source)))
    }

    fn tokenizer(&self) -> Result<Option<Tokenizer>, ModelError> {
        (self.tokenizer)(&self.source)
    }
}

/// Opens a model: a folder with `config.json` and safetensors (sharded or not), a `.gguf` file, or
/// `synthetic:NAME[:layers=N][:weights=bf16|nvfp4|q8_0][:seed=S]`. Reads headers alone.
///
/// # Errors
/// [`ModelError::Name`] for what is neither; those of the files: truncated or contradictory headers, an unknown architecture, a config that the
/// operations do not take.
pub fn open(text: &str) -> Result<Box<dyn Opened>, ModelError> {
    if text.starts_with(PREFIX) {
        return Ok(Box::new(Synthetic::open(text)?));
    }
    let path = Path::new(text);
    if path.is_dir() {
        let config = family::from_folder(path)?;
        let source = Safetensors::open(path)?;
        let tokenizer = |source: &Safetensors| {
            let there = source.origin().join("tokenizer.json").exists();
            there.then(|| Tokenizer::from_folder(source.origin())).transpose()
        };
        return Ok(Box::new(FromFiles::new(
            config,
            Naming::HuggingFace,
            source,
            tokenizer,
        )?));
    }
    if path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
    {
        let source = Gguf::open(path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let config = family::from_gguf(&name, &source)?;
        let tokenizer = |source: &Gguf| {
            let there = source.keys().any(|(key, _)| key == "tokenizer.ggml.model");
            there.then(|| Tokenizer::from_gguf(source)).transpose()
        };
        return Ok(Box::new(FromFiles::new(config, Naming::Gguf, source, tokenizer)?));
    }
    let why = if path.exists() {
        "it is a file, and its name does not end in .gguf"
    } else {
        "there is no such folder or file"
    };
    Err(ModelError::Name {
        text: text.into(),
        why: format!(
            "{why}; a model is a folder with config.json and safetensors, a .gguf file, or {PREFIX}NAME[:layers=N][:weights=F][:seed=S]"
        ),
    })
}
