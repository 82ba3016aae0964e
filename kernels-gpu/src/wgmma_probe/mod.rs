//! One `wgmma` group a block, and the same products by `mma.sync`, for asking tensor cores what they compute: D = A * B^T (+ C).
//!
//! A block does one [`Group`]: 64 rows, N columns and 1 to 4 steps of 32 bytes of k. Its D is 4 x N/8 tiles of 16 x 8, in the layout of
//! [`crate::mma_probe`]'s problems.
//!
//! | tensor | shape | `wgmma_probe_bf16`, `_f16` | `_s8` | `_f16_f16` |
//! | --- | --- | --- | --- | --- |
//! | groups | `[groups][8]` | u32: [`Group::pack`] | the same | the same |
//! | a | `[rows][k]`: each group's steps of 64 rows, one after the other | bf16 or f16, k = 16 | int8, k = 32 | f16 |
//! | b | `[rows][k]`: each group's steps of N rows | the same | the same | the same |
//! | c, d, sync | `[tiles][16][8]`: tile 4j + w of a group is rows 16w and columns 8j on | f32 | int32 | f16 |
//!
//! d is wgmma's answer, sync that of `mma.sync` over the same steps, accumulating in f32 or int32; there is none for `_f16_f16`. Canonical
//! order: none, it is the instruction; `docs/tensor-cores.md` says what it computes. D keeps the bits that the tensor core gave.
//!
//! Threads write the operands to shared memory in any of five layouts ([`Layout`]), among bytes of all ones, which are NaN or -1: a
//! descriptor that reads anywhere else shows. Then `fence.proxy.async`, a barrier, and the products, each waited for before the next.
//! Grid: one block of [`THREADS`] a group; [`SHARED_BYTES`] of dynamic shared memory. A block of another N than its kernel's does nothing.
//!
//! | version | what | measured |
//! | --- | --- | --- |
//! | 1 | all N of a type in one kernel, chosen by the group | not timed |
//! | 2 | kernels of their own for A from registers: with both in one, ptxas spills | not timed |

use cuda_std::wgmma::{self, Accumulator, Bf16, F16, Land, Multiply, S8};
use cuda_std::{U32x4, kernel, mem, mma, proxy, shared, thread, warp};

mod element;
mod group;
mod operand;

pub use group::{GROUP_WORDS, Group, Layout, Place};

use crate::unroll::unroll;
use element::Element;
use operand::{Operand, write};

/// Threads of a block: a warpgroup.
pub const THREADS: u32 = 128;
/// Rows of A.
pub const ROWS: u32 = 64;
/// The most steps of a group: what a row of 128 bytes holds.
pub const MOST_STEPS: u32 = 4;
/// B begins here: A is at most 64 rows of 128 bytes.
const B_AT: u32 = ROWS * 128;
/// Dynamic shared memory of a block.
pub const SHARED_BYTES: u32 = B_AT + 256 * 128;
/// N of the kernels with A from registers.
pub const REGISTERS_N: [u32; 10] = [8, 16, 24, 32, 48, 64, 96, 128, 192, 256];

/// A lane's registers of 16 rows of A, 8 words each.
///
/// # Safety
/// `a` points to 16 such rows on the device.
#[inline(always)]
unsafe fn fragment_a(a: *const u32) -> [u32; 4] {
    let lane = warp::lane_id();
    // SAFETY: rows lane / 4 and that + 8, words lane % 4 and that + 4: all below 16 and 8.
    unsafe {
        let a = a.add((lane / 4 * 8 + lane % 4) as usize);
        [
            mem::load(a),
            mem::load(a.add(64)),
            mem::load(a.add(4)),
            mem::load(a.add(68)),
        ]
    }
}

/// A lane's registers of 8 rows of B, 8 words each.
///
/// # Safety
/// `b` points to 8 such rows on the device.
#[inline(always)]
unsafe fn fragment_b(b: *const u32) -> [u32; 2] {
    let lane = warp::lane_id();
    // SAFETY: row lane / 4 and words lane % 4 and that + 4: all below 8.
    unsafe {
        let b = b.add((lane / 4 * 8 + lane % 4) as usize);
        [mem::load(b), mem::load(b.add(4))]
    }
}

/// The block's tensors, from its group's first rows and tile on.
#[derive(Clone, Copy)]
struct Block<T> {
    group: Group,
    a: *const u32,
    b: *const u32,
    c: *const T,
    d: *mut T,
}

impl<T> Block<T> {
    /// The block's group.
    ///
    /// # Safety
    /// The tensors are as in the module's table, and there are as many groups as blocks.
    #[inline(always)]
    unsafe fn new(groups: *const u32, a: *const u32, b: *const u32, c: *const T, d: *mut T) -> Self {
        // SAFETY: the caller's promise; a group is 8 words, aligned to 16 bytes, and its rows are in `a` and `b`.
        unsafe {
            let words = groups.add(thread::block_idx_x() as usize * GROUP_WORDS).cast::<U32x4>();
            let (U32x4([w0, w1, w2, w3]), U32x4([w4, w5, w6, w7])) = (mem::load(words), mem::load(words.add(1)));
            let group = Group::unpack([w0, w1, w2, w3, w4, w5, w6, w7]);
            let (a, b) = (a.add(group.first_a as usize * 8), b.add(group.first_b as usize * 8));
            Block { group, a, b, c, d }
        }
    }

