//! The simulator survives what kernels do to it: failures, panics, destructors, many launches at once.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "a bad access is an error of the launch: that is what is tested"
)]

mod common;

use common::{Mem, blocks, one_block};
use simt::{ErrorKind, Launch, LaunchStats, Schedule, SimError, ctx};
use std::sync::atomic::{AtomicUsize, Ordering};

#[track_caller]
fn bad(result: Result<LaunchStats, SimError>, kind: ErrorKind, marker: &str) -> SimError {
    common::assert_error(result, kind, file!(), include_str!("robust.rs"), marker)
}

fn tid() -> u32 {
    ctx::thread_idx().x
}

/// Counts its own drops, and misbehaves in them as device code might.
struct Guard<'a>(&'a AtomicUsize);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        ctx::sync_threads();
        ctx::barrier_sync(1, 32);
        ctx::sync_warp(u32::MAX);
        let own = ctx::warp_exchange("drop", u32::MAX, 5u32, |l| l.get(17));
        ctx::shared_store(1 << 20, own);
        assert_eq!(ctx::shared_load::<u32>(1 << 20), 0);
        // SAFETY: checks are on in the launches that use this; both accesses are refused.
        unsafe {
            ctx::store(std::ptr::dangling_mut::<u32>(), 1);
            assert_eq!(ctx::load(std::ptr::null::<u64>()), 0);
            assert_eq!(ctx::atomic_u32(std::ptr::dangling_mut(), |v| v + 1), 0);
        }
    }
}

#[test]
fn a_failed_launch_unwinds_every_thread_and_the_next_one_runs() {
    let drops = AtomicUsize::new(0);
    let body = || {
        let _guard = Guard(&drops);
        if tid() == 70 {
            panic!("in the middle"); // <- middle
        }
        ctx::sync_threads();
    };
    bad(one_block(96, 0).run(&body), ErrorKind::Panic, "middle");
    // Threads 0 to 69 waited in the barrier, 70 failed, the others had not started.
    assert_eq!(drops.load(Ordering::Relaxed), 71);

    let count = AtomicUsize::new(0);
    let good = || {
        ctx::sync_threads();
        count.fetch_add(1, Ordering::Relaxed);
    };
    one_block(1024, 0).run(&good).unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 1024);
}

#[test]
fn a_kernel_that_catches_its_own_failure_has_failed_all_the_same() {
    let body = || {
        let caught = std::panic::catch_unwind(|| panic!("inner")); // <- inner
        assert!(caught.is_err());
        ctx::sync_threads();
    };
    bad(one_block(64, 0).run(&body), ErrorKind::Panic, "inner");
    let body = || std::panic::resume_unwind(Box::new(17));
    let e = one_block(1, 0).run(&body).unwrap_err();
    assert_eq!((e.kind, e.location.as_str()), (ErrorKind::Panic, "(unknown)"));
}

#[test]
fn the_lowest_failing_block_is_reported() {
    for round in 0..30 {
        let body = || {
            let b = ctx::block_idx().x;
            ctx::sync_threads();
            assert!(b < 13 || tid() != b % 32, "block {b}");
        };
        let schedule = if round % 2 == 0 {
            Schedule::InOrder
        } else {
            Schedule::Seeded(round)
        };
        let e = Launch {
            workers: 4,
            tensor: Default::default(),
            schedule,
            ..blocks(64, 64, 0)
        }
        .run(&body)
        .unwrap_err();
        assert_eq!((e.block.x, e.thread.x, e.message.as_str()), (13, 13, "block 13"));
    }
}

#[test]
fn the_same_seed_fails_in_the_same_way() {
    let body = || {
        ctx::shared_store(tid() * 4, 1u32);
        ctx::warp_exchange("shuffle", u32::MAX, (), |_| ());
        ctx::shared_load::<u32>((tid() ^ 32) * 4);
    };
    for seed in 0..20 {
        let run = || {
            Launch {
                schedule: Schedule::Seeded(seed),
                ..blocks(4, 64, 256)
            }
            .run(&body)
            .unwrap_err()
        };
        assert_eq!(run(), run());
    }
}

#[test]
fn spinning_for_ever_is_a_deadlock() {
    let body = || {
        if tid() == 0 {
            ctx::shared_store(0, 0u32);
        }
        ctx::sync_threads();
        if tid() == 3 {
            while ctx::shared_atomic_u32(0, |v| v) == 0 {} // <- nobody sets it
        }
    };
    bad(one_block(32, 16).run(&body), ErrorKind::Deadlock, "nobody sets it");
}

