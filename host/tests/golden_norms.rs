//! The norms of `host::reference` against transformers' (scripts/golden/norms.py).

mod golden;

use golden::{Golden, U, caught, stored_bf16, value, wide, within};
use host::reference::norms::{add_residual, gated_rms_norm, rms_norm};
use host::reference::rows::Half;

const EPS: f32 = 1e-6;

/// How far y is from exact before its rounding to bf16, relative. All terms of the row's sum are positive, so each addition
/// is off by U of a partial sum that is no larger than the sum: a slot's chain of 8 per vector it owns, then 8 levels of the
/// tree. The division and eps add one each; the root halves them all and rounds (correctly: U); then x * rstd and the product with
/// w', which is itself rounded where it is 1 + w; with a gate, silu (0.83 ulp at most: 2 U) and its product. `own` is the
/// witness's.
fn before_rounding(n: usize, gated: bool, own: f64) -> f64 {
    let chain = 8.0 * n.div_ceil(8).div_ceil(256) as f64;
    let products = 3.0 + if gated { 3.0 } else { 0.0 };
    // 1.01: the products of these errors.
    1.01 * U * (0.5 * (chain + 8.0 + 2.0) + 1.0 + products) + own
}

/// transformers' zero-centred norm sums in f32: n additions at the worst, the root halving them, and its other operations.
fn own_f32(n: usize) -> f64 {
    U * (0.5 * (n as f64 + 2.0) + 4.0)
}

struct Case {
    n: usize,
    x: Vec<u16>,
    w: Vec<u16>,
    y: Vec<f64>,
}

impl Case {
    fn read(file: &Golden, name: &str, x: &str) -> Case {
        let part = |tensor: &str| format!("{name}.{tensor}");
        let n = file.shape(&part("w"))[0];
        Case {
            n,
            x: file.bf16(&part(x)),
            w: file.bf16(&part("w")),
            y: file.f64(&part("y")),
        }
    }

    fn rows(&self, norm: impl Fn(usize, &[u16]) -> Vec<u16>) -> Vec<f64> {
        let rows = self.x.chunks(self.n).enumerate();
        wide(&rows.flat_map(|(row, x)| norm(row, x)).collect::<Vec<_>>())
    }
}

fn norm(case: &Case, zero_centered: bool, eps: f32) -> Vec<f64> {
    case.rows(|_, x| rms_norm(Half::Bf16, x, &case.w, eps, zero_centered).unwrap())
}

#[test]
fn plain_and_per_head() {
    let file = Golden::open("norms");
    assert_eq!(file.number("eps") as f32, EPS);
    for name in ["plain", "head"] {
        let case = Case::read(&file, name, "x");
        let bound = |i: usize| stored_bf16(case.y[i], before_rounding(case.n, false, 0.0) * case.y[i].abs());
        within(name, &norm(&case, false, EPS), &case.y, bound);
        caught("1 + w where w is meant", &norm(&case, true, EPS), &case.y, bound);
        caught(
            "eps ten times as large",
            &norm(&case, false, 10.0 * EPS),
            &case.y,
            bound,
        );
        let unsquared = case.rows(|_, x| {
            let short = &x[..case.n - 4];
            let mut y = rms_norm(Half::Bf16, short, &case.w[..case.n - 4], EPS, false).unwrap();
            y.extend([0; 4]);
            y
        });
        caught("the last four elements left out", &unsquared, &case.y, bound);
    }
}

#[test]
fn zero_centred_and_after_a_residual() {
    let file = Golden::open("norms");
    let case = Case::read(&file, "zero_centred", "x");
    let error = before_rounding(case.n, false, own_f32(case.n));
    let bound = |i: usize| stored_bf16(case.y[i], error * case.y[i].abs());
    within("zero_centred", &norm(&case, true, EPS), &case.y, bound);
    caught("w where 1 + w is meant", &norm(&case, false, EPS), &case.y, bound);

    // torch adds bf16 as the contract does, so h is equal to the bit.
    let case = Case::read(&file, "residual", "h");
    let (x, r) = (file.bf16("residual.x"), file.bf16("residual.r"));
    assert_eq!(add_residual(Half::Bf16, &x, &r).unwrap(), case.x);
    let error = before_rounding(case.n, false, own_f32(case.n));
    let bound = |i: usize| stored_bf16(case.y[i], error * case.y[i].abs());
    within("residual", &norm(&case, true, EPS), &case.y, bound);
    let unadded = Case {
        x,
        ..Case::read(&file, "residual", "h")
    };
    caught("x normed instead of x + r", &norm(&unadded, true, EPS), &case.y, bound);
}

#[test]
fn gated() {
    let file = Golden::open("norms");
    let case = Case::read(&file, "gated", "x");
    let z = file.bf16("gated.z");
    let gate = |row: usize| &z[row * case.n..][..case.n];
    let bound = |i: usize| stored_bf16(case.y[i], before_rounding(case.n, true, 0.0) * case.y[i].abs());
    let y = case.rows(|row, x| gated_rms_norm(Half::Bf16, x, gate(row), &case.w, EPS).unwrap());
    within("gated", &y, &case.y, bound);
    let ungated = case.rows(|_, x| rms_norm(Half::Bf16, x, &case.w, EPS, false).unwrap());
    caught("no gate", &ungated, &case.y, bound);
    // Gate first, then norm: what Mamba2 does and this family does not.
    let gate_first = case.rows(|row, x| {
        let silu = |z: u16| value(z) / (1.0 + (-value(z)).exp());
        let gated = x
            .iter()
            .zip(gate(row))
            .map(|(&x, &z)| Half::Bf16.round((value(x) * silu(z)) as f32));
        rms_norm(Half::Bf16, &gated.collect::<Vec<_>>(), &case.w, EPS, false).unwrap()
    });
    caught("gate before norm", &gate_first, &case.y, bound);
}
