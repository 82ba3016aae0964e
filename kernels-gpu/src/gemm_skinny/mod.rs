//! gemm for few tokens or few outputs: y`[m][n]` = sum over k of a`[m][k]` w`[n][k]`, plus bias and residual; bf16 or f16.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | a | `[m][k]` | bf16 or f16 |
//! | w | `[n][k]` | the same |
//! | bias | `[n]` or null | the same |
//! | residual | `[m][n]` or null | the same; may be y itself |
//! | y | `[m][n]` | the same, or f32 (`out_f32`; then without residual) |
//!
//! *Canonical order*: docs/numerics.md, Matrix products: one MMA chain over all of K, then bias, rounding, residual. So the bytes are
//! those of [`crate::gemm`], for every config.
//!
//! *What it is for.* Such a product is bound by the time that one operand takes from memory, or by the chain: 26.8 cycles a
//! k16 step on an H200. So tiles are small (enough blocks for all SMs at once), the ring is deep (up to all of K on its way
//! before the first MMA), an MMA's operands are in registers before its turn, and sums go to memory straight from registers.
//!
//! *Roles and barriers.* All warps of a block copy, and multiply their own part of the tile. A ring of `stages` stages. Turn t:
//! wait for this thread's copies of stage t + 1; barrier; start the copies of stage t + stages - 1, whose room everybody has left
//! before the barrier; multiply stage t, the operands of a step loaded during the step before, those of stage t + 1's first
//! during the last. One barrier a turn; blocks of one warp have the warp's own.
//!
//! Rows that do not exist (beyond m or n) are not copied and not padded: the lanes that would read them read the last row
//! that exists, and their sums are not stored. k beyond K is filled up with zeros to whole stages.
//!
//! *Shapes*: K a multiple of 8, a and w at multiples of 16 bytes; M of one tile or N of one tile ([`Config::admits`]). Others are for
//! [`crate::gemm`]. Grid: one block a tile, [`Config::grid`]; dynamic shared memory: [`Config::shared_bytes`].

mod config;
mod tile;

use cuda_std::{kernel, thread, warp};

pub use config::Config;
use tile::{Rows, Tile};

use crate::tile_mma::{Bf16, Element, F16, Output, Scale};
use crate::unroll::unroll;

/// The parameters of a kernel as launched: a, w, bias, residual, y, m, n, k, out_f32.
#[cfg(not(target_arch = "nvptx64"))]
pub type Args = (
    *const u16,
    *const u16,
    *const u16,
    *const u16,
    *mut u8,
    u32,
    u32,
    u32,
    u32,
);

/// A config and its kernels.
#[cfg(not(target_arch = "nvptx64"))]
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// How the work is cut.
    pub config: Config,
    /// The kernel of bf16 operands.
    pub bf16: cuda_std::launch::Kernel<Args>,
    /// The kernel of f16 operands.
    pub f16: cuda_std::launch::Kernel<Args>,
}

/// The operands as launched.
#[derive(Clone, Copy)]
struct Operands {
    a: *const u16,
    w: *const u16,
    m: u32,
    n: u32,
    k: u32,
}

/// # Safety
/// The tensors have the shapes of the module's table, and the config admits them.
#[inline(always)]
unsafe fn body<
    E: Element,
    const HALF: bool,
    const MT: usize,
    const NT: usize,
    const WM: u32,
    const WN: u32,
    const KS: usize,
    const S: u32,
