//! gemm on Hopper: y`[m][n]` = sum over k of a`[m][k]` w`[n][k]`, plus bias and residual, by the copy engine and `wgmma`.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | a | `[m][k]`, rows of a multiple of 16 bytes, at a multiple of 16 | bf16 or f16 |
//! | w | `[n][k]`, likewise | the same |
//! | bias | `[n]` or null | the same |
//! | residual | `[m][n]` or null | the same; may be y itself |
//! | y | `[m][n]` | the same, or f32 (then without residual) |
//!
//! *Canonical order*: docs/numerics.md, Matrix products: one chain of k16 steps over all of K from +0, then bias, rounding, residual.
//! wgmma's step is mma.sync's (docs/tensor-cores.md), a step of zeros changes nothing, and factors commute: every config gives the bytes of
//! [`crate::gemm`].
//!
//! *Operands*: the rows of P become the 64 rows of a product, those of Q its columns: P is a and Q is w, or the other way round (`swap`)
//! where few tokens meet many weights. A tile is `bp` rows of P by `bq` rows of Q; copies of rows outside of a tensor are zeros, and stores
//! leave them out: no buffer is padded. Tensor maps come as parameters: nothing of a launch lives elsewhere, and graphs keep it.
//!
//! *Dependent launch*: the kernel may be launched as a programmatic dependent of the one before it in the stream. It reads `a`, `bias` and
//! `residual` and writes `y` after that one's end; **`w` it reads before**, so no kernel right before it may write the weights.
//!
//! *Roles and barriers*: [`kernel`]. Configs and what they take: [`CONFIGS`].
//!
//! # Versions
//! Ratios are cuBLAS's time over this kernel's in the same run on an H200, bf16.
//!
//! | version | what | measured |
//! | --- | --- | --- |
//! | 1 | 128 x 256, two consumer warpgroups, four stages, persistent | 0.93 at 4096^3, 0.86 at 2048 x 12288 x 2048 |
//! | 2 | the release of a stage across a cluster without a fence of the cluster's scope | clusters from 0.63 to 0.93 |
//! | 3 | rounding and staging without bias and residual in a path of its own (they took 40 instructions a pair of outputs) | 1.02 and 1.01 |
//! | 4 | tiles whose number fits the SMs (160, 144, 80 columns; 64 rows in clusters); a programmatic dependent launch, whose first weights do not wait for the kernel before | 1.02 over 102 shapes of 256 rows and more (min 0.77 before, 0.84 after); one row of 32 outputs over 2048: 1.08 to 1.60 |
//! | 5 | up to 64 rows: outputs cut into as many tiles as there are SMs (16 to 96 columns) instead of 64 weights a tile | 64 and 128 rows 1.02 to 1.07 |
//! | 6 | up to 32 rows: only those are copied (a product's other rows read what lies behind, for nothing), so that the ring holds twice the weights | 68 shapes of 1 to 32 rows: 1.12 to 1.21 |

pub mod kernel;
pub mod order;
mod store;
pub mod tiles;

/// Bit of a kernel's flags: y is f32.
pub const OUT_F32: u32 = 1;
/// Bit of a kernel's flags: y goes out by tensor copies (16 bits, neither bias nor residual, n a multiple of 8, y at a multiple of 16).
pub const STAGED: u32 = 2;

