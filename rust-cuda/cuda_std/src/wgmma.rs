//! Warpgroup products (PTX `wgmma`, sm_90a): D = A * B^T + D of 64 rows, N columns and 16 k (32 of bytes), issued by the 128 threads of a
//! warpgroup (warps 4i to 4i + 3), computed while they go on.
//!
//! ```ignore
//! wgmma::fence();                                 // registers that were written by other means are seen
//! acc.issue(a, b, false);                         // D = A B^T
//! acc.issue(a.advance(32), b.advance(32), true);  // the next 16 k of a 128-byte row: D += A B^T
//! wgmma::commit();                                // closes the group
//! acc.wait::<0>();                                // all groups but the 0 newest are over
//! acc.values()                                    // not before
//! ```
//!
//! The bytes are those of `mma.sync`'s chain over the same k (docs/tensor-cores.md). With lane = 4 * g + t of warp w of the warpgroup
//! (g in 0..8, t in 0..4) a thread holds of D, for each group j of 8 columns:
//!
//! | `values()` | row | column |
//! | --- | --- | --- |
//! | `[4j]`, `[4j + 1]` | 16w + g | 8j + 2t, 8j + 2t + 1 |
//! | `[4j + 2]`, `[4j + 3]` | 16w + g + 8 | the same |
//!
//! An f16 accumulator has two columns in a register: `[2j]` and `[2j + 1]` are the two rows. A from registers: as `a` of
//! [`crate::mma::m16n8k16_bf16`], of rows 16w to 16w + 15.

use crate::shared::Shared;

/// How rows of a tile are permuted in shared memory, against bank conflicts: 16-byte pieces of a row of so many bytes change
/// places by the row's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swizzle {
    /// Rows of 128 bytes, atoms of 8 rows (1024 bytes, aligned to that): piece p of row r is at p ^ (r % 8).
    B128,
    /// Rows of 64 bytes, atoms of 8 rows (512 bytes): piece p of row r is at p ^ (r / 2 % 4).
    B64,
    /// Rows of 32 bytes, atoms of 8 rows (256 bytes): piece p of row r is at p ^ (r / 4 % 2).
    B32,
}

/// Where an operand is in shared memory: a tile `[rows][k]`, k innermost (PTX's matrix descriptor).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    bits: u64,
}

impl Descriptor {
    /// A tile of rows that are as long as the swizzle's, as a tensor copy with that swizzle writes it: row r at `at` + r * (128, 64, 32)
    /// bytes. `at` is aligned to the swizzle's atom.
    #[inline(always)]
    pub const fn k_major(at: Shared<u8>, swizzle: Swizzle) -> Self {
        let (layout, atom) = match swizzle {
            Swizzle::B128 => (1, 1024),
            Swizzle::B64 => (2, 512),
            Swizzle::B32 => (3, 256),
        };
        // The leading offset has no meaning for swizzled tiles with k innermost.
        Self::encode(at.addr(), 16, atom, layout)
    }

    /// A tile without swizzle, of matrices of 8 rows of 16 bytes each (128 bytes one after the other): the next 16 bytes of k are
    /// `k_bytes` further on, the next 8 rows `row_bytes`.
    #[inline(always)]
    pub const fn matrices(at: Shared<u8>, k_bytes: u32, row_bytes: u32) -> Self {
        Self::encode(at.addr(), k_bytes, row_bytes, 0)
    }

    #[inline(always)]
    const fn encode(addr: u32, leading: u32, stride: u32, layout: u64) -> Self {
        let bits = ((addr & 0x3_ffff) >> 4) as u64
            | ((leading >> 4) as u64) << 16
            | ((stride >> 4) as u64) << 32
            | layout << 62;
        Self { bits }
    }

    /// The same with the start `bytes` further on, a multiple of 16: 32 bytes to the next 16 k (32 of bytes) within a swizzled row,
    /// a multiple of the atom to other rows.
    #[inline(always)]
    pub const fn advance(self, bytes: u32) -> Self {
        // Shared memory ends below 2^18: the field does not overflow.
        Self {
            bits: self.bits + (bytes >> 4) as u64,
        }
    }

    /// PTX's encoding.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.bits
    }
}

/// Types of factors.
pub trait Format {
    /// The simulator's name.
    #[cfg(not(target_arch = "nvptx64"))]
    #[doc(hidden)]
    const FORMAT: simt::ctx::WgmmaFormat;
}
macro_rules! formats {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;
        impl Format for $name {
            #[cfg(not(target_arch = "nvptx64"))]
            const FORMAT: simt::ctx::WgmmaFormat = simt::ctx::WgmmaFormat::$name;
        }
    )*};
}
formats! {
    /// `bf16`, with f32 accumulators.
    Bf16
    /// `f16`, with f32 or f16 accumulators.
    F16
    /// Signed bytes, with s32 accumulators.
    S8
}

