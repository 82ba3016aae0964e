//! Mistakes in the use of the copy engine.

mod common;

use common::{Mem, one_block};
use simt::tma::{Map, Swizzle};
use simt::{ErrorKind, SimError, ctx};

const FILE: &str = "rust-cuda/simt/tests/errors_bulk.rs";
const SHARED: u32 = 64 << 10;
/// Where the tests keep a barrier.
const BARRIER: u32 = SHARED - 8;

/// Thread 0 loads and waits, all meet.
fn load(map: &[u64; 16], at: &[i32], to: u32, bytes: u32) {
    if ctx::thread_idx().x == 0 {
        ctx::mbarrier_init(BARRIER, 1);
        ctx::fence_mbarrier_init();
        ctx::mbarrier_arrive(BARRIER, bytes);
        // SAFETY: the tests' maps are of live memory, or the point is that they are not.
        unsafe { ctx::tma_load(to, map, at, BARRIER, None) };
        ctx::mbarrier_wait(BARRIER, 0);
    }
    ctx::sync_threads();
}

/// A launch of 64 threads with a 64 x 32 tensor of 2 bytes an element, its map with tiles of 64 x 8, and its memory.
fn broken(body: impl Fn(&[u64; 16], &Mem<u16>) + Sync) -> Result<(), SimError> {
    let tensor = Mem::of(&[7u16; 64 * 32], "tensor");
    let words = map_of(&tensor).encode();
    one_block(64, SHARED).run(&|| body(&words, &tensor)).map(|_| ())
}

fn map_of(tensor: &Mem<u16>) -> Map {
    Map {
        base: tensor.0 as u64,
        element_bytes: 2,
        rank: 2,
        sizes: [64, 32, 1],
        strides: [128, 0],
        tile: [64, 8, 1],
        swizzle: Swizzle::B128,
    }
}

#[track_caller]
fn is(result: Result<(), SimError>, kind: ErrorKind, message: &str) {
    let error = result.expect_err(message);
    assert!(error.kind == kind && error.message.contains(message), "{error}");
    assert!(error.location.starts_with(FILE), "{error}");
}

#[test]
fn mistakes_in_loads() {
    use ErrorKind as E;
    is(
        broken(|_, _| load(&[1; 16], &[0, 0], 0, 1024)),
        E::BadArgument,
        "not a tensor map",
    );
    is(
        broken(|map, _| load(map, &[0], 0, 1024)),
        E::BadArgument,
        "1 coordinates for a tensor map of 2",
    );
    is(
        broken(|map, _| load(map, &[0, 0], 64, 1024)),
        E::Misaligned,
        "shared address 0x40 is no multiple of 128",
    );
    is(
        broken(|map, _| load(map, &[0, 0], SHARED - 512, 1024)),
        E::OutOfBounds,
        "the block has",
    );
    is(broken(|map, _| load(map, &[0, 0], 0, 1008)), E::WrongByteCount, "1008");
    is(broken(|map, _| load(map, &[0, 0], 0, 1040)), E::WrongByteCount, "1040");
    // A tensor that says it is larger than its memory, and one that is gone.
    let larger = broken(|_, tensor| {
        let sizes = [64, 33, 1];
        load(
            &Map {
                sizes,
                ..map_of(tensor)
            }
            .encode(),
            &[0, 30],
            0,
            1024,
        );
    });
    is(larger, E::OutOfBounds, "a tensor copy of 128 bytes");
    let gone = map_of(&Mem::of(&[7u16; 64 * 32], "gone")).encode();
    is(
        broken(|_, _| load(&gone, &[0, 0], 0, 1024)),
        E::UseAfterFree,
        "has been freed",
    );
    let unwritten = Mem::<u16>::raw(64 * 32, "unwritten");
    let unwritten = map_of(&unwritten).encode();
    is(
        broken(|_, _| load(&unwritten, &[0, 0], 0, 1024)),
        E::Uninitialized,
        "never written",
    );
    is(
        broken(|map, _| {
            if ctx::thread_idx().x == 0 {
                ctx::mbarrier_init(BARRIER, 1);
                ctx::fence_mbarrier_init();
                // SAFETY: the map is right, the mask is not.
                unsafe { ctx::tma_load(0, map, &[0, 0], BARRIER, Some(2)) };
            }
        }),
        E::BadArgument,
        "of a cluster of 1",
    );
}