/// Every tile, a line each: its kernels for bf16 and f16, the config's id, threads of a block, blocks an SM, and the parameters of
/// [`tiles::Tiles`]. `$then!` makes something of the lines.
macro_rules! tiles {
    ($then:ident) => {
        $then! {
            // Many rows.
            // Many rows.
            // Many rows.
            hopper_bf16_a, hopper_f16_a, "hopper_bm128_bn256_bk64_s4", 384, 1, [1, 128, 2, 4, 1, 1, 0];
            hopper_bf16_b, hopper_f16_b, "hopper_bm128_bn256_bk64_s4_c2", 384, 1, [1, 128, 2, 4, 1, 2, 0];
            hopper_bf16_c, hopper_f16_c, "hopper_bm256_bn128_bk64_s4_c2", 384, 1, [2, 64, 2, 4, 1, 2, 4];
            hopper_bf16_d, hopper_f16_d, "hopper_bm128_bn192_bk64_s4", 384, 1, [1, 96, 2, 4, 1, 1, 0];
            hopper_bf16_e, hopper_f16_e, "hopper_bm128_bn160_bk64_s5", 384, 1, [1, 80, 2, 5, 1, 1, 0];
            hopper_bf16_f, hopper_f16_f, "hopper_bm128_bn144_bk64_s5", 384, 1, [1, 72, 2, 5, 1, 1, 0];
            hopper_bf16_g, hopper_f16_g, "hopper_bm128_bn128_bk64_s6_pp", 384, 1, [2, 64, 2, 6, 1, 1, 1];
            hopper_bf16_h, hopper_f16_h, "hopper_bm128_bn128_bk64_s6", 384, 1, [1, 64, 2, 6, 1, 1, 0];
            // Where those would leave SMs without work, or fill their last wave badly.
            hopper_bf16_i, hopper_f16_i, "hopper_bm128_bn80_bk64_s7", 384, 1, [1, 40, 2, 7, 1, 1, 0];
            hopper_bf16_j, hopper_f16_j, "hopper_bm128_bn64_bk128_s4_c2", 384, 1, [1, 32, 2, 4, 2, 2, 4];
            hopper_bf16_k, hopper_f16_k, "hopper_bm64_bn192_bk64_s6_c2", 160, 1, [1, 96, 1, 6, 1, 2, 0];
            hopper_bf16_l, hopper_f16_l, "hopper_bm64_bn128_bk128_s4_c2", 160, 1, [1, 64, 1, 4, 2, 2, 0];
            hopper_bf16_m, hopper_f16_m, "hopper_bm64_bn96_bk128_s5_c2", 160, 1, [1, 48, 1, 5, 2, 2, 0];
            hopper_bf16_n, hopper_f16_n, "hopper_bm64_bn80_bk128_s5_c2", 160, 1, [1, 40, 1, 5, 2, 2, 0];
            hopper_bf16_o, hopper_f16_o, "hopper_bm64_bn64_bk128_s6_c2", 160, 1, [1, 32, 1, 6, 2, 2, 0];
            // Up to 64 rows: outputs in as many parts as there are SMs.
            hopper_bf16_p, hopper_f16_p, "hopper_bm64_bn96_bk128_s5", 160, 1, [1, 48, 1, 5, 2, 1, 0];
            hopper_bf16_q, hopper_f16_q, "hopper_bm64_bn72_bk128_s6", 160, 1, [1, 36, 1, 6, 2, 1, 0];
            hopper_bf16_r, hopper_f16_r, "hopper_bm64_bn64_bk128_s6", 160, 1, [1, 32, 1, 6, 2, 1, 0];
            hopper_bf16_s, hopper_f16_s, "hopper_bm64_bn48_bk128_s8", 160, 1, [1, 24, 1, 8, 2, 1, 0];
            hopper_bf16_t, hopper_f16_t, "hopper_bm64_bn40_bk128_s8", 160, 1, [1, 20, 1, 8, 2, 1, 0];
            hopper_bf16_u, hopper_f16_u, "hopper_bm64_bn32_bk256_s4", 160, 1, [1, 16, 1, 4, 4, 1, 0];
            hopper_bf16_v, hopper_f16_v, "hopper_bm64_bn24_bk256_s5", 160, 1, [1, 12, 1, 5, 4, 1, 0];
            hopper_bf16_w, hopper_f16_w, "hopper_bm64_bn16_bk256_s5", 160, 1, [1, 8, 1, 5, 4, 1, 0];
            // Up to 32 rows: the same, and P is no longer than that.
            hopper_bf16_x, hopper_f16_x, "hopper_bm32_bn48_bk256_s5", 160, 1, [1, 24, 1, 5, 4, 1, 32];
            hopper_bf16_y, hopper_f16_y, "hopper_bm32_bn32_bk256_s6", 160, 1, [1, 16, 1, 6, 4, 1, 32];
            hopper_bf16_z, hopper_f16_z, "hopper_bm32_bn24_bk256_s7", 160, 1, [1, 12, 1, 7, 4, 1, 32];
            hopper_bf16_za, hopper_f16_za, "hopper_bm32_bn16_bk256_s8", 160, 1, [1, 8, 1, 8, 4, 1, 32];
            hopper_bf16_zb, hopper_f16_zb, "hopper_bm16_bn40_bk256_s7", 160, 1, [1, 20, 1, 7, 4, 1, 16];
            hopper_bf16_zc, hopper_f16_zc, "hopper_bm16_bn24_bk256_s10", 160, 1, [1, 12, 1, 10, 4, 1, 16];
            hopper_bf16_zd, hopper_f16_zd, "hopper_bm16_bn16_bk256_s12", 160, 1, [1, 8, 1, 12, 4, 1, 16];
            hopper_bf16_ze, hopper_f16_ze, "hopper_bm8_bn40_bk256_s8", 160, 1, [1, 20, 1, 8, 4, 1, 8];
            hopper_bf16_zf, hopper_f16_zf, "hopper_bm8_bn24_bk256_s12", 160, 1, [1, 12, 1, 12, 4, 1, 8];
            hopper_bf16_zg, hopper_f16_zg, "hopper_bm8_bn16_bk256_s16", 160, 1, [1, 8, 1, 16, 4, 1, 8];
            // Few tokens, or few outputs: the weights are P.
            hopper_bf16_zh, hopper_f16_zh, "hopper_bm32_bn64_bk128_s8_c2_t", 160, 1, [1, 16, 1, 8, 2, 2, 2];
            hopper_bf16_zi, hopper_f16_zi, "hopper_bm16_bn64_bk256_s5_t", 160, 1, [1, 8, 1, 5, 4, 1, 2];
            hopper_bf16_zj, hopper_f16_zj, "hopper_bm8_bn64_bk256_s5_t", 160, 1, [1, 4, 1, 5, 4, 1, 2];
        }
    };
}
/// The kernel of a tile for one dtype.
macro_rules! kernel_of {
    ($element:ty, $name:ident, $threads:literal, $blocks:literal, [$($param:literal),*]) => {
        /// The product for one dtype and tile; see the module for its parameters.
        ///
        /// # Safety
        /// The tensors and their maps must be those of the module's table; grid, cluster and shared memory are those of the config.
        #[kernel(threads = $threads, min_blocks = $blocks, archs = "sm_90a")]
        pub unsafe fn $name(
            p: &TensorMap,
            q: &TensorMap,
            y_map: &TensorMap,
            bias: *const u16,
            residual: *const u16,
            y: *mut u8,
            m: u32,
            n: u32,
            k: u32,
            flags: u32,
        ) {
            type T = Tiles<$($param),*>;
            const { assert!(T::THREADS == $threads, "the launch bound is the tile's number of threads") };
            let out = Output { y, f32: flags & OUT_F32 != 0, bias, residual, scale: Scale::None, n };
            let rows = if T::SWAPS { [n, m] } else { [m, n] };
            let staged = flags & STAGED != 0;
            // SAFETY: the caller's promise.
            unsafe { T::run::<$element>(Args { p, q, y: y_map, out, rows, k, staged }) };
        }
    };
}

