//! One bad kernel for each error, and that the error names the right kind, thread and source line.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "a bad access is an error of the launch: that is what is tested"
)]

mod common;

use common::{Mem, blocks, one_block};
use simt::{Dim3, ErrorKind, Launch, LaunchStats, SimError, ctx, memory};

#[track_caller]
fn bad(result: Result<LaunchStats, SimError>, kind: ErrorKind, marker: &str) -> SimError {
    common::assert_error(result, kind, file!(), include_str!("errors.rs"), marker)
}

fn tid() -> usize {
    ctx::thread_idx().x as usize
}

#[test]
fn out_of_bounds_names_the_allocation() {
    let m = Mem::of(&[1u32; 100], "weights");
    let body = || unsafe {
        ctx::load(m.at(tid())); // <- past the end
    };
    let e = bad(blocks(3, 128, 0).run(&body), ErrorKind::OutOfBounds, "past the end");
    assert_eq!(
        (e.block, e.thread),
        (Dim3 { x: 0, y: 0, z: 0 }, Dim3 { x: 100, y: 0, z: 0 })
    );
    assert!(e.message.contains("offset 400 of `weights` (400 bytes)"), "{e}");

    let body = || unsafe {
        ctx::store(m.at(0).wrapping_sub(2), 1); // <- before the start
    };
    let e = bad(one_block(1, 0).run(&body), ErrorKind::OutOfBounds, "before the start");
    assert!(e.message.contains("8 bytes before the start of `weights`"), "{e}");

    let body = || unsafe {
        ctx::load(&5u32 as *const u32); // <- host memory
    };
    let e = bad(one_block(1, 0).run(&body), ErrorKind::OutOfBounds, "host memory");
    assert!(e.message.contains("no device memory"), "{e}");

    // A wide access that begins inside and ends outside.
    let body = || unsafe {
        ctx::load(m.at(96).cast::<[u32; 8]>()); // <- half outside
    };
    bad(one_block(1, 0).run(&body), ErrorKind::OutOfBounds, "half outside");
}

#[test]
fn use_after_free_and_unwritten_memory() {
    let m = Mem::of(&[1u32; 8], "gone");
    let p = m.0 as usize;
    drop(m);
    let body = || unsafe {
        ctx::load(p as *const u32); // <- freed
    };
    let e = bad(one_block(1, 0).run(&body), ErrorKind::UseAfterFree, "freed");
    assert!(e.message.contains("`gone`"), "{e}");

    let m = Mem::<u8>::raw(64, "fresh");
    // SAFETY: inside the allocation.
    unsafe { memory::fill(m.at(0), 0, 37) };
    let body = || unsafe {
        ctx::load(m.at(32).cast::<u128>()); // <- unwritten
    };
    let e = bad(one_block(1, 0).run(&body), ErrorKind::Uninitialized, "unwritten");
    assert!(e.message.contains("byte 5 was never written"), "{e}");
    // SAFETY: inside the allocation, no launch running.
    unsafe {
        assert_eq!(memory::first_unwritten(m.at(0), 64), Some(37));
        one_block(32, 0).run(&|| ctx::store(m.at(32 + tid()), 7)).unwrap();
        assert_eq!(memory::first_unwritten(m.at(0), 64), None);
        assert_eq!(
            one_block(1, 0)
                .run(&|| assert_eq!(ctx::load(m.at(32).cast::<[u8; 16]>()), [7; 16]))
                .err(),
            None
        );
        memory::mark_unwritten(m.at(63), 1);
        assert_eq!(memory::first_unwritten(m.at(0), 64), Some(63));
    }
    assert_eq!(m.bytes()[63], 7);
}

#[test]
fn misaligned() {
    let m = Mem::of(&[1u8; 64], "bytes");
    let body = || unsafe {
        ctx::load(m.at(2).cast::<u32>()); // <- odd address
    };
    bad(one_block(1, 0).run(&body), ErrorKind::Misaligned, "odd address");
    let body = || {
        ctx::shared_store(6, 1u32); // <- odd shared
    };
    bad(one_block(1, 64).run(&body), ErrorKind::Misaligned, "odd shared");
}

