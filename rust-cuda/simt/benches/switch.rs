//! What the simulator costs: a rendezvous, a barrier, a thread that never waits, and checked and unchecked accesses.
//! Times are CPU time of the one worker, so other load on the machine disturbs them little; throughput counts one thread
//! and operation as an element.
#![allow(missing_docs, reason = "criterion_group makes a public function")]

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use simt::{Launch, Schedule, ctx, memory};
use std::hint::black_box;
use std::time::Duration;

const THREADS: u32 = 256;
const BLOCKS: u32 = 8;
const ROUNDS: u32 = 64;

fn launch(checks: bool) -> Launch<'static> {
    Launch {
        kernel: "bench",
        grid: BLOCKS.into(),
        block: THREADS.into(),
        cluster: 1,
        shared_bytes: THREADS * 16,
        checks,
        schedule: Schedule::InOrder,
        workers: 1,
        tensor: Default::default(),
    }
}

/// The CPU time of the calling thread.
struct ThreadTime;

impl Measurement for ThreadTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `t` is a timespec to be filled in.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
        Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
    }

    fn end(&self, start: Duration) -> Duration {
        self.start() - start
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, v: &Duration) -> f64 {
        v.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn bench(c: &mut Criterion<ThreadTime>) {
    let mut group = c.benchmark_group("switch");
    group.sample_size(20).measurement_time(Duration::from_secs(1));
    group.warm_up_time(Duration::from_millis(300));
    let src = memory::alloc((THREADS * 16) as usize, "src").expect("4 KiB of device memory") as usize;
    // SAFETY: inside the allocation.
    unsafe { memory::fill(src as *mut u8, 1, (THREADS * 16) as usize) };
    for checks in [false, true] {
        let name = if checks { "checked" } else { "unchecked" };
        let mut run = |what: &str, rounds: u32, body: &(dyn Fn() + Sync)| {
            group.throughput(Throughput::Elements(u64::from(BLOCKS * THREADS * rounds)));
            group.bench_function(BenchmarkId::new(what, name), |b| b.iter(|| launch(checks).run(body)));
        };
        run("exchange", ROUNDS, &|| {
            let mut v = ctx::thread_idx().x;
            for _ in 0..ROUNDS {
                v += ctx::warp_exchange("shuffle_xor", u32::MAX, v, |l| l.get(ctx::lane_id() ^ 1));
            }
            black_box(v);
        });
        run("barrier", ROUNDS, &|| {
            for _ in 0..ROUNDS {
                ctx::sync_threads();
            }
        });
        run("thread", 1, &|| {
            black_box(ctx::thread_idx());
        });
        run("load16", ROUNDS, &|| {
            let mut v = 0;
            for i in 0..ROUNDS {
                let p = (src as *const u128).wrapping_add((ctx::thread_idx().x ^ i) as usize);
                // SAFETY: inside the allocation.
                v ^= unsafe { ctx::load(p) };
            }
            black_box(v);
        });
        run("shared16", ROUNDS, &|| {
            let at = ctx::thread_idx().x * 16;
            ctx::shared_store(at, 1u128);
            let mut v = 0;
            for _ in 0..ROUNDS {
                v ^= black_box(ctx::shared_load::<u128>(at));
            }
            black_box(v);
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(ThreadTime);
    targets = bench
}
criterion_main!(benches);