/// A thread's part of D: `R` registers of f32 (N = 2R), i32 (N = 2R) or two f16 each (u32, N = 4R).
///
/// Between [`Multiply::issue`] and the wait for its group nobody may touch the registers: on the GPU nothing says so, the simulator
/// reports it.
#[derive(Clone, Copy, Debug)]
pub struct Accumulator<T, const R: usize> {
    registers: [T; R],
    /// The group of the newest product.
    #[cfg(not(target_arch = "nvptx64"))]
    ticket: u64,
}

impl<T: Copy, const R: usize> Accumulator<T, R> {
    /// All zeros.
    #[inline(always)]
    pub fn zero() -> Self {
        // SAFETY: numbers, for which zero bytes are zero. Not `[0; R]`: that becomes a loop of stores, which keeps the array in memory.
        unsafe { core::mem::zeroed() }
    }

    /// These registers: what the first product adds to where it accumulates.
    #[inline(always)]
    pub const fn of(registers: [T; R]) -> Self {
        Self {
            registers,
            #[cfg(not(target_arch = "nvptx64"))]
            ticket: 0,
        }
    }

    /// The registers, once the group of the newest product has been waited for.
    #[inline(always)]
    #[track_caller]
    pub fn values(&self) -> &[T; R] {
        #[cfg(not(target_arch = "nvptx64"))]
        if self.ticket != 0 {
            simt::ctx::wgmma_landed(self.ticket);
        }
        &self.registers
    }

    #[cfg(not(target_arch = "nvptx64"))]
    #[inline(always)]
    #[track_caller]
    fn simulate<F: Format>(&mut self, n: u32, a: simt::ctx::WgmmaA, b: Descriptor, accumulate: bool) {
        let d = self.registers.as_mut_ptr().cast();
        let form = simt::ctx::Wgmma {
            n,
            format: F::FORMAT,
            registers: R as u32,
            accumulate,
        };
        // SAFETY: `d` points to this thread's R registers of 4 bytes, which live while the warpgroup meets.
        self.ticket = unsafe { simt::ctx::wgmma(form, d, a, b.bits) };
    }
}

/// Products with factors `F`.
pub trait Multiply<F: Format> {
    /// Columns of D: 8 to 256.
    const N: u32;

    /// Issues D = A * B^T (+ D where `accumulate`), both factors from shared memory: A 64 rows, B N rows, of 32 bytes of k each. All
    /// 128 threads, with the same arguments.
    fn issue(&mut self, a: Descriptor, b: Descriptor, accumulate: bool);

    /// The same with A from registers, which nobody may write before the wait.
    fn issue_registers(&mut self, a: [u32; 4], b: Descriptor, accumulate: bool);
}

/// Accumulators that can be waited for.
pub trait Land {
    /// Waits until at most the `LEFT` newest groups of this warpgroup are under way; no read of the registers moves before it.
    fn wait<const LEFT: u32>(&mut self);
}

cuda_std_macros::__wgmma_forms!();

macro_rules! order {
    ($($(#[$doc:meta])* $name:ident = $ptx:literal, $cpu:ident;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        #[track_caller]
        pub fn $name() {
            target! {
                gpu {
                    // SAFETY: orders what this warpgroup does, which is here as a whole (the module's rule).
                    unsafe { core::arch::asm!($ptx, options(nostack, preserves_flags)) }
                }
                cpu { simt::ctx::$cpu() }
            }
        }
    )*};
}
order! {
    /// Before the first product, and whenever registers of an accumulator or of A were written by other means.
    fence = "wgmma.fence.sync.aligned;", wgmma_fence;
    /// Closes the group of the products issued since the last one.
    commit = "wgmma.commit_group.sync.aligned;", wgmma_commit;
}

/// Waits until at most the `LEFT` newest groups are under way. For a wait after which an accumulator is read: [`Land::wait`].
#[inline(always)]
#[track_caller]
pub fn wait<const LEFT: u32>() {
    target! {
        gpu {
            // SAFETY: as for `fence`.
            unsafe { core::arch::asm!("wgmma.wait_group.sync.aligned {};", const LEFT, options(nostack, preserves_flags)) }
        }
        cpu { simt::ctx::wgmma_wait(LEFT) }
    }
}
