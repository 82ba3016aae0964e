//! Copies that complete on barriers: rings of stages, and what goes wrong with them.

use crate::current::{here, raise_once};
use crate::flight::{Flight, Load};
use crate::{ErrorKind, Launch, Schedule, SimError, ctx};
use std::panic::Location;

/// A copy of `bytes` to `to`, completing on the barrier at `bar`.
#[track_caller]
fn copy(to: u32, bytes: Vec<u8>, bar: u32) {
    let (block, owner) = here();
    let flight = Flight {
        cta: 0,
        barrier: bar,
        owner,
        loc: Location::caller(),
        load: Load::Bytes { to, bytes, layout: 0 },
    };
    // SAFETY: the running block; the borrow ends with the call.
    if let Err(fault) = unsafe { (*block).set_off(flight) } {
        raise_once(Location::caller(), *fault);
    }
}

fn launch(threads: u32, schedule: Schedule, checks: bool) -> Launch<'static> {
    Launch {
        kernel: "ring",
        grid: 2.into(),
        block: threads.into(),
        cluster: 1,
        shared_bytes: 4096,
        checks,
        schedule,
        workers: 1,
        tensor: Default::default(),
    }
}

fn everywhere(threads: u32, body: &(dyn Fn() + Sync)) {
    for checks in [true, false] {
        launch(threads, Schedule::InOrder, checks).run(body).unwrap();
        for seed in 0..40 {
            let e = launch(threads, Schedule::Seeded(seed), checks).run(body);
            assert!(e.is_ok(), "seed {seed}: {}", e.unwrap_err());
        }
    }
}

/// The error of a bad kernel in order, and whether some seed gives another kind than `kind` or none.
#[track_caller]
fn fails(threads: u32, kind: ErrorKind, words: &str, body: &(dyn Fn() + Sync)) -> SimError {
    let e = launch(threads, Schedule::InOrder, true).run(body).unwrap_err();
    assert_eq!(e.kind, kind, "{e}");
    assert!(e.message.contains(words), "{e}");
    assert!(e.location.contains("flight_tests.rs"), "{e}");
    e
}

fn tid() -> u32 {
    ctx::thread_idx().x
}

const FULL: u32 = 0;
const EMPTY: u32 = 64;
const DATA: u32 = 1024;

fn setup(stages: u32, consumers: u32) {
    if tid() == 0 {
        for s in 0..stages {
            ctx::mbarrier_init(FULL + 8 * s, 1);
            ctx::mbarrier_init(EMPTY + 8 * s, consumers);
        }
        ctx::fence_mbarrier_init();
    }
    ctx::sync_threads();
}

/// Warp 0's first thread copies; the other warps add up what lands. `release` is called by each consumer's thread after its reads.
fn ring(stages: u32, rounds: u32, warps: u32, release: impl Fn(u32)) {
    setup(stages, warps);
    let (mut s, mut phase) = (0, 0);
    let mut sum = 0;
    for k in 0..rounds {
        if tid() < 32 {
            if tid() == 0 {
                ctx::mbarrier_wait(EMPTY + 8 * s, phase ^ 1);
                ctx::mbarrier_arrive(FULL + 8 * s, 64);
                copy(DATA + 64 * s, vec![k as u8; 32], FULL + 8 * s);
                copy(DATA + 64 * s + 32, vec![2 * k as u8; 32], FULL + 8 * s);
            }
        } else {
            ctx::mbarrier_wait(FULL + 8 * s, phase);
            let at = DATA + 64 * s + tid() % 32;
            assert_eq!(ctx::shared_load::<u8>(at), k as u8);
            assert_eq!(ctx::shared_load::<u8>(at + 32), 2 * k as u8);
            sum += k;
            release(EMPTY + 8 * s);
        }
        s += 1;
        if s == stages {
            (s, phase) = (0, phase ^ 1);
        }
    }
    assert!(tid() < 32 || sum == rounds * (rounds - 1) / 2);
}

fn first_after_warp(addr: u32) {
    ctx::sync_warp(u32::MAX);
    if tid().is_multiple_of(32) {
        ctx::mbarrier_arrive(addr, 0);
    }
}

#[test]
fn rings_of_stages() {
    for (stages, warps) in [(1, 1), (2, 3), (4, 2), (7, 1)] {
        everywhere(32 + 32 * warps, &|| ring(stages, 23, warps, first_after_warp));
    }
    // Every consumer thread arrives by itself.
    everywhere(96, &|| {
        setup(3, 64);
        let mut at = (0, 0);
        for k in 0..10 {
            let (s, phase) = at;
            if tid() == 0 {
                ctx::mbarrier_wait(EMPTY + 8 * s, phase ^ 1);
                ctx::mbarrier_arrive(FULL + 8 * s, 16);
                copy(DATA + 64 * s, vec![k; 16], FULL + 8 * s);
            }
            if tid() >= 32 {
                ctx::mbarrier_wait(FULL + 8 * s, phase);
                assert_eq!(ctx::shared_load::<u8>(DATA + 64 * s), k);
                ctx::mbarrier_arrive(EMPTY + 8 * s, 0);
            }
            at = if s == 2 { (0, phase ^ 1) } else { (s + 1, phase) };
        }
    });
}

