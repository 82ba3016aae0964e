//! The tuned table as a file: `results/tuned/<device>.toml`, embedded in the binary, or read from a folder.

use super::record::slug;
use super::tuned::TunedTable;
use include_dir::{Dir, include_dir};
use std::io::Write;
use std::path::{Path, PathBuf};

static EMBEDDED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../results/tuned");

/// The head of every file.
const HEAD: &str =
    "# Made from this device's records by `harness best --write`; do not edit. Schema: results/README.md.\n\n";

/// Why a tuned table was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum TunedError {
    /// The system refused.
    #[error("{}: {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not this schema.
    #[error("{file}: {message}\nMake it again from the records: `harness best --write`.")]
    Toml {
        /// The file.
        file: String,
        /// The parser's message, with line and column.
        message: String,
    },
}

impl TunedTable {
    /// The table of a device this binary was built with; `None` where there is none.
    ///
    /// # Errors
    /// A table that is not this build's schema.
    pub fn embedded(device: &str) -> Result<Option<TunedTable>, TunedError> {
        let name = format!("{}.toml", slug(device));
        match EMBEDDED.get_file(&name).and_then(|f| f.contents_utf8()) {
            Some(text) => parse(&format!("results/tuned/{name}"), text).map(Some),
            None => Ok(None),
        }
    }

    /// The table of a device in a folder (`DIR/<slug>.toml`), in place of the embedded one; `None` where there is none.
    ///
    /// # Errors
    /// The system's; a table that is not this build's schema.
    pub fn load(dir: &Path, device: &str) -> Result<Option<TunedTable>, TunedError> {
        let path = dir.join(format!("{}.toml", slug(device)));
        match std::fs::read_to_string(&path) {
            Ok(text) => parse(&path.display().to_string(), &text).map(Some),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(TunedError::Io {
                path,
                action: "cannot be read",
                source,
            }),
        }
    }

    /// Writes the table to `DIR/<slug>.toml`, whole or not at all, and gives the path.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, dir: &Path) -> Result<PathBuf, TunedError> {
        let path = dir.join(format!("{}.toml", slug(&self.device)));
        let io = |action| {
            let path = path.clone();
            move |source| TunedError::Io { path, action, source }
        };
        let text = toml::to_string(self).map_err(|e| TunedError::Toml {
            file: path.display().to_string(),
            message: e.to_string(),
        })?;
        std::fs::create_dir_all(dir).map_err(io("cannot create its folder"))?;
        // A reader sees the old table or the new one: the new one takes its name only when it is complete.
        let new = path.with_extension(format!("toml.{}.new", std::process::id()));
        let mut file = std::fs::File::create(&new).map_err(io("cannot be created"))?;
        file.write_all(HEAD.as_bytes()).map_err(io("cannot be written"))?;
        file.write_all(text.as_bytes()).map_err(io("cannot be written"))?;
        file.sync_all().map_err(io("cannot be brought to the disk"))?;
        std::fs::rename(&new, &path).map_err(io("cannot be put in place"))?;
        Ok(path)
    }
}

fn parse(file: &str, text: &str) -> Result<TunedTable, TunedError> {
    toml::from_str(text).map_err(|e| TunedError::Toml {
        file: file.into(),
        message: e.to_string().trim_end().to_string(),
    })
}
