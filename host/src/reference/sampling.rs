//! Argmax, seeded sampling and the acceptance of drafts, one row at a time.

use std::cmp::Ordering;

use cuda_std::float::exact;

/// How one row is sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// The argmax unless above 0.
    pub temperature: f32,
    /// 0 keeps all.
    pub top_k: u32,
    /// ceil(p * 2^24); 2^24 and more keeps all.
    pub top_p: u32,
    /// The key of the random numbers.
    pub seed: u64,
    /// Their counter.
    pub position: i32,
}

/// The logits' order: larger first, NaN last, then by index.
fn order(logits: &[f32], a: usize, b: usize) -> Ordering {
    let (x, y) = (logits[a], logits[b]);
    let by_size = match (x.is_nan(), y.is_nan()) {
        (false, false) if x > y => Ordering::Less,
        (false, false) if x < y => Ordering::Greater,
        (false, true) => Ordering::Less,
        (true, false) => Ordering::Greater,
        _ => Ordering::Equal,
    };
    by_size.then(a.cmp(&b))
}

/// The index of the largest logit, the lowest of several; NaN is below everything. 0 of no logits.
pub fn argmax(logits: &[f32]) -> usize {
    (0..logits.len()).min_by(|&a, &b| order(logits, a, b)).unwrap_or(0)
}

/// The token that a row's logits, its parameters and its random number give.
///
/// Weights are floor(exp((logit - max) / temperature) * 2^40). Of the logits in their order the first `top_k` are kept,
/// and of these the shortest prefix, at least one, whose weights have the sum S with S * 2^24 >= top_p * (the sum over
/// the kept). The token is the first in index order among the kept whose running sum exceeds (r * sum) >> 64, r the
/// first 64 bits of Philox. Where every weight is 0 it is the argmax.
pub fn sample(logits: &[f32], with: Sampling) -> usize {
    let best = argmax(logits);
    if with.temperature.is_nan() || with.temperature <= 0.0 || logits.is_empty() {
        return best;
    }
    let weight = |i: usize| {
        let e = exact::exp((logits[i] - logits[best]) / with.temperature);
        // Exact: a power of two. A NaN becomes 0.
        (e * 2f32.powi(40)).floor() as u64
    };
    let mut kept: Vec<usize> = (0..logits.len()).collect();
    kept.sort_unstable_by(|&a, &b| order(logits, a, b));
    if with.top_k != 0 {
        kept.truncate(with.top_k as usize);
    }
    let total: u64 = kept.iter().map(|&i| weight(i)).sum();
    if total == 0 {
        return best;
    }
    if with.top_p < 1 << 24 {
        let mut sum = 0u64;
        let reached = |sum: u64| u128::from(sum) << 24 >= u128::from(with.top_p) * u128::from(total);
        let shortest = kept.iter().position(|&i| {
            sum += weight(i);
            reached(sum)
        });
        kept.truncate(shortest.map_or(kept.len(), |last| last + 1));
    }
    let total: u64 = kept.iter().map(|&i| weight(i)).sum();
    let words = philox(
        [with.position as u32, 0, 0, 0],
        [with.seed as u32, (with.seed >> 32) as u32],
    );
    let random = u64::from(words[0]) + (u64::from(words[1]) << 32);
    let target = (u128::from(random) * u128::from(total)) >> 64;
    kept.sort_unstable();
    let mut sum = 0u128;
    let token = kept.iter().find(|&&i| {
        sum += u128::from(weight(i));
        sum > target
    });
    *token.unwrap_or(&best)
}

/// How many leading drafts are what was chosen at their places, and the token chosen after them. `chosen` has one more
/// than there are drafts.
pub fn accept_draft(drafts: &[i32], chosen: &[i32]) -> (usize, i32) {
    let accepted = drafts
        .iter()
        .zip(chosen)
        .take_while(|(draft, chosen)| draft == chosen)
        .count();
    (accepted, chosen[accepted])
}

