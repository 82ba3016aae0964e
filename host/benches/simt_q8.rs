//! Speed of the simulator on the one-token Q8_0 kernel: multiply-adds a second on one core, checks off and on.
//!
//! The aim: 200 million a second with the checks off, 20 million with all of them on.

// criterion_group! makes a function without documentation.
#![allow(missing_docs)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use host::device::{Device, SimtOptions};
use host::op::{Case, Operation, Order};
use host::ops::q8::Q8MatmulOp;

const N: u64 = 256;
const K: u64 = 4096;

fn one_token(c: &mut Criterion) {
    let case = Case::new("q8_matmul", "bench", "one_token", &[("n", N), ("k", K), ("n_tok", 1)]);
    let configs = Q8MatmulOp.configs();
    let canonical = |id: &String| configs.iter().any(|c| c.id == *id && c.order == Order::Canonical);
    let config = Q8MatmulOp
        .heuristic(&case, 132)
        .into_iter()
        .find(canonical)
        .expect("a config for one token");
    let mut group = c.benchmark_group("simt_q8_one_token");
    group.throughput(Throughput::Elements(N * K)).sample_size(10);
    for checks in [false, true] {
        let device = Device::simt_with(SimtOptions {
            checks,
            workers: 1,
            tensor: Default::default(),
            ..SimtOptions::default()
        });
        let prepared = Q8MatmulOp.prepare(&device, &case, 1, 1).expect("the case fits");
        let stream = device.stream().expect("a stream");
        let name = if checks { "checks_on" } else { "checks_off" };
        group.bench_function(BenchmarkId::new(name, &config), |b| {
            b.iter(|| prepared.launch(&config, &stream, 0).expect("the kernel runs"));
        });
    }
    group.finish();
}

criterion_group!(benches, one_token);
criterion_main!(benches);