#[test]
fn barrier_that_orders_only_its_arrivers() {
    // Warp 2 reads what warp 0 wrote, but takes part in another barrier than warp 0 did.
    let body = || match ctx::warp_id() {
        0 => {
            ctx::shared_store(ctx::lane_id() * 4, 1u32);
            ctx::barrier_arrive(1, 64);
        }
        1 => {
            ctx::barrier_sync(1, 64);
            ctx::shared_load::<u32>(ctx::lane_id() * 4);
            ctx::barrier_arrive(2, 64);
        }
        2 => {
            // In order, warp 2 comes here last; it learns of warp 0 through warp 1, which has synced with it.
            ctx::barrier_sync(2, 64);
            ctx::shared_load::<u32>(ctx::lane_id() * 4);
            // An arriver learns nothing: warp 1 does not know what warp 2 did.
            ctx::shared_store(256 + ctx::lane_id() * 4, 2u32);
            ctx::barrier_arrive(3, 64);
        }
        _ => {
            ctx::barrier_arrive(3, 64);
            ctx::shared_load::<u32>(256 + ctx::lane_id() * 4); // <- arrived only
        }
    };
    // Warp 3 reads after warp 2 wrote only because warps run in order.
    bad(one_block(128, 1024).run(&body), ErrorKind::SharedRace, "arrived only");
    // A second write by the arriver, after it arrived, is not ordered either.
    let body = || {
        if ctx::warp_id() == 0 {
            ctx::barrier_arrive(1, 64);
            ctx::shared_store(ctx::lane_id() * 4, 1u32);
        } else {
            ctx::barrier_sync(1, 64);
            ctx::shared_load::<u32>(ctx::lane_id() * 4); // <- written after arriving
        }
    };
    bad(
        one_block(64, 1024).run(&body),
        ErrorKind::SharedRace,
        "written after arriving",
    );
}

#[test]
fn lanes_that_ended_do_not_hold_up_named_barriers() {
    let body = || {
        if ctx::lane_id() >= 20 && ctx::warp_id() == 0 {
            return;
        }
        ctx::barrier_sync(5, 64);
        if ctx::warp_id() == 0 && ctx::lane_id() > 3 {
            return;
        }
        ctx::barrier_sync(5, 64);
    };
    for seed in 0..20 {
        Launch {
            schedule: Schedule::Seeded(seed),
            ..one_block(64, 0)
        }
        .run(&body)
        .unwrap();
    }
    one_block(64, 0).run(&body).unwrap();
}

#[test]
fn many_launches_at_once() {
    std::thread::scope(|scope| {
        for job in 0..8u32 {
            scope.spawn(move || {
                for round in 0..30u32 {
                    let out = Mem::<u32>::raw(256, "out");
                    let body = || unsafe {
                        ctx::shared_store(tid() * 4, tid() + job);
                        ctx::sync_threads();
                        let v: u32 = ctx::shared_load((63 - tid()) * 4);
                        let v = ctx::warp_exchange("shuffle", u32::MAX, v, |l| l.get(ctx::lane_id() ^ 1));
                        assert!(round % 7 != 3 || ctx::block_idx().x != 2, "round {round}");
                        ctx::store(out.at((ctx::block_idx().x * 64 + tid()) as usize), v + round);
                    };
                    match blocks(4, 64, 256).run(&body) {
                        Ok(stats) => {
                            assert_eq!((stats.blocks, stats.barriers, stats.exchanges), (4, 4, 8));
                            let want = |i: u32| (63 - ((i % 64) ^ 1)) + job + round;
                            assert!(out.get().iter().enumerate().all(|(i, &v)| v == want(i as u32)));
                        }
                        Err(e) => assert!(round % 7 == 3 && e.message == format!("round {round}"), "{e}"),
                    }
                }
            });
        }
    });
}

#[test]
fn destructors_and_values_of_threads_that_finish_are_dropped_once() {
    let drops = AtomicUsize::new(0);
    struct Count<'a>(&'a AtomicUsize);
    impl Drop for Count<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let body = || {
        let _c = Count(&drops);
        let heap = vec![tid(); 100];
        ctx::sync_threads();
        assert_eq!(heap[99], tid());
    };
    Launch {
        schedule: Schedule::Seeded(1),
        ..blocks(9, 100, 0)
    }
    .run(&body)
    .unwrap();
    assert_eq!(drops.load(Ordering::Relaxed), 900);
}
