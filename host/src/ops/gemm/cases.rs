//! Cases of `gemm`: the edges of every config's tiles and stages, and random ones near them.

use std::collections::BTreeSet;

use super::common::near_an_edge;
use super::family;
use super::{FLAGS, Gemm};
use crate::op::random::Random;
use crate::op::spec::Spec;
use crate::op::{Case, Values};

/// A case of sizes n, k, n_tok and flags.
pub(super) fn case(name: &str, sizes: [u64; 3], flags: [u64; 3], values: Values) -> Case {
    let [n, k, n_tok] = sizes;
    let [out_f32, bias, residual] = flags;
    let dims = [
        ("n", n),
        ("k", k),
        ("n_tok", n_tok),
        ("out_f32", out_f32),
        ("bias", bias),
        ("residual", residual),
    ];
    Case::of::<Gemm>("random", name, &dims, values)
}

/// The listed cases: those of the plain kernel's tiles, then those of the tuned ones.
pub(super) fn edges() -> Vec<Case> {
    let mut cases = Vec::new();
    let edges = [1, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129];
    for (i, &m) in edges.iter().enumerate() {
        let n = edges[(i + 5) % edges.len()];
        let k = [8, 1, 7, 9, 63, 64, 65, 127, 128, 129, 200, 257][i];
        cases.push(case("edge", [n, k, m], FLAGS[i % 6], Values::WideRange));
        cases.push(case("edge", [m, k, n], FLAGS[(i + 3) % 6], Values::Normal).with_dtype("f16"));
    }
    // Widths that are no power of two, no tokens, and enough tiles for the widest ones.
    cases.push(case("edge", [1856, 72, 3], FLAGS[0], Values::Normal));
    cases.push(case("edge", [33, 40, 0], FLAGS[0], Values::Normal));
    cases.push(case("edge", [1025, 24, 1921], FLAGS[4], Values::WideRange));
    cases.push(case("edge", [16_257, 17, 17], FLAGS[1], Values::WideRange));
    cases.push(case("edge", [897, 16, 1921], FLAGS[0], Values::WideRange).with_dtype("f16"));
    cases.push(case("edge", [16_257, 24, 33], FLAGS[4], Values::WideRange).with_dtype("f16"));
    cases.push(case("edge", [17, 32, 16_257], FLAGS[1], Values::WideRange).with_dtype("f16"));
    for &values in Gemm::VALUES {
        cases.push(case("edge", [40, 136, 18], FLAGS[4], values));
        cases.push(case("edge", [40, 136, 18], FLAGS[1], values).with_dtype("f16"));
    }
    cases.extend(tuned_edges());
    cases
}

/// One below, at and above every edge of the tuned configs' tiles: all tokens with some outputs and the other way round, the many
/// with the few first, so that cases stay small and configs for few of either take them. K: one piece of 16 bytes, stages less and
/// more a piece, and rings that go round more than once.
fn tuned_edges() -> Vec<Case> {
    let pieces: Vec<_> = family::all().filter_map(|family| family.pieces()).collect();
    let around = |size: u32| [size - 1, size, size + 1].map(u64::from);
    let tokens: BTreeSet<u64> = pieces.iter().flat_map(|p| around(p.tokens)).collect();
    let outputs: BTreeSet<u64> = pieces.iter().flat_map(|p| around(p.outputs)).collect();
    let stages: BTreeSet<u64> = pieces.iter().map(|p| u64::from(p.stage)).collect();
    let rings: BTreeSet<u64> = pieces.iter().map(|p| u64::from(p.ring)).collect();
    let (tokens, outputs): (Vec<u64>, Vec<u64>) = (
        tokens.into_iter().filter(|&m| m > 0).collect(),
        outputs.into_iter().rev().filter(|&n| n > 0).collect(),
    );
    let depths: Vec<u64> = stages.iter().flat_map(|&k| [k - 8, k, k + 8, 8]).collect();
    let mut cases = Vec::new();
    if tokens.is_empty() || outputs.is_empty() {
        return cases;
    }
    for i in 0..tokens.len().max(outputs.len()) {
        let (m, n) = (tokens[i % tokens.len()], outputs[i % outputs.len()]);
        let (k, flags) = (depths[i % depths.len()].max(8), FLAGS[i % FLAGS.len()]);
        let dtype = Gemm::DTYPES[usize::from(i % 4 == 3)];
        cases.push(case("edge", [n, k, m], flags, Values::WideRange).with_dtype(dtype));
        // The same tokens with other outputs, which are more of both.
        let (n, k) = (
            outputs[(7 * i + 3) % outputs.len()],
            depths[(i + 1) % depths.len()].max(8),
        );
        cases.push(case("edge", [n, k, m], FLAGS[(i + 2) % FLAGS.len()], Values::Normal).with_dtype(dtype));
    }
    for (i, ring) in rings.into_iter().enumerate() {
        for (j, k) in [ring - 8, ring + 8, 2 * ring + 72].into_iter().enumerate() {
            let (m, n) = ([9, 33][j % 2], [40, 17][i % 2]);
            cases.push(case("edge", [n, k, m], FLAGS[(i + j) % FLAGS.len()], Values::WideRange));
        }
    }
    cases
}

/// One of so many random cases has more tiles than a GPU has multiprocessors.
const LARGE: u64 = 40;

/// The i-th random case. Three quarters have a K that tuned configs take.
pub(super) fn random(random: Random, i: u64) -> Case {
    let draw = |what: u64, end: u64| random.below(i * 32 + what, end);
    let mut n = near_an_edge(draw);
    let mut k = match draw(16, 8) {
        0 | 1 => near_an_edge(|what, end| draw(4 + what, end)),
        // A long chain: small products that go round the deepest rings.
        2 => 8 * (1 + draw(4, 300)),
        _ => 8 * (1 + draw(4, 40)),
    };
    let mut n_tok = match draw(8, 3) {
        0 => 1 + draw(9, 33),
        _ => near_an_edge(|what, end| draw(9 + what, end)),
    };
    if k > 512 {
        (n, n_tok) = (1 + n % 64, 1 + n_tok % 48);
    }
    if draw(17, LARGE) == 0 {
        (n, n_tok) = (800 + draw(18, 1600), 800 + draw(19, 1600));
        k = 8 * (1 + draw(20, 5));
    }
    let values = Gemm::VALUES[draw(13, Gemm::VALUES.len() as u64) as usize];
    let flags = FLAGS[draw(14, 6) as usize];
    case(&format!("case{i}"), [n, k, n_tok], flags, values).with_dtype(Gemm::DTYPES[draw(15, 3) as usize / 2])
}
