//! `exp2a` and `pow2`, which attention's softmax is made of, against 2^x from `core-math`.
//!
//! The run over all 2^32 inputs, whose last line is the record for `results/math/exact.jsonl`:
//! `RUSTFLAGS="-C target-cpu=native" cargo test --release -p cuda_std --test exp2a -- --ignored --nocapture`

use cuda_std::float::exact::{exp2a, pow2};

/// The bound that the function's doc states.
const BOUND: f64 = 1.02e-4;

/// What a range of inputs gave.
#[derive(Debug)]
struct Outcome {
    /// The largest relative error of the results for inputs in -126..=127.5.
    relative: f64,
    /// The largest absolute error for inputs in -127..-126, in units of 2^-127.
    near_zero: f64,
    /// FNV-1a over the bits of all results.
    hash: u64,
}

/// Compares `f` for the inputs with the bits 0, `step`, 2 `step`, ...
///
/// # Panics
/// A result that is wrong whatever the bound: for x <= -127 or a NaN not +0, for an integer not the power of two.
fn check(f: impl Fn(f32) -> f32, step: u64) -> Outcome {
    let mut outcome = Outcome {
        relative: 0.0,
        near_zero: 0.0,
        hash: 0xcbf2_9ce4_8422_2325,
    };
    for bits in (0..1u64 << 32).step_by(step as usize) {
        let x = f32::from_bits(bits as u32);
        let y = f(x);
        outcome.hash = (outcome.hash ^ u64::from(y.to_bits())).wrapping_mul(0x0000_0100_0000_01b3);
        // The truth to an ulp is a thousand times better than what is checked.
        let error = || (f64::from(y) - f64::from(core_math::exp2f(x))).abs();
        if x.is_nan() || x <= -127.0 {
            assert_eq!(y.to_bits(), 0, "exp2a({x:e}) = {y:e}");
        } else if x < -126.0 {
            outcome.near_zero = outcome.near_zero.max(error() * 2f64.powi(127));
        } else if x <= 127.5 {
            if x == x.trunc() {
                assert_eq!(y, 2f32.powi(x as i32), "exp2a({x})");
            }
            outcome.relative = outcome.relative.max(error() / f64::from(core_math::exp2f(x)));
        }
    }
    outcome
}

/// Every 4096th input.
const STRIDE: u64 = 4096;

fn record() -> serde_json::Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../results/math/exact.jsonl");
    let text = std::fs::read_to_string(path).expect("results/math/exact.jsonl");
    let records = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a JSON record a line"));
    records
        .filter(|r| r["function"] == "exp2a")
        .reduce(|_, last| last)
        .expect("a record")
}

#[test]
fn every_4096th_input_is_within_the_bound_and_as_recorded() {
    let outcome = check(exp2a, STRIDE);
    assert!(outcome.relative <= BOUND && outcome.near_zero <= 1.0, "{outcome:?}");
    let record = record();
    assert_eq!(record["inputs"], 1u64 << 32);
    assert!(record["max_relative"].as_f64().is_some_and(|e| e <= BOUND), "{record}");
    let hash = format!("{:016x}", outcome.hash);
    assert_eq!(
        record["strided_hash"], hash,
        "not the function of the run over all inputs; run that again"
    );
}

#[test]
#[ignore = "all 2^32 inputs: a minute in release, the command is at the top of this file"]
fn all_inputs() {
    let outcome = check(exp2a, 1);
    let record = serde_json::json!({
        "function": "exp2a",
        "inputs": 1u64 << 32,
        "max_relative": (outcome.relative * 1e10).ceil() / 1e10,
        "max_error_below_2_-126_in_2_-127": (outcome.near_zero * 1e6).ceil() / 1e6,
        "output_hash": format!("{:016x}", outcome.hash),
        "strided_hash": format!("{:016x}", check(exp2a, STRIDE).hash),
        "hash": "FNV-1a 64 over 32-bit words: the results in the order of the inputs' bits",
        "command": "cargo test --release -p cuda_std --test exp2a -- --ignored --nocapture",
        "hardware_fma": cfg!(target_feature = "fma"),
    });
    println!("{record}");
    assert!(outcome.relative <= BOUND && outcome.near_zero <= 1.0, "{outcome:?}");
}

#[test]
fn a_worse_polynomial_and_a_missing_clamp_are_caught() {
    // The last coefficient off by one part in 64.
    let worse = |x: f32| {
        if x.abs() < 0.5 {
            exp2a(x) + x * x * x * 0.0009
        } else {
            exp2a(x)
        }
    };
    assert!(check(worse, STRIDE).relative > BOUND);
    let unclamped = |x: f32| if x.is_nan() { exp2a(0.0) } else { exp2a(x) };
    assert!(std::panic::catch_unwind(|| check(unclamped, STRIDE)).is_err());
}

#[test]
fn pow2_is_a_power_of_two_or_zero() {
    for n in -126..=127 {
        assert_eq!(pow2(n as f32), 2f32.powi(n), "{n}");
    }
    for n in [-127.0, -128.0, -1e30, f32::NEG_INFINITY, f32::NAN] {
        assert_eq!(pow2(n).to_bits(), 0, "{n}");
    }
    assert_eq!(pow2(-0.0), 1.0);
}
