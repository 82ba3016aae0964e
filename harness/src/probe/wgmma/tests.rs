//! The comparison, on answers made up here: it must find what is wrong in them.

use super::*;
use clap::Parser;
use host::device::SimtOptions;
use simt::tensor::F16Rounding;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: ProbeArgs,
}

const TYPES: [Type; 4] = [Type::Bf16, Type::F16, Type::S8, Type::F16F16];

fn args() -> ProbeArgs {
    Line::parse_from(["probe", "wgmma", "--reference-share", "1"]).args
}

/// The report on these answers to the first groups of seed 1; `mma.sync` answers what the model says.
fn judged(ty: Type, groups: u64, answer: impl Fn(u64, &View) -> Vec<Tile>) -> Report {
    let batch = generate(ty, 1, 0, groups, u64::MAX);
    let all = |of: &dyn Fn(u64, &View) -> Vec<Tile>| -> Vec<Tile> {
        (0..groups).flat_map(|i| of(i, &batch.view(i as usize))).collect()
    };
    let answers = Answers {
        d: all(&answer),
        sync: ty.has_sync().then(|| all(&|_, view| right(ty, view))),
    };
    let mut report = Report::new("made up", 1, 1);
    check(&args(), ty, 0, &batch, &answers, &mut report);
    report
}

fn right(ty: Type, view: &View) -> Vec<Tile> {
    model::simulated(TensorCore::HOPPER, ty, view)
}

fn counts(report: &Report, ty: Type) -> [u64; 3] {
    let c = report.of(ty);
    [c.simulator_differs, c.mma_sync_differs, c.reference_differs]
}

#[test]
fn right_answers_are_right_for_all() {
    for ty in TYPES {
        let report = judged(ty, 64, |_, view| right(ty, view));
        assert_eq!(counts(&report, ty), [0; 3], "{ty:?}");
        assert_eq!(report.of(ty).groups, 64);
        assert_eq!(report.finish(None).expect("stdout is there"), Exit::Good);
    }
}

#[test]
fn one_wrong_bit_is_found() {
    for ty in TYPES {
        let report = judged(ty, 32, |i, view| {
            let mut d = right(ty, view);
            let last = d.len() - 1;
            d[last][77] ^= u32::from(i == 21);
            d
        });
        assert_eq!(counts(&report, ty), [1, u64::from(ty.has_sync()), 1], "{ty:?}");
        assert_eq!(report.tried, 1);
        assert_eq!(report.finish(None).expect("stdout is there"), Exit::Mismatch);
    }
}

/// A device whose `mma.sync` is right and whose wgmma is another tensor core: that one alone has no output otherwise.
#[test]
fn another_tensor_core_is_recognised() {
    let hopper = TensorCore::HOPPER;
    let others = [
        (
            Type::Bf16,
            "two steps of 8 products",
            TensorCore { products: 8, ..hopper },
        ),
        (
            Type::F16,
            "24 fraction bits",
            TensorCore {
                fraction_bits: 24,
                ..hopper
            },
        ),
        (
            Type::F16F16,
            "the sum, truncated",
            TensorCore {
                f16_rounding: F16Rounding::Truncated,
                ..hopper
            },
        ),
    ];
    for (ty, name, core) in others {
        let report = judged(ty, 200, |_, view| model::simulated(core, ty, view));
        let [simulator, sync, reference] = counts(&report, ty);
        assert!(
            simulator > 0 && simulator == reference,
            "{name}: {simulator}, {reference}"
        );
        assert_eq!(sync, if ty.has_sync() { simulator } else { 0 }, "{name}");
        for (variant, wrong) in report.wrong_by_variant(ty) {
            assert_eq!(
                *wrong == 0,
                *variant == name,
                "{variant} has {wrong} otherwise, of {name}"
            );
        }
    }
}

/// The accumulator counts where `scale-d` is 1, and only there: answers that have it the other way round are found.
#[test]
fn an_accumulator_that_is_not_asked_for_is_found() {
    let report = judged(Type::Bf16, 64, |_, view| {
        let mut turned = *view;
        turned.group.accumulate = !view.group.accumulate;
        right(Type::Bf16, &turned)
    });
    for scale_d in [0, 1] {
        let counts = report.counts[&(Type::Bf16, Key::ScaleD(scale_d))];
        assert!(counts.simulator_differs > 0, "scale-d {scale_d}: {counts:?}");
        assert_eq!(counts.simulator_differs, counts.reference_differs);
    }
}

/// A short probe of the simulator, by the kernels themselves.
fn on_simulator(ty: Type, tensor: TensorCore, problems: &str) -> Report {
    let device = Device::simt_with(SimtOptions {
        tensor,
        ..SimtOptions::default()
    });
    let line = ["probe", "wgmma", "--problems", problems, "--reference-share", "8"];
    let mut report = Report::new("simulator", 1, 8);
    probe(&Line::parse_from(line).args, ty, &device, &mut report).expect("the simulator runs the kernels");
    report
}

#[test]
fn the_kernels_on_the_simulator_answer_as_the_model() {
    for ty in TYPES {
        let report = on_simulator(ty, TensorCore::HOPPER, "1500");
        let counts = report.of(ty);
        assert_eq!(counts.differs(), 0, "{ty:?}");
        assert!(counts.problems >= 1500 && counts.referred > 0, "{ty:?}: {counts:?}");
        assert_eq!(counts.synced, if ty.has_sync() { counts.problems } else { 0 }, "{ty:?}");
    }
}

/// A simulator that computes as another GPU: the model and the reference find it, `mma.sync` has the same fault.
#[test]
fn a_wrong_simulator_is_found() {
    for ty in [Type::Bf16, Type::F16] {
        let report = on_simulator(ty, TensorCore::AMPERE, "600");
        let counts = report.of(ty);
        assert!(
            counts.simulator_differs > 0 && counts.mma_sync_differs == 0,
            "{ty:?}: {counts:?}"
        );
        for (variant, wrong) in report.wrong_by_variant(ty) {
            assert_eq!(
                *wrong == 0,
                *variant == "Ampere",
                "{ty:?}: {variant} has {wrong} otherwise"
            );
        }
    }
}

/// All corners through the kernels: the simulator's answers are the model's and the reference's.
#[test]
fn corners_of_the_simulator_agree() {
    let device = Device::simt_with(SimtOptions::default());
    let corners = corners::ask(&device).expect("the simulator runs the kernels");
    assert!(corners.len() > 150, "{} corners", corners.len());
    for corner in &corners {
        assert!(corner.agrees(), "{corner:?}");
    }
}
