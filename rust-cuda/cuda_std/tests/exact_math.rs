//! Exact math against correctly rounded results, on a sample. The run over all inputs is
//! `examples/exact_exhaustive.rs`; its record is held against the source here through a hash.

mod exact_support;

use cuda_std::float::{CANONICAL_NAN, exact, fma};
use exact_support::{CASES, Case, check, check_strided, dd, fill, oracle, ulp_error};

fn case(name: &str) -> &'static Case {
    CASES
        .iter()
        .find(|case| case.name == name)
        .expect("a function of that name")
}

/// splitmix64: the sample is the same on every run.
fn random(state: &mut u64) -> u32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ z >> 31) as u32
}

#[test]
fn every_4096th_input_is_within_the_bound_and_as_recorded() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../results/math/exact.jsonl");
    let text = std::fs::read_to_string(path).expect("results/math/exact.jsonl");
    let records: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON record a line"))
        .collect();
    for case in CASES {
        let outcome = check_strided(case);
        assert!(outcome.max_ulp <= case.max_ulp, "{}: {outcome:x?}", case.name);
        let last = records.iter().rev().find(|record| record["function"] == case.name);
        let record = last.unwrap_or_else(|| panic!("no record of {}", case.name));
        assert_eq!(record["inputs"], 1u64 << 32, "{}", case.name);
        assert!(
            record["max_ulp"].as_f64().is_some_and(|ulp| ulp <= case.max_ulp),
            "{}: {record}",
            case.name
        );
        assert_eq!(
            record["strided_hash"],
            format!("{:016x}", outcome.hash),
            "{}: its results are not those of the run over all inputs; run that again",
            case.name
        );
    }
}

#[test]
fn random_inputs_are_within_the_bound() {
    let mut state = 20_261_121;
    for case in CASES {
        for i in 0..200_000 {
            // Half of them any bits, half of them where the functions bend.
            let bits = match random(&mut state) {
                bits if i % 2 == 0 => bits,
                bits => ((bits as i32 as f32) * 2f32.powi(-25)).to_bits(),
            };
            let outcome = check(case, bits, 1, 1);
            assert!(
                outcome.max_ulp <= case.max_ulp,
                "{}({bits:08x}): {outcome:x?}",
                case.name
            );
        }
    }
}

#[test]
fn neighbours_of_every_threshold_are_within_the_bound() {
    let powers = (-149..=127).map(|e| 2f64.powi(e) as f32);
    let overflow_and_underflow = [
        88.722_84, 87.336_55, 103.972_08, 110.0, 64.0, 126.0, 127.0, 149.0, 150.0, 151.0,
    ];
    let turns = (1..=64).map(|n| (f64::from(n) * std::f64::consts::FRAC_PI_4) as f32);
    // The f32 above 2^30 nearest to a multiple of pi / 2, one and a half billionths away.
    let hard = [
        1.673_523_8e22,
        5.335_785e23,
        f32::MAX,
        f32::MIN_POSITIVE,
        1.0,
        0.5f32.sqrt(),
        2f32.sqrt(),
    ];
    let points: Vec<f32> = powers.chain(overflow_and_underflow).chain(turns).chain(hard).collect();
    for case in CASES {
        for point in &points {
            for sign in [0, 0x8000_0000] {
                let outcome = check(case, (point.to_bits() | sign).wrapping_sub(64), 1, 128);
                assert!(
                    outcome.max_ulp <= case.max_ulp,
                    "{} around {point}: {outcome:x?}",
                    case.name
                );
            }
        }
    }
}

