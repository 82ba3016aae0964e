//! What the tests of the simulator share.
#![allow(dead_code, reason = "each test binary uses its own part")]

use simt::{ErrorKind, Launch, LaunchStats, Schedule, SimError, ctx, memory};

/// A launch of one block with all checks.
pub fn one_block(threads: u32, shared_bytes: u32) -> Launch<'static> {
    blocks(1, threads, shared_bytes)
}

/// A launch with all checks.
pub fn blocks(grid: u32, threads: u32, shared_bytes: u32) -> Launch<'static> {
    Launch {
        kernel: "test_kernel",
        grid: grid.into(),
        block: threads.into(),
        cluster: 1,
        shared_bytes,
        checks: true,
        schedule: Schedule::InOrder,
        workers: 0,
        tensor: Default::default(),
    }
}

/// Device memory of a test, freed at its end.
pub struct Mem<T>(pub *mut T, pub usize);

// SAFETY: device memory is shared by all threads; the tests' kernels write disjoint parts or use atomics.
unsafe impl<T> Sync for Mem<T> {}
// SAFETY: as above.
unsafe impl<T> Send for Mem<T> {}

impl<T: Copy> Mem<T> {
    /// `n` elements that nobody wrote.
    pub fn raw(n: usize, name: &str) -> Mem<T> {
        Mem(memory::alloc(n * size_of::<T>(), name).unwrap().cast(), n)
    }

    pub fn of(values: &[T], name: &str) -> Mem<T> {
        let m: Mem<T> = Mem::raw(values.len(), name);
        // SAFETY: plain numbers, seen as bytes; the allocation has their size.
        unsafe {
            memory::write(
                m.0.cast(),
                std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)),
            )
        };
        m
    }

    pub fn at(&self, i: usize) -> *mut T {
        self.0.wrapping_add(i)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0; self.1 * size_of::<T>()];
        // SAFETY: the allocation has this size and no launch is running.
        unsafe { memory::read(self.0.cast(), &mut out) };
        out
    }

    /// The elements, for `T` of plain numbers.
    pub fn get(&self) -> Vec<T> {
        // SAFETY: as above, in whole elements.
        (0..self.1).map(|i| unsafe { self.0.add(i).read() }).collect()
    }
}

impl<T> Drop for Mem<T> {
    fn drop(&mut self) {
        // SAFETY: no launch is running at the end of a test.
        unsafe { memory::free(self.0.cast()) }
    }
}

/// Asserts an error's kind, its kernel, and that it names the line of `source` that ends in `// <- marker`.
#[track_caller]
pub fn assert_error(
    result: Result<LaunchStats, SimError>,
    kind: ErrorKind,
    file: &str,
    source: &str,
    marker: &str,
) -> SimError {
    let error = result.expect_err("the launch should have failed");
    assert_eq!(error.kind, kind, "{error}");
    assert_eq!(error.kernel, "test_kernel");
    let tail = format!("// <- {marker}");
    let line = 1 + source
        .lines()
        .position(|l| l.ends_with(&tail))
        .expect("marker in the source");
    let want = format!("{file}:{line}:");
    assert!(
        error.location.starts_with(&want),
        "{} should start with {want}: {error}",
        error.location
    );
    error
}

/// Runs a launch in order and under seeds, with checks and without.
#[track_caller]
pub fn everywhere(launch: Launch<'_>, body: &(dyn Fn() + Sync)) {
    for checks in [true, false] {
        Launch { checks, ..launch }.run(body).unwrap();
        for seed in 0..30 {
            let schedule = Schedule::Seeded(seed);
            let result = Launch {
                schedule,
                checks,
                ..launch
            }
            .run(body);
            assert!(result.is_ok(), "seed {seed}: {}", result.unwrap_err());
        }
    }
}

/// The running thread's index in its block of one dimension.
pub fn tid() -> u32 {
    ctx::thread_idx().x
}

/// The running thread's warp.
pub fn warp() -> u32 {
    ctx::warp_id()
}

/// Whether the running thread is the first of its warp.
pub fn first_lane() -> bool {
    ctx::lane_id() == 0
}

/// Thread 0 makes barriers at 0, 8, ... of these counts; all meet.
pub fn barriers(counts: &[u32]) {
    if tid() == 0 {
        for (i, &count) in counts.iter().enumerate() {
            ctx::mbarrier_init(8 * i as u32, count);
        }
        ctx::fence_mbarrier_init();
    }
    ctx::sync_threads();
}
