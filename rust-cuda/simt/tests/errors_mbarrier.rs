//! One bad kernel for each mistake with barriers in shared memory, and that the error names the right kind, thread and source line.

mod common;

use common::{barriers, first_lane, one_block, tid, warp};
use simt::{ErrorKind, LaunchStats, SimError, ctx};

const SHARED: u32 = 4096;
const DATA: u32 = 1024;

#[track_caller]
fn bad(result: Result<LaunchStats, SimError>, kind: ErrorKind, marker: &str) -> SimError {
    common::assert_error(result, kind, file!(), include_str!("errors_mbarrier.rs"), marker)
}

fn run(threads: u32, body: &(dyn Fn() + Sync)) -> Result<LaunchStats, SimError> {
    one_block(threads, SHARED).run(body)
}

#[test]
fn misused_barriers() {
    let one = |body: fn(), kind: ErrorKind, marker: &str| bad(run(1, &body), kind, marker);
    let body = || {
        ctx::mbarrier_arrive(0, 0); // <- nobody made it
    };
    let e = one(body, ErrorKind::BadBarrier, "nobody made it");
    assert!(e.message.contains("no barrier was initialised there"), "{e}");
    let body = || {
        ctx::mbarrier_wait(8, 0); // <- nobody made this
    };
    one(body, ErrorKind::BadBarrier, "nobody made this");
    let body = || {
        ctx::mbarrier_init(0, 0); // <- of none
    };
    one(body, ErrorKind::BadArgument, "of none");
    let body = || {
        ctx::mbarrier_init(0, 1 << 20); // <- of too many
    };
    one(body, ErrorKind::BadArgument, "of too many");
    let body = || {
        ctx::mbarrier_init(4, 1); // <- aligned to four
    };
    one(body, ErrorKind::Misaligned, "aligned to four");
    let body = || {
        ctx::mbarrier_init(SHARED, 1); // <- past the end
    };
    one(body, ErrorKind::OutOfBounds, "past the end");
    let e = bad(
        run(1, &|| {
            ctx::mbarrier_init(0, 1);
            ctx::mbarrier_init(0, 2); // <- twice
        }),
        ErrorKind::BadBarrier,
        "twice",
    );
    assert!(e.message.contains("initialised at"), "{e}");
    let touches: [fn(); 3] = [
        || ctx::shared_store(4, 1u16),
        || assert_eq!(ctx::shared_load::<u8>(3), 0),
        || assert_eq!(ctx::shared_atomic_u32(0, |v| v), 0),
    ];
    for touch in touches {
        let body = || {
            ctx::mbarrier_init(0, 1);
            touch();
        };
        let e = run(1, &body).unwrap_err();
        assert_eq!(e.kind, ErrorKind::BadBarrier, "{e}");
        assert!(e.message.contains("a barrier lies there"), "{e}");
    }
    bad(
        run(1, &|| {
            ctx::mbarrier_init(0, 1);
            ctx::mbarrier_inval(0);
            ctx::shared_load::<u32>(0); // <- nothing left
        }),
        ErrorKind::Uninitialized,
        "nothing left",
    );
    bad(
        run(1, &|| {
            ctx::mbarrier_init(0, 1);
            ctx::mbarrier_wait(0, 2); // <- third parity
        }),
        ErrorKind::BadArgument,
        "third parity",
    );
    let e = bad(
        run(2, &|| {
            barriers(&[1]);
            // The last one to come to a barrier goes on first.
            if tid() == 1 {
                ctx::mbarrier_wait(0, 0);
            } else {
                ctx::mbarrier_inval(0); // <- while one waits
            }
        }),
        ErrorKind::BadBarrier,
        "while one waits",
    );
    assert!(e.message.contains("while 1 threads wait"), "{e}");
    let e = bad(
        run(32, &|| {
            if tid() == 0 {
                ctx::mbarrier_init(0, 32);
            }
            ctx::warp_exchange("shuffle", u32::MAX, (), |_| ());
            ctx::mbarrier_arrive(0, 0); // <- no order
        }),
        ErrorKind::SharedRace,
        "no order",
    );
    assert!(
        e.message.contains("thread (0, 0, 0) initialised the barrier at 0x0"),
        "{e}"
    );
}

