//! What the drawn problems are.

use super::*;

#[test]
fn half_is_random_bits_and_a_seed_repeats() {
    let of = |kind| (0..400).filter(|i| category(kind, *i) == Category::RandomBits).count();
    assert_eq!((of(Kind::Bf16), of(Kind::F16), of(Kind::S8)), (200, 200, 200));
    for kind in [Kind::Bf16, Kind::F16, Kind::S8] {
        for index in 0..64 {
            let p = problem(kind, 3, index);
            assert_eq!(p, problem(kind, 3, index));
            assert_ne!(p, problem(kind, 4, index));
        }
    }
}

#[test]
fn categories_hold_what_they_say() {
    for kind in [Kind::Bf16, Kind::F16] {
        let value = |x: u16| match kind {
            Kind::Bf16 => half::bf16::from_bits(x).to_f64(),
            _ => half::f16::from_bits(x).to_f64(),
        };
        for index in 0..2800 {
            let p = problem(kind, 1, index);
            let sum = |m: usize, n: usize| -> f64 {
                (0..16)
                    .map(|k| value(p.a[m * 16 + k]) * value(p.b[n * 16 + k]))
                    .sum::<f64>()
            };
            match category(kind, index) {
                Category::ExactZero => assert_eq!(sum(3, 5), 0.0, "{kind:?} {index}"),
                Category::Tiny if kind == Kind::Bf16 => assert!(sum(1, 2).abs() < 2f64.powi(-100), "{index}"),
                Category::RandomBits | Category::Specials => {}
                _ => assert!(sum(7, 7).is_finite(), "{kind:?} {index}"),
            }
        }
    }
}
