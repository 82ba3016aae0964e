//! A warp-specialised product as a tuned kernel has it: one thread keeps a ring of stages filled by tensor copies, a warpgroup
//! multiplies, and stores its tile by a tensor copy. The bytes are those of the k16 steps in ascending order, in any schedule; and
//! each step that a kernel can forget is an error.

mod common;

use common::{Buffer, Random};
use cuda_std::mbarrier::{Barriers, Stage, fence_init};
use cuda_std::shared::{self, Shared};
use cuda_std::tma::{self, Hint, TensorMap};
use cuda_std::wgmma::{self, Accumulator, Bf16, Descriptor, Land, Multiply, Swizzle};
use cuda_std::{proxy, thread, warp};
use simt::tensor::{Format, TensorCore, k16};
use simt::tma::Map;
use simt::{ErrorKind, Launch, Schedule, SimError};

/// Rows of A, rows of B and elements of k of a tile; stages of the ring.
const BM: u32 = 64;
const BN: u32 = 48;
const BK: u32 = 64;
const STAGES: u32 = 3;
const A_BYTES: u32 = BM * BK * 2;
const STAGE: u32 = A_BYTES + BN * BK * 2;
/// The tile of D, of 32 columns of f32 and then 16, in 128-byte rows; then the barriers.
const D_AT: u32 = STAGES * STAGE;
const BARRIERS_AT: u32 = D_AT + 2 * BM * 128;
const SHARED: u32 = BARRIERS_AT + 2 * Barriers::<STAGES>::BYTES;

/// What a kernel can forget.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    NoWaitForFull,
    NoWaitForEmpty,
    EmptyBeforeTheProductIsOver,
    TooFewBytes,
    TooManyBytes,
    NoWaitForTheProduct,
    NoFenceBeforeTheProduct,
    OtherSwizzle,
    NoFenceBeforeTheStore,
    NoWaitForTheStore,
    NoFenceAfterInit,
}

struct Maps {
    a: TensorMap,
    b: TensorMap,
    d: TensorMap,
}

/// One block: the tile of D at (BM * block.x, BN * block.y).
fn kernel(maps: &Maps, k: u32, mistake: Mistake) {
    let full = Barriers::<STAGES>::at(Shared::at(BARRIERS_AT));
    let empty = Barriers::<STAGES>::at(Shared::at(BARRIERS_AT + Barriers::<STAGES>::BYTES));
    let (row, column) = (thread::block_idx_x() * BM, thread::block_idx_y() * BN);
    if thread::thread_idx_x() == 0 {
        full.init_all(1);
        empty.init_all(1);
        if mistake != Mistake::NoFenceAfterInit {
            fence_init();
        }
    }
    thread::sync_threads();
    if thread::thread_idx_x() / 32 == 4 {
        if warp::lane_id() == 0 {
            producer(maps, k, (row, column), (full, empty), mistake);
        }
    } else {
        consumer(maps, k, (row, column), (full, empty), mistake);
    }
}

fn producer(
    maps: &Maps,
    k: u32,
    (row, column): (u32, u32),
    (full, empty): (Barriers<STAGES>, Barriers<STAGES>),
    mistake: Mistake,
) {
    let mut s = Stage::<STAGES>::first();
    for at in (0..k).step_by(BK as usize) {
        if mistake != Mistake::NoWaitForEmpty {
            empty.get(s.index).wait(s.phase ^ 1);
        }
        let bytes = match mistake {
            Mistake::TooFewBytes => STAGE - 16,
            Mistake::TooManyBytes => STAGE + 16,
            _ => STAGE,
        };
        full.get(s.index).arrive_expect(bytes);
        let to = shared::dynamic::<u8>().add(s.index * STAGE);
        // SAFETY: the stage is this producer's until its barrier's phase is over.
        unsafe {
            tma::load(to, &maps.a, [at as i32, row as i32], full.get(s.index), Hint::Normal);
            tma::load(
                to.add(A_BYTES),
                &maps.b,
                [at as i32, column as i32],
                full.get(s.index),
                Hint::Last,
            );
        }
        s.advance();
    }
}

