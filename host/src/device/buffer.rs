//! Device memory.

use super::{Backend, Device, DeviceError, Result};
pub use bytemuck::Pod;

/// A piece of device memory with a name, freed when dropped. It has bytes and no element type: kernels take typed
/// pointers ([`Buffer::ptr_as`]), and uploads and downloads take any plain element ([`Pod`]: integers, floats, `f16`,
/// `bf16`, arrays of them).
///
/// A buffer may be written through a shared reference, as kernels write through its pointer; what order things happen in
/// is the streams' business. Dropping it while a kernel that uses it runs is safe on CUDA (the driver waits), but a
/// [`super::Graph`] keeps no buffer alive.
#[derive(Debug)]
pub struct Buffer {
    device: Device,
    name: String,
    bytes: usize,
    pointer: *mut u8,
}

// SAFETY: the pointer is a device address; it is only dereferenced by kernels and the copies of the back ends, and both
// back ends take calls from any thread.
unsafe impl Send for Buffer {}
// SAFETY: likewise.
unsafe impl Sync for Buffer {}

impl Buffer {
    pub(super) fn new(device: &Device, bytes: usize, name: &str) -> Result<Buffer> {
        // Neither back end knows an empty allocation; one byte gives it an address of its own.
        let size = bytes.max(1);
        let pointer = match device.backend() {
            Backend::Cuda(cuda) => cuda.alloc(size, name)?,
            Backend::Simt(_) => simt::memory::alloc(size, name).map_err(|source| DeviceError::SimulatorMemory {
                name: name.to_string(),
                bytes,
                source,
            })?,
        };
        Ok(Buffer {
            device: device.clone(),
            name: name.to_string(),
            bytes,
            pointer,
        })
    }

    /// The name given at allocation.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device it is on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Size in bytes.
    pub fn len_bytes(&self) -> usize {
        self.bytes
    }

    /// The device address, aligned to 256. Not to be dereferenced by the host on either back end.
    pub fn ptr(&self) -> *mut u8 {
        self.pointer
    }

    /// The device address as a pointer to `T`, as kernels take it.
    pub fn ptr_as<T>(&self) -> *mut T {
        self.pointer.cast()
    }

    /// Copies `data` to the start of the buffer, after all work issued so far and before all that follows.
    ///
    /// # Errors
    /// More data than the buffer holds; a capture in progress; the driver's.
    pub fn upload<T: Pod>(&self, data: &[T]) -> Result<()> {
        self.upload_at(0, data)
    }

    /// Copies `data` to byte `offset` and on.
    ///
    /// # Errors
    /// See [`Buffer::upload`].
    pub fn upload_at<T: Pod>(&self, offset: usize, data: &[T]) -> Result<()> {
        let data: &[u8] = bytemuck::cast_slice(data);
        let dst = self.range("upload", offset, data.len())?;
        match self.device.backend() {
            Backend::Cuda(cuda) => cuda.upload(dst, data, &self.name),
            Backend::Simt(simulator) => {
                simulator.not_capturing("Buffer::upload")?;
                // SAFETY: `range` has checked that the destination lies in this buffer.
                unsafe { simt::memory::write(dst, data) };
                Ok(())
            }
        }
    }

    /// Copies the start of the buffer to `data`, after all work issued so far.
    ///
    /// # Errors
    /// More data than the buffer holds; a capture in progress; an earlier kernel's fault; the driver's.
    pub fn download<T: Pod>(&self, data: &mut [T]) -> Result<()> {
        self.download_at(0, data)
    }

    /// Copies byte `offset` and on to `data`.
    ///
    /// # Errors
    /// See [`Buffer::download`].
    pub fn download_at<T: Pod>(&self, offset: usize, data: &mut [T]) -> Result<()> {
        let data: &mut [u8] = bytemuck::cast_slice_mut(data);
        let src = self.range("download", offset, data.len())?;
        match self.device.backend() {
            Backend::Cuda(cuda) => cuda.download(src, data, &self.name),
            Backend::Simt(simulator) => {
                simulator.not_capturing("Buffer::download")?;
                // SAFETY: `range` has checked that the source lies in this buffer.
                unsafe { simt::memory::read(src, data) };
                Ok(())
            }
        }
    }

    /// The first `count` elements.
    ///
    /// # Errors
    /// See [`Buffer::download`].
    pub fn download_vec<T: Pod>(&self, count: usize) -> Result<Vec<T>> {
        // Checked before the allocation, so that a wrong count cannot ask for all memory there is.
        self.range("download", 0, count.saturating_mul(size_of::<T>()))?;
        let mut data = vec![T::zeroed(); count];
        self.download(&mut data)?;
        Ok(data)
    }

    /// Sets every byte, after all work issued so far and before all that follows.
    ///
    /// # Errors
    /// A capture in progress; the driver's.
    pub fn fill(&self, byte: u8) -> Result<()> {
        match self.device.backend() {
            Backend::Cuda(cuda) => cuda.fill(self.pointer, byte, self.bytes, &self.name),
            Backend::Simt(simulator) => {
                simulator.not_capturing("Buffer::fill")?;
                // SAFETY: the whole of this buffer.
                unsafe { simt::memory::fill(self.pointer, byte, self.bytes) };
                Ok(())
            }
        }
    }

    /// Makes the contents as good as never written, so that a kernel that forgets to write an output is caught: every
    /// byte becomes 0xA5, and on the simulator a read before the next write is an error again.
    ///
    /// # Errors
    /// See [`Buffer::fill`].
    pub fn poison(&self) -> Result<()> {
        self.fill(0xA5)?;
        if let Backend::Simt(_) = self.device.backend() {
            // SAFETY: the whole of this buffer.
            unsafe { simt::memory::mark_unwritten(self.pointer, self.bytes) };
        }
        Ok(())
    }

    /// Offset of the first byte that nothing has written since the allocation or the last [`Buffer::poison`]. Only the
    /// simulator with checks on knows; `None` elsewhere, and when every byte is written.
    pub fn first_unwritten(&self) -> Option<usize> {
        match self.device.backend() {
            // SAFETY: the whole of this buffer.
            Backend::Simt(simulator) if simulator.checks() => unsafe {
                simt::memory::first_unwritten(self.pointer, self.bytes)
            },
            _ => None,
        }
    }

    /// The address of byte `offset`, if `len` bytes from there are inside.
    pub(super) fn range(&self, action: &'static str, offset: usize, len: usize) -> Result<*mut u8> {
        let end = offset.saturating_add(len);
        if end > self.bytes {
            let name = self.name.clone();
            return Err(DeviceError::OutOfRange {
                action,
                name,
                offset,
                end,
                len: self.bytes,
            });
        }
        Ok(self.pointer.wrapping_add(offset))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        match self.device.backend() {
            Backend::Cuda(cuda) => cuda.free(self.pointer, &self.name),
            // SAFETY: allocated by `new`, freed once; the simulator runs nothing while the host is here.
            Backend::Simt(_) => unsafe { simt::memory::free(self.pointer) },
        }
    }
}
