//! Buffers on the simulator.

use half::bf16;
use host::device::{Buffer, DevPtr, Device, Stream};
use host::op::Values;
use host::op::call::Call;
use host::op::data::Draw;

/// How all data is drawn.
pub const DRAW: Draw = Draw {
    seed: 11,
    values: Values::Normal,
};
/// What no result has.
pub const NAN: bf16 = bf16::from_bits(0xFFFF);

/// A device with buffers that live as long as it.
pub struct Memory {
    pub device: Device,
    pub stream: Stream,
    buffers: Vec<Buffer>,
}

impl Memory {
    pub fn new() -> Memory {
        let device = Device::simt_with(Default::default());
        let stream = device.stream().expect("a stream");
        Memory {
            device,
            stream,
            buffers: Vec::new(),
        }
    }

    pub fn alloc<T>(&mut self, bytes: usize) -> DevPtr<T> {
        let buffer = self.device.alloc(bytes, "test").expect("memory");
        let at = DevPtr::of(&buffer);
        self.buffers.push(buffer);
        at
    }

    pub fn put<T: bytemuck::Pod>(&mut self, data: &[T]) -> DevPtr<T> {
        let at = self.alloc(size_of_val(data));
        self.last().upload(data).expect("an upload");
        at
    }

    fn last(&self) -> &Buffer {
        self.buffers.last().expect("a buffer")
    }

    pub fn get<T: bytemuck::Pod>(&self, at: DevPtr<T>, count: usize) -> Vec<T> {
        let buffer = self.buffers.iter().find(|b| DevPtr::of(b) == at).expect("its buffer");
        buffer.download_vec(count).expect("a download")
    }

    pub fn launch(&self, call: &impl Call, config: &str) {
        call.launch(&self.device, &self.stream, config)
            .unwrap_or_else(|e| panic!("{config}: {e}: {call:?}"));
    }
}

/// Rows of `width` elements put `stride` apart, `first` elements from the start; NaN in between.
pub fn spread(rows: &[bf16], width: usize, stride: usize, first: usize) -> Vec<bf16> {
    let mut out = vec![NAN; first + rows.len() / width * stride];
    for (i, row) in rows.chunks(width).enumerate() {
        out[first + i * stride..][..width].copy_from_slice(row);
    }
    out
}
