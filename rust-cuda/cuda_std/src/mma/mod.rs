//! Tensor cores by `mma.sync`.
//!
//! Every function is issued by the whole warp, and takes and gives matrices as the instruction's registers. What they compute on
//! the simulator is, to the bit, what the tensor cores of an H200 compute (`simt::tensor` has the model).

mod float;
mod s8;

pub use float::{m16n8k16_bf16, m16n8k16_f16};
pub use s8::m16n8k32_s8;
