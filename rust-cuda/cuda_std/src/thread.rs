//! A thread's place in the launch, block-wide barriers, and fences.
//!
//! Barriers are convergent: every thread of the block (or of the warps that a named barrier counts) has to reach the same
//! one. On the GPU a barrier that only part of them reaches hangs; the simulator reports it.

use crate::vec::{UVec2, UVec3};

macro_rules! index {
    ($($(#[$doc:meta])* $name:ident = $gpu:ident, $cpu:ident.$axis:ident;)*) => {
        $($(#[$doc])*
        #[inline(always)]
        #[track_caller]
        pub fn $name() -> u32 {
            target! {
                gpu {
                    // SAFETY: reads a special register.
                    unsafe { core::arch::nvptx::$gpu() }
                }
                cpu { simt::ctx::$cpu().$axis }
            }
        })*
    };
}

index! {
    /// The thread's x index in its block.
    thread_idx_x = _thread_idx_x, thread_idx.x;
    /// The thread's y index in its block.
    thread_idx_y = _thread_idx_y, thread_idx.y;
    /// The thread's z index in its block.
    thread_idx_z = _thread_idx_z, thread_idx.z;
    /// The block's x index in the grid.
    block_idx_x = _block_idx_x, block_idx.x;
    /// The block's y index in the grid.
    block_idx_y = _block_idx_y, block_idx.y;
    /// The block's z index in the grid.
    block_idx_z = _block_idx_z, block_idx.z;
    /// Threads in a block along x.
    block_dim_x = _block_dim_x, block_dim.x;
    /// Threads in a block along y.
    block_dim_y = _block_dim_y, block_dim.y;
    /// Threads in a block along z.
    block_dim_z = _block_dim_z, block_dim.z;
    /// Blocks in the grid along x.
    grid_dim_x = _grid_dim_x, grid_dim.x;
    /// Blocks in the grid along y.
    grid_dim_y = _grid_dim_y, grid_dim.y;
    /// Blocks in the grid along z.
    grid_dim_z = _grid_dim_z, grid_dim.z;
}

/// The thread's index in its block.
#[inline(always)]
#[track_caller]
pub fn thread_idx() -> UVec3 {
    UVec3 {
        x: thread_idx_x(),
        y: thread_idx_y(),
        z: thread_idx_z(),
    }
}

/// The block's index in the grid.
#[inline(always)]
#[track_caller]
pub fn block_idx() -> UVec3 {
    UVec3 {
        x: block_idx_x(),
        y: block_idx_y(),
        z: block_idx_z(),
    }
}

/// Threads in a block.
#[inline(always)]
#[track_caller]
pub fn block_dim() -> UVec3 {
    UVec3 {
        x: block_dim_x(),
        y: block_dim_y(),
        z: block_dim_z(),
    }
}

/// Blocks in the grid.
#[inline(always)]
#[track_caller]
pub fn grid_dim() -> UVec3 {
    UVec3 {
        x: grid_dim_x(),
        y: grid_dim_y(),
        z: grid_dim_z(),
    }
}

/// The thread's linear index in the whole launch, whatever the dimensions of grid and block: blocks in x, y, z order,
/// threads of a block likewise.
#[inline(always)]
#[track_caller]
pub fn index() -> u32 {
    let (b, g, t, d) = (block_idx(), grid_dim(), thread_idx(), block_dim());
    let block = b.x + b.y * g.x + b.z * (g.x * g.y);
    block * (d.x * d.y * d.z) + t.z * (d.x * d.y) + t.y * d.x + t.x
}

/// The thread's index in a launch of one dimension.
#[inline(always)]
#[track_caller]
pub fn index_1d() -> u32 {
    block_idx_x() * block_dim_x() + thread_idx_x()
}

/// The thread's index in a launch of two dimensions.
#[inline(always)]
#[track_caller]
pub fn index_2d() -> UVec2 {
    UVec2 {
        x: index_1d(),
        y: block_idx_y() * block_dim_y() + thread_idx_y(),
    }
}

/// The thread's index in a launch of three dimensions.
#[inline(always)]
#[track_caller]
pub fn index_3d() -> UVec3 {
    let UVec2 { x, y } = index_2d();
    UVec3 {
        x,
        y,
        z: block_idx_z() * block_dim_z() + thread_idx_z(),
    }
}

/// Whether this is the very first thread of the launch.
#[inline(always)]
#[track_caller]
pub fn first() -> bool {
    thread_idx() == UVec3::default() && block_idx() == UVec3::default()
}

/// Threads in a warp: 32 on every NVIDIA GPU.
#[inline(always)]
pub fn warp_size() -> u32 {
    32
}

/// Waits until all threads of the block are here; what any of them wrote before is then seen by all of them.
#[inline(always)]
#[track_caller]
pub fn sync_threads() {
    target! {
        gpu {
            // SAFETY: the caller's whole block reaches this barrier (the module's rule).
            unsafe { crate::intrinsics::barrier_sync_all(0) }
        }
        cpu { simt::ctx::sync_threads() }
    }
}

/// [`sync_threads`] that also counts the threads whose `predicate` is not 0.
#[inline(always)]
#[track_caller]
pub fn sync_threads_count(predicate: u32) -> u32 {
    target! {
        gpu {
            // SAFETY: as in `sync_threads`.
            unsafe { crate::intrinsics::barrier_red_popc(0, predicate != 0) }
        }
        cpu { simt::ctx::sync_threads_reduce(predicate != 0) }
    }
}

/// [`sync_threads`] that also tells (1 or 0) whether every thread's `predicate` is not 0.
#[inline(always)]
#[track_caller]
pub fn sync_threads_and(predicate: u32) -> u32 {
    target! {
        gpu {
            // SAFETY: as in `sync_threads`.
            unsafe { crate::intrinsics::barrier_red_and(0, predicate != 0) as u32 }
        }
        cpu {
            // No thread without: counting the others needs no knowledge of the block's size.
            u32::from(simt::ctx::sync_threads_reduce(predicate == 0) == 0)
        }
    }
}

/// [`sync_threads`] that also tells (1 or 0) whether any thread's `predicate` is not 0.
#[inline(always)]
#[track_caller]
pub fn sync_threads_or(predicate: u32) -> u32 {
    target! {
        gpu {
            // SAFETY: as in `sync_threads`.
            unsafe { crate::intrinsics::barrier_red_or(0, predicate != 0) as u32 }
        }
        cpu { u32::from(simt::ctx::sync_threads_reduce(predicate != 0) != 0) }
    }
}

/// Waits at named barrier `id` (0..16, 0 is [`sync_threads`]'s) until `threads` threads, a multiple of 32, have arrived or
/// are waiting there: PTX `bar.sync id, threads`. Whole warps take part.
#[inline(always)]
#[track_caller]
pub fn barrier_sync_id(id: u32, threads: u32) {
    target! {
        gpu {
            // SAFETY: the warps that the caller counts all reach this barrier (the module's rule).
            unsafe { crate::intrinsics::barrier_sync_count(id, threads) }
        }
        cpu { simt::ctx::barrier_sync(id, threads) }
    }
}

/// [`barrier_sync_id`] with a constant id, which saves the GPU a general barrier's resources (all 16 otherwise).
#[inline(always)]
#[track_caller]
pub fn barrier_sync<const ID: u32>(threads: u32) {
    const { assert!(ID < 16, "a block has the barriers 0 to 15") };
    barrier_sync_id(ID, threads);
}

/// Counts the warp as arrived at named barrier `id` without waiting: PTX `bar.arrive id, threads`. What it wrote before is
/// seen by those who wait there.
#[inline(always)]
#[track_caller]
pub fn barrier_arrive_id(id: u32, threads: u32) {
    target! {
        gpu {
            // SAFETY: as in `barrier_sync_id`.
            unsafe { crate::intrinsics::barrier_arrive_count(id, threads) }
        }
        cpu { simt::ctx::barrier_arrive(id, threads) }
    }
}

/// [`barrier_arrive_id`] with a constant id.
#[inline(always)]
#[track_caller]
pub fn barrier_arrive<const ID: u32>(threads: u32) {
    const { assert!(ID < 16, "a block has the barriers 0 to 15") };
    barrier_arrive_id(ID, threads);
}

macro_rules! fence {
    ($($(#[$doc:meta])* $name:ident = $ptx:literal;)*) => {
        $($(#[$doc])*
        #[inline(always)]
        pub fn $name() {
            target! {
                gpu {
                    // SAFETY: a fence only orders memory accesses.
                    unsafe { core::arch::asm!($ptx, options(nostack, preserves_flags)) }
                }
                cpu { std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst) }
            }
        })*
    };
}

fence! {
    /// Orders this thread's memory accesses as the other threads of its block see them (CUDA's `__threadfence_block`).
    block_fence = "fence.sc.cta;";
    /// Orders this thread's memory accesses as all threads of the GPU see them (CUDA's `__threadfence`).
    device_fence = "fence.sc.gpu;";
    /// Orders this thread's memory accesses as the GPUs and the host see them (CUDA's `__threadfence_system`).
    system_fence = "fence.sc.sys;";
}

/// Rust-CUDA's older name of [`device_fence`].
#[inline(always)]
pub fn grid_fence() {
    device_fence();
}

/// Suspends the thread for about `nanos` nanoseconds, at most twice that and at most a millisecond. The simulator has no
/// time and goes on at once.
#[inline(always)]
pub fn nanosleep(nanos: u32) {
    target! {
        gpu {
            // SAFETY: the thread only waits.
            unsafe { core::arch::asm!("nanosleep.u32 {};", in(reg32) nanos, options(nostack, preserves_flags)) }
        }
        cpu { let _ = nanos; }
    }
}

/// Lets the kernel after this one in the stream start as soon as there is room for it, if it was launched for that
/// (programmatic dependent launch; PTX `griddepcontrol.launch_dependents`, from sm_90, nothing before it and in the
/// simulator). What it may read of this kernel's results it must wait for: [`wait_for_prerequisites`].
#[inline(always)]
pub fn launch_dependents() {
    target! {
        gpu {
            // SAFETY: only announces; the builder drops the line where the architecture does not know it.
            unsafe {
                core::arch::asm!("griddepcontrol.launch_dependents; // lockstep.from_sm 90",
                    options(nostack, preserves_flags));
            }
        }
        cpu {}
    }
}

/// Waits until the kernels before this one in the stream are done and their writes are seen (PTX `griddepcontrol.wait`,
/// from sm_90; before it, in the simulator, and in an ordinary launch they are done when this one starts).
///
/// Only what no kernel of the stream writes, weights for instance, may be read before.
#[inline(always)]
pub fn wait_for_prerequisites() {
    target! {
        gpu {
            // SAFETY: only waits; the builder drops the line where the architecture does not know it.
            unsafe { core::arch::asm!("griddepcontrol.wait; // lockstep.from_sm 90", options(nostack, preserves_flags)) }
        }
        cpu {}
    }
}

macro_rules! set_max_registers {
    ($($(#[$doc:meta])* $name:ident = $ptx:literal;)*) => {$(
        $(#[$doc])*
        ///
        /// All warps of a warpgroup, in a kernel with launch bounds (`threads` and `min_blocks`); `N` is a multiple of 8 from 24 to 256.
        /// The simulator has no limit of registers.
        #[inline(always)]
        pub fn $name<const N: u32>() {
            const { assert!(N >= 24 && N <= 256 && N % 8 == 0, "a multiple of 8 from 24 to 256") };
            target! {
                gpu {
                    // SAFETY: the compiler sees to it that the code before and after fits (the launch bounds tell it).
                    unsafe { core::arch::asm!($ptx, const N, options(nomem, nostack, preserves_flags)) }
                }
                cpu {}
            }
        }
    )*};
}
set_max_registers! {
    /// Gives registers back: from now on this warp has `N` (PTX `setmaxnreg.dec`).
    set_max_registers_dec = "setmaxnreg.dec.sync.aligned.u32 {};";
    /// Waits until there are registers for `N` and takes them (PTX `setmaxnreg.inc`).
    set_max_registers_inc = "setmaxnreg.inc.sync.aligned.u32 {};";
}
