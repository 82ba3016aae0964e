//! Bulk copies between device and shared memory by the copy engine (PTX `cp.async.bulk`, sm_90): tiles of tensors of 1 to 3 dimensions, and
//! plain bytes. One thread issues a copy; loads complete bytes on a [`Barrier`], stores are waited for in groups.
//!
//! Elements of a tile outside of the tensor load as zeros, and are not stored. The full tile's bytes count on the barrier in any case.

use crate::mbarrier::Barrier;
use crate::shared::Shared;

/// What a tensor copy knows of its tensor: address, sizes, strides, tile, swizzle. Made by the host; a kernel takes it as
/// `map: &TensorMap`, which is launched by value.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// The driver's encoding; on the simulator its own.
    pub words: [u64; 16],
}

// SAFETY: plain bytes. Their alignment is above what a parameter may have; `#[kernel]` and the builder see to it, by `MapPlace`.
unsafe impl crate::launch::KernelArg for TensorMap {}

/// For [`#[kernel]`](crate::kernel): a tensor map among the parameters of an entry. rustc cannot give a parameter an
/// alignment above 16; the builder raises it to 64 in the PTX.
#[cfg(target_arch = "nvptx64")]
#[doc(hidden)]
#[repr(C, align(16))]
#[derive(Clone, Copy)]
pub struct MapPlace([u64; 16]);

/// For [`#[kernel]`](crate::kernel), in an entry: the reference to the tensor map that is the parameter of this symbol. As
/// nvcc does for a `__grid_constant__` parameter: the address in parameter space, made generic.
#[cfg(target_arch = "nvptx64")]
#[doc(hidden)]
#[macro_export]
macro_rules! __tensor_map_param {
    ($symbol:literal) => {{
        let map: *const $crate::tma::TensorMap;
        // SAFETY: makes an address; parameters live as long as the kernel runs, and nobody writes them.
        unsafe {
            ::core::arch::asm!(
                ::core::concat!("mov.b64 {map}, ", $symbol, ";"),
                "cvta.param.u64 {map}, {map};",
                map = out(reg64) map, options(pure, nomem, nostack, preserves_flags),
            );
            &*map
        }
    }};
}

/// How long L2 should keep what a load brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// As any other.
    Normal,
    /// The first to leave: read once.
    First,
    /// The last to leave: read again and again.
    Last,
}

impl Hint {
    /// The encoded policies of PTX's `createpolicy` for the whole access, as compilers fold them.
    #[cfg(target_arch = "nvptx64")]
    const fn policy(self) -> u64 {
        match self {
            Hint::Normal => 0x1000_0000_0000_0000,
            Hint::First => 0x12f0_0000_0000_0000,
            Hint::Last => 0x14f0_0000_0000_0000,
        }
    }
}

/// One form of the instruction for each number of dimensions: `$text` with `{at}` as the coordinates.
#[cfg(target_arch = "nvptx64")]
macro_rules! by_dimensions {
    ($D:ident, $at:ident, $head:literal, $middle:literal, $tail:literal, $($operand:tt)*) => {
        // SAFETY: the caller's promise.
        unsafe {
            match $D {
                1 => core::arch::asm!(concat!($head, "1d", $middle, "{{{x}}}", $tail), $($operand)* x = in(reg32) $at[0],
                    options(nostack, preserves_flags)),
                2 => core::arch::asm!(concat!($head, "2d", $middle, "{{{x}, {y}}}", $tail), $($operand)* x = in(reg32) $at[0],
                    y = in(reg32) $at[1 % $D], options(nostack, preserves_flags)),
                _ => core::arch::asm!(concat!($head, "3d", $middle, "{{{x}, {y}, {z}}}", $tail), $($operand)* x = in(reg32) $at[0],
                    y = in(reg32) $at[1 % $D], z = in(reg32) $at[2 % $D], options(nostack, preserves_flags)),
            }
        }
    };
}

/// Starts the copy of a tile to shared memory: the tile at elements `at` (`at[0]` of the innermost dimension), whose bytes complete on
/// `barrier`. `D` is the map's number of dimensions, 1 to 3.
///
/// # Safety
/// `dst` has room for the tile, aligned to 128 bytes (1024 for the swizzle of 128 bytes), and nobody touches it before the barrier's phase
/// is over. The map is a kernel's parameter.
#[inline(always)]
#[track_caller]
pub unsafe fn load<const D: usize>(dst: Shared<u8>, map: &TensorMap, at: [i32; D], barrier: Barrier, hint: Hint) {
    const { assert!(D >= 1 && D <= 3, "1 to 3 dimensions") };
    target! {
        gpu {
            by_dimensions!(D, at, "cp.async.bulk.tensor.", ".shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [{dst}], [{map}, ",
                "], [{barrier}], {policy};", dst = in(reg32) dst.addr(), map = in(reg64) map, barrier = in(reg32) barrier.addr(),
                policy = in(reg64) hint.policy(),);
        }
        cpu {
            let _ = hint;
            // SAFETY: the caller's promise.
            unsafe { simt::ctx::tma_load(dst.addr(), &map.words, &at, barrier.addr(), None) }
        }
    }
}

