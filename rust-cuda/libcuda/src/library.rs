//! A shared library opened at run time.

use std::ffi::{CStr, CString, c_void};
use std::ptr::NonNull;

/// A shared library opened with `dlopen` and kept open for the life of the process.
#[derive(Debug)]
pub struct Library {
    handle: NonNull<c_void>,
}

// SAFETY: a dlopen handle may be used from any thread; it is never closed.
unsafe impl Send for Library {}
// SAFETY: dlsym is thread-safe.
unsafe impl Sync for Library {}

impl Library {
    /// Opens a library by file name (searched as the system does) or by path.
    ///
    /// # Errors
    /// The loader's own message, which names the file.
    pub fn open(name: &str) -> Result<Library, String> {
        let c_name = CString::new(name).map_err(|_| format!("the library name {name:?} contains a zero byte"))?;
        // SAFETY: the name is a valid C string; libraries opened here (the CUDA driver, NVML) may run their
        // initialisers on any thread.
        let handle = unsafe { libc::dlopen(c_name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        NonNull::new(handle)
            .map(|handle| Library { handle })
            .ok_or_else(last_error)
    }

    /// The address of an exported symbol, or `None` if the library has none of this name.
    pub fn symbol(&self, name: &str) -> Option<*const c_void> {
        let name = CString::new(name).ok()?;
        // SAFETY: the handle is open and the name is a valid C string.
        let address = unsafe { libc::dlsym(self.handle.as_ptr(), name.as_ptr()) };
        (!address.is_null()).then_some(address.cast_const())
    }
}

/// The loader's message about the failure that just happened on this thread.
fn last_error() -> String {
    // SAFETY: dlerror returns null or a C string that lives until the next dl* call on this thread.
    unsafe {
        let message = libc::dlerror();
        if message.is_null() {
            "the loader failed without a message".to_string()
        } else {
            CStr::from_ptr(message).to_string_lossy().into_owned()
        }
    }
}
