//! The product of tensors on a device, for callers with buffers of their own.

use half::{bf16, f16};
use kernels_gpu::gemm::{self as kernels, Choice};

use super::common::launch_dims;
use crate::device::{Buffer, Device, Stream};
use crate::op::OpError;
use crate::op::data::Float;
use crate::op::spec::Element;
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
    if n == 0 || k == 0 {
        return Err(OpError::Shape(format!(
            "a product of [{m}][{k}] by [{n}][{k}]: n and k are at least 1"
        )));
    }
    if out_f32 && residual.is_some() {
        return Err(OpError::Shape(
            "a residual is added to a 16-bit output, and y is f32".into(),
        ));
    }
    if m == 0 {
        return Ok(());
    }
    let choice = kernels::choose(m, n);
    let optional = |buffer: Option<&Buffer>| buffer.map_or(std::ptr::null(), |b| b.ptr_as::<u16>().cast_const());
    let args = (
        a.ptr_as::<u16>().cast_const(),
        w.ptr_as::<u16>().cast_const(),
        optional(bias),
        optional(residual),
        y.ptr(),
        m,
        n,
        k,
        u32::from(out_f32),
    );
    let dims = launch_dims(choice, m, n, kernels::shared(choice));
    Ok(device.launch(stream, &T::kernel(choice), dims, args)?)
}

/// A dtype of operands.
pub trait Kernels: Element + Float + Number {
    /// The kernel of a tile.
    #[doc(hidden)]
    fn kernel(choice: Choice) -> Kernel;
}

/// The kernels' type.
pub type Kernel = cuda_std::launch::Kernel<(
    *const u16,
    *const u16,
    *const u16,
    *const u16,
    *mut u8,
    u32,
    u32,
    u32,
    u32,
)>;

impl Kernels for bf16 {
    fn kernel(choice: Choice) -> Kernel {
        match choice {
            Choice::Wide => kernels::gemm_bf16_wide::KERNEL,
            Choice::Middle => kernels::gemm_bf16_middle::KERNEL,
            Choice::Thin => kernels::gemm_bf16_thin::KERNEL,
        }
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
}
