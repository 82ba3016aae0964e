//! Tensor maps: what a kernel's tensor copies need to know of a tensor.

use super::{Backend, DevPtr, Device, DeviceError, Result};
use cuda_std::tma::TensorMap;
pub use simt::tma::Swizzle;
use simt::tma::{MOST_DIMENSIONS, Map};
use std::fmt;

/// A tensor of 1 to 3 dimensions and the tile of it that one copy moves. Dimension 0 is the innermost one.
///
/// The rules are those of the hardware: the address and every stride are multiples of 16 bytes, strides are below 2^40, sizes 1
/// to 2^32 and tiles 1 to 256 elements; the tile's innermost row is a multiple of 16 bytes, with a swizzle exactly its span.
#[derive(Clone, Copy, Debug)]
pub struct TensorMapSpec<'a> {
    /// The first element.
    pub address: DevPtr<u8>,
    /// Bytes of an element: 1, 2, 4 or 8.
    pub element_bytes: u32,
    /// Elements in each dimension. Outside of them tiles load as zero and are not stored.
    pub sizes: &'a [u64],
    /// Bytes from one element to the next in dimensions 1 and on: one entry fewer than `sizes`.
    pub strides_bytes: &'a [u64],
    /// Elements of the tile in each dimension.
    pub tile: &'a [u32],
    /// How the tile lies in shared memory.
    pub swizzle: Swizzle,
}

impl fmt::Display for TensorMapSpec<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            element_bytes,
            sizes,
            strides_bytes,
            tile,
            swizzle,
            ..
        } = self;
        write!(
            f,
            "a tensor map of {sizes:?} elements of {element_bytes} bytes, strides {strides_bytes:?}, tile {tile:?}, {swizzle}"
        )
    }
}

impl TensorMapSpec<'_> {
    /// As the simulator has it.
    ///
    /// # Errors
    /// The first rule that is broken, with the value.
    fn map(&self) -> Result<Map, String> {
        let (rank, most) = (self.sizes.len(), MOST_DIMENSIONS as usize);
        if rank == 0 || rank > most {
            return Err(format!("{rank} dimensions: there can be 1 to {most}"));
        }
        if self.strides_bytes.len() + 1 != rank || self.tile.len() != rank {
            return Err(format!(
                "{rank} dimensions with {} strides and a tile of {}: there must be {} and {rank}",
                self.strides_bytes.len(),
                self.tile.len(),
                rank - 1
            ));
        }
        if self.address.is_null() {
            return Err("it has no tensor: the address is null".to_string());
        }
        let mut map = Map {
            base: self.address.get() as u64,
            element_bytes: self.element_bytes,
            rank: rank as u32,
            sizes: [1; 3],
            strides: [0; 2],
            tile: [1; 3],
            swizzle: self.swizzle,
        };
        map.sizes[..rank].copy_from_slice(self.sizes);
        map.strides[..rank - 1].copy_from_slice(self.strides_bytes);
        map.tile[..rank].copy_from_slice(self.tile);
        map.check()?;
        Ok(map)
    }
}

impl Device {
    /// Makes the map that a kernel's parameter `map: &TensorMap` is launched with. It is a value of 128 bytes: a launch copies it,
    /// a graph keeps its own copy, and nothing has to be freed. It costs no device call, so that it may be made for each launch,
    /// inside a capture as well.
    ///
    /// # Errors
    /// [`DeviceError::TensorMap`] with the rule that is broken and the value; a driver without tensor maps.
    pub fn tensor_map(&self, spec: &TensorMapSpec<'_>) -> Result<TensorMap> {
        let refuse = |why: String| DeviceError::TensorMap {
            map: spec.to_string(),
            why,
        };
        let map = spec.map().map_err(refuse)?;
        match self.backend() {
            Backend::Cuda(_) if self.info().compute_capability.0 < 9 => Err(refuse(format!(
                "this device is {}, and tensor maps begin with sm_90",
                self.info().arch()
            ))),
            Backend::Cuda(cuda) => cuda.tensor_map(&map, &spec.to_string()),
            Backend::Simt(_) => Ok(TensorMap { words: map.encode() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceSpec;

    const GOOD: TensorMapSpec<'static> = TensorMapSpec {
        address: DevPtr::NULL,
        element_bytes: 2,
        sizes: &[100, 7],
        strides_bytes: &[208],
        tile: &[64, 32],
        swizzle: Swizzle::B128,
    };

    #[test]
    fn the_simulators_map_says_what_the_spec_said() {
        let device = Device::open(&DeviceSpec::Simt).unwrap();
        let buffer = device.alloc(7 * 208, "x").unwrap();
        let spec = TensorMapSpec {
            address: DevPtr::of(&buffer),
            ..GOOD
        };
        let map = Map::decode(&device.tensor_map(&spec).unwrap().words).unwrap();
        assert_eq!(map.base, buffer.ptr() as u64);
        assert_eq!((map.element_bytes, map.rank, map.swizzle), (2, 2, Swizzle::B128));
        assert_eq!((map.sizes[..2].to_vec(), map.strides[0]), (vec![100, 7], 208));
        assert_eq!(map.tile[..2], [64, 32]);
        let line = TensorMapSpec {
            sizes: &[64],
            strides_bytes: &[],
            tile: &[64],
            ..spec
        };
        let map = Map::decode(&device.tensor_map(&line).unwrap().words).unwrap();
        assert_eq!((map.rank, map.sizes[0], map.tile[0]), (1, 64, 64));
    }

    #[test]
    fn what_the_hardware_does_not_take_is_refused_with_rule_and_value() {
        let device = Device::open(&DeviceSpec::Simt).unwrap();
        let at = DevPtr::new(0x100 as *mut u8);
        let good = TensorMapSpec { address: at, ..GOOD };
        let cases = [
            (GOOD, "the address is null"),
            (
                TensorMapSpec {
                    address: at.add(8),
                    ..GOOD
                },
                "at 0x108: it must start at a multiple of 16",
            ),
            (
                TensorMapSpec {
                    strides_bytes: &[200],
                    ..good
                },
                "stride of 200 bytes in dimension 1",
            ),
            (
                TensorMapSpec {
                    strides_bytes: &[],
                    ..good
                },
                "2 dimensions with 0 strides and a tile of 2: there must be 1 and 2",
            ),
            (TensorMapSpec { tile: &[64], ..good }, "with 1 strides and a tile of 1"),
            (TensorMapSpec { sizes: &[], ..good }, "0 dimensions"),
            (
                TensorMapSpec {
                    sizes: &[1, 1, 1, 1],
                    ..good
                },
                "4 dimensions: there can be 1 to 3",
            ),
            (
                TensorMapSpec {
                    tile: &[64, 257],
                    ..good
                },
                "257 elements in dimension 1",
            ),
            (TensorMapSpec { tile: &[32, 8], ..good }, "64 bytes in dimension 0"),
            (TensorMapSpec { sizes: &[0, 7], ..good }, "0 elements in dimension 0"),
        ];
        for (spec, part) in cases {
            let message = device.tensor_map(&spec).unwrap_err().to_string();
            assert!(
                message.contains(part) && message.contains("tensor map of"),
                "{part} is missing in: {message}"
            );
        }
    }
}