>(
    Operands { a, w, m, n, k }: Operands,
    out: Output,
) {
    // As a programmatic dependent the kernel only starts early; everything it reads is there after the wait.
    thread::launch_dependents();
    thread::wait_for_prerequisites();
    let (tokens, outputs) = (if HALF { 8 } else { 16 * MT as u32 * WM }, 8 * NT as u32 * WN);
    // Blocks next to each other share the weights' rows.
    let down = m.div_ceil(tokens).max(1);
    let block = thread::block_idx_x();
    let (token, output) = (block % down * tokens, block / down * outputs);
    let rows = |base: *const u16, first: u32, count: u32| Rows {
        first: base.wrapping_add(first as usize * k as usize),
        count: count - first,
    };
    // SAFETY: the caller's promise.
    let sums = unsafe { Tile::<HALF, MT, NT, WM, WN, KS, S>::product::<E>(rows(a, token, m), rows(w, output, n), k) };
    let (in_token, in_output) = Tile::<HALF, MT, NT, WM, WN, KS, S>::warp_place();
    let (g, t) = (warp::lane_id() / 4, warp::lane_id() % 4);
    let (token, output) = (token + in_token + g, output + in_output + 2 * t);
    unroll!(i < 4 => {
        unroll!(j < 8 => {
            if i < MT && j < NT {
                let [low0, low1, high0, high1] = sums[i % MT][j % NT];
                let (token, output) = (token + 16 * i as u32, output + 8 * j as u32);
                // SAFETY: the tokens exist.
                unsafe {
                    if token < m {
                        out.store_two::<E>(token as usize, output, [low0, low1]);
                    }
                    if !HALF && token + 8 < m {
                        out.store_two::<E>(token as usize + 8, output, [high0, high1]);
                    }
                }
            }
        });
    });
}

/// One config a line: its id, its two kernels, `HALF`, MT, NT, WM, WN, KS, S of [`Tile`], threads, the blocks of an SM that
/// registers are limited for.
macro_rules! configs {
    ($($id:literal $bf16:ident $f16:ident
        ($half:literal, $mt:literal, $nt:literal, $wm:literal, $wn:literal, $ks:literal, $s:literal, $threads:literal, $blocks:literal);)*) => {
        $(
            configs!(@ $bf16 Bf16 ($half, $mt, $nt, $wm, $wn, $ks, $s, $threads, $blocks));
            configs!(@ $f16 F16 ($half, $mt, $nt, $wm, $wn, $ks, $s, $threads, $blocks));
        )*

        /// Every tile config with its kernels.
        #[cfg(not(target_arch = "nvptx64"))]
        pub static CONFIGS: &[Entry] = &[$(Entry {
            config: Config {
                id: $id,
                tokens: if $half { 8 } else { 16 * $mt * $wm },
                outputs: 8 * $nt * $wn,
                steps: $ks,
                stages: $s,
                threads: $threads,
            },
            bf16: $bf16::KERNEL,
            f16: $f16::KERNEL,
        }),*];
    };
    (@ $name:ident $element:ident
        ($half:literal, $mt:literal, $nt:literal, $wm:literal, $wn:literal, $ks:literal, $s:literal, $threads:literal, $blocks:literal)) => {
        /// The product for one dtype and config; see the module for its parameters.
        ///
        /// # Safety
        /// The tensors must have the shapes of the module's table, on the device, and the config must admit them; grid and shared
        /// memory are those of the config.
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
            unsafe { body::<$element, $half, $mt, $nt, $wm, $wn, $ks, $s>(Operands { a, w, m, n, k }, out) }
        }
    };
}

configs! {
    "t8_n16_k128_s16_w1" gemm_skinny_bf16_t8_n16_k128_s16_w1 gemm_skinny_f16_t8_n16_k128_s16_w1(true, 1, 2, 1, 1, 8, 16, 32, 2);
    "t8_n64_k128_s5_w4" gemm_skinny_bf16_t8_n64_k128_s5_w4 gemm_skinny_f16_t8_n64_k128_s5_w4(true, 1, 2, 1, 4, 8, 5, 128, 2);
    "t16_n32_k128_s9_w2" gemm_skinny_bf16_t16_n32_k128_s9_w2 gemm_skinny_f16_t16_n32_k128_s9_w2(false, 1, 2, 1, 2, 8, 9, 64, 2);
    "t16_n32_k128_s16_w4" gemm_skinny_bf16_t16_n32_k128_s16_w4 gemm_skinny_f16_t16_n32_k128_s16_w4(false, 1, 1, 1, 4, 8, 16, 128, 1);
    "t32_n32_k128_s12_w4" gemm_skinny_bf16_t32_n32_k128_s12_w4 gemm_skinny_f16_t32_n32_k128_s12_w4(false, 2, 1, 1, 4, 8, 12, 128, 1);
    "t64_n32_k128_s8_w8" gemm_skinny_bf16_t64_n32_k128_s8_w8 gemm_skinny_f16_t64_n32_k128_s8_w8(false, 1, 2, 4, 2, 8, 8, 256, 1);
}
