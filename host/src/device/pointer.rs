//! Typed device addresses.

use super::Buffer;
use std::fmt;

/// The address of elements `T` in device memory, or [`DevPtr::NULL`] where there is no tensor. It owns nothing: whoever keeps it keeps
/// the [`Buffer`] it points into. The host never dereferences it.
pub struct DevPtr<T>(*mut T);

// SAFETY: an address; only kernels dereference it.
unsafe impl<T> Send for DevPtr<T> {}
// SAFETY: likewise.
unsafe impl<T> Sync for DevPtr<T> {}

impl<T> Clone for DevPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for DevPtr<T> {}

impl<T> PartialEq for DevPtr<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for DevPtr<T> {}

impl<T> fmt::Debug for DevPtr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:p}", self.0)
    }
}

impl<T> DevPtr<T> {
    /// No tensor.
    pub const NULL: DevPtr<T> = DevPtr(std::ptr::null_mut());

    /// The start of a buffer.
    pub fn of(buffer: &Buffer) -> Self {
        DevPtr(buffer.ptr_as())
    }

    /// A device address.
    pub fn new(address: *mut T) -> Self {
        DevPtr(address)
    }

    /// So many elements further on. Null stays null.
    #[must_use]
    #[allow(clippy::should_implement_trait)] // as the standard library's pointers have it
    pub fn add(self, elements: usize) -> Self {
        if self.is_null() {
            return self;
        }
        DevPtr(self.0.wrapping_add(elements))
    }

    /// The same address, of other elements.
    pub fn cast<U>(self) -> DevPtr<U> {
        DevPtr(self.0.cast())
    }

    /// Whether there is no tensor.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// As a kernel takes it that reads.
    pub fn get(self) -> *const T {
        self.0.cast_const()
    }

    /// As a kernel takes it that writes.
    pub fn get_mut(self) -> *mut T {
        self.0
    }
}
