//! What can go wrong on a device.

use simt::Dim3;

/// An error of a device, naming the call, the kernel or buffer, the numbers, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A device name that is none of the known forms.
    #[error("`{text}` is no device: use `auto`, `cuda`, `cuda:N` (N counts from 0) or `simt`")]
    Spec {
        /// What was given.
        text: String,
    },
    /// CUDA was asked for and is not there.
    #[error("no CUDA device: {why}; use `--device simt` for the simulator")]
    NoCuda {
        /// What is missing.
        why: String,
    },
    /// CUDA is there, but not this device.
    #[error("there is no device cuda:{ordinal}: the driver lists {count} (see CUDA_VISIBLE_DEVICES)")]
    NoSuchDevice {
        /// The device asked for.
        ordinal: u32,
        /// How many there are.
        count: u32,
    },
    /// A call of the driver failed.
    #[error("{call} failed for {what}: {}{}", libcuda::describe(*code), advice(*code))]
    Driver {
        /// The driver's function.
        call: &'static str,
        /// What it was called for.
        what: String,
        /// The driver's status.
        code: u32,
    },
    /// The driver is too old for a function.
    #[error("{what} needs the driver function {function}, which this driver lacks: install a newer driver")]
    DriverTooOld {
        /// What was asked for.
        what: String,
        /// The missing function.
        function: &'static str,
    },
    /// An allocation that does not fit.
    #[error("buffer `{name}` of {bytes} bytes does not fit: {free} bytes of the device's {total} are free")]
    OutOfMemory {
        /// The buffer's name.
        name: String,
        /// Its size.
        bytes: usize,
        /// Free device memory in bytes.
        free: usize,
        /// The device's memory in bytes.
        total: usize,
    },
    /// An access past the end of a buffer, or with elements that do not fit its size.
    #[error("{action} of bytes {offset}..{end} of buffer `{name}`, which has {len} bytes")]
    OutOfRange {
        /// What was tried.
        action: &'static str,
        /// The buffer's name.
        name: String,
        /// First byte.
        offset: usize,
        /// One past the last byte.
        end: usize,
        /// The buffer's size in bytes.
        len: usize,
    },
    /// No kernel image was built for this device.
    #[error(
        "no image of kernel family `{family}` (kernel `{kernel}`) for {arch}; embedded: {embedded}. Rebuild with the \
         device toolchain (`./setup`) and this architecture, or use `--device simt`"
    )]
    NoImage {
        /// The kernel wanted.
        kernel: String,
        /// Its family.
        family: String,
        /// The device's architecture, as `sm_90`.
        arch: String,
        /// The images there are of this family, as `sm_80 sm_90a`, or `none`.
        embedded: String,
    },
    /// Every image that could serve was refused by the driver.
    #[error("no image of kernel family `{family}` loads on this {arch} device: {attempts}")]
    ImageRefused {
        /// The family.
        family: String,
        /// The device's architecture, as `sm_90`.
        arch: String,
        /// Each image tried, with the driver's answer.
        attempts: String,
    },
    /// A launch that cannot work, seen before it is made.
    #[error("kernel `{kernel}` cannot be launched with grid {} and block {}: {why}", dim(*grid), dim(*block))]
    LaunchConfig {
        /// The kernel.
        kernel: String,
        /// Blocks.
        grid: Dim3,
        /// Threads of a block.
        block: Dim3,
        /// What is wrong.
        why: String,
    },
    /// A tensor map that the hardware would not take.
    #[error("{map}: {why}")]
    TensorMap {
        /// What was asked for.
        map: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something that cannot be done while a stream is being captured, or a capture that went wrong.
    #[error("graph capture: {0}")]
    Capture(String),
    /// Objects of two devices were used together, or an event was read before it was recorded.
    #[error("{0}")]
    Misuse(String),
    /// The simulator stopped a kernel.
    #[error(transparent)]
    Simulator(#[from] simt::SimError),
    /// The simulator's memory.
    #[error("buffer `{name}` of {bytes} bytes on the simulator: {source}")]
    SimulatorMemory {
        /// The buffer's name.
        name: String,
        /// Its size.
        bytes: usize,
        /// The simulator's error.
        source: simt::memory::MemoryError,
    },
}

impl DeviceError {
    /// A failed driver call.
    pub(crate) fn driver(call: &'static str, what: impl Into<String>, code: u32) -> DeviceError {
        DeviceError::Driver {
            call,
            what: what.into(),
            code,
        }
    }

    /// Whether a kernel has faulted on the GPU, after which the process can use that GPU no more.
    pub fn is_fatal(&self) -> bool {
        matches!(self, DeviceError::Driver { code, .. } if is_fault(*code))
    }
}

/// Whether the driver's status means that a kernel faulted (`CUDA_ERROR_ILLEGAL_ADDRESS`, `_ASSERT`, `_LAUNCH_FAILED`...).
fn is_fault(code: u32) -> bool {
    matches!(code, 214 | 220 | 700 | 702 | 710 | 714..=719)
}

fn advice(code: u32) -> &'static str {
    match code {
        _ if is_fault(code) => {
            ". A kernel launched earlier on this device has faulted and the process cannot go on with it; run the same \
             on the simulator (`--device simt`), which names the kernel, block, thread and source line"
        }
        // CUDA_ERROR_STREAM_CAPTURE_IMPLICIT and its neighbours.
        900..=908 => ". Inside a capture only launches, stream copies, stream fills and event records are allowed",
        _ => "",
    }
}

/// A `Dim3` as `4x2x1`.
pub(crate) fn dim(d: Dim3) -> String {
    format!("{}x{}x{}", d.x, d.y, d.z)
}
