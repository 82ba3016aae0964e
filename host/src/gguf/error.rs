//! What can be wrong with a GGUF file, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// The kind of a [`GgufError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The system could not open or map the file.
    Io,
    /// The file does not begin with `GGUF`.
    Magic,
    /// A version, or a byte order, that is not read.
    Version,
    /// The file ends within something, or says it holds more than there is.
    Truncated,
    /// A type's number that GGUF does not have.
    UnknownType,
    /// A value that its type does not have: a bool that is neither 0 nor 1, an empty name.
    Value,
    /// Text that is not UTF-8.
    Utf8,
    /// Arrays in arrays, too deep.
    Depth,
    /// A key or tensor name that is there twice.
    Duplicate,
    /// Dimensions that cannot be: more than four, too many elements, rows that do not end with a block.
    Dims,
    /// An alignment that is no power of two.
    Alignment,
    /// A tensor that is not where a tensor may be: not aligned, beyond the file's end, over another one.
    Offset,
    /// A key or tensor that is not in the file.
    Missing,
    /// A key whose value has another type than asked for.
    WrongType,
    /// A tensor of a type that is listed but not read.
    Unsupported,
}

/// What is wrong with a GGUF file: which file, at which byte, in what.
#[derive(Debug)]
pub struct GgufError {
    /// The file.
    pub path: PathBuf,
    /// The byte in the file that the fault was found at.
    pub offset: u64,
    /// The kind of fault.
    pub fault: Fault,
    /// The part of the file: `metadata key "general.name"`, `tensor "output.weight"`. May be empty.
    pub thing: String,
    /// What is wrong with it, with the value found and what would be right.
    pub message: String,
}

impl GgufError {
    /// A fault at a byte, yet without its file's name.
    pub(super) fn at(offset: usize, fault: Fault, message: impl Into<String>) -> GgufError {
        GgufError {
            path: PathBuf::new(),
            offset: offset as u64,
            fault,
            thing: String::new(),
            message: message.into(),
        }
    }

    /// Says in which thing the fault is, unless that is known more closely already.
    pub(super) fn about(mut self, thing: impl FnOnce() -> String) -> GgufError {
        if self.thing.is_empty() {
            self.thing = thing();
        }
        self
    }

    /// Says in which file the fault is.
    pub(super) fn in_file(mut self, path: &Path) -> GgufError {
        self.path = path.to_path_buf();
        self
    }
}

impl fmt::Display for GgufError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: at byte {}: ", self.path.display(), self.offset)?;
        if !self.thing.is_empty() {
            write!(f, "{}: ", self.thing)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for GgufError {}

/// A name as errors show it: quoted, escaped, and cut, since a broken file's names can be as long as the file.
pub(super) fn shown(name: &[u8]) -> String {
    const MOST: usize = 64;
    let text = String::from_utf8_lossy(&name[..name.len().min(MOST)]);
    let more = if name.len() > MOST { "..." } else { "" };
    format!("{text:?}{more}")
}
