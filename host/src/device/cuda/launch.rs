//! Launching kernels.

use super::modules::Function;
use super::{Cuda, check, ffi};
use crate::device::error::dim;
use crate::device::{DeviceError, LaunchDims, Result};
use cuda_std::launch::KernelMeta;
use cust::stream::Stream;
use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, OnceLock};

impl Cuda {
    /// The kernel, loaded if it was not.
    pub(in crate::device) fn function(&self, meta: &KernelMeta) -> Result<Arc<Function>> {
        self.make_current()?;
        self.modules.function(meta)
    }

    /// Queues a kernel; `params` points to its parameters, one pointer each.
    pub(in crate::device) fn launch(
        &self,
        stream: &Stream,
        meta: &KernelMeta,
        dims: &LaunchDims,
        params: &[*mut c_void],
    ) -> Result<()> {
        let function = self.function(meta)?;
        function.allow_shared(meta.name, dims.shared_bytes)?;
        // The driver copies the parameters before it returns and changes neither them nor the array.
        let params = params.as_ptr().cast_mut();
        let (call, code) = if dims.pdl {
            (
                "cuLaunchKernelEx",
                launch_dependent(stream, &function, meta, dims, params)?,
            )
        } else {
            let LaunchDims {
                grid,
                block,
                shared_bytes,
                ..
            } = *dims;
            // SAFETY: the function is loaded, the stream alive, and there is one pointer for each parameter: `Kernel<A>`
            // and its arguments come from one declaration.
            let code = unsafe {
                ffi::cuLaunchKernel(
                    function.raw,
                    grid.x,
                    grid.y,
                    grid.z,
                    block.x,
                    block.y,
                    block.z,
                    shared_bytes,
                    stream.as_inner(),
                    params,
                    ptr::null_mut(),
                )
            };
            ("cuLaunchKernel", code)
        };
        if code == 0 {
            return Ok(());
        }
        let (grid, block, shared) = (dim(dims.grid), dim(dims.block), dims.shared_bytes);
        let what = format!(
            "kernel `{}`, grid {grid}, block {block}, {shared} bytes of shared memory",
            meta.name
        );
        check(call, &what, code)
    }

    /// Blocks of this kernel that fit on one SM.
    pub(in crate::device) fn blocks_per_sm(&self, meta: &KernelMeta, threads: u32, shared_bytes: u32) -> Result<u32> {
        let function = self.function(meta)?;
        function.allow_shared(meta.name, shared_bytes)?;
        let mut blocks = 0;
        let size = i32::try_from(threads).unwrap_or(i32::MAX);
        // SAFETY: the function is loaded, and `blocks` is valid for the write.
        let code = unsafe {
            ffi::cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut blocks, function.raw, size, shared_bytes as usize)
        };
        let what = format!(
            "kernel `{}`, {threads} threads, {shared_bytes} bytes of shared memory",
            meta.name
        );
        check("cuOccupancyMaxActiveBlocksPerMultiprocessor", &what, code)?;
        Ok(blocks.max(0) as u32)
    }
}

/// Launches with the attribute that lets the kernel start before the one ahead of it has ended.
fn launch_dependent(
    stream: &Stream,
    function: &Function,
    meta: &KernelMeta,
    dims: &LaunchDims,
    params: *mut *mut c_void,
) -> Result<u32> {
    static LAUNCH: OnceLock<Option<ffi::LaunchKernelEx>> = OnceLock::new();
    let launch = LAUNCH.get_or_init(|| {
        let address = libcuda::symbol("cuLaunchKernelEx")?;
        // SAFETY: the driver's function of this name has this signature since CUDA 11.8, when it came.
        Some(unsafe { std::mem::transmute::<*const c_void, ffi::LaunchKernelEx>(address) })
    });
    let launch = launch.ok_or_else(|| DeviceError::DriverTooOld {
        what: format!("the programmatic dependent launch of kernel `{}`", meta.name),
        function: "cuLaunchKernelEx",
    })?;
    let mut attribute = ffi::LaunchAttribute {
        id: ffi::PROGRAMMATIC_STREAM_SERIALIZATION,
        pad: [0; 4],
        value: [0; 16],
    };
    attribute.value[0] = 1;
    let LaunchDims {
        grid,
        block,
        shared_bytes,
        ..
    } = *dims;
    let config = ffi::LaunchConfig {
        grid: [grid.x, grid.y, grid.z],
        block: [block.x, block.y, block.z],
        shared_bytes,
        stream: stream.as_inner(),
        attributes: &mut attribute,
        attribute_count: 1,
    };
    libcuda::count(libcuda::Kind::Launch);
    // SAFETY: as for `cuLaunchKernel` above; the configuration and its attribute outlive the call.
    Ok(unsafe { launch(&config, function.raw, params, ptr::null_mut()) })
}
