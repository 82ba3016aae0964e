//! Every operation made of a `Spec`: its plain kernel on the simulator, with all checks, gives the CPU reference's bytes on every
//! edge case and on random ones, and parts by themselves come out the same. One line an operation, one test each.

use host::device::{Device, SimtOptions};
use host::op::random::Random;
use host::op::spec::PLAIN;
use host::op::{Operation, check};
use host::shapes::ShapeSet;

/// Cases of an operation: the edge cases, and random ones up to this number.
const CASES: usize = 120;
/// Tuned configs that a case runs with, beside the plain one.
const IN_TURN: usize = 2;
/// A case that costs the simulator more than this is the plain config's alone where an operation has many.
const LARGE: u64 = 4_000_000;

macro_rules! operations {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            holds(stringify!($name));
        })*

        /// The operations with a test above.
        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

operations! {
    accept_draft
    argmax
    attn_decode
    attn_prefill
    embedding
    gated_rms_norm
    gdn_conv
    gdn_decode
    gdn_gates
    gdn_prefill
    gemm
    kv_append
    moe_combine
    moe_decode
    moe_grouped
    moe_router
    moe_sort
    nvfp4_matmul
    nvfp4_quantize
    rms_norm
    rope
    sample
    silu_mul
    to_bf16
}

fn holds(name: &str) {
    let op = host::ops::by_name(name).expect("an operation of that name");
    for (i, case) in op.random_cases(1, CASES).iter().enumerate() {
        let device = Device::simt_with(SimtOptions {
            seed: Some(i as u64),
            ..SimtOptions::default()
        });
        let stream = device.stream().expect("a stream");
        let mut prepared = op
            .prepare(&device, case, 1, 1)
            .unwrap_or_else(|e| panic!("{case}: {e}"));
        let configs = op.configs();
        let mut taking: Vec<_> = configs.iter().filter(|c| op.admits(case, &c.id).is_ok()).collect();
        // Of many configs some in turn, on cases that are not large: those of an operation that has many are tested on their own
        // edges elsewhere.
        if taking.len() > 1 + IN_TURN {
            let others = taking.len() - 1;
            taking[1..].rotate_left(i * IN_TURN % others);
            let large = op.simulated_work(case) > LARGE;
            taking.truncate(1 + if large { 0 } else { IN_TURN });
        }
        for config in taking {
            check(&device, prepared.as_mut(), config, &stream).unwrap_or_else(|e| panic!("{case}: {e}"));
            for part in prepared
                .alone(&config.id, &stream)
                .unwrap_or_else(|e| panic!("{case}: {e}"))
            {
                part.outcome
                    .unwrap_or_else(|e| panic!("{case}: {} of {}: {e}", part.name, config.id));
            }
        }
    }
}

/// Those described by a `Spec`: with a plain config.
fn described() -> impl Iterator<Item = &'static dyn Operation> {
    host::ops::all()
        .iter()
        .copied()
        .filter(|op| op.configs().iter().any(|c| c.plain))
}

#[test]
fn every_operation_is_tested_and_begins_with_its_plain_config() {
    for op in described() {
        assert!(TESTED.contains(&op.name()), "{} has no line in operations!", op.name());
        let configs = op.configs();
        assert_eq!(configs[0].id, PLAIN, "{}", op.name());
        assert_eq!(configs.iter().filter(|c| c.plain).count(), 1, "{}", op.name());
    }
    assert_eq!(
        described().count(),
        TESTED.len(),
        "a name in operations! twice, or of no operation"
    );
}

#[test]
fn the_plain_config_takes_every_case_and_says_what_it_costs() {
    let shapes = ShapeSet::embedded().expect("the shape files");
    for op in described() {
        for case in op.random_cases(7, 400).iter().chain(&op.cases(&shapes)) {
            op.admits(case, PLAIN).unwrap_or_else(|e| panic!("{case}: {e}"));
            let work = op.work(case, PLAIN, 132).unwrap_or_else(|e| panic!("{case}: {e}"));
            assert!(work.threads > 0, "{case}: {work:?}");
        }
    }
}

/// Whatever sizes a command line gives: an operation refuses them, or can say what they cost. Tests are built with overflow
/// checks.
#[test]
fn sizes_of_any_magnitude_are_refused_or_have_a_cost() {
    let random = Random::new(1, "sizes");
    for op in described() {
        let mut taken = 0;
        for i in 0..3000u64 {
            let draw = |axis: usize, what: u64, end: u64| random.below((i * 32 + axis as u64) * 4 + what, end);
            let size = |axis: usize| (1u64 << draw(axis, 0, 32)).saturating_sub(draw(axis, 1, 2));
            let given: Vec<(String, u64)> = (op.axes().iter().enumerate())
                .map(|(at, axis)| {
                    let plain = axis.default.filter(|_| draw(at, 2, 3) > 0);
                    (axis.name.to_string(), plain.unwrap_or_else(|| size(at)))
                })
                .collect();
            if let Ok(case) = op.custom_case(&given) {
                taken += 1;
                let work = op.work(&case, PLAIN, 132).unwrap_or_else(|e| panic!("{case}: {e}"));
                // Sums that overflow panic here; the simulator's cost saturates, and is then never within a budget.
                assert!(work.bytes() < 1 << 62, "{case}: {work:?}");
                assert!(op.simulated_work(&case) >= work.bytes(), "{case}: {work:?}");
            }
        }
        assert!(taken > 0, "{}: nothing was taken", op.name());
    }
}
