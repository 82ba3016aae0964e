//! Kernel images: which one serves a device, loaded on first use, by kernel family.

use super::{check, ffi};
use crate::device::image::{self, Image};
use crate::device::{DeviceError, Result};
use cuda_std::launch::KernelMeta;
use cust_raw::{CUfunction, CUmodule};
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The images loaded so far, and the kernels found in them.
pub(super) struct Modules {
    /// Compute capability of the device.
    capability: (u32, u32),
    images: &'static [Image],
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    kernels: HashMap<&'static str, Arc<Function>>,
    families: HashMap<&'static str, Module>,
}

/// A kernel of a loaded module.
pub(in crate::device) struct Function {
    pub(super) raw: CUfunction,
    /// Dynamic shared memory that the kernel has been allowed so far; above 48 KiB it must be asked for.
    allowed_shared: AtomicU32,
}

// SAFETY: a function handle may be used from any thread with the context current; its module lives as long as `Modules`.
unsafe impl Send for Function {}
// SAFETY: likewise.
unsafe impl Sync for Function {}

struct Module(CUmodule);

// SAFETY: a module handle may be used from any thread with the context current.
unsafe impl Send for Module {}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded by `Candidate::load`, unloaded once. A failure means that the context has died, and the module
        // with it.
        unsafe { ffi::cuModuleUnload(self.0) };
    }
}

/// What every kernel may use without asking.
const DEFAULT_SHARED_BYTES: u32 = 48 << 10;

