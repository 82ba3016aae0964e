//! nvfp4_matmul: y`[m][n]` = (sum over k of a`[m][k]` w`[n][k]`) with the tensor scale, plus bias; w is NVFP4 (W4A16).
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | a | `[m][k]` | bf16 or f16 |
//! | codes | `[n][k / 2]` | two E2M1 a byte, the low nibble is the even k |
//! | scales | `[n][k / 16]` | E4M3, one a block of 16 k |
//! | tensor_scale | `[1]` | f32, as the checkpoint stores it |
//! | bias | `[n]` or null | as a |
//! | y | `[m][n]` | as a, or f32 (`out_f32`) |
//!
//! *Canonical order*: docs/numerics.md, Matrix products: code * scale, exact in 16 bits, then the MMA chain of `gemm` over all of K, then
//! `acc * tensor_scale` (`divide` = 0: ModelOpt) or `acc / tensor_scale` (1: compressed-tensors), then bias, then one rounding.
//!
//! *Roles and barriers*: those of [`crate::tile_mma`]; the weights are unpacked on their way to the tensor cores.
//!
//! *Shapes*: any m and n from 1 on, k a multiple of 16; codes at a multiple of 8 bytes, the others at that of their elements.
//!
//! # Versions
//! | version | what | measured |
//! | --- | --- | --- |
//! | plain 1 | the tiles of gemm, codes through cp.async, unpacked by the threads that copied them | H200: 12352 x 2048, M 1 16.8 us, 20 % of the roof; M 8192 1488.5 us, 28 % of the roof |

use cuda_std::{kernel, mem, thread};

use crate::gemm::{Choice, place};
use crate::tile_mma::{
    Bf16, Block, Dense, Element, F16, Middle, Nvfp4, Output, Scale, ThinPacked, Wide, is_wide, rows_of, shared_bytes,
};

/// Dynamic shared memory of a block in bytes.
pub fn shared(choice: Choice) -> u32 {
    type Rows = Dense<fn(u32) -> *const u16>;
    type Columns = Nvfp4<Bf16, fn(u32) -> (*const u8, *const u8)>;
    match choice {
        Choice::Wide => shared_bytes::<Wide, Rows, Columns>(),
        Choice::Middle => shared_bytes::<Middle, Rows, Columns>(),
        Choice::Thin => shared_bytes::<ThinPacked, Rows, Columns>(),
    }
}

/// The operands as launched.
#[derive(Clone, Copy)]
struct Args {
    a: *const u16,
    codes: *const u8,
    scales: *const u8,
    m: u32,
    n: u32,
    k: u32,
}

/// # Safety
/// The tensors have the shapes of the module's table.
#[inline(always)]
unsafe fn body<E: Element, T: Block>(args: Args, out: Output) {
    let Args {
        a,
        codes,
        scales,
        m,
        n,
        k,
    } = args;
    let (row, column) = place::<T>(thread::block_idx_x(), m, n);
    let rows = Dense::new(rows_of(a, row, m, k), k, is_wide(a, k));
    let weights = move |r: u32| {
        let row = (column + r) as usize;
        if column + r < n {
            (
                codes.wrapping_add(row * (k / 2) as usize),
                scales.wrapping_add(row * (k / 16) as usize),
            )
        } else {
            (core::ptr::null(), core::ptr::null())
        }
    };
    // SAFETY: the caller's promise; the rows are inside the tensors or null.
    let sums = unsafe { T::product::<E, _, _>(rows, Nvfp4::<E, _>::new(weights, k), k) };
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
            codes: *const u8,
            scales: *const u8,
            tensor_scale: *const f32,
            divide: u32,
            bias: *const u16,
            y: *mut u8,
            m: u32,
            n: u32,
            k: u32,
            out_f32: u32,
        ) {
            // SAFETY: the caller's promise.
            let scale = unsafe { mem::load(tensor_scale) };
            let scale = if divide == 0 { Scale::Multiply(scale) } else { Scale::Divide(scale) };
            let out = Output { y, f32: out_f32 != 0, bias, residual: core::ptr::null(), scale, n };
            // SAFETY: the caller's promise.
            unsafe { body::<$element, $tile>(Args { a, codes, scales, m, n, k }, out) }
        }
    )*};
}

kernels! {
    nvfp4_matmul_bf16_wide(Bf16, Wide, 256, 2);
    nvfp4_matmul_bf16_middle(Bf16, Middle, 128, 3);
    nvfp4_matmul_bf16_thin(Bf16, ThinPacked, 128, 3);
    nvfp4_matmul_f16_wide(F16, Wide, 256, 2);
    nvfp4_matmul_f16_middle(F16, Middle, 128, 3);
    nvfp4_matmul_f16_thin(F16, ThinPacked, 128, 3);
}
