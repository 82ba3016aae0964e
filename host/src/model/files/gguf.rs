//! A GGUF file as a source: ggml's dimensions the other way round.

use std::path::Path;

use super::{Dtype, Raw, Shape, Source};
use crate::gguf::{GgmlType, Gguf};

impl Source for Gguf {
    fn origin(&self) -> &Path {
        self.path()
    }

    fn find(&self, name: &str) -> Option<Raw<'_>> {
        // Its only error is a name that is not there.
        let tensor = Gguf::tensor(self, name).ok()?;
        let dtype = match tensor.ty() {
            GgmlType::F32 => Dtype::F32,
            GgmlType::F16 => Dtype::F16,
            GgmlType::BF16 => Dtype::Bf16,
            GgmlType::Q8_0 => Dtype::Q8_0,
            other => Dtype::Other(other.name().unwrap_or("a type that is not known")),
        };
        let mut dims = [0; 4];
        let dims = &mut dims[..tensor.dims().len()];
        dims.copy_from_slice(tensor.dims());
        dims.reverse();
        Some(Raw {
            file: self.path(),
            name: tensor.name(),
            dtype,
            // At most four dimensions, whose elements were counted when the file was opened.
            shape: Shape::new(dims)?,
            bytes: tensor.bytes().unwrap_or_default(),
        })
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.tensors().map(|tensor| tensor.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every tensor of a file that the `gguf` Python package wrote.
    #[test]
    fn dimensions_are_reversed_and_bytes_are_the_files() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/every-type.gguf");
        let file = Gguf::open(path).unwrap();
        let source: &dyn Source = &file;
        assert_eq!(source.names().count(), file.tensor_count());
        let mut matrices = 0;
        for tensor in file.tensors() {
            let raw = source.tensor(tensor.name()).unwrap();
            assert_eq!(raw.shape.elements(), tensor.elements());
            assert_eq!(
                (raw.shape.k(), raw.shape.rows()),
                (tensor.row_len(), tensor.rows()),
                "{raw:?}"
            );
            matrices += usize::from(raw.shape.k() != raw.shape.rows() && raw.shape.rows() > 1);
            assert_eq!(raw.dtype.to_string(), tensor.ty().to_string());
            assert_eq!(raw.bytes, tensor.bytes().unwrap_or_default());
            if let Some((block, bytes)) = raw.dtype.block() {
                assert_eq!(raw.bytes.len() as u64, raw.shape.elements() / block * bytes);
            }
        }
        assert!(matrices > 0, "the order of the dimensions was not tested");
        let missing = source.tensor("no such tensor").unwrap_err().to_string();
        assert!(
            missing.contains("every-type.gguf: tensor `no such tensor` is missing; the nearest names are `"),
            "{missing}"
        );
    }
}
