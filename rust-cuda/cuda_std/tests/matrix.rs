//! `ldmatrix` and `stmatrix` against plain loads and stores, and the mistakes the simulator finds in them.

mod common;

use common::{Buffer, Random, SCHEDULES, run_body};
use cuda_std::shared::{self, Shared};
use cuda_std::{mem, thread, warp};
use simt::{ErrorKind, Schedule, SimError};

/// 64 rows of 16 bytes, of which a matrix takes any eight.
const ROWS: usize = 64;

/// Loads matrices whose row j of matrix i is row `order[8i + j]` of shared memory. Returns `[lane][register]`.
fn load<const N: usize>(
    elements: &[u16],
    order: &[u32; 32],
    schedule: Schedule,
    load: impl Fn(Shared<u8>) -> [u32; N] + Sync,
) -> Vec<u32> {
    let (x, at, y) = (
        Buffer::new(elements),
        Buffer::new(order),
        Buffer::<u32>::unwritten(32 * N),
    );
    let [px, pat, py] = [x.ptr() as usize, at.ptr() as usize, y.ptr() as usize];
    run_body(1, 32, (ROWS * 16) as u32, schedule, || {
        let lane = warp::lane_id();
        // SAFETY: the buffers have ROWS * 8, 32 and 32 * N elements.
        unsafe {
            for i in (lane..(ROWS * 8) as u32).step_by(32) {
                shared::dynamic::<u16>()
                    .add(i)
                    .store(mem::load((px as *const u16).add(i as usize)));
            }
            warp::sync();
            let row = mem::load((pat as *const u32).add(lane as usize));
            let registers = load(shared::dynamic::<u8>().add(row * 16));
            for (i, register) in registers.into_iter().enumerate() {
                mem::store((py as *mut u32).add(lane as usize * N + i), register);
            }
        }
    })
    .unwrap();
    y.read()
}

/// Every form on random elements, rows in random order: by the definition, one element after the other.
#[test]
fn every_form_gives_the_elements_of_plain_matrices() {
    let mut random = Random(1);
    let elements: Vec<u16> = (0..ROWS * 8).map(|_| random.next() as u16).collect();
    let order: [u32; 32] = core::array::from_fn(|_| random.u32() % ROWS as u32);
    let element = |i: usize, row: usize, column: usize| u32::from(elements[order[8 * i + row] as usize * 8 + column]);
    let want = |n: usize, transposed: bool| -> Vec<u32> {
        let pair = |lane: usize, i: usize| {
            let (g, t) = (lane / 4, lane % 4);
            if transposed {
                element(i, 2 * t, g) | element(i, 2 * t + 1, g) << 16
            } else {
                element(i, g, 2 * t) | element(i, g, 2 * t + 1) << 16
            }
        };
        (0..32).flat_map(|lane| (0..n).map(move |i| pair(lane, i))).collect()
    };
    for schedule in SCHEDULES {
        assert_eq!(load(&elements, &order, schedule, shared::ldmatrix_x1), want(1, false));
        assert_eq!(load(&elements, &order, schedule, shared::ldmatrix_x2), want(2, false));
        assert_eq!(load(&elements, &order, schedule, shared::ldmatrix_x4), want(4, false));
        assert_eq!(
            load(&elements, &order, schedule, shared::ldmatrix_x1_trans),
            want(1, true)
        );
        assert_eq!(
            load(&elements, &order, schedule, shared::ldmatrix_x2_trans),
            want(2, true)
        );
        assert_eq!(
            load(&elements, &order, schedule, shared::ldmatrix_x4_trans),
            want(4, true)
        );
    }
}

/// What 32 lanes get that write `written` rows, wait or not, and load from `row(lane)`.
fn outcome(threads: u32, written: u32, wait: bool, row: impl Fn(u32) -> u32 + Sync) -> Result<(), SimError> {
    run_body(1, threads, 1024, Schedule::InOrder, || {
        let lane = thread::thread_idx_x();
        if lane < written {
            shared::dynamic::<u8>().add(lane * 16).cast::<u64>().store(1);
            shared::dynamic::<u8>().add(lane * 16 + 8).cast::<u64>().store(2);
        }
        if wait {
            thread::sync_threads();
        }
        shared::ldmatrix_x4(shared::dynamic::<u8>().add(row(lane)));
    })
}

#[test]
fn mistakes_are_found() {
    let own = |lane: u32| lane * 16;
    assert_eq!(outcome(32, 32, true, own), Ok(()));
    let kind = |result: Result<(), SimError>| result.map_err(|e| e.kind);
    assert_eq!(kind(outcome(32, 32, false, own)), Err(ErrorKind::SharedRace));
    assert_eq!(kind(outcome(32, 31, true, own)), Err(ErrorKind::Uninitialized));
    assert_eq!(
        kind(outcome(32, 32, true, |lane| lane * 16 + 8)),
        Err(ErrorKind::Misaligned)
    );
    assert_eq!(
        kind(outcome(32, 32, true, |lane| 0x10000 + lane * 16)),
        Err(ErrorKind::OutOfBounds)
    );
    assert_eq!(kind(outcome(16, 16, true, own)), Err(ErrorKind::PartialWarp));
    // The addresses of lanes without a row are not looked at.
    let one = run_body(1, 32, 1024, Schedule::InOrder, || {
        let lane = warp::lane_id();
        shared::dynamic::<u8>().add(lane * 16).cast::<u64>().store(1);
        shared::dynamic::<u8>().add(lane * 16 + 8).cast::<u64>().store(2);
        warp::sync();
        shared::ldmatrix_x1(Shared::at(if lane < 8 { lane * 16 } else { 0xffff_0001 }));
    });
    assert_eq!(one, Ok(()));
}

