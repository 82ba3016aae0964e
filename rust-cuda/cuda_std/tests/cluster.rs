//! Kernels of clusters, in the device language: rows that one block loads for all, and sums over each other's shared memory.

mod common;

use common::Buffer;
use cuda_std::cluster::{self, ClusterShared};
use cuda_std::mbarrier::{Barrier, Barriers, Stage, fence_init};
use cuda_std::shared::{self, Shared};
use cuda_std::tma::{self, Hint, TensorMap};
use cuda_std::{thread, warp};
use simt::tma::{Map, Swizzle};
use simt::{ErrorKind, Launch, Schedule, SimError};

const STAGES: u32 = 2;
const STEPS: u32 = 7;
/// Elements of a row: 128 bytes.
const COLUMNS: u32 = 32;
const STAGE_BYTES: u32 = 8 * 128;
const BARRIERS_AT: u32 = STAGES * STAGE_BYTES;

fn launch(cluster: u32, schedule: Schedule, body: &(dyn Fn() + Sync)) -> Result<(), SimError> {
    let launch = Launch {
        kernel: "test",
        grid: (2 * cluster).into(),
        block: 64.into(),
        cluster,
        shared_bytes: BARRIERS_AT + 2 * Barriers::<STAGES>::BYTES,
        checks: true,
        schedule,
        workers: 2,
        tensor: Default::default(),
    };
    launch.run(body).map(|_| ())
}

#[track_caller]
fn everywhere(body: &(dyn Fn() + Sync)) {
    for cluster in [1, 2, 4, 8] {
        for schedule in (0..12).map(Schedule::Seeded).chain([Schedule::InOrder]) {
            if let Err(e) = launch(cluster, schedule, body) {
                panic!("cluster of {cluster}, {schedule:?}: {e}");
            }
        }
    }
}

/// Step k brings rows k * size .. of the tensor, one a block: block r loads row k * size + r for all blocks.
fn multicast(map: &TensorMap, meets: bool) {
    let full = Barriers::<STAGES>::at(Shared::at(BARRIERS_AT));
    let empty = Barriers::<STAGES>::at(Shared::at(BARRIERS_AT + Barriers::<STAGES>::BYTES));
    let (rank, size) = (cluster::rank(), cluster::size());
    if thread::thread_idx_x() == 0 {
        full.init_all(1);
        empty.init_all(size);
        fence_init();
    }
    cluster::sync();
    let mut stage = Stage::<STAGES>::first();
    let mut k = 0;
    while k < STEPS {
        let base = stage.index * STAGE_BYTES;
        let (filled, free) = (full.get(stage.index), empty.get(stage.index));
        if thread::thread_idx_x() == 0 {
            free.wait_cluster(stage.phase ^ 1);
            filled.arrive_expect(size * 128);
            let to = Shared::at(base + rank * 128);
            let row = (k * size + rank) as i32;
            let all = ((1u32 << size) - 1) as u16;
            // SAFETY: the stage is free in all blocks; the map is of live memory.
            unsafe { tma::load_multicast(to, map, [0, row], filled, all, Hint::Normal) };
        } else if thread::thread_idx_x() >= 32 {
            filled.wait(stage.phase);
            let lane = warp::lane_id();
            let mut r = 0;
            while r < size {
                let at = Shared::<u32>::at(base + r * 128).add(lane);
                assert_eq!(at.load(), (k * size + r) * COLUMNS + lane);
                r += 1;
            }
            if meets {
                // SAFETY: the whole warp is here.
                unsafe { warp::sync_warp(u32::MAX) };
            }
            if lane < size {
                free.arrive_at(lane);
            }
        }
        stage.advance();
        k += 1;
    }
    // Others may still arrive at this block's barriers.
    cluster::sync();
}

fn with_rows(run: impl Fn(&TensorMap)) {
    let values: Vec<u32> = (0..STEPS * 8 * COLUMNS).collect();
    let rows = Buffer::new(&values);
    let map = Map {
        base: rows.ptr() as u64,
        element_bytes: 4,
        rank: 2,
        sizes: [COLUMNS.into(), (STEPS * 8).into(), 1],
        strides: [128, 0],
        tile: [COLUMNS, 1, 1],
        swizzle: Swizzle::None,
    };
    run(&TensorMap { words: map.encode() });
}

#[test]
fn rows_for_all_blocks() {
    with_rows(|map| everywhere(&|| multicast(map, true)));
}

#[test]
fn a_stage_is_freed_by_those_who_read_it() {
    // Each lane tells one block that the stage is free, of reads that its warp's other lanes may still have to make.
    with_rows(|map| {
        let e = launch(2, Schedule::InOrder, &|| multicast(map, false)).unwrap_err();
        assert_eq!(e.kind, ErrorKind::SharedRace, "{e}");
        assert!(e.message.contains("read it at"), "{e}");
    });
}

#[test]
fn sums_over_the_cluster() {
    everywhere(&|| {
        let mine = shared::dynamic::<u32>().add(thread::thread_idx_x());
        mine.store(cluster::rank() + 1);
        cluster::arrive();
        cluster::wait();
        let mut sum = 0;
        let mut r = 0;
        while r < cluster::size() {
            let next = (cluster::rank() + r) % cluster::size();
            sum += ClusterShared::of(mine, next).load();
            r += 1;
        }
        assert_eq!(sum, cluster::size() * (cluster::size() + 1) / 2);
        cluster::sync();
        ClusterShared::of(mine, (cluster::rank() + 1) % cluster::size()).store(sum);
        cluster::sync();
        assert_eq!(mine.load(), sum);
    });
}

#[test]
fn a_barrier_ends_and_its_place_is_used_again() {
    everywhere(&|| {
        let barrier = Barrier::at(Shared::at(BARRIERS_AT));
        let mut round = 0;
        while round < 3 {
            if thread::thread_idx_x() == 0 {
                barrier.init(64);
            }
            thread::sync_threads();
            barrier.arrive();
            while !barrier.test(0) {}
            thread::sync_threads();
            if thread::thread_idx_x() == 63 {
                barrier.invalidate();
                Shared::<u32>::at(barrier.addr()).store(round);
            }
            thread::sync_threads();
            assert_eq!(Shared::<u32>::at(barrier.addr()).load(), round);
            thread::sync_threads();
            round += 1;
        }
    });
}
