//! What elements of tensors are.

use std::fmt;

/// What a tensor's elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// GGUF's blocks of 32: the scale as f16, then 32 i8.
    Q8_0,
    /// Bytes: NVFP4's codes, two to a byte.
    U8,
    /// FP8 of four exponent bits, without infinities: NVFP4's block scales.
    F8E4M3,
    /// Another, by its name in the file's format. No weights of it are read.
    Other(&'static str),
}

impl Dtype {
    /// Elements and bytes of a block: 1 and the size of an element where there are no blocks. `None` for [`Dtype::Other`].
    pub fn block(self) -> Option<(u64, u64)> {
        match self {
            Dtype::F32 => Some((1, 4)),
            Dtype::F16 | Dtype::Bf16 => Some((1, 2)),
            Dtype::Q8_0 => Some((32, 34)),
            Dtype::U8 | Dtype::F8E4M3 => Some((1, 1)),
            Dtype::Other(_) => None,
        }
    }

    /// Whether its elements are plain numbers that become bf16: F32, F16, BF16.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F32 | Dtype::F16 | Dtype::Bf16)
    }
}

impl fmt::Display for Dtype {
    /// The name in the file's format.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
            Dtype::Q8_0 => "Q8_0",
            Dtype::U8 => "U8",
            Dtype::F8E4M3 => "F8_E4M3",
            Dtype::Other(name) => name,
        })
    }
}
