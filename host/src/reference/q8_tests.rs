//! The reference against values worked out by hand, and against f64.

use super::*;

fn block(scale_bits: u16, q: [i8; 32]) -> Vec<u8> {
    scale_bits.to_le_bytes().into_iter().chain(q.map(|v| v as u8)).collect()
}

#[test]
fn f16_values_agree_with_the_half_crate_for_all_bits() {
    for bits in 0..=u16::MAX {
        let (ours, theirs) = (f16_value(bits), half::f16::from_bits(bits).to_f32());
        assert!(
            ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()),
            "{bits:#06x}"
        );
    }
}

#[test]
fn ties_go_to_even() {
    let cases = [
        (0.5, 0.0),
        (1.5, 2.0),
        (2.5, 2.0),
        (-0.5, 0.0),
        (-1.5, -2.0),
        (-2.5, -2.0),
        (126.5, 126.0),
        (0.49999997, 0.0),
    ];
    for (v, expected) in cases {
        assert_eq!(nearest_even(v), expected, "{v}");
    }
}

#[test]
fn a_block_is_quantised_as_by_hand() {
    let mut x = vec![0.0f32; 33];
    (x[0], x[1], x[2], x[3]) = (254.0, -1.0, 3.0, -254.0);
    x[32] = 1.0e-42;
    let out = quantise(Input::F32(&x), 1, 33).unwrap();
    // d = 2: -0.5 is a tie to even, 1.5 too.
    assert_eq!((out.d[0], &out.q[..4]), (2.0, &[127, 0, 2, -127][..]));
    // The second block holds one value, the rest is padding; its scale is subnormal.
    assert_eq!(out.d[1].to_bits(), (f32::from_bits(714) / 127.0).to_bits());
    assert_eq!(out.q.len(), 64);
    assert!(out.q[33..].iter().all(|&q| q == 0));
}

#[test]
fn what_is_not_finite_follows_the_rule() {
    let mut x = vec![1.0f32; 96];
    x[5] = f32::from_bits(0xFFC0_1234);
    x[40] = f32::NEG_INFINITY;
    x[64..].fill(1.0e-45);
    let out = quantise(Input::F32(&x), 1, 96).unwrap();
    assert_eq!((out.d[0].to_bits(), out.d[1]), (0x7FFF_FFFF, f32::INFINITY));
    // 2^-149 / 127 is zero: so are the integers.
    assert_eq!(out.d[2], 0.0);
    assert!(out.q.iter().all(|&q| q == 0));
    let weights: Vec<u8> = (0..3).flat_map(|_| block(0x3C00, [1; 32])).collect();
    assert_eq!(
        matmul_quantised(&weights, &out, 1, 96, 1).unwrap()[0].to_bits(),
        0x7FFF_FFFF
    );
}

#[test]
fn bf16_is_the_upper_half_of_f32() {
    let x: Vec<f32> = (0..40).map(|i| (i as f32 - 20.0) * 0.25).collect();
    let bits: Vec<u16> = x.iter().map(|v| (v.to_bits() >> 16) as u16).collect();
    assert_eq!(quantise(Input::F32(&x), 1, 40), quantise(Input::Bf16(&bits), 1, 40));
}

#[test]
fn the_order_is_ascending() {
    // 2^24, then 1, then -2^24: ascending, the 1 is lost (a tie to even); descending, -2^24 + 1 is a float and it is kept.
    let q = Quantised {
        q: [[1i8; 32]; 3].concat(),
        d: vec![16_777_216.0 / 32.0, 1.0 / 32.0, -16_777_216.0 / 32.0],
    };
    let weights: Vec<u8> = (0..3).flat_map(|_| block(0x3C00, [1; 32])).collect();
    assert_eq!(matmul_quantised(&weights, &q, 1, 96, 1).unwrap(), [0.0]);
    let back = Quantised {
        d: q.d.iter().rev().copied().collect(),
        ..q
    };
    assert_eq!(matmul_quantised(&weights, &back, 1, 96, 1).unwrap(), [1.0]);
}

