use super::*;
use crate::op::random::Random;

fn noise(seed: u64, count: usize, scale: f32) -> Vec<f32> {
    let random = Random::new(seed, "moe reference");
    (0..count as u64).map(|i| random.normal(i) * scale).collect()
}

#[test]
fn weights_are_the_softmax_within_the_rounding_of_its_parts() {
    let (n_tok, experts, top_k) = (40, 60, 7);
    let logits = noise(1, n_tok * experts, 3.0);
    for normalise in [false, true] {
        let Routed { ids, weights } = router(&logits, n_tok, experts, top_k, normalise).unwrap();
        for token in 0..n_tok {
            let row = &logits[token * experts..][..experts];
            let mut best: Vec<usize> = (0..experts).collect();
            best.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            let e = |expert: usize| (f64::from(row[expert]) - f64::from(row[best[0]])).exp();
            let over = if normalise { &best[..top_k] } else { &best[..] };
            let sum: f64 = over.iter().map(|&expert| e(expert)).sum();
            for (slot, &expert) in best[..top_k].iter().enumerate() {
                let at = token * top_k + slot;
                assert_eq!(ids[at] as usize, expert);
                let wanted = e(expert) / sum;
                // The difference of logits is within half an ulp of up to 16 (2^-21), exp within an ulp, 16 additions deep at
                // most, one division: below 2^-20 + 2^-20 + 20 * 2^-24 of the value.
                let error = (f64::from(weights[at]) - wanted).abs();
                assert!(
                    error <= wanted * 4.0 * 2f64.powi(-20),
                    "{token} {slot}: {error} of {wanted}"
                );
            }
        }
    }
}

#[test]
fn ties_go_to_the_lower_index_and_nan_comes_last() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let ids = |row: &[f32]| router(row, 1, row.len(), row.len(), true).unwrap().ids;
    assert_eq!(ids(&[0.0, 1.0, -0.0, 1.0, 0.0]), [1, 3, 0, 2, 4]);
    assert_eq!(ids(&[nan, -inf, 3.0, nan, inf]), [4, 2, 1, 0, 3]);
    let Routed { weights, .. } = router(&[1.0, nan, 1.0], 1, 3, 2, true).unwrap();
    assert_eq!(weights, [0.5, 0.5]);
    // Over all experts, a NaN is in the sum, chosen or not.
    let Routed { weights, .. } = router(&[1.0, nan, 1.0], 1, 3, 2, false).unwrap();
    assert!(weights.iter().all(|w| w.to_bits() == 0x7FFF_FFFF));
}

#[test]
fn the_sum_of_all_experts_is_no_chain() {
    let differs = (0..20).any(|seed| {
        let logits = noise(seed, 512, 2.0);
        let max = logits.iter().copied().fold(f32::MIN, f32::max);
        let chain = logits
            .iter()
            .fold(0f32, |sum, l| sum + cuda_std::float::exact::exp(l - max));
        let best = cuda_std::float::exact::exp(0.0) / chain;
        router(&logits, 1, 512, 1, false).unwrap().weights[0] != best
    });
    assert!(differs);
}

#[test]
fn a_sort_keeps_pairs_of_an_expert_in_order_and_puts_strays_last() {
    let Sorted { offsets, sorted } = sort(&[2, -1, 0, 2, 3, 0, i32::MAX], 3);
    assert_eq!(offsets, [0, 2, 2, 4]);
    assert_eq!(sorted, [2, 5, 0, 3, 1, 4, 6]);
    let nothing = sort(&[], 4);
    assert_eq!((nothing.offsets, nothing.sorted), (vec![0; 5], vec![]));
}

