//! Operands in shared memory, in any layout.

use cuda_std::shared::Shared;
use cuda_std::wgmma::{Descriptor, Swizzle};
use cuda_std::{U32x4, mem, thread};

use super::{Layout, Place, THREADS};

/// Descriptors of a group's operands, and how far the next step is.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    first: Descriptor,
    step: u32,
}

impl Operand {
    /// Of `rows` rows at `at`.
    #[inline(always)]
    pub(super) fn new(at: Shared<u8>, rows: u32, steps: u32, place: Place) -> Operand {
        match place.layout {
            Layout::B128 => Self::swizzled(at, Swizzle::B128, place.first),
            Layout::B64 => Self::swizzled(at, Swizzle::B64, place.first),
            Layout::B32 => Self::swizzled(at, Swizzle::B32, place.first),
            Layout::RowsFirst => Operand {
                first: Descriptor::matrices(at, 128, 256 * steps),
                step: 256,
            },
            Layout::KFirst => Operand {
                first: Descriptor::matrices(at, 16 * rows, 128),
                step: 32 * rows,
            },
        }
    }

    #[inline(always)]
    fn swizzled(at: Shared<u8>, swizzle: Swizzle, first: u32) -> Operand {
        Operand {
            first: Descriptor::k_major(at, swizzle).advance(32 * first),
            step: 32,
        }
    }

    #[inline(always)]
    pub(super) fn step(self, i: u32) -> Descriptor {
        self.first.advance(self.step * i)
    }
}

/// Writes an operand of `rows` rows from `from`, 8 words a row, to shared memory, among bytes of all ones. By all threads.
///
/// # Safety
/// `from` has `steps * rows` rows on the device, aligned to 16 bytes.
#[inline(always)]
pub(super) unsafe fn write(to: Shared<u8>, from: *const u32, rows: u32, steps: u32, place: Place) {
    let mut i = thread::thread_idx_x();
    while i < rows * place.layout.pieces(steps) {
        to.add(16 * i).cast().store(U32x4([u32::MAX; 4]));
        i += THREADS;
    }
    thread::sync_threads();
    let mut step = 0;
    while step < steps {
        let mut i = thread::thread_idx_x();
        while i < 2 * rows {
            let (row, half) = (i / 2, i % 2);
            let at = place.layout.place(rows, steps, row, 2 * (place.first + step) + half);
            // SAFETY: step < steps, row < rows and half < 2 are within `from`.
            let piece = unsafe { mem::load(from.add(((step * rows + row) * 8 + half * 4) as usize).cast::<U32x4>()) };
            to.add(at).cast().store(piece);
            i += THREADS;
        }
        step += 1;
    }
}
