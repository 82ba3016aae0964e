//! One bad kernel for each error of synchronisation, and that the error names the right kind, thread and source line.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "a bad access is an error of the launch: that is what is tested"
)]

mod common;

use common::{Mem, one_block};
use simt::{ErrorKind, Launch, LaunchStats, SimError, ctx};

#[track_caller]
fn bad(result: Result<LaunchStats, SimError>, kind: ErrorKind, marker: &str) -> SimError {
    common::assert_error(result, kind, file!(), include_str!("errors_sync.rs"), marker)
}

fn tid() -> usize {
    ctx::thread_idx().x as usize
}

#[test]
fn races_name_both_threads_and_lines() {
    // In order, warp 0 runs first and reads what nobody wrote; at random, some orders have the race itself.
    let body = || {
        ctx::shared_store(tid() as u32 * 4, 1u32);
        ctx::warp_exchange("shuffle", u32::MAX, (), |_| ());
        ctx::shared_load::<u32>((tid() as u32 ^ 32) * 4);
    };
    let seeded = |s| {
        Launch {
            schedule: simt::Schedule::Seeded(s),
            ..one_block(64, 256)
        }
        .run(&body)
        .unwrap_err()
        .kind
    };
    let kinds: Vec<_> = (0..40).map(seeded).collect();
    assert!(kinds.contains(&ErrorKind::SharedRace), "{kinds:?}");
    assert!(
        kinds
            .iter()
            .all(|k| matches!(k, ErrorKind::SharedRace | ErrorKind::Uninitialized)),
        "{kinds:?}"
    );

    let body = || {
        if tid() == 0 {
            ctx::shared_store(0, 1u32);
        }
        ctx::sync_threads();
        ctx::shared_load::<u32>(0);
        if tid() == 40 {
            ctx::shared_store(0, 2u32); // <- write after read
        }
    };
    let e = bad(one_block(64, 64).run(&body), ErrorKind::SharedRace, "write after read");
    assert!(
        e.message.contains(") read it at") && e.message.contains("errors_sync.rs:"),
        "{e}"
    );
    assert_eq!(e.thread.x, 40);

    let body = || ctx::shared_store(0, 1u32); // <- write and write
    let e = bad(one_block(2, 64).run(&body), ErrorKind::SharedRace, "write and write");
    assert!(e.message.contains("thread (0, 0, 0) wrote it"), "{e}");

    // Lanes of one warp race too: a shuffle does not order memory, only `sync_warp` does.
    let body = || {
        ctx::shared_store(tid() as u32 * 4, 1u32);
        ctx::warp_exchange("shuffle", u32::MAX, 0u32, |_| ());
        ctx::shared_load::<u32>((tid() as u32 ^ 1) * 4); // <- warp race
    };
    bad(one_block(32, 128).run(&body), ErrorKind::SharedRace, "warp race");

    // A sync_warp of half the warp orders nothing for the other half.
    let body = || {
        let half = if tid() < 16 { 0xFFFF } else { 0xFFFF_0000 };
        ctx::shared_store(tid() as u32 * 4, 1u32);
        ctx::sync_warp(half);
        ctx::shared_load::<u32>((tid() as u32 ^ 1) * 4);
        if tid() >= 16 {
            ctx::shared_load::<u32>((tid() as u32 ^ 16) * 4); // <- other half
        }
    };
    bad(one_block(32, 128).run(&body), ErrorKind::SharedRace, "other half");

    let body = || {
        if tid() == 0 {
            ctx::shared_store(0, 1u32);
        }
        ctx::sync_threads();
        ctx::shared_atomic_u32(0, |v| v + 1);
        if tid() == 1 {
            ctx::shared_load::<u32>(0); // <- load beside atomics
        }
    };
    let e = bad(
        one_block(32, 64).run(&body),
        ErrorKind::SharedRace,
        "load beside atomics",
    );
    assert!(e.message.contains("updated atomically"), "{e}");
}

