//! Global and shared memory, atomics and asynchronous copies on the simulator.

mod common;

use common::{Buffer, SCHEDULES, run_body};
use core::sync::atomic::Ordering::{AcqRel, Relaxed};
use cuda_std::shared::{self, Shared};
use cuda_std::{F32x2, F32x4, U32x2, U32x4, atomic, bf16, f16, mem, thread, warp};
use simt::{ErrorKind, Schedule};

/// Moves values through every load, both stores and shared memory.
fn round_trip<T: mem::Word + Default + PartialEq + core::fmt::Debug + Sync>(values: [T; 6]) {
    let (x, y) = (Buffer::new(&values), Buffer::<T>::unwritten(6));
    let (px, py) = (x.ptr() as usize, y.ptr() as usize);
    run_body(1, 6, 6 * 16, Schedule::InOrder, || {
        let i = thread::index() as usize;
        // SAFETY: six values each.
        unsafe {
            let (p, q) = ((px as *const T).add(i), (py as *mut T).add(i));
            let v = match i {
                0 => mem::load(p),
                1 => mem::load_nc(p),
                2 => mem::load_no_allocate(p),
                _ => mem::load_stream(p),
            };
            let s = shared::dynamic::<T>().add(i as u32);
            s.store(v);
            if i.is_multiple_of(2) {
                mem::store(q, s.load())
            } else {
                mem::store_stream(q, s.load())
            }
        }
    })
    .unwrap();
    assert_eq!(y.read(), values);
}

#[test]
fn every_word() {
    round_trip([0u8, 1, 127, 128, 255, 9]);
    round_trip([0i8, 1, 127, -128, -1, 9]);
    round_trip([0u16, 1, 0x7fff, 0x8000, u16::MAX, 9]);
    round_trip([0i16, 1, i16::MAX, i16::MIN, -1, 9]);
    round_trip([0u32, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX, 9]);
    round_trip([0i32, 1, i32::MAX, i32::MIN, -1, 9]);
    round_trip([0u64, 1, u64::MAX >> 1, 1 << 63, u64::MAX, 9]);
    round_trip([0i64, 1, i64::MAX, i64::MIN, -1, 9]);
    round_trip([0.0f32, -0.0, 1e-45, f32::MAX, f32::INFINITY, 9.0]);
    round_trip([0.0f64, -0.0, 5e-324, f64::MAX, f64::INFINITY, 9.0]);
    round_trip([0u16, 1, 0x3c00, 0x7c00, 0x8000, 0xfbff].map(f16::from_bits));
    round_trip([0u16, 1, 0x3f80, 0x7f80, 0x8000, 0xff7f].map(bf16::from_bits));
    round_trip(core::array::from_fn(|i| U32x2([i as u32, !i as u32])));
    round_trip(core::array::from_fn(|i| U32x4([i as u32, 2, 3, !i as u32])));
    round_trip(core::array::from_fn(|i| F32x2([i as f32, -1.0])));
    round_trip(core::array::from_fn(|i| F32x4([i as f32, 2.0, -3.0, 0.5])));
}

#[test]
fn shared_addresses_count_elements() {
    let s = Shared::<U32x4>::at(32);
    assert_eq!(
        (
            s.add(3).addr(),
            s.cast::<u16>().add(3).addr(),
            s.cast::<u8>().add(3).addr()
        ),
        (80, 38, 35)
    );
}

const ROWS: usize = 8;

#[test]
fn static_arrays_are_apart_and_common_to_the_block() {
    let out = Buffer::<u32>::unwritten(2 * 64);
    let p = out.ptr() as usize;
    for schedule in SCHEDULES {
        run_body(2, 64, 4, schedule, || {
            let a = shared::shared_array![u32; ROWS * 8];
            let b = shared::shared_array![u8; 64];
            let i = thread::thread_idx_x();
            if i == 0 {
                shared::dynamic::<u32>().store(7);
            }
            a.add(i).store(i * i);
            b.add(i).store(i as u8);
            thread::sync_threads();
            let other = 63 - i;
            let v = a.add(other).load() + u32::from(b.add(other).load()) + shared::dynamic::<u32>().load();
            // SAFETY: one value a thread.
            unsafe { mem::store((p as *mut u32).add(thread::index() as usize), v) };
        })
        .unwrap();
        let want: Vec<u32> = (0..2).flat_map(|_| (0..64u32).rev().map(|i| i * i + i + 7)).collect();
        assert_eq!(out.read(), want, "{schedule:?}");
    }
}

#[test]
fn dynamic_bytes_are_the_launchs() {
    run_body(1, 1, 4096, Schedule::InOrder, || {
        assert_eq!(shared::dynamic_bytes(), 4096)
    })
    .unwrap();
}

