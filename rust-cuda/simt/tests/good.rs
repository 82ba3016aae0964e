//! Correct kernels: right results, no false alarms, and the same bytes in every schedule, with checks and without.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "a bad access is an error of the launch: that is what is tested"
)]

mod common;

use common::{Mem, blocks};
use simt::{Launch, LaunchStats, Schedule, ctx};

fn tid() -> u32 {
    ctx::thread_idx().x
}

fn bid() -> u32 {
    ctx::block_idx().x
}

/// Runs in order and with 50 seeds, with checks on and off; each run fills a new output of `n` words.
fn same_everywhere(launch: Launch<'_>, n: usize, kernel: &(dyn Fn(&Mem<u32>) + Sync)) -> Vec<u32> {
    let run = |launch: Launch<'_>| {
        let out = Mem::<u32>::raw(n, "out");
        launch
            .run(&|| kernel(&out))
            .unwrap_or_else(|e| panic!("{:?}: {e}", launch.schedule));
        out.get()
    };
    let first = run(launch);
    for seed in 0..50 {
        let checks = seed % 5 != 0;
        let again = run(Launch {
            schedule: Schedule::Seeded(seed),
            checks,
            ..launch
        });
        assert_eq!(first, again, "seed {seed}, checks {checks}");
    }
    assert_eq!(
        first,
        run(Launch {
            checks: false,
            workers: 1,
            tensor: Default::default(),
            ..launch
        })
    );
    first
}

fn xor_sum(mut v: u32) -> u32 {
    for d in [16, 8, 4, 2, 1] {
        v += ctx::warp_exchange("shuffle_xor", u32::MAX, v, |l| l.get(ctx::lane_id() ^ d));
    }
    v
}

#[test]
fn block_reduction_through_shuffles_and_shared_memory() {
    let input: Vec<u32> = (0..8 * 256).map(|i| i * i % 1013).collect();
    let x = Mem::of(&input, "x");
    let out = same_everywhere(blocks(8, 256, 32), 8, &|out| unsafe {
        let sum = xor_sum(ctx::load(x.at((bid() * 256 + tid()) as usize)));
        if ctx::lane_id() == 0 {
            ctx::shared_store(ctx::warp_id() * 4, sum);
        }
        ctx::sync_threads();
        if ctx::warp_id() == 0 {
            let part = if tid() < 8 {
                ctx::shared_load::<u32>(tid() * 4)
            } else {
                0
            };
            let total = xor_sum(part);
            if tid() == 0 {
                ctx::store(out.at(bid() as usize), total);
            }
        }
    });
    let want: Vec<u32> = input.chunks(256).map(|c| c.iter().sum()).collect();
    assert_eq!(out, want);
}

#[test]
fn tree_reduction_with_a_barrier_each_step() {
    let out = same_everywhere(blocks(3, 128, 512), 3, &|out| unsafe {
        ctx::shared_store(tid() * 4, tid() * (bid() + 1));
        let mut n = 64;
        while n > 0 {
            ctx::sync_threads();
            if tid() < n {
                let (a, b) = (
                    ctx::shared_load::<u32>(tid() * 4),
                    ctx::shared_load::<u32>((tid() + n) * 4),
                );
                ctx::shared_store(tid() * 4, a + b);
            }
            n /= 2;
        }
        if tid() == 0 {
            ctx::store(out.at(bid() as usize), ctx::shared_load::<u32>(0));
        }
    });
    assert_eq!(out, [8128, 2 * 8128, 3 * 8128]);
}

