//! Rotary position embedding, one head at a time.

use half::bf16;

use super::to_bf16;
use cuda_std::float::exact;

/// Turns the first `2 * inv_freq.len()` elements of a head by the angles of its position; the others stay as they are.
/// A head that is shorter is turned as far as it goes.
///
/// angle = f32(position) * inv_freq\[i\]; y1 = round(fma(x1, c, -(x2 * s))), y2 = round(fma(x2, c, x1 * s)). The pairs
/// are (i, i + rot / 2), or (2 i, 2 i + 1) when interleaved.
pub fn rope(head: &mut [bf16], position: i32, inv_freq: &[f32], interleaved: bool) {
    let half = inv_freq.len();
    for (i, &frequency) in inv_freq.iter().enumerate() {
        let (one, two) = if interleaved { (2 * i, 2 * i + 1) } else { (i, i + half) };
        if two >= head.len() {
            continue;
        }
        let angle = position as f32 * frequency;
        let (c, s) = (exact::cos(angle), exact::sin(angle));
        let (x1, x2) = (head[one].to_f32(), head[two].to_f32());
        head[one] = to_bf16(x1.mul_add(c, -(x2 * s)));
        head[two] = to_bf16(x2.mul_add(c, x1 * s));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::random::Random;

    #[test]
    fn a_turned_pair_is_near_the_complex_product_in_f64() {
        let r = Random::new(1, "rope");
        let inv_freq = [1.0f32, 0.1, 0.001];
        for interleaved in [false, true] {
            for position in [0, 1, 1000, 100_000, -7] {
                let before: Vec<bf16> = (0..8).map(|i| bf16::from_f32(r.normal(i))).collect();
                let mut after = before.clone();
                rope(&mut after, position, &inv_freq, interleaved);
                for (i, &frequency) in inv_freq.iter().enumerate() {
                    let (one, two) = if interleaved { (2 * i, 2 * i + 1) } else { (i, i + 3) };
                    // The one rounding of the angle is part of the operation.
                    let angle = f64::from(position as f32 * frequency);
                    let (x1, x2) = (before[one].to_f64(), before[two].to_f64());
                    let exact = (x1 * angle.cos() - x2 * angle.sin(), x2 * angle.cos() + x1 * angle.sin());
                    // The last rounding, half an ulp of bf16 (2^-8 of the value); c, s, the product and the sum before
                    // it.
                    let near = |got: bf16, exact: f64| {
                        let before = (x1.abs() + x2.abs()) * 4.0 * 2f64.powi(-24);
                        (got.to_f64() - exact).abs() <= exact.abs() * 2f64.powi(-8) + before * 1.01
                    };
                    assert!(near(after[one], exact.0) && near(after[two], exact.1), "{position} {i}");
                }
                assert_eq!(before[6..], after[6..], "beyond the turned elements");
            }
        }
    }

    #[test]
    fn angles_that_are_not_numbers_make_the_one_nan() {
        let mut head = [bf16::ONE; 2];
        rope(&mut head, i32::MAX, &[f32::MAX], false);
        assert_eq!(head.map(bf16::to_bits), [0x7FFF; 2]);
    }
}
