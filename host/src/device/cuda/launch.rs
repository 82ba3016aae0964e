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
        let (call, code) = if dims.pdl || dims.cluster > 1 {
            (
                "cuLaunchKernelEx",
                launch_with_attributes(stream, &function, meta, dims, params)?,
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
        let mut what = format!(
            "kernel `{}`, grid {grid}, block {block}, {shared} bytes of shared memory",
            meta.name
        );
        if dims.cluster > 1 {
            what += &format!(", clusters of {} blocks", dims.cluster);
        }
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

/// Launches with attributes: the blocks of a cluster, and that the kernel may start before the one ahead of it has ended.
fn launch_with_attributes(
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
        what: format!(
            "the launch of kernel `{}` with {}",
            meta.name,
            if dims.pdl {
                "programmatic dependence"
            } else {
                "clusters"
            }
        ),
        function: "cuLaunchKernelEx",
    })?;
    let attribute = |id, first: [i32; 3]| {
        let mut value = [0; 16];
        value[..3].copy_from_slice(&first);
        ffi::LaunchAttribute { id, pad: [0; 4], value }
    };
    let mut both = [
        attribute(ffi::CLUSTER_DIMENSION, [dims.cluster as i32, 1, 1]),
        attribute(ffi::PROGRAMMATIC_STREAM_SERIALIZATION, [1, 0, 0]),
    ];
    let attributes = &mut both[usize::from(dims.cluster <= 1)..1 + usize::from(dims.pdl)];
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
        attributes: attributes.as_mut_ptr(),
        attribute_count: attributes.len() as u32,
    };
    libcuda::count(libcuda::Kind::Launch);
    // SAFETY: as for `cuLaunchKernel` above; the configuration and its attributes outlive the call.
    Ok(unsafe { launch(&config, function.raw, params, ptr::null_mut()) })
}
