//! Warp and block collectives on the simulator, against models that know nothing of lanes.

mod common;

use common::{Buffer, Random, SCHEDULES, run_body};
use cuda_std::{mem, thread, warp};

/// Runs `f(lane, input)` in every lane of one warp and returns the results.
fn warp_map<T, R>(input: &[T; 32], f: impl Fn(usize, T) -> R + Sync) -> Vec<R>
where
    T: mem::Word + Default + Sync,
    R: mem::Word + Default + PartialEq + core::fmt::Debug,
{
    let (x, y) = (Buffer::new(input), Buffer::<R>::unwritten(32));
    let mut first: Option<Vec<R>> = None;
    for schedule in SCHEDULES {
        let (px, py) = (x.ptr() as usize, y.ptr() as usize);
        run_body(1, 32, 0, schedule, || {
            let lane = warp::lane_id() as usize;
            // SAFETY: both buffers have 32 elements.
            unsafe { mem::store((py as *mut R).add(lane), f(lane, mem::load((px as *const T).add(lane)))) };
        })
        .unwrap();
        let result = y.read();
        assert_eq!(first.get_or_insert_with(|| result.clone()), &result, "{schedule:?}");
    }
    first.expect("there are schedules")
}

fn numbers() -> [u32; 32] {
    let mut random = Random(3);
    core::array::from_fn(|_| random.u32())
}

/// Source lane and range by counting positions in a segment, not by the ISA's masks.
fn model(mode: &str, lane: i64, operand: i64, width: i64) -> (usize, bool) {
    let (start, position) = (lane / width * width, lane % width);
    let operand = operand % 32;
    let (source, ok) = match mode {
        "up" => (position - operand, position >= operand),
        "down" => (position + operand, position + operand < width),
        // A lane beyond the own segment is out of range, one before it is not.
        "xor" => ((lane ^ operand) - start, (lane ^ operand) < start + width),
        _ => (operand % width, true),
    };
    (if ok { start + source } else { lane } as usize, ok)
}

#[test]
fn shuffles() {
    let input = numbers();
    for width in [1u32, 2, 4, 8, 16, 32] {
        for operand in [0u32, 1, 2, 3, 5, 8, 15, 16, 17, 31, 33] {
            for mode in ["up", "down", "xor", "idx"] {
                let got = warp_map(&input, |_, v| {
                    // SAFETY: all lanes are here.
                    let (v, ok) = unsafe {
                        match mode {
                            "up" => warp::warp_shuffle_up(u32::MAX, v, operand, width),
                            "down" => warp::warp_shuffle_down(u32::MAX, v, operand, width),
                            "xor" => warp::warp_shuffle_xor(u32::MAX, v, operand, width),
                            _ => warp::warp_shuffle_idx(u32::MAX, v, operand, width),
                        }
                    };
                    u64::from(ok) << 32 | u64::from(v)
                });
                for (lane, got) in got.into_iter().enumerate() {
                    let (source, ok) = model(mode, lane as i64, i64::from(operand), i64::from(width));
                    let want = u64::from(ok) << 32 | u64::from(input[source]);
                    assert_eq!(got, want, "{mode} lane {lane} operand {operand} width {width}");
                }
            }
        }
    }
}

#[test]
fn short_shuffles_and_wide_values() {
    let input = numbers().map(|v| f64::from(v) * 1e9 + 0.5);
    let got = warp_map(&input, |_, v| {
        warp::shuffle_xor(v, 7) + warp::shuffle_down(v, 2) - warp::shuffle_up(v, 1)
    });
    for (lane, got) in got.into_iter().enumerate() {
        let down = if lane + 2 < 32 { lane + 2 } else { lane };
        assert_eq!(
            got,
            input[lane ^ 7] + input[down] - input[lane.saturating_sub(1)],
            "lane {lane}"
        );
    }
    let got = warp_map(&input, |_, v| warp::broadcast(v, 9));
    assert_eq!(got, [input[9]; 32]);
}

#[test]
fn shuffle_within_a_mask() {
    let got = warp_map(&numbers(), |lane, v| {
        if lane < 8 {
            // SAFETY: two groups, each with its own mask, and each lane reads one of its own group.
            unsafe { warp::warp_shuffle_xor(0xff, v, 5, 8).0 }
        } else {
            // SAFETY: as above.
            unsafe { warp::warp_shuffle_xor(0xffff_ff00, v, 1, 32).0 }
        }
    });
    let input = numbers();
    assert_eq!(got[2], input[7]);
    assert_eq!(got[16], input[17]);
}

#[test]
fn votes() {
    for mask in [u32::MAX, 0x0000_ffff, 0x8000_0001, 0x00ff_0ff0] {
        for holds in [0, u32::MAX, mask, mask & 0x5555_5555, !mask, mask & mask.wrapping_neg()] {
            let got = warp_map(&[0u32; 32], |lane, _| {
                let p = holds >> lane & 1 == 1;
                if mask >> lane & 1 == 0 {
                    return 0;
                }
                // SAFETY: the lanes of the mask are here.
                let (all, any, set) = unsafe {
                    (
                        warp::warp_vote_all(mask, p),
                        warp::warp_vote_any(mask, p),
                        warp::warp_vote_ballot(mask, p),
                    )
                };
                u64::from(all) << 33 | u64::from(any) << 32 | u64::from(set)
            });
            let set = holds & mask;
            let want =
                u64::from(set.count_ones() == mask.count_ones()) << 33 | u64::from(set > 0) << 32 | u64::from(set);
            for lane in (0..32).filter(|lane| mask >> lane & 1 == 1) {
                assert_eq!(got[lane], want, "mask {mask:#x} holds {holds:#x} lane {lane}");
            }
        }
    }
}

