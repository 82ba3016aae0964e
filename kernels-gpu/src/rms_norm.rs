//! RMSNorm, with the residual addition before it, and QK-norm per head: y = x / sqrt(mean(x^2) + eps) * w.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | x | `[n_tok][heads][n]`, tokens `x_stride` elements apart | bf16 or f16 |
//! | r | `[n_tok][heads][n]`, tokens `r_stride` apart, or null: the residual, read and replaced by x + r | as x |
//! | w | `[n]` | as x |
//! | y | `[n_tok][heads][n]`, tokens `y_stride` apart; may be x | as x |
//!
//! Order: docs/numerics.md, "Norms" and "Row reductions". With r, h = round(x + r) is stored and normed. w' = w, or 1 + w
//! where `zero_centered` is not 0; y = round((x * rstd) * w'), rstd = rsqrt(rowsum(x^2) / n + eps).
//!
//! Any n, any strides: 16-byte accesses where an address is a multiple of 16, single elements elsewhere. Rows up to 256
//! take a half or a whole warp (`_short`, grid [`grid`]), longer ones a block of 256 threads (`_long`, 1 KiB of shared
//! memory, one barrier). A row's bytes depend on that row alone.
//!
//! | version | what | measured |
//! | --- | --- | --- |
//! | plain | as above | H200: n 2048, residual, 1 token 2.2 us, 0 % of the roof; 8192 42.1 us, 76 % of the roof |

use cuda_std::vec::U32x4;
use cuda_std::{kernel, shared};
use half::{bf16, f16};

use crate::norm::{self, Place};
use crate::rows::{self, Half};

/// Threads of a block of every kernel here.
pub const THREADS: u32 = norm::THREADS;
/// Bytes of shared memory of a `_long` kernel.
pub const LONG_BYTES: u32 = rows::SUM_BYTES;

/// Whether rows of `n` elements are for the `_short` kernels.
pub const fn is_short(n: u32) -> bool {
    norm::lanes(n) != 0
}

/// Blocks of a launch over `rows` rows (n_tok * heads) of `n` elements.
pub const fn grid(rows: u32, n: u32) -> u32 {
    match norm::lanes(n) {
        0 => rows,
        lanes => rows.div_ceil(THREADS / lanes),
    }
}

/// The parameters by name.
#[derive(Clone, Copy)]
struct Args<T> {
    x: *const T,
    r: *mut T,
    w: *const T,
    y: *mut T,
    n_tok: u32,
    heads: u32,
    n: u32,
    x_stride: u32,
    r_stride: u32,
    y_stride: u32,
    eps: f32,
    zero_centered: u32,
}

impl<T: Half> Args<T> {
    /// Vector v as it is normed; with a residual it is stored there too.
    ///
    /// # Safety
    /// The place, v and count are inside the tensors.
    #[inline(always)]
    #[track_caller]
    unsafe fn first(&self, at: Place, v: u32, count: u32) -> U32x4 {
        let first = at.first + v as usize * 8;
        // SAFETY: the caller's promise.
        unsafe {
            let x = rows::load8(self.x.add(at.token * self.x_stride as usize + first), count);
            if self.r.is_null() {
                return x;
            }
            let r = self.r.add(at.token * self.r_stride as usize + first);
            let (x, added) = (rows::widen::<T>(x), rows::widen::<T>(rows::load8(r, count)));
            let sum = rows::narrow::<T>(rows::each(|i| x[i] + added[i]));
            rows::store8(r, sum, count);
            sum
        }
    }

    /// Vector v again.
    ///
    /// # Safety
    /// As for [`Args::first`], which has given it before.
    #[inline(always)]
    #[track_caller]
    unsafe fn again(&self, at: Place, v: u32, count: u32) -> U32x4 {
        let first = at.first + v as usize * 8;
        let (from, stride) = if self.r.is_null() {
            (self.x, self.x_stride)
        } else {
            (self.r.cast_const(), self.r_stride)
        };
        // SAFETY: the caller's promise.
        unsafe { rows::load8(from.add(at.token * stride as usize + first), count) }
    }

    /// Stores vector v of the result.
    ///
    /// # Safety
    /// As for [`Args::first`].
    #[inline(always)]
    #[track_caller]
    unsafe fn finish(&self, at: Place, v: u32, count: u32, x: [f32; 8], rstd: f32) {
        // SAFETY: the caller's promise; w has n elements.
        let w = rows::widen::<T>(unsafe { rows::load8(self.w.add(v as usize * 8), count) });
        let y = rows::each(|i| {
            let w = if self.zero_centered != 0 { 1.0 + w[i] } else { w[i] };
            (x[i] * rstd) * w
        });
        let to = at.token * self.y_stride as usize + at.first + v as usize * 8;
        // SAFETY: the caller's promise.
        unsafe { rows::store8(self.y.add(to), rows::narrow::<T>(y), count) };
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
            r: *mut $t,
            w: *const $t,
            y: *mut $t,
            n_tok: u32,
            heads: u32,
            n: u32,
            x_stride: u32,
            r_stride: u32,
            y_stride: u32,
            eps: f32,
            zero_centered: u32,
        ) {
            let a = Args {
                x,
                r,
                w,
                y,
                n_tok,
                heads,
                n,
                x_stride,
                r_stride,
                y_stride,
                eps,
                zero_centered,
            };
            // SAFETY: `short_rows` asks for places and vectors of existing rows only.
            unsafe {
                norm::short_rows::<$t>(
                    a.n_tok * a.heads,
                    a.heads,
                    a.n,
                    a.eps,
                    |at, v, count| a.first(at, v, count),
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
            r: *mut $t,
            w: *const $t,
            y: *mut $t,
            n_tok: u32,
            heads: u32,
            n: u32,
            x_stride: u32,
            r_stride: u32,
            y_stride: u32,
            eps: f32,
            zero_centered: u32,
        ) {
            let a = Args {
                x,
                r,
                w,
                y,
                n_tok,
                heads,
                n,
                x_stride,
                r_stride,
                y_stride,
                eps,
                zero_centered,
            };
            // SAFETY: the grid has one block a row; `long_row` asks for vectors of that row only.
            unsafe {
                norm::long_row::<$t>(
                    shared::dynamic(),
                    a.heads,
                    a.n,
                    a.eps,
                    |at, v, count| a.first(at, v, count),
                    |at, v, count| a.again(at, v, count),
                    |at, v, count, x, rstd| a.finish(at, v, count, x, rstd),
                );
            }
        }
    };
}

kernels!(bf16, "bf16", rms_norm_short_bf16, rms_norm_long_bf16);
kernels!(f16, "f16", rms_norm_short_f16, rms_norm_long_f16);
