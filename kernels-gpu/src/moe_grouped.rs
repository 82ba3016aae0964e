//! MoE grouped product: each expert's rows times its weights, `y[row] = x[row] w[e]^T`, experts and rows from the device.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | x | `[n_tok][k]` (`gather` = 1), or `[pairs][k]` in sorted order (0) | bf16 |
//! | w | `[E][n][k]` | bf16, or NVFP4 |
//! | offsets, sorted | `[E + 1]`, `[pairs]`, from [`crate::moe_sort`] | i32 |
//! | y | `[pairs][n]`, in sorted order (`gather` = 1), or in pair order (0) | bf16 |
//!
//! NVFP4 rows of K values are K / 2 bytes of E2M1 codes and K / 16 bytes of E4M3 scales; `[E]` f32 tensor scales, multiplied by
//! (ModelOpt) or divided by (compressed-tensors).
//!
//! So `gather` = 1 is gate and up: tokens in, sorted rows out; `gather` = 0 is down: sorted rows in, rows out where
//! [`crate::moe_combine`] reads them, a token's slots side by side. Neither needs the inverse of the permutation.
//!
//! # Canonical order
//! docs/numerics.md, "Matrix products": one MMA chain over all of k for each output, times or over the tensor scale, rounded to
//! bf16. It depends on the row and the expert alone. The row of a pair without an expert is +0.
//!
//! # How
//! One output tile a block, [`crate::tile_mma`]; rows through the gather, asynchronous copies, `mma.sync`. Expert e's first row tile
//! has the number `offsets[e] / ROWS + e`: these numbers rise, and an expert's tiles fit before the next one's, so the host's
//! grid is `pairs / ROWS + E + 1` and each block finds its expert by two votes of a warp over the offsets, without a list of tiles.
//! Blocks without rows leave at once.
//!
//! *Roles and barriers*: those of the tile loop. Grid: x over column tiles, y over row tiles, so that the blocks of one expert run
//! together and its weights come from L2 for all but the first.
//!
//! *Shapes.* Any number of pairs, E up to 1024, any n and k (k a multiple of 16 for NVFP4); any distribution of rows. The tile is the
//! host's choice, from pairs / E, and changes no byte.
//!
//! # Versions
//! | version | what | H200, us |
//! | --- | --- | --- |
//! | 1 | as above | H200: gate and up, 512 tokens, bf16 289.6 us, 89 % of the roof; NVFP4 404.3 us, 18 % of the roof |

use cuda_std::{kernel, mem, thread, warp};

use crate::tile_mma::{
    Bf16, Block, Dense, Middle, Nvfp4, Operand, Output, Scale, Thin, Wide, is_wide, rows_of, shared_bytes,
};

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

/// The tile for so many rows spread over so many experts.
pub fn choose(pairs: u32, experts: u32) -> Choice {
    match pairs / experts.max(1) {
        0..=15 => Choice::Thin,
        16..=127 => Choice::Middle,
        _ => Choice::Wide,
    }
}

/// The launch: grid (x, y), threads, dynamic shared memory in bytes.
pub fn launch(choice: Choice, nvfp4: bool, pairs: u32, experts: u32, n: u32) -> ((u32, u32), u32, u32) {
    type Rows = Dense<fn(u32) -> *const u16>;
    type Codes = Nvfp4<Bf16, fn(u32) -> (*const u8, *const u8)>;
    fn of<T: Block>(nvfp4: bool, pairs: u32, experts: u32, n: u32) -> ((u32, u32), u32, u32) {
        let shared = if nvfp4 {
            shared_bytes::<T, Rows, Codes>()
        } else {
            shared_bytes::<T, Rows, Rows>()
        };
        (
            (n.div_ceil(T::COLUMNS), pairs / T::ROWS + experts + 1),
            T::THREADS,
            shared,
        )
    }
    match choice {
        Choice::Wide => of::<Wide>(nvfp4, pairs, experts, n),
        Choice::Middle => of::<Middle>(nvfp4, pairs, experts, n),
        Choice::Thin => of::<Thin>(nvfp4, pairs, experts, n),
    }
}

