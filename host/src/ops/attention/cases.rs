//! Edge cases and random cases.

use super::{AttnDecode, AttnPrefill};
use crate::op::random::Random;
use crate::op::spec::Spec;
use crate::op::{Case, Values};

type Sizes<'a> = &'a [(&'a str, u64)];

fn case<S: Spec>(name: &str, sizes: Sizes, values: Values, dtype: &str) -> Case {
    Case {
        dtype: dtype.into(),
        ..Case::of::<S>("random", name, sizes, values)
    }
}

/// Two query heads on one head of the cache: the smallest that is grouped.
const SMALL: Sizes = &[("q_heads", 2), ("kv_heads", 1), ("head_dim", 64), ("page", 16)];

/// An edge case: [`SMALL`] with other sizes.
fn edge<S: Spec>(sizes: Sizes, values: Values, dtype: &str) -> Case {
    let small = SMALL
        .iter()
        .filter(|(axis, _)| !sizes.iter().any(|(other, _)| axis == other));
    let all: Vec<_> = small.chain(sizes).copied().collect();
    case::<S>("edge", &all, values, dtype)
}

/// What both have edges in: head dimensions, pages, groups, flags, types, values.
fn common<S: Spec>(sizes: Sizes) -> Vec<Case> {
    let with = |more: Sizes, values, dtype| edge::<S>(&[sizes, more].concat(), values, dtype);
    let mut cases = Vec::new();
    for d in [64, 128, 256, 512] {
        cases.push(with(&[("head_dim", d), ("gate", 1)], Values::WideRange, "bf16"));
        cases.push(with(&[("head_dim", d), ("q_heads", 1)], Values::Normal, "f16"));
    }
    for page in [16, 32, 64] {
        cases.push(with(
            &[("page", page), ("n_seq", 3), ("ragged", 1)],
            Values::Normal,
            "bf16",
        ));
    }
    for (q_heads, kv_heads) in [(1, 1), (3, 3), (4, 1), (6, 2), (8, 1), (12, 1), (24, 2), (5, 1)] {
        cases.push(with(
            &[("q_heads", q_heads), ("kv_heads", kv_heads)],
            Values::Normal,
            "bf16",
        ));
    }
    for &values in S::VALUES {
        cases.push(with(&[("n_seq", 2), ("ragged", 1)], values, "bf16"));
        cases.push(with(&[("gate", 1), ("window", 20)], values, "f16"));
    }
    cases
}

pub(super) fn prefill_edges() -> Vec<Case> {
    let edge = |sizes: Sizes, values| edge::<AttnPrefill>(sizes, values, "bf16");
    let mut cases = Vec::new();
    for n_tok in [0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 200] {
        cases.push(edge(&[("n_tok", n_tok)], Values::WideRange));
    }
    for past in [1, 15, 63, 64, 127, 128, 129, 255, 300] {
        cases.push(edge(&[("n_tok", 3), ("past", past)], Values::Normal));
    }
    cases.push(edge(&[("n_tok", 70), ("past", 90), ("head_dim", 256)], Values::Normal));
    for window in [1, 2, 16, 63, 64, 65, 128, 1000] {
        cases.push(edge(
            &[("n_tok", 40), ("past", 110), ("window", window)],
            Values::Normal,
        ));
    }
    cases.push(edge(&[("n_tok", 150), ("window", 30)], Values::Normal));
    // More sequences than tokens: some have none.
    cases.push(edge(
        &[("n_tok", 5), ("n_seq", 9), ("ragged", 1), ("past", 20)],
        Values::Normal,
    ));
    cases.push(edge(&[("n_tok", 0), ("n_seq", 2), ("past", 20)], Values::Normal));
    cases.push(edge(
        &[("n_tok", 150), ("n_seq", 4), ("ragged", 1), ("past", 70)],
        Values::Normal,
    ));
    cases.extend(common::<AttnPrefill>(&[("n_tok", 34), ("past", 40)]));
    cases
}

pub(super) fn decode_edges() -> Vec<Case> {
    let edge = |sizes: Sizes, values| edge::<AttnDecode>(sizes, values, "bf16");
    let mut cases = Vec::new();
    for kv_len in [
        1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1023, 1024, 1025,
    ] {
        let values = if kv_len < 300 {
            Values::WideRange
        } else {
            Values::Normal
        };
        cases.push(edge(&[("n_tok", 1), ("kv_len", kv_len)], values));
    }
    // Beyond 32 spans the fold takes another turn.
    cases.push(edge(
        &[("n_tok", 1), ("kv_len", 33 * 1024 + 70), ("q_heads", 1), ("page", 64)],
        Values::Normal,
    ));
    for n_tok in [0, 1, 2, 3, 4, 5, 8, 9, 17] {
        cases.push(edge(&[("n_tok", n_tok), ("kv_len", 66)], Values::Normal));
    }
    for n_tok in [2, 6] {
        for kv_len in [64, 256, 258, 1026] {
            cases.push(edge(&[("n_tok", n_tok), ("kv_len", kv_len)], Values::Normal));
        }
    }
    for window in [1, 2, 16, 63, 64, 65, 255, 256, 257, 1000] {
        cases.push(edge(
            &[("n_tok", 3), ("kv_len", 700), ("window", window)],
            Values::Normal,
        ));
    }
    cases.push(edge(
        &[("n_tok", 2), ("kv_len", 1100), ("window", 1030)],
        Values::Normal,
    ));
    cases.push(edge(
        &[("n_tok", 2), ("kv_len", 300), ("n_seq", 7), ("ragged", 1)],
        Values::Normal,
    ));
    cases.push(edge(&[("n_tok", 0), ("kv_len", 20), ("n_seq", 2)], Values::Normal));
    cases.extend(common::<AttnDecode>(&[("n_tok", 2), ("kv_len", 83)]));
    cases
}

/// Head dimensions, more often small ones.
const DIMS: [u64; 8] = [64, 64, 64, 128, 128, 256, 256, 512];
const PAGES: [u64; 3] = [16, 32, 64];
const HEADS: [(u64, u64); 10] = [
    (1, 1),
    (2, 1),
    (2, 2),
    (4, 2),
    (3, 1),
    (6, 3),
    (8, 1),
    (16, 2),
    (12, 1),
    (24, 2),
];

/// A size up to `end`, half of the time near a multiple of `edge`.
fn near(draw: &dyn Fn(u64, u64) -> u64, what: u64, end: u64, edge: u64) -> u64 {
    if draw(what, 2) == 0 {
        return draw(what + 1, end + 1);
    }
    let around = draw(what + 1, end / edge + 1) * edge + draw(what + 2, 3);
    around.saturating_sub(1).min(end)
}

/// The sizes that both draw in the same way, the head dimension and heads so that `budget` elements of q a token are not passed.
fn drawn(draw: &dyn Fn(u64, u64) -> u64, budget: u64) -> Vec<(&'static str, u64)> {
    let head_dim = DIMS[draw(0, DIMS.len() as u64) as usize];
    let fits: Vec<_> = HEADS
        .iter()
        .filter(|(q_heads, _)| q_heads * head_dim <= budget)
        .collect();
    let (q_heads, kv_heads) = fits[draw(1, fits.len() as u64) as usize];
    let window = if draw(2, 3) == 0 { near(draw, 3, 300, 64) } else { 0 };
    vec![
        ("q_heads", *q_heads),
        ("kv_heads", *kv_heads),
        ("head_dim", head_dim),
        ("page", PAGES[draw(6, 3) as usize]),
        ("window", window),
        ("gate", draw(7, 2)),
        ("ragged", draw(8, 2)),
        ("n_seq", 1 + draw(9, 4)),
    ]
}

fn dtype_and_values(draw: &dyn Fn(u64, u64) -> u64) -> (&'static str, Values) {
    let values = super::VALUES[draw(10, super::VALUES.len() as u64) as usize];
    (["bf16", "f16"][draw(11, 2) as usize], values)
}

pub(super) fn prefill(random: Random, i: u64) -> Case {
    let draw = |what: u64, end: u64| random.below(i * 32 + what, end);
    let mut sizes = drawn(&draw, 768);
    sizes.push(("n_tok", near(&draw, 12, 100, 16)));
    sizes.push(("past", near(&draw, 15, 200, 64)));
    let (dtype, values) = dtype_and_values(&draw);
    case::<AttnPrefill>(&format!("case{i}"), &sizes, values, dtype)
}

pub(super) fn decode(random: Random, i: u64) -> Case {
    let draw = |what: u64, end: u64| random.below(i * 32 + what, end);
    let mut sizes = drawn(&draw, 1536);
    let n_tok = draw(12, 9);
    sizes.push(("n_tok", n_tok));
    sizes.push(("kv_len", near(&draw, 13, 600, 64).max(n_tok).max(1)));
    let (dtype, values) = dtype_and_values(&draw);
    case::<AttnDecode>(&format!("case{i}"), &sizes, values, dtype)
}
