//! The plain kernel's output kept on the device, for comparing others with it there.

use kernels_gpu::same_bytes;

use super::bound::Bound;
use super::tensor::Tensor;
use crate::device::{Buffer, Device, DeviceError, LaunchDims, Stream};

/// What was kept.
pub(super) struct OnTheDevice {
    stream: Stream,
    /// 1 once something differed.
    differ: Buffer,
    /// The compared tensors that are not empty, by name.
    tensors: Vec<(&'static str, Buffer)>,
}

impl OnTheDevice {
    /// Keeps a copy of what lies in the compared tensors of `bound` now. The device must be done.
    pub fn keep(device: &Device, tensors: &[Tensor], bound: &Bound) -> Result<Self, DeviceError> {
        let stream = device.stream()?;
        let mut kept = Vec::new();
        for t in tensors.iter().filter(|t| t.role.compared() && !t.is_empty()) {
            let Some(slot) = bound.slots.iter().find(|slot| slot.name == t.name) else {
                continue;
            };
            let buffer = device.alloc(t.len_bytes(), &format!("the plain kernel's {}", t.name))?;
            device.copy(&stream, &buffer, &slot.buffer, t.len_bytes())?;
            kept.push((t.name, buffer));
        }
        stream.synchronize()?;
        let differ = device.alloc(size_of::<u32>(), "whether bytes differ")?;
        Ok(Self {
            stream,
            differ,
            tensors: kept,
        })
    }

    /// Whether the tensors of all of these copies have the bytes that were kept.
    pub fn all_same(&self, device: &Device, copies: &[Bound]) -> Result<bool, DeviceError> {
        self.differ.upload(&[0u32])?;
        for bound in copies {
            for (name, kept) in &self.tensors {
                let Some(slot) = bound.slots.iter().find(|slot| slot.name == *name) else {
                    return Ok(false);
                };
                let bytes = kept.len_bytes() as u64;
                let Ok(blocks) = u32::try_from(same_bytes::grid(bytes)) else {
                    return Ok(false);
                };
                let dims = LaunchDims::new(blocks, same_bytes::THREADS);
                let args = (
                    kept.ptr().cast_const(),
                    slot.buffer.ptr().cast_const(),
                    bytes,
                    self.differ.ptr_as::<u32>(),
                );
                device.launch(&self.stream, &same_bytes::same_bytes::KERNEL, dims, args)?;
            }
        }
        Ok(self.differ.download_vec::<u32>(1)? == [0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::spec::bound::Slot;
    use crate::op::spec::tensor::Dtype;
    use std::sync::Arc;

    fn bound(device: &Device, y: &[u8], z: &[u8]) -> Bound {
        let slot = |name, bytes: &[u8]| {
            let buffer = device.alloc(bytes.len(), name).unwrap();
            buffer.upload(bytes).unwrap();
            Slot {
                name,
                dtype: Dtype::U8,
                buffer: Arc::new(buffer),
            }
        };
        Bound {
            slots: vec![slot("y", y), slot("z", z)],
        }
    }

    #[test]
    fn one_byte_anywhere_in_any_copy_is_seen() {
        let device = Device::simt_with(Default::default());
        for length in [1usize, 15, 16, 17, 4096, 4099] {
            let y: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
            let z = [1, 2, 3];
            let tensors = [
                Tensor::output::<u8>("y", &[("n", length)]),
                Tensor::output::<u8>("none", &[("n", 0)]),
                Tensor::output::<u8>("z", &[("n", 3)]),
            ];
            let right = || bound(&device, &y, &z);
            let kept = OnTheDevice::keep(&device, &tensors, &right()).unwrap();
            assert!(kept.all_same(&device, &[right(), right()]).unwrap(), "{length}");
            for at in [0, length / 2, length - 1] {
                let mut wrong = y.clone();
                wrong[at] ^= 0x80;
                let copies = [right(), bound(&device, &wrong, &z), right()];
                assert!(!kept.all_same(&device, &copies).unwrap(), "{length}: byte {at}");
            }
            assert!(!kept.all_same(&device, &[bound(&device, &y, &[1, 2, 4])]).unwrap());
            // A difference seen once is not seen for ever.
            assert!(kept.all_same(&device, &[right()]).unwrap(), "{length}");
        }
    }
}