/// What all kernels take.
#[derive(Clone, Copy)]
struct Args {
    x: *const u16,
    offsets: *const i32,
    sorted: *const i32,
    y: *mut u8,
    pairs: u32,
    experts: u32,
    top_k: u32,
    n: u32,
    k: u32,
    gather: bool,
}

/// The weights of all experts.
trait Weights: Copy {
    /// The operand of an expert's columns from `column` on.
    fn operand(self, expert: u32, column: u32, n: u32, k: u32) -> impl Operand;

    /// The tensor scale.
    ///
    /// # Safety
    /// The expert exists.
    unsafe fn scale(self, expert: u32) -> Scale;
}

impl Weights for *const u16 {
    #[inline(always)]
    fn operand(self, expert: u32, column: u32, n: u32, k: u32) -> impl Operand {
        let base = self.wrapping_add(expert as usize * n as usize * k as usize);
        Dense::new(rows_of(base, column, n, k), k, is_wide(base, k))
    }

    #[inline(always)]
    unsafe fn scale(self, _: u32) -> Scale {
        Scale::None
    }
}

/// NVFP4 weights.
#[derive(Clone, Copy)]
struct Packed {
    codes: *const u8,
    scales: *const u8,
    tensor: *const f32,
    divide: bool,
}

impl Weights for Packed {
    #[inline(always)]
    fn operand(self, expert: u32, column: u32, n: u32, k: u32) -> impl Operand {
        let rows = move |r: u32| {
            if column + r < n {
                let row = expert as usize * n as usize + (column + r) as usize;
                let codes = self.codes.wrapping_add(row * (k / 2) as usize);
                (codes, self.scales.wrapping_add(row * (k / 16) as usize))
            } else {
                (core::ptr::null(), core::ptr::null())
            }
        };
        Nvfp4::<Bf16, _>::new(rows, k)
    }

    #[inline(always)]
    unsafe fn scale(self, expert: u32) -> Scale {
        // SAFETY: the caller's promise.
        let scale = unsafe { mem::load(self.tensor.add(expert as usize)) };
        if self.divide {
            Scale::Divide(scale)
        } else {
            Scale::Multiply(scale)
        }
    }
}

/// The number of an expert's first row tile.
///
/// # Safety
/// The expert is at most E.
#[inline(always)]
unsafe fn first_tile(offsets: *const i32, expert: u32, rows: u32) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { mem::load(offsets.add(expert as usize)) as u32 / rows + expert }
}

/// The last of `0 ..= experts` whose first tile is at most `tile`. The whole warp calls it.
///
/// # Safety
/// `offsets` has E + 1 elements.
#[inline(always)]
unsafe fn expert_of(offsets: *const i32, tile: u32, rows: u32, experts: u32) -> u32 {
    // First tiles rise with the expert, and that of 0 is 0: the number of those at most `tile` tells the last one. Of every
    // 33rd first (33 * 32 > 1025), then of the 32 that follow it.
    let lane = warp::lane_id();
    // SAFETY: below E + 1.
    let reached = |expert: u32| expert <= experts && unsafe { first_tile(offsets, expert, rows) } <= tile;
    let coarse = (warp::ballot(reached(lane * 33)).count_ones() - 1) * 33;
    coarse + warp::ballot(reached(coarse + 1 + lane)).count_ones()
}