#[test]
fn readers_have_to_be_done_before_the_stage_is_free() {
    // The first lane arrives for all, without meeting the others first: it says nothing of their reads.
    let e = fails(96, ErrorKind::SharedRace, "read it at", &|| {
        ring(2, 9, 2, |addr| {
            if tid().is_multiple_of(32) {
                ctx::mbarrier_arrive(addr, 0);
            }
        });
    });
    assert!(e.message.contains("asynchronous copy"), "{e}");
}

#[test]
fn who_has_not_waited_may_not_read() {
    let one_waits = |meet: bool| {
        move || {
            setup(1, 1);
            if tid() == 0 {
                ctx::mbarrier_arrive(FULL, 16);
                copy(DATA, vec![1; 16], FULL);
            }
            if tid() == 32 {
                ctx::mbarrier_wait(FULL, 0);
            }
            if tid() >= 32 {
                match meet {
                    true => ctx::sync_warp(u32::MAX),
                    // A shuffle orders no memory.
                    false => ctx::warp_exchange("shuffle", u32::MAX, (), |_| ()),
                }
            }
            if tid() == 33 {
                ctx::shared_load::<u8>(DATA);
            }
        }
    };
    let e = fails(
        64,
        ErrorKind::AsyncNotWaited,
        "has not waited for the copy's barrier",
        &one_waits(false),
    );
    assert_eq!(e.thread.x, 33);
    everywhere(64, &one_waits(true));
    let e = fails(64, ErrorKind::AsyncNotWaited, "pending", &|| {
        setup(1, 1);
        if tid() == 0 {
            ctx::mbarrier_arrive(FULL, 16);
            copy(DATA, vec![1; 16], FULL);
            ctx::shared_load::<u8>(DATA);
        }
        ctx::mbarrier_wait(FULL, 0);
    });
    assert_eq!(e.thread.x, 0);
    // Through a barrier of the block everyone hears of it.
    everywhere(64, &|| {
        setup(1, 1);
        if tid() == 0 {
            ctx::mbarrier_arrive(FULL, 16);
            copy(DATA, vec![1; 16], FULL);
            ctx::mbarrier_wait(FULL, 0);
        }
        if tid() < 32 {
            ctx::barrier_arrive(1, 64);
        } else {
            ctx::barrier_sync(1, 64);
            ctx::shared_load::<u8>(DATA);
        }
        ctx::sync_threads();
        ctx::shared_load::<u8>(DATA);
    });
    // The wait for one stage says nothing of another.
    fails(
        64,
        ErrorKind::AsyncNotWaited,
        "has not waited for the copy's barrier",
        &|| {
            setup(2, 1);
            if tid() == 0 {
                for s in 0..2 {
                    ctx::mbarrier_arrive(FULL + 8 * s, 16);
                    copy(DATA + 64 * s, vec![1; 16], FULL + 8 * s);
                }
                ctx::mbarrier_wait(FULL, 0);
                ctx::mbarrier_wait(FULL + 8, 0);
            }
            if tid() == 32 {
                ctx::mbarrier_wait(FULL + 8, 0);
                ctx::shared_load::<u8>(DATA);
            }
        },
    );
}

#[test]
fn byte_counts() {
    let told = |expect: u32| {
        move || {
            setup(1, 1);
            if tid() == 0 {
                ctx::mbarrier_arrive(FULL, expect);
                copy(DATA, vec![1; 32], FULL);
                ctx::mbarrier_wait(FULL, 0);
            }
        }
    };
    fails(1, ErrorKind::WrongByteCount, "16 of 48 bytes are missing", &told(48));
    fails(
        1,
        ErrorKind::WrongByteCount,
        "brought 32 bytes, but only 16 were announced",
        &told(16),
    );
    launch(1, Schedule::InOrder, true).run(&told(32)).unwrap();
    // Bytes may come before they are announced, while an arrival is missing.
    everywhere(64, &|| {
        setup(1, 1);
        if tid() == 0 {
            copy(DATA, vec![1; 32], FULL);
            assert!(!ctx::mbarrier_test(FULL, 0));
            ctx::mbarrier_arrive(FULL, 32);
        }
        ctx::mbarrier_wait(FULL, 0);
    });
    fails(1, ErrorKind::AsyncNotWaited, "the block ended", &|| {
        setup(1, 1);
        if tid() == 0 {
            ctx::mbarrier_arrive(FULL, 16);
            copy(DATA, vec![1; 16], FULL);
        }
    });
    fails(32, ErrorKind::BadBarrier, "fence_mbarrier_init", &|| {
        if tid() == 0 {
            ctx::mbarrier_init(FULL, 1);
            copy(DATA, vec![1; 16], FULL);
        }
    });
}
