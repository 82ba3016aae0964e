//! The tensor core's product against a triple loop over plain matrices.

mod common;

use common::{Buffer, Random, SCHEDULES, run_body};
use cuda_std::{mem, mma, warp};

/// `B` products in one launch: A `[B][16][32]`, B^T `[B][8][32]` bytes, C and D `[B][16][8]`.
fn on_one_warp<const B: usize>(a: &[i8], b: &[i8], c: &[i32], schedule: simt::Schedule) -> Vec<i32> {
    let (a, b, c, d) = (
        Buffer::new(a),
        Buffer::new(b),
        Buffer::new(c),
        Buffer::<i32>::unwritten(c.len()),
    );
    let [pa, pb, pc, pd] = [a.ptr() as usize, b.ptr() as usize, c.ptr() as usize, d.ptr() as usize];
    run_body(1, 32, 0, schedule, || {
        let lane = warp::lane_id() as usize;
        let (g, t) = (lane / 4, lane % 4);
        // SAFETY: the indices stay within the matrices.
        unsafe {
            let word = |p: usize, row: usize, k: usize| mem::load((p as *const u32).add((row * 32 + k) / 4));
            let cell = |i: usize, r: usize| (i * 16 + g + 8 * (r / 2)) * 8 + 2 * t + r % 2;
            let a = core::array::from_fn(|i| {
                core::array::from_fn(|r| word(pa, i * 16 + g + 8 * (r % 2), 16 * (r / 2) + 4 * t))
            });
            let b = core::array::from_fn(|i| core::array::from_fn(|r| word(pb, i * 8 + g, 16 * r + 4 * t)));
            let c = core::array::from_fn(|i| core::array::from_fn(|r| mem::load((pc as *const i32).add(cell(i, r)))));
            let d = mma::m16n8k32_s8::<B>(&a, &b, &c);
            for (i, d) in d.iter().enumerate() {
                for (r, d) in d.iter().enumerate() {
                    mem::store((pd as *mut i32).add(cell(i, r)), *d);
                }
            }
        }
    })
    .unwrap();
    d.read()
}

fn triple_loop(a: &[i8], b: &[i8], c: &[i32]) -> Vec<i32> {
    let mut d = c.to_vec();
    for (at, d) in d.iter_mut().enumerate() {
        let (tile, row, column) = (at / 128, at / 8 % 16, at % 8);
        for k in 0..32 {
            let product = i32::from(a[(tile * 16 + row) * 32 + k]) * i32::from(b[(tile * 8 + column) * 32 + k]);
            *d = d.wrapping_add(product);
        }
    }
    d
}

fn check<const B: usize>(seed: u64, value: impl Fn(&mut Random) -> i8, start: impl Fn(&mut Random) -> i32) {
    let mut random = Random(seed);
    let a: Vec<i8> = (0..B * 512).map(|_| value(&mut random)).collect();
    let b: Vec<i8> = (0..B * 256).map(|_| value(&mut random)).collect();
    let c: Vec<i32> = (0..B * 128).map(|_| start(&mut random)).collect();
    let want = triple_loop(&a, &b, &c);
    for schedule in SCHEDULES {
        assert_eq!(
            on_one_warp::<B>(&a, &b, &c, schedule),
            want,
            "{B} products, seed {seed}, {schedule:?}"
        );
    }
}

#[test]
fn random_bytes() {
    let byte = |r: &mut Random| r.next() as i8;
    check::<1>(10, byte, |_| 0);
    check::<2>(11, byte, |r| r.u32() as i32);
    check::<3>(12, byte, |_| 0x4b40_0000);
    check::<4>(13, byte, |r| r.u32() as i32 >> 8);
    check::<7>(14, byte, |_| -1);
}

#[test]
fn extremes_wrap() {
    check::<2>(20, |_| -128, |_| i32::MAX - 5);
    check::<1>(21, |r| if r.next() & 1 == 0 { 127 } else { -128 }, |_| i32::MIN);
}

/// One byte of A and one of B at a time: every k of every register is where it belongs.
#[test]
fn every_place_of_k() {
    for k in 0..32 {
        let mut a = vec![0i8; 512];
        let mut b = vec![0i8; 256];
        for row in 0..16 {
            a[row * 32 + k] = row as i8 + 1;
        }
        for column in 0..8 {
            b[column * 32 + k] = 10 * (column as i8 + 1);
        }
        let d = on_one_warp::<1>(&a, &b, &vec![0; 128], simt::Schedule::InOrder);
        let want: Vec<i32> = (0..128).map(|at| (at / 8 + 1) * 10 * (at % 8 + 1)).collect();
        assert_eq!(d, want, "k = {k}");
    }
}
