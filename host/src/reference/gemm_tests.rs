//! The reference against an independent sum in f64, within the bound of the tensor core's arithmetic; and what it must refuse.

use super::*;
use crate::op::Values;
use crate::op::data::Draw;

fn draw<T: crate::op::data::Float>(seed: u64, purpose: &str, rows: usize, k: usize) -> Vec<T> {
    let values = Values::WideRange;
    Draw { seed, values }.floats(purpose, rows, k, 1.0)
}

/// How far the chain may be from the exact sum of products, S the sum of their magnitudes. In a step, 2^E is at most the largest
/// addend's magnitude, so at most S; each of 17 addends is cut at 2^(E - 25) and the result at 2^-23 of itself: less than
/// (17 / 4 + 1) 2^-23 S < 2^-20.6 S. There are ceil(K / 16) steps; 2^-20.5 leaves room for the errors' own part in S.
fn bound(k: usize, magnitude: f64) -> f64 {
    k.div_ceil(16) as f64 * 2f64.powf(-20.5) * magnitude
}

fn near<T: Number + crate::op::data::Float>(m: usize, n: usize, k: usize) {
    let (a, w): (Vec<T>, Vec<T>) = (draw(1, "a", m, k), draw(1, "w", n, k));
    let (bias, residual) = (None, None);
    let operands = Operands {
        a: &a,
        w: &w,
        bias,
        residual,
        m,
        n,
        k,
    };
    let places = operands.everywhere();
    let y = operands.f32_at(&places).unwrap();
    for (&(row, column), y) in places.iter().zip(y) {
        let products = (0..k).map(|i| f64::from(a[row * k + i].value()) * f64::from(w[column * k + i].value()));
        let (exact, magnitude) = products.fold((0.0, 0.0), |(s, t), p| (s + p, t + p.abs()));
        let bound = bound(k, magnitude);
        assert!(
            (f64::from(y) - exact).abs() <= bound,
            "[{row}][{column}]: {y} and {exact}, bound {bound}"
        );
    }
}

#[test]
fn the_chain_is_within_its_bound_of_the_exact_sum() {
    near::<bf16>(9, 11, 1);
    near::<bf16>(9, 11, 250);
    near::<f16>(9, 11, 17);
    near::<f16>(5, 6, 1024);
}

#[test]
fn a_missing_term_is_outside_of_the_bound() {
    // What the bound must be good for: one product of 256 left out shows.
    let (a, w): (Vec<bf16>, Vec<bf16>) = (vec![bf16::ONE; 256], vec![bf16::ONE; 256]);
    let (bias, residual, m, n) = (None, None, 1, 1);
    let operands = Operands {
        a: &a,
        w: &w,
        bias,
        residual,
        m,
        n,
        k: 256,
    };
    let y = operands.f32_at(&[(0, 0)]).unwrap()[0];
    assert_eq!(y, 256.0);
    assert!((f64::from(y) - 255.0).abs() > bound(256, 256.0));
}

#[test]
fn bias_and_residual_round_where_the_contract_says() {
    let one = [bf16::ONE];
    let tiny = [bf16::from_f32(2f32.powi(-8))];
    let operands = Operands {
        a: &one,
        w: &one,
        bias: Some(&tiny),
        residual: Some(&tiny),
        m: 1,
        n: 1,
        k: 1,
    };
    // 1 + 2^-8 is a tie and goes to 1; again with the residual. Rounded once, it would be 1 + 2^-7.
    assert_eq!(operands.at(&[(0, 0)]).unwrap(), [bf16::ONE]);
    let without = Operands {
        residual: None,
        ..operands
    };
    assert_eq!(without.f32_at(&[(0, 0)]).unwrap(), [1.0 + 2f32.powi(-8)]);
}

#[test]
fn what_is_no_number_is_stored_as_one_pattern() {
    let (nan, one) = ([f16::from_bits(0xFE01)], [f16::ONE]);
    let operands = Operands {
        a: &nan,
        w: &one,
        bias: None,
        residual: None,
        m: 1,
        n: 1,
        k: 1,
    };
    assert_eq!(operands.at(&[(0, 0)]).unwrap()[0].to_bits(), 0x7FFF);
    assert_eq!(operands.f32_at(&[(0, 0)]).unwrap()[0].to_bits(), 0x7FFF_FFFF);
    let negative = [f16::from_bits(0xFC00)];
    let biased = Operands {
        a: &one,
        bias: Some(&negative),
        residual: Some(&[f16::INFINITY]),
        ..operands
    };
    assert_eq!(biased.at(&[(0, 0)]).unwrap()[0].to_bits(), 0x7FFF);
}

#[test]
fn data_that_does_not_fit_is_named() {
    let x = [bf16::ONE; 6];
    let operands = Operands {
        a: &x,
        w: &x,
        bias: None,
        residual: None,
        m: 2,
        n: 3,
        k: 2,
    };
    assert!(
        operands
            .at(&[(0, 0)])
            .unwrap_err()
            .to_string()
            .contains("a has 6 elements")
    );
    let operands = Operands {
        m: 3,
        residual: Some(&x),
        ..operands
    };
    assert!(
        operands
            .at(&[(0, 0)])
            .unwrap_err()
            .to_string()
            .contains("residual has 6")
    );
}
