//! Device memory: allocation, copies and fills. The callers in `buffer.rs` and `stream.rs` have checked every range.

use super::{Cuda, check, ffi};
use crate::device::{DeviceError, Result};
use cust::stream::Stream;

impl Cuda {
    /// Allocates `bytes` > 0 bytes.
    pub(in crate::device) fn alloc(&self, bytes: usize, name: &str) -> Result<*mut u8> {
        self.make_current()?;
        let mut pointer = 0;
        // SAFETY: `pointer` is valid for the write.
        let code = unsafe { ffi::cuMemAlloc_v2(&mut pointer, bytes) };
        // CUDA_ERROR_OUT_OF_MEMORY, and CUDA_ERROR_INVALID_VALUE for sizes past the address space.
        if let (1 | 2, Ok((free, total))) = (code, self.memory()) {
            return Err(DeviceError::OutOfMemory {
                name: name.to_string(),
                bytes,
                free,
                total,
            });
        }
        check("cuMemAlloc", &format!("buffer `{name}` of {bytes} bytes"), code)?;
        Ok(pointer as *mut u8)
    }

    /// Free and all bytes of the device.
    pub(in crate::device) fn memory(&self) -> Result<(usize, usize)> {
        self.make_current()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both are valid for the write.
        check("cuMemGetInfo", "the device", unsafe {
            ffi::cuMemGetInfo_v2(&mut free, &mut total)
        })?;
        Ok((free, total))
    }

    /// Frees an allocation of [`Cuda::alloc`], waiting for the work that uses it.
    pub(in crate::device) fn free(&self, pointer: *mut u8, name: &str) {
        let freed = self.make_current().and_then(|()| {
            // SAFETY: allocated by `alloc` and freed once, by the buffer's drop.
            check("cuMemFree", name, unsafe { ffi::cuMemFree_v2(pointer as u64) })
        });
        // After a kernel's fault every free fails, and that fault has been reported where it was met.
        if let Err(error) = freed {
            tracing::debug!("{error}");
        }
    }

    pub(in crate::device) fn upload(&self, dst: *mut u8, data: &[u8], name: &str) -> Result<()> {
        self.make_current()?;
        // SAFETY: the caller has checked that `data.len()` bytes from `dst` lie in the buffer.
        let code = unsafe { ffi::cuMemcpyHtoD_v2(dst as u64, data.as_ptr().cast(), data.len()) };
        check("cuMemcpyHtoD", name, code)
    }

    pub(in crate::device) fn download(&self, src: *const u8, data: &mut [u8], name: &str) -> Result<()> {
        self.make_current()?;
        // SAFETY: the caller has checked that `data.len()` bytes from `src` lie in the buffer.
        let code = unsafe { ffi::cuMemcpyDtoH_v2(data.as_mut_ptr().cast(), src as u64, data.len()) };
        check("cuMemcpyDtoH", name, code)
    }

    pub(in crate::device) fn fill(&self, dst: *mut u8, byte: u8, bytes: usize, name: &str) -> Result<()> {
        self.make_current()?;
        // SAFETY: the whole of the buffer.
        check("cuMemsetD8", name, unsafe {
            ffi::cuMemsetD8_v2(dst as u64, byte, bytes)
        })
    }

    pub(in crate::device) fn copy_async(
        &self,
        stream: &Stream,
        dst: *mut u8,
        src: *const u8,
        bytes: usize,
        name: &str,
    ) -> Result<()> {
        self.make_current()?;
        // SAFETY: the caller has checked both ranges; a buffer's free waits for the work that uses it.
        let code = unsafe { ffi::cuMemcpyDtoDAsync_v2(dst as u64, src as u64, bytes, stream.as_inner()) };
        check("cuMemcpyDtoDAsync", name, code)
    }

    pub(in crate::device) fn fill_async(
        &self,
        stream: &Stream,
        dst: *mut u8,
        byte: u8,
        bytes: usize,
        name: &str,
    ) -> Result<()> {
        self.make_current()?;
        // SAFETY: the whole of the buffer.
        let code = unsafe { ffi::cuMemsetD8Async(dst as u64, byte, bytes, stream.as_inner()) };
        check("cuMemsetD8Async", name, code)
    }
}
