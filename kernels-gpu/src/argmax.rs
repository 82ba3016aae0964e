//! Argmax over the vocabulary: the largest logit, at the lowest index of several; NaN is below everything.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | logits | `[n_tok][vocab]` | f32 |
//! | parts | `[n_tok][n_parts]`, [`parts`] of vocab: scratch | u64 |
//! | tokens | `[n_tok]` | i32 |
//!
//! Comparisons of integers only, so no order of them matters: docs/numerics.md, "Head and sampling". +0 and -0 are
//! equal. First a block of 256 threads for each 4096 logits of a row (grid: x over tokens, y over parts; 64 bytes of
//! shared memory, one barrier), then a warp a row. 16-byte loads where rows are aligned.
//!
//! | version | what | measured |
//! | --- | --- | --- |
//! | plain | as above | H200: vocab 248320, 1 row 5.6 us, 4 % of the roof; 16 rows 9.6 us, 39 % of the roof |

use cuda_std::{kernel, mem, shared, thread, warp};

use crate::logits;

/// Threads of a block of either kernel.
pub const THREADS: u32 = 256;
/// Logits of a part.
pub const PART: u32 = 4096;
/// Bytes of shared memory of a block of [`fn@argmax_parts`].
pub const SHARED_BYTES: u32 = THREADS / 32 * 8;

/// Parts of a row.
pub const fn parts(vocab: u32) -> u32 {
    vocab.div_ceil(PART)
}

/// The largest logit of one part of one row a block.
///
/// # Safety
/// The tensors must have the shapes of the module's table, on the device.
#[kernel(threads = 256)]
pub unsafe fn argmax_parts(logits: *const f32, parts: *mut u64, vocab: u32) {
    let (token, part) = (thread::block_idx_x() as usize, thread::block_idx_y());
    let first = part * PART;
    let left = vocab - first;
    let end = if left < PART { vocab } else { first + PART };
    // SAFETY: the grid has the rows and parts that there are.
    let most = unsafe { logits::thread_max(logits.add(token * vocab as usize), first, end, THREADS) };
    let most = logits::block_max(shared::dynamic(), most, THREADS / 32);
    if thread::thread_idx_x() == 0 {
        // SAFETY: as above.
        unsafe { mem::store(parts.add(token * thread::grid_dim_y() as usize + part as usize), most) };
    }
}

/// The index of the largest of a row's parts, a row a warp.
///
/// # Safety
/// The tensors must have the shapes of the module's table, on the device.
#[kernel(threads = 256)]
pub unsafe fn argmax_fold(parts: *const u64, tokens: *mut i32, n_tok: u32, n_parts: u32) {
    let row = thread::index_1d() / 32;
    let mut most = 0;
    let mut at = warp::lane_id();
    // Warps without a row stay for the shuffles.
    while row < n_tok && at < n_parts {
        // SAFETY: row < n_tok and at < n_parts.
        most = most.max(unsafe { mem::load(parts.add(row as usize * n_parts as usize + at as usize)) });
        at += 32;
    }
    let most = logits::warp_max(most);
    if row < n_tok && warp::lane_id() == 0 {
        // SAFETY: row < n_tok.
        unsafe { mem::store(tokens.add(row as usize), logits::index_of(most) as i32) };
    }
}