#[test]
fn partial_barriers() {
    let body = || {
        if tid() < 16 {
            ctx::sync_threads(); // <- half the block
        }
    };
    let e = bad(one_block(32, 0).run(&body), ErrorKind::PartialBarrier, "half the block");
    assert!(e.message.contains("thread (16, 0, 0) ended"), "{e}");
    let body = || {
        if tid() >= 16 {
            ctx::sync_threads(); // <- other half of the block
        }
    };
    let e = bad(
        one_block(32, 0).run(&body),
        ErrorKind::PartialBarrier,
        "other half of the block",
    );
    assert!(e.message.contains("thread (0, 0, 0) has ended"), "{e}");
    let body = || {
        if tid() < 16 {
            ctx::sync_threads();
        } else {
            ctx::sync_threads(); // <- another line
        }
    };
    bad(one_block(32, 0).run(&body), ErrorKind::PartialBarrier, "another line");
    let body = || {
        if tid() < 32 {
            ctx::sync_threads(); // <- one at 0
        } else {
            ctx::barrier_sync(3, 64);
        }
    };
    let e = bad(one_block(64, 0).run(&body), ErrorKind::PartialBarrier, "one at 0");
    assert!(e.message.contains("barrier_sync(3, 64)"), "{e}");
    let body = || {
        let n = if tid() < 32 { 64 } else { 96 };
        ctx::barrier_sync(3, n); // <- different counts
    };
    bad(
        one_block(96, 0).run(&body),
        ErrorKind::PartialBarrier,
        "different counts",
    );
    let body = || {
        if tid() < 64 {
            ctx::barrier_sync(1, 96); // <- one warp short
        }
    };
    bad(one_block(96, 0).run(&body), ErrorKind::PartialBarrier, "one warp short");
    let body = || {
        if tid() % 32 < 16 {
            ctx::barrier_arrive(1, 64);
        } else {
            ctx::barrier_sync(1, 64); // <- lanes differ
        }
    };
    bad(one_block(64, 0).run(&body), ErrorKind::PartialBarrier, "lanes differ");
}

#[test]
fn partial_warps() {
    let all = u32::MAX;
    let body = || {
        if tid() != 7 {
            ctx::warp_exchange("shuffle", all, 0u32, |l| l.get(0)); // <- lane 7 ends
        }
    };
    let e = bad(one_block(32, 0).run(&body), ErrorKind::PartialWarp, "lane 7 ends");
    assert!(e.message.contains("lane 7"), "{e}");
    let body = || {
        if tid() != 31 {
            ctx::warp_exchange("shuffle", all, 0u32, |_| ());
        } else {
            ctx::warp_exchange("vote", all, 0u32, |_| ()); // <- another op
        }
    };
    let e = bad(one_block(32, 0).run(&body), ErrorKind::PartialWarp, "another op");
    assert!(e.message.contains("vote") && e.message.contains("shuffle"), "{e}");
    let body = || {
        if tid() == 5 {
            ctx::sync_threads();
        } else {
            ctx::sync_warp(all); // <- lane at a barrier
        }
    };
    let e = bad(one_block(32, 0).run(&body), ErrorKind::PartialWarp, "lane at a barrier");
    assert!(e.message.contains("thread (5, 0, 0) waits in sync_threads"), "{e}");
    let body = || ctx::warp_exchange("vote", 0xFFFE, 0u32, |_| ()); // <- not in its mask
    bad(one_block(32, 0).run(&body), ErrorKind::PartialWarp, "not in its mask");
    let body = || {
        ctx::warp_exchange("shuffle", 0xFF, tid(), |l| l.get(8)); // <- absent lane
    };
    bad(one_block(8, 0).run(&body), ErrorKind::PartialWarp, "absent lane");
}

#[test]
fn asynchronous_copies() {
    let m = Mem::of(&[9u8; 64], "source");
    let body = || unsafe {
        ctx::copy_async(0, m.at(0), 16, 16);
        ctx::copy_async_commit();
        ctx::shared_load::<u32>(4); // <- not waited
    };
    bad(one_block(1, 64).run(&body), ErrorKind::AsyncNotWaited, "not waited");
    let body = || unsafe {
        ctx::copy_async(0, m.at(0), 16, 16);
        ctx::copy_async_wait(0);
        ctx::shared_store(8, 0u8); // <- not committed
    };
    bad(one_block(1, 64).run(&body), ErrorKind::AsyncNotWaited, "not committed");
    let body = || unsafe {
        if tid() == 0 {
            ctx::copy_async(0, m.at(0), 16, 16);
            ctx::copy_async_commit();
            ctx::copy_async_wait(0);
        }
        ctx::shared_load::<u32>(0); // <- no barrier
    };
    bad(one_block(2, 64).run(&body), ErrorKind::SharedRace, "no barrier");
    let body = || unsafe {
        ctx::copy_async(0, m.at(4), 8, 8); // <- bad source
    };
    bad(one_block(1, 64).run(&body), ErrorKind::Misaligned, "bad source");
    let body = || unsafe {
        ctx::copy_async(0, m.at(64), 16, 16); // <- past the source
    };
    bad(one_block(1, 64).run(&body), ErrorKind::OutOfBounds, "past the source");
    let body = || unsafe {
        ctx::copy_async(0, m.at(0), 5, 5); // <- five bytes
    };
    bad(one_block(1, 64).run(&body), ErrorKind::BadArgument, "five bytes");
}
