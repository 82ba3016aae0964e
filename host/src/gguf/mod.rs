//! GGUF files, read by memory map.
//!
//! ```text
//! [magic "GGUF"] [version u32] [tensors u64] [keys u64]
//! keys:    [name] [type u32] [value]                                        value types: ValueType
//! tensors: [name] [n_dims u32] [ne u64 x n_dims] [type u32] [offset u64]    the first dimension runs fastest
//! padding to the alignment (`general.alignment`, else 32)
//! data:    each tensor at its offset from here, a multiple of the alignment
//! ```
//! A name is a u64 length and that many bytes. Everything is little-endian. Versions 2 and 3 are the same to a reader.
//!
//! A file from anywhere is safe to open: everything in it is checked before it is used, no memory is taken on the word of a
//! length in it (what an open file takes is less than the file), and every fault is a [`GgufError`] that names the file, the byte
//! and the thing. Tensors of F32, F16, BF16 and Q8_0 are read; others are listed and refused when read.
//!
//! ```no_run
//! use host::gguf::Gguf;
//! let file = Gguf::open("model.gguf")?;
//! let layers: u32 = file.meta("qwen3.block_count")?;
//! let weights = file.tensor("blk.0.ffn_down.weight")?;
//! println!("{layers} layers; K {} N {}: {} bytes", weights.row_len(), weights.rows(), weights.bytes()?.len());
//! # Ok::<(), host::gguf::GgufError>(())
//! ```

mod cursor;
mod error;
mod index;
mod tensor;
mod value;

use cursor::Cursor;
use error::shown;
use index::{Index, read_key};
use memmap2::Mmap;
use std::path::{Path, PathBuf};

pub use error::{Fault, GgufError};
pub use tensor::{GgmlType, Q8_0_BLOCK, Q8_0_BLOCK_BYTES, Tensor};
pub use value::{Array, FromValue, Value, ValueType};

/// An open GGUF file.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    bytes: Bytes,
    index: Index,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

impl Gguf {
    /// Maps and checks a file. Its tensors' data is not touched. The file must not be changed or cut while it is open.
    ///
    /// # Errors
    /// A file that cannot be opened, or is no sound GGUF file.
    pub fn open(path: impl AsRef<Path>) -> Result<Gguf, GgufError> {
        let path = path.as_ref();
        let io = |e: std::io::Error| GgufError::at(0, Fault::Io, format!("cannot be opened: {e}")).in_file(path);
        let file = std::fs::File::open(path).map_err(io)?;
        // SAFETY: the map is read-only and lives as long as the slices lent from it. That nobody changes the file meanwhile is
        // asked of the caller above; no system offers a way to make sure of it.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Self::new(path.to_path_buf(), Bytes::Mapped(map))
    }

    /// Checks a file that is in memory. `name` is what errors call it.
    ///
    /// # Errors
    /// Bytes that are no sound GGUF file.
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Gguf, GgufError> {
        Self::new(name.into(), Bytes::Owned(bytes))
    }

    fn new(path: PathBuf, bytes: Bytes) -> Result<Gguf, GgufError> {
        match Index::read(bytes.get()) {
            Ok(index) => Ok(Gguf { path, bytes, index }),
            Err(e) => Err(e.in_file(&path)),
        }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// GGUF's version: 2 or 3.
    pub fn version(&self) -> u32 {
        self.index.version
    }

    /// What tensors' offsets are multiples of.
    pub fn alignment(&self) -> u64 {
        self.index.alignment
    }

    /// The byte that tensors' offsets count from.
    pub fn data_start(&self) -> u64 {
        self.index.data_start
    }

    /// How many metadata keys there are.
    pub fn key_count(&self) -> usize {
        self.index.keys.at.len()
    }

    /// How many tensors there are.
    pub fn tensor_count(&self) -> usize {
        self.index.tensors.at.len()
    }

    /// Every metadata key with its value, in the file's order.
    pub fn keys(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        // Every key was read when the file was opened, so none fails now.
        self.index.keys.at.iter().filter_map(|&at| self.key_at(at).ok())
    }

    fn key_at(&self, at: u64) -> Result<(&str, Value<'_>), GgufError> {
        read_key(&mut Cursor::new(self.bytes.get(), at as usize)).map_err(|e| e.in_file(&self.path))
    }

    /// A metadata value, as the type it is asked for as.
    ///
    /// # Errors
    /// A key that is not there, a value of another type, an integer that does not fit.
    pub fn meta<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, GgufError> {
        self.meta_opt(key)?.ok_or_else(|| {
            let message = format!("is not in the file, which has {} keys", self.key_count());
            GgufError::at(0, Fault::Missing, message)
                .about(|| format!("metadata key {}", shown(key.as_bytes())))
                .in_file(&self.path)
        })
    }

    /// A metadata value that may be absent, as the type it is asked for as.
    ///
    /// # Errors
    /// A value of another type, an integer that does not fit.
    pub fn meta_opt<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, GgufError> {
        let Some(at) = self.index.keys.find(self.bytes.get(), key) else {
            return Ok(None);
        };
        let (_, value) = self.key_at(at)?;
        match T::from_value(value) {
            Some(v) => Ok(Some(v)),
            None => {
                let found = match value {
                    Value::Str(s) => format!("the string {}", shown(s)),
                    Value::Array(a) => format!("an array of {} {:?}", a.len(), a.element()),
                    other => format!("{other:?}"),
                };
                Err(GgufError::at(
                    at as usize,
                    Fault::WrongType,
                    format!("is {found}; {} is wanted", T::WANTED),
                )
                .about(|| format!("metadata key {}", shown(key.as_bytes())))
                .in_file(&self.path))
            }
        }
    }

    /// Every tensor, in the file's order.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        // Every tensor was checked when the file was opened, so none fails now.
        self.index.tensors.at.iter().filter_map(|&at| self.tensor_at(at).ok())
    }

    /// A tensor by its name.
    ///
    /// # Errors
    /// A name that is not there.
    pub fn tensor(&self, name: &str) -> Result<Tensor<'_>, GgufError> {
        match self.index.tensors.find(self.bytes.get(), name) {
            Some(at) => self.tensor_at(at),
            None => {
                let message = format!("is not in the file, which has {} tensors", self.tensor_count());
                Err(GgufError::at(0, Fault::Missing, message)
                    .about(|| format!("tensor {}", shown(name.as_bytes())))
                    .in_file(&self.path))
            }
        }
    }

    fn tensor_at(&self, at: u64) -> Result<Tensor<'_>, GgufError> {
        let file = self.bytes.get();
        let found = || {
            let info = self.index.info(file, at)?;
            let (start, end) = self.index.extent(&info, file.len())?;
            Ok((info, start, end))
        };
        let (info, start, end) = found().map_err(|e: GgufError| e.in_file(&self.path))?;
        // In range: `extent` compared the end with the file's length.
        let bytes = info.ty.block().and_then(|_| file.get(start as usize..end as usize));
        Ok(Tensor {
            path: &self.path,
            name: info.name,
            ty: info.ty,
            n_dims: info.n_dims,
            ne: info.ne,
            offset: start,
            bytes,
        })
    }
}