/// One tile of the output.
///
/// # Safety
/// The tensors have the shapes of the module's table.
#[inline(always)]
unsafe fn body<T: Block, W: Weights>(args: Args, w: W) {
    let Args {
        x,
        offsets,
        sorted,
        y,
        pairs,
        experts,
        top_k,
        n,
        k,
        gather,
    } = args;
    let (tile, column) = (thread::block_idx_y(), thread::block_idx_x() * T::COLUMNS);
    // SAFETY: the expert found is at most E.
    let (expert, row, end) = unsafe {
        let expert = expert_of(offsets, tile, T::ROWS, experts);
        let offset = |e: u32| mem::load(offsets.add(e as usize)) as u32;
        let row = offset(expert) + (tile - first_tile(offsets, expert, T::ROWS)) * T::ROWS;
        (expert, row, if expert == experts { pairs } else { offset(expert + 1) })
    };
    if row >= end {
        return;
    }
    let scale = if expert == experts {
        Scale::None
    } else {
        // SAFETY: the expert exists.
        unsafe { w.scale(expert) }
    };
    let output = Output {
        y,
        f32: false,
        bias: core::ptr::null(),
        residual: core::ptr::null(),
        scale,
        n,
    };
    // SAFETY: the row exists, and so does its pair.
    let pair = |r: u32| unsafe { mem::load(sorted.add((row + r) as usize)) } as u32;
    let store = |r: u32, c: u32, v: [f32; 4]| {
        if row + r < end {
            let to = if gather { row + r } else { pair(r) };
            // SAFETY: the row exists.
            unsafe { output.store::<Bf16>(to as usize, column + c, v) };
        }
    };
    if expert == experts {
        // Pairs without an expert.
        let mut item = thread::thread_idx_x();
        while item < T::ROWS * T::COLUMNS / 4 {
            store(item / (T::COLUMNS / 4), item % (T::COLUMNS / 4) * 4, [0.0; 4]);
            item += T::THREADS;
        }
        return;
    }
    let rows = |r: u32| {
        if row + r < end {
            let from = if gather { pair(r) / top_k.max(1) } else { row + r };
            x.wrapping_add(from as usize * k as usize)
        } else {
            core::ptr::null()
        }
    };
    // SAFETY: the rows are inside the tensors or null.
    let sums =
        unsafe { T::product::<Bf16, _, _>(Dense::new(rows, k, is_wide(x, k)), w.operand(expert, column, n, k), k) };
    T::each(&sums, store);
}

/// One tile a line: name for bf16, name for NVFP4, tile, threads, blocks an SM of the one and of the other.
macro_rules! kernels {
    ($($dense:ident, $packed:ident($tile:ty, $threads:literal, $blocks:literal, $packed_blocks:literal);)*) => {$(
        /// The product with bf16 weights for one tile; see the module for its parameters.
        ///
        /// # Safety
        /// The tensors must have the shapes of the module's table, on the device; the launch is [`launch`]'s.
        #[kernel(threads = $threads, min_blocks = $blocks)]
        pub unsafe fn $dense(
            x: *const u16,
            w: *const u16,
            offsets: *const i32,
            sorted: *const i32,
            y: *mut u8,
            pairs: u32,
            experts: u32,
            top_k: u32,
            n: u32,
            k: u32,
            gather: u32,
        ) {
            let gather = gather != 0;
            // SAFETY: the caller's promise.
            unsafe { body::<$tile, _>(Args { x, offsets, sorted, y, pairs, experts, top_k, n, k, gather }, w) }
        }

        /// The product with NVFP4 weights for one tile; `divide`: by the tensor scale.
        ///
        /// # Safety
        /// As for the other; codes are aligned to 8, and k is a multiple of 16.
        #[kernel(threads = $threads, min_blocks = $packed_blocks)]
        pub unsafe fn $packed(
            x: *const u16,
            codes: *const u8,
            scales: *const u8,
            tensor: *const f32,
            divide: u32,
            offsets: *const i32,
            sorted: *const i32,
            y: *mut u8,
            pairs: u32,
            experts: u32,
            top_k: u32,
            n: u32,
            k: u32,
            gather: u32,
        ) {
            let (gather, divide) = (gather != 0, divide != 0);
            let w = Packed { codes, scales, tensor, divide };
            // SAFETY: the caller's promise.
            unsafe { body::<$tile, _>(Args { x, offsets, sorted, y, pairs, experts, top_k, n, k, gather }, w) }
        }
    )*};
}

kernels! {
    moe_grouped_bf16_wide, moe_grouped_nvfp4_wide(Wide, 256, 2, 1);
    moe_grouped_bf16_middle, moe_grouped_nvfp4_middle(Middle, 128, 3, 3);
    moe_grouped_bf16_thin, moe_grouped_nvfp4_thin(Thin, 128, 4, 4);
}
