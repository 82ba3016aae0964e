//! Where kernels run: a CUDA device, or the simulator. One type, [`Device`], with buffers, streams, events, graphs and
//! typed kernel launches on both.
//!
//! ```
//! # fn main() -> Result<(), host::device::DeviceError> {
//! use host::device::{Device, DeviceSpec};
//! let device = Device::open(&DeviceSpec::Simt)?;
//! let buffer = device.alloc(4 * 8, "numbers")?;
//! buffer.upload(&[1.0_f32; 8])?;
//! assert_eq!(buffer.download_vec::<f32>(8)?, [1.0; 8]);
//! # Ok(())
//! # }
//! ```
//!
//! The two back ends agree on what is allowed and in which order things happen: work of one stream runs in the order it
//! was issued; uploads, downloads and fills of a [`Buffer`] wait for the work before them and are seen by the work after
//! them. They differ in one thing that no caller may overlook: **times measured on the simulator are host times**
//! ([`DeviceInfo::is_simulator`], [`Event::is_host_time`]).

mod buffer;
mod cuda;
mod error;
pub mod image;
mod info;
mod launch;
mod pointer;
mod simulator;
mod spec;
mod stream;
mod tensor_map;

pub use buffer::{Buffer, Pod};
pub use cuda_std::tma::TensorMap;
pub use error::DeviceError;
pub use info::{ClockState, DeviceInfo};
pub use launch::{LaunchDims, MOST_CLUSTER_BLOCKS};
pub use pointer::DevPtr;
pub use simt::tensor::TensorCore;
pub use simt::{Dim3, LaunchStats};
pub use spec::{DeviceSpec, SimtOptions};
pub use stream::{Event, Graph, Stream};
pub use tensor_map::{Swizzle, TensorMapSpec};

use cuda::Cuda;
use cuda_std::launch::{Kernel, KernelArgs};
use simulator::Simulator;
use std::fmt;
use std::sync::Arc;

/// Result of a device operation.
pub type Result<T, E = DeviceError> = std::result::Result<T, E>;

/// A device kernels run on. Cheap to clone; the clones are the same device, and it stays open while a clone, buffer,
/// stream, event or graph of it lives.
#[derive(Clone)]
pub struct Device {
    inner: Arc<Inner>,
}

struct Inner {
    info: DeviceInfo,
    backend: Backend,
}

enum Backend {
    Cuda(Cuda),
    Simt(Simulator),
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("info", self.info())
            .finish_non_exhaustive()
    }
}

impl Device {
    /// Opens a device.
    ///
    /// # Errors
    /// A CUDA device that was asked for by number and is not there, or does not open. `Auto` falls back to the simulator
    /// only where there is no CUDA device, not where one fails.
    pub fn open(spec: &DeviceSpec) -> Result<Device> {
        Device::open_with_images(spec, image::IMAGES)
    }

    /// Opens a device whose kernels come from these images and not from those embedded in the binary. The simulator needs
    /// none.
    ///
    /// # Errors
    /// Those of [`Device::open`].
    pub fn open_with_images(spec: &DeviceSpec, images: &'static [image::Image]) -> Result<Device> {
        let ordinal = match *spec {
            DeviceSpec::Simt => return Ok(Device::simt_with(SimtOptions::default())),
            DeviceSpec::Cuda(ordinal) => ordinal,
            DeviceSpec::Auto => match libcuda::available() {
                Ok(()) => 0,
                Err(why) => {
                    tracing::info!("using the simulator: {why}");
                    return Ok(Device::simt_with(SimtOptions::default()));
                }
            },
        };
        libcuda::available().map_err(|why| DeviceError::NoCuda { why })?;
        let (cuda, info) = Cuda::open(ordinal, images)?;
        Ok(Device {
            inner: Arc::new(Inner {
                info,
                backend: Backend::Cuda(cuda),
            }),
        })
    }

    /// Opens the simulator with the given options.
    pub fn simt_with(options: SimtOptions) -> Device {
        let info = DeviceInfo::simulator();
        Device {
            inner: Arc::new(Inner {
                info,
                backend: Backend::Simt(Simulator::new(options)),
            }),
        }
    }

    /// What this device is.
    pub fn info(&self) -> &DeviceInfo {
        &self.inner.info
    }

    /// The clocks, temperature and throttling of a GPU right now; `None` on the simulator and where NVML is not there.
    pub fn clock_state(&self) -> Option<ClockState> {
        match self.backend() {
            Backend::Cuda(cuda) => cuda.clock_state(),
            Backend::Simt(_) => None,
        }
    }

    /// What the simulator counted in the launch that ended last: loads, stores, bytes, barriers. `None` on a GPU and before
    /// the first launch.
    pub fn last_launch_stats(&self) -> Option<LaunchStats> {
        match self.backend() {
            Backend::Cuda(_) => None,
            Backend::Simt(simulator) => simulator.last_launch(),
        }
    }

    /// Allocates `bytes` bytes of device memory, aligned to 256, contents undefined. `name` is for messages. An empty
    /// buffer is allowed.
    ///
    /// # Errors
    /// The device has too little free memory.
    pub fn alloc(&self, bytes: usize, name: &str) -> Result<Buffer> {
        Buffer::new(self, bytes, name)
    }

