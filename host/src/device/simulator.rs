//! The simulator as a device: streams run their work at once and in order, captures record it.

use super::error::dim;
use super::{DeviceError, LaunchDims, Result, SimtOptions};
use cuda_std::launch::{Kernel, KernelArgs, KernelMeta};
use simt::LaunchStats;
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The simulator's part of a [`super::Device`].
pub(super) struct Simulator {
    options: SimtOptions,
    /// Streams being captured now.
    capturing: AtomicUsize,
    /// Counts of the launch that ended last.
    last: Arc<Mutex<Option<LaunchStats>>>,
}

/// One piece of work, to run now or at each launch of a graph.
pub(super) type Work = Box<dyn Fn() -> Result<()> + Send + Sync>;

/// A stream: nothing is ever pending, so all it holds is the recording in progress.
#[derive(Default)]
pub(super) struct Queue {
    recording: Mutex<Option<Vec<Work>>>,
}

/// An event: when it was last recorded.
pub(super) type Stamp = Arc<Mutex<Option<Instant>>>;

/// Arguments of a launch, kept for the replays of a graph.
struct Bound<A>(A);

// SAFETY: kernel arguments are numbers and device addresses; the host never dereferences them, and the simulator takes
// launches from any thread.
unsafe impl<A> Send for Bound<A> {}
// SAFETY: likewise; they are only read.
unsafe impl<A> Sync for Bound<A> {}

/// Pointers to the arguments of the launch in progress, for the simulator's threads.
struct Params(*const *const c_void);

// SAFETY: the simulated threads read the arguments, which do not change and outlive the launch.
unsafe impl Sync for Params {}

impl Params {
    fn get(&self) -> *const *const c_void {
        self.0
    }
}

impl Simulator {
    pub(super) fn new(options: SimtOptions) -> Simulator {
        Simulator {
            options,
            capturing: AtomicUsize::new(0),
            last: Arc::default(),
        }
    }

    /// Whether accesses are checked.
    pub(super) fn checks(&self) -> bool {
        self.options.checks
    }

    /// Counts of the launch that ended last.
    pub(super) fn last_launch(&self) -> Option<LaunchStats> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses what CUDA refuses while a stream is being captured.
    pub(super) fn not_capturing(&self, what: &str) -> Result<()> {
        if self.capturing.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        Err(DeviceError::Capture(format!(
            "{what} inside a capture: only launches, stream copies, stream fills and event records can be captured"
        )))
    }

    /// Runs a kernel, or records it if the stream is being captured.
    pub(super) fn launch<A: KernelArgs + 'static>(
        &self,
        queue: &Queue,
        kernel: &Kernel<A>,
        dims: LaunchDims,
        args: A,
    ) -> Result<()> {
        let (options, meta, last, args) = (self.options, kernel.meta, self.last.clone(), Bound(args));
        queue.submit(Box::new(move || {
            // A whole-struct use, so that the closure holds a `Bound` and not its content.
            let bound: &Bound<A> = &args;
            let stats = bound.0.with_pointers(|params| run(options, &meta, dims, params))?;
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(stats);
            Ok(())
        }))
    }

    /// Records what `f` submits to the queue.
    pub(super) fn capture(&self, queue: &Queue, f: impl FnOnce() -> Result<()>) -> Result<Vec<Work>> {
        {
            let mut recording = queue.lock();
            if recording.is_some() {
                return Err(DeviceError::Capture(
                    "this stream is being captured already".to_string(),
                ));
            }
            *recording = Some(Vec::new());
        }
        // Ends the capture also when `f` panics.
        struct End<'a>(&'a Simulator, &'a Queue);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.capturing.fetch_sub(1, Ordering::Relaxed);
                *self.1.lock() = None;
            }
        }
        self.capturing.fetch_add(1, Ordering::Relaxed);
        let _end = End(self, queue);
        f()?;
        Ok(queue.lock().take().unwrap_or_default())
    }
}

impl Queue {
    /// Runs the work, or records it if the stream is being captured.
    pub(super) fn submit(&self, work: Work) -> Result<()> {
        if let Some(recorded) = self.lock().as_mut() {
            recorded.push(work);
            return Ok(());
        }
        work()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Work>>> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs one kernel to its end.
fn run(options: SimtOptions, meta: &KernelMeta, dims: LaunchDims, params: &[*mut c_void]) -> Result<LaunchStats> {
    tracing::trace!(
        kernel = meta.name,
        grid = dim(dims.grid),
        block = dim(dims.block),
        "simulated launch"
    );
    let entry = meta.entry;
    let params = Params(params.as_ptr().cast());
    let launch = simt::Launch {
        kernel: meta.name,
        grid: dims.grid,
        block: dims.block,
        cluster: dims.cluster,
        shared_bytes: dims.shared_bytes,
        checks: options.checks,
        schedule: options.seed.map_or(simt::Schedule::InOrder, simt::Schedule::Seeded),
        workers: options.workers,
        tensor: options.tensor,
    };
    // SAFETY: `entry` is the entry of the kernel these parameters were made for (`Kernel<A>` ties the two together), and
    // they live until `run` returns. What the kernel itself demands is the caller's promise (see `Device::launch`).
    Ok(launch.run(&|| unsafe { entry(params.get()) })?)
}
