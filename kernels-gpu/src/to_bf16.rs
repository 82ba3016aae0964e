//! f32 rows rounded to bf16: between a product whose outputs are f32 (Q8_0's) and an operation that takes bf16.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | x | `[n_tok][n]`, tokens `x_stride` elements apart | f32 |
//! | y | `[n_tok][n]`, tokens `y_stride` elements apart | bf16 |
//!
//! Order (docs/numerics.md, "Conventions"): none to choose, each output is one rounding to nearest even; a NaN becomes 0x7FFF.
//!
//! One thread does 8 neighbours of one token; threads do not meet. Any n, any strides and fewer than 2^31 threads: 16-byte
//! accesses where an address is a multiple of 16, single elements elsewhere.
//!
//! | version | what | measured |
//! | --- | --- | --- |
//! | plain | one thread, one vector of 8 | H200: n = 24576, 1 token 1.6 us; 512 tokens 19.6 us, 91 % of the roof; 2048 tokens 71.2 us, 100 % |

use cuda_std::{kernel, thread};
use half::bf16;

use crate::{logits, rows};

/// Threads of a block.
pub const THREADS: u32 = 256;
/// Elements that one thread does.
pub const VECTOR: u32 = rows::VECTOR;

/// Blocks of a launch.
pub const fn grid(n: u64, n_tok: u64) -> u64 {
    (n_tok * n.div_ceil(VECTOR as u64)).div_ceil(THREADS as u64)
}

/// Grid: x over [`grid`] blocks.
///
/// # Safety
/// The tensors must have the shapes of the module's table, on the device.
#[kernel(threads = 256)]
pub unsafe fn to_bf16(x: *const f32, y: *mut bf16, n: u32, n_tok: u32, x_stride: u32, y_stride: u32) {
    let vectors = n.div_ceil(VECTOR);
    let i = thread::index_1d();
    if vectors == 0 || i >= n_tok * vectors {
        return;
    }
    let (token, first) = ((i / vectors) as usize, i % vectors * VECTOR);
    let (count, at) = (n - first, first as usize);
    // SAFETY: token < n_tok and first < n.
    let from = unsafe { x.add(token * x_stride as usize + at) };
    // SAFETY: likewise; of the second half there is what count has above 4.
    let (a, b) = unsafe {
        (
            logits::load4(from, count),
            logits::load4(from.wrapping_add(4), count.saturating_sub(4)),
        )
    };
    let v = rows::narrow::<bf16>([a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]]);
    // SAFETY: as above.
    unsafe { rows::store8(y.add(token * y_stride as usize + at), v, count) };
}