#[test]
fn special_values() {
    const INF: f32 = f32::INFINITY;
    const NAN: f32 = CANONICAL_NAN;
    let expected: &[(&str, [(f32, f32); 6])] = &[
        (
            "exp",
            [
                (0.0, 1.0),
                (-0.0, 1.0),
                (INF, INF),
                (-INF, 0.0),
                (89.0, INF),
                (-104.0, 0.0),
            ],
        ),
        (
            "exp2",
            [
                (0.0, 1.0),
                (-149.0, 1e-45),
                (INF, INF),
                (-INF, 0.0),
                (128.0, INF),
                (-150.0, 0.0),
            ],
        ),
        (
            "log",
            [
                (0.0, -INF),
                (-0.0, -INF),
                (INF, INF),
                (-INF, NAN),
                (1.0, 0.0),
                (-1e-45, NAN),
            ],
        ),
        (
            "log1p",
            [
                (0.0, 0.0),
                (-0.0, -0.0),
                (INF, INF),
                (-INF, NAN),
                (-1.0, -INF),
                (-1.000_000_1, NAN),
            ],
        ),
        (
            "rsqrt",
            [
                (0.0, INF),
                (-0.0, -INF),
                (INF, 0.0),
                (-INF, NAN),
                (4.0, 0.5),
                (-1e-45, NAN),
            ],
        ),
        (
            "sigmoid",
            [
                (0.0, 0.5),
                (-0.0, 0.5),
                (INF, 1.0),
                (-INF, 0.0),
                (1e-45, 0.5),
                (17.5, 1.0),
            ],
        ),
        (
            "softplus",
            [
                (1e9, 1e9),
                (-150.0, 0.0),
                (INF, INF),
                (-INF, 0.0),
                (100.0, 100.0),
                (0.0, std::f32::consts::LN_2),
            ],
        ),
        (
            "silu",
            [
                (0.0, 0.0),
                (-0.0, -0.0),
                (INF, INF),
                (-INF, -0.0),
                (1e9, 1e9),
                (-150.0, -0.0),
            ],
        ),
        (
            "sin",
            [
                (0.0, 0.0),
                (-0.0, -0.0),
                (INF, NAN),
                (-INF, NAN),
                (1e-45, 1e-45),
                (-1e-40, -1e-40),
            ],
        ),
        (
            "cos",
            [
                (0.0, 1.0),
                (-0.0, 1.0),
                (INF, NAN),
                (-INF, NAN),
                (1e-45, 1.0),
                (-1e-4, 1.0),
            ],
        ),
    ];
    assert_eq!(expected.len(), CASES.len());
    for (name, pairs) in expected {
        // A NaN of any sign and payload, quiet or signalling, comes back as the one NaN.
        let nans = [
            0x7fc0_0000,
            0xffc0_0000,
            0x7f80_0001,
            0xff80_0001,
            0x7fff_ffff,
            0xffff_ffff,
        ];
        let nans = nans.map(|bits| (f32::from_bits(bits), NAN));
        for (x, y) in pairs.iter().chain(&nans) {
            let mut got = [0];
            (case(name).run)(x.to_bits(), 0, &mut got);
            assert_eq!(got[0], y.to_bits(), "{name}({x}) = {}, not {y}", f32::from_bits(got[0]));
        }
    }
}

#[test]
fn sine_is_odd_and_cosine_even_to_the_bit() {
    for bits in (0..0x7f80_0000).step_by(8191) {
        let x = f32::from_bits(bits);
        assert_eq!((-exact::sin(x)).to_bits(), exact::sin(-x).to_bits(), "sin({x})");
        assert_eq!(exact::cos(x).to_bits(), exact::cos(-x).to_bits(), "cos({x})");
    }
}

#[test]
fn the_list_of_functions_is_complete() {
    assert_eq!(exact::FUNCTIONS.len(), CASES.len());
    for ((name, function), case) in exact::FUNCTIONS.iter().zip(CASES) {
        assert_eq!(*name, case.name);
        let (mut listed, mut direct) = ([0; 4096], [0; 4096]);
        fill(function, 0, 1 << 20, &mut listed);
        (case.run)(0, 1 << 20, &mut direct);
        assert_eq!(listed, direct, "{name}");
    }
}