/// [`load`] to the same place in every block of the cluster whose bit of `blocks` is set; the bytes complete on the barrier of the same
/// address in each of them.
///
/// # Safety
/// As for [`load`], in each of these blocks.
#[inline(always)]
#[track_caller]
pub unsafe fn load_multicast<const D: usize>(
    dst: Shared<u8>,
    map: &TensorMap,
    at: [i32; D],
    barrier: Barrier,
    blocks: u16,
    hint: Hint,
) {
    const { assert!(D >= 1 && D <= 3, "1 to 3 dimensions") };
    target! {
        gpu {
            by_dimensions!(D, at, "cp.async.bulk.tensor.",
                ".shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint [{dst}], [{map}, ",
                "], [{barrier}], {blocks}, {policy};", dst = in(reg32) dst.addr(), map = in(reg64) map, barrier = in(reg32) barrier.addr(),
                blocks = in(reg16) blocks, policy = in(reg64) hint.policy(),);
        }
        cpu {
            let _ = hint;
            // SAFETY: the caller's promise.
            unsafe { simt::ctx::tma_load(dst.addr(), &map.words, &at, barrier.addr(), Some(blocks)) }
        }
    }
}

/// Starts the copy of a tile from shared memory into the tensor, in the thread's current group of stores.
///
/// # Safety
/// The tile's bytes are written, [fenced](crate::proxy::fence_async) by those who wrote them, and stay until [`wait_read`]. Nobody else
/// touches these elements of the tensor.
#[inline(always)]
#[track_caller]
pub unsafe fn store<const D: usize>(map: &TensorMap, at: [i32; D], src: Shared<u8>) {
    const { assert!(D >= 1 && D <= 3, "1 to 3 dimensions") };
    target! {
        gpu {
            by_dimensions!(D, at, "cp.async.bulk.tensor.", ".global.shared::cta.bulk_group [{map}, ", "], [{src}];",
                map = in(reg64) map, src = in(reg32) src.addr(),);
        }
        cpu {
            // SAFETY: the caller's promise.
            unsafe { simt::ctx::tma_store(&map.words, &at, src.addr()) }
        }
    }
}

/// Brings the map itself near, so that the first copy with it need not wait for it.
#[inline(always)]
pub fn prefetch(map: &TensorMap) {
    target! {
        gpu {
            // SAFETY: only a hint.
            unsafe { core::arch::asm!("prefetch.tensormap [{}];", in(reg64) map, options(nostack, preserves_flags)) }
        }
        cpu { let _ = map; }
    }
}

/// Starts the copy of `bytes` (a multiple of 16) to shared memory; they complete on `barrier`.
///
/// # Safety
/// `src` has so many readable bytes of device memory, `dst` room for them, both aligned to 16; nobody touches `dst` before the barrier's
/// phase is over, nobody writes `src`.
#[inline(always)]
#[track_caller]
pub unsafe fn bulk_load(dst: Shared<u8>, src: *const u8, bytes: u32, barrier: Barrier) {
    // SAFETY: the caller's promise.
    target! {
        gpu {
            unsafe {
                core::arch::asm!("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [{}], [{}], {}, [{}];",
                    in(reg32) dst.addr(), in(reg64) src, in(reg32) bytes, in(reg32) barrier.addr(), options(nostack, preserves_flags));
            }
        }
        cpu {
            // SAFETY: the caller\'s promise.
            unsafe { simt::ctx::bulk_load(dst.addr(), src, bytes, barrier.addr()) }
        }
    }
}

/// Starts the copy of `bytes` (a multiple of 16) from shared memory, in the thread's current group of stores.
///
/// # Safety
/// As for [`store`]; both addresses are aligned to 16.
#[inline(always)]
#[track_caller]
pub unsafe fn bulk_store(dst: *mut u8, src: Shared<u8>, bytes: u32) {
    // SAFETY: the caller's promise.
    target! {
        gpu {
            unsafe {
                core::arch::asm!("cp.async.bulk.global.shared::cta.bulk_group [{}], [{}], {};", in(reg64) dst, in(reg32) src.addr(),
                    in(reg32) bytes, options(nostack, preserves_flags));
            }
        }
        cpu {
            // SAFETY: the caller\'s promise.
            unsafe { simt::ctx::bulk_store(dst, src.addr(), bytes) }
        }
    }
}

/// Closes the group of the stores that this thread has started since the last one.
#[inline(always)]
#[track_caller]
pub fn commit() {
    target! {
        gpu {
            // SAFETY: orders this thread's stores.
            unsafe { core::arch::asm!("cp.async.bulk.commit_group;", options(nostack, preserves_flags)) }
        }
        cpu { simt::ctx::bulk_commit() }
    }
}

/// Waits until all but the `LEFT` newest groups of this thread have read their shared memory.
#[inline(always)]
#[track_caller]
pub fn wait_read<const LEFT: u32>() {
    target! {
        gpu {
            // SAFETY: waits for this thread's stores.
            unsafe { core::arch::asm!("cp.async.bulk.wait_group.read {};", const LEFT, options(nostack, preserves_flags)) }
        }
        cpu { simt::ctx::bulk_wait(LEFT, true) }
    }
}

/// Waits until all but the `LEFT` newest groups of this thread are done, their writes seen by it.
#[inline(always)]
#[track_caller]
pub fn wait<const LEFT: u32>() {
    target! {
        gpu {
            // SAFETY: waits for this thread's stores.
            unsafe { core::arch::asm!("cp.async.bulk.wait_group {};", const LEFT, options(nostack, preserves_flags)) }
        }
        cpu { simt::ctx::bulk_wait(LEFT, false) }
    }
}
