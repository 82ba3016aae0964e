//! Stacks are counted for the process: alone in its test binary.

mod common;

use common::one_block;
use simt::{ErrorKind, Launch, ctx};

#[test]
fn launches_failed_or_not_return_their_stacks() {
    let body = || {
        if ctx::thread_idx().x == 70 {
            panic!("in the middle");
        }
        ctx::sync_threads();
    };
    let launch = Launch {
        workers: 1,
        tensor: Default::default(),
        ..one_block(96, 0)
    };
    for _ in 0..50 {
        assert_eq!(launch.run(&body).unwrap_err().kind, ErrorKind::Panic);
        // 70 threads wait on a stack each, and one more fails on its own.
        assert_eq!(simt::stacks_alive(), 71);
    }
    launch.run(&|| ctx::sync_threads()).unwrap();
    launch.run(&|| ctx::sync_threads()).unwrap();
    assert_eq!(simt::stacks_alive(), 96);
    // Threads that never wait share one.
    Launch {
        grid: 100.into(),
        ..launch
    }
    .run(&|| ())
    .unwrap();
    assert_eq!(simt::stacks_alive(), 96);
}
