//! One buffer with many tensors at odd places, for tests of calls.

use std::ops::Range;

use half::bf16;
use host::device::{Buffer, DevPtr, Device, Pod, SimtOptions, Stream};
use host::op::call::Call;
use host::op::data::Draw;
use host::op::{OpError, Values};

/// Seeded normal values.
pub fn draw(seed: u64) -> Draw {
    let values = Values::Normal;
    Draw { seed, values }
}

/// `[rows][width]` of bf16.
pub fn halves(seed: u64, name: &str, rows: usize, width: usize) -> Vec<bf16> {
    draw(seed).floats(name, rows, width, 0.5)
}

/// The bits of floats.
#[allow(dead_code, reason = "not every test has f32 outputs")]
pub fn bits(y: &[f32]) -> Vec<u32> {
    y.iter().map(|y| y.to_bits()).collect()
}

/// What lies between tensors.
const GAP: u8 = 0xA5;

/// One buffer with many tensors.
pub struct Arena {
    pub device: Device,
    pub stream: Stream,
    buffer: Buffer,
    placed: Vec<Range<usize>>,
}

impl Arena {
    /// An arena of a megabyte.
    pub fn new() -> Self {
        let device = Device::simt_with(SimtOptions::default());
        let buffer = device.alloc(1 << 20, "arena").unwrap();
        buffer.fill(GAP).unwrap();
        Self {
            stream: device.stream().unwrap(),
            device,
            buffer,
            placed: Vec::new(),
        }
    }

    /// Room for so many elements at a multiple of `align` bytes, and of no larger power of two.
    pub fn room<T>(&mut self, count: usize, align: usize) -> DevPtr<T> {
        let end = self.placed.last().map_or(0, |last| last.end);
        let start = (end + 64).next_multiple_of(2 * align) + align;
        self.placed.push(start..start + count * size_of::<T>());
        DevPtr::<u8>::of(&self.buffer).add(start).cast()
    }

    /// Places a tensor, as [`Arena::room`].
    pub fn put<T: Pod>(&mut self, data: &[T], align: usize) -> DevPtr<T> {
        let at = self.room(data.len(), align);
        self.buffer.upload_at(self.placed.last().unwrap().start, data).unwrap();
        at
    }

    /// The elements of a tensor that was placed here.
    pub fn get<T: Pod>(&self, at: DevPtr<T>) -> Vec<T> {
        let start = at.get() as usize - self.buffer.ptr() as usize;
        let range = self.placed.iter().find(|range| range.start == start).unwrap();
        let mut all = vec![<T as bytemuck::Zeroable>::zeroed(); range.len() / size_of::<T>()];
        self.buffer.download_at(start, &mut all).unwrap();
        all
    }

    /// Launches a call that its operation, if it has one, admits.
    pub fn launch(&self, call: &dyn Call, config: &str) -> Result<(), OpError> {
        if let Some(op) = call.operation() {
            op.admits(&call.case(), config).unwrap();
        }
        assert!(call.work(config, 132).is_some_and(|work| work.bytes() > 0));
        call.launch(&self.device, &self.stream, config)
    }

    /// What a call that is refused says.
    pub fn refusal(&self, call: &dyn Call, config: &str) -> String {
        call.launch(&self.device, &self.stream, config).unwrap_err().to_string()
    }

    /// That nothing was written between tensors.
    pub fn gaps_are_untouched(&self) {
        let all: Vec<u8> = self.buffer.download_vec(self.buffer.len_bytes()).unwrap();
        let mut at = 0;
        for range in &self.placed {
            assert!(all[at..range.start].iter().all(|b| *b == GAP), "before {range:?}");
            at = range.end;
        }
        assert!(all[at..].iter().all(|b| *b == GAP), "behind the last tensor");
    }
}
