//! Address ranges whose pages cost nothing until they are touched.

use std::io;

/// A private anonymous mapping, zero where it was never written; unmapped on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    base: *mut u8,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; access to its bytes is the users' business.
unsafe impl Send for Reservation {}
// SAFETY: as above.
unsafe impl Sync for Reservation {}

impl Reservation {
    /// Maps `len` bytes (rounded up to pages by the system), readable and writable.
    pub(crate) fn new(len: usize) -> io::Result<Reservation> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping at an address of the system's choice touches no existing memory.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Reservation { base: base.cast(), len })
    }

    /// The first byte.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }

    /// The length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Makes `len` bytes from `offset` (both multiples of the page size) fault on any access.
    pub(crate) fn guard(&self, offset: usize, len: usize) -> io::Result<()> {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: the range lies in this mapping (asserted).
        match unsafe { libc::mprotect(self.base.add(offset).cast(), len, libc::PROT_NONE) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Gives the pages of `offset..offset + len` (multiples of the page size) back; they read as zero afterwards.
    ///
    /// # Safety
    /// Nobody may hold a reference into the range.
    pub(crate) unsafe fn discard(&self, offset: usize, len: usize) {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: the range lies in this mapping (asserted) and the caller vouches that nobody looks at it.
        unsafe { libc::madvise(self.base.add(offset).cast(), len, libc::MADV_DONTNEED) };
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing can refer to it any more.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}