/// The oracle's own arithmetic against `core-math`, which shares nothing with it.
#[test]
fn the_slow_oracle_agrees_with_core_math() {
    let mut state = 7;
    for _ in 0..20_000 {
        let x = (random(&mut state) as i32 as f32) * 2f32.powi(-25);
        assert_eq!(dd::exp(x.into()).to_f32(), core_math::expf(x), "exp({x:e})");
        assert_eq!(dd::exp_m1(x.into()).to_f32(), core_math::expm1f(x), "expm1({x:e})");
        let t = x.abs();
        assert_eq!(
            dd::ln_1p(dd::Dd::of(t.into())).to_f32(),
            core_math::log1pf(t),
            "log1p({t:e})"
        );
    }
    // Half of an odd subnormal is a tie, which x^2 / 4 decides upwards.
    assert_eq!(oracle::silu(f32::from_bits(1)).to_bits(), 1);
    assert_eq!(oracle::silu(-f32::from_bits(1)).to_bits(), 0x8000_0000);
    assert_eq!(oracle::silu(-f32::from_bits(3)).to_bits(), 0x8000_0001);
}

/// A case of the same name whose function is another.
fn planted(name: &str, run: fn(u32, u32, &mut [u32])) -> Case {
    Case {
        name: case(name).name,
        run,
        ..*case(name)
    }
}

#[test]
fn planted_errors_are_caught() {
    // One last bit in 2^32 results.
    let one_bit = planted("rsqrt", |start, step, out| {
        fill(
            |x| f32::from_bits(exact::rsqrt(x).to_bits() ^ u32::from(x == 3.0)),
            start,
            step,
            out,
        );
    });
    let near_3 = (3f32.to_bits() - 10, 1, 20);
    let (good, bad) = (
        check(case("rsqrt"), near_3.0, near_3.1, near_3.2),
        check(&one_bit, near_3.0, near_3.1, near_3.2),
    );
    assert_eq!((good.misrounded, bad.misrounded, bad.worst), (0, 1, 3f32.to_bits()));
    assert!(bad.max_ulp > 0.5 && bad.hash != good.hash);

    // The textbook forms, each with one rounding too many.
    let wrong: [Case; 4] = [
        planted("exp", |start, step, out| {
            fill(|x| exact::exp2(x * std::f32::consts::LOG2_E), start, step, out)
        }),
        planted("sigmoid", |start, step, out| {
            fill(|x| 1.0 / (1.0 + exact::exp(-x)), start, step, out)
        }),
        planted("rsqrt", |start, step, out| fill(|x| 1.0 / x.sqrt(), start, step, out)),
        planted("softplus", |start, step, out| {
            fill(|x| exact::log1p(exact::exp(x)), start, step, out)
        }),
    ];
    for wrong in &wrong {
        let outcome = check_strided(wrong);
        assert!(outcome.max_ulp > wrong.max_ulp, "{} passed: {outcome:?}", wrong.name);
    }

    // Subnormal results flushed to zero, and a NaN that keeps its payload.
    let flushed = planted("exp", |start, step, out| {
        fill(
            |x| Some(exact::exp(x)).filter(|y| y.is_normal()).unwrap_or(0.0),
            start,
            step,
            out,
        );
    });
    assert!(check(&flushed, (-90f32).to_bits(), 1, 10).max_ulp > 1.0);
    let payload = planted("cos", |start, step, out| {
        fill(|x| if x.is_nan() { x } else { exact::cos(x) }, start, step, out)
    });
    assert!(check(&payload, 0x7fc0_0001, 1, 1).max_ulp.is_infinite());
}

#[test]
fn a_perturbed_coefficient_is_caught() {
    // exp2's polynomial on [0.25, 0.5], with one coefficient moved by `units` of its last place.
    let worst = |units: u32| {
        let bits = [
            0x3f31_7218,
            0x3e75_fdee,
            0x3d63_57be + units,
            0x3c1d_96f0,
            0x3aaf_8417,
            0x3920_b5a1,
        ];
        let c = bits.map(f32::from_bits);
        let errors = (0x3e80_0000..0x3f00_0000).step_by(997).map(|bits| {
            let x = f32::from_bits(bits);
            let q = c[..5].iter().rev().fold(c[5], |sum, c| fma(sum, x, *c));
            ulp_error(fma(x, q, 1.0).to_bits(), core_math::exp2f(x), core_math::exp2(x.into()))
        });
        errors.fold(0.0, f64::max)
    };
    let bound = case("exp2").max_ulp;
    assert!(worst(0) <= bound, "{}", worst(0));
    assert!(worst(1 << 7) > bound, "{}", worst(1 << 7));
}