/// Kernels of bf16. Each dtype has a module of its own, so that they are assembled side by side.
pub mod gemm_hopper_bf16 {
    use super::kernel::Args;
    use super::tiles::Tiles;
    use super::{OUT_F32, STAGED};
    use crate::tile_mma::{Bf16, Output, Scale};
    use cuda_std::kernel;
    use cuda_std::tma::TensorMap;

    macro_rules! kernels {
        ($($bf16:ident, $f16:ident, $id:literal, $threads:literal, $blocks:literal, $params:tt;)*) => {
            $(kernel_of! { Bf16, $bf16, $threads, $blocks, $params })*
        };
    }
    tiles! { kernels }
}

/// Kernels of f16.
pub mod gemm_hopper_f16 {
    use super::kernel::Args;
    use super::tiles::Tiles;
    use super::{OUT_F32, STAGED};
    use crate::tile_mma::{F16, Output, Scale};
    use cuda_std::kernel;
    use cuda_std::tma::TensorMap;

    macro_rules! kernels {
        ($($bf16:ident, $f16:ident, $id:literal, $threads:literal, $blocks:literal, $params:tt;)*) => {
            $(kernel_of! { F16, $f16, $threads, $blocks, $params })*
        };
    }
    tiles! { kernels }
}

#[cfg(not(target_arch = "nvptx64"))]
pub mod config;
#[cfg(not(target_arch = "nvptx64"))]
pub use config::{Args, CONFIGS, Config, Entry};