    /// Free and all bytes of the device's memory; `None` on the simulator, which has the host's.
    ///
    /// # Errors
    /// The driver's.
    pub fn memory(&self) -> Result<Option<(u64, u64)>> {
        match self.backend() {
            Backend::Cuda(cuda) => cuda.memory().map(|(free, total)| Some((free as u64, total as u64))),
            Backend::Simt(_) => Ok(None),
        }
    }

    /// Creates a stream: a queue of work that runs in order.
    ///
    /// # Errors
    /// The driver's.
    pub fn stream(&self) -> Result<Stream> {
        Stream::new(self)
    }

    /// Creates an event, not yet recorded.
    ///
    /// # Errors
    /// The driver's.
    pub fn event(&self) -> Result<Event> {
        Event::new(self)
    }

    /// Queues a kernel on a stream (the simulator runs it before this returns). While the stream is being captured the
    /// launch is recorded in place of run.
    ///
    /// The kernel is an `unsafe fn`, and what its own documentation demands of pointers and sizes is up to the caller
    /// here too: a wrong pointer faults on the GPU, is an error of the simulator with checks on, and is undefined with
    /// checks off.
    ///
    /// # Errors
    /// A shape the kernel or device does not take; no image of the kernel for this device; the driver's; on the simulator
    /// whatever the kernel did wrong.
    pub fn launch<A: KernelArgs + 'static>(
        &self,
        stream: &Stream,
        kernel: &Kernel<A>,
        dims: LaunchDims,
        args: A,
    ) -> Result<()> {
        stream.must_be_of(self)?;
        dims.check(&kernel.meta, self.info())?;
        match (self.backend(), stream.handle()) {
            (Backend::Cuda(cuda), stream::StreamHandle::Cuda(stream)) => {
                args.with_pointers(|params| cuda.launch(stream, &kernel.meta, &dims, params))
            }
            (Backend::Simt(simulator), stream::StreamHandle::Simt(queue)) => {
                simulator.launch(queue, kernel, dims, args)
            }
            _ => unreachable!("a stream of this device is of its back end"),
        }
    }

    /// Loads the kernel's image now, so that its first launch does not pay for it.
    ///
    /// # Errors
    /// No image for this device, or the driver refuses it.
    pub fn prepare<A>(&self, kernel: &Kernel<A>) -> Result<()> {
        match self.backend() {
            Backend::Cuda(cuda) => cuda.function(&kernel.meta).map(|_| ()),
            Backend::Simt(_) => Ok(()),
        }
    }

    /// How many blocks of the kernel fit on one SM at a time; `None` on the simulator.
    ///
    /// # Errors
    /// No image for this device, or the driver's.
    pub fn blocks_per_sm<A>(&self, kernel: &Kernel<A>, threads: u32, shared_bytes: u32) -> Result<Option<u32>> {
        match self.backend() {
            Backend::Cuda(cuda) => cuda.blocks_per_sm(&kernel.meta, threads, shared_bytes).map(Some),
            Backend::Simt(_) => Ok(None),
        }
    }

    /// Records what `f` puts on the stream into a graph, without running it. Until it is done no thread may upload,
    /// download, fill or synchronise on this device: the driver refuses that, and so does the simulator.
    ///
    /// # Errors
    /// Those of `f`; a stream that is being captured already; an operation that cannot be part of a graph.
    pub fn capture(&self, stream: &Stream, f: impl FnOnce() -> Result<()>) -> Result<Graph> {
        stream.must_be_of(self)?;
        Graph::capture(self, stream, f)
    }

    /// As [`Device::capture`], of work whose errors are not a device's alone: they come back as they are.
    ///
    /// # Errors
    /// As [`Device::capture`].
    pub fn capture_of<E: From<DeviceError> + fmt::Display>(
        &self,
        stream: &Stream,
        f: impl FnOnce() -> Result<(), E>,
    ) -> Result<Graph, E> {
        let mut error = None;
        let captured = self.capture(stream, || {
            f().map_err(|e| {
                let text = e.to_string();
                error = Some(e);
                DeviceError::Capture(text)
            })
        });
        match error {
            Some(e) => Err(e),
            None => Ok(captured?),
        }
    }

    /// Copies `bytes` bytes from the start of `src` to the start of `dst`, in stream order.
    ///
    /// # Errors
    /// One of the buffers is shorter; the driver's.
    pub fn copy(&self, stream: &Stream, dst: &Buffer, src: &Buffer, bytes: usize) -> Result<()> {
        stream.copy(dst, src, bytes)
    }

    /// Sets every byte of the buffer, in stream order.
    ///
    /// # Errors
    /// The driver's.
    pub fn fill(&self, stream: &Stream, dst: &Buffer, byte: u8) -> Result<()> {
        stream.fill(dst, byte)
    }

    /// Waits for all work of this device.
    ///
    /// # Errors
    /// That of a kernel launched earlier; a capture in progress.
    pub fn synchronize(&self) -> Result<()> {
        match self.backend() {
            Backend::Cuda(cuda) => cuda.synchronize(),
            Backend::Simt(simulator) => simulator.not_capturing("Device::synchronize"),
        }
    }

    fn backend(&self) -> &Backend {
        &self.inner.backend
    }

    /// Whether the other is the same open device.
    fn is(&self, other: &Device) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}
