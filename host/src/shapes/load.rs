//! Reading of shape files: TOML to [`Model`], with errors that say where.

use super::{Facts, Model, ModelTable, OpShape, ShapeSet};
use crate::op::spec::Axis;
use crate::ops;
use include_dir::{Dir, include_dir};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

static EMBEDDED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../shapes");

/// Why a shape file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ShapeError {
    /// The folder or a file in it cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not TOML, or not this schema's top level.
    #[error("{file}: {message}")]
    Toml {
        /// The file.
        file: String,
        /// The parser's message, with line and column.
        message: String,
    },
    /// A `[model]` table that contradicts itself or the rest of the file.
    #[error("{file}: [model]: {field}: {message}")]
    Model {
        /// The file.
        file: String,
        /// The field.
        field: String,
        /// What is wrong with it and what would be right.
        message: String,
    },
    /// An `[[op]]` entry that does not follow the schema.
    #[error("{file}: [[op]] {entry}: {field}: {message}")]
    Entry {
        /// The file.
        file: String,
        /// The entry's number from 1, and its name where it has one.
        entry: String,
        /// The field.
        field: String,
        /// What is wrong with it and what would be right.
        message: String,
    },
    /// A folder without any shape file.
    #[error("{}: holds no .toml file; see shapes/README.md for what one looks like", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
}

/// The file's top level. An entry stays a table until its operation, which decides what fields it has, is known.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    title: String,
    facts: Option<Facts>,
    model: Option<ModelTable>,
    #[serde(default)]
    op: Vec<toml::Table>,
}

impl ShapeSet {
    /// The files this binary was built with.
    ///
    /// # Errors
    /// A file that does not follow the schema; a test keeps such a file from being built in.
    pub fn embedded() -> Result<ShapeSet, ShapeError> {
        let texts = EMBEDDED.files().filter(|f| is_toml(f.path())).map(|f| {
            let text = String::from_utf8_lossy(f.contents()).into_owned();
            (format!("shapes/{}", f.path().display()), stem(f.path()), text)
        });
        Self::from_texts(texts.collect())
    }

    /// The `.toml` files of a folder, in place of the embedded ones.
    ///
    /// # Errors
    /// A folder or file that cannot be read, a folder without shape files, a file that does not follow the schema.
    pub fn load(dir: &Path) -> Result<ShapeSet, ShapeError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| ShapeError::Io { path, source }
        };
        let mut texts = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(io(dir))? {
            let path = entry.map_err(io(dir))?.path();
            if is_toml(&path) {
                let text = std::fs::read_to_string(&path).map_err(io(&path))?;
                texts.push((path.display().to_string(), stem(&path), text));
            }
        }
        if texts.is_empty() {
            return Err(ShapeError::Empty {
                path: dir.to_path_buf(),
            });
        }
        Self::from_texts(texts)
    }

    /// One file, for a shape file given by its path.
    ///
    /// # Errors
    /// As [`ShapeSet::load`].
    pub fn load_file(path: &Path) -> Result<ShapeSet, ShapeError> {
        let text = std::fs::read_to_string(path).map_err(|source| ShapeError::Io {
            path: path.to_path_buf(),
            source,
        })?;
        Self::from_texts(vec![(path.display().to_string(), stem(path), text)])
    }

    fn from_texts(mut texts: Vec<(String, String, String)>) -> Result<ShapeSet, ShapeError> {
        texts.sort_by(|a, b| a.1.cmp(&b.1));
        let models = texts
            .iter()
            .map(|(file, name, text)| parse(file, name, text))
            .collect::<Result<_, _>>()?;
        Ok(ShapeSet { models })
    }
}

fn is_toml(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "toml")
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Parses one file's text. `file` is what errors call it, `name` the model's name.
pub(super) fn parse(file: &str, name: &str, text: &str) -> Result<Model, ShapeError> {
    let raw: RawFile = toml::from_str(text).map_err(|e| ShapeError::Toml {
        file: file.into(),
        message: e.to_string().trim_end().to_string(),
    })?;
    let mut ops = Vec::with_capacity(raw.op.len());
    let mut names = BTreeSet::new();
    for (i, table) in raw.op.iter().enumerate() {
        let op = Entry {
            file,
            index: i + 1,
            table,
        }
        .parse(name)?;
        if !names.insert(op.name.clone()) {
            let entry = Entry {
                file,
                index: i + 1,
                table,
            };
            return Err(entry.error("name", format!("\"{}\" is taken by an entry before it", op.name)));
        }
        ops.push(op);
    }
    let of_model = |field: &str, message: &str| ShapeError::Model {
        file: file.into(),
        field: field.into(),
        message: message.into(),
    };
    let facts = match (&raw.model, raw.facts) {
        (Some(_), Some(_)) => return Err(of_model("facts", "follow from [model]; leave [facts] out")),
        (Some(model), None) => match model.contradiction() {
            Some((field, message)) => return Err(of_model(field, &message)),
            None => model.facts(),
        },
        (None, None) if ops.is_empty() => {
            return Err(of_model("op", "there is neither a [model] nor an [[op]]"));
        }
        (None, facts) => facts.unwrap_or_default(),
    };
    Ok(Model {
        name: name.into(),
        title: raw.title,
        facts,
        model: raw.model,
        ops,
    })
}

