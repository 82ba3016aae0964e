//! Clocks, temperature and throttling, from NVIDIA's management library if the machine has it. Nothing here is needed to
//! run: whatever is missing is `None`.

use crate::device::ClockState;
use libcuda::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::mem::transmute;
use std::ptr;
use std::sync::OnceLock;

/// `nvmlDevice_t`.
type Handle = *mut c_void;

/// `NVML_CLOCK_SM`.
const CLOCK_SM: c_int = 1;
/// `NVML_CLOCK_MEM`.
const CLOCK_MEMORY: c_int = 2;
/// `NVML_TEMPERATURE_GPU`.
const TEMPERATURE_GPU: c_int = 0;

/// One GPU as NVML knows it.
pub(super) struct Gpu {
    library: &'static Library,
    handle: Handle,
}

// SAFETY: NVML's functions may be called from any thread, and its handles stay valid until `nvmlShutdown`, never called.
unsafe impl Send for Gpu {}
// SAFETY: likewise.
unsafe impl Sync for Gpu {}

/// NVML, loaded and started once.
fn library() -> Option<&'static Library> {
    static NVML: OnceLock<Option<Library>> = OnceLock::new();
    let start = || {
        let library = Library::open("libnvidia-ml.so.1").ok()?;
        let init = library.symbol("nvmlInit_v2")?;
        // SAFETY: nvmlReturn_t nvmlInit_v2(void), which may be called at any time.
        let code = unsafe { transmute::<*const c_void, unsafe extern "C" fn() -> c_int>(init)() };
        (code == 0).then_some(library)
    };
    NVML.get_or_init(start).as_ref()
}

impl Gpu {
    /// The GPU at this PCI address.
    pub(super) fn find(pci_address: &str) -> Option<Gpu> {
        let library = library()?;
        let find = library.symbol("nvmlDeviceGetHandleByPciBusId_v2")?;
        let address = CString::new(pci_address).ok()?;
        let mut handle = ptr::null_mut();
        // SAFETY: nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *, nvmlDevice_t *).
        let code = unsafe {
            let find = transmute::<*const c_void, unsafe extern "C" fn(*const c_char, *mut Handle) -> c_int>(find);
            find(address.as_ptr(), &mut handle)
        };
        (code == 0).then_some(Gpu { library, handle })
    }

    /// The driver's version, as `580.95.05`.
    pub(super) fn driver_version(&self) -> Option<String> {
        let get = self.library.symbol("nvmlSystemGetDriverVersion")?;
        let mut text = [0_u8; 96];
        // SAFETY: nvmlReturn_t nvmlSystemGetDriverVersion(char *, unsigned int); the buffer has the length given.
        let code = unsafe {
            let get = transmute::<*const c_void, unsafe extern "C" fn(*mut c_char, c_uint) -> c_int>(get);
            get(text.as_mut_ptr().cast(), text.len() as c_uint)
        };
        let text = CStr::from_bytes_until_nul(&text).ok()?;
        (code == 0).then(|| text.to_string_lossy().into_owned())
    }

    /// All that can be told of this moment.
    pub(super) fn clock_state(&self) -> ClockState {
        ClockState {
            sm_mhz: self.selected("nvmlDeviceGetClockInfo", CLOCK_SM),
            memory_mhz: self.selected("nvmlDeviceGetClockInfo", CLOCK_MEMORY),
            temperature_c: self.selected("nvmlDeviceGetTemperature", TEMPERATURE_GPU),
            power_w: self
                .value::<c_uint>("nvmlDeviceGetPowerUsage")
                .map(|milliwatts| f64::from(milliwatts) / 1e3),
            throttle_mask: self
                .value::<c_ulonglong>("nvmlDeviceGetCurrentClocksEventReasons")
                .or_else(|| self.value::<c_ulonglong>("nvmlDeviceGetCurrentClocksThrottleReasons")),
        }
    }

    /// Calls `nvmlReturn_t name(nvmlDevice_t, T *)`. Only for functions of this signature.
    fn value<T: Default>(&self, name: &str) -> Option<T> {
        let get = self.library.symbol(name)?;
        let mut value = T::default();
        // SAFETY: the callers above name functions of this signature; the handle is NVML's own.
        let code = unsafe {
            let get = transmute::<*const c_void, unsafe extern "C" fn(Handle, *mut T) -> c_int>(get);
            get(self.handle, &mut value)
        };
        (code == 0).then_some(value)
    }

    /// Calls `nvmlReturn_t name(nvmlDevice_t, enum, unsigned int *)`. Only for functions of this signature.
    fn selected(&self, name: &str, which: c_int) -> Option<u32> {
        let get = self.library.symbol(name)?;
        let mut value = 0;
        // SAFETY: the callers above name functions of this signature; the handle is NVML's own.
        let code = unsafe {
            let get = transmute::<*const c_void, unsafe extern "C" fn(Handle, c_int, *mut c_uint) -> c_int>(get);
            get(self.handle, which, &mut value)
        };
        (code == 0).then_some(value)
    }
}
