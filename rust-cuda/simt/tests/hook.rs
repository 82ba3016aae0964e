//! The panic hook, which is the process's: alone in its test binary.

mod common;

use common::one_block;
use simt::{ErrorKind, LaunchStats, SimError, ctx};
use std::sync::atomic::{AtomicUsize, Ordering};

#[track_caller]
fn bad(result: Result<LaunchStats, SimError>, kind: ErrorKind, marker: &str) -> SimError {
    common::assert_error(result, kind, file!(), include_str!("hook.rs"), marker)
}

#[test]
fn panics_outside_kernels_still_reach_the_usual_hook() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    one_block(1, 0).run(&|| ()).unwrap();
    let ours = std::panic::take_hook();
    // The simulator's hook was taken away; a kernel's panic is reported nevertheless.
    std::panic::set_hook(Box::new(move |info| {
        SEEN.fetch_add(1, Ordering::Relaxed);
        ours(info);
    }));
    bad(one_block(1, 0).run(&|| panic!("wrapped")), ErrorKind::Panic, "wrapped"); // <- wrapped
    assert!(std::panic::catch_unwind(|| ctx::sync_threads()).is_err());
    assert!(SEEN.load(Ordering::Relaxed) >= 2);
}
