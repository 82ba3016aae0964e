//! Tensors: ggml's types, and a tensor's bytes in the file's memory.

use super::error::{Fault, GgufError, shown};
use half::{bf16, f16};
use std::fmt;
use std::path::Path;

/// Elements of a Q8_0 block.
pub const Q8_0_BLOCK: usize = 32;
/// Bytes of a Q8_0 block: the scale as f16, then 32 i8.
pub const Q8_0_BLOCK_BYTES: usize = 34;

/// A tensor's type, by ggml's number. All known ones are listed; [`GgmlType::is_read`] says which are read.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct GgmlType(pub u32);

/// Number, name, elements of a block, bytes of a block. From ggml's type traits; a test compares them with the `gguf` Python
/// package's.
const TYPES: &[(u32, &str, u64, u64)] = &[
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 40),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
];

impl GgmlType {
    /// Single precision.
    pub const F32: GgmlType = GgmlType(0);
    /// Half precision.
    pub const F16: GgmlType = GgmlType(1);
    /// Blocks of 32: a scale as f16, then 32 i8.
    pub const Q8_0: GgmlType = GgmlType(8);
    /// Single precision cut to 16 bits.
    pub const BF16: GgmlType = GgmlType(30);

    /// ggml's name of the type; `None` for a number that is not known.
    pub fn name(self) -> Option<&'static str> {
        self.row().map(|r| r.1)
    }

    /// Elements and bytes of one block (1 and the element's size for types without blocks); `None` for a number that is not
    /// known.
    pub fn block(self) -> Option<(u64, u64)> {
        self.row().map(|r| (r.2, r.3))
    }

    /// Tensors of the type can be read: F32, F16, BF16 and Q8_0.
    pub fn is_read(self) -> bool {
        [Self::F32, Self::F16, Self::BF16, Self::Q8_0].contains(&self)
    }

    fn row(self) -> Option<&'static (u32, &'static str, u64, u64)> {
        TYPES.iter().find(|r| r.0 == self.0)
    }
}

impl fmt::Display for GgmlType {
    /// The name, or `type 99`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "type {}", self.0),
        }
    }
}

impl fmt::Debug for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A tensor in the file's memory.
#[derive(Clone, Copy)]
pub struct Tensor<'a> {
    pub(super) path: &'a Path,
    pub(super) name: &'a str,
    pub(super) ty: GgmlType,
    pub(super) n_dims: u32,
    pub(super) ne: [u64; 4],
    pub(super) offset: u64,
    /// Absent for a type whose size is not known.
    pub(super) bytes: Option<&'a [u8]>,
}

impl fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?} at byte {}", self.name, self.ty, self.dims(), self.offset)
    }
}

impl<'a> Tensor<'a> {
    /// The name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The type.
    pub fn ty(&self) -> GgmlType {
        self.ty
    }

    /// The dimensions in ggml's order, `ne`: the first runs fastest in memory. A matrix of N rows and K columns is `[K, N]`.
    /// None for a scalar.
    pub fn dims(&self) -> &[u64] {
        &self.ne[..self.n_dims as usize]
    }

    /// Elements of a row, `ne[0]`: what a matrix product sums over (K). 1 for a scalar.
    pub fn row_len(&self) -> u64 {
        self.ne[0]
    }

    /// Rows: the product of the other dimensions.
    pub fn rows(&self) -> u64 {
        self.ne[1..].iter().product()
    }

    /// Elements in all.
    pub fn elements(&self) -> u64 {
        self.row_len() * self.rows()
    }

    /// The byte in the file it starts at.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The tensor's bytes, as the file has them: little-endian elements, or blocks; rows one after another, without gaps.
    ///
    /// # Errors
    /// A type that is not read ([`GgmlType::is_read`]).
    pub fn bytes(&self) -> Result<&'a [u8], GgufError> {
        match self.bytes.filter(|_| self.ty.is_read()) {
            Some(bytes) => Ok(bytes),
            None => Err(self.error(
                Fault::Unsupported,
                format!(
                    "is {}; F32, F16, BF16 and Q8_0 are read. Convert it with llama.cpp's llama-quantize",
                    self.ty
                ),
            )),
        }
    }

    /// The elements as f32, row after row, into `out`, whose length must be [`Tensor::elements`]. Exact for F32, F16 and BF16;
    /// for Q8_0 one f32 multiplication an element, scale times value.
    ///
    /// # Errors
    /// A type that is not read, an `out` of another length.
    pub fn to_f32(&self, out: &mut [f32]) -> Result<(), GgufError> {
        let bytes = self.bytes()?;
        if out.len() as u64 != self.elements() {
            let message = format!("has {} elements, the buffer for them {}", self.elements(), out.len());
            return Err(self.error(Fault::Dims, message));
        }
        let half = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]);
        match self.ty {
            GgmlType::F32 => {
                for (o, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                    *o = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                }
            }
            GgmlType::F16 => {
                for (o, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                    *o = f16::from_bits(half(b)).to_f32();
                }
            }
            GgmlType::BF16 => {
                for (o, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                    *o = bf16::from_bits(half(b)).to_f32();
                }
            }
            _ => {
                for (o, b) in out
                    .chunks_exact_mut(Q8_0_BLOCK)
                    .zip(bytes.chunks_exact(Q8_0_BLOCK_BYTES))
                {
                    let scale = f16::from_bits(half(b)).to_f32();
                    for (o, &q) in o.iter_mut().zip(&b[2..]) {
                        *o = scale * f32::from(q as i8);
                    }
                }
            }
        }
        Ok(())
    }

    fn error(&self, fault: Fault, message: String) -> GgufError {
        let offset = usize::try_from(self.offset).unwrap_or(usize::MAX);
        GgufError::at(offset, fault, message)
            .about(|| format!("tensor {}", shown(self.name.as_bytes())))
            .in_file(self.path)
    }
}
