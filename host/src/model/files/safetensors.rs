//! A folder of safetensors files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::header::{Fault, Header};
use super::index;
use super::{ModelError, Raw, Source, shortened};

/// The one file of a checkpoint that has one.
const SINGLE: &str = "model.safetensors";
/// The list of files of a checkpoint that has several.
const INDEX: &str = "model.safetensors.index.json";
/// The most files of a checkpoint: the largest public ones have some two hundred.
const MOST_FILES: usize = 4096;

/// The tensors of a checkpoint, in one file or in several.
#[derive(Debug)]
pub struct Safetensors {
    origin: PathBuf,
    files: Vec<File>,
    /// File and index there of each tensor, in the order of the names.
    tensors: Vec<(u32, u32)>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    bytes: Bytes,
    header: Header,
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

impl Safetensors {
    /// Maps the files of a folder (`model.safetensors`, else those that `model.safetensors.index.json` lists), or one file, and checks
    /// their headers. No tensor is read. The files must not be changed or cut while they are open.
    ///
    /// # Errors
    /// Files that are not there, cannot be read or are no sound safetensors files; an index that names other files than the folder has or
    /// does not agree with them; a tensor that is in two files.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = path.as_ref();
        let kind = std::fs::metadata(path).map_err(|source| io(path, source))?;
        if !kind.is_dir() {
            return Self::of(path, vec![File::open(path.to_path_buf())?]);
        }
        let single = path.join(SINGLE);
        if single.exists() {
            return Self::of(path, vec![File::open(single)?]);
        }
        let list = path.join(INDEX);
        if !list.exists() {
            return Err(ModelError::File {
                path: path.to_path_buf(),
                message: format!("has neither {SINGLE} nor {INDEX}"),
            });
        }
        Self::open_listed(path, list)
    }

    /// Checks one file that is in memory. `name` is what errors call it.
    ///
    /// # Errors
    /// Bytes that are no sound safetensors file.
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self, ModelError> {
        let path = name.into();
        Self::of(&path.clone(), vec![File::new(path, Bytes::Owned(bytes))?])
    }

    /// Opens the files of an index, and holds them and the index to each other.
    fn open_listed(folder: &Path, list: PathBuf) -> Result<Self, ModelError> {
        let json = map(&list)?;
        let wrong = |message: String| ModelError::File {
            path: list.clone(),
            message,
        };
        let mut names = BTreeSet::new();
        index::read(&json, &mut |tensor, file| {
            if names.contains(file) {
                return Ok(());
            }
            let (tensor, shown) = (shortened(tensor), shortened(file));
            if !index::is_file_name(file) {
                return Err(format!(
                    "tensor `{tensor}` is said to be in `{shown}`, which is no name of a safetensors file of the folder"
                ));
            }
            if !folder.join(file).is_file() {
                return Err(format!(
                    "tensor `{tensor}` is said to be in `{shown}`, and the folder has no such file"
                ));
            }
            if names.len() == MOST_FILES {
                return Err(format!("more than {MOST_FILES} files"));
            }
            names.insert(file.to_string());
            Ok(())
        })
        .map_err(wrong)?;
        let files = names.iter().map(|name| File::open(folder.join(name)));
        let all = Self::of(folder, files.collect::<Result<_, _>>()?)?;
        index::read(&json, &mut |tensor, file| match all.find(tensor) {
            Some(raw) if raw.file.file_name() == Some(file.as_ref()) => Ok(()),
            _ => Err(format!(
                "tensor `{}` is said to be in `{}`, which has no such tensor",
                shortened(tensor),
                shortened(file)
            )),
        })
        .map_err(wrong)?;
        Ok(all)
    }

    /// Of open files, which must not share a tensor.
    fn of(origin: &Path, files: Vec<File>) -> Result<Self, ModelError> {
        let counts = files.iter().map(|file| file.header.len());
        let mut tensors = Vec::with_capacity(counts.clone().sum());
        for (i, count) in counts.enumerate() {
            tensors.extend((0..count).map(|index| (i as u32, index as u32)));
        }
        let all = Self {
            origin: origin.to_path_buf(),
            files,
            tensors: Vec::new(),
        };
        tensors.sort_unstable_by_key(|&tensor| (all.name(tensor), tensor.0));
        if let Some(pair) = tensors.windows(2).find(|pair| all.name(pair[0]) == all.name(pair[1])) {
            let [first, second] = [pair[0], pair[1]].map(|(file, _)| all.files[file as usize].path.as_path());
            return Err(ModelError::Tensor {
                origin: first.display().to_string(),
                tensor: shortened(all.name(pair[0])),
                message: format!("is in {} as well", second.display()),
            });
        }
        Ok(Self { tensors, ..all })
    }

    fn name(&self, (file, index): (u32, u32)) -> &str {
        let file = &self.files[file as usize];
        file.header.name(file.bytes.get(), index as usize)
    }

    /// The files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }
}

impl Source for Safetensors {
    fn origin(&self) -> &Path {
        &self.origin
    }

    fn find(&self, name: &str) -> Option<Raw<'_>> {
        let at = self
            .tensors
            .binary_search_by(|&tensor| self.name(tensor).cmp(name))
            .ok()?;
        let (file, index) = self.tensors[at];
        self.files[file as usize].raw(index as usize)
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.tensors.iter().map(|&tensor| self.name(tensor)))
    }
}

impl File {
    fn open(path: PathBuf) -> Result<Self, ModelError> {
        let map = map(&path)?;
        Self::new(path, Bytes::Mapped(map))
    }

    fn new(path: PathBuf, bytes: Bytes) -> Result<Self, ModelError> {
        match Header::read(bytes.get()) {
            Ok(header) => Ok(Self { path, bytes, header }),
            Err(Fault {
                tensor: Some(tensor),
                message,
            }) => Err(ModelError::Tensor {
                origin: path.display().to_string(),
                tensor,
                message,
            }),
            Err(Fault { message, .. }) => Err(ModelError::File { path, message }),
        }
    }

    fn raw(&self, index: usize) -> Option<Raw<'_>> {
        let bytes = self.bytes.get();
        // Read once before, when the file was opened.
        let info = self.header.info(bytes, index).ok()?;
        Some(Raw {
            file: &self.path,
            name: self.header.name(bytes, index),
            dtype: info.dtype,
            shape: info.shape,
            bytes: self.header.bytes(bytes, &info),
        })
    }
}

fn io(path: &Path, source: std::io::Error) -> ModelError {
    ModelError::Io {
        path: path.to_path_buf(),
        source,
    }
}

fn map(path: &Path) -> Result<Mmap, ModelError> {
    let file = std::fs::File::open(path).map_err(|e| io(path, e))?;
    // SAFETY: the map is read-only and lives as long as the slices lent from it. That nobody changes the file meanwhile is asked of the
    // caller of `open`; no system offers a way to make sure of it.
    unsafe { Mmap::map(&file) }.map_err(|e| io(path, e))
}
