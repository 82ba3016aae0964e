//! Typed fields of a `config.json`: every error names the file, the field with its path, and the value found.

use serde_json::{Map, Value};

use crate::model::ModelError;
use crate::rope::Scaling;

/// An object of a `config.json`. A field that is `null` counts as absent, as it does for transformers.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    origin: &'a str,
    /// Of the object in the file: empty, or `text_config.`.
    path: String,
    map: &'a Map<String, Value>,
}

/// A value as errors show it: broken files have long ones.
fn shown(value: &Value) -> String {
    const MOST: usize = 64;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

impl<'a> Fields<'a> {
    /// The whole file. `origin` is what errors call it.
    ///
    /// # Errors
    /// JSON that is no object.
    pub fn new(origin: &'a str, json: &'a Value) -> Result<Self, ModelError> {
        match json {
            Value::Object(map) => Ok(Self {
                origin,
                path: String::new(),
                map,
            }),
            other => Err(ModelError::Config {
                origin: origin.into(),
                field: "config.json".into(),
                message: format!("{}: it must be an object", shown(other)),
            }),
        }
    }

    /// What errors call the file.
    pub fn origin(&self) -> &'a str {
        self.origin
    }

    /// An error about a field of this object.
    pub fn error(&self, name: &str, message: impl Into<String>) -> ModelError {
        ModelError::Config {
            origin: self.origin.into(),
            field: format!("{}{name}", self.path),
            message: message.into(),
        }
    }

    /// The field's value; absent if it is not there or null.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &self,
        name: &str,
        wanted: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        self.get(name)
            .map(|value| read(value).ok_or_else(|| self.error(name, format!("{}: it must be {wanted}", shown(value)))))
            .transpose()
    }

    /// The value, or an error that says it is missing.
    pub fn need<T>(&self, name: &str, value: Option<T>) -> Result<T, ModelError> {
        value.ok_or_else(|| self.error(name, "is missing"))
    }

    /// A count.
    ///
    /// # Errors
    /// A value that is no integer from 0 to 2^32 - 1.
    pub fn u32(&self, name: &str) -> Result<Option<u32>, ModelError> {
        self.typed(name, "an integer from 0 to 4294967295", as_u32)
    }

    /// A count that must be there.
    ///
    /// # Errors
    /// As [`Fields::u32`], or when it is missing.
    pub fn need_u32(&self, name: &str) -> Result<u32, ModelError> {
        let value = self.u32(name)?;
        self.need(name, value)
    }

    /// A number.
    ///
    /// # Errors
    /// A value that is no number.
    pub fn f64(&self, name: &str) -> Result<Option<f64>, ModelError> {
        self.typed(name, "a number", Value::as_f64)
    }

    /// A number that must be there.
    ///
    /// # Errors
    /// As [`Fields::f64`], or when it is missing.
    pub fn need_f64(&self, name: &str) -> Result<f64, ModelError> {
        let value = self.f64(name)?;
        self.need(name, value)
    }

    /// A truth value.
    ///
    /// # Errors
    /// A value that is neither true nor false.
    pub fn bool(&self, name: &str) -> Result<Option<bool>, ModelError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    /// A text.
    ///
    /// # Errors
    /// A value that is no text.
    pub fn str(&self, name: &str) -> Result<Option<&'a str>, ModelError> {
        self.typed(name, "a text", Value::as_str)
    }

    /// An object.
    ///
    /// # Errors
    /// A value that is no object.
    pub fn object(&self, name: &str) -> Result<Option<Fields<'a>>, ModelError> {
        let map = self.typed(name, "an object", Value::as_object)?;
        Ok(map.map(|map| Fields {
            origin: self.origin,
            path: format!("{}{name}.", self.path),
            map,
        }))
    }

    /// A list of counts.
    ///
    /// # Errors
    /// A value that is no list of integers from 0 to 2^32 - 1.
    pub fn u32s(&self, name: &str) -> Result<Option<Vec<u32>>, ModelError> {
        self.typed(name, "a list of integers from 0 to 4294967295", |value| {
            value.as_array()?.iter().map(as_u32).collect()
        })
    }

    /// A list of texts.
    ///
    /// # Errors
    /// A value that is no list of texts.
    pub fn strs(&self, name: &str) -> Result<Option<Vec<&'a str>>, ModelError> {
        self.typed(name, "a list of texts", |value| {
            value.as_array()?.iter().map(Value::as_str).collect()
        })
    }

    /// One token id, or a list of them; none where the field is absent.
    ///
    /// # Errors
    /// Another value.
    pub fn tokens(&self, name: &str) -> Result<Vec<u32>, ModelError> {
        let found = self.typed(name, "a token id or a list of them", |value| match value {
            Value::Array(ids) => ids.iter().map(as_u32).collect(),
            id => Some(vec![as_u32(id)?]),
        })?;
        Ok(found.unwrap_or_default())
    }

    /// An error if a switch is on that the forward does not implement.
    ///
    /// # Errors
    /// The field is true, or no truth value.
    pub fn refuse(&self, name: &str) -> Result<(), ModelError> {
        match self.bool(name)? {
            Some(true) => Err(self.error(name, "true: it is not implemented, only false is")),
            _ => Ok(()),
        }
    }

    /// A count that may have either of two names.
    ///
    /// # Errors
    /// As [`Fields::u32`]; both names with different values.
    pub fn u32_of(&self, name: &str, other: &str) -> Result<Option<u32>, ModelError> {
        match (self.u32(name)?, self.u32(other)?) {
            (Some(a), Some(b)) if a != b => Err(self.error(name, format!("{a}: and {other} is {b}"))),
            (a, b) => Ok(a.or(b)),
        }
    }
}

