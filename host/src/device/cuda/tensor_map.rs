//! Tensor maps in the driver's encoding.

use super::{Cuda, check, ffi};
use crate::device::{DeviceError, Result};
use cuda_std::tma::TensorMap;
use simt::tma::{Map, Swizzle};
use std::ffi::c_void;
use std::sync::OnceLock;

impl Cuda {
    /// Has the driver encode a map that [`Map::check`] took; `what` is for errors. Outside of the tensor there are zeros.
    pub(in crate::device) fn tensor_map(&self, map: &Map, what: &str) -> Result<TensorMap> {
        static ENCODE: OnceLock<Option<ffi::TensorMapEncodeTiled>> = OnceLock::new();
        let encode = ENCODE.get_or_init(|| {
            let address = libcuda::symbol("cuTensorMapEncodeTiled")?;
            // SAFETY: the driver's function of this name has this signature since CUDA 12.0, when it came.
            Some(unsafe { std::mem::transmute::<*const c_void, ffi::TensorMapEncodeTiled>(address) })
        });
        let encode = encode.ok_or_else(|| DeviceError::DriverTooOld {
            what: what.to_string(),
            function: "cuTensorMapEncodeTiled",
        })?;
        self.make_current()?;
        // CU_TENSOR_MAP_DATA_TYPE_UINT8, _UINT16, _UINT32, _UINT64: copies do not look at what the bits mean.
        let element = match map.element_bytes {
            1 => 0,
            2 => 1,
            4 => 2,
            _ => 4,
        };
        let swizzle = match map.swizzle {
            Swizzle::None => 0,
            Swizzle::B32 => 1,
            Swizzle::B64 => 2,
            Swizzle::B128 => 3,
        };
        let mut encoded = TensorMap { words: [0; 16] };
        // SAFETY: the map is 128 bytes aligned to 64; the arrays have at least as many entries as there are dimensions (strides:
        // one fewer), which are at most 3; the address is a device address that the driver does not follow.
        let code = unsafe {
            encode(
                (&raw mut encoded).cast(),
                element,
                map.rank,
                std::ptr::without_provenance_mut(map.base as usize),
                map.sizes.as_ptr(),
                map.strides.as_ptr(),
                map.tile.as_ptr(),
                [1; 3].as_ptr(),
                0,
                swizzle,
                ffi::L2_PROMOTION_256B,
                0,
            )
        };
        check("cuTensorMapEncodeTiled", what, code)?;
        Ok(encoded)
    }
}
