//! The CUDA driver's functions without a CUDA install: every function that `cust_raw` declares is defined here as a
//! trampoline that looks the real one up in `libcuda.so.1` on first use and jumps to it with all arguments untouched.
//!
//! A binary built on this links nothing of CUDA. On a machine without a driver each function returns
//! `CUDA_ERROR_NO_DEVICE` (100), and with a driver that is too old for a function, `CUDA_ERROR_NOT_FOUND` (500).
//! `cuGetErrorString` and `cuGetErrorName` work either way: `cust`'s `Display` panics when they fail.
//!
//! A program that uses `cust` must mention this crate (`extern crate libcuda as _;` is enough), or the linker never
//! sees the definitions. Two environment variables steer the lookup:
//!
//! - `LOCKSTEP_NO_CUDA=1`: act as if there was no driver;
//! - `LOCKSTEP_LIBCUDA=PATH`: load this file in place of `libcuda.so.1`.
//!
//! Functions newer than `cust_raw` (CUDA 11.4) are reached with [`symbol`], and [`calls`] counts driver calls by kind.

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("libcuda has trampolines for x86_64 and aarch64 only; add one for this architecture in trampoline.rs");

mod counters;
mod errors;
mod functions;
mod library;
mod trampoline;

pub use counters::{Calls, Kind, calls, count};
pub use errors::describe;
pub use library::Library;

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

/// The driver's library, opened once, or why it could not be.
pub(crate) fn driver() -> Result<&'static Library, &'static str> {
    static DRIVER: OnceLock<Result<Library, String>> = OnceLock::new();
    DRIVER
        .get_or_init(|| {
            if std::env::var_os("LOCKSTEP_NO_CUDA").is_some_and(|v| !v.is_empty() && v != "0") {
                return Err("LOCKSTEP_NO_CUDA is set".to_string());
            }
            match std::env::var("LOCKSTEP_LIBCUDA") {
                Ok(path) if !path.is_empty() => Library::open(&path).map_err(|e| format!("LOCKSTEP_LIBCUDA: {e}")),
                _ => Library::open("libcuda.so.1"),
            }
        })
        .as_ref()
        .map_err(String::as_str)
}

/// Whether a CUDA device can be used: the driver loads, initialises and lists at least one device.
///
/// # Errors
/// Says what is missing, in a sentence fit for a user.
pub fn available() -> Result<(), String> {
    let driver = driver().map_err(|why| format!("no CUDA driver: {why}"))?;
    let (Some(init), Some(count)) = (driver.symbol("cuInit"), driver.symbol("cuDeviceGetCount")) else {
        return Err("the CUDA driver library has no cuInit or no cuDeviceGetCount: it is no CUDA driver".to_string());
    };
    // SAFETY: these are the driver's functions of these names, whose signatures have never changed:
    // CUresult cuInit(unsigned int) and CUresult cuDeviceGetCount(int *).
    let (init, count) = unsafe {
        (
            std::mem::transmute::<*const c_void, extern "C" fn(u32) -> u32>(init),
            std::mem::transmute::<*const c_void, extern "C" fn(*mut c_int) -> u32>(count),
        )
    };
    let code = init(0);
    if code != 0 {
        return Err(format!(
            "the CUDA driver does not start: cuInit returned {}",
            describe(code)
        ));
    }
    let mut devices = 0;
    let code = count(&mut devices);
    if code != 0 {
        return Err(format!(
            "the CUDA driver lists no devices: cuDeviceGetCount returned {}",
            describe(code)
        ));
    }
    if devices == 0 {
        return Err("the CUDA driver is there, but it lists no device (see CUDA_VISIBLE_DEVICES)".to_string());
    }
    Ok(())
}

/// The address of a driver function by its exported name, versions included (`cuMemAlloc_v2`, not `cuMemAlloc`), or
/// `None` without a driver or with one that does not have it. For functions that `cust_raw` does not declare, such as
/// `cuLaunchKernelEx` and `cuTensorMapEncodeTiled`; calls through it are not counted unless the caller uses [`count`].
pub fn symbol(name: &str) -> Option<*const c_void> {
    driver().ok()?.symbol(name)
}

/// The names of all functions that have a trampoline.
pub fn function_names() -> impl Iterator<Item = &'static str> {
    trampoline::NAMES.iter().map(|name| name.trim_end_matches('\0'))
}