fn as_u32(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|v| u32::try_from(v).ok())
}

/// What a `config.json` says of rotary embeddings.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// Leading elements of a head that are turned.
    pub rot: u32,
    /// How positions are stretched.
    pub scaling: Scaling,
}

/// Reads the rotary parameters in either form: `rope_theta`, `partial_rotary_factor` and `rope_scaling` beside the other fields, or all in
/// `rope_parameters` (transformers 5; there by layer type too). Where neither says how much of a head is turned, `part` of it is.
///
/// # Errors
/// Fields of wrong types, kinds of scaling that are not implemented, forms that contradict each other.
pub fn rope(text: &Fields<'_>, head_dim: u32, part: f64, max_positions: u32) -> Result<Rope, ModelError> {
    let old = text.object("rope_scaling")?;
    let mut new = text.object("rope_parameters")?;
    if let Some(of_layers) = new
        .as_ref()
        .map(|new| new.object("full_attention"))
        .transpose()?
        .flatten()
    {
        new = Some(of_layers);
    }
    if let (Some(a), Some(b)) = (&old, &new)
        && a.map != b.map
    {
        return Err(text.error("rope_scaling", "differs from rope_parameters; one of them must go"));
    }
    let inner = new.as_ref().or(old.as_ref());
    let both = |name: &str| -> Result<Option<f64>, ModelError> {
        let inside = inner.map(|inner| inner.f64(name)).transpose()?.flatten();
        match (text.f64(name)?, inside) {
            (Some(a), Some(b)) if a != b => Err(text.error(name, format!("{a}: and the rope parameters' is {b}"))),
            (a, b) => Ok(a.or(b)),
        }
    };
    let theta = both("rope_theta")?.unwrap_or(10000.0);
    let factor = both("partial_rotary_factor")?.unwrap_or(part);
    if !(factor > 0.0 && factor <= 1.0) {
        return Err(text.error(
            "partial_rotary_factor",
            format!("{factor}: it must be above 0 and at most 1"),
        ));
    }
    let rot = (f64::from(head_dim) * factor) as u32;
    let scaling = match inner {
        Some(inner) => scaling(inner, max_positions, rot == head_dim)?,
        None => Scaling::None,
    };
    Ok(Rope { theta, rot, scaling })
}

/// Reads a kind of scaling. `whole` says that whole heads are turned.
fn scaling(inner: &Fields<'_>, max_positions: u32, whole: bool) -> Result<Scaling, ModelError> {
    let (name, kind) = match inner.str("rope_type")? {
        Some(kind) => ("rope_type", kind),
        None => ("type", inner.str("type")?.unwrap_or("default")),
    };
    let original_positions = || -> Result<u64, ModelError> {
        let given = inner.u32("original_max_position_embeddings")?;
        Ok(given.unwrap_or(max_positions).into())
    };
    match kind {
        // Positions of text are the same on all axes of a multimodal model, so its rotation is the plain one.
        "default" | "mrope" => Ok(Scaling::None),
        "linear" => Ok(Scaling::Linear {
            factor: inner.need_f64("factor")?,
        }),
        "llama3" => Ok(Scaling::Llama3 {
            factor: inner.need_f64("factor")?,
            low_freq_factor: inner.need_f64("low_freq_factor")?,
            high_freq_factor: inner.need_f64("high_freq_factor")?,
            original_positions: original_positions()?,
        }),
        "yarn" => {
            let scaling = Scaling::Yarn {
                factor: inner.need_f64("factor")?,
                beta_fast: inner.f64("beta_fast")?.unwrap_or(32.0),
                beta_slow: inner.f64("beta_slow")?.unwrap_or(1.0),
                original_positions: original_positions()?,
            };
            if !whole {
                return Err(inner.error(name, "yarn: it is implemented only where whole heads are turned"));
            }
            let ours = scaling.attention_factor();
            for refused in ["mscale", "mscale_all_dim"] {
                if let Some(value) = inner.f64(refused)? {
                    return Err(inner.error(refused, format!("{value}: it is not implemented")));
                }
            }
            match inner.f64("attention_factor")? {
                Some(given) if (given - ours).abs() > 1e-6 => Err(inner.error(
                    "attention_factor",
                    format!("{given}: only 0.1 ln(factor) + 1 = {ours} is implemented"),
                )),
                _ => match inner.bool("truncate")? {
                    Some(false) => Err(inner.error("truncate", "false: only true is implemented")),
                    _ => Ok(scaling),
                },
            }
        }
        other => Err(inner.error(
            name,
            format!("`{other}` is not implemented; default, linear, llama3 and yarn are"),
        )),
    }
}
