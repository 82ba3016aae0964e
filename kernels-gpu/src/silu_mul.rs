//! SwiGLU's elementwise half: y = bf16(silu(g) * u).
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | gate | `[n_tok][n]`, tokens `gate_stride` elements apart | bf16 |
//! | up | `[n_tok][n]`, tokens `up_stride` elements apart | bf16 |
//! | y | `[n_tok][n]` | bf16 |
//!
//! Gate and up of one product, `[n_tok][2][n]`, are up = gate + n and both strides 2 n.
//!
//! Order (docs/numerics.md, "Mixture of experts"): none to choose, each output is one silu, one product and one rounding.
//!
//! One thread does 8 neighbours of one token; threads do not meet. Any n, any strides and fewer than 2^31 threads: 16-byte
//! accesses where an address is a multiple of 16, single elements elsewhere.
//!
//! | version | what | measured |
//! | --- | --- | --- |
//! | 1 | one thread, one vector of 8; gate and up side by side | H200: shared_act, 8192 rows 13.9 us, 43 % of the roof |
//! | plain | gate and up anywhere | H200: shared_act, 8192 rows 15.2 us, 39 % of the roof |

use cuda_std::float::exact;
use cuda_std::{kernel, thread};
use half::bf16;

use crate::rows;

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
pub unsafe fn silu_mul(
    gate: *const bf16,
    up: *const bf16,
    y: *mut bf16,
    n: u32,
    n_tok: u32,
    gate_stride: u32,
    up_stride: u32,
) {
    let vectors = n.div_ceil(VECTOR);
    let i = thread::index_1d();
    if vectors == 0 || i >= n_tok * vectors {
        return;
    }
    let (token, first) = ((i / vectors) as usize, i % vectors * VECTOR);
    let (count, at) = (n - first, first as usize);
    // SAFETY: token < n_tok and first < n: the rows and the place in them are inside the tensors.
    let (g, u) = unsafe {
        (
            rows::load8(gate.add(token * gate_stride as usize + at), count),
            rows::load8(up.add(token * up_stride as usize + at), count),
        )
    };
    let (g, u) = (rows::widen::<bf16>(g), rows::widen::<bf16>(u));
    let h = rows::each(|i| exact::silu(g[i]) * u[i]);
    // SAFETY: as above.
    unsafe { rows::store8(y.add(token * n as usize + at), rows::narrow::<bf16>(h), count) };
}