fn consumer(
    maps: &Maps,
    k: u32,
    (row, column): (u32, u32),
    (full, empty): (Barriers<STAGES>, Barriers<STAGES>),
    mistake: Mistake,
) {
    let mut acc = Accumulator::<f32, { BN as usize / 2 }>::zero();
    let mut s = Stage::<STAGES>::first();
    for at in (0..k).step_by(BK as usize) {
        if mistake != Mistake::NoWaitForFull {
            full.get(s.index).wait(s.phase);
        }
        let tile = shared::dynamic::<u8>().add(s.index * STAGE);
        let swizzle = match mistake {
            Mistake::OtherSwizzle => Swizzle::B64,
            _ => Swizzle::B128,
        };
        let (a, b) = (
            Descriptor::k_major(tile, swizzle),
            Descriptor::k_major(tile.add(A_BYTES), swizzle),
        );
        if mistake != Mistake::NoFenceBeforeTheProduct {
            wgmma::fence();
        }
        for step in 0..BK / 16 {
            Multiply::<Bf16>::issue(&mut acc, a.advance(32 * step), b.advance(32 * step), at + step != 0);
        }
        wgmma::commit();
        let forgets = match mistake {
            Mistake::EmptyBeforeTheProductIsOver => true,
            Mistake::NoWaitForTheProduct => at + BK >= k,
            _ => false,
        };
        if !forgets {
            acc.wait::<0>();
        }
        // One thread may speak for all: the products of the warpgroup are over for it.
        if thread::thread_idx_x() == 0 {
            empty.get(s.index).arrive();
        }
        s.advance();
    }
    let (lane, w) = (warp::lane_id(), thread::thread_idx_x() / 32);
    for (i, &value) in acc.values().iter().enumerate() {
        let i = i as u32;
        let (y, x) = (16 * w + lane / 4 + 8 * (i / 2 % 2), i / 4 * 8 + 2 * (lane % 4) + i % 2);
        let place = x / 32 * BM * 128 + y * 128 + (((x % 32 / 4) ^ (y % 8)) * 4 + x % 4) * 4;
        Shared::<f32>::at(D_AT + place).store(value);
    }
    if mistake != Mistake::NoFenceBeforeTheStore {
        proxy::fence_async();
    }
    thread::barrier_sync::<1>(128);
    if thread::thread_idx_x() == 0 {
        for half in 0..2 {
            let (x, y) = ((column + 32 * half) as i32, row as i32);
            // SAFETY: written, fenced and met for above; the tile is this block's. The second half has columns of the next tile.
            unsafe { tma::store(&maps.d, [x, y], Shared::at(D_AT + half * BM * 128)) };
        }
        tma::commit();
        if mistake != Mistake::NoWaitForTheStore {
            tma::wait::<0>();
        }
    }
}

/// The matrices of a problem: A `[m][k]`, B `[n][k]`, D `[m][n]`, in rows of multiples of 16 bytes.
struct Problem {
    m: u32,
    n: u32,
    k: u32,
    pitch: u32,
    a: Vec<u16>,
    b: Vec<u16>,
}

impl Problem {
    fn new(m: u32, n: u32, k: u32, seed: u64) -> Problem {
        let mut random = Random(seed);
        // bf16 from 2^-4 to 2^3.
        let mut number = |_| (random.next() as u16 & 0x807f) | (123 + random.next() as u16 % 8) << 7;
        let pitch = k.next_multiple_of(8);
        Problem {
            m,
            n,
            k,
            pitch,
            a: (0..m * pitch).map(&mut number).collect(),
            b: (0..n * pitch).map(&mut number).collect(),
        }
    }

    fn run(&self, schedule: Schedule, mistake: Mistake) -> Result<Vec<f32>, SimError> {
        let (a, b) = (Buffer::new(&self.a), Buffer::new(&self.b));
        let d_pitch = self.n.next_multiple_of(4);
        let d = Buffer::new(&vec![-1f32; (self.m * d_pitch) as usize]);
        let map = |base: u64, element_bytes: u32, rows: u32, columns: u32, pitch: u32, tile: [u32; 2]| TensorMap {
            words: Map {
                base,
                element_bytes,
                rank: 2,
                sizes: [columns.into(), rows.into(), 1],
                strides: [u64::from(pitch * element_bytes), 0],
                tile: [tile[0], tile[1], 1],
                swizzle: simt::tma::Swizzle::B128,
            }
            .encode(),
        };
        let maps = Maps {
            a: map(a.ptr() as u64, 2, self.m, self.k, self.pitch, [BK, BM]),
            b: map(b.ptr() as u64, 2, self.n, self.k, self.pitch, [BK, BN]),
            d: map(d.ptr() as u64, 4, self.m, self.n, d_pitch, [32, BM]),
        };
        let launch = Launch {
            kernel: "test",
            grid: (self.m.div_ceil(BM), self.n.div_ceil(BN)).into(),
            block: 160.into(),
            cluster: 1,
            shared_bytes: SHARED,
            checks: true,
            schedule,
            workers: 2,
            tensor: TensorCore::HOPPER,
        };
        launch.run(&|| kernel(&maps, self.k, mistake))?;
        let d = d.read();
        Ok(d.chunks(d_pitch as usize)
            .flat_map(|row| row[..self.n as usize].to_vec())
            .collect())
    }