#[test]
fn phases_that_go_wrong() {
    let e = bad(
        run(3, &|| {
            barriers(&[2]);
            ctx::mbarrier_expect(0, 16);
            ctx::mbarrier_arrive(0, 0); // <- one too many
        }),
        ErrorKind::BadBarrier,
        "one too many",
    );
    assert!(e.message.contains("48 of 48 bytes are missing"), "{e}");
    let e = bad(
        run(64, &|| {
            barriers(&[40]);
            if tid() < 32 {
                ctx::mbarrier_arrive(0, 0);
                ctx::mbarrier_wait(0, 0); // <- eight short
            } else {
                ctx::barrier_sync(1, 64);
            }
        }),
        ErrorKind::Deadlock,
        "eight short",
    );
    for words in [
        "phase 0 (parity 0) of the barrier at 0x0",
        "for 40 arrivals",
        "8 arrivals and 0 of 0 bytes are missing",
        "waits in barrier_sync(1, 64)",
    ] {
        assert!(e.message.contains(words), "{words}: {e}");
    }
    let e = bad(
        run(1, &|| {
            barriers(&[1]);
            ctx::mbarrier_arrive(0, 16);
            ctx::mbarrier_wait(0, 0); // <- no bytes come
        }),
        ErrorKind::WrongByteCount,
        "no bytes come",
    );
    assert!(e.message.contains("0 arrivals and 16 of 16 bytes are missing"), "{e}");
    bad(
        run(1, &|| {
            barriers(&[2]);
            ctx::mbarrier_expect(0, (1 << 20) - 1);
            ctx::mbarrier_expect(0, 1); // <- a megabyte
        }),
        ErrorKind::BadArgument,
        "a megabyte",
    );
    // The barrier goes on twice before the waiting thread looks.
    let e = bad(
        run(2, &|| {
            barriers(&[1]);
            if tid() == 1 {
                ctx::mbarrier_wait(0, 0); // <- too late
            } else {
                ctx::mbarrier_arrive(0, 0);
                ctx::mbarrier_arrive(0, 0);
            }
        }),
        ErrorKind::Deadlock,
        "too late",
    );
    assert!(e.message.contains("phase 1 was over before this thread saw it"), "{e}");
}

#[test]
fn a_wait_is_for_the_one_who_waits() {
    // The other lanes of the warp have not waited, and a shuffle tells them nothing.
    let e = bad(
        run(64, &|| {
            barriers(&[1]);
            if tid() == 32 {
                ctx::shared_store(DATA, 1u32);
                ctx::mbarrier_arrive(0, 0);
            }
            if warp() == 0 {
                if first_lane() {
                    ctx::mbarrier_wait(0, 0);
                }
                ctx::warp_exchange("shuffle", u32::MAX, (), |_| ());
                if tid() == 9 {
                    ctx::shared_load::<u32>(DATA); // <- has not waited
                }
            }
        }),
        ErrorKind::SharedRace,
        "has not waited",
    );
    assert!(e.message.contains("thread (32, 0, 0) wrote it"), "{e}");
    // An arrival tells of the lane that arrives.
    bad(
        run(64, &|| {
            barriers(&[1]);
            if warp() == 1 {
                ctx::shared_store(DATA + 4 * ctx::lane_id(), 1u32);
                ctx::warp_exchange("shuffle", u32::MAX, (), |_| ());
                if first_lane() {
                    ctx::mbarrier_arrive(0, 0);
                }
            } else {
                ctx::mbarrier_wait(0, 0);
                ctx::shared_load::<u32>(DATA + 4 * (31 - tid())); // <- of other lanes
            }
        }),
        ErrorKind::SharedRace,
        "of other lanes",
    );
    // Nor of what comes after it.
    bad(
        run(64, &|| {
            barriers(&[32]);
            if warp() == 1 {
                ctx::mbarrier_arrive(0, 0);
                ctx::shared_store(DATA + 4 * ctx::lane_id(), 1u32);
            } else {
                ctx::mbarrier_wait(0, 0);
                ctx::shared_store(DATA + 4 * tid(), 2u32); // <- comes after
            }
        }),
        ErrorKind::SharedRace,
        "comes after",
    );
}