/// Philox4x32-10 after the paper's pseudocode.
pub(super) fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut r, mut k) = (counter, key);
    for _ in 0..10 {
        let product = |m: u32, x: u32| {
            let p = u64::from(m) * u64::from(x);
            [(p >> 32) as u32, (p & 0xFFFF_FFFF) as u32]
        };
        let [high0, low0] = product(0xD251_1F53, r[0]);
        let [high1, low1] = product(0xCD9E_8D57, r[2]);
        r = [high1 ^ r[1] ^ k[0], low1, high0 ^ r[3] ^ k[1], low0];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    r
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::random::Random;

    const ALL: Sampling = Sampling {
        temperature: 1.0,
        top_k: 0,
        top_p: 1 << 24,
        seed: 1,
        position: 0,
    };

    #[test]
    fn philox_gives_a_published_vector() {
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
    }

    #[test]
    fn argmax_takes_the_lowest_of_the_largest_and_nan_last() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
        assert_eq!(argmax(&[-0.0, 0.0]), 0);
        assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY]), 1);
        assert_eq!(argmax(&[f32::NAN, f32::NAN]), 0);
    }

    #[test]
    fn tokens_come_as_often_as_their_probabilities_say() {
        let logits = [0.0f32, 1.0, -1.0, 2.0];
        let draws = 20_000;
        for temperature in [0.5f32, 1.0, 3.0] {
            let mut seen = [0u32; 4];
            for position in 0..draws {
                seen[sample(
                    &logits,
                    Sampling {
                        temperature,
                        position,
                        ..ALL
                    },
                )] += 1;
            }
            let weights = logits.map(|l| (f64::from(l - 2.0) / f64::from(temperature)).exp());
            for (count, w) in seen.into_iter().zip(weights) {
                let p = w / weights.iter().sum::<f64>();
                // Five standard deviations of a binomial count.
                let bound = 5.0 * (f64::from(draws) * p * (1.0 - p)).sqrt();
                assert!((f64::from(count) - f64::from(draws) * p).abs() <= bound, "{seen:?}");
            }
        }
    }

    #[test]
    fn what_is_kept_is_what_the_parameters_say() {
        let r = Random::new(2, "sampling");
        let logits: Vec<f32> = (0..200).map(|i| (r.normal(i) * 8.0).round() / 4.0 + 0.0).collect();
        let mut order: Vec<usize> = (0..200).collect();
        // By value descending, then index: another way than the comparison above.
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        let share = |n: usize| {
            let p = |i: &usize| f64::from(logits[*i]).exp();
            order[..n].iter().map(p).sum::<f64>() / order.iter().map(p).sum::<f64>()
        };
        for (top_k, top_p) in [
            (1, 1 << 24),
            (7, 1 << 24),
            (0, 0),
            (0, 1 << 22),
            (0, 15 << 20),
            (20, 1 << 23),
        ] {
            let mut seen = std::collections::BTreeSet::new();
            for position in 0..4000 {
                seen.insert(sample(
                    &logits,
                    Sampling {
                        top_k,
                        top_p,
                        position,
                        ..ALL
                    },
                ));
            }
            let limit = if top_k == 0 { 200 } else { top_k as usize };
            let p = f64::from(top_p) / 2f64.powi(24);
            let by_mass = (1..=limit).find(|&n| share(n) >= p * share(limit) - 1e-9).unwrap();
            assert!(
                seen.iter().all(|token| order[..by_mass].contains(token)),
                "{top_k} {top_p}"
            );
            assert!(
                by_mass > 8 || seen.len() == by_mass,
                "{top_k} {top_p}: {} of {by_mass}",
                seen.len()
            );
        }
    }

    #[test]
    fn without_a_weight_it_is_the_argmax() {
        assert_eq!(sample(&[1.0, f32::INFINITY, 2.0, f32::INFINITY], ALL), 1);
        assert_eq!(sample(&[f32::NAN, f32::NEG_INFINITY, f32::NEG_INFINITY], ALL), 1);
        assert_eq!(sample(&[f32::NAN; 3], ALL), 0);
        for temperature in [0.0, -1.0, f32::NAN] {
            assert_eq!(sample(&[0.0, 5.0, 4.9], Sampling { temperature, ..ALL }), 1);
        }
    }

    #[test]
    fn drafts_are_accepted_up_to_the_first_wrong_one() {
        assert_eq!(accept_draft(&[4, 5, 6], &[4, 5, 7, 8]), (2, 7));
        assert_eq!(accept_draft(&[4, 5], &[4, 5, 6]), (2, 6));
        assert_eq!(accept_draft(&[9, 5], &[4, 5, 6]), (0, 4));
        assert_eq!(accept_draft(&[], &[3]), (0, 3));
    }
}
