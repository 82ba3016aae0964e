//! SwiGLU's elementwise half: y = bf16(silu(g) * u).
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | gu | `[n_tok][2][n]`: a token's gate, then its up | bf16 |
//! | y | `[n_tok][n]` | bf16 |
//!
//! Order (docs/numerics.md, "Mixture of experts"): none to choose, each output is one silu, one product and one rounding.
//!
//! One thread does 8 neighbours of one token; threads do not meet. Where n is a multiple of 8 every row is aligned and a thread
//! moves 16 bytes at a time, else it goes element by element. Takes any n and n_tok with less than 2^31 threads.
//!
//! | version | what | measured |
//! | --- | --- | --- |
//! | plain | one thread, one vector of 8 | H200: shared_act, 8192 rows 13.9 us, 43 % of the roof |

use cuda_std::float::{self, exact};
use cuda_std::{U32x4, kernel, mem, thread};
use half::bf16;

/// Threads of a block.
pub const THREADS: u32 = 256;
/// Elements that one thread does.
pub const VECTOR: u32 = 8;

/// Blocks of a launch.
pub const fn grid(n: u64, n_tok: u64) -> u64 {
    (n_tok * n.div_ceil(VECTOR as u64)).div_ceil(THREADS as u64)
}

/// One output.
#[inline(always)]
fn one(g: f32, u: f32) -> bf16 {
    float::f32_to_bf16(exact::silu(g) * u)
}

/// Two outputs of a register.
#[inline(always)]
fn two(g: u32, u: u32) -> u32 {
    let (g, u) = (float::bf16x2_to_f32(g), float::bf16x2_to_f32(u));
    one(g[0], u[0]).to_bits() as u32 | (one(g[1], u[1]).to_bits() as u32) << 16
}

/// Grid: x over [`grid`] blocks.
///
/// # Safety
/// The tensors must have the shapes of the module's table, on the device, aligned to 16 bytes.
#[kernel(threads = 256)]
pub unsafe fn silu_mul(gu: *const bf16, y: *mut bf16, n: u32, n_tok: u32) {
    let vectors = n.div_ceil(VECTOR);
    let i = thread::index_1d();
    if vectors == 0 || i >= n_tok * vectors {
        return;
    }
    let (token, first) = ((i / vectors) as usize, i % vectors * VECTOR);
    // SAFETY: token < n_tok and first < n: the rows and the place in them are inside the tensors.
    let (gate, up, out) = unsafe {
        let gate = gu.add(token * 2 * n as usize + first as usize);
        (gate, gate.add(n as usize), y.add(token * n as usize + first as usize))
    };
    if n.is_multiple_of(VECTOR) {
        // SAFETY: whole vectors; rows of a multiple of 16 bytes are aligned to 16.
        let (g, u) = unsafe { (mem::load_nc(gate.cast::<U32x4>()), mem::load_nc(up.cast::<U32x4>())) };
        // Written out: a loop of so large a body is not unrolled, and its array would lie in memory.
        let packed = [
            two(g.0[0], u.0[0]),
            two(g.0[1], u.0[1]),
            two(g.0[2], u.0[2]),
            two(g.0[3], u.0[3]),
        ];
        // SAFETY: as above.
        unsafe { mem::store(out.cast::<U32x4>(), U32x4(packed)) };
        return;
    }
    let mut j = 0;
    while j < VECTOR {
        if first + j < n {
            let at = j as usize;
            // SAFETY: first + j < n.
            unsafe {
                let (g, u) = (mem::load_nc(gate.add(at)), mem::load_nc(up.add(at)));
                mem::store(out.add(at), one(float::bf16_to_f32(g), float::bf16_to_f32(u)));
            }
        }
        j += 1;
    }
}
