//! An allocator that counts, for tests of files that ask for more memory than they have bytes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts what the current thread allocates: the bytes it holds, the most it held, the largest single piece.
pub struct Counting;

thread_local! {
    static HELD: Cell<(isize, isize, usize)> = const { Cell::new((0, 0, 0)) };
}

fn count(change: isize, piece: usize) {
    // A thread that ends has no counter any more, and need not be counted.
    let _ = HELD.try_with(|c| {
        let (held, most, largest) = c.get();
        let held = held + change;
        c.set((held, most.max(held), largest.max(piece)));
    });
}

/// What `f` gives, the most bytes this thread held meanwhile, and the largest it asked for at once.
pub fn counted<T>(f: impl FnOnce() -> T) -> (T, usize, usize) {
    HELD.with(|c| c.set((0, 0, 0)));
    let value = f();
    let (_, most, largest) = HELD.with(Cell::get);
    (value, usize::try_from(most).unwrap_or(0), largest)
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory but a thread's own counter.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize, layout.size());
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        count(-(layout.size() as isize), 0);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.dealloc(p, layout) }
    }
}
