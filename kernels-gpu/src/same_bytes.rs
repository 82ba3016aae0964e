//! Whether two buffers have the same bytes: for comparing outputs where they are, in place of bringing hundreds of megabytes to
//! the host for every config that is checked.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | a, b | `[bytes]`, 16-byte aligned | u8 |
//! | differ | `[1]`, 0 before the first launch | u32 |
//!
//! differ becomes 1 where a byte differs, and stays as it was where none does, so that launches on several pairs add up.
//! Order: none. One thread does 16 bytes; threads do not meet. Fewer than 2^36 bytes.
//!
//! | version | what | measured |
//! | --- | --- | --- |
//! | plain | one thread, one vector of 16 bytes of each | not yet |

use cuda_std::vec::U32x4;
use cuda_std::{atomic, kernel, mem, thread};

/// Threads of a block.
pub const THREADS: u32 = 256;
/// Bytes that one thread compares.
pub const VECTOR: u64 = 16;

/// Blocks of a launch.
pub const fn grid(bytes: u64) -> u64 {
    bytes.div_ceil(VECTOR).div_ceil(THREADS as u64)
}

/// Grid: x over [`grid`] blocks.
///
/// # Safety
/// The tensors must have the shapes of the module's table, on the device.
#[kernel(threads = 256)]
pub unsafe fn same_bytes(a: *const u8, b: *const u8, bytes: u64, differ: *mut u32) {
    let first = thread::index_1d() as u64 * VECTOR;
    if first >= bytes {
        return;
    }
    let (a, b) = (a.wrapping_add(first as usize), b.wrapping_add(first as usize));
    let mut differs = 0;
    if bytes - first >= VECTOR {
        // SAFETY: 16 bytes are left of both, at a multiple of 16 of aligned tensors.
        let (x, y) = unsafe { (mem::load(a.cast::<U32x4>()).0, mem::load(b.cast::<U32x4>()).0) };
        differs = (x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]);
    } else {
        let mut i = 0;
        while i < (bytes - first) as usize {
            // SAFETY: first + i < bytes.
            let (x, y) = unsafe { (mem::load(a.wrapping_add(i)), mem::load(b.wrapping_add(i))) };
            differs |= (x ^ y) as u32;
            i += 1;
        }
    }
    if differs != 0 {
        // SAFETY: the word is touched atomically only.
        unsafe { atomic::fetch_max(differ, 1) };
    }
}
