//! Barriers in shared memory: pipelines that are right, in every schedule.

mod common;

use common::{Mem, barriers, first_lane, one_block, tid, warp};
use simt::{ErrorKind, Launch, LaunchStats, Schedule, SimError, ctx};

const SHARED: u32 = 4096;

/// Everywhere on one block.
#[track_caller]
fn everywhere(threads: u32, body: &(dyn Fn() + Sync)) {
    common::everywhere(one_block(threads, SHARED), body);
}

#[track_caller]
fn bad(result: Result<LaunchStats, SimError>, kind: ErrorKind, marker: &str) -> SimError {
    common::assert_error(result, kind, file!(), include_str!("mbarrier.rs"), marker)
}

fn run(threads: u32, body: &(dyn Fn() + Sync)) -> Result<LaunchStats, SimError> {
    one_block(threads, SHARED).run(body)
}

const DATA: u32 = 1024;

/// Two warps fill stages by plain stores, half a stage each; two others read them.
#[test]
fn producers_and_consumers_of_stages() {
    for stages in [1, 2, 3, 8] {
        everywhere(128, &|| {
            // Full: each of 64 producers arrives. Empty: one of each consuming warp.
            barriers(
                &(0..2 * stages)
                    .map(|i| if i < stages { 64 } else { 2 })
                    .collect::<Vec<_>>(),
            );
            let (mut s, mut phase) = (0, 0);
            for k in 0..19 {
                let (full, empty) = (8 * s, 8 * (stages + s));
                let stage = DATA + 256 * s;
                if warp() < 2 {
                    ctx::mbarrier_wait(empty, phase ^ 1);
                    ctx::shared_store(stage + 4 * tid(), 100 * k + tid());
                    ctx::mbarrier_arrive(full, 0);
                } else {
                    ctx::mbarrier_wait(full, phase);
                    let from = 63 - (tid() - 64);
                    assert_eq!(ctx::shared_load::<u32>(stage + 4 * from), 100 * k + from);
                    ctx::sync_warp(u32::MAX);
                    if first_lane() {
                        ctx::mbarrier_arrive(empty, 0);
                    }
                }
                s += 1;
                if s == stages {
                    (s, phase) = (0, phase ^ 1);
                }
            }
        });
    }
}

/// A chain of warps, each with a barrier to the next: what one knows goes on to the last.
#[test]
fn knowledge_goes_on() {
    everywhere(160, &|| {
        barriers(&[1; 5]);
        for round in 0..4u32 {
            let w = warp();
            if w > 0 {
                // One lane waits and tells the others.
                if first_lane() {
                    ctx::mbarrier_wait(8 * (w - 1), round & 1);
                }
                ctx::sync_warp(u32::MAX);
            } else if round > 0 {
                ctx::mbarrier_wait(8 * 4, (round - 1) & 1);
            }
            let sum: u32 = (0..w)
                .map(|v| ctx::shared_load::<u32>(DATA + 128 * v + 4 * ctx::lane_id()))
                .sum();
            assert_eq!(sum, w * round);
            ctx::shared_store(DATA + 128 * w + 4 * (31 - ctx::lane_id()), round);
            ctx::sync_warp(u32::MAX);
            if first_lane() {
                ctx::mbarrier_arrive(8 * w, 0);
            }
        }
    });
    // Through a named barrier, part of a warp, and a barrier of the block.
    everywhere(96, &|| {
        barriers(&[32]);
        if warp() == 0 {
            ctx::shared_store(DATA + 4 * tid(), tid());
            ctx::mbarrier_arrive(0, 0);
        }
        if warp() == 1 {
            if ctx::lane_id() == 3 {
                ctx::mbarrier_wait(0, 0);
            }
            if ctx::lane_id() < 8 {
                ctx::sync_warp(0xFF);
                assert_eq!(ctx::shared_load::<u32>(DATA + 4 * 20), 20);
            }
            ctx::barrier_arrive(2, 64);
        }
        if warp() == 2 {
            ctx::barrier_sync(2, 64);
            assert_eq!(ctx::shared_load::<u32>(DATA + 4 * ctx::lane_id()), ctx::lane_id());
        }
        ctx::sync_threads();
        ctx::shared_store(DATA + 4 * (tid() % 32) + 256 * (tid() / 32), 0u32);
    });
}

#[test]
fn testing_instead_of_waiting() {
    everywhere(64, &|| {
        barriers(&[32]);
        if warp() == 0 {
            while !ctx::mbarrier_test(0, 0) {}
            assert_eq!(ctx::shared_load::<u32>(DATA + 4 * tid()), 7);
            // The phase before the first, and the one that is not over.
            assert!(!ctx::mbarrier_test(0, 1));
        } else {
            assert!(ctx::mbarrier_test(0, 1) || ctx::mbarrier_test(0, 0));
            ctx::shared_store(DATA + 4 * ctx::lane_id(), 7u32);
            ctx::mbarrier_arrive(0, 0);
        }
    });
    let e = bad(
        run(1, &|| {
            barriers(&[1]);
            while !ctx::mbarrier_test(0, 0) {} // <- tests for ever
        }),
        ErrorKind::Deadlock,
        "tests for ever",
    );
    assert!(e.message.contains("spins"), "{e}");
}

#[test]
fn ended_barriers_leave_memory() {
    everywhere(64, &|| {
        for count in [32, 64] {
            barriers(&[count]);
            if tid() < count {
                ctx::mbarrier_arrive(0, 0);
            }
            ctx::mbarrier_wait(0, 0);
            ctx::sync_threads();
            if tid() == 5 {
                ctx::mbarrier_inval(0);
                ctx::shared_store(0, 1u64);
            }
            ctx::sync_threads();
            assert_eq!(ctx::shared_load::<u64>(0), 1);
            ctx::sync_threads();
        }
    });
}

/// `cp.async` copies that arrive for their threads.
#[test]
fn arriving_with_copies() {
    let source: Vec<u32> = (0..64 * 9).collect();
    let m = Mem::of(&source, "source");
    let ring = |wait: bool| {
        let at = m.at(0) as usize;
        move || {
            barriers(&[32, 32, 32, 32]);
            for k in 0..9u32 {
                let (s, phase) = (k % 2, (k / 2) & 1);
                let to = DATA + 128 * s;
                if warp() == 0 {
                    ctx::mbarrier_wait(16 + 8 * s, phase ^ 1);
                    let from = (at as *const u32).wrapping_add((64 * k + tid()) as usize);
                    // SAFETY: inside the allocation.
                    unsafe { ctx::copy_async(to + 4 * tid(), from.cast(), 4, 4) };
                    ctx::mbarrier_arrive_on_copies(8 * s);
                } else {
                    if wait {
                        ctx::mbarrier_wait(8 * s, phase);
                    }
                    let l = 31 - ctx::lane_id();
                    assert_eq!(ctx::shared_load::<u32>(to + 4 * l), 64 * k + l); // <- copies not waited
                    ctx::mbarrier_arrive(16 + 8 * s, 0);
                }
            }
            if warp() == 0 {
                ctx::copy_async_wait(0);
            }
        }
    };
    everywhere(64, &ring(true));
    for seed in 0..20 {
        let schedule = Schedule::Seeded(seed);
        let e = Launch {
            schedule,
            ..one_block(64, SHARED)
        }
        .run(&ring(false))
        .unwrap_err();
        assert!(
            matches!(e.kind, ErrorKind::AsyncNotWaited | ErrorKind::Uninitialized),
            "{e}"
        );
    }
}
