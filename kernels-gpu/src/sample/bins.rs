//! Logits and weights by one digit of their keys: first of a block's part, then of the row.

use cuda_std::shared::Shared;
use cuda_std::{atomic, thread};

use super::row::Row;
use super::{ARRAYS, DIGITS, THREADS};
use crate::logits;
use crate::unroll::unroll;

/// The bins of a block, in shared memory.
#[derive(Clone, Copy)]
pub(super) struct Bins {
    pub counts: Shared<u32>,
    pub low: Shared<u32>,
    pub high: Shared<u32>,
}

impl Bins {
    /// Adds the logits of a part whose key begins with `prefix` to arrays of the row's bins, by the digit behind it: the digit
    /// `level` of three. `counts`: the array of logits, none where it is [`ARRAYS`].
    ///
    /// # Safety
    /// The part exists, and the arrays were zero before this launch.
    #[inline(always)]
    #[track_caller]
    pub unsafe fn add(self, row: Row, part: u32, prefix: u32, level: u32, [counts, weights]: [u32; 2]) {
        let tid = thread::thread_idx_x();
        unroll!(i < 8 => {
            let digit = tid + i as u32 * THREADS;
            self.counts.add(digit).store(0);
            self.low.add(digit).store(0);
            self.high.add(digit).store(0);
        });
        thread::sync_threads();
        // The digit's lowest bit, its values, and the prefix's lowest bit.
        let (shift, mask, prefix_at) = match level {
            0 => (21, DIGITS - 1, 32),
            1 => (10, DIGITS - 1, 21),
            _ => (0, 1023, 10),
        };
        // SAFETY: the caller's promise.
        unsafe {
            row.each(part, |v| {
                let key = logits::key(v);
                if (key as u64 >> prefix_at) as u32 == prefix {
                    let (digit, weight) = (key >> shift & mask, row.weight(v));
                    if counts != ARRAYS {
                        self.counts.add(digit).atomic_add(1);
                    }
                    // A weight is 2^40 at the most: of a part the sums of either half fit 32 bits.
                    let (low, high) = (weight as u32 & 0xF_FFFF, (weight >> 20) as u32);
                    if low != 0 {
                        self.low.add(digit).atomic_add(low);
                    }
                    if high != 0 {
                        self.high.add(digit).atomic_add(high);
                    }
                }
            });
        }
        thread::sync_threads();
        unroll!(i < 8 => {
            let digit = tid + i as u32 * THREADS;
            let count = self.counts.add(digit).load();
            let weight = ((self.high.add(digit).load() as u64) << 20) + self.low.add(digit).load() as u64;
            // SAFETY: the row's bins, accessed atomically only in this launch.
            unsafe {
                if count != 0 {
                    atomic::fetch_add(row.bins(counts).add(digit as usize), count as u64);
                }
                if weight != 0 {
                    atomic::fetch_add(row.bins(weights).add(digit as usize), weight);
                }
            }
        });
    }
}
