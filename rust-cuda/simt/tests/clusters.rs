//! Clusters: blocks that run together, their barrier, each other's shared memory and barriers in it.

mod common;

use common::everywhere;
use simt::{ErrorKind, Launch, LaunchStats, SimError, ctx};

fn clusters(grid: u32, cluster: u32, threads: u32) -> Launch<'static> {
    Launch {
        cluster,
        ..common::blocks(grid, threads, 2048)
    }
}

#[track_caller]
fn bad(result: Result<LaunchStats, SimError>, kind: ErrorKind, marker: &str) -> SimError {
    common::assert_error(result, kind, file!(), include_str!("clusters.rs"), marker)
}

fn tid() -> u32 {
    ctx::thread_idx().x
}

fn cluster_sync() {
    ctx::cluster_arrive();
    ctx::cluster_wait();
}

#[test]
fn blocks_know_their_place() {
    for cluster in [1, 2, 4, 8] {
        let launch = clusters(16, cluster, 40);
        everywhere(launch, &|| {
            assert_eq!(ctx::cluster_size(), cluster);
            assert_eq!(ctx::cluster_rank(), ctx::block_idx().x % cluster);
            assert_eq!(ctx::warp_id(), tid() / 32);
            assert_eq!(ctx::lane_id(), tid() % 32);
            assert_eq!(
                ctx::sync_threads_reduce(tid() < 3 + ctx::block_idx().x),
                3 + ctx::block_idx().x
            );
            if tid() < 32 {
                assert_eq!(ctx::warp_exchange("shuffle", u32::MAX, tid(), |l| l.get(5)), 5);
            }
            cluster_sync();
        });
        let stats = launch.run(&|| ()).unwrap();
        assert_eq!((stats.blocks, stats.threads), (16, 16 * 40));
    }
    // The grid's other dimensions do not belong to clusters.
    let launch = Launch {
        grid: (4, 3).into(),
        ..clusters(4, 2, 1)
    };
    everywhere(launch, &|| assert_eq!(ctx::cluster_rank(), ctx::block_idx().x % 2));
}

#[test]
fn sums_through_each_others_memory() {
    let body = || {
        let (rank, size) = (ctx::cluster_rank(), ctx::cluster_size());
        ctx::shared_store(tid() * 4, 1000 * rank + tid());
        cluster_sync();
        let mut sum = 0;
        for r in 0..size {
            let there = ctx::cluster_map((63 - tid()) * 4, r);
            sum += ctx::cluster_load::<u32>(there);
        }
        assert_eq!(sum, 1000 * (size * (size - 1) / 2) + size * (63 - tid()));
        // Everyone has read before anyone writes, and nobody ends before all have written.
        cluster_sync();
        ctx::cluster_store(ctx::cluster_map(tid() * 4, (rank + 1) % size), rank);
        cluster_sync();
        assert_eq!(ctx::shared_load::<u32>(tid() * 4), (rank + size - 1) % size);
    };
    for size in [1, 2, 3, 8] {
        everywhere(clusters(size * 2, size, 64), &body);
    }
}

/// A ring: block r fills the stages of block r + 1, which says through a barrier of block r when a stage is free.
#[test]
fn rings_through_the_cluster() {
    const STAGES: u32 = 3;
    const FULL: u32 = 0;
    const EMPTY: u32 = 64;
    const DATA: u32 = 256;
    let body = || {
        let (rank, size) = (ctx::cluster_rank(), ctx::cluster_size());
        if tid() == 0 {
            for s in 0..STAGES {
                ctx::mbarrier_init(FULL + 8 * s, 32);
                ctx::mbarrier_init(EMPTY + 8 * s, 1);
            }
            ctx::fence_mbarrier_init();
        }
        cluster_sync();
        let (next, last) = ((rank + 1) % size, (rank + size - 1) % size);
        for k in 0..11 {
            let (s, phase) = (k % STAGES, (k / STAGES) & 1);
            let at = DATA + 128 * s + 4 * (tid() % 32);
            if tid() < 32 {
                ctx::mbarrier_wait(EMPTY + 8 * s, phase ^ 1);
                ctx::cluster_store(ctx::cluster_map(at, next), 100 * rank + k);
                ctx::mbarrier_arrive(ctx::cluster_map(FULL + 8 * s, next), 0);
            } else {
                ctx::mbarrier_wait(FULL + 8 * s, phase);
                assert_eq!(ctx::shared_load::<u32>(at), 100 * last + k);
                ctx::sync_warp(u32::MAX);
                if tid() == 32 {
                    ctx::mbarrier_arrive(ctx::cluster_map(EMPTY + 8 * s, last), 0);
                }
            }
        }
        cluster_sync();
    };
    for size in [1, 2, 5] {
        everywhere(clusters(size, size, 64), &body);
    }
}

