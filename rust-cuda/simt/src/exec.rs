//! Runs blocks: threads as coroutines, one OS thread for a whole block.
//!
//! A coroutine takes a thread that has not started, and when that thread ends takes the next one without giving control
//! back. So a kernel whose threads never wait runs as a plain loop on one stack, and only threads that wait occupy a
//! coroutine each.

use crate::block::{Block, NO_FIBER, Yielded};
use crate::cluster::Cta;
use crate::current::{Abort, CURRENT};
use crate::error::{ErrorKind, Fault};
use crate::launch::{Launch, Queue};
use crate::stack::LaneStack;
use crate::stats::LaunchStats;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

type Fiber = Coroutine<(), Yielded, (), LaneStack>;

/// What a worker needs to run blocks, kept for the next launch.
pub(crate) struct Worker {
    block: Box<Block>,
    stacks: Vec<LaneStack>,
}

// SAFETY: between launches no coroutine exists, and the raw pointers in the lanes are stale and never followed.
unsafe impl Send for Worker {}

static POOL: Mutex<Vec<Worker>> = Mutex::new(Vec::new());

impl Worker {
    /// A worker from the pool, or a new one, that can run clusters of `blocks` blocks.
    pub(crate) fn take(blocks: usize) -> io::Result<Worker> {
        let pooled = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut worker = pooled.unwrap_or_else(|| Worker {
            block: Box::new(Block::new()),
            stacks: Vec::new(),
        });
        while worker.block.ctas.len() < blocks {
            match Cta::new() {
                Ok(cta) => worker.block.ctas.push(cta),
                Err(e) => {
                    worker.give_back();
                    return Err(e);
                }
            }
        }
        Ok(worker)
    }

    /// Back into the pool.
    pub(crate) fn give_back(self) {
        POOL.lock().unwrap_or_else(PoisonError::into_inner).push(self);
    }

    /// Runs blocks from the queue until it is empty or one fails.
    pub(crate) fn run(&mut self, launch: &Launch<'_>, body: &(dyn Fn() + Sync), queue: &Queue) -> LaunchStats {
        self.block.begin_launch(launch);
        let block: *mut Block = &mut *self.block;
        // SAFETY: the lifetime is only dropped from the type: no thread of the kernel outlives this call.
        let body: *const (dyn Fn() + Sync + 'static) = unsafe { std::mem::transmute(std::ptr::from_ref(body)) };
        let job = Job {
            block,
            body,
            start: Cell::new(None),
            picked: Cell::new(None),
        };
        let mut crew = Crew {
            job: &job,
            fibers: Vec::new(),
            free: Vec::new(),
            stacks: &mut self.stacks,
        };
        let _reset = enter(block, launch.checks);
        while let Some(index) = queue.next() {
            // SAFETY: no thread is running between blocks, so nothing else refers to the block.
            unsafe { (*block).begin(index, launch.schedule.seed()) };
            crew.run_block();
            // SAFETY: as above.
            let error = unsafe {
                (*block).end();
                (*block).error.take()
            };
            if let Some(error) = error {
                queue.fail(index, error);
            }
        }
        crew.dismiss();
        // SAFETY: as above.
        unsafe { (*block).stats }
    }
}

/// Says which block this OS thread runs, until the guard is dropped.
fn enter(block: *mut Block, checks: bool) -> impl Drop {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            CURRENT.with(|c| {
                c.block.set(std::ptr::null_mut());
                c.checks.set(false);
            });
        }
    }
    CURRENT.with(|c| {
        c.block.set(block);
        c.checks.set(checks);
        // SAFETY: the caller's block is alive and nothing refers to it yet.
        c.shared.set(unsafe { (&(*block).ctas)[0].shared.base() });
        c.first.set(0);
    });
    Reset
}

/// What the coroutines share with their scheduler.
struct Job {
    block: *mut Block,
    body: *const (dyn Fn() + Sync + 'static),
    /// The thread that the coroutine being resumed shall start; `None` tells it to finish.
    start: Cell<Option<usize>>,
    /// A choice of the next thread that a coroutine made and could not carry out itself.
    picked: Cell<Option<Option<usize>>>,
}

struct Crew<'a> {
    job: &'a Job,
    fibers: Vec<Fiber>,
    free: Vec<u32>,
    stacks: &'a mut Vec<LaneStack>,
}

