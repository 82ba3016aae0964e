//! The driver's error codes in words, for when the driver itself is not there to say them.

use std::ffi::{CStr, c_char, c_void};

/// Code, name and meaning of the errors that programs meet. Codes: cuda.h of CUDA 13.
static ERRORS: &[(u32, &CStr, &CStr)] = &[
    (0, c"CUDA_SUCCESS", c"no error"),
    (1, c"CUDA_ERROR_INVALID_VALUE", c"invalid argument"),
    (2, c"CUDA_ERROR_OUT_OF_MEMORY", c"out of memory"),
    (3, c"CUDA_ERROR_NOT_INITIALIZED", c"the driver is not initialised"),
    (4, c"CUDA_ERROR_DEINITIALIZED", c"the driver is shutting down"),
    (34, c"CUDA_ERROR_STUB_LIBRARY", c"the CUDA driver is a stub library"),
    (
        46,
        c"CUDA_ERROR_DEVICE_UNAVAILABLE",
        c"the device is busy or unavailable",
    ),
    (
        100,
        c"CUDA_ERROR_NO_DEVICE",
        c"no CUDA driver or no CUDA-capable device",
    ),
    (101, c"CUDA_ERROR_INVALID_DEVICE", c"invalid device ordinal"),
    (200, c"CUDA_ERROR_INVALID_IMAGE", c"the device kernel image is invalid"),
    (201, c"CUDA_ERROR_INVALID_CONTEXT", c"invalid device context"),
    (209, c"CUDA_ERROR_NO_BINARY_FOR_GPU", c"no kernel image for this device"),
    (214, c"CUDA_ERROR_ECC_UNCORRECTABLE", c"uncorrectable ECC error"),
    (218, c"CUDA_ERROR_INVALID_PTX", c"the PTX did not compile"),
    (
        221,
        c"CUDA_ERROR_JIT_COMPILER_NOT_FOUND",
        c"the driver's PTX compiler was not found",
    ),
    (
        222,
        c"CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
        c"the PTX is of a newer version than the driver knows",
    ),
    (300, c"CUDA_ERROR_INVALID_SOURCE", c"the kernel source is invalid"),
    (301, c"CUDA_ERROR_FILE_NOT_FOUND", c"file not found"),
    (
        304,
        c"CUDA_ERROR_OPERATING_SYSTEM",
        c"a call to the operating system failed",
    ),
    (400, c"CUDA_ERROR_INVALID_HANDLE", c"invalid resource handle"),
    (
        500,
        c"CUDA_ERROR_NOT_FOUND",
        c"the symbol was not found; the driver may be too old for it",
    ),
    (600, c"CUDA_ERROR_NOT_READY", c"work is still in progress"),
    (
        700,
        c"CUDA_ERROR_ILLEGAL_ADDRESS",
        c"a kernel accessed an illegal address",
    ),
    (
        701,
        c"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
        c"the launch asks for too many registers, threads or parameters",
    ),
    (
        702,
        c"CUDA_ERROR_LAUNCH_TIMEOUT",
        c"the kernel ran past the time limit of the display",
    ),
    (
        709,
        c"CUDA_ERROR_CONTEXT_IS_DESTROYED",
        c"the context has been destroyed",
    ),
    (710, c"CUDA_ERROR_ASSERT", c"an assertion failed in a kernel"),
    (714, c"CUDA_ERROR_HARDWARE_STACK_ERROR", c"stack error on the device"),
    (
        715,
        c"CUDA_ERROR_ILLEGAL_INSTRUCTION",
        c"a kernel ran an illegal instruction",
    ),
    (
        716,
        c"CUDA_ERROR_MISALIGNED_ADDRESS",
        c"a kernel accessed a misaligned address",
    ),
    (
        717,
        c"CUDA_ERROR_INVALID_ADDRESS_SPACE",
        c"a kernel accessed an address of the wrong space",
    ),
    (718, c"CUDA_ERROR_INVALID_PC", c"invalid program counter"),
    (719, c"CUDA_ERROR_LAUNCH_FAILED", c"a kernel failed"),
    (800, c"CUDA_ERROR_NOT_PERMITTED", c"the operation is not permitted"),
    (
        801,
        c"CUDA_ERROR_NOT_SUPPORTED",
        c"the operation is not supported by this device or driver",
    ),
    (
        802,
        c"CUDA_ERROR_SYSTEM_NOT_READY",
        c"the system is not ready (is the fabric manager running?)",
    ),
    (
        803,
        c"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        c"the kernel module and the driver library are of different versions",
    ),
    (
        900,
        c"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
        c"the operation is not allowed while a stream is capturing",
    ),
    (
        901,
        c"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
        c"an earlier error has ended the stream's capture",
    ),
    (912, c"CUDA_ERROR_INVALID_CLUSTER_SIZE", c"invalid cluster size"),
    (999, c"CUDA_ERROR_UNKNOWN", c"unknown error"),
];

fn entry(code: u32) -> (&'static CStr, &'static CStr) {
    let known = ERRORS.iter().find(|entry| entry.0 == code);
    known.map_or(
        (c"CUDA_ERROR", c"an error this table does not know"),
        |&(_, name, text)| (name, text),
    )
}

/// Stands in for `cuGetErrorName`. It never fails: `cust` panics when it does.
///
/// # Safety
/// `out` is null or valid for a write.
pub(crate) unsafe extern "C" fn get_error_name(code: u32, out: *mut *const c_char) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { put(entry(code).0, out) }
}

/// Stands in for `cuGetErrorString`. It never fails: `cust` panics when it does.
///
/// # Safety
/// `out` is null or valid for a write.
pub(crate) unsafe extern "C" fn get_error_string(code: u32, out: *mut *const c_char) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { put(entry(code).1, out) }
}

/// # Safety
/// `out` is null or valid for a write.
unsafe fn put(text: &'static CStr, out: *mut *const c_char) -> u32 {
    if out.is_null() {
        return 1;
    }
    // SAFETY: not null, and the caller promises that it is valid.
    unsafe { out.write(text.as_ptr()) };
    0
}

/// A status code of the driver in words, in the driver's own where it has some: `CUDA_ERROR_NO_DEVICE (100): no ...`.
/// Takes any number, also codes newer than `cust_raw`'s enumeration.
pub fn describe(code: u32) -> String {
    let said_by_driver = |function: &str| -> Option<String> {
        let address = crate::symbol(function)?;
        // SAFETY: cuGetErrorName and cuGetErrorString share this signature, which has never changed.
        let get =
            unsafe { std::mem::transmute::<*const c_void, extern "C" fn(u32, *mut *const c_char) -> u32>(address) };
        let mut text = std::ptr::null();
        if get(code, &mut text) != 0 || text.is_null() {
            return None;
        }
        // SAFETY: on success the driver hands out a static C string.
        Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    };
    let (name, text) = entry(code);
    let name = said_by_driver("cuGetErrorName").unwrap_or_else(|| name.to_string_lossy().into_owned());
    let text = said_by_driver("cuGetErrorString").unwrap_or_else(|| text.to_string_lossy().into_owned());
    format!("{name} ({code}): {text}")
}