/// Every thread copies its own 16 bytes two stages ahead; the block reads what the others copied.
#[test]
fn pipeline_of_asynchronous_copies() {
    const STAGES: u32 = 3;
    let steps = 9u32;
    let input: Vec<u32> = (0..64 * 4 * steps).map(|i| i.wrapping_mul(2654435761)).collect();
    let x = Mem::of(&input, "x");
    let out = same_everywhere(blocks(1, 64, STAGES * 1024), 64, &|out| unsafe {
        let issue = |step: u32| {
            if step < steps {
                let src = x.at(((step * 64 + tid()) * 4) as usize).cast();
                // The last step has only 8 bytes of each 16: the rest are zeros.
                let n = if step == steps - 1 { 8 } else { 16 };
                ctx::copy_async(step % STAGES * 1024 + tid() * 16, src, 16, n);
            }
            ctx::copy_async_commit();
        };
        issue(0);
        issue(1);
        let mut acc = 0u32;
        for step in 0..steps {
            ctx::copy_async_wait(1);
            ctx::sync_threads();
            issue(step + 2);
            let v: [u32; 4] = ctx::shared_load(step % STAGES * 1024 + (63 - tid()) * 16);
            acc = v.iter().fold(acc, |a, &w| a.rotate_left(3) ^ w);
        }
        ctx::store(out.at(tid() as usize), acc);
    });
    for t in 0..64 {
        let mut acc = 0u32;
        for s in 0..steps as usize {
            for i in 0..4 {
                let zero = s == steps as usize - 1 && i >= 2;
                let w = if zero { 0 } else { input[(s * 64 + 63 - t) * 4 + i] };
                acc = acc.rotate_left(3) ^ w;
            }
        }
        assert_eq!(out[t], acc, "thread {t}");
    }
}

/// Warp 0 produces into two slots, warp 1 consumes: full and empty barriers, two of each.
#[test]
fn named_barriers_relay_between_warps() {
    let rounds = 20u32;
    let out = same_everywhere(blocks(2, 64, 256), 64, &|out| unsafe {
        let lane = ctx::lane_id();
        if ctx::warp_id() == 0 {
            for i in 0..rounds {
                let slot = i % 2;
                if i >= 2 {
                    ctx::barrier_sync(3 + slot, 64);
                }
                ctx::shared_store(slot * 128 + lane * 4, i * 1000 + lane);
                ctx::barrier_arrive(1 + slot, 64);
            }
        } else {
            let mut acc = 0u32;
            for i in 0..rounds {
                let slot = i % 2;
                ctx::barrier_sync(1 + slot, 64);
                acc = acc.wrapping_mul(31) + ctx::shared_load::<u32>(slot * 128 + (31 - lane) * 4);
                if i + 2 < rounds {
                    ctx::barrier_arrive(3 + slot, 64);
                }
            }
            ctx::store(out.at((bid() * 32 + lane) as usize), acc);
        }
    });
    for (t, &got) in out.iter().enumerate() {
        let want = (0..rounds).fold(0u32, |a, i| a.wrapping_mul(31) + i * 1000 + 31 - t as u32 % 32);
        assert_eq!(got, want, "thread {t}");
    }
}

#[test]
fn divergent_warps_with_masks_of_their_own() {
    let out = same_everywhere(blocks(2, 48, 64), 96, &|out| unsafe {
        let lane = ctx::lane_id();
        // Odd and even lanes run different loops of different lengths; the exchanges of one must not touch the other's.
        let (mask, rounds) = if lane.is_multiple_of(2) {
            (0x5555_5555, 7)
        } else {
            (0xAAAA_AAAA, 4)
        };
        let mask = if ctx::warp_id() == 1 { mask & 0xFFFF } else { mask };
        let mut v = tid();
        for _ in 0..rounds {
            v = ctx::warp_exchange("rotate", mask, v, |l| {
                let next = (lane + 2) % if ctx::warp_id() == 1 { 16 } else { 32 };
                l.get(next)
            });
            // A lane alone may run ahead of all the others.
            v += ctx::warp_exchange("alone", 1 << lane, 1u64, |l| l.get(lane)) as u32;
        }
        ctx::sync_warp(u32::MAX);
        let votes = ctx::warp_exchange("ballot", u32::MAX, v.is_multiple_of(3), |l| {
            (0..32)
                .filter(|i| l.mask() >> i & 1 != 0 && l.get(*i))
                .fold(0u32, |m, i| m | 1 << i)
        });
        ctx::store(out.at((bid() * 48 + tid()) as usize), v ^ votes << 8);
    });
    let lane = |w: u32, l: u32| {
        let (n, rounds) = (if w == 1 { 16 } else { 32 }, if l.is_multiple_of(2) { 7 } else { 4 });
        w * 32 + (l + 2 * rounds) % n + rounds
    };
    for t in 0..96u32 {
        let (w, l) = (t % 48 / 32, t % 48 % 32);
        let n = if w == 1 { 16 } else { 32 };
        let votes = (0..n)
            .filter(|&i| lane(w, i).is_multiple_of(3))
            .fold(0u32, |m, i| m | 1 << i);
        assert_eq!(out[t as usize], lane(w, l) ^ votes << 8, "thread {t}");
    }
}