#[test]
fn segments_of_16_blocks_are_summed_apart() {
    // Blocks 0..=16 and 17..: 2^24 in block 0, then 1 in block 15 (lost in the chain) or in blocks 16 and 17, whose
    // segment makes 2 of them before it is added.
    let sum = |ones: &[usize]| {
        let mut d = vec![0.0f32; 18];
        d[0] = 16_777_216.0 / 32.0;
        ones.iter().for_each(|&b| d[b] = 1.0 / 32.0);
        let q = Quantised { q: vec![1; 18 * 32], d };
        let weights: Vec<u8> = (0..18).flat_map(|_| block(0x3C00, [1; 32])).collect();
        matmul_quantised(&weights, &q, 1, 18 * 32, 1).unwrap()[0]
    };
    assert_eq!(sum(&[14, 15]), 16_777_216.0);
    assert_eq!(sum(&[15, 16]), 16_777_216.0);
    assert_eq!(sum(&[16, 17]), 16_777_218.0);
}

#[test]
fn many_rows_on_all_cores_equal_each_row_alone() {
    let (n, k, n_tok) = (700, 1056, 3);
    let nb = k / 32;
    let weights: Vec<u8> = (0..n * nb)
        .flat_map(|i| {
            block(
                0x2000 + (i * 37 % 4096) as u16,
                std::array::from_fn(|j| (i * 31 + j * 17) as i8),
            )
        })
        .collect();
    let x: Vec<f32> = (0..n_tok * k)
        .map(|i| ((i * 2654435761) % 1000) as f32 - 500.0)
        .collect();
    let all = matmul(&weights, Input::F32(&x), n, k, n_tok).unwrap();
    for (row, token) in [(0, 0), (349, 1), (350, 2), (699, 0)] {
        let one = &weights[row * nb * 34..(row + 1) * nb * 34];
        let alone = matmul(one, Input::F32(&x[token * k..(token + 1) * k]), 1, k, 1).unwrap();
        assert_eq!(alone[0].to_bits(), all[token * n + row].to_bits());
    }
}

#[test]
fn f32_stays_within_the_bound_of_f64_and_a_wrong_term_does_not() {
    let (n, k, n_tok) = (64, 992, 2);
    let nb = k / 32;
    let mut weights: Vec<u8> = (0..n * nb)
        .flat_map(|i| {
            block(
                0x1800 + (i * 97 % 8192) as u16,
                std::array::from_fn(|j| (i * 7 + j * 59 + i * j) as i8),
            )
        })
        .collect();
    let x: Vec<f32> = (0..n_tok * k)
        .map(|i| ((i * 48271) % 8191) as f32 / 4096.0 - 1.0)
        .collect();
    let q = quantise(Input::F32(&x), n_tok, k).unwrap();
    let oracle = exact(&weights, &q, n, k, n_tok).unwrap();
    let outside = |y: &[f32]| {
        y.iter()
            .zip(&oracle)
            .filter(|(y, e)| (f64::from(**y) - e.value).abs() > e.bound)
            .count()
    };
    assert_eq!(outside(&matmul_quantised(&weights, &q, n, k, n_tok).unwrap()), 0);
    // One weight byte of one row off by one.
    weights[17 * nb * 34 + 40] ^= 1;
    assert_eq!(outside(&matmul_quantised(&weights, &q, n, k, n_tok).unwrap()), n_tok);
}

#[test]
fn a_tensor_of_the_wrong_size_is_named() {
    let wrong = matmul(&[0; 33], Input::F32(&[0.0; 32]), 1, 32, 1).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "blocks has 33 elements, and its shape [n 1, nb 1, bytes 34] needs 34"
    );
    assert!(
        quantise(Input::F32(&[0.0; 31]), 1, 32)
            .unwrap_err()
            .to_string()
            .contains("x has 31 elements")
    );
    assert!(quantise(Input::F32(&[]), usize::MAX, 32).is_err());
}
