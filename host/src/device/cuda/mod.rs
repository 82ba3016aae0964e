//! The CUDA back end: `cust` for devices, contexts, streams and events, and the driver's own functions, through the crate
//! `libcuda`, for what `cust` lacks (captured graphs, function attributes, launch attributes, tensor maps, JIT logs).

mod ffi;
mod graph;
mod launch;
mod memory;
mod modules;
mod nvml;
mod tensor_map;

pub(super) use graph::CudaGraph;

use super::image::Image;
use super::{ClockState, DeviceError, DeviceInfo, Result};
use cust::context::Context;
use cust::device::{Device as CustDevice, DeviceAttribute};
use cust::error::CudaError;
use cust::event::{Event, EventFlags};
use cust::stream::{Stream, StreamFlags};
use modules::Modules;
use std::ffi::{CStr, c_int};

/// One CUDA device, opened on its primary context.
pub(super) struct Cuda {
    /// Loaded kernels. Declared before the context, so that they are unloaded before it is released.
    modules: Modules,
    nvml: Option<nvml::Gpu>,
    context: Context,
}

/// Ok for a status of 0, else the error with its call and what it was for.
fn check(call: &'static str, what: &str, code: u32) -> Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(DeviceError::driver(call, what, code))
    }
}

/// Turns an error of `cust` into ours.
fn from_cust(call: &'static str, what: &str) -> impl FnOnce(CudaError) -> DeviceError {
    move |error| DeviceError::driver(call, what, error as u32)
}

impl Cuda {
    /// Opens the device of this number, its kernels to come from these images.
    pub(super) fn open(ordinal: u32, images: &'static [Image]) -> Result<(Cuda, DeviceInfo)> {
        let what = format!("cuda:{ordinal}");
        cust::init(cust::CudaFlags::empty()).map_err(from_cust("cuInit", &what))?;
        let count = CustDevice::num_devices().map_err(from_cust("cuDeviceGetCount", &what))?;
        if ordinal >= count {
            return Err(DeviceError::NoSuchDevice { ordinal, count });
        }
        let device = CustDevice::get_device(ordinal).map_err(from_cust("cuDeviceGet", &what))?;
        let context = Context::new(device).map_err(from_cust("cuDevicePrimaryCtxRetain", &what))?;
        let mut info = describe(device, ordinal)?;
        let nvml = nvml::Gpu::find(&info.pci_address);
        info.driver_version = nvml.as_ref().and_then(nvml::Gpu::driver_version);
        let modules = Modules::new(info.compute_capability, images);
        Ok((Cuda { modules, nvml, context }, info))
    }

    /// Makes this device's context the calling thread's. Every entry does: a thread may use several devices.
    pub(super) fn make_current(&self) -> Result<()> {
        // SAFETY: the context is alive as long as `self`.
        check("cuCtxSetCurrent", "the device", unsafe {
            ffi::cuCtxSetCurrent(self.context.as_raw())
        })
    }

    pub(super) fn clock_state(&self) -> Option<ClockState> {
        self.nvml.as_ref().map(nvml::Gpu::clock_state)
    }

    /// A stream that is ordered with the copies and fills of [`super::Buffer`] (`cust` makes no others).
    pub(super) fn stream(&self) -> Result<Stream> {
        self.make_current()?;
        Stream::new(StreamFlags::DEFAULT, None).map_err(from_cust("cuStreamCreate", "a stream"))
    }

    pub(super) fn synchronize(&self) -> Result<()> {
        self.make_current()?;
        // SAFETY: waits for the current context.
        check("cuCtxSynchronize", "the device", unsafe { ffi::cuCtxSynchronize() })
    }

    pub(super) fn synchronize_stream(&self, stream: &Stream) -> Result<()> {
        self.make_current()?;
        // SAFETY: the stream is alive.
        check("cuStreamSynchronize", "a stream", unsafe {
            ffi::cuStreamSynchronize(stream.as_inner())
        })
    }

    pub(super) fn event(&self) -> Result<Event> {
        self.make_current()?;
        Event::new(EventFlags::DEFAULT).map_err(from_cust("cuEventCreate", "an event"))
    }

    pub(super) fn record(&self, event: &Event, stream: &Stream) -> Result<()> {
        self.make_current()?;
        event.record(stream).map_err(from_cust("cuEventRecord", "an event"))
    }

    pub(super) fn synchronize_event(&self, event: &Event) -> Result<()> {
        self.make_current()?;
        event.synchronize().map_err(from_cust("cuEventSynchronize", "an event"))
    }

    /// Milliseconds between two events, waiting for the second.
    pub(super) fn elapsed_ms(&self, start: &Event, end: &Event) -> Result<f32> {
        self.synchronize_event(end)?;
        end.elapsed_time_f32(start)
            .map_err(from_cust("cuEventElapsedTime", "two events (were both recorded?)"))
    }
}

/// Asks the driver what the device is.
fn describe(device: CustDevice, ordinal: u32) -> Result<DeviceInfo> {
    use DeviceAttribute as A;
    let what = format!("cuda:{ordinal}");
    // Clocks are optional: some drivers no longer tell them.
    let optional = |attribute: A| device.get_attribute(attribute).map_or(0, |value| value.max(0) as u32);
    let get = |attribute: A| {
        let value = device.get_attribute(attribute).map(|value| value.max(0) as u32);
        value.map_err(from_cust("cuDeviceGetAttribute", &what))
    };
    let mut shared_optin = 0;
    // SAFETY: `shared_optin` is valid for the write.
    check("cuDeviceGetAttribute", &what, unsafe {
        ffi::cuDeviceGetAttribute(
            &mut shared_optin,
            ffi::MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
            device.as_raw(),
        )
    })?;
    let mut pci = [0_u8; 32];
    // SAFETY: the buffer has the length given; the driver ends the text with a zero byte.
    check("cuDeviceGetPCIBusId", &what, unsafe {
        ffi::cuDeviceGetPCIBusId(pci.as_mut_ptr().cast(), pci.len() as c_int, device.as_raw())
    })?;
    let mut version = 0;
    // SAFETY: `version` is valid for the write.
    check("cuDriverGetVersion", &what, unsafe {
        ffi::cuDriverGetVersion(&mut version)
    })?;
    Ok(DeviceInfo {
        name: device.name().map_err(from_cust("cuDeviceGetName", &what))?,
        is_simulator: false,
        ordinal,
        compute_capability: (get(A::ComputeCapabilityMajor)?, get(A::ComputeCapabilityMinor)?),
        sms: get(A::MultiprocessorCount)?,
        memory_bytes: device.total_memory().map_err(from_cust("cuDeviceTotalMem", &what))?,
        l2_bytes: get(A::L2CacheSize)?,
        shared_bytes_per_block: shared_optin.max(0) as u32,
        shared_bytes_per_sm: get(A::MaxSharedMemoryPerMultiprocessor)?,
        registers_per_sm: get(A::MaxRegistersPerMultiprocessor)?,
        threads_per_sm: get(A::MaxThreadsPerMultiprocessor)?,
        sm_clock_khz: optional(A::ClockRate),
        memory_clock_khz: optional(A::MemoryClockRate),
        memory_bus_bits: optional(A::GlobalMemoryBusWidth),
        pci_address: CStr::from_bytes_until_nul(&pci).map_or(String::new(), |t| t.to_string_lossy().into_owned()),
        cuda_version: format!("{}.{}", version / 1000, version % 1000 / 10),
        driver_version: None,
    })
}
