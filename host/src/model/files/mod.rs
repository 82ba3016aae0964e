//! Files of weights: tensors by their names, as bytes in a memory map.
//!
//! [`Safetensors`] is a folder of a Hugging Face checkpoint (or one file), and [`crate::gguf::Gguf`] is a source as well. Opening reads
//! headers alone; a tensor's pages are read when its bytes are.
//!
//! A file from anywhere is safe to open: sizes and places are checked before they are used, no memory is taken on the word of a length
//! in a file, and every fault is a [`ModelError`] that names the file, the tensor and the numbers.

mod dtype;
mod gguf;
mod header;
mod index;
mod json;
mod safetensors;

use std::fmt;
use std::path::Path;

use super::ModelError;

pub use dtype::Dtype;
pub use safetensors::Safetensors;

/// Tensors by name.
pub trait Source {
    /// The file or folder, for messages.
    fn origin(&self) -> &Path;

    /// A tensor by its whole name.
    fn find(&self, name: &str) -> Option<Raw<'_>>;

    /// Every tensor's name.
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_>;

    /// A tensor that must be there.
    ///
    /// # Errors
    /// [`ModelError::Missing`] with the names that are nearest.
    fn tensor(&self, name: &str) -> Result<Raw<'_>, ModelError> {
        self.find(name).ok_or_else(|| self.missing(name, ""))
    }

    /// The error for a tensor that is not there: `wanted` says what else would have done, and the nearest names are added.
    fn missing(&self, name: &str, wanted: &str) -> ModelError {
        let nearest = nearest(name, self.names());
        let hint = match nearest.as_slice() {
            [] => format!("{wanted}; there are no tensors at all"),
            names => format!("{wanted}; the nearest names are {}", names.join(", ")),
        };
        ModelError::Missing {
            origin: self.origin().display().to_string(),
            tensor: shortened(name),
            hint,
        }
    }
}

/// A tensor in a file's memory.
#[derive(Clone, Copy)]
pub struct Raw<'a> {
    /// The file it is in.
    pub file: &'a Path,
    /// Its name.
    pub name: &'a str,
    /// What its elements are.
    pub dtype: Dtype,
    /// Its dimensions.
    pub shape: Shape,
    /// Its elements or blocks, little-endian, rows one after another; empty where [`Dtype::Other`] has no bytes that are read.
    pub bytes: &'a [u8],
}

impl fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.dtype, self.shape)
    }
}

impl Raw<'_> {
    /// An error about this tensor.
    pub fn error(&self, message: impl Into<String>) -> ModelError {
        ModelError::Tensor {
            origin: self.file.display().to_string(),
            tensor: shortened(self.name),
            message: message.into(),
        }
    }
}

/// Dimensions of a tensor; the last runs fastest. A matrix is `[rows][k]`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    dims: [u64; Shape::MOST],
    rank: usize,
}

impl Shape {
    /// Most dimensions of a tensor.
    pub const MOST: usize = 8;

    /// Of so many dimensions; `None` for more than [`Shape::MOST`], or more elements than fit 63 bits (zeros counted as ones, so that a
    /// zero does not hide the others).
    pub fn new(dims: &[u64]) -> Option<Self> {
        let mut all = [0; Shape::MOST];
        all.get_mut(..dims.len())?.copy_from_slice(dims);
        dims.iter()
            .try_fold(1_u64, |product, &n| product.checked_mul(n.max(1)))
            .filter(|product| *product <= i64::MAX as u64)?;
        Some(Self {
            dims: all,
            rank: dims.len(),
        })
    }

    /// The dimensions, none for a scalar.
    pub fn dims(&self) -> &[u64] {
        &self.dims[..self.rank]
    }

    /// Elements in all.
    pub fn elements(&self) -> u64 {
        self.dims().iter().product()
    }

    /// Elements of a row: the last dimension; 1 for a scalar.
    pub fn k(&self) -> u64 {
        self.dims().last().copied().unwrap_or(1)
    }

    /// Rows: the product of the other dimensions.
    pub fn rows(&self) -> u64 {
        self.dims[..self.rank.saturating_sub(1)].iter().product()
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Shape {
    /// `[1024][2048]`, `[]` for a scalar.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dims() {
            [] => f.write_str("[]"),
            dims => dims.iter().try_for_each(|n| write!(f, "[{n}]")),
        }
    }
}

/// A text of a file for a message: the beginning, where it is long.
pub(super) fn shortened(text: &str) -> String {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_string(),
    }
}

/// The names that share most with `name` at their beginnings and ends, at most three.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let common =
        |a: &mut dyn Iterator<Item = u8>, b: &mut dyn Iterator<Item = u8>| a.zip(b).take_while(|(a, b)| a == b).count();
    let score = |other: &str| {
        let first = common(&mut name.bytes(), &mut other.bytes());
        let rest = name.len().min(other.len()) - first;
        first + common(&mut name.bytes().rev(), &mut other.bytes().rev()).min(rest)
    };
    let mut best: Vec<(usize, &str)> = Vec::with_capacity(4);
    for other in names {
        let entry = (score(other), other);
        // The best first; of equals the shorter, then the alphabet's first.
        let at = best.partition_point(|(s, n)| (entry.0, n.len(), *n) <= (*s, other.len(), other));
        best.insert(at, entry);
        best.truncate(3);
    }
    best.into_iter()
        .map(|(_, name)| format!("`{}`", shortened(name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_count_rows_and_elements() {
        let shape = Shape::new(&[3, 4, 5]).unwrap();
        assert_eq!((shape.rows(), shape.k(), shape.elements()), (12, 5, 60));
        assert_eq!(shape.to_string(), "[3][4][5]");
        let scalar = Shape::new(&[]).unwrap();
        assert_eq!((scalar.rows(), scalar.k(), scalar.elements()), (1, 1, 1));
        let vector = Shape::new(&[7]).unwrap();
        assert_eq!((vector.rows(), vector.k(), vector.elements()), (1, 7, 7));
        assert_eq!(Shape::new(&[0, 5]).unwrap().elements(), 0);
        assert!(Shape::new(&[1; 8]).is_some() && Shape::new(&[1; 9]).is_none());
        assert!(Shape::new(&[1 << 31, 1 << 31]).is_some());
        assert!(Shape::new(&[1 << 32, 0, 1 << 31]).is_none());
    }

    #[test]
    fn the_nearest_names_come_first() {
        let names = [
            "model.norm.weight",
            "lm_head.weight",
            "model.layers.0.mlp.up_proj.weight",
            "x",
        ];
        let found = nearest("model.layers.1.mlp.up_proj.weight", names.into_iter());
        assert_eq!(
            found,
            [
                "`model.layers.0.mlp.up_proj.weight`",
                "`model.norm.weight`",
                "`lm_head.weight`"
            ]
        );
        assert!(nearest("a", std::iter::empty()).is_empty());
        assert_eq!(shortened(&"é".repeat(300)).chars().count(), 203);
    }
}
