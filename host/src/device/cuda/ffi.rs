//! The driver functions that `cust` does not cover, as plain declarations. Statuses are integers, not `cust_raw`'s
//! enumeration: a newer driver may return codes that CUDA 11.4 did not have. The symbols are the crate `libcuda`'s.

use cust_raw::{CUcontext, CUdevice, CUdeviceptr, CUfunction, CUgraph, CUgraphExec, CUgraphNode, CUmodule, CUstream};
use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};

/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`.
pub(super) const MAX_DYNAMIC_SHARED_SIZE_BYTES: c_int = 8;
/// `CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN`.
pub(super) const MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: c_int = 97;
/// `CU_STREAM_CAPTURE_MODE_RELAXED`: kernels may be loaded, on first use, inside a capture.
pub(super) const CAPTURE_MODE_RELAXED: c_int = 2;
/// `CU_JIT_ERROR_LOG_BUFFER`, `CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES`.
pub(super) const JIT_ERROR_LOG: [c_int; 2] = [5, 6];
/// `CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION`.
pub(super) const CLUSTER_DIMENSION: c_uint = 4;
/// `CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION`.
pub(super) const PROGRAMMATIC_STREAM_SERIALIZATION: c_uint = 6;

unsafe extern "C" {
    pub(super) fn cuCtxSetCurrent(context: CUcontext) -> u32;
    pub(super) fn cuCtxSynchronize() -> u32;
    pub(super) fn cuDriverGetVersion(version: *mut c_int) -> u32;
    pub(super) fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: CUdevice) -> u32;
    pub(super) fn cuDeviceGetPCIBusId(text: *mut c_char, len: c_int, device: CUdevice) -> u32;
    pub(super) fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> u32;
    pub(super) fn cuMemAlloc_v2(pointer: *mut CUdeviceptr, bytes: usize) -> u32;
    pub(super) fn cuMemFree_v2(pointer: CUdeviceptr) -> u32;
    pub(super) fn cuMemcpyHtoD_v2(dst: CUdeviceptr, src: *const c_void, bytes: usize) -> u32;
    pub(super) fn cuMemcpyDtoH_v2(dst: *mut c_void, src: CUdeviceptr, bytes: usize) -> u32;
    pub(super) fn cuMemcpyDtoDAsync_v2(dst: CUdeviceptr, src: CUdeviceptr, bytes: usize, stream: CUstream) -> u32;
    pub(super) fn cuMemsetD8_v2(dst: CUdeviceptr, byte: u8, bytes: usize) -> u32;
    pub(super) fn cuMemsetD8Async(dst: CUdeviceptr, byte: u8, bytes: usize, stream: CUstream) -> u32;
    pub(super) fn cuStreamSynchronize(stream: CUstream) -> u32;
    pub(super) fn cuModuleLoadDataEx(
        module: *mut CUmodule,
        image: *const c_void,
        count: c_uint,
        options: *mut c_int,
        values: *mut *mut c_void,
    ) -> u32;
    pub(super) fn cuModuleUnload(module: CUmodule) -> u32;
    pub(super) fn cuModuleGetFunction(function: *mut CUfunction, module: CUmodule, name: *const c_char) -> u32;
    pub(super) fn cuFuncSetAttribute(function: CUfunction, attribute: c_int, value: c_int) -> u32;
    pub(super) fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        blocks: *mut c_int,
        function: CUfunction,
        threads: c_int,
        shared_bytes: usize,
    ) -> u32;
    pub(super) fn cuLaunchKernel(
        function: CUfunction,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared_bytes: c_uint,
        stream: CUstream,
        params: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> u32;
    pub(super) fn cuStreamBeginCapture_v2(stream: CUstream, mode: c_int) -> u32;
    pub(super) fn cuStreamEndCapture(stream: CUstream, graph: *mut CUgraph) -> u32;
    pub(super) fn cuGraphInstantiateWithFlags(exec: *mut CUgraphExec, graph: CUgraph, flags: c_ulonglong) -> u32;
    pub(super) fn cuGraphGetNodes(graph: CUgraph, nodes: *mut CUgraphNode, count: *mut usize) -> u32;
    pub(super) fn cuGraphLaunch(exec: CUgraphExec, stream: CUstream) -> u32;
    pub(super) fn cuGraphExecDestroy(exec: CUgraphExec) -> u32;
    pub(super) fn cuGraphDestroy(graph: CUgraph) -> u32;
}

/// `CUlaunchAttribute` of CUDA 11.8 and later: an identifier, padding to 8 bytes, a union of 64 bytes.
#[repr(C)]
pub(super) struct LaunchAttribute {
    pub(super) id: c_uint,
    pub(super) pad: [u8; 4],
    /// The union; of `programmaticStreamSerializationAllowed` the first `int`, of `clusterDim` the first three.
    pub(super) value: [c_int; 16],
}

/// `CUlaunchConfig` of CUDA 11.8 and later.
#[repr(C)]
pub(super) struct LaunchConfig {
    pub(super) grid: [c_uint; 3],
    pub(super) block: [c_uint; 3],
    pub(super) shared_bytes: c_uint,
    pub(super) stream: CUstream,
    pub(super) attributes: *mut LaunchAttribute,
    pub(super) attribute_count: c_uint,
}

/// `cuTensorMapEncodeTiled`: map, element type, dimensions, address, sizes, strides, tile, steps of elements, interleave,
/// swizzle, L2 promotion, fill.
pub(super) type TensorMapEncodeTiled = unsafe extern "C" fn(
    *mut c_void,
    c_int,
    c_uint,
    *mut c_void,
    *const u64,
    *const u64,
    *const c_uint,
    *const c_uint,
    c_int,
    c_int,
    c_int,
    c_int,
) -> u32;
/// `CU_TENSOR_MAP_L2_PROMOTION_L2_256B`.
pub(super) const L2_PROMOTION_256B: c_int = 3;

/// `cuLaunchKernelEx`.
pub(super) type LaunchKernelEx =
    unsafe extern "C" fn(*const LaunchConfig, CUfunction, *mut *mut c_void, *mut *mut c_void) -> u32;

// The offsets that the C declarations have on 64-bit machines.
const _: () = {
    assert!(size_of::<LaunchAttribute>() == 72 && std::mem::offset_of!(LaunchAttribute, value) == 8);
    assert!(size_of::<LaunchConfig>() == 56);
    assert!(std::mem::offset_of!(LaunchConfig, stream) == 32);
    assert!(std::mem::offset_of!(LaunchConfig, attributes) == 40);
    assert!(std::mem::offset_of!(LaunchConfig, attribute_count) == 48);
};