/// Threads and copies at the same bytes.
#[test]
fn races_with_loads() {
    use ErrorKind as E;
    // Somebody wrote the destination and nothing orders that before the copy.
    let written = broken(|map, _| match ctx::thread_idx().x {
        0 => ctx::shared_store(96, 1u32),
        40 => start(map),
        _ => {}
    });
    is(written, E::SharedRace, "no barrier orders the two");
    // The destination is read before the wait, by the issuer and by another.
    for reader in [0, 1] {
        let read = broken(move |map, _| {
            if ctx::thread_idx().x == 0 {
                start(map);
            }
            ctx::sync_threads();
            if ctx::thread_idx().x == reader {
                ctx::shared_load::<u32>(128);
            }
        });
        is(read, E::AsyncNotWaited, "pending there");
    }
    // Only one thread waits, and the others read without a barrier behind it.
    let alone = broken(|map, _| {
        if ctx::thread_idx().x == 0 {
            start(map);
            ctx::mbarrier_wait(BARRIER, 0);
        }
        ctx::sync_warp(u32::MAX);
        // Warp 0 knows, warp 1 does not.
        ctx::shared_load::<u32>(128 + 4 * ctx::lane_id());
    });
    is(alone, E::AsyncNotWaited, "");
    // Nobody waits at all.
    let never = broken(|map, _| {
        if ctx::thread_idx().x == 0 {
            start(map);
        }
    });
    is(never, E::AsyncNotWaited, "the block ended while");
}

fn start(map: &[u64; 16]) {
    ctx::mbarrier_init(BARRIER, 1);
    ctx::fence_mbarrier_init();
    ctx::mbarrier_arrive(BARRIER, 1024);
    // SAFETY: the map is of live memory.
    unsafe { ctx::tma_load(0, map, &[0, 0], BARRIER, None) };
}

