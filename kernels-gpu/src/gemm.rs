//! gemm: y`[m][n]` = sum over k of a`[m][k]` w`[n][k]`, plus bias and residual; bf16 or f16.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | a | `[m][k]` | bf16 or f16 |
//! | w | `[n][k]` | the same |
//! | bias | `[n]` or null | the same |
//! | residual | `[m][n]` or null | the same; may be y itself |
//! | y | `[m][n]` | the same, or f32 (`out_f32`; then without residual) |
//!
//! *Canonical order*: docs/numerics.md, Matrix products: one MMA chain over all of K, then bias, rounding, residual. The three
//! tiles give the same bytes; which one is faster is a matter of m and n ([`choose`]).
//!
//! *Roles and barriers*: those of [`crate::tile_mma`]. Grid: one block a tile, see `place`.
//!
//! *Shapes*: any m, n, k from 1 on, and any alignment of the pointers to 2 (y: to its element; rows that are multiples of
//! 16 bytes at multiples of 16 are copied 16 bytes at a time, others element by element).
//!
//! # Versions
//! | version | what | measured |
//! | --- | --- | --- |
//! | plain 1 | mma.sync, cp.async ring, three tiles | H200: 12352 x 2048, M 1 13.9 us, 86 % of the roof; M 8192 1108.4 us, 38 % of the roof |

use cuda_std::{kernel, thread};

use crate::tile_mma::{
    Bf16, Block, Dense, Element, F16, Middle, Output, Scale, Thin, Wide, is_wide, rows_of, shared_bytes,
};

/// Rows of tiles that are worked through together, so that the weights they share stay in L2.
const GROUP: u32 = 8;

/// Which tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// 128 x 128.
    Wide,
    /// 64 x 64.
    Middle,
    /// 16 x 32.
    Thin,
}

/// The tile for an output of m by n: thin for up to 16 rows, wide where that gives at least 128 blocks (most GPUs have about as
/// many SMs), else middle. It depends on the shape alone and changes no byte.
pub fn choose(m: u32, n: u32) -> Choice {
    if m <= Thin::ROWS {
        Choice::Thin
    } else if u64::from(m.div_ceil(Wide::ROWS)) * u64::from(n.div_ceil(Wide::COLUMNS)) >= 128 {
        Choice::Wide
    } else {
        Choice::Middle
    }
}

/// Rows and columns of a tile.
pub fn size(choice: Choice) -> (u32, u32) {
    match choice {
        Choice::Wide => (Wide::ROWS, Wide::COLUMNS),
        Choice::Middle => (Middle::ROWS, Middle::COLUMNS),
        Choice::Thin => (Thin::ROWS, Thin::COLUMNS),
    }
}

/// Threads of a block.
pub fn threads(choice: Choice) -> u32 {
    match choice {
        Choice::Wide => Wide::THREADS,
        Choice::Middle => Middle::THREADS,
        Choice::Thin => Thin::THREADS,
    }
}

/// Dynamic shared memory of a block in bytes.
pub fn shared(choice: Choice) -> u32 {
    type Rows = Dense<fn(u32) -> *const u16>;
    match choice {
        Choice::Wide => shared_bytes::<Wide, Rows, Rows>(),
        Choice::Middle => shared_bytes::<Middle, Rows, Rows>(),
        Choice::Thin => shared_bytes::<Thin, Rows, Rows>(),
    }
}

/// The first row and column of block `block`: tiles in groups of [`GROUP`] rows of tiles, down the columns of a group first.
#[inline(always)]
pub(crate) fn place<T: Block>(block: u32, m: u32, n: u32) -> (u32, u32) {
    let (down, across) = (m.div_ceil(T::ROWS), n.div_ceil(T::COLUMNS).max(1));
    let group = block / (GROUP * across);
    let rows = (down - group * GROUP).clamp(1, GROUP);
    let rest = block % (GROUP * across);
    ((group * GROUP + rest % rows) * T::ROWS, rest / rows * T::COLUMNS)
}

/// The parameters as launched.
#[derive(Clone, Copy)]
struct Args {
    a: *const u16,
    w: *const u16,
    m: u32,
    n: u32,
    k: u32,
}

/// # Safety
/// The tensors have the shapes of the module's table.
#[inline(always)]
unsafe fn body<E: Element, T: Block>(args: Args, out: Output) {
    let Args { a, w, m, n, k } = args;
    let (row, column) = place::<T>(thread::block_idx_x(), m, n);
    let rows = Dense::new(rows_of(a, row, m, k), k, is_wide(a, k));
    let columns = Dense::new(rows_of(w, column, n, k), k, is_wide(w, k));
    // SAFETY: the caller's promise; the rows are inside the tensors or null.
    let sums = unsafe { T::product::<E, _, _>(rows, columns, k) };
    T::each(&sums, |r, c, v| {
        if row + r < m {
            // SAFETY: the row exists.
            unsafe { out.store::<E>((row + r) as usize, column + c, v) };
        }
    });
}

/// One kernel a line: name, dtype, tile, threads, blocks an SM.
macro_rules! kernels {
    ($($name:ident($element:ty, $tile:ty, $threads:literal, $blocks:literal);)*) => {$(
        /// The product for one dtype and tile; see the module for its parameters.
        ///
        /// # Safety
        /// The tensors must have the shapes of the module's table, on the device; grid and shared memory are those of the tile.
        #[kernel(threads = $threads, min_blocks = $blocks)]
        pub unsafe fn $name(
            a: *const u16,
            w: *const u16,
            bias: *const u16,
            residual: *const u16,
            y: *mut u8,
            m: u32,
            n: u32,
            k: u32,
            out_f32: u32,
        ) {
            let out = Output { y, f32: out_f32 != 0, bias, residual, scale: Scale::None, n };
            // SAFETY: the caller's promise.
            unsafe { body::<$element, $tile>(Args { a, w, m, n, k }, out) }
        }
    )*};
}

kernels! {
    gemm_bf16_wide(Bf16, Wide, 256, 2);
    gemm_bf16_middle(Bf16, Middle, 128, 3);
    gemm_bf16_thin(Bf16, Thin, 128, 4);
    gemm_f16_wide(F16, Wide, 256, 2);
    gemm_f16_middle(F16, Middle, 128, 3);
    gemm_f16_thin(F16, Thin, 128, 4);
}
