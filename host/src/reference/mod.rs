//! The plain CPU path: each operation's formulas in its canonical order, written to be read.
//!
//! Nothing here shares code with `kernels-gpu`, not even a layout or a rounding: a check compares two pieces of code.

pub mod attention;
pub mod embedding;
pub mod gdn;
pub mod gdn_prefill;
pub mod gemm;
pub mod kv_append;
pub mod mma;
pub mod model;
pub mod moe;
pub mod norms;
pub mod nvfp4;
pub mod q8;
pub mod rope;
pub mod rows;
pub mod sampling;
pub mod silu_mul;
pub mod synthetic;
pub mod to_bf16;

use half::bf16;

/// Data that does not fit the shape a reference was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{tensor} has {got} elements, and its shape {shape} needs {wanted}")]
pub struct ReferenceError {
    /// The tensor.
    pub tensor: &'static str,
    /// Its shape, as text.
    pub shape: String,
    /// Elements it should have.
    pub wanted: usize,
    /// Elements it has.
    pub got: usize,
}

/// The nearest bf16, ties to even; a NaN is the one NaN that results have, 0x7FFF.
fn to_bf16(v: f32) -> bf16 {
    if v.is_nan() {
        bf16::from_bits(0x7FFF)
    } else {
        bf16::from_f32(v)
    }
}

fn expect(tensor: &'static str, got: usize, shape: &[(&str, usize)]) -> Result<(), ReferenceError> {
    // Saturating: a shape beyond memory is unequal to any length.
    let wanted = shape
        .iter()
        .fold(1usize, |product, (_, size)| product.saturating_mul(*size));
    if got == wanted {
        return Ok(());
    }
    let shape: Vec<String> = shape.iter().map(|(axis, size)| format!("{axis} {size}")).collect();
    Err(ReferenceError {
        tensor,
        shape: format!("[{}]", shape.join(", ")),
        wanted,
        got,
    })
}
