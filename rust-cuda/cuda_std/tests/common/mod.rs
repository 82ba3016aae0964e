//! Launches on the simulator, with all its checks on.
#![allow(dead_code)]

use cuda_std::launch::{Kernel, KernelArgs};
use simt::{Dim3, Launch, Schedule, SimError, memory};

/// The orders that every test runs in: results may not depend on them.
pub const SCHEDULES: [Schedule; 3] = [Schedule::InOrder, Schedule::Seeded(1), Schedule::Seeded(0xfeed)];

/// Device memory that is freed in the end.
pub struct Buffer<T> {
    p: *mut T,
    len: usize,
}

impl<T: Copy + Default> Buffer<T> {
    pub fn new(values: &[T]) -> Self {
        let buffer = Self::unwritten(values.len());
        // SAFETY: plain values; the buffer has room for them.
        unsafe {
            memory::write(
                buffer.p.cast(),
                core::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)),
            )
        };
        buffer
    }

    pub fn unwritten(len: usize) -> Self {
        let p = memory::alloc(len * size_of::<T>(), "test").expect("the simulator's arena is large enough");
        Self { p: p.cast(), len }
    }

    pub fn ptr(&self) -> *mut T {
        self.p
    }

    pub fn read(&self) -> Vec<T> {
        let mut values = vec![T::default(); self.len];
        // SAFETY: plain values, as many as the buffer has.
        unsafe {
            let bytes = core::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values.as_slice()));
            memory::read(self.p.cast(), bytes);
        }
        values
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // SAFETY: allocated in `unwritten`, and no launch runs any more.
        unsafe { memory::free(self.p.cast()) };
    }
}

/// One launch of a closure's body as the kernel.
pub fn run_body(
    grid: u32,
    block: impl Into<Dim3>,
    shared_bytes: u32,
    schedule: Schedule,
    body: impl Fn() + Sync,
) -> Result<(), SimError> {
    let launch = Launch {
        kernel: "test",
        grid: grid.into(),
        block: block.into(),
        cluster: 1,
        shared_bytes,
        checks: true,
        schedule,
        workers: 2,
        tensor: Default::default(),
    };
    launch.run(&body).map(|_| ())
}

/// One launch of a `#[kernel]` through its entry, as the host does it.
pub fn run_kernel<A: KernelArgs>(
    kernel: &Kernel<A>,
    grid: impl Into<Dim3>,
    block: impl Into<Dim3>,
    args: &A,
) -> Result<(), SimError> {
    args.with_pointers(|pointers| {
        let params = pointers.as_ptr() as usize;
        let entry = kernel.meta.entry;
        let launch = Launch {
            kernel: kernel.meta.name,
            grid: grid.into(),
            block: block.into(),
            cluster: 1,
            shared_bytes: 0,
            checks: true,
            schedule: Schedule::InOrder,
            workers: 1,
            tensor: Default::default(),
        };
        // SAFETY: the arguments are of the kernel's own types `A`.
        launch
            .run(&|| unsafe { entry(params as *const *const core::ffi::c_void) })
            .map(|_| ())
    })
}

/// A fixed sequence of numbers that look random (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn u32(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }
}
