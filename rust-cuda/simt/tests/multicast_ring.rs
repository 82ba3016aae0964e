//! Tensor copies to several blocks of a cluster: a ring in which each block loads its part of every stage for all of them.

mod common;

use common::Mem;
use simt::tma::{Map, Swizzle};
use simt::{ErrorKind, Launch, Schedule, SimError, ctx};

const STAGES: u32 = 2;
const ROUNDS: u32 = 7;
/// Bytes of a stage: 32 rows of 128.
const STAGE: u32 = 32 * 128;
const FULL: u32 = STAGES * STAGE;
const EMPTY: u32 = FULL + 8 * STAGES;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    /// The stage is filled again when this block's own reader has released it.
    ReleasedHereOnly,
    /// A block expects only what it loads itself.
    OwnBytesOnly,
    /// No barrier of the cluster after the initialisation.
    NoMeeting,
    /// A block that others send to, and that sends to them, ends.
    EndsEarly,
    NoSuchBlock,
    NobodyAtAll,
    OtherBlocksBarrier,
}

/// Thread 0 produces, warp 1 consumes: sums of the stage's words, block by block and round by round.
fn kernel(map: &[u64; 16], out: &Mem<u64>, mistake: Mistake) {
    let (rank, size, t) = (ctx::cluster_rank(), ctx::cluster_size(), ctx::thread_idx().x);
    let readers = if mistake == Mistake::ReleasedHereOnly { 1 } else { size };
    if t == 0 {
        (0..STAGES).for_each(|s| {
            ctx::mbarrier_init(FULL + 8 * s, 1);
            ctx::mbarrier_init(EMPTY + 8 * s, readers);
        });
        ctx::fence_mbarrier_init();
    }
    if mistake == Mistake::NoMeeting {
        ctx::sync_threads();
    } else {
        meet();
    }
    let rows = 32 / size;
    let all = (1u16 << size) - 1;
    for i in 0..ROUNDS {
        let (s, parity) = (i % STAGES, i / STAGES % 2);
        let (full, empty) = (FULL + 8 * s, EMPTY + 8 * s);
        if t == 0 {
            ctx::mbarrier_wait(empty, parity ^ 1);
            ctx::mbarrier_arrive(
                full,
                if mistake == Mistake::OwnBytesOnly {
                    rows * 128
                } else {
                    STAGE
                },
            );
            let at = [0, (i * 32 + rank * rows) as i32];
            let (blocks, barrier) = match mistake {
                Mistake::NoSuchBlock => (Some(all + 1), full),
                Mistake::NobodyAtAll => (Some(0), full),
                Mistake::OtherBlocksBarrier => (None, ctx::cluster_map(full, (rank + 1) % size)),
                _ => (Some(all), full),
            };
            // SAFETY: the map is of live memory.
            unsafe { ctx::tma_load(s * STAGE + rank * rows * 128, map, &at, barrier, blocks) };
        }
        if t / 32 == 1 {
            ctx::mbarrier_wait(full, parity);
            let words = (ctx::lane_id()..STAGE / 4).step_by(32);
            let sum = words
                .map(|w| u64::from(ctx::shared_load::<u32>(s * STAGE + 4 * w)) * u64::from(w + 1))
                .sum::<u64>();
            ctx::sync_warp(u32::MAX);
            if readers == 1 {
                if ctx::lane_id() == 0 {
                    ctx::mbarrier_arrive(empty, 0);
                }
            } else if ctx::lane_id() < size {
                ctx::mbarrier_arrive(ctx::cluster_map(empty, ctx::lane_id()), 0);
            }
            let place = ((ctx::block_idx().x * ROUNDS + i) * 32 + ctx::lane_id()) as usize;
            // SAFETY: one number a lane, block and round.
            unsafe { ctx::store(out.at(place), sum) };
        }
        if mistake == Mistake::EndsEarly && rank == 1 {
            return;
        }
    }
    meet();
}

fn meet() {
    ctx::cluster_arrive();
    ctx::cluster_wait();
}

fn run(cluster: u32, schedule: Schedule, mistake: Mistake) -> Result<(), SimError> {
    let values: Vec<u32> = (0..ROUNDS * STAGE / 4).map(|i| i.wrapping_mul(2654435761)).collect();
    let tensor = Mem::of(&values, "tensor");
    let map = Map {
        base: tensor.0 as u64,
        element_bytes: 4,
        rank: 2,
        sizes: [32, u64::from(ROUNDS * 32), 1],
        strides: [128, 0],
        tile: [32, 32 / cluster, 1],
        swizzle: Swizzle::B128,
    }
    .encode();
    let out = Mem::<u64>::raw((2 * cluster * ROUNDS * 32) as usize, "out");
    let launch = Launch {
        cluster,
        schedule,
        ..common::blocks(2 * cluster, 64, EMPTY + 8 * STAGES)
    };
    launch.run(&|| kernel(&map, &out, mistake))?;
    // Word w of shared memory, after the swizzle, in the order in which the lanes added them.
    let word = |round: u32, w: u32| values[(round * STAGE / 4 + Swizzle::B128.apply(4 * w) / 4) as usize];
    for (i, sum) in out.get().iter().enumerate() {
        let (round, lane) = (i as u32 / 32 % ROUNDS, i as u32 % 32);
        let words = (lane..STAGE / 4).step_by(32);
        let want: u64 = words.map(|w| u64::from(word(round, w)) * u64::from(w + 1)).sum();
        assert_eq!(
            *sum,
            want,
            "block {}, round {round}, lane {lane}",
            i as u32 / 32 / ROUNDS
        );
    }
    Ok(())
}

#[test]
fn every_block_gets_every_part() {
    for cluster in [1, 2, 4, 8] {
        for schedule in (0..12).map(Schedule::Seeded).chain([Schedule::InOrder]) {
            assert_eq!(run(cluster, schedule, Mistake::None), Ok(()), "{schedule:?}");
        }
    }
}

#[test]
fn every_mistake_is_found() {
    use ErrorKind::{AsyncNotWaited, BadArgument, BadBarrier, SharedRace, Uninitialized, WrongByteCount};
    let fails = |mistake: Mistake, kinds: &[ErrorKind], message: &str| {
        for schedule in (0..8).map(Schedule::Seeded).chain([Schedule::InOrder]) {
            let error = run(2, schedule, mistake).expect_err(message);
            assert!(
                kinds.contains(&error.kind) && error.message.contains(message),
                "{error}"
            );
        }
    };
    fails(
        Mistake::ReleasedHereOnly,
        &[SharedRace, AsyncNotWaited, WrongByteCount],
        "",
    );
    // Its phase is over while parts are missing, or gets more than it was told.
    fails(
        Mistake::OwnBytesOnly,
        &[WrongByteCount, AsyncNotWaited, Uninitialized],
        "",
    );
    fails(Mistake::NoMeeting, &[BadBarrier, SharedRace], "");
    fails(Mistake::EndsEarly, &[AsyncNotWaited, BadBarrier, WrongByteCount], "");
    fails(Mistake::NoSuchBlock, &[BadArgument], "of a cluster of 2");
    fails(Mistake::NobodyAtAll, &[BadArgument], "the mask is 0");
    fails(Mistake::OtherBlocksBarrier, &[BadArgument], "it must be the same");
}
