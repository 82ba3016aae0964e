//! Problems on the device: one launch a batch.

use anyhow::Result;
use host::device::{Buffer, Device, LaunchDims, Stream};
use kernels_gpu::mma_probe;

use super::problem::{Kind, Problem};

/// D of a problem, in 32-bit words.
pub type Answer = [u32; 128];

/// Problems as the device takes them: A, B and C each in a row.
#[derive(Default)]
pub struct Batch {
    /// A of each problem.
    pub a: Vec<[u16; 256]>,
    /// B of each problem.
    pub b: Vec<[u16; 128]>,
    /// C of each problem.
    pub c: Vec<[u32; 128]>,
}

impl Batch {
    /// A batch of given problems.
    pub fn of(problems: &[Problem]) -> Batch {
        Batch {
            a: problems.iter().map(|p| p.a).collect(),
            b: problems.iter().map(|p| p.b).collect(),
            c: problems.iter().map(|p| p.c).collect(),
        }
    }

    /// Problem `i`.
    pub fn problem(&self, i: usize) -> Problem {
        Problem {
            a: self.a[i],
            b: self.b[i],
            c: self.c[i],
        }
    }
}

/// Buffers for batches of up to `capacity` problems.
pub struct Runner {
    device: Device,
    stream: Stream,
    a: Buffer,
    b: Buffer,
    c: Buffer,
    d: Buffer,
    capacity: usize,
}

impl Runner {
    /// Allocates them.
    ///
    /// # Errors
    /// The device's.
    pub fn new(device: &Device, capacity: usize) -> Result<Runner> {
        Ok(Runner {
            device: device.clone(),
            stream: device.stream()?,
            a: device.alloc(capacity * 512, "probe a")?,
            b: device.alloc(capacity * 256, "probe b")?,
            c: device.alloc(capacity * 512, "probe c")?,
            d: device.alloc(capacity * 512, "probe d")?,
            capacity,
        })
    }

    /// The device's answers.
    ///
    /// # Errors
    /// The device's.
    ///
    /// # Panics
    /// If the batch is larger than the capacity.
    pub fn run(&self, kind: Kind, batch: &Batch) -> Result<Vec<Answer>> {
        let count = batch.a.len();
        assert!(count <= self.capacity, "{count} problems where {} fit", self.capacity);
        if count == 0 {
            return Ok(Vec::new());
        }
        self.a.upload(batch.a.as_flattened())?;
        self.b.upload(batch.b.as_flattened())?;
        self.c.upload(batch.c.as_flattened())?;
        self.d.poison()?;
        let problems = count as u32;
        let dims = LaunchDims::new(mma_probe::grid(problems), mma_probe::THREADS);
        let (a, b) = (self.a.ptr_as::<u32>().cast_const(), self.b.ptr_as::<u32>().cast_const());
        let floats = (
            a,
            b,
            self.c.ptr_as::<f32>().cast_const(),
            self.d.ptr_as::<f32>(),
            problems,
        );
        let ints = (
            a,
            b,
            self.c.ptr_as::<i32>().cast_const(),
            self.d.ptr_as::<i32>(),
            problems,
        );
        match kind {
            Kind::Bf16 => self
                .device
                .launch(&self.stream, &mma_probe::mma_probe_bf16::KERNEL, dims, floats)?,
            Kind::F16 => self
                .device
                .launch(&self.stream, &mma_probe::mma_probe_f16::KERNEL, dims, floats)?,
            Kind::S8 => self
                .device
                .launch(&self.stream, &mma_probe::mma_probe_s8::KERNEL, dims, ints)?,
        }
        let words = self.d.download_vec::<u32>(count * 128)?;
        let (answers, _) = words.as_chunks::<128>();
        Ok(answers.to_vec())
    }
}
