//! Rows in larger buffers, and the check of a call on them.

use bytemuck::{Pod, cast_slice, cast_slice_mut};
use half::bf16;
use host::device::{Buffer, DevPtr, Device, DeviceSpec};
use host::op::call::Call;
use host::op::data::Draw;
use host::op::spec::PLAIN;
use host::op::{OpError, Values};

/// What lies between the rows of an output.
const FILL: u8 = 0x5A;

pub fn simulator() -> Device {
    Device::open(&DeviceSpec::Simt).expect("the simulator")
}

pub fn draw(purpose: &str, rows: usize, n: usize) -> Vec<bf16> {
    let values = Values::WideRange;
    Draw { seed: 3, values }.floats(purpose, rows, n, 1.0)
}

pub fn draw_f32(purpose: &str, rows: usize, n: usize) -> Vec<f32> {
    let values = Values::Normal;
    Draw { seed: 3, values }.floats(purpose, rows, n, 4.0)
}

/// Rows of `n` elements in a buffer, `stride` apart, the first of them `offset` elements in.
pub struct Rows<T> {
    buffer: Buffer,
    count: usize,
    n: usize,
    offset: usize,
    stride: usize,
    first: Vec<T>,
}

impl<T: Pod + PartialEq> Rows<T> {
    fn new(device: &Device, rows: &[T], n: usize, offset: usize, stride: usize) -> Self {
        let count = rows.len() / n;
        let elements = offset + count * stride + 5;
        let buffer = device.alloc(elements * size_of::<T>(), "rows").expect("memory");
        let first = rows.to_vec();
        Self {
            buffer,
            count,
            n,
            offset,
            stride,
            first,
        }
    }

    /// Rows to be read.
    pub fn input(device: &Device, rows: &[T], n: usize, offset: usize, stride: usize) -> Self {
        let new = Self::new(device, rows, n, offset, stride);
        new.buffer.poison().expect("a buffer");
        new.upload();
        new
    }

    /// Rows to be written; what is there before is `rows`.
    pub fn output(device: &Device, rows: &[T], n: usize, offset: usize, stride: usize) -> Self {
        let new = Self::new(device, rows, n, offset, stride);
        new.reset();
        new
    }

    fn upload(&self) {
        for (i, row) in self.first.chunks(self.n).enumerate() {
            let at = (self.offset + i * self.stride) * size_of::<T>();
            self.buffer.upload_at(at, row).expect("a place in the buffer");
        }
    }

    /// What an output was before the launch.
    pub fn reset(&self) {
        self.buffer
            .upload(&vec![FILL; self.buffer.len_bytes()])
            .expect("a buffer");
        self.upload();
    }

    pub fn ptr(&self) -> DevPtr<T> {
        DevPtr::of(&self.buffer).add(self.offset)
    }

    /// The rows; none where something between them was written.
    pub fn get(&self) -> Option<Vec<T>> {
        let mut all: Vec<u8> = self.buffer.download_vec(self.buffer.len_bytes()).expect("a buffer");
        let mut rows = Vec::new();
        for i in 0..self.count {
            let at = (self.offset + i * self.stride) * size_of::<T>();
            let row = &mut all[at..][..self.n * size_of::<T>()];
            let mut typed = vec![T::zeroed(); self.n];
            cast_slice_mut(&mut typed).copy_from_slice(row);
            rows.extend(typed);
            row.fill(FILL);
        }
        all.iter().all(|&byte| byte == FILL).then_some(rows)
    }
}

/// Whether a call runs without a fault and makes these rows of an output, and nothing else in it.
pub fn makes<T: Pod + PartialEq>(device: &Device, call: &dyn Call, output: &Rows<T>, expected: &[T]) -> bool {
    output.reset();
    let stream = device.stream().expect("a stream");
    let ran = call
        .launch(device, &stream, PLAIN)
        .and_then(|()| Ok(stream.synchronize()?));
    let same = |rows: Vec<T>| cast_slice::<T, u8>(&rows) == cast_slice::<T, u8>(expected);
    ran.is_ok() && output.get().is_some_and(same)
}

/// The call makes the rows, each of the `wrong` ones does not; its case is one of its operation's and has a cost.
pub fn holds<T: Pod + PartialEq, C: Call>(device: &Device, call: C, wrong: &[C], output: &Rows<T>, expected: &[T]) {
    assert!(makes(device, &call, output, expected), "{call:?}");
    for (i, wrong) in wrong.iter().enumerate() {
        assert!(
            !makes(device, wrong, output, expected),
            "planted error {i} went by: {wrong:?}"
        );
    }
    assert!(makes(device, &call, output, expected), "{call:?} after faults");
    let (case, op) = (call.case(), call.operation().expect("an operation"));
    assert_eq!((case.model.as_str(), case.name.as_str()), ("forward", op.name()));
    op.admits(&case, PLAIN).unwrap_or_else(|e| panic!("{case}: {e}"));
    assert!(call.work(PLAIN, 132).is_some_and(|work| work.bytes() > 0), "{case}");
    let stream = device.stream().expect("a stream");
    let unknown = call.launch(device, &stream, "no such config");
    assert!(matches!(unknown, Err(OpError::UnknownConfig { .. })), "{unknown:?}");
}
