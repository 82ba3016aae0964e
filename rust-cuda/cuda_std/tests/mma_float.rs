//! The tensor core's products of 16-bit floats: where each element of a register belongs, and who has to be there. What the
//! arithmetic is, `host`'s tests check.

mod common;

use common::{Buffer, Random, SCHEDULES, run_body};
use cuda_std::{bf16, f16, mem, mma, warp};
use simt::tensor::{Format, TensorCore};
use simt::{ErrorKind, Schedule};

/// `B` products in one launch: A `[B][16][16]`, B^T `[B][8][16]`, C and D `[B][16][8]`.
fn on_one_warp<const B: usize>(format: Format, a: &[u16], b: &[u16], c: &[f32], schedule: Schedule) -> Vec<f32> {
    let (a, b, c, d) = (
        Buffer::new(a),
        Buffer::new(b),
        Buffer::new(c),
        Buffer::<f32>::unwritten(c.len()),
    );
    let [pa, pb, pc, pd] = [a.ptr() as usize, b.ptr() as usize, c.ptr() as usize, d.ptr() as usize];
    run_body(1, 32, 0, schedule, || {
        let lane = warp::lane_id() as usize;
        let (g, t) = (lane / 4, lane % 4);
        // SAFETY: the indices stay within the matrices.
        unsafe {
            let word = |p: usize, row: usize, k: usize| mem::load((p as *const u32).add((row * 16 + k) / 2));
            let cell = |i: usize, r: usize| (i * 16 + g + 8 * (r / 2)) * 8 + 2 * t + r % 2;
            let a = core::array::from_fn(|i| {
                core::array::from_fn(|r| word(pa, i * 16 + g + 8 * (r % 2), 8 * (r / 2) + 2 * t))
            });
            let b = core::array::from_fn(|i| core::array::from_fn(|r| word(pb, i * 8 + g, 8 * r + 2 * t)));
            let c = core::array::from_fn(|i| core::array::from_fn(|r| mem::load((pc as *const f32).add(cell(i, r)))));
            let d = match format {
                Format::Bf16 => mma::m16n8k16_bf16::<B>(&a, &b, &c),
                Format::F16 => mma::m16n8k16_f16::<B>(&a, &b, &c),
            };
            for (i, d) in d.iter().enumerate() {
                for (r, d) in d.iter().enumerate() {
                    mem::store((pd as *mut f32).add(cell(i, r)), *d);
                }
            }
        }
    })
    .unwrap();
    d.read()
}

fn value(format: Format, bits: u16) -> f64 {
    match format {
        Format::Bf16 => bf16::from_bits(bits).to_f64(),
        Format::F16 => f16::from_bits(bits).to_f64(),
    }
}

fn bits(format: Format, value: f64) -> u16 {
    match format {
        Format::Bf16 => bf16::from_f64(value).to_bits(),
        Format::F16 => f16::from_f64(value).to_bits(),
    }
}

/// Whole numbers so small that every sum is exact: any order and any model gives the triple loop's result.
fn whole_numbers<const B: usize>(format: Format, seed: u64) {
    let mut random = Random(seed);
    let mut factors = |n: usize| -> Vec<u16> {
        (0..n)
            .map(|_| bits(format, (random.next() % 201) as f64 - 100.0))
            .collect()
    };
    let (a, b) = (factors(B * 256), factors(B * 128));
    let c: Vec<f32> = (0..B * 128).map(|i| (i as f32 - 200.0) * 3.0).collect();
    let mut want = c.clone();
    for (at, d) in want.iter_mut().enumerate() {
        let (tile, row, column) = (at / 128, at / 8 % 16, at % 8);
        for k in 0..16 {
            let (x, y) = (a[(tile * 16 + row) * 16 + k], b[(tile * 8 + column) * 16 + k]);
            *d += (value(format, x) * value(format, y)) as f32;
        }
    }
    for schedule in SCHEDULES {
        let got = on_one_warp::<B>(format, &a, &b, &c, schedule);
        assert_eq!(got, want, "{B} products of {format:?}, {schedule:?}");
    }
}

#[test]
fn products_of_whole_numbers() {
    for format in [Format::Bf16, Format::F16] {
        whole_numbers::<1>(format, 1);
        whole_numbers::<3>(format, 2);
        whole_numbers::<16>(format, 3);
    }
}

/// One column of A and one of B at a time: every k of every register is where it belongs.
#[test]
fn every_place_of_k() {
    for format in [Format::Bf16, Format::F16] {
        for k in 0..16 {
            let (mut a, mut b) = (vec![0; 256], vec![0; 128]);
            (0..16).for_each(|row| a[row * 16 + k] = bits(format, row as f64 + 1.0));
            (0..8).for_each(|column| b[column * 16 + k] = bits(format, 32.0 * (column as f64 + 1.0)));
            let d = on_one_warp::<1>(format, &a, &b, &[0.0; 128], Schedule::InOrder);
            let want: Vec<f32> = (0..128).map(|at| ((at / 8 + 1) * 32 * (at % 8 + 1)) as f32).collect();
            assert_eq!(d, want, "{format:?}, k = {k}");
        }
    }
}

/// A launch says whose tensor core it has: 1 + 2^-25 - 1 keeps the small product on Hopper and loses it on Ampere.
#[test]
fn a_launch_chooses_its_tensor_core() {
    let (one, small) = (f32::to_bits(1.0) >> 16, f32::to_bits(2f32.powi(-25)) >> 16);
    let seen = |tensor: TensorCore| {
        let d = Buffer::<f32>::unwritten(1);
        let p = d.ptr() as usize;
        let launch = simt::Launch {
            kernel: "test",
            grid: 1.into(),
            block: 32.into(),
            cluster: 1,
            shared_bytes: 0,
            checks: true,
            schedule: Schedule::InOrder,
            workers: 1,
            tensor,
        };
        let body = || {
            let lane = warp::lane_id();
            // Row 0: 1 at k = 0, 2^-25 at k = 1. Column 0: ones.
            let a = if lane == 0 { one | small << 16 } else { 0 };
            let b = if lane == 0 { one | one << 16 } else { 0 };
            let c = if lane == 0 { -1.0 } else { 0.0 };
            let [d] = mma::m16n8k16_bf16::<1>(&[[a, 0, 0, 0]], &[[b, 0]], &[[c, 0.0, 0.0, 0.0]]);
            if lane == 0 {
                // SAFETY: one element.
                unsafe { mem::store(p as *mut f32, d[0]) };
            }
        };
        launch.run(&body).unwrap();
        d.read()[0]
    };
    assert_eq!(seen(TensorCore::HOPPER), 2f32.powi(-25));
    assert_eq!(seen(TensorCore::AMPERE), 0.0);
}

#[test]
fn a_warp_that_is_not_whole_is_an_error() {
    let product = || {
        mma::m16n8k16_bf16::<1>(&[[0; 4]], &[[0; 2]], &[[0.0; 4]]);
    };
    let short = run_body(1, 40, 0, Schedule::InOrder, product).unwrap_err();
    assert_eq!(short.kind, ErrorKind::PartialWarp);
    assert!(short.message.contains("takes all 32"), "{}", short.message);
    let divergent = run_body(1, 32, 0, Schedule::InOrder, || {
        if warp::lane_id() != 7 {
            product();
        }
    });
    assert_eq!(divergent.unwrap_err().kind, ErrorKind::PartialWarp);
}