/// What 4 x 64 threads leave behind with commutative updates, and that each old value was somebody's.
#[test]
fn global_atomics() {
    let cells = Buffer::new(&[0u32, u32::MAX, 0, u32::MAX, 0, 0, 0, 0]);
    let signed = Buffer::new(&[0i64, i64::MAX, i64::MIN]);
    let tickets = Buffer::<u32>::unwritten(256);
    let [p, s, t] = [cells.ptr() as usize, signed.ptr() as usize, tickets.ptr() as usize];
    run_body(4, 64, 0, Schedule::Seeded(5), || {
        let i = thread::index();
        let cell = |n| (p as *mut u32).wrapping_add(n);
        let wide = |n| (s as *mut i64).wrapping_add(n);
        // SAFETY: the cells are only touched atomically; one ticket a thread.
        unsafe {
            let ticket = atomic::fetch_add(cell(0), 1);
            mem::store((t as *mut u32).add(i as usize), ticket);
            atomic::fetch_min(cell(1), i + 3);
            atomic::fetch_max(cell(2), i);
            atomic::fetch_and(cell(3), !(1 << (i % 7)));
            atomic::fetch_or(cell(4), 1 << (i % 9));
            atomic::fetch_xor(cell(5), i);
            atomic::exchange(cell(6), i + 1);
            while atomic::compare_exchange(cell(7), i, i + 1) == u32::MAX {}
            atomic::fetch_add(wide(0), -i64::from(i));
            atomic::fetch_min(wide(1), i64::from(i) - 100);
            atomic::fetch_max(wide(2), i64::from(i) - 1000);
            assert!(atomic::load(wide(0)) <= 0);
        }
    })
    .unwrap();
    let c = cells.read();
    assert_eq!(c[..6], [256, 3, 255, u32::MAX << 7, 0x1ff, 0]);
    assert!((1..=256).contains(&c[6]) && (1..=256).contains(&c[7]), "{c:?}");
    assert_eq!(signed.read(), [-(255 * 256 / 2), -100, -745]);
    let mut tickets = tickets.read();
    tickets.sort_unstable();
    assert_eq!(tickets, (0..256).collect::<Vec<_>>());
}

#[test]
fn atomic_types_and_floats() {
    let cells = Buffer::new(&[0u32, 10, 0, 0]);
    let floats = Buffer::new(&[0.5f32, 1e-45, 0.0]);
    let (p, f) = (cells.ptr() as usize, floats.ptr() as usize);
    run_body(2, 32, 4, Schedule::InOrder, || {
        // SAFETY: the types are transparent, and the cells are only touched through them.
        let (a, b) = unsafe {
            (
                &*(p as *const atomic::AtomicU32),
                &*(p as *const atomic::AtomicI32).add(1),
            )
        };
        // SAFETY: as above.
        let x = unsafe { &*(f as *const atomic::AtomicF32) };
        a.fetch_add(2, AcqRel);
        b.fetch_add(-1, Relaxed);
        x.fetch_add(0.25, Relaxed);
        let s = shared::dynamic::<f32>();
        if thread::thread_idx_x() == 0 {
            s.store(1e-45);
        }
        thread::sync_threads();
        s.atomic_add_f32(1e-45);
        thread::sync_threads();
        if thread::index() == 0 {
            // SAFETY: only this thread touches these.
            unsafe {
                assert_eq!(atomic::fetch_add_f32((f as *mut f32).add(1), 0.0).to_bits(), 1);
                mem::store((f as *mut f32).add(2), s.load());
            }
        }
    })
    .unwrap();
    assert_eq!(cells.read()[..2], [128, 10u32.wrapping_sub(64)]);
    // Global addition flushes subnormals, shared addition keeps them.
    assert_eq!(
        floats.read().iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
        [16.5f32.to_bits(), 0, 33]
    );
}

#[test]
fn shared_atomics() {
    let out = Buffer::<u32>::unwritten(4);
    let p = out.ptr() as usize;
    for schedule in SCHEDULES {
        run_body(1, 96, 32, schedule, || {
            let i = thread::index();
            let s = shared::dynamic::<u32>();
            let w = s.cast::<u64>();
            if i < 4 {
                s.add(i).store(if i == 1 { u32::MAX } else { 0 });
            }
            if i == 0 {
                w.add(2).store(0);
            }
            thread::sync_threads();
            s.atomic_add(1);
            s.add(1).atomic_min(i + 4);
            s.add(2).atomic_or(1 << (i % 32));
            s.add(3).atomic_compare_exchange(0, 99);
            w.add(2).atomic_add(1 << 33);
            thread::sync_threads();
            if i < 4 {
                let extra = if i == 0 { (w.add(2).load() >> 33) as u32 } else { 0 };
                // SAFETY: four cells.
                unsafe { mem::store((p as *mut u32).add(i as usize), s.add(i).load() + extra) };
            }
        })
        .unwrap();
        assert_eq!(out.read(), [192, 4, u32::MAX, 99], "{schedule:?}");
    }
}