#[test]
fn mistakes_in_stores() {
    use ErrorKind as E;
    /// Everybody writes its part of a tile, with or without the fence; thread 0 stores it.
    fn store(map: &[u64; 16], fence: bool, meet: bool, then: impl Fn()) {
        let t = ctx::thread_idx().x;
        for i in 0..4 {
            ctx::shared_store(16 * t + 4 * i, t);
        }
        if fence {
            ctx::fence_proxy_async();
        }
        if meet {
            ctx::sync_threads();
        }
        if t == 0 {
            // SAFETY: the map is of live memory.
            unsafe { ctx::tma_store(map, &[0, 0], 0) };
            then();
        }
    }
    let done = || {
        ctx::bulk_commit();
        ctx::bulk_wait(0, true);
    };
    assert_eq!(broken(|map, _| store(map, true, true, done)), Ok(()));
    is(
        broken(|map, _| store(map, false, true, done)),
        E::NotFenced,
        "has not passed fence_async",
    );
    // Warp 0 writes, and warp 1, which runs after it, stores without having met it.
    let unmet = broken(|map, _| {
        let t = ctx::thread_idx().x;
        if t < 32 {
            (0..8).for_each(|i| ctx::shared_store(32 * t + 4 * i, t));
            ctx::fence_proxy_async();
        } else if t == 32 {
            // SAFETY: the map is of live memory.
            unsafe { ctx::tma_store(map, &[0, 0], 0) };
        }
    });
    is(unmet, E::SharedRace, "no barrier orders that before thread");
    is(
        broken(|map, _| store(map, true, true, || ())),
        E::AsyncNotWaited,
        "ended without waiting",
    );
    is(
        broken(|map, _| store(map, true, true, ctx::bulk_commit)),
        E::AsyncNotWaited,
        "ended without waiting",
    );
    // Its own thread, and another behind a barrier, overwrite what has not been read.
    is(
        broken(|map, _| store(map, true, true, || ctx::shared_store(64, 1u32))),
        E::AsyncNotWaited,
        "the product or store issued at",
    );
    let other = broken(|map, _| {
        store(map, true, true, ctx::bulk_commit);
        ctx::sync_threads();
        if ctx::thread_idx().x == 33 {
            ctx::shared_store(64, 1u32);
        }
        if ctx::thread_idx().x == 0 {
            ctx::bulk_wait(0, true);
        }
    });
    is(other, E::AsyncNotWaited, "the product or store issued at");
    // A group that is left under way.
    let left = broken(|map, _| {
        store(map, true, true, || {
            ctx::bulk_commit();
            ctx::bulk_commit();
            ctx::bulk_wait(2, true);
            ctx::shared_store(64, 1u32);
        });
    });
    is(left, E::AsyncNotWaited, "the product or store issued at");
    is(
        broken(|map, _| load_and_store_as(map, Swizzle::B64)),
        E::WrongSwizzle,
        "the 128-byte swizzle",
    );
    // SAFETY: what is wrong is found before any access.
    is(
        broken(|_, tensor| unsafe { ctx::bulk_store(tensor.at(0).cast(), 8, 16) }),
        E::Misaligned,
        "0x8",
    );
    // SAFETY: as above.
    is(
        broken(|_, tensor| unsafe { ctx::bulk_load(0, tensor.at(0).cast(), 24, BARRIER) }),
        E::BadArgument,
        "24 bytes",
    );
    // SAFETY: as above.
    is(
        broken(|_, tensor| unsafe { ctx::bulk_load(0, tensor.at(4).cast(), 16, BARRIER) }),
        E::Misaligned,
        "no multiple of 16",
    );
}

/// A tile loaded with one swizzle and stored with another.
fn load_and_store_as(map: &[u64; 16], swizzle: Swizzle) {
    load(map, &[0, 0], 0, 1024);
    if ctx::thread_idx().x == 0 {
        let other = Map {
            swizzle,
            tile: [swizzle.span().unwrap_or(16) / 2, 8, 1],
            ..Map::decode(map).unwrap()
        };
        // SAFETY: the map is of live memory.
        unsafe { ctx::tma_store(&other.encode(), &[0, 0], 0) };
    }
}

/// Copies to blocks that are not there, or on the barrier of another.
#[test]
fn mistakes_in_clusters() {
    let in_a_pair = |load: fn(&[u64; 16])| {
        let tensor = Mem::of(&[7u16; 64 * 32], "tensor");
        let words = map_of(&tensor).encode();
        let launch = simt::Launch {
            cluster: 2,
            ..common::blocks(2, 32, SHARED)
        };
        let body = || {
            if ctx::thread_idx().x == 0 {
                ctx::mbarrier_init(BARRIER, 1);
                ctx::fence_mbarrier_init();
            }
            ctx::cluster_arrive();
            ctx::cluster_wait();
            if ctx::thread_idx().x == 0 {
                load(&words);
            }
        };
        launch.run(&body).map(|_| ())
    };
    // SAFETY: the map is of live memory, here and below.
    let absent = in_a_pair(|map| unsafe { ctx::tma_load(0, map, &[0, 0], BARRIER, Some(0b110)) });
    is(absent, ErrorKind::BadArgument, "of a cluster of 2");
    // SAFETY: as above.
    let nobody = in_a_pair(|map| unsafe { ctx::tma_load(0, map, &[0, 0], BARRIER, Some(0)) });
    is(nobody, ErrorKind::BadArgument, "the mask is 0");
    let others = in_a_pair(|map| {
        let barrier = ctx::cluster_map(BARRIER, 1 - ctx::cluster_rank());
        // SAFETY: as above.
        unsafe { ctx::tma_load(0, map, &[0, 0], barrier, None) }
    });
    is(others, ErrorKind::BadArgument, "it must be the same");
}