/// One `[[op]]` on its way to an [`OpShape`].
struct Entry<'a> {
    file: &'a str,
    /// From 1, in the file's order.
    index: usize,
    table: &'a toml::Table,
}

impl Entry<'_> {
    fn error(&self, field: &str, message: impl Into<String>) -> ShapeError {
        let entry = match self.table.get("name").and_then(|v| v.as_str()) {
            Some(name) => format!("{} \"{name}\"", self.index),
            None => self.index.to_string(),
        };
        ShapeError::Entry {
            file: self.file.into(),
            entry,
            field: field.into(),
            message: message.into(),
        }
    }

    fn parse(&self, model: &str) -> Result<OpShape, ShapeError> {
        let name = self.text("name")?;
        let op = self.text("op")?;
        let Some(axes) = ops::by_name(&op).map(|op| op.axes()) else {
            let known: Vec<&str> = ops::all().iter().map(|op| op.name()).collect();
            return Err(self.error("op", format!("\"{op}\" is not known; known are: {}", known.join(", "))));
        };
        self.refuse_unknown(&op, axes)?;
        let mut dims = BTreeMap::new();
        for axis in axes.iter().filter(|axis| axis.name != "n_tok") {
            dims.insert(axis.name.to_string(), self.size(axis)?);
        }
        let tokens = axes.iter().find(|axis| axis.name == "n_tok");
        let n_tok = tokens.map_or(Ok(vec![1]), |axis| self.n_tok(axis))?;
        Ok(OpShape {
            model: model.into(),
            name,
            op,
            dims,
            n_tok,
            count: self.size(&Axis::required("count"))?,
        })
    }

    fn refuse_unknown(&self, op: &str, axes: &[Axis]) -> Result<(), ShapeError> {
        let mut known = vec!["op", "name", "count"];
        known.extend(axes.iter().map(|axis| axis.name));
        match self.table.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => {
                let fields = known.join(", ");
                Err(self.error(key, format!("is no field of {op}; its fields are: {fields}")))
            }
            None => Ok(()),
        }
    }

    fn get(&self, field: &str) -> Result<&toml::Value, ShapeError> {
        self.table.get(field).ok_or_else(|| self.error(field, "is missing"))
    }

    fn text(&self, field: &str) -> Result<String, ShapeError> {
        match self.get(field)?.as_str() {
            Some(text) if !text.is_empty() => Ok(text.to_string()),
            _ => Err(self.error(field, "must be a text that is not empty")),
        }
    }

    fn size(&self, axis: &Axis) -> Result<u64, ShapeError> {
        let (field, min) = (axis.name, axis.min);
        if let (None, Some(default)) = (self.table.get(field), axis.default) {
            return Ok(default);
        }
        let value = self.get(field)?;
        match value.as_integer().and_then(|v| u64::try_from(v).ok()) {
            Some(v) if v >= min => Ok(v),
            _ => Err(self.error(field, format!("is {value}; it must be an integer of at least {min}"))),
        }
    }

    fn n_tok(&self, axis: &Axis) -> Result<Vec<u32>, ShapeError> {
        let min = axis.min;
        let wrong = || {
            let what = format!("must be a list of integers of at least {min}, ascending, not empty");
            self.error("n_tok", what)
        };
        let Some(value) = self.table.get("n_tok") else {
            return Ok(vec![1]);
        };
        let count = |v: &toml::Value| {
            let n = u32::try_from(v.as_integer()?).ok()?;
            (u64::from(n) >= min).then_some(n)
        };
        let list = value.as_array().ok_or_else(wrong)?;
        let counts: Vec<u32> = list.iter().map(count).collect::<Option<_>>().ok_or_else(wrong)?;
        if counts.is_empty() || counts.windows(2).any(|w| w[0] >= w[1]) {
            return Err(wrong());
        }
        Ok(counts)
    }
}
