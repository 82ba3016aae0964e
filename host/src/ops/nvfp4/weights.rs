//! NVFP4 weights: whose convention, which names, and the tensors on a device.

use std::fmt;

use half::{bf16, f16};
use kernels_gpu::{gemm::Choice, nvfp4_matmul as kernels};

use super::{BLOCK, Nvfp4MatmulCall};
use crate::device::{Buffer, DevPtr, Device, Stream};
use crate::op::OpError;
use crate::op::call::Call;
use crate::op::spec::{Element, PLAIN};
use crate::reference;

/// Who wrote a checkpoint. The two store the tensor scale the other way up, and as f32 their reciprocals differ, so it is kept
/// as it is stored and applied as its writer means it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Convention {
    /// NVIDIA ModelOpt: the product is multiplied by `weight_scale_2` = amax / 2688.
    ModelOpt,
    /// compressed-tensors: the product is divided by `weight_global_scale` = 2688 / amax.
    CompressedTensors,
}

impl Convention {
    /// Both.
    pub const ALL: [Convention; 2] = [Convention::ModelOpt, Convention::CompressedTensors];

    /// By its number in shape files: 0 is ModelOpt, 1 compressed-tensors.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// The last parts of the names of codes, block scales and tensor scale in a checkpoint: `...q_proj.weight_packed`.
    pub fn names(self) -> [&'static str; 3] {
        match self {
            Convention::ModelOpt => ["weight", "weight_scale", "weight_scale_2"],
            Convention::CompressedTensors => ["weight_packed", "weight_scale", "weight_global_scale"],
        }
    }

    /// What kernels take: whether the tensor scale divides.
    pub(in crate::ops) fn divide(self) -> u32 {
        u32::from(self == Convention::CompressedTensors)
    }

    /// The reference's own name for it.
    pub(in crate::ops) fn reference(self) -> reference::nvfp4::Convention {
        match self {
            Convention::ModelOpt => reference::nvfp4::Convention::ModelOpt,
            Convention::CompressedTensors => reference::nvfp4::Convention::CompressedTensors,
        }
    }
}

/// One weight matrix as a checkpoint has it, on the host.
#[derive(Clone, Copy, Debug)]
pub struct Nvfp4Tensors<'a> {
    /// `[n][k / 2]`: two E2M1 a byte, the low nibble is the even k.
    pub codes: &'a [u8],
    /// `[n][k / 16]` E4M3.
    pub scales: &'a [u8],
    /// As stored.
    pub tensor_scale: f32,
    /// What the tensor scale means.
    pub convention: Convention,
}

impl<'a> Nvfp4Tensors<'a> {
    /// Finds the three tensors of a layer by their names under its prefix (`model.layers.0.mlp.gate_proj`), in whichever convention
    /// the checkpoint has; `find` gives a tensor's bytes by its whole name.
    ///
    /// # Errors
    /// [`OpError::Shape`]: neither convention's names are all there, or the tensor scale is no single f32.
    pub fn find(prefix: &str, find: impl Fn(&str) -> Option<&'a [u8]>) -> Result<Self, OpError> {
        for convention in Convention::ALL {
            let [codes, scales, scale] = convention.names().map(|name| find(&format!("{prefix}.{name}")));
            let (Some(codes), Some(scales), Some(scale)) = (codes, scales, scale) else {
                continue;
            };
            let Ok(bytes) = scale.try_into() else {
                let name = convention.names()[2];
                return Err(OpError::Shape(format!(
                    "{prefix}.{name} has {} bytes; a tensor scale is one f32, 4 bytes",
                    scale.len()
                )));
            };
            let tensor_scale = f32::from_le_bytes(bytes);
            return Ok(Self {
                codes,
                scales,
                tensor_scale,
                convention,
            });
        }
        let all = Convention::ALL.map(|c| c.names().join(", "));
        Err(OpError::Shape(format!(
            "{prefix} has no NVFP4 weights: neither {} nor {} are all there",
            all[0], all[1]
        )))
    }
}

/// One weight matrix `[n][k]` on a device, ready for products.
#[derive(Debug)]
pub struct Nvfp4Matrix {
    codes: Buffer,
    scales: Buffer,
    tensor_scale: Buffer,
    convention: Convention,
    n: u32,
    k: u32,
}

