//! Gates of the gated delta net: `g = -(exp(A_log) * softplus(a + dt_bias))`, `beta = sigmoid(b)`.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | a, b | `[n_tok]` rows, `a_stride` and `b_stride` elements apart, v_heads used | bf16 |
//! | A_log, dt_bias | `[v_heads]` | f32 |
//! | g, beta | `[n_tok][v_heads]` | f32 |
//!
//! Canonical order: docs/numerics.md, "Gated delta net"; every step is one rounded f32 operation or a function of
//! `cuda_std::float::exact`. One thread an output pair; any shape. softplus works in f64 inside, which is what this kernel's time
//! is made of; it is small beside the projections that make a and b.
//!
//! | version | what | measured |
//! | --- | --- | --- |
//! | plain | one thread an output pair | H200: 32 heads, 1 token 1.4 us, 0 % of the roof; 8192 4.7 us, 16 % of the roof |

use cuda_std::{kernel, mem, thread};
use half::bf16;

use crate::gdn::{decay, update};

/// Threads of a block.
pub const THREADS: u32 = 256;

/// Blocks of a launch.
pub fn grid(n_tok: u32, v_heads: u32) -> u32 {
    (n_tok as u64 * v_heads as u64).div_ceil(THREADS as u64) as u32
}

/// Grid: [`grid`].
///
/// # Safety
/// The tensors must have the shapes of the module's table, on the device; `n_tok * v_heads` below 2^32.
#[kernel(threads = 256)]
pub unsafe fn gdn_gates(
    a: *const bf16,
    b: *const bf16,
    a_log: *const f32,
    dt_bias: *const f32,
    g: *mut f32,
    beta: *mut f32,
    n_tok: u32,
    v_heads: u32,
    a_stride: u32,
    b_stride: u32,
) {
    let i = thread::index_1d();
    let v_heads = v_heads.max(1);
    let (token, head) = ((i / v_heads) as usize, (i % v_heads) as usize);
    if i / v_heads >= n_tok {
        return;
    }
    // SAFETY: token < n_tok and head < v_heads.
    unsafe {
        let a = mem::load_nc(a.add(token * a_stride as usize + head));
        let b = mem::load_nc(b.add(token * b_stride as usize + head));
        let decay = decay(a, mem::load_nc(a_log.add(head)), mem::load_nc(dt_bias.add(head)));
        mem::store(g.add(i as usize), decay);
        mem::store(beta.add(i as usize), update(b));
    }
}