#[test]
fn sync_warp_orders_lanes_and_static_memory_is_shared() {
    let out = same_everywhere(blocks(1, 96, 16), 96, &|out| unsafe {
        let a = ctx::static_shared(96 * 4, 4);
        let b = ctx::static_shared(3, 1);
        assert!(a >= 16 && b >= a + 96 * 4);
        for i in 0..5 {
            ctx::shared_store(a + tid() * 4, tid() + i);
            ctx::sync_warp(u32::MAX);
            let v: u32 = ctx::shared_load(a + (tid() ^ 5) * 4);
            ctx::sync_warp(u32::MAX);
            if i == 4 {
                ctx::store(out.at(tid() as usize), v);
            }
        }
        // Halves order themselves, then a pair across the halves.
        let half = if ctx::lane_id() < 16 { 0xFFFF } else { 0xFFFF_0000 };
        ctx::shared_store(a + tid() * 4, 7u32);
        ctx::sync_warp(half);
        ctx::shared_load::<u32>(a + (tid() ^ 8) * 4);
        if matches!(ctx::lane_id(), 3 | 19) {
            ctx::sync_warp(1 << 3 | 1 << 19);
            // Lane 3 knows what lane 19's half did before its own sync_warp, and the other way round.
            ctx::shared_load::<u32>(a + (tid() ^ 16 ^ 1) * 4);
        }
    });
    assert!(out.iter().enumerate().all(|(t, &v)| v == (t as u32 ^ 5) + 4));
}

#[test]
fn bytes_of_one_word_belong_to_different_threads() {
    let out = same_everywhere(blocks(1, 64, 64), 16, &|out| unsafe {
        ctx::shared_store(tid(), tid() as u8);
        ctx::sync_threads();
        if tid() < 16 {
            ctx::store(out.at(tid() as usize), ctx::shared_load::<u32>(tid() * 4));
        }
        ctx::sync_threads();
        ctx::shared_store(tid() ^ 1, 1u8);
    });
    assert_eq!(out[1], 0x0706_0504);
}

#[test]
fn atomics_count_and_a_spinning_thread_is_relieved() {
    let total = Mem::of(&[0u64; 1], "total");
    let out = same_everywhere(blocks(4, 64, 16), 4, &|out| unsafe {
        ctx::atomic_u64(total.at(0), |v| v + u64::from(tid()));
        if tid() == 0 {
            ctx::shared_store(0, 0u32);
        }
        ctx::sync_threads();
        // Everyone waits for its turn: the last thread first.
        while ctx::shared_atomic_u32(0, |v| v) != 63 - tid() {}
        ctx::shared_atomic_u32(0, |v| v + 1);
        ctx::sync_threads();
        if tid() == 0 {
            ctx::store(out.at(bid() as usize), ctx::shared_load::<u32>(0));
        }
    });
    assert_eq!(out, [64; 4]);
    assert_eq!(total.get()[0], 52 * 4 * 2016);
}

#[test]
fn counts_and_indices() {
    let seen = Mem::of(&[0u32; 2 * 3 * 5], "seen");
    let launch = Launch {
        grid: (2, 3, 5).into(),
        block: (4, 2, 3).into(),
        ..blocks(1, 1, 0)
    };
    let stats = launch
        .run(&|| unsafe {
            let (b, g, t) = (ctx::block_idx(), ctx::grid_dim(), ctx::thread_idx());
            assert_eq!(t.x + t.y * 4 + t.z * 8, ctx::warp_id() * 32 + ctx::lane_id());
            assert_eq!(ctx::block_dim(), (4, 2, 3).into());
            let i = b.x + g.x * (b.y + g.y * b.z);
            ctx::atomic_u32(seen.at(i as usize), |v| v + 1);
            assert_eq!(ctx::sync_threads_reduce(t.x == 1), 6);
            ctx::load(seen.at(i as usize));
            ctx::store(seen.at(i as usize), 24);
        })
        .unwrap();
    assert_eq!(seen.get(), [24; 30]);
    let want = LaunchStats {
        threads: 720,
        blocks: 30,
        loads: 720,
        stores: 720,
        atomics: 720,
        global_load_bytes: 2880,
        global_store_bytes: 2880,
        barriers: 30,
        ..LaunchStats::default()
    };
    assert_eq!(stats, want);
}
