//! RMSNorm and gated RMSNorm, one row at a time.
//!
//! Rows are bits of bf16 or f16. With `S` the row sum of the squares: `rstd = rsqrt(S / n + eps)`, and
//! `y = round((x * rstd) * w')` or `y = round(((x * rstd) * w) * silu(z))`, every operation one of f32.

use super::rows::{Half, square_sum};
use super::{ReferenceError, expect};
use cuda_std::float::exact;

/// The normed row. `w` is its weights, of which 1 + w is taken where they are centred at zero.
///
/// # Errors
/// `w` is not as long as `x`.
pub fn rms_norm(half: Half, x: &[u16], w: &[u16], eps: f32, zero_centered: bool) -> Result<Vec<u16>, ReferenceError> {
    expect("w", w.len(), &[("n", x.len())])?;
    let (x, w) = (half.values(x), half.values(w));
    let rstd = rstd(&x, eps);
    let weight = |w: f32| if zero_centered { 1.0 + w } else { w };
    Ok(x.iter()
        .zip(&w)
        .map(|(x, &w)| half.round((x * rstd) * weight(w)))
        .collect())
}

/// x + r, rounded: the new residual, and what is normed.
///
/// # Errors
/// `r` is not as long as `x`.
pub fn add_residual(half: Half, x: &[u16], r: &[u16]) -> Result<Vec<u16>, ReferenceError> {
    expect("r", r.len(), &[("n", x.len())])?;
    let pairs = x.iter().zip(r);
    Ok(pairs
        .map(|(&x, &r)| half.round(half.value(x) + half.value(r)))
        .collect())
}

/// The normed and gated row.
///
/// # Errors
/// `w` or `z` is not as long as `x`.
pub fn gated_rms_norm(half: Half, x: &[u16], z: &[u16], w: &[u16], eps: f32) -> Result<Vec<u16>, ReferenceError> {
    expect("w", w.len(), &[("n", x.len())])?;
    expect("z", z.len(), &[("n", x.len())])?;
    let (x, w, z) = (half.values(x), half.values(w), half.values(z));
    let rstd = rstd(&x, eps);
    let y = |i: usize| half.round(((x[i] * rstd) * w[i]) * exact::silu(z[i]));
    Ok((0..x.len()).map(y).collect())
}

fn rstd(x: &[f32], eps: f32) -> f32 {
    exact::rsqrt(square_sum(x) / x.len() as f32 + eps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::random::Random;

    /// Relative error of a result before its last rounding: 16 roundings in the sum of a row up to 2048, half of them
    /// after the root; then division, eps, root, and up to four products.
    const BEFORE_ROUNDING: f64 = (8.0 + 1.0 + 1.0 + 1.0 + 4.0) * 1.0 / 16_777_216.0;

    fn row(seed: u64, n: usize, purpose: &str) -> Vec<u16> {
        let r = Random::new(seed, purpose);
        (0..n as u64).map(|i| Half::Bf16.round(r.normal(i))).collect()
    }

    fn near(got: u16, exact: f64) {
        let got = f64::from(Half::Bf16.value(got));
        // Half a unit in bf16's last place is at most 2^-8 of the value.
        let bound = exact.abs() * (2f64.powi(-9) * 2.0 + 2.0 * BEFORE_ROUNDING);
        assert!((got - exact).abs() <= bound, "{got} {exact}");
    }

    #[test]
    fn norms_are_near_their_formulas_in_f64() {
        for (seed, n) in [(1, 1), (2, 128), (3, 130), (4, 2048)] {
            let (x, w, z) = (row(seed, n, "x"), row(seed, n, "w"), row(seed, n, "z"));
            let value = |row: &[u16], i: usize| f64::from(Half::Bf16.value(row[i]));
            let mean = (0..n).map(|i| value(&x, i).powi(2)).sum::<f64>() / n as f64;
            let rstd = 1.0 / (mean + f64::from(1e-6f32)).sqrt();
            let plain = rms_norm(Half::Bf16, &x, &w, 1e-6, false).unwrap();
            let centred = rms_norm(Half::Bf16, &x, &w, 1e-6, true).unwrap();
            let gated = gated_rms_norm(Half::Bf16, &x, &z, &w, 1e-6).unwrap();
            for i in 0..n {
                let y = value(&x, i) * rstd;
                near(plain[i], y * value(&w, i));
                // 1 + w may round, by 2^-24 of the sum or of w: within the spare product.
                near(centred[i], y * (1.0 + value(&w, i)));
                near(
                    gated[i],
                    y * value(&w, i) * value(&z, i) / (1.0 + (-value(&z, i)).exp()),
                );
            }
        }
    }

    #[test]
    fn a_residual_is_rounded_before_it_is_normed() {
        // 1 + 2^-9 rounds to 1 in bf16.
        assert_eq!(add_residual(Half::Bf16, &[0x3F80], &[0x3B00]).unwrap(), [0x3F80]);
        assert!(
            add_residual(Half::Bf16, &[0], &[])
                .unwrap_err()
                .to_string()
                .contains("r has 0")
        );
    }
}