impl Crew<'_> {
    fn run_block(&mut self) {
        let block = self.job.block;
        self.job.picked.set(None);
        loop {
            // SAFETY: while the scheduler runs no thread does, so these borrows are the only ones.
            let (next, fiber) = unsafe {
                let picked = self.job.picked.take().unwrap_or_else(|| (*block).pick());
                let Some(t) = picked else { break };
                (t, (*block).lane(t).fiber)
            };
            if fiber == NO_FIBER {
                match self.fresh_fiber() {
                    Ok(f) => {
                        self.job.start.set(Some(next));
                        self.resume(f);
                    }
                    Err(e) => {
                        let message = format!("no stack for this thread: {e}");
                        // SAFETY: as above.
                        unsafe {
                            (*block).record(
                                next,
                                "launch",
                                Fault {
                                    kind: ErrorKind::LaunchConfig,
                                    message,
                                },
                            )
                        };
                    }
                }
            } else {
                switch_to(block, next);
                self.resume(fiber);
            }
        }
        // SAFETY: as above.
        unsafe {
            if !(*block).aborting && (*block).exited < (*block).threads {
                (*block).explain_stuck();
            }
        }
        self.unwind_all();
    }

    /// After an error: lets every thread that was started run its destructors and end.
    fn unwind_all(&mut self) {
        let block = self.job.block;
        // SAFETY: no thread runs while these fields are read.
        let (aborting, lanes) = unsafe { ((*block).aborting, (*block).warps * 32) };
        for t in (0..lanes).filter(|_| aborting) {
            // SAFETY: as above.
            let fiber = unsafe { (*block).lane(t).fiber };
            if fiber != NO_FIBER {
                switch_to(block, t);
                self.resume(fiber);
            }
        }
    }

    #[inline]
    fn resume(&mut self, fiber: u32) {
        match self.fibers[fiber as usize].resume(()) {
            CoroutineResult::Yield(Yielded::Blocked) => {}
            CoroutineResult::Yield(Yielded::Idle) => self.free.push(fiber),
            CoroutineResult::Return(()) => {}
        }
    }

    fn fresh_fiber(&mut self) -> io::Result<u32> {
        if let Some(f) = self.free.pop() {
            return Ok(f);
        }
        let stack = match self.stacks.pop() {
            Some(stack) => stack,
            None => LaneStack::new()?,
        };
        let index = self.fibers.len() as u32;
        let job: *const Job = self.job;
        // SAFETY: `dismiss` ends every coroutine before the job goes away.
        self.fibers
            .push(Coroutine::with_stack(stack, move |yielder, ()| unsafe {
                fiber_main(yielder, job, index)
            }));
        Ok(index)
    }

    /// Ends the coroutines, which are all idle, and keeps their stacks.
    fn dismiss(self) {
        self.job.start.set(None);
        for mut fiber in self.fibers {
            fiber.resume(());
            if fiber.done() {
                self.stacks.push(fiber.into_stack());
            }
        }
    }
}

/// A coroutine's life: threads, one after the other.
///
/// # Safety
/// `job` and its block must outlive the coroutine.
unsafe fn fiber_main(yielder: &Yielder<(), Yielded>, job: *const Job, index: u32) {
    // SAFETY: the caller vouches for `job`; its fields are cells.
    let job = unsafe { &*job };
    while let Some(first) = job.start.take() {
        let mut next = Some(first);
        while let Some(t) = next {
            // SAFETY: this coroutine runs, so nothing else touches the block.
            unsafe {
                let lane = (*job.block).lane(t);
                (lane.fiber, lane.yielder) = (index, yielder);
            }
            switch_to(job.block, t);
            // SAFETY: the launch keeps the body alive until all coroutines have ended.
            let ended = catch_unwind(AssertUnwindSafe(|| unsafe { (*job.body)() }));
            // SAFETY: as above.
            next = unsafe { ended_thread(&mut *job.block, t, ended, job) };
        }
        yielder.suspend(Yielded::Idle);
    }
}

/// Books the end of thread `t`; returns a thread that has not started, if the scheduler's next choice is one.
fn ended_thread(block: &mut Block, t: usize, ended: std::thread::Result<()>, job: &Job) -> Option<usize> {
    block.lanes[t].fiber = NO_FIBER;
    if let Err(payload) = ended
        && !payload.is::<Abort>()
        && block.error.is_none()
    {
        // The hook has recorded the panic already, unless another hook replaced it or there was none to call.
        let message = "the thread unwound with a payload of its own".to_owned();
        block.record(
            t,
            "(unknown)",
            Fault {
                kind: ErrorKind::Panic,
                message,
            },
        );
    }
    block.exit(t);
    if block.aborting {
        return None;
    }
    let picked = block.pick();
    match picked {
        Some(n) if block.lanes[n].fiber == NO_FIBER => Some(n),
        other => {
            job.picked.set(Some(other));
            None
        }
    }
}

/// Makes thread `t` the running one.
#[inline]
fn switch_to(block: *mut Block, t: usize) {
    // SAFETY: the block of this worker; the borrow of the lane ends here.
    unsafe {
        (*block).cur = t;
        let idx = (*block).lane(t).idx;
        CURRENT.with(|c| {
            c.thread.set(t);
            c.idx.set(idx);
            if (*block).blocks > 1 {
                let rank = (*block).cta_of(t);
                let cta = &(&(*block).ctas)[rank];
                c.shared.set(cta.shared.base());
                c.first.set((*block).lanes_of(rank).start);
                (*block).idx = cta.idx;
            }
        });
    }
}
