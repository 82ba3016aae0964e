//! Device memory of a model: counted first, then taken, by the same code.

use std::collections::BTreeMap;

use super::ModelError;
use crate::device::{Buffer, DevPtr, Device, Pod};

/// Addresses of memory that is only counted are above this; nothing may read them.
const COUNTED_BASE: usize = 1 << 40;

/// Where tensors get their memory: of a device, or counted only, with addresses that nothing may launch on. What is loaded is loaded twice:
/// first counted, to know whether it fits and what a plan looks like without a device.
#[derive(Debug)]
pub struct Memory {
    device: Option<Device>,
    buffers: Vec<Buffer>,
    next: usize,
    parts: BTreeMap<&'static str, u64>,
}

/// A piece of [`Memory`].
#[derive(Clone, Copy, Debug)]
pub struct Region {
    address: DevPtr<u8>,
    bytes: usize,
    buffer: usize,
}

impl Region {
    /// Where it begins, as elements `T`; aligned to 256 bytes.
    pub fn ptr<T>(&self) -> DevPtr<T> {
        self.address.cast()
    }

    /// Its size in bytes.
    pub fn len_bytes(&self) -> usize {
        self.bytes
    }
}

impl Memory {
    /// Memory that is only counted.
    pub fn counted() -> Self {
        Self {
            device: None,
            buffers: Vec::new(),
            next: COUNTED_BASE,
            parts: BTreeMap::new(),
        }
    }

    /// Memory of a device.
    pub fn on(device: &Device) -> Self {
        Self {
            device: Some(device.clone()),
            ..Self::counted()
        }
    }

    /// Whether it is only counted: contents need not be made.
    pub fn is_counted(&self) -> bool {
        self.device.is_none()
    }

    /// The device, where it is one's.
    pub fn device(&self) -> Option<&Device> {
        self.device.as_ref()
    }

    /// Takes `bytes` bytes for a part of the model (`weights`, `kv cache`); `name` is for messages.
    ///
    /// # Errors
    /// The device's, where it has too little.
    pub fn alloc(&mut self, part: &'static str, name: &str, bytes: usize) -> Result<Region, ModelError> {
        let address = match &self.device {
            Some(device) => {
                let buffer = device.alloc(bytes, name)?;
                let address = DevPtr::of(&buffer);
                self.buffers.push(buffer);
                address
            }
            None => {
                let address = DevPtr::new(std::ptr::without_provenance_mut(self.next));
                self.next += bytes.max(1).next_multiple_of(256);
                address
            }
        };
        *self.parts.entry(part).or_default() += bytes as u64;
        Ok(Region {
            address,
            bytes,
            buffer: self.buffers.len().wrapping_sub(1),
        })
    }

    /// The buffer of a region, where the memory is a device's.
    pub fn buffer(&self, region: &Region) -> Option<&Buffer> {
        self.device.as_ref()?;
        self.buffers.get(region.buffer)
    }

    /// Copies elements to byte `offset` of a region and on; nothing where memory is only counted.
    ///
    /// # Errors
    /// More than the region holds; the device's.
    pub fn write<T: Pod>(&self, region: &Region, offset: usize, data: &[T]) -> Result<(), ModelError> {
        match self.buffer(region) {
            Some(buffer) => Ok(buffer.upload_at(offset, data)?),
            None => Ok(()),
        }
    }

    /// Takes memory and fills it.
    ///
    /// # Errors
    /// As [`Memory::alloc`].
    pub fn put<T: Pod>(&mut self, part: &'static str, name: &str, data: &[T]) -> Result<Region, ModelError> {
        let region = self.alloc(part, name, size_of_val(data))?;
        self.write(&region, 0, data)?;
        Ok(region)
    }

    /// Sets every byte of a region to zero; nothing where memory is only counted.
    ///
    /// # Errors
    /// The device's.
    pub fn zero(&self, region: &Region) -> Result<(), ModelError> {
        match self.buffer(region) {
            Some(buffer) => Ok(buffer.fill(0)?),
            None => Ok(()),
        }
    }

    /// Bytes taken so far, by part.
    pub fn parts(&self) -> &BTreeMap<&'static str, u64> {
        &self.parts
    }

    /// Bytes taken so far.
    pub fn total(&self) -> u64 {
        self.parts.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(memory: &mut Memory) -> [Region; 2] {
        let first = memory.put("weights", "a", &[1.0_f32; 3]).unwrap();
        let second = memory.alloc("cache", "b", 1000).unwrap();
        memory.write(&second, 4, &[7_u32]).unwrap();
        [first, second]
    }

    #[test]
    fn counting_takes_the_same_bytes_as_a_device() {
        let (mut counted, mut real) = (Memory::counted(), Memory::on(&Device::simt_with(Default::default())));
        let [a, b] = take(&mut counted);
        assert!(b.ptr::<u8>().get() as usize - a.ptr::<u8>().get() as usize >= 256);
        let [a, b] = take(&mut real);
        assert_eq!((counted.parts(), counted.total()), (real.parts(), 1012));
        assert_eq!(real.buffer(&a).unwrap().download_vec::<f32>(3).unwrap(), [1.0; 3]);
        let mut word = [0_u32];
        real.buffer(&b).unwrap().download_at(4, &mut word).unwrap();
        assert_eq!((word, counted.buffer(&a).is_none()), ([7], true));
        assert!(
            real.write(&a, 8, &[0.0_f32; 2])
                .unwrap_err()
                .to_string()
                .contains("`a`")
        );
    }
}
