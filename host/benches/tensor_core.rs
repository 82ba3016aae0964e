//! What an output of a k16 step costs on one core: in the simulator's model (as part of a 16 x 8 product) and in the reference's
//! matrix product. Throughput counts one output and step as an element. Times are CPU time of the one thread, so other load on the
//! machine disturbs them little.
#![allow(missing_docs, reason = "criterion_group makes a public function")]

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;
use host::op::random::Random;
use host::reference::mma;
use simt::tensor::{self, Format, TensorCore};
use std::hint::black_box;
use std::time::Duration;

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
    let random = Random::new(1, "bench");
    let value = |i: usize| bf16::from_f32(random.normal(i as u64));
    let mut group = c.benchmark_group("output_step");
    let a = std::array::from_fn(|m| std::array::from_fn(|k| value(m * 16 + k).to_bits()));
    let b = std::array::from_fn(|n| std::array::from_fn(|k| value(1000 + n * 16 + k).to_bits()));
    let zeros = [[0.0; 8]; 16];
    group.throughput(Throughput::Elements(128));
    for (name, core) in [
        ("simulator_hopper", TensorCore::HOPPER),
        ("simulator_ampere", TensorCore::AMPERE),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| tensor::m16n8k16(core, Format::Bf16, black_box(&a), black_box(&b), &zeros));
        });
    }
    group.bench_function("simulator_one_by_one", |bencher| {
        let rows = || (0..16).flat_map(|m| (0..8).map(move |n| (m, n)));
        bencher.iter(|| {
            rows()
                .map(|(m, n)| tensor::k16(TensorCore::HOPPER, Format::Bf16, black_box(&a[m]), &b[n], 0.0))
                .sum::<f32>()
        });
    });
    let factors = |row: &[u16; 16]| mma::factors(&row.map(bf16::from_bits));
    let (row, column) = (factors(&a[0]), factors(&b[0]));
    group.throughput(Throughput::Elements(1));
    group.bench_function("reference_step", |bencher| {
        bencher.iter(|| mma::step(mma::Arch::Hopper, black_box(&row), black_box(&column), 0.0));
    });
    // Small enough that one thread does it all.
    let (m, n, k) = (15, 16, 1024);
    let matrix = |rows: usize, from: usize| -> Vec<bf16> { (0..rows * k).map(|i| value(from + i)).collect() };
    let (a, b) = (matrix(m, 5000), matrix(n, 900_000));
    group.throughput(Throughput::Elements((m * n * k / 16) as u64));
    group.bench_function("reference_gemm", |bencher| {
        bencher.iter(|| mma::gemm(black_box(&a), black_box(&b), k));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(ThreadTime);
    targets = bench
}
criterion_main!(benches);