#[test]
fn accesses_without_order() {
    let two = |body: &(dyn Fn() + Sync)| clusters(2, 2, 32).run(body);
    let e = bad(
        two(&|| {
            ctx::shared_store(tid() * 4, 1u32);
            ctx::cluster_load::<u32>(ctx::cluster_map(tid() * 4, 1)); // <- not started
        }),
        ErrorKind::SharedRace,
        "not started",
    );
    assert!(e.message.contains("may not have started"), "{e}");
    let e = bad(
        two(&|| {
            cluster_sync();
            ctx::shared_store(tid() * 4, 1u32);
            ctx::warp_exchange("shuffle", u32::MAX, (), |_| ());
            ctx::sync_threads();
            if ctx::cluster_rank() == 0 {
                ctx::cluster_load::<u32>(ctx::cluster_map(tid() * 4, 1)); // <- no cluster barrier
            }
            cluster_sync();
        }),
        ErrorKind::SharedRace,
        "no cluster barrier",
    );
    assert!(e.message.starts_with("in block (1, 0, 0): shared load"), "{e}");
    assert!(e.message.contains("of block (1, 0, 0) wrote it"), "{e}");
    assert_eq!(e.block.x, 0);
    // An arrival orders nothing for those who do not wait.
    bad(
        two(&|| {
            cluster_sync();
            if ctx::cluster_rank() == 1 {
                ctx::shared_store(tid() * 4, 1u32);
            }
            ctx::cluster_arrive();
            if ctx::cluster_rank() == 0 {
                ctx::cluster_load::<u32>(ctx::cluster_map(tid() * 4, 1)); // <- only arrived
            }
            ctx::cluster_wait();
        }),
        ErrorKind::SharedRace,
        "only arrived",
    );
    let e = bad(
        two(&|| {
            cluster_sync();
            if ctx::cluster_rank() == 0 {
                ctx::cluster_store(ctx::cluster_map(0, 1), 1u32); // <- block has ended
            }
        }),
        ErrorKind::UseAfterFree,
        "block has ended",
    );
    assert!(e.message.contains("which has ended"), "{e}");
    bad(
        two(&|| {
            cluster_sync();
            ctx::cluster_load::<u32>(ctx::cluster_map(0, 2)); // <- third of two
        }),
        ErrorKind::BadArgument,
        "third of two",
    );
    bad(
        two(&|| {
            cluster_sync();
            ctx::cluster_load::<u32>(ctx::cluster_map(2048, 1)); // <- past the end
        }),
        ErrorKind::OutOfBounds,
        "past the end",
    );
}

#[test]
fn the_clusters_barrier() {
    let two = |body: &(dyn Fn() + Sync)| clusters(2, 2, 64).run(body);
    // Threads that have ended are not waited for.
    everywhere(clusters(4, 2, 64), &|| {
        if tid() >= 32 || ctx::cluster_rank() == 0 {
            cluster_sync();
        }
    });
    everywhere(clusters(2, 1, 64), &|| {
        if tid().is_multiple_of(3) {
            cluster_sync();
            cluster_sync();
        }
    });
    let e = bad(
        two(&|| {
            if tid().is_multiple_of(2) {
                ctx::cluster_arrive();
            } else {
                ctx::cluster_arrive(); // <- lanes apart
            }
            ctx::cluster_wait();
        }),
        ErrorKind::PartialBarrier,
        "lanes apart",
    );
    assert!(e.message.contains("other lanes of this warp"), "{e}");
    let e = bad(
        two(&|| {
            if ctx::cluster_rank() == 0 {
                ctx::cluster_arrive();
                ctx::cluster_wait(); // <- one block waits
            } else if tid() < 32 {
                ctx::barrier_sync(1, 64);
            } else {
                cluster_sync();
            }
        }),
        ErrorKind::PartialBarrier,
        "one block waits",
    );
    assert!(e.message.contains("barrier_sync(1, 64)"), "{e}");
    bad(
        two(&|| {
            ctx::cluster_arrive();
            ctx::cluster_arrive(); // <- twice
        }),
        ErrorKind::PartialBarrier,
        "twice",
    );
    bad(
        two(&|| {
            ctx::cluster_wait(); // <- not arrived
        }),
        ErrorKind::PartialBarrier,
        "not arrived",
    );
}

#[test]
fn barriers_of_other_blocks() {
    let two = |body: &(dyn Fn() + Sync)| clusters(2, 2, 32).run(body);
    let init = |fence: bool| {
        if tid() == 0 {
            ctx::mbarrier_init(0, 1);
            if fence {
                ctx::fence_mbarrier_init();
            }
        }
    };
    let e = bad(
        two(&|| {
            init(false);
            cluster_sync();
            if tid() == 0 {
                ctx::mbarrier_arrive(ctx::cluster_map(0, 1 - ctx::cluster_rank()), 0); // <- not fenced
            }
            cluster_sync();
        }),
        ErrorKind::BadBarrier,
        "not fenced",
    );
    assert!(e.message.contains("fence_mbarrier_init"), "{e}");
    let e = bad(
        two(&|| {
            init(true);
            ctx::sync_threads();
            if tid() == 0 && ctx::cluster_rank() == 1 {
                ctx::mbarrier_arrive(ctx::cluster_map(0, 0), 0); // <- not ordered
            }
            cluster_sync();
        }),
        ErrorKind::SharedRace,
        "not ordered",
    );
    assert!(e.message.contains("initialised the barrier at 0x0"), "{e}");
    let e = bad(
        two(&|| {
            init(true);
            cluster_sync();
            if tid() == 0 && ctx::cluster_rank() == 0 {
                ctx::mbarrier_arrive(ctx::cluster_map(0, 1), 0); // <- gone
            }
        }),
        ErrorKind::BadBarrier,
        "gone",
    );
    assert!(e.message.contains("have ended"), "{e}");
    // Waiting is for a block's own barriers.
    bad(
        two(&|| {
            init(true);
            cluster_sync();
            ctx::mbarrier_wait(ctx::cluster_map(0, 1), 1); // <- waits elsewhere
        }),
        ErrorKind::BadArgument,
        "waits elsewhere",
    );
}

#[test]
fn launches_that_are_refused() {
    for (grid, cluster, threads, words) in [
        (4, 0, 32, "1 to 8 are possible"),
        (16, 16, 32, "1 to 8 are possible"),
        (6, 4, 32, "multiple"),
        (8, 4, 544, "at most 64 warps"),
    ] {
        let e = clusters(grid, cluster, threads).run(&|| ()).unwrap_err();
        assert_eq!(e.kind, ErrorKind::LaunchConfig, "{e}");
        assert!(e.message.contains(words), "{e}");
    }
}