impl Function {
    /// Allows the kernel this much dynamic shared memory.
    pub(super) fn allow_shared(&self, kernel: &str, bytes: u32) -> Result<()> {
        if bytes <= self.allowed_shared.load(Ordering::Relaxed) {
            return Ok(());
        }
        // SAFETY: the function is alive.
        let code = unsafe { ffi::cuFuncSetAttribute(self.raw, ffi::MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes as i32) };
        check(
            "cuFuncSetAttribute",
            &format!("kernel `{kernel}` with {bytes} bytes of shared memory"),
            code,
        )?;
        self.allowed_shared.fetch_max(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Modules {
    pub(super) fn new(capability: (u32, u32), images: &'static [Image]) -> Modules {
        Modules {
            capability,
            images,
            loaded: Mutex::default(),
        }
    }

    /// The kernel, its family's image loaded if it was not. The context has to be current.
    pub(super) fn function(&self, meta: &KernelMeta) -> Result<Arc<Function>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = loaded.kernels.get(meta.name) {
            return Ok(function.clone());
        }
        if !loaded.families.contains_key(meta.family) {
            let module = self.load_family(meta)?;
            loaded.families.insert(meta.family, module);
        }
        let module = loaded.families[meta.family].0;
        let name = CString::new(meta.name)
            .map_err(|_| DeviceError::Misuse(format!("the kernel name {:?} contains a zero byte", meta.name)))?;
        let mut raw = ptr::null_mut();
        // SAFETY: the module is loaded, and the name is a C string.
        let code = unsafe { ffi::cuModuleGetFunction(&mut raw, module, name.as_ptr()) };
        check(
            "cuModuleGetFunction",
            &format!("kernel `{}` of family `{}`", meta.name, meta.family),
            code,
        )?;
        let function = Arc::new(Function {
            raw,
            allowed_shared: AtomicU32::new(DEFAULT_SHARED_BYTES),
        });
        loaded.kernels.insert(meta.name, function.clone());
        Ok(function)
    }

    fn load_family(&self, meta: &KernelMeta) -> Result<Module> {
        let candidates = candidates(self.images, meta.family, self.capability);
        if candidates.is_empty() {
            return Err(self.no_image(meta));
        }
        let mut attempts = Vec::new();
        for candidate in &candidates {
            match candidate.load() {
                Ok(module) => {
                    tracing::debug!(family = meta.family, image = candidate.label(), "kernel image loaded");
                    return Ok(module);
                }
                Err(why) => {
                    tracing::warn!(family = meta.family, "{} does not load: {why}", candidate.label());
                    attempts.push(format!("{}: {why}", candidate.label()));
                }
            }
        }
        Err(DeviceError::ImageRefused {
            family: meta.family.to_string(),
            arch: self.arch(),
            attempts: attempts.join("; "),
        })
    }

    fn no_image(&self, meta: &KernelMeta) -> DeviceError {
        let of_family = self.images.iter().filter(|image| image.family == meta.family);
        let mut embedded = of_family.map(|image| image.arch).collect::<Vec<_>>().join(" ");
        if embedded.is_empty() {
            embedded.push_str("none");
        }
        DeviceError::NoImage {
            kernel: meta.name.to_string(),
            family: meta.family.to_string(),
            arch: self.arch(),
            embedded,
        }
    }

    fn arch(&self) -> String {
        format!("sm_{}{}", self.capability.0, self.capability.1)
    }
}

/// One way to get a family onto a device.
#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    arch: &'static str,
    code: Code,
}

#[derive(Debug, PartialEq, Eq)]
enum Code {
    Cubin(&'static [u8]),
    Ptx(&'static [u8]),
}

/// The images of a family that can serve a device of compute capability (major, minor), best first: machine code for
/// exactly this device, PTX for exactly this device, then PTX of lower architectures, highest first, compiled by the
/// driver. An architecture with a suffix (`sm_90a`) serves no other device, not even as PTX.
fn candidates(images: &'static [Image], family: &str, (major, minor): (u32, u32)) -> Vec<Candidate> {
    let device = major * 10 + minor;
    let serving = image::ranked(images, family, device);
    let cubins = serving
        .iter()
        .filter(|(number, _)| *number == device)
        .filter_map(|(_, image)| {
            image.cubin.map(|code| Candidate {
                arch: image.arch,
                code: Code::Cubin(code),
            })
        });
    let ptx = serving.iter().map(|(_, image)| Candidate {
        arch: image.arch,
        code: Code::Ptx(image.ptx),
    });
    cubins.chain(ptx).collect()
}

impl Candidate {
    fn label(&self) -> String {
        let form = if matches!(self.code, Code::Cubin(_)) {
            "cubin"
        } else {
            "PTX"
        };
        format!("{} {form}", self.arch)
    }

    /// Loads it into the current context; the error is the driver's status and the JIT compiler's log.
    fn load(&self) -> std::result::Result<Module, String> {
        // PTX has to end in a zero byte; a cubin knows its own length, and does not mind.
        let (Code::Cubin(bytes) | Code::Ptx(bytes)) = self.code;
        let mut image = Vec::with_capacity(bytes.len() + 1);
        image.extend_from_slice(bytes);
        image.push(0);
        let mut log = vec![0_u8; 8 << 10];
        let mut options = ffi::JIT_ERROR_LOG;
        // The second option's value goes by value, in place of a pointer.
        let mut values: [*mut c_void; 2] = [log.as_mut_ptr().cast(), ptr::without_provenance_mut(log.len())];
        let mut module = ptr::null_mut();
        // SAFETY: the image ends in a zero byte, and the options and their values are two each.
        let code = unsafe {
            let image = image.as_ptr().cast();
            ffi::cuModuleLoadDataEx(&mut module, image, 2, options.as_mut_ptr(), values.as_mut_ptr())
        };
        if code == 0 {
            return Ok(Module(module));
        }
        let text = log.split(|&byte| byte == 0).next().unwrap_or_default();
        let text = String::from_utf8_lossy(text);
        let text = text.trim();
        Err(if text.is_empty() {
            libcuda::describe(code)
        } else {
            format!("{}: {text}", libcuda::describe(code))
        })
    }
}

#[cfg(test)]
#[path = "modules_tests.rs"]
mod tests;