#[test]
fn a_combined_token_is_the_weighted_sum_within_one_rounding_a_slot() {
    let (n_tok, top_k, n) = (5, 6, 33);
    let halves = |seed, count| -> Vec<bf16> { noise(seed, count, 1.0).into_iter().map(bf16::from_f32).collect() };
    let (x, weights) = (halves(1, n_tok * top_k * n), noise(2, n_tok * top_k, 0.3));
    let (gate, shared, residual) = (noise(3, n_tok, 2.0), halves(4, n_tok * n), halves(5, n_tok * n));
    let y = |extras| combine(&x, &weights, extras, n_tok, top_k, n).unwrap();
    let shared_only = Extras {
        shared: Some((&gate, &shared)),
        residual: None,
    };
    let (plain, shared_too) = (y(Extras::default()), y(shared_only));
    let all = y(Extras {
        residual: Some(&residual),
        ..shared_only
    });
    for (i, y) in plain.iter().enumerate() {
        let (token, j) = (i / n, i % n);
        let terms = (0..top_k).map(|s| {
            let pair = token * top_k + s;
            f64::from(weights[pair]) * x[pair * n + j].to_f64()
        });
        let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()));
        let with_shared = sum + shared[i].to_f64() / (1.0 + f64::from(-gate[token]).exp());
        // Each fma errs by 2^-24 of what it sums, the store by 2^-9 of the value (bf16 has 8 bits).
        let bound = |value: f64| 8.0 * 2f64.powi(-24) * (size + value.abs() + 1.0) + value.abs() * 2f64.powi(-8);
        assert!((y.to_f64() - sum).abs() <= bound(sum));
        assert!((shared_too[i].to_f64() - with_shared).abs() <= bound(with_shared));
        // The residual is added to what was rounded.
        assert_eq!(all[i], bf16::from_f32(shared_too[i].to_f32() + residual[i].to_f32()));
    }
}

#[test]
fn slots_in_another_order_give_other_bytes() {
    let value = |v: &[f32]| -> f32 {
        let x: Vec<bf16> = v.iter().map(|&v| bf16::from_f32(v)).collect();
        let y = combine(&x, &vec![0.5; v.len()], Extras::default(), 1, v.len(), 1).unwrap();
        y[0].to_f32()
    };
    assert_eq!(value(&[1e30, -1e30, 3.0]), 1.5);
    assert_eq!(value(&[3.0, 1e30, -1e30]), 0.0);
}

#[test]
fn tensors_of_another_shape_are_refused_by_name() {
    let error = router(&[0.0; 5], 2, 3, 1, true).unwrap_err().to_string();
    assert!(error.contains("logits has 5") && error.contains('6'), "{error}");
    let error = combine(&[bf16::ONE; 4], &[1.0], Extras::default(), 1, 2, 2)
        .unwrap_err()
        .to_string();
    assert!(error.contains("weights has 1"), "{error}");
}

/// bf16 of a standard deviation of `scale`.
fn halves(seed: u64, count: usize, scale: f32) -> Vec<bf16> {
    noise(seed, count, scale).into_iter().map(bf16::from_f32).collect()
}

#[test]
fn a_grouped_row_is_its_experts_product_and_a_stray_one_is_zero() {
    let (experts, top_k, n, k) = (3, 2, 5, 40);
    let ids = [2, 0, 7, 2, 0, -3, 2, 2];
    let order = &sort(&ids, experts);
    let (x, w) = (halves(1, 4 * k, 1.0), halves(2, experts * n * k, 0.2));
    let weights = Experts::Bf16(&w);
    let gathered = Grouped {
        x: &x,
        weights,
        order,
        top_k,
        n,
        k,
        gather: true,
    };
    let y = gathered.whole().unwrap();
    for (place, &pair) in order.sorted.iter().enumerate() {
        let (pair, row) = (pair as usize, &y[place * n..][..n]);
        let Some(expert) = usize::try_from(ids[pair]).ok().filter(|&id| id < experts) else {
            assert!(row.iter().all(|y| y.to_bits() == 0));
            continue;
        };
        for (column, y) in row.iter().enumerate() {
            let products = (0..k).map(|i| x[pair / top_k * k + i].to_f64() * w[(expert * n + column) * k + i].to_f64());
            let (sum, size) = products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()));
            // Three steps, each of 17 addends truncated 2^-25 below the largest and cut to 24 bits; then a bf16 of 8 bits.
            let bound = size * 3.0 * (17.0 * 2f64.powi(-25) + 2f64.powi(-23)) + sum.abs() * 2f64.powi(-8);
            assert!((y.to_f64() - sum).abs() <= bound, "{place} {column}: {y} {sum}");
        }
    }
    // The way back takes rows in sorted order to their pairs: the same rows, elsewhere.
    let sorted_x: Vec<bf16> = order
        .sorted
        .iter()
        .flat_map(|&pair| &x[pair as usize / top_k * k..][..k])
        .copied()
        .collect();
    let back = Grouped {
        x: &sorted_x,
        gather: false,
        ..gathered
    }
    .whole()
    .unwrap();
    for (place, &pair) in order.sorted.iter().enumerate() {
        assert_eq!(y[place * n..][..n], back[pair as usize * n..][..n]);
    }
    // Some places and columns are what they are in the whole.
    for (row, values) in gathered.at(&[1, 4, 6], &[0, 3]).unwrap() {
        assert_eq!(values, [y[row * n], y[row * n + 3]]);
    }
}