    /// Where this lane's first pair of this warp's first tile is, in values of T.
    #[inline(always)]
    fn first_pair(&self) -> usize
    where
        T: Element,
    {
        let (tile, lane) = (self.group.first_tile + thread::thread_idx_x() / 32, warp::lane_id());
        tile as usize * T::TILE + (lane / 4 * 8 + lane % 4 * 2) as usize * T::TILE / 128
    }

    /// This warp's 16 rows of A of a step.
    ///
    /// # Safety
    /// `step` is below the group's steps.
    #[inline(always)]
    unsafe fn rows(&self, step: u32) -> [u32; 4] {
        // SAFETY: 16 rows of the step's 64, for each of four warps.
        unsafe {
            fragment_a(
                self.a
                    .add(((step * ROWS + thread::thread_idx_x() / 32 * 16) * 8) as usize),
            )
        }
    }

    /// Both operands to shared memory.
    ///
    /// # Safety
    /// The group's rows are in `a` and `b`.
    #[inline(always)]
    unsafe fn stage(&self) {
        let (group, at) = (self.group, shared::dynamic::<u8>());
        // SAFETY: the caller's promise.
        unsafe {
            write(at, self.a, ROWS, group.steps, group.a);
            write(at.add(B_AT), self.b, group.columns, group.steps, group.b);
        }
        proxy::fence_async();
        thread::sync_threads();
    }
}

/// The products of one N, with A from registers or from shared memory.
///
/// # Safety
/// The group has this N, is staged, and its tiles are in `c` and `d`.
#[inline(always)]
unsafe fn product<F: wgmma::Format, T: Element, const R: usize, const REGISTERS: bool>(block: Block<T>)
where
    Accumulator<T, R>: Multiply<F> + Land,
{
    let group = block.group;
    // SAFETY: the group has 8 columns for each T::REGISTERS of R, and its tiles are in `c` and `d`.
    let (from, to) = unsafe { (block.c.add(block.first_pair()), block.d.add(block.first_pair())) };
    // SAFETY: numbers, for which zero bytes are zero.
    let mut values: [T; R] = unsafe { core::mem::zeroed() };
    unroll!(j < 32 => {
        if j < R / T::REGISTERS {
            // SAFETY: as above.
            let part = unsafe { T::load(from, j) };
            values[T::REGISTERS * j] = part[0];
            values[T::REGISTERS * j + 1] = part[1];
            if T::REGISTERS == 4 {
                values[T::REGISTERS * j + 2] = part[2];
                values[T::REGISTERS * j + 3] = part[3];
            }
        }
    });
    let mut d = Accumulator::of(values);
    let at = shared::dynamic::<u8>();
    let a = Operand::new(at, ROWS, group.steps, group.a);
    let b = Operand::new(at.add(B_AT), group.columns, group.steps, group.b);
    let mut step = 0;
    while step < group.steps {
        let accumulate = group.accumulate || step > 0;
        if REGISTERS {
            // SAFETY: step < steps.
            let rows = unsafe { block.rows(step) };
            wgmma::fence();
            d.issue_registers(rows, b.step(step), accumulate);
        } else {
            wgmma::fence();
            d.issue(a.step(step), b.step(step), accumulate);
        }
        wgmma::commit();
        d.wait::<0>();
        step += 1;
    }
    let values = d.values();
    unroll!(j < 32 => {
        if j < R / T::REGISTERS {
            let (first, second) = (values[T::REGISTERS * j], values[T::REGISTERS * j + 1]);
            let mut part = [first, second, first, second];
            if T::REGISTERS == 4 {
                part[2] = values[T::REGISTERS * j + 2];
                part[3] = values[T::REGISTERS * j + 3];
            }
            // SAFETY: as above.
            unsafe { T::store(to, j, part) };
        }
    });
}

