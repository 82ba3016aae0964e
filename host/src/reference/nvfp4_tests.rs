//! The formats against their tables as published, the quantiser against its own promises.

use super::*;
use crate::op::Values;
use crate::op::data::Draw;

#[test]
fn e2m1_has_the_eight_magnitudes_of_the_format() {
    let all: Vec<f32> = (0..16).map(e2m1).collect();
    assert_eq!(all[..8], [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]);
    assert!(
        all[8..]
            .iter()
            .zip(&all[..8])
            .all(|(n, p)| n.to_bits() == p.to_bits() | 1 << 31)
    );
}

#[test]
fn e4m3_has_its_landmarks_and_two_nan() {
    assert_eq!(
        [0x00, 0x01, 0x07, 0x08, 0x38, 0x7E].map(e4m3),
        [0.0, 2f32.powi(-9), 7.0 * 2f32.powi(-9), 2f32.powi(-6), 1.0, 448.0]
    );
    assert!((1..0x7F).all(|b| e4m3(b) > e4m3(b - 1) && e4m3(b | 0x80) == -e4m3(b)));
    assert!(e4m3(0x7F).is_nan() && e4m3(0xFF).is_nan() && e4m3(0x80).to_bits() == 1 << 31);
}

#[test]
fn every_weight_is_exact_in_bf16_and_in_f16() {
    for byte in 0..=255 {
        for code in 0..16 {
            let exact = e2m1(code) * e4m3(byte);
            let (b, h) = (
                <half::bf16 as Number>::rounded(exact),
                <half::f16 as Number>::rounded(exact),
            );
            if exact.is_nan() {
                assert_eq!((b.to_bits(), h.to_bits()), (0x7FFF, 0x7FFF));
            } else {
                assert_eq!((b.value(), h.value()), (exact, exact), "code {code}, scale {byte:#x}");
            }
        }
    }
}

#[test]
fn ties_go_to_the_even_code_and_nothing_beyond_the_last() {
    let ties = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0];
    assert_eq!(ties.map(|v| nearest(v, 7, e2m1)), [0, 2, 2, 4, 4, 6, 6]);
    let above = |v: f32| f32::from_bits(v.to_bits() + 1);
    assert_eq!(ties.map(|v| nearest(above(v), 7, e2m1)), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(nearest(1e9, 7, e2m1), 7);
    // 2^-10 lies between 0 and the smallest; 17 between 16 and 18.
    assert_eq!(
        [2f32.powi(-10), above(2f32.powi(-10)), 17.0, 448.0].map(to_e4m3),
        [0, 1, 0x58, 0x7E]
    );
}

/// Each value comes back within half a step of its block's scale, plus what the scale's own rounding may cut from the largest.
#[test]
fn what_is_quantised_comes_back_near() {
    for convention in [Convention::ModelOpt, Convention::CompressedTensors] {
        let values = Values::Normal;
        let x: Vec<bf16> = Draw { seed: 9, values }.floats("x", 4, 64, 0.3);
        let made = quantise(&x, 4, 64, convention).unwrap();
        let weights = Weights {
            codes: &made.codes,
            scales: &made.scales,
            n: 4,
            k: 64,
        };
        let back: Vec<bf16> = weights.dequantised().unwrap();
        for (i, (x, back)) in x.iter().zip(&back).enumerate() {
            let (s, scale) = (made.tensor_scale, e4m3(made.scales[i / BLOCK]));
            let (back, unit) = match convention {
                Convention::ModelOpt => (back.to_f32() * s, scale * s),
                Convention::CompressedTensors => (back.to_f32() / s, scale / s),
            };
            // Steps near 6 are 2 units wide. A scale is off by at most 2^-4 of itself (and, in bf16, 2^-7), so the largest may be 6.5 units.
            assert!(
                (x.to_f32() - back).abs() <= 1.001 * unit,
                "{convention:?} [{i}]: {x} came back as {back}"
            );
        }
    }
}

#[test]
fn the_two_conventions_differ_and_a_matrix_of_zeros_is_what_their_writers_make_of_it() {
    let zeros = [bf16::ZERO; 16];
    let made = quantise(&zeros, 1, 16, Convention::ModelOpt).unwrap();
    // 0 / 0 is a NaN scale there, and a NaN quotient is code 7.
    assert_eq!(
        (made.scales, made.codes, made.tensor_scale),
        (vec![0x7F], vec![0x77; 8], 0.0)
    );
    let made = quantise(&zeros, 1, 16, Convention::CompressedTensors).unwrap();
    assert_eq!(
        (made.scales, made.codes, made.tensor_scale),
        (vec![0x20], vec![0; 8], 1.0)
    );
    let some: Vec<bf16> = (0..16).map(|i| bf16::from_f32(i as f32 - 7.0)).collect();
    let [a, b] = [Convention::ModelOpt, Convention::CompressedTensors].map(|c| quantise(&some, 1, 16, c).unwrap());
    assert_ne!(a.tensor_scale, b.tensor_scale);
    assert_eq!(a.tensor_scale, 8.0 / 2688.0);
    assert_eq!(b.tensor_scale, 336.0);
}
