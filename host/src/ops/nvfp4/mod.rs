//! NVFP4: weights as checkpoints have them, the matrix product with them, and the quantiser that makes them.

mod call;
mod matmul;
mod quantize;
mod weights;

pub use call::Nvfp4MatmulCall;
pub use matmul::Nvfp4Matmul;
pub use quantize::Nvfp4Quantize;
pub use weights::{Convention, Matmul, Nvfp4Matrix, Nvfp4Tensors};

/// Values of a block, which share a scale.
pub const BLOCK: u32 = kernels_gpu::nvfp4_quantize::BLOCK;