impl Nvfp4Matrix {
    /// Copies a matrix of `n` rows of `k` to a device; `name` is for messages.
    ///
    /// # Errors
    /// [`OpError::Shape`]: k is no multiple of 16, or a tensor has not the size of its shape. The device's.
    pub fn upload(device: &Device, tensors: Nvfp4Tensors, n: u32, k: u32, name: &str) -> Result<Self, OpError> {
        if n == 0 || k == 0 || !k.is_multiple_of(BLOCK) {
            return Err(OpError::Shape(format!(
                "{name}: [{n}][{k}]; NVFP4 takes at least one row, of a multiple of {BLOCK} values"
            )));
        }
        let [codes, scales, _] = tensors.convention.names();
        for (what, got, wanted) in [
            (codes, tensors.codes.len(), n as usize * (k / 2) as usize),
            (scales, tensors.scales.len(), n as usize * (k / BLOCK) as usize),
        ] {
            if got != wanted {
                return Err(OpError::Shape(format!(
                    "{name}.{what} has {got} bytes, and [{n}][{k}] needs {wanted}"
                )));
            }
        }
        let put = |what: &str, bytes: &[u8]| -> Result<Buffer, OpError> {
            let buffer = device.alloc(bytes.len(), &format!("{name}.{what}"))?;
            buffer.upload(bytes)?;
            Ok(buffer)
        };
        Ok(Self {
            codes: put("codes", tensors.codes)?,
            scales: put("scales", tensors.scales)?,
            tensor_scale: put("tensor_scale", &tensors.tensor_scale.to_le_bytes())?,
            convention: tensors.convention,
            n,
            k,
        })
    }

    /// Whose convention.
    pub fn convention(&self) -> Convention {
        self.convention
    }

    /// y = a w^T with the tensor scale, by the plain kernel: a `[n_tok][k]`, bias `[n]`, y `[n_tok][n]` of f32 or of a's dtype `T`.
    /// Nothing is launched for no tokens.
    ///
    /// # Errors
    /// [`OpError::Shape`]: a buffer is too small. The device's.
    pub fn multiply<T: Matmul>(
        &self,
        device: &Device,
        stream: &Stream,
        a: &Buffer,
        bias: Option<&Buffer>,
        y: (&Buffer, bool),
        n_tok: u32,
    ) -> Result<(), OpError> {
        let (y, f32) = y;
        let size = if f32 { 4 } else { 2 };
        let (m, n, k) = (n_tok as usize, self.n as usize, self.k as usize);
        for (buffer, wanted) in [(Some(a), 2 * m * k), (bias, 2 * n), (Some(y), size * m * n)] {
            if let Some(buffer) = buffer.filter(|buffer| buffer.len_bytes() < wanted) {
                return Err(OpError::Shape(format!(
                    "{} has {} bytes, and a product of [{n_tok}][{k}] by [{n}][{k}] needs {wanted}",
                    buffer.name(),
                    buffer.len_bytes()
                )));
            }
        }
        let call = Nvfp4MatmulCall::<T> {
            a: DevPtr::of(a),
            codes: DevPtr::of(&self.codes),
            scales: DevPtr::of(&self.scales),
            tensor_scale: DevPtr::of(&self.tensor_scale),
            convention: self.convention,
            bias: bias.map_or(DevPtr::NULL, DevPtr::of),
            y: DevPtr::of(y),
            m: n_tok,
            n: self.n,
            k: self.k,
            out_f32: f32,
        };
        call.launch(device, stream, PLAIN)
    }
}

/// A dtype of activations.
pub trait Matmul: Element + fmt::Debug {
    /// The kernel of a tile.
    #[doc(hidden)]
    fn kernel(choice: Choice) -> Kernel;
}

/// The kernels' type.
pub type Kernel = cuda_std::launch::Kernel<(
    *const u16,
    *const u8,
    *const u8,
    *const f32,
    u32,
    *const u16,
    *mut u8,
    u32,
    u32,
    u32,
    u32,
)>;

impl Matmul for bf16 {
    fn kernel(choice: Choice) -> Kernel {
        match choice {
            Choice::Wide => kernels::nvfp4_matmul_bf16_wide::KERNEL,
            Choice::Middle => kernels::nvfp4_matmul_bf16_middle::KERNEL,
            Choice::Thin => kernels::nvfp4_matmul_bf16_thin::KERNEL,
        }
    }
}

impl Matmul for f16 {
    fn kernel(choice: Choice) -> Kernel {
        match choice {
            Choice::Wide => kernels::nvfp4_matmul_f16_wide::KERNEL,
            Choice::Middle => kernels::nvfp4_matmul_f16_middle::KERNEL,
            Choice::Thin => kernels::nvfp4_matmul_f16_thin::KERNEL,
        }
    }
}
