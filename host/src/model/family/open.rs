//! From a folder's or a file's own words to a model's config and layout.

use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::fields::Fields;
use super::names::{names, outer, there};
use super::{Family, Naming, all, by_name, gguf_names, json_names};
use crate::gguf::Gguf;
use crate::model::ModelError;
use crate::model::config::ModelConfig;
use crate::model::layout::ModelLayout;

/// Bytes of a `config.json` at most. The longest known, with a list of each tensor that is not quantised, have a few hundred thousand.
const MAX_JSON: u64 = 4 << 20;

/// The family of a `config.json`.
///
/// # Errors
/// [`ModelError::Architecture`] with the known types; [`ModelError::Config`] where `model_type` is missing.
pub fn for_model_type(name: &str, json: &Value) -> Result<&'static dyn Family, ModelError> {
    let fields = Fields::new(name, json)?;
    let model_type = fields.str("model_type")?;
    let model_type = fields.need("model_type", model_type)?;
    let family = all().iter().find(|family| family.model_types().contains(&model_type));
    family.copied().ok_or_else(|| ModelError::Architecture {
        origin: name.into(),
        name: model_type.chars().take(64).collect(),
        known: json_names(),
    })
}

/// The family of a GGUF file by its `general.architecture`.
///
/// # Errors
/// [`ModelError::Architecture`] with the known ones.
pub fn for_gguf(name: &str, architecture: &str) -> Result<&'static dyn Family, ModelError> {
    let family = all()
        .iter()
        .find(|family| family.gguf_architectures().contains(&architecture));
    family.copied().ok_or_else(|| ModelError::Architecture {
        origin: name.into(),
        name: architecture.chars().take(64).collect(),
        known: gguf_names(),
    })
}

/// A model's config of the text of a `config.json`. `name` is what the model is to be called.
///
/// # Errors
/// [`ModelError::Config`] for text that is no JSON and for fields that are missing or of wrong types or values;
/// [`ModelError::Architecture`].
pub fn from_json(name: &str, text: &[u8]) -> Result<ModelConfig, ModelError> {
    let json: Value = serde_json::from_slice(text).map_err(|e| ModelError::Config {
        origin: name.into(),
        field: "config.json".into(),
        message: e.to_string(),
    })?;
    for_model_type(name, &json)?.read_json(name, &json)
}

/// A model's config of the `config.json` of a folder, with the tokens that end a text by its `generation_config.json`, where there is one.
/// The model is called as the folder is.
///
/// # Errors
/// Files that cannot be read or are longer than 4 MiB; as [`from_json`].
pub fn from_folder(folder: &Path) -> Result<ModelConfig, ModelError> {
    let path = folder.join("config.json");
    let text = read(&path)?.ok_or_else(|| ModelError::Io {
        path: path.clone(),
        source: std::io::ErrorKind::NotFound.into(),
    })?;
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut config = from_json(name.as_deref().unwrap_or("model"), &text)?;
    let path = folder.join("generation_config.json");
    if let Some(text) = read(&path)? {
        let json: Value = serde_json::from_slice(&text).map_err(|e| ModelError::File {
            path,
            message: e.to_string(),
        })?;
        // It may name tokens that the vocabulary of a cut model lacks; those are never made.
        let also = Fields::new(&config.name, &json)?.tokens("eos_token_id")?;
        for id in also.into_iter().filter(|id| *id < config.vocab) {
            if !config.eos.contains(&id) {
                config.eos.push(id);
            }
        }
    }
    Ok(config)
}

/// A model's config of a GGUF file's metadata. `name` is what the model is to be called.
///
/// # Errors
/// [`ModelError::Gguf`] for keys that are missing or of another type, [`ModelError::Config`] for values that do not fit each other or the
/// tensors, [`ModelError::Architecture`].
pub fn from_gguf(name: &str, gguf: &Gguf) -> Result<ModelConfig, ModelError> {
    let architecture: &str = gguf.meta("general.architecture")?;
    for_gguf(name, architecture)?.read_gguf(name, gguf)
}

/// Where a model's weights are in a file that `has` knows the whole names of. The config says then whether there really is an MTP head.
///
/// # Errors
/// [`ModelError::Missing`]: the file lacks the embedding or the last layer's norm, so that it is no file of this model at all. Other tensors
/// that are missing are found when they are loaded.
pub fn resolve(
    config: &mut ModelConfig,
    naming: Naming,
    has: &dyn Fn(&str) -> bool,
) -> Result<ModelLayout, ModelError> {
    let family = by_name(config.family).ok_or_else(|| ModelError::Architecture {
        origin: config.name.clone(),
        name: config.family.into(),
        known: json_names(),
    })?;
    let (outer, names) = (outer(naming, has), names(naming));
    let missing = |tensor: String, hint: &str| ModelError::Missing {
        origin: config.name.clone(),
        tensor,
        hint: hint.into(),
    };
    if !there(has, &outer.embedding) {
        return Err(missing(format!("{}.weight", outer.embedding), ""));
    }
    let layers = config.layers.len();
    let norm = format!(
        "{}{}.{}.{}.weight",
        outer.prefix,
        names.layers,
        layers.saturating_sub(1),
        names.input_norm
    );
    if !has(&norm) {
        return Err(missing(norm, &format!("; the config has {layers} layers")));
    }
    let layout = family.layout(config, naming, has);
    config.mtp = layout.mtp.is_some();
    Ok(layout)
}

/// A file's bytes, at most [`MAX_JSON`]; none if it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, ModelError> {
    let io = |source| ModelError::Io {
        path: path.into(),
        source,
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(e)),
    };
    let mut text = Vec::new();
    file.take(MAX_JSON + 1).read_to_end(&mut text).map_err(io)?;
    if text.len() as u64 > MAX_JSON {
        return Err(ModelError::File {
            path: path.into(),
            message: format!("is longer than {MAX_JSON} bytes"),
        });
    }
    Ok(Some(text))
}
