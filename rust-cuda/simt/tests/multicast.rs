//! Tiles that one block of a cluster loads for all, in rings whose stages are free when all blocks say so.

mod common;

use common::Mem;
use simt::tma::{Map, Swizzle};
use simt::{ErrorKind, Launch, LaunchStats, Schedule, SimError, ctx};

const STAGES: u32 = 3;
const STEPS: u32 = 10;
const FULL: u32 = 0;
const EMPTY: u32 = 64;
const DATA: u32 = 1024;
/// A tile: rows of 64 bytes.
const ROW: u32 = 64;

/// What goes wrong, in the kernel below.
#[derive(Clone, Copy, PartialEq)]
enum Mistake {
    Nothing,
    /// A block says only to itself that a stage is free.
    FreesItsOwn,
    /// A block expects only the rows that it loads itself.
    ExpectsItsOwn,
    /// Blocks end while others may still send them rows and arrivals.
    EndsEarly,
    /// The cluster does not meet after the barriers are made.
    StartsEarly,
}

/// Each step brings one row for each block of the cluster; block r loads row r of the step, for all.
fn kernel(map: &[u64; 16], rows: &Mem<u8>, mistake: Mistake) {
    let (rank, size) = (ctx::cluster_rank(), ctx::cluster_size());
    let tid = ctx::thread_idx().x;
    if tid == 0 {
        for s in 0..STAGES {
            ctx::mbarrier_init(FULL + 8 * s, 1);
            ctx::mbarrier_init(EMPTY + 8 * s, if mistake == Mistake::FreesItsOwn { 1 } else { size });
        }
        ctx::fence_mbarrier_init();
    }
    match mistake {
        Mistake::StartsEarly => ctx::sync_threads(),
        _ => meet(),
    }
    for k in 0..STEPS {
        let (s, phase) = (k % STAGES, (k / STAGES) & 1);
        let stage = DATA + 8 * ROW * s;
        if tid == 0 {
            ctx::mbarrier_wait(EMPTY + 8 * s, phase ^ 1);
            let announced = if mistake == Mistake::ExpectsItsOwn { 1 } else { size };
            ctx::mbarrier_arrive(FULL + 8 * s, announced * ROW);
            let at = [0, (k * size + rank) as i32];
            let all = (1 << size) - 1;
            // SAFETY: the map is of live memory.
            unsafe { ctx::tma_load(stage + ROW * rank * 2, map, &at, FULL + 8 * s, Some(all)) };
        } else if tid >= 32 {
            ctx::mbarrier_wait(FULL + 8 * s, phase);
            for r in 0..size {
                let l = tid % 32;
                let byte = ctx::shared_load::<u8>(stage + ROW * r * 2 + l);
                let from = ((k * size + r) * ROW + l) as usize;
                // SAFETY: inside the allocation.
                assert_eq!(byte, unsafe { ctx::load(rows.at(from)) });
            }
            ctx::sync_warp(u32::MAX);
            // One lane tells each block of the cluster.
            if mistake == Mistake::FreesItsOwn {
                if tid == 32 {
                    ctx::mbarrier_arrive(EMPTY + 8 * s, 0);
                }
            } else if tid - 32 < size {
                ctx::mbarrier_arrive(ctx::cluster_map(EMPTY + 8 * s, tid - 32), 0);
            }
        }
    }
    if mistake != Mistake::EndsEarly {
        meet();
    }
}

fn meet() {
    ctx::cluster_arrive();
    ctx::cluster_wait();
}

fn run(size: u32, schedule: Schedule, checks: bool, mistake: Mistake) -> Result<LaunchStats, SimError> {
    let bytes: Vec<u8> = (0..STEPS * size * ROW).map(|i| (i * 7 + i / 64) as u8).collect();
    let rows = Mem::of(&bytes, "rows");
    let map = Map {
        base: rows.0 as u64,
        element_bytes: 1,
        rank: 2,
        sizes: [ROW.into(), (STEPS * size).into(), 1],
        strides: [ROW.into(), 0],
        tile: [ROW, 1, 1],
        swizzle: Swizzle::None,
    };
    let map = map.encode();
    Launch {
        schedule,
        checks,
        cluster: size,
        ..common::blocks(2 * size, 64, 4096)
    }
    .run(&|| kernel(&map, &rows, mistake))
}

#[test]
fn rows_for_all_blocks() {
    for size in [1, 2, 4] {
        for checks in [true, false] {
            run(size, Schedule::InOrder, checks, Mistake::Nothing).unwrap();
            for seed in 0..20 {
                let result = run(size, Schedule::Seeded(seed), checks, Mistake::Nothing);
                assert!(result.is_ok(), "seed {seed}: {}", result.unwrap_err());
            }
        }
    }
}

/// The kinds of errors in order and under seeds; a mistake of timing need not show in every schedule.
fn kinds(mistake: Mistake) -> Vec<ErrorKind> {
    let schedules = (0..30).map(Schedule::Seeded).chain([Schedule::InOrder]);
    let errors = schedules.filter_map(|s| run(2, s, true, mistake).err());
    errors.map(|e| e.kind).collect()
}

#[test]
fn mistakes_of_clusters() {
    let early = kinds(Mistake::StartsEarly);
    assert_eq!(early.len(), 31);
    assert!(
        early
            .iter()
            .all(|k| matches!(k, ErrorKind::SharedRace | ErrorKind::BadBarrier)),
        "{early:?}"
    );
    let own = kinds(Mistake::FreesItsOwn);
    assert_eq!(own.len(), 31);
    // The row that is overwritten was read, or its copy waited for, by threads that nothing orders before.
    assert!(
        own.iter()
            .all(|k| matches!(k, ErrorKind::SharedRace | ErrorKind::AsyncNotWaited)),
        "{own:?}"
    );
    let expects = kinds(Mistake::ExpectsItsOwn);
    assert_eq!(expects.len(), 31);
    // The phase is over with the first row, and the other is read before it is there, or both have come and are too many.
    let of_bytes = [
        ErrorKind::WrongByteCount,
        ErrorKind::AsyncNotWaited,
        ErrorKind::Uninitialized,
    ];
    assert!(expects.iter().all(|k| of_bytes.contains(k)), "{expects:?}");
    let ends = kinds(Mistake::EndsEarly);
    assert!(ends.contains(&ErrorKind::BadBarrier), "{ends:?}");
}
