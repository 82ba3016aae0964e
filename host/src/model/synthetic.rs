//! `synthetic:NAME[:layers=N][:weights=bf16|nvfp4|q8_0][:seed=S]`: models of real shapes with seeded weights, made on the device.
//!
//! NAME is a shape file with a `[model]` table. There is nothing to download and nothing to read: a model is its sizes and a seed.

use super::ModelError;
use super::config::ModelConfig;
use super::engine::Opened;
use super::family::{self, Naming};
use super::layout::ModelLayout;
use super::weights::Origin;
use super::weights::synthetic::SyntheticOrigin;
use crate::shapes::{Model, ModelTable, ShapeSet, WeightFormat};

/// What the name of every synthetic model begins with.
pub const PREFIX: &str = "synthetic:";

/// A synthetic model's name, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntheticName {
    /// The shape file.
    pub model: String,
    /// The first so many layers alone.
    pub layers: Option<usize>,
    /// How its weights are stored; the shape file says it where a name does not.
    pub weights: Option<WeightFormat>,
    /// Another seed, other weights; 0 where a name has none.
    pub seed: u64,
}

impl SyntheticName {
    /// Takes a name apart.
    ///
    /// # Errors
    /// [`ModelError::Name`] for a text without [`PREFIX`], an option that is unknown, given twice or of a value that it does not take.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        let error = |why: String| ModelError::Name { text: text.into(), why };
        let Some(rest) = text.strip_prefix(PREFIX) else {
            return Err(error(format!("a synthetic model's name begins with `{PREFIX}`")));
        };
        let mut parts = rest.split(':');
        let mut name = Self {
            model: parts.next().unwrap_or_default().into(),
            layers: None,
            weights: None,
            seed: 0,
        };
        let mut given: Vec<&str> = Vec::new();
        for part in parts {
            let (option, value) = part.split_once('=').unwrap_or((part, ""));
            if given.contains(&option) {
                return Err(error(format!("`{option}` is given twice")));
            }
            given.push(option);
            let wanted = match option {
                "layers" => {
                    name.layers = value.parse().ok().filter(|n| *n > 0);
                    name.layers.is_some().then_some(()).ok_or("a number from 1")
                }
                "weights" => {
                    name.weights = WeightFormat::by_name(value);
                    name.weights.is_some().then_some(()).ok_or("bf16, nvfp4 or q8_0")
                }
                "seed" => {
                    let seed = value.parse().map(|seed| name.seed = seed);
                    seed.map_err(|_| "a number from 0, below 2^64")
                }
                _ => {
                    return Err(error(format!(
                        "`{option}` is no option; there are layers=N, weights=bf16|nvfp4|q8_0 and seed=S"
                    )));
                }
            };
            wanted.map_err(|wanted| error(format!("{option}=`{value}`: it must be {wanted}")))?;
        }
        Ok(name)
    }
}

/// The names of the models there are: the shape files with a `[model]` table.
pub fn names(shapes: &ShapeSet) -> Vec<&str> {
    let models = shapes.models.iter().filter(|m| m.model.is_some());
    models.map(|m| m.name.as_str()).collect()
}

/// The config of a synthetic model, by its whole name or by the shape file's alone; of the shape files built in.
///
/// # Errors
/// As [`Synthetic::open`].
pub fn config(name: &str) -> Result<ModelConfig, ModelError> {
    let text = match name.starts_with(PREFIX) {
        true => name.to_string(),
        false => format!("{PREFIX}{name}"),
    };
    Synthetic::open(&text).map(|model| model.config)
}

/// A synthetic model, of which nothing is made yet.
#[derive(Clone, Debug)]
pub struct Synthetic {
    config: ModelConfig,
    layout: ModelLayout,
    weights: WeightFormat,
    seed: u64,
}

impl Synthetic {
    /// A model by its name, of the shape files built in.
    ///
    /// # Errors
    /// [`ModelError::Name`] for a name that is wrong or unknown, with the names there are; [`ModelError::Architecture`] for a file of a
    /// family that is not implemented; a model that [`ModelConfig::check`] refuses.
    pub fn open(text: &str) -> Result<Self, ModelError> {
        Self::of(&ShapeSet::embedded()?, text)
    }

    /// A model by its name, of these shape files.
    ///
    /// # Errors
    /// As [`Synthetic::open`].
    pub fn of(shapes: &ShapeSet, text: &str) -> Result<Self, ModelError> {
        let name = SyntheticName::parse(text)?;
        let Some((model, table)) = find(shapes, &name.model) else {
            let (why, names) = (format!("there is no model `{}`", name.model), names(shapes).join(", "));
            return Err(ModelError::Name {
                text: text.into(),
                why: format!("{why}; there are {names}"),
            });
        };
        let mut config = table.config(&model.name, family(model, table)?.name());
        if let Some(layers) = name.layers {
            config = config.truncated(layers)?;
        }
        Self::new(config, name.weights.unwrap_or(table.weights), name.seed)
    }

    /// A model of any config of a known family.
    ///
    /// # Errors
    /// [`ModelError::Architecture`], and what [`ModelConfig::check`] refuses.
    pub fn new(config: ModelConfig, weights: WeightFormat, seed: u64) -> Result<Self, ModelError> {
        config.check()?;
        let Some(family) = family::by_name(config.family) else {
            return Err(unknown(&config.name, config.family));
        };
        // A checkpoint that has whatever one of its kind may have.
        let layout = family.layout(&config, Naming::HuggingFace, &|_| true);
        Ok(Self {
            config,
            layout,
            weights,
            seed,
        })
    }

    /// How its weights are stored.
    pub fn weights(&self) -> WeightFormat {
        self.weights
    }
}

impl Opened for Synthetic {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn layout(&self) -> &ModelLayout {
        &self.layout
    }

    fn origin(&self) -> Result<Box<dyn Origin + '_>, ModelError> {
        let origin = SyntheticOrigin::new(&self.config, &self.layout, self.weights, self.seed);
        Ok(Box::new(origin))
    }
}

fn find<'a>(shapes: &'a ShapeSet, name: &str) -> Option<(&'a Model, &'a ModelTable)> {
    let model = shapes.model(name)?;
    Some((model, model.model.as_ref()?))
}

fn family(model: &Model, table: &ModelTable) -> Result<&'static dyn family::Family, ModelError> {
    family::by_name(&table.family).ok_or_else(|| unknown(&model.name, &table.family))
}

fn unknown(origin: &str, family: &str) -> ModelError {
    let names: Vec<&str> = family::all().iter().map(|family| family.name()).collect();
    ModelError::Architecture {
        origin: origin.into(),
        name: family.into(),
        known: names.join(", "),
    }
}

#[cfg(test)]
mod tests;