    fn want(&self) -> Vec<f32> {
        let rows = |x: &[u16]| -> Vec<Vec<[u16; 16]>> {
            let steps = |row: &[u16]| {
                let mut row = row[..self.k as usize].to_vec();
                row.resize(self.k.next_multiple_of(16) as usize, 0);
                row.chunks_exact(16).map(|c| c.try_into().unwrap()).collect()
            };
            x.chunks(self.pitch as usize).map(steps).collect()
        };
        let (a, b) = (rows(&self.a), rows(&self.b));
        let core = TensorCore::HOPPER;
        let dot =
            |a: &[[u16; 16]], b: &[[u16; 16]]| a.iter().zip(b).fold(0.0, |c, (a, b)| k16(core, Format::Bf16, a, b, c));
        a.iter()
            .flat_map(|a| b.iter().map(|b| dot(a, b)).collect::<Vec<_>>())
            .collect()
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn the_bytes_are_the_same_in_every_schedule() {
    // One tile of N: blocks of other tiles would write the same columns twice.
    for (i, (m, n, k)) in [(64, 48, 640), (70, 41, 200), (1, 8, 8), (130, 48, 72)]
        .into_iter()
        .enumerate()
    {
        let problem = Problem::new(m, n, k, i as u64);
        let want = bits(&problem.want());
        let seeds = if i == 0 { 20 } else { 4 };
        for schedule in (0..seeds).map(Schedule::Seeded).chain([Schedule::InOrder]) {
            let got = problem.run(schedule, Mistake::None).unwrap();
            assert!(bits(&got) == want, "{m} x {n} x {k}, {schedule:?}");
        }
    }
}

/// The error of a kernel with a mistake, the same kind in every schedule that finds it; in order it has to be found.
#[track_caller]
fn fails(mistake: Mistake, kinds: &[ErrorKind], message: &str) {
    let problem = Problem::new(64, 48, 640, 1);
    let first = problem.run(Schedule::InOrder, mistake).map(|_| ()).expect_err(message);
    assert!(kinds.contains(&first.kind), "{first}");
    assert!(first.message.contains(message), "{first}");
    for seed in 0..10 {
        let error = problem
            .run(Schedule::Seeded(seed), mistake)
            .map(|_| ())
            .expect_err(message);
        assert!(kinds.contains(&error.kind), "{error}");
    }
}

#[test]
fn every_mistake_is_found() {
    use ErrorKind::*;
    fails(Mistake::NoWaitForFull, &[AsyncNotWaited, Uninitialized], "");
    fails(Mistake::NoWaitForEmpty, &[AsyncNotWaited, BadBarrier], "");
    fails(Mistake::EmptyBeforeTheProductIsOver, &[AsyncNotWaited], "");
    fails(Mistake::TooFewBytes, &[WrongByteCount], "bytes");
    fails(Mistake::TooManyBytes, &[WrongByteCount], "bytes");
    fails(Mistake::NoWaitForTheProduct, &[AsyncNotWaited], "accumulator");
    fails(Mistake::NoFenceBeforeTheProduct, &[BadArgument], "no wgmma fence");
    fails(Mistake::OtherSwizzle, &[WrongSwizzle, BadArgument], "swizzle");
    fails(Mistake::NoFenceBeforeTheStore, &[NotFenced], "fence_async");
    fails(Mistake::NoWaitForTheStore, &[AsyncNotWaited], "without waiting");
    fails(Mistake::NoFenceAfterInit, &[BadBarrier], "fence");
}
