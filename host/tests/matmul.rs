//! Byte equality of the matrix products on the simulator: kernel and CPU reference, rows alone and in a batch.

use host::device::{Device, SimtOptions};
use host::op::spec::PLAIN;
use host::op::{Case, Expected, Operation, check_against};
use host::ops::by_name;

fn simulator(seed: Option<u64>) -> Device {
    let default = SimtOptions::default();
    Device::simt_with(SimtOptions { seed, ..default })
}

/// The plain kernel against the CPU reference, and parts of the problem against the whole.
fn verify(device: &Device, op: &dyn Operation, case: &Case, seed: u64) {
    let mut prepared = op
        .prepare(device, case, seed, 1)
        .unwrap_or_else(|e| panic!("{case}: {e}"));
    let config = op
        .configs()
        .into_iter()
        .find(|c| c.id == PLAIN)
        .expect("a plain config");
    let stream = device.stream().unwrap();
    check_against(device, prepared.as_mut(), &config, &stream, Expected::CpuReference)
        .unwrap_or_else(|e| panic!("{case}: {e}"));
    for check in prepared.alone(PLAIN, &stream).unwrap_or_else(|e| panic!("{case}: {e}")) {
        check.outcome.unwrap_or_else(|e| panic!("{case}, {}: {e}", check.name));
    }
}

/// All listed edges and some random cases, each with another order of the simulator's threads.
fn cases_hold(name: &str, count: usize) {
    let op = by_name(name).expect("a listed operation");
    for (i, case) in op.random_cases(3, count).iter().enumerate() {
        verify(&simulator(Some(i as u64)), op, case, i as u64);
    }
}

#[test]
fn gemm_gives_the_references_bytes() {
    cases_hold("gemm", 60);
}

#[test]
fn nvfp4_matmul_gives_the_references_bytes() {
    cases_hold("nvfp4_matmul", 60);
}

#[test]
fn nvfp4_quantize_gives_the_references_bytes() {
    cases_hold("nvfp4_quantize", 60);
}
