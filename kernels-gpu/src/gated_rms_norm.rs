//! Gated RMSNorm per head: y = x / sqrt(mean(x^2) + eps) * w * silu(z).
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | x | `[n_tok][heads][n]`, tokens `x_stride` elements apart | bf16 or f16 |
//! | z | `[n_tok][heads][n]`, tokens `z_stride` apart: the gate | as x |
//! | w | `[n]`, the same for every head | as x |
//! | y | `[n_tok][heads][n]`, tokens `y_stride` apart; may be x | as x |
//!
//! Order: docs/numerics.md, "Norms" and "Row reductions": y = round(((x * rstd) * w) * silu(z)), everything in f32,
//! norm first.
//!
//! Shapes, accesses and blocks are those of [`crate::rms_norm`].
//!
//! | version | what | measured |
//! | --- | --- | --- |
//! | plain | as above | H200: 32 heads of 128, 1 token 2.8 us, 0 % of the roof; 8192 128.5 us, 37 % of the roof |

use cuda_std::vec::U32x4;
use cuda_std::{float, kernel, shared};
use half::{bf16, f16};

use crate::norm::{self, Place};
use crate::rows::{self, Half};

pub use crate::rms_norm::{LONG_BYTES, THREADS, grid, is_short};

/// The parameters by name.
#[derive(Clone, Copy)]
struct Args<T> {
    x: *const T,
    z: *const T,
    w: *const T,
    y: *mut T,
    n_tok: u32,
    heads: u32,
    n: u32,
    x_stride: u32,
    z_stride: u32,
    y_stride: u32,
    eps: f32,
}

impl<T: Half> Args<T> {
    /// Vector v of x.
    ///
    /// # Safety
    /// The place, v and count are inside the tensors.
    #[inline(always)]
    #[track_caller]
    unsafe fn load(&self, at: Place, v: u32, count: u32) -> U32x4 {
        let from = at.token * self.x_stride as usize + at.first + v as usize * 8;
        // SAFETY: the caller's promise.
        unsafe { rows::load8(self.x.add(from), count) }
    }

    /// Stores vector v of the result.
    ///
    /// # Safety
    /// As for [`Args::load`].
    #[inline(always)]
    #[track_caller]
    unsafe fn finish(&self, at: Place, v: u32, count: u32, x: [f32; 8], rstd: f32) {
        let first = at.first + v as usize * 8;
        // SAFETY: the caller's promise; w has n elements.
        unsafe {
            let w = rows::widen::<T>(rows::load8(self.w.add(v as usize * 8), count));
            let z = rows::widen::<T>(rows::load8(
                self.z.add(at.token * self.z_stride as usize + first),
                count,
            ));
            let y = rows::each(|i| ((x[i] * rstd) * w[i]) * float::exact::silu(z[i]));
            let to = self.y.add(at.token * self.y_stride as usize + first);
            rows::store8(to, rows::narrow::<T>(y), count);
        }
    }
}

/// The two kernels of one dtype: short rows and long ones.
macro_rules! kernels {
    ($t:ident, $dtype:literal, $short:ident, $long:ident) => {
        #[doc = concat!("Rows of at most 256 elements of ", $dtype, ". Grid: [`grid`] of 256 threads.")]
        ///
        /// # Safety
        /// The tensors must have the shapes of the module's table, on the device, and nobody else may write them.
        #[kernel(threads = 256)]
        pub unsafe fn $short(
            x: *const $t,
            z: *const $t,
            w: *const $t,
            y: *mut $t,
            n_tok: u32,
            heads: u32,
            n: u32,
            x_stride: u32,
            z_stride: u32,
            y_stride: u32,
            eps: f32,
        ) {
            let a = Args {
                x,
                z,
                w,
                y,
                n_tok,
                heads,
                n,
                x_stride,
                z_stride,
                y_stride,
                eps,
            };
            // SAFETY: `short_rows` asks for places and vectors of existing rows only.
            unsafe {
                norm::short_rows::<$t>(
                    a.n_tok * a.heads,
                    a.heads,
                    a.n,
                    a.eps,
                    |at, v, count| a.load(at, v, count),
                    |at, v, count, x, rstd| a.finish(at, v, count, x, rstd),
                );
            }
        }

        #[doc = concat!("Rows of any length of ", $dtype, ", one a block of 256 threads.")]
        ///
        /// # Safety
        /// The tensors must have the shapes of the module's table, on the device, and nobody else may write them.
        #[kernel(threads = 256)]
        pub unsafe fn $long(
            x: *const $t,
            z: *const $t,
            w: *const $t,
            y: *mut $t,
            n_tok: u32,
            heads: u32,
            n: u32,
            x_stride: u32,
            z_stride: u32,
            y_stride: u32,
            eps: f32,
        ) {
            let a = Args {
                x,
                z,
                w,
                y,
                n_tok,
                heads,
                n,
                x_stride,
                z_stride,
                y_stride,
                eps,
            };
            // SAFETY: the grid has one block a row; `long_row` asks for vectors of that row only.
            unsafe {
                norm::long_row::<$t>(
                    shared::dynamic(),
                    a.heads,
                    a.n,
                    a.eps,
                    |at, v, count| a.load(at, v, count),
                    |at, v, count| a.load(at, v, count),
                    |at, v, count, x, rstd| a.finish(at, v, count, x, rstd),
                );
            }
        }
    };
}

kernels!(bf16, "bf16", gated_rms_norm_short_bf16, gated_rms_norm_long_bf16);
kernels!(f16, "f16", gated_rms_norm_short_f16, gated_rms_norm_long_f16);