#[test]
fn shared_bounds_and_initialisation() {
    let body = || {
        ctx::shared_store(ctx::thread_idx().x * 4, 1u32); // <- past shared
    };
    let e = bad(one_block(17, 64).run(&body), ErrorKind::OutOfBounds, "past shared");
    assert_eq!(e.thread.x, 16);
    let body = || {
        let a = ctx::static_shared(64, 16);
        ctx::shared_store(a + 64, 0u8); // <- past static
    };
    bad(one_block(1, 64).run(&body), ErrorKind::OutOfBounds, "past static");
    // What an earlier block wrote does not count.
    let body = || {
        if ctx::block_idx().x == 0 {
            ctx::shared_store(0, 1u32);
        }
        ctx::shared_load::<u32>(0); // <- unwritten shared
    };
    let e = bad(
        Launch {
            workers: 1,
            tensor: Default::default(),
            ..blocks(2, 1, 64)
        }
        .run(&body),
        ErrorKind::Uninitialized,
        "unwritten shared",
    );
    assert_eq!(e.block.x, 1);
    // One byte of a word that is written otherwise.
    let body = || {
        for i in [0, 1, 3] {
            ctx::shared_store(i, 1u8);
        }
        ctx::shared_load::<u32>(0); // <- one byte missing
    };
    let e = bad(
        one_block(1, 64).run(&body),
        ErrorKind::Uninitialized,
        "one byte missing",
    );
    assert!(e.message.contains("0x2"), "{e}");
}

#[test]
fn panics_deadlocks_and_failures() {
    let body = || {
        let v = [1, 2, 3];
        assert!(v[tid() % 3] < 3, "too large: {}", tid()); // <- panic
    };
    let e = bad(blocks(4, 64, 0).run(&body), ErrorKind::Panic, "panic");
    assert!(e.message.contains("too large: 2") && e.thread.x == 2, "{e}");
    let body = || {
        let id = if tid() < 32 { 1 } else { 2 };
        ctx::barrier_sync(id, 64); // <- each other
    };
    bad(one_block(64, 0).run(&body), ErrorKind::Deadlock, "each other");
    let body = || ctx::fail(ErrorKind::BadArgument, "no such thing".to_owned()); // <- fail
    bad(one_block(1, 0).run(&body), ErrorKind::BadArgument, "fail");
    let body = || ctx::barrier_sync(16, 32); // <- barrier 16
    bad(one_block(32, 0).run(&body), ErrorKind::BadArgument, "barrier 16");
}

#[test]
fn launches_that_no_gpu_accepts() {
    let refused = |l: Launch<'_>| {
        let e = l.run(&|| ()).unwrap_err();
        assert_eq!(e.kind, ErrorKind::LaunchConfig, "{e}");
        assert!(e.location.starts_with(file!()), "{e}");
    };
    refused(one_block(0, 0));
    refused(one_block(1025, 0));
    refused(blocks(0, 32, 0));
    refused(one_block(32, simt::MAX_SHARED + 1));
    refused(Launch {
        block: Dim3 { x: 1, y: 1, z: 65 },
        ..one_block(1, 0)
    });
    refused(Launch {
        grid: Dim3 { x: 1, y: 65536, z: 1 },
        ..one_block(1, 0)
    });
    let body = || {
        ctx::static_shared(1024, 4); // <- static too large
    };
    let e = one_block(1, simt::MAX_SHARED).run(&body);
    bad(e, ErrorKind::LaunchConfig, "static too large");
    let inner = || one_block(1, 0).run(&|| ()).map(|_| ()).unwrap_err();
    one_block(1, 0)
        .run(&|| assert_eq!(inner().kind, ErrorKind::LaunchConfig))
        .unwrap();
}