/// Stores matrices of the registers `[lane][register]` to rows `order[8i + j]`; the elements of all rows afterwards, 0 where none was
/// stored.
fn stored<const N: usize>(
    registers: &[u32],
    order: &[u32; 32],
    schedule: Schedule,
    store: impl Fn(Shared<u8>, [u32; N]) + Sync,
) -> Vec<u16> {
    let (x, at, y) = (
        Buffer::new(registers),
        Buffer::new(order),
        Buffer::<u16>::unwritten(ROWS * 8),
    );
    let [px, pat, py] = [x.ptr() as usize, at.ptr() as usize, y.ptr() as usize];
    run_body(1, 32, (ROWS * 16) as u32, schedule, || {
        let lane = warp::lane_id();
        // SAFETY: the buffers have 32 * N, 32 and ROWS * 8 elements.
        unsafe {
            let elements = || (lane..(ROWS * 8) as u32).step_by(32);
            elements().for_each(|i| shared::dynamic::<u16>().add(i).store(0));
            warp::sync();
            let row = mem::load((pat as *const u32).add(lane as usize));
            let own = core::array::from_fn(|i| mem::load((px as *const u32).add(lane as usize * N + i)));
            store(shared::dynamic::<u8>().add(row * 16), own);
            warp::sync();
            elements()
                .for_each(|i| mem::store((py as *mut u16).add(i as usize), shared::dynamic::<u16>().add(i).load()));
        }
    })
    .unwrap();
    y.read()
}

/// Every form on random elements, to rows in random order: by the definition, one element after the other.
#[test]
fn every_form_stores_the_elements_of_plain_matrices() {
    let mut random = Random(2);
    let registers: Vec<u32> = (0..32 * 4).map(|_| random.u32()).collect();
    let mut rows: Vec<u32> = (0..ROWS as u32).collect();
    for i in (1..ROWS).rev() {
        rows.swap(i, random.u32() as usize % (i + 1));
    }
    let order: [u32; 32] = rows[..32].try_into().unwrap();
    let want = |n: usize, transposed: bool| {
        let mut elements = vec![0; ROWS * 8];
        for (i, row, column) in (0..n).flat_map(|i| (0..64).map(move |e| (i, e / 8, e % 8))) {
            let (g, pair) = if transposed { (column, row) } else { (row, column) };
            let register = registers[(4 * g + pair / 2) * n + i];
            elements[order[8 * i + row] as usize * 8 + column] = (register >> (16 * (pair % 2))) as u16;
        }
        elements
    };
    for schedule in SCHEDULES {
        assert_eq!(
            stored(&registers, &order, schedule, shared::stmatrix_x1),
            want(1, false)
        );
        assert_eq!(
            stored(&registers, &order, schedule, shared::stmatrix_x2),
            want(2, false)
        );
        assert_eq!(
            stored(&registers, &order, schedule, shared::stmatrix_x4),
            want(4, false)
        );
        assert_eq!(
            stored(&registers, &order, schedule, shared::stmatrix_x1_trans),
            want(1, true)
        );
        assert_eq!(
            stored(&registers, &order, schedule, shared::stmatrix_x2_trans),
            want(2, true)
        );
        assert_eq!(
            stored(&registers, &order, schedule, shared::stmatrix_x4_trans),
            want(4, true)
        );
    }
}

#[test]
fn mistakes_of_stores_are_found() {
    let outcome = |threads: u32, row: fn(u32) -> u32, read: bool| {
        run_body(1, threads, 1024, Schedule::InOrder, || {
            let lane = thread::thread_idx_x();
            shared::stmatrix_x4(shared::dynamic::<u8>().add(row(lane)), [lane; 4]);
            if read {
                shared::dynamic::<u32>().add(lane * 4).load();
            }
        })
        .map_err(|e| e.kind)
    };
    assert_eq!(outcome(32, |lane| lane * 16, false), Ok(()));
    // A lane that reads what others write, before or after they do.
    let raced = outcome(32, |lane| lane * 16, true).unwrap_err();
    assert!(
        matches!(raced, ErrorKind::SharedRace | ErrorKind::Uninitialized),
        "{raced:?}"
    );
    assert_eq!(outcome(32, |lane| lane / 2 * 16, false), Err(ErrorKind::SharedRace));
    assert_eq!(outcome(32, |lane| lane * 16 + 8, false), Err(ErrorKind::Misaligned));
    assert_eq!(outcome(32, |lane| lane * 16 + 1008, false), Err(ErrorKind::OutOfBounds));
    assert_eq!(outcome(16, |lane| lane * 16, false), Err(ErrorKind::PartialWarp));
}
