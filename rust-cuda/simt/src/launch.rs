//! A launch: its configuration, and its blocks spread over the cores.

use crate::cluster::MAX_CLUSTER;
use crate::current::{CURRENT, install_hook};
use crate::dims::Dim3;
use crate::error::{ErrorKind, SimError};
use crate::exec::Worker;
use crate::know::WARPS;
use crate::shared::MAX_SHARED;
use crate::stats::LaunchStats;
use crate::tensor::TensorCore;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// In which order the threads of a block take turns. They change turns only where they wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// Ascending warps and lanes: the same on every run.
    #[default]
    InOrder,
    /// Warps and lanes at random from this seed, and turns changed at random at collectives, barriers and atomics: the
    /// same on every run with the same seed.
    Seeded(u64),
}

impl Schedule {
    pub(crate) fn seed(self) -> Option<u64> {
        match self {
            Schedule::InOrder => None,
            Schedule::Seeded(s) => Some(s),
        }
    }
}

/// One kernel launch on the simulator.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The kernel's name, for error messages.
    pub kernel: &'a str,
    /// Blocks.
    pub grid: Dim3,
    /// Threads of a block: 1 to 1024.
    pub block: Dim3,
    /// Blocks of a cluster, neighbours in x that run at the same time: 1 (no clusters) to 8, a divisor of `grid.x`. A cluster has at
    /// most 64 warps.
    pub cluster: u32,
    /// Bytes of dynamic shared memory: at most [`MAX_SHARED`], together with the static ones.
    pub shared_bytes: u32,
    /// Whether every access is checked. Without checks a bad access is undefined, as on a GPU.
    pub checks: bool,
    /// The order of the threads of a block.
    pub schedule: Schedule,
    /// OS threads to run blocks on; 0 for one a core.
    pub workers: usize,
    /// Whose tensor cores `mma` computes as.
    pub tensor: TensorCore,
}

/// Two mappings a stack, and Linux allows a process 65530 of them.
const MAX_STACKS: u64 = 24_000;
/// Threads that are worth starting another OS thread for.
const THREADS_A_WORKER: u64 = 256;

/// The blocks (or clusters) yet to be run, and the lowest failure so far.
pub(crate) struct Queue {
    blocks: u64,
    next: AtomicU64,
    failed: AtomicU64,
    error: Mutex<Option<(u64, SimError)>>,
}

impl Queue {
    /// The next block. After a failure only blocks below it would still matter, and those were all handed out before.
    pub(crate) fn next(&self) -> Option<u64> {
        let block = self.next.fetch_add(1, Ordering::Relaxed);
        (block < self.blocks && block < self.failed.load(Ordering::Relaxed)).then_some(block)
    }

    pub(crate) fn fail(&self, block: u64, error: SimError) {
        self.failed.fetch_min(block, Ordering::Relaxed);
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if first.as_ref().is_none_or(|(b, _)| block < *b) {
            *first = Some((block, error));
        }
    }
}

impl Launch<'_> {
    /// Runs `body`, the kernel with its arguments bound, once for each thread of the grid.
    ///
    /// Blocks run on several OS threads, in any order; a kernel may not rely on two of them running at the same time.
    ///
    /// # Errors
    /// The first error of the lowest failing block. Whatever the failed launch wrote to memory stays there.
    #[track_caller]
    pub fn run(&self, body: &(dyn Fn() + Sync)) -> Result<LaunchStats, SimError> {
        let caller = Location::caller();
        self.validate().map_err(|m| self.refusal(caller, m))?;
        install_hook();
        let blocks = self.grid.count();
        let clusters = blocks / u64::from(self.cluster);
        let queue = Queue {
            blocks: clusters,
            next: AtomicU64::new(0),
            failed: AtomicU64::new(u64::MAX),
            error: Mutex::new(None),
        };
        let total = Mutex::new(LaunchStats::default());
        let no_worker = Mutex::new(None);
        let work = || match Worker::take(self.cluster as usize) {
            Ok(mut worker) => {
                let stats = worker.run(self, body, &queue);
                worker.give_back();
                total.lock().unwrap_or_else(PoisonError::into_inner).add(&stats);
            }
            Err(e) => *no_worker.lock().unwrap_or_else(PoisonError::into_inner) = Some(e),
        };
        std::thread::scope(|scope| {
            for _ in 1..self.worker_count(clusters) {
                // Without another OS thread the launch is slower, not wrong.
                let _ = std::thread::Builder::new()
                    .name("simt".to_owned())
                    .spawn_scoped(scope, work);
            }
            work();
        });
        if let Some((_, error)) = queue.error.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
        if total.blocks != blocks {
            let e = no_worker.into_inner().unwrap_or_else(PoisonError::into_inner);
            let why = e.map_or_else(|| "a worker stopped".to_owned(), |e| e.to_string());
            let m = format!(
                "{} of {blocks} blocks were run: no address space for a worker ({why})",
                total.blocks
            );
            return Err(self.refusal(caller, m));
        }
        Ok(total)
    }

    fn refusal(&self, caller: &Location<'_>, message: String) -> SimError {
        let zero = Dim3 { x: 0, y: 0, z: 0 };
        SimError {
            kernel: self.kernel.to_owned(),
            block: zero,
            thread: zero,
            location: caller.to_string(),
            kind: ErrorKind::LaunchConfig,
            message,
        }
    }

    fn validate(&self) -> Result<(), String> {
        let (g, b) = (self.grid, self.block);
        if CURRENT.with(|c| !c.block.get().is_null()) {
            return Err("a kernel cannot launch another".to_owned());
        }
        if g.count() == 0 || g.x > i32::MAX as u32 || g.y > 65535 || g.z > 65535 {
            return Err(format!(
                "grid {g}: each size must be at least 1, x at most 2147483647, y and z at most 65535"
            ));
        }
        if b.count() == 0 || b.count() > 1024 || b.z > 64 {
            return Err(format!(
                "block {b} of {} threads: it must have 1 to 1024, z at most 64",
                b.count()
            ));
        }
        let c = self.cluster;
        if c == 0 || c > MAX_CLUSTER || !g.x.is_multiple_of(c) {
            return Err(format!(
                "clusters of {c} blocks in a grid {g}: 1 to {MAX_CLUSTER} are possible, and x must be a multiple of it"
            ));
        }
        let warps = b.count().div_ceil(32) * u64::from(c);
        if c > 1 && warps > WARPS as u64 {
            return Err(format!(
                "clusters of {c} blocks of {} threads: the simulator takes at most {WARPS} warps a cluster, not {warps}",
                b.count()
            ));
        }
        if self.shared_bytes > MAX_SHARED {
            return Err(format!(
                "{} bytes of shared memory: at most {MAX_SHARED} are possible",
                self.shared_bytes
            ));
        }
        Ok(())
    }

    fn worker_count(&self, blocks: u64) -> u64 {
        static CORES: OnceLock<usize> = OnceLock::new();
        let wanted = match self.workers {
            0 => *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, |n| n.get())),
            n => n,
        };
        let threads = self.block.count() * u64::from(self.cluster);
        let worth = (blocks.saturating_mul(threads)).div_ceil(THREADS_A_WORKER);
        (wanted as u64).min(blocks).min(MAX_STACKS / threads).min(worth).max(1)
    }
}