/// The same products by `mma.sync`, for one type.
macro_rules! sync {
    ($(#[$doc:meta])* $name:ident, $t:ty, $product:ident) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// The group's tiles are in `c` and `sync`.
        #[inline(always)]
        unsafe fn $name(block: Block<$t>, sync: *mut $t) {
            let group = block.group;
            // SAFETY: the caller's promise.
            let (from, to) = unsafe { (block.c.add(block.first_pair()), sync.add(block.first_pair())) };
            let mut j = 0;
            while j < group.columns / 8 {
                // SAFETY: j is one of the group's columns by 8, and so are its tile and 8 rows of B.
                let mut d = unsafe { <$t as Element>::load(from, j as usize) };
                if !group.accumulate {
                    d = [0 as $t; 4];
                }
                let mut step = 0;
                while step < group.steps {
                    // SAFETY: step < steps, and as above.
                    let (a, b) = unsafe {
                        let b = block.b.add(((step * group.columns + 8 * j) * 8) as usize);
                        (block.rows(step), fragment_b(b))
                    };
                    [d] = mma::$product::<1>(&[a], &[b], &[d]);
                    step += 1;
                }
                // SAFETY: as above.
                unsafe { <$t as Element>::store(to, j as usize, d) };
                j += 1;
            }
        }
    };
}
sync! {
    /// bf16.
    sync_bf16, f32, m16n8k16_bf16
}
sync! {
    /// f16.
    sync_f16, f32, m16n8k16_f16
}
sync! {
    /// int8.
    sync_s8, i32, m16n8k32_s8
}

/// For accumulators of f16: there is none.
///
/// # Safety
/// None.
#[inline(always)]
unsafe fn no_sync(_: Block<u32>, _: *mut u32) {}

/// `product` of the block's N, with as many registers each; the group decides where A is from.
macro_rules! by_columns {
    ($block:ident, $format:ty, $t:ty, $registers:literal, $($columns:literal $count:literal)*) => {
        match $block.group.columns {
            $($columns => {
                // SAFETY: the kernel's promise.
                unsafe { product::<$format, $t, $count, $registers>($block) }
            })*
            _ => {}
        }
    };
}

/// Defines the kernels of a type: A from shared memory, and A from registers with fewer N.
macro_rules! probe {
    ($(#[$doc:meta])* $name:ident $registers_name:ident, $format:ident, $t:ty, $sync:ident,
        [$($columns:literal $count:literal)*], [$($register_columns:literal $register_count:literal)*]) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// The tensors must have the shapes of the module's table, on the device, aligned to 16 bytes; as many blocks as groups, all
        /// with A from shared memory.
        #[kernel(threads = 128, archs = "sm_90a")]
        pub unsafe fn $name(groups: *const u32, a: *const u32, b: *const u32, c: *const $t, d: *mut $t, sync: *mut $t) {
            // SAFETY: the kernel's promise.
            let block = unsafe {
                let block = Block::new(groups, a, b, c, d);
                block.stage();
                $sync(block, sync);
                block
            };
            by_columns!(block, $format, $t, false, $($columns $count)*);
        }

        $(#[$doc])*
        ///
        /// # Safety
        /// As for the other kernel, with A from registers; N is one of [`REGISTERS_N`].
        #[kernel(threads = 128, archs = "sm_90a")]
        pub unsafe fn $registers_name(
            groups: *const u32,
            a: *const u32,
            b: *const u32,
            c: *const $t,
            d: *mut $t,
            sync: *mut $t,
        ) {
            // SAFETY: the kernel's promise.
            let block = unsafe {
                let block = Block::new(groups, a, b, c, d);
                block.stage();
                $sync(block, sync);
                block
            };
            by_columns!(block, $format, $t, true, $($register_columns $register_count)*);
        }
    };
}
probe! {
    /// Products of bf16 with accumulators of f32.
    wgmma_probe_bf16 wgmma_probe_bf16_registers, Bf16, f32, sync_bf16,
    [8 4  16 8  24 12  32 16  40 20  48 24  56 28  64 32  72 36  80 40  88 44  96 48  104 52  112 56  120 60  128 64
     136 68  144 72  152 76  160 80  168 84  176 88  184 92  192 96  200 100  208 104  216 108  224 112  232 116
     240 120  248 124  256 128],
    [8 4  16 8  24 12  32 16  48 24  64 32  96 48  128 64  192 96  256 128]
}
probe! {
    /// Products of f16 with accumulators of f32.
    wgmma_probe_f16 wgmma_probe_f16_registers, F16, f32, sync_f16,
    [8 4  16 8  24 12  32 16  40 20  48 24  56 28  64 32  72 36  80 40  88 44  96 48  104 52  112 56  120 60  128 64
     136 68  144 72  152 76  160 80  168 84  176 88  184 92  192 96  200 100  208 104  216 108  224 112  232 116
     240 120  248 124  256 128],
    [8 4  16 8  24 12  32 16  48 24  64 32  96 48  128 64  192 96  256 128]
}
probe! {
    /// Products of int8 with accumulators of int32.
    wgmma_probe_s8 wgmma_probe_s8_registers, S8, i32, sync_s8,
    [8 4  16 8  24 12  32 16  48 24  64 32  80 40  96 48  112 56  128 64  144 72  160 80  176 88  192 96  208 104
     224 112  240 120  256 128],
    [8 4  16 8  24 12  32 16  48 24  64 32  96 48  128 64  192 96  256 128]
}
probe! {
    /// Products of f16 with accumulators of f16, two to a word of `c` and `d`. `sync` is not used.
    wgmma_probe_f16_f16 wgmma_probe_f16_f16_registers, F16, u32, no_sync,
    [8 2  16 4  24 6  32 8  40 10  48 12  56 14  64 16  72 18  80 20  88 22  96 24  104 26  112 28  120 30  128 32
     136 34  144 36  152 38  160 40  168 42  176 44  184 46  192 48  200 50  208 52  216 54  224 56  232 58
     240 60  248 62  256 64],
    [8 2  16 4  24 6  32 8  48 12  64 16  96 24  128 32  192 48  256 64]
}
