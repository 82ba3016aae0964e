//! Device memory from the host's side: sizes, copies, freed addresses, refusals.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "a bad access is an error of the launch: that is what is tested"
)]

mod common;

use common::{Mem, one_block};
use simt::{ctx, memory};

#[test]
fn fresh_memory_is_filled_and_aligned() {
    for n in [0, 1, 255, 4096, 100_001] {
        let m = Mem::<u8>::raw(n, "fresh");
        assert_eq!(m.0 as usize % 256, 0);
        assert!(m.bytes().iter().all(|&b| b == memory::FRESH_BYTE));
    }
    let (a, b) = (Mem::<u8>::raw(64, "a"), Mem::<u8>::raw(64, "b"));
    assert!((a.0 as usize).abs_diff(b.0 as usize) >= memory::RED_ZONE);
}

#[test]
fn copies_carry_the_unwritten_state_along() {
    let (a, b) = (Mem::<u8>::raw(64, "a"), Mem::of(&[1u8; 64], "b"));
    // SAFETY: inside the allocations, no launch running.
    unsafe {
        memory::write(a.at(3), &[7; 10]);
        memory::copy(b.at(16), a.at(0), 32);
        assert_eq!(memory::first_unwritten(b.at(0), 64), Some(16));
        assert_eq!(memory::first_unwritten(b.at(19), 10), None);
        assert_eq!(memory::first_unwritten(b.at(19), 11), Some(10));
        memory::fill(b.at(0), 9, 64);
        assert_eq!(memory::first_unwritten(b.at(0), 64), None);
    }
    assert_eq!(b.bytes(), [9; 64]);
}

#[test]
fn too_large_a_request_names_the_numbers() {
    let e = memory::alloc(usize::MAX / 4, "giant").unwrap_err().to_string();
    assert!(
        e.contains("`giant`") && e.contains(&(usize::MAX / 4).to_string()),
        "{e}"
    );
    let e = memory::alloc(usize::MAX, "giant").unwrap_err().to_string();
    assert!(e.contains("do not fit"), "{e}");
    // The next one is served all the same.
    Mem::<u8>::raw(16, "small");
}

#[test]
fn freed_memory_is_given_back_and_forgotten_names_do_not_pile_up() {
    let (one, two) = (Mem::<u8>::raw(8, "one"), Mem::<u8>::raw(8, "two"));
    // SAFETY: not used afterwards; what is no allocation, and a second free, are ignored.
    unsafe {
        memory::free(one.at(1));
        memory::free(std::ptr::null_mut());
        memory::free(two.0);
        memory::free(two.0);
    }
    for _ in 0..6000 {
        Mem::<u8>::raw(1 << 12, "again");
    }
    one_block(1, 0).run(&|| unsafe { ctx::store(one.at(7), 1) }).unwrap();
}
