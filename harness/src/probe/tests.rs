//! The comparison, on answers made up here: it must find what is wrong in them.

use super::*;
use crate::exit::Exit;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: ProbeArgs,
}

fn args(reference_share: &str) -> ProbeArgs {
    Line::parse_from(["probe", "mma", "--reference-share", reference_share]).args
}

/// The report on these answers to the first problems of seed 1.
fn judged(kind: Kind, count: usize, answer: impl Fn(usize, &Problem) -> Answer) -> Report {
    let batch = generate(kind, 1, 0, count);
    let answers: Vec<Answer> = (0..count).map(|i| answer(i, &batch.problem(i))).collect();
    let mut report = Report::new("made up", 1, 1);
    check(&args("1"), kind, 0, &batch, &answers, &mut report);
    report
}

fn differing(report: &Report) -> (u64, u64) {
    let tallies = report.tallies.values();
    tallies.fold((0, 0), |sum, t| {
        (sum.0 + t.simulator_differs, sum.1 + t.reference_differs)
    })
}

fn right(kind: Kind, p: &Problem) -> Answer {
    model::simulated(TensorCore::HOPPER, kind, p)
}

#[test]
fn right_answers_are_right_for_both_models() {
    for kind in [Kind::Bf16, Kind::F16, Kind::S8] {
        let report = judged(kind, 1000, |_, p| right(kind, p));
        assert_eq!(differing(&report), (0, 0), "{kind:?}");
        assert_eq!(report.tallies.values().map(|t| t.problems).sum::<u64>(), 1000);
        assert_eq!(report.finish(None).expect("stdout is there"), Exit::Good);
    }
}

#[test]
fn one_wrong_bit_is_found() {
    for kind in [Kind::Bf16, Kind::F16, Kind::S8] {
        let report = judged(kind, 100, |i, p| {
            let mut answer = right(kind, p);
            answer[77] ^= u32::from(i == 42);
            answer
        });
        assert_eq!(differing(&report), (1, 1), "{kind:?}");
        assert_eq!(report.tried, 1);
        assert_eq!(report.finish(None).expect("stdout is there"), Exit::Mismatch);
    }
}

/// Answers of another tensor core differ, and of the other models that one alone has none of them otherwise.
#[test]
fn another_tensor_core_is_recognised() {
    let two_steps = TensorCore {
        products: 8,
        ..TensorCore::HOPPER
    };
    let floor = TensorCore {
        exponent_floor: -126,
        ..TensorCore::HOPPER
    };
    for (name, core) in [("two steps of 8 products", two_steps), ("E is at least -126", floor)] {
        let report = judged(Kind::Bf16, 4000, |_, p| model::simulated(core, Kind::Bf16, p));
        let (simulator, reference) = differing(&report);
        assert!(
            simulator > 0 && simulator == reference,
            "{name}: {simulator}, {reference}"
        );
        for (variant, wrong) in report.wrong_by_variant() {
            assert_eq!(
                *wrong == 0,
                *variant == name,
                "{variant} has {wrong} otherwise, of {name}"
            );
        }
    }
}