#[test]
fn nvfp4_experts_are_their_dequantised_weights_times_the_tensor_scale() {
    let (experts, n, k) = (2, 3, 32);
    let random = Random::new(9, "codes");
    let codes: Vec<u8> = (0..experts * n * k / 2).map(|i| random.at(i as u64) as u8).collect();
    let scales: Vec<u8> = (0..experts * n * k / 16).map(|i| 0x30 + i as u8 % 16).collect();
    let of = |convention, tensor: &[f32]| {
        let order = &sort(&[1, 0], experts);
        let weights = Experts::Nvfp4 {
            codes: &codes,
            scales: &scales,
            tensor,
            convention,
        };
        let x = &halves(3, 2 * k, 1.0);
        Grouped {
            x,
            weights,
            order,
            top_k: 1,
            n,
            k,
            gather: true,
        }
        .whole()
        .unwrap()
    };
    let one = of(Convention::ModelOpt, &[1.0, 1.0]);
    let w = Weights {
        codes: &codes,
        scales: &scales,
        n: experts * n,
        k,
    };
    let dense = Grouped {
        x: &halves(3, 2 * k, 1.0),
        weights: Experts::Bf16(&w.dequantised().unwrap()),
        order: &sort(&[1, 0], experts),
        top_k: 1,
        n,
        k,
        gather: true,
    };
    assert_eq!(one, dense.whole().unwrap());
    // Powers of two round nowhere: expert 0 (the first row) times 2, expert 1 times 0.25, by either convention.
    let times = |row: &[bf16], f: f32| -> Vec<bf16> { row.iter().map(|y| bf16::from_f32(y.to_f32() * f)).collect() };
    let expected = [times(&one[..n], 2.0), times(&one[n..], 0.25)].concat();
    assert_eq!(of(Convention::ModelOpt, &[2.0, 0.25]), expected);
    assert_eq!(of(Convention::CompressedTensors, &[0.5, 4.0]), expected);
}

#[test]
fn a_layer_with_its_slots_in_another_order_gives_other_bytes_and_its_tokens_do_not_depend_on_each_other() {
    let (experts, n, k, top_k) = (4, 16, 24, 3);
    let (gate_up, down) = (halves(1, experts * 2 * n * k, 0.3), halves(2, experts * k * n, 0.3));
    let layer = Layer {
        gate_up: Experts::Bf16(&gate_up),
        down: Experts::Bf16(&down),
        experts,
        n,
        k,
    };
    let (x, ids) = (halves(3, 2 * k, 1.0), [3, 1, 0, 1, 2, 3]);
    let weights = [0.5, 0.3, 0.2, 0.6, 0.3, 0.1];
    let y = layer.forward(&x, &ids, &weights, None, 2).unwrap();
    assert!(y.iter().any(|y| y.to_f32() != 0.0));
    // With routed experts that weigh nothing, the shared one alone is left.
    let (gate, shared) = ([0.5, -1.5], halves(4, 2 * k, 1.0));
    let alone = layer.forward(&x, &ids, &[0.0; 6], Some((&gate, &shared)), 2).unwrap();
    for (i, y) in alone.iter().enumerate() {
        let wanted = shared[i].to_f64() / (1.0 + f64::from(-gate[i / k]).exp());
        assert!(
            (y.to_f64() - wanted).abs() <= wanted.abs() * 2f64.powi(-8),
            "{i}: {y} for {wanted}"
        );
    }
    for token in 0..2 {
        let (slots, row) = (token * top_k..(token + 1) * top_k, token * k..(token + 1) * k);
        let alone = layer
            .forward(&x[row.clone()], &ids[slots.clone()], &weights[slots], None, 1)
            .unwrap();
        assert_eq!(alone, y[row]);
    }
    let differs = (0..50).any(|seed| {
        let x = halves(10 + seed, k, 1.0);
        let forward = layer.forward(&x, &[3, 1, 0], &[0.5, 0.3, 0.2], None, 1).unwrap();
        forward != layer.forward(&x, &[0, 1, 3], &[0.2, 0.3, 0.5], None, 1).unwrap()
    });
    assert!(differs);
}