#[test]
fn asynchronous_copies_land_at_their_wait() {
    let x = Buffer::new(&(0..64u32).collect::<Vec<_>>());
    let y = Buffer::<u32>::unwritten(64);
    let (px, py) = (x.ptr() as usize, y.ptr() as usize);
    for schedule in SCHEDULES {
        run_body(1, 8, 256, schedule, || {
            let i = thread::index();
            let (dst, src) = (shared::dynamic::<u8>(), px as *const u8);
            let at = |offset: u32| (dst.add(offset), src.wrapping_add(offset as usize));
            // SAFETY: 256 bytes on both sides, aligned; read after the wait only.
            unsafe {
                let (d, s) = at(16 * i);
                shared::copy_async16(d, s);
                shared::copy_async_commit();
                let (d, s) = at(128 + 16 * i);
                if i < 4 {
                    shared::copy_async16_zfill(d, s, 4 * i);
                } else {
                    shared::copy_async8(d, s);
                    shared::copy_async4(d.add(8), s.add(8));
                    shared::copy_async4(d.add(12), s.add(12));
                }
                shared::copy_async_commit();
                shared::copy_async_wait::<1>();
                thread::sync_threads();
                let first = dst.cast::<U32x4>().add(i ^ 1).load();
                mem::store((py as *mut U32x4).add(i as usize ^ 1), first);
                shared::copy_async_wait::<0>();
                thread::sync_threads();
                mem::store(
                    (py as *mut U32x4).add(8 + i as usize),
                    dst.cast::<U32x4>().add(8 + i).load(),
                );
            }
        })
        .unwrap();
        let want: Vec<u32> = (0..64)
            .map(|w| {
                if (32..48).contains(&w) && w % 4 >= (w - 32) / 4 {
                    0
                } else {
                    w
                }
            })
            .collect();
        assert_eq!(y.read(), want, "{schedule:?}");
    }
}

/// A producer warp hands four tiles to a consumer warp through one buffer and two named barriers.
#[test]
fn named_barriers_hand_over() {
    let y = Buffer::<u32>::unwritten(4 * 32);
    let py = y.ptr() as usize;
    for schedule in SCHEDULES {
        run_body(1, 64, 128, schedule, || {
            let (lane, s) = (warp::lane_id(), shared::dynamic::<u32>());
            for tile in 0..4u32 {
                if thread::thread_idx_x() < 32 {
                    if tile > 0 {
                        thread::barrier_sync::<2>(64);
                    }
                    s.add(lane).store(100 * tile + lane);
                    thread::barrier_arrive::<1>(64);
                } else {
                    thread::barrier_sync_id(1, 64);
                    let v = s.add(31 - lane).load();
                    // SAFETY: one value a lane and tile.
                    unsafe { mem::store((py as *mut u32).add((32 * tile + lane) as usize), v) };
                    if tile < 3 {
                        thread::barrier_arrive_id(2, 64);
                    }
                }
            }
        })
        .unwrap();
        assert_eq!(
            y.read(),
            (0..128).map(|i| i / 32 * 100 + 31 - i % 32).collect::<Vec<u32>>(),
            "{schedule:?}"
        );
    }
}

/// The line of the kernel is named, not one of this crate.
#[test]
fn errors_name_the_kernels_line() {
    let x = Buffer::<u32>::unwritten(4);
    let p = x.ptr() as usize;
    let failing: [(&str, ErrorKind, &(dyn Fn() + Sync)); 5] = [
        ("load", ErrorKind::Uninitialized, &|| {
            // SAFETY: the simulator stops the access.
            let _ = unsafe { mem::load(p as *const u32) };
        }),
        // SAFETY: as above.
        ("store", ErrorKind::Misaligned, &|| unsafe {
            mem::store((p + 2) as *mut u32, 1)
        }),
        ("shared", ErrorKind::OutOfBounds, &|| {
            shared::dynamic::<u32>().add(1).store(1)
        }),
        ("atomic", ErrorKind::OutOfBounds, &|| {
            let _ = shared::dynamic::<u32>().add(1).atomic_add(1);
        }),
        ("shuffle", ErrorKind::PartialWarp, &|| {
            // SAFETY: the simulator stops the shuffle.
            let _ = unsafe { warp::warp_shuffle_idx(1, 0u32, 1, 32) };
        }),
    ];
    for (name, kind, body) in failing {
        let error = run_body(1, 1, 4, Schedule::InOrder, body).unwrap_err();
        assert_eq!(error.kind, kind, "{name}: {error}");
        assert!(error.location.contains("memory.rs"), "{name}: {error}");
    }
}
