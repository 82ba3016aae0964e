//! Tensors of a problem: name, shape, element type, role and initial contents.

use bytemuck::Pod;
use half::{bf16, f16};

/// An element type of tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// f32.
    F32,
    /// bf16.
    Bf16,
    /// f16.
    F16,
    /// Bytes: also of packed formats (NVFP4, E4M3, GGUF blocks).
    U8,
    /// int8.
    I8,
    /// int32.
    I32,
    /// uint32.
    U32,
    /// uint64.
    U64,
}

impl Dtype {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::U8 | Dtype::I8 => 1,
            Dtype::Bf16 | Dtype::F16 => 2,
            Dtype::F32 | Dtype::I32 | Dtype::U32 => 4,
            Dtype::U64 => 8,
        }
    }

    /// The bits of an element, and its value where it is a float. `bytes` are its own, little-endian.
    pub fn show(self, bytes: &[u8]) -> String {
        let mut word = [0u8; 8];
        word[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
        let bits = u64::from_le_bytes(word);
        let digits = 2 * self.bytes();
        let value = match self {
            Dtype::F32 => f32::from_bits(bits as u32),
            Dtype::Bf16 => bf16::from_bits(bits as u16).to_f32(),
            Dtype::F16 => f16::from_bits(bits as u16).to_f32(),
            _ => return format!("0x{bits:0digits$X}"),
        };
        format!("0x{bits:0digits$X} ({value:e})")
    }

    /// The name: `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
            Dtype::F16 => "f16",
            Dtype::U8 => "u8",
            Dtype::I8 => "i8",
            Dtype::I32 => "i32",
            Dtype::U32 => "u32",
            Dtype::U64 => "u64",
        }
    }
}

/// A Rust type that is a tensor's element.
pub trait Element: Pod {
    /// Its dtype.
    const DTYPE: Dtype;
}

macro_rules! elements {
    ($($t:ty: $dtype:ident),*) => { $(impl Element for $t { const DTYPE: Dtype = Dtype::$dtype; })* };
}
elements!(f32: F32, bf16: Bf16, f16: F16, u8: U8, i8: I8, i32: I32, u32: U32, u64: U64);

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Read only, and one for each copy of the operands: timed launches rotate over the copies, so it comes from memory and
    /// not from a cache. Weights, caches, and activations that are the bulk of what an operation reads.
    Weight,
    /// Read only, one for all copies: small, and warm in a model too.
    Input,
    /// Written and read by the kernels; unwritten at first.
    Scratch,
    /// Read and written. Compared; set back to its first contents before each check.
    InOut,
    /// Written. Compared; unwritten at first.
    Output,
}

impl Role {
    /// Whether its bytes are part of the answer.
    pub fn compared(self) -> bool {
        matches!(self, Role::InOut | Role::Output)
    }
}

/// One tensor of a problem.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    /// The name, unique in the problem.
    pub name: &'static str,
    /// Names and sizes of its dimensions, outermost first. They name what a wrong byte belongs to.
    pub dims: Vec<(&'static str, usize)>,
    /// The elements.
    pub dtype: Dtype,
    /// What it is for.
    pub role: Role,
    /// Its contents; empty for scratch and outputs.
    pub data: &'a [u8],
}

impl<'a> Tensor<'a> {
    fn with_data<T: Element>(role: Role, name: &'static str, dims: &[(&'static str, usize)], data: &'a [T]) -> Self {
        Self {
            name,
            dims: dims.to_vec(),
            dtype: T::DTYPE,
            role,
            data: bytemuck::cast_slice(data),
        }
    }

    fn without_data<T: Element>(role: Role, name: &'static str, dims: &[(&'static str, usize)]) -> Self {
        Self::with_data::<T>(role, name, dims, &[])
    }

    /// [`Role::Weight`].
    pub fn weight<T: Element>(name: &'static str, dims: &[(&'static str, usize)], data: &'a [T]) -> Self {
        Self::with_data(Role::Weight, name, dims, data)
    }

    /// [`Role::Input`].
    pub fn input<T: Element>(name: &'static str, dims: &[(&'static str, usize)], data: &'a [T]) -> Self {
        Self::with_data(Role::Input, name, dims, data)
    }

    /// [`Role::InOut`].
    pub fn in_out<T: Element>(name: &'static str, dims: &[(&'static str, usize)], data: &'a [T]) -> Self {
        Self::with_data(Role::InOut, name, dims, data)
    }

    /// [`Role::Scratch`].
    pub fn scratch<T: Element>(name: &'static str, dims: &[(&'static str, usize)]) -> Self {
        Self::without_data::<T>(Role::Scratch, name, dims)
    }

    /// [`Role::Output`].
    pub fn output<T: Element>(name: &'static str, dims: &[(&'static str, usize)]) -> Self {
        Self::without_data::<T>(Role::Output, name, dims)
    }

    /// Elements, by its dimensions.
    pub fn len(&self) -> usize {
        self.dims.iter().map(|(_, size)| size).product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes, by its dimensions.
    pub fn len_bytes(&self) -> usize {
        self.len() * self.dtype.bytes()
    }

    /// What one of its bytes belongs to: `y[token 3][17] byte 1`. The name of the last dimension is left out.
    pub fn coords(&self, byte: usize) -> String {
        let element = byte / self.dtype.bytes();
        let mut rest = self.len();
        let mut at = element;
        let mut text = self.name.to_string();
        for (i, (name, size)) in self.dims.iter().enumerate() {
            rest /= (*size).max(1);
            let index = at / rest.max(1);
            at %= rest.max(1);
            let name = name.strip_prefix("n_").unwrap_or(name);
            let name = if name == "tok" { "token" } else { name };
            if i + 1 < self.dims.len() {
                text += &format!("[{name} {index}]");
            } else {
                text += &format!("[{index}]");
            }
        }
        format!("{text} byte {}", byte % self.dtype.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_named_by_its_indices() {
        let y = Tensor::output::<bf16>("y", &[("n_tok", 4), ("head", 3), ("n", 5)]);
        assert_eq!((y.len(), y.len_bytes()), (60, 120));
        assert_eq!(y.coords(0), "y[token 0][head 0][0] byte 0");
        assert_eq!(Dtype::Bf16.show(&[0x80, 0x3F]), "0x3F80 (1e0)");
        assert_eq!(Dtype::U8.show(&[7]), "0x07");
        assert_eq!(y.coords(2 * (2 * 15 + 5 + 3) + 1), "y[token 2][head 1][3] byte 1");
    }
}