#[test]
fn matches() {
    let input: [u32; 32] = core::array::from_fn(|i| [7, 0x8000_0000, 0, 9][i * i % 5 % 4]);
    let got = warp_map(&input, |_, v| {
        u64::from(warp::match_any(v)) << 32 | u64::from(warp::match_any(f32::from_bits(v)))
    });
    for (lane, got) in got.into_iter().enumerate() {
        let mut same = 0u32;
        for (other, v) in input.iter().enumerate() {
            same += u32::from(*v == input[lane]) << other;
        }
        // As floats too: the bits are compared, so the two zeros differ.
        assert_eq!(got, u64::from(same) << 32 | u64::from(same), "lane {lane}");
    }
    let got = warp_map(&input, |_, v| {
        u32::from(warp::match_all(v)) + 2 * u32::from(warp::match_all(u64::MAX))
    });
    assert_eq!(got, [2; 32]);
    let got = warp_map(&input, |lane, _| {
        if lane < 4 {
            // SAFETY: the lanes of the mask are here.
            unsafe { warp::warp_match_all(15, 3i64) }.unwrap_or(0)
        } else {
            0
        }
    });
    assert_eq!(&got[..5], [15, 15, 15, 15, 0]);
}

#[test]
fn reductions() {
    use warp::WarpReductionOp::{Add, And, Max, Min, Or, Xor};
    let input = numbers();
    let mask = 0x0f0f_fff1u32;
    for (op, want, signed) in [
        (
            Add,
            input
                .iter()
                .enumerate()
                .filter(|(i, _)| mask >> i & 1 == 1)
                .fold(0u64, |s, (_, v)| s + u64::from(*v)) as u32,
            None,
        ),
        (
            Min,
            masked(&input, mask).min().unwrap(),
            masked(&input, mask).map(|v| v as i32).min(),
        ),
        (
            Max,
            masked(&input, mask).max().unwrap(),
            masked(&input, mask).map(|v| v as i32).max(),
        ),
        (And, masked(&input, mask).fold(u32::MAX, |s, v| s & v), None),
        (Or, masked(&input, mask).fold(0, |s, v| s | v), None),
        (Xor, masked(&input, mask).fold(0, |s, v| s ^ v), None),
    ] {
        let got = warp_map(&input, |lane, v| {
            if mask >> lane & 1 == 0 {
                return 0;
            }
            // SAFETY: the lanes of the mask are here.
            let (u, i) = unsafe { (warp::warp_reduce(mask, v, op), warp::warp_reduce(mask, v as i32, op)) };
            u64::from(u) << 32 | u64::from(i as u32)
        });
        let signed = signed.unwrap_or(want as i32) as u32;
        assert_eq!(got[0], u64::from(want) << 32 | u64::from(signed), "{op:?}");
        assert_eq!((got[1], got[27]), (0, got[0]), "{op:?}");
    }
    let floats: [f32; 32] = core::array::from_fn(|i| (i as f32).exp() * if i % 3 == 0 { -1.0 } else { 1e-3 });
    let mut tree = floats;
    for distance in [16, 8, 4, 2, 1] {
        tree = core::array::from_fn(|i| tree[i] + tree[i ^ distance]);
    }
    assert_eq!(warp_map(&floats, |_, v| warp::reduce_sum_f32(v)), tree);
    let largest = floats.iter().copied().fold(f32::MIN, f32::max);
    assert_eq!(warp_map(&floats, |_, v| warp::reduce_max_f32(v)), [largest; 32]);
}

fn masked(input: &[u32; 32], mask: u32) -> impl Iterator<Item = u32> + '_ {
    input
        .iter()
        .enumerate()
        .filter(move |(i, _)| mask >> i & 1 == 1)
        .map(|(_, v)| *v)
}

#[test]
fn block_wide_counts() {
    let out = Buffer::<u32>::unwritten(3 * 96);
    let p = out.ptr() as usize;
    for schedule in SCHEDULES {
        run_body(1, (48, 2), 0, schedule, || {
            let i = thread::index();
            let n = thread::sync_threads_count(u32::from(i.is_multiple_of(5)));
            let all = thread::sync_threads_and(u32::from(i < 96)) * 2 + thread::sync_threads_and(u32::from(i != 77));
            let any = thread::sync_threads_or(u32::from(i > 95)) * 2 + thread::sync_threads_or(u32::from(i == 77));
            for (j, v) in [n, all, any].into_iter().enumerate() {
                // SAFETY: three values a thread.
                unsafe { mem::store((p as *mut u32).add(3 * i as usize + j), v) };
            }
        })
        .unwrap();
        assert!(out.read().chunks(3).all(|v| v == [20, 2, 1]), "{schedule:?}");
    }
}

#[test]
fn indices() {
    let out = Buffer::<u32>::unwritten(2 * 40);
    let p = out.ptr() as usize;
    run_body(2, (5, 4, 2), 0, simt::Schedule::InOrder, || {
        let (i, t, d) = (thread::index(), thread::thread_idx(), thread::block_dim());
        assert_eq!((d.x, d.y, d.z, thread::grid_dim_x()), (5, 4, 2, 2));
        assert_eq!(warp::lane_id(), (t.x + 5 * t.y + 20 * t.z) % 32);
        assert_eq!(
            thread::index_3d(),
            cuda_std::UVec3 {
                x: thread::block_idx_x() * 5 + t.x,
                y: t.y,
                z: t.z
            }
        );
        assert_eq!(thread::first(), i == 0);
        // SAFETY: one value a thread.
        unsafe { mem::store((p as *mut u32).add(i as usize), i) };
    })
    .unwrap();
    assert_eq!(out.read(), (0..80).collect::<Vec<_>>());
}
