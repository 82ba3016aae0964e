//! The product of tensors on a device, for callers with buffers of their own.

use std::fmt;

use half::{bf16, f16};
use kernels_gpu::gemm::{self as kernels, Choice};
use kernels_gpu::{gemm_hopper, gemm_skinny};

use super::GemmCall;
use crate::device::{Buffer, DevPtr, Device, Stream};
use crate::op::OpError;
use crate::op::call::Call;
use crate::op::data::Float;
use crate::op::spec::{Element, PLAIN};
use crate::reference::gemm::Number;

/// The tensors of a product on a device.
#[derive(Clone, Copy, Debug)]
pub struct Buffers<'a> {
    /// `[m][k]`.
    pub a: &'a Buffer,
    /// `[n][k]`.
    pub w: &'a Buffer,
    /// `[n]`.
    pub bias: Option<&'a Buffer>,
    /// `[m][n]`; not where y is f32.
    pub residual: Option<&'a Buffer>,
    /// `[m][n]`.
    pub y: &'a Buffer,
    /// Whether y is f32 and not of the operands' dtype.
    pub out_f32: bool,
}

/// y = a w^T + bias + residual by the plain kernel, for `[m, n, k]`, operands of dtype `T`. Nothing is launched where m is 0.
///
/// # Errors
/// [`OpError::Shape`]: a buffer is too small, n or k is 0, a residual with an f32 output. The device's.
pub fn multiply<T: Kernels>(
    device: &Device,
    stream: &Stream,
    buffers: Buffers,
    [m, n, k]: [u32; 3],
) -> Result<(), OpError> {
    let Buffers {
        a,
        w,
        bias,
        residual,
        y,
        out_f32,
    } = buffers;
    let (rows, columns, inner) = (m as usize, n as usize, k as usize);
    let needs = [
        (Some(a), 2 * rows * inner),
        (Some(w), 2 * columns * inner),
        (bias, 2 * columns),
        (residual, 2 * rows * columns),
        (Some(y), if out_f32 { 4 } else { 2 } * rows * columns),
    ];
    for (buffer, wanted) in needs {
        if let Some(buffer) = buffer.filter(|buffer| buffer.len_bytes() < wanted) {
            return Err(OpError::Shape(format!(
                "{} has {} bytes, and a product of [{m}][{k}] by [{n}][{k}] needs {wanted}",
                buffer.name(),
                buffer.len_bytes()
            )));
        }
    }
    let optional = |buffer: Option<&Buffer>| buffer.map_or(DevPtr::NULL, DevPtr::of);
    let call = GemmCall::<T> {
        a: DevPtr::of(a),
        w: DevPtr::of(w),
        bias: optional(bias),
        residual: optional(residual),
        y: DevPtr::of(y),
        m,
        n,
        k,
        out_f32,
    };
    call.launch(device, stream, PLAIN)
}

/// A dtype of operands.
pub trait Kernels: Element + Float + Number + fmt::Debug {
    /// The kernel of a tile.
    #[doc(hidden)]
    fn kernel(choice: Choice) -> Kernel;
    /// The kernel of a config of Hopper's.
    #[doc(hidden)]
    fn hopper(entry: &gemm_hopper::Entry) -> cuda_std::launch::Kernel<gemm_hopper::Args>;
    /// The kernel of a config for few tokens or few outputs.
    #[doc(hidden)]
    fn skinny(entry: &gemm_skinny::Entry) -> Kernel;
}

/// The parameters of the kernels that take pointers: a, w, bias, residual, y, m, n, k, out_f32.
pub(super) type Args = (
    *const u16,
    *const u16,
    *const u16,
    *const u16,
    *mut u8,
    u32,
    u32,
    u32,
    u32,
);

/// The kernels' type.
pub type Kernel = cuda_std::launch::Kernel<Args>;

impl Kernels for bf16 {
    fn kernel(choice: Choice) -> Kernel {
        match choice {
            Choice::Wide => kernels::gemm_bf16_wide::KERNEL,
            Choice::Middle => kernels::gemm_bf16_middle::KERNEL,
            Choice::Thin => kernels::gemm_bf16_thin::KERNEL,
        }
    }

    fn hopper(entry: &gemm_hopper::Entry) -> cuda_std::launch::Kernel<gemm_hopper::Args> {
        entry.bf16
    }

    fn skinny(entry: &gemm_skinny::Entry) -> Kernel {
        entry.bf16
    }
}

impl Kernels for f16 {
    fn kernel(choice: Choice) -> Kernel {
        match choice {
            Choice::Wide => kernels::gemm_f16_wide::KERNEL,
            Choice::Middle => kernels::gemm_f16_middle::KERNEL,
            Choice::Thin => kernels::gemm_f16_thin::KERNEL,
        }
    }

    fn hopper(entry: &gemm_hopper::Entry) -> cuda_std::launch::Kernel<gemm_hopper::Args> {
        entry.f16
    }

    fn skinny(entry: &gemm_skinny::Entry) -> Kernel {
        entry.f16
    }
}
