//! What the ordinary tests of exact math and the exhaustive run share: the functions, their correctly rounded
//! counterparts, and the measure of the distance between the two.
#![allow(dead_code)] // each of the two users takes its part

pub mod dd;
pub mod oracle;

use cuda_std::float::{CANONICAL_NAN, exact};

/// One function under check.
pub struct Case {
    pub name: &'static str,
    /// Fills `out` with the function's result bits for the inputs whose bits are `start`, `start + step`, ...
    pub run: fn(start: u32, step: u32, out: &mut [u32]),
    /// The f32 nearest to the true value (ties to even).
    pub nearest: fn(f32) -> f32,
    /// The true value within 2^-50, relative.
    pub precise: fn(f32) -> f64,
    /// The largest error in ulp that the function's doc states.
    pub max_ulp: f64,
}

/// Written out for each function, so that the compiler sees through it and vectorises the loop.
macro_rules! case {
    ($name:ident, $nearest:expr, $precise:expr, $max_ulp:expr) => {
        Case {
            name: stringify!($name),
            run: |start, step, out| fill(exact::$name, start, step, out),
            nearest: $nearest,
            precise: $precise,
            max_ulp: $max_ulp,
        }
    };
}

/// [`Case::run`] for any function.
#[inline(always)]
pub fn fill(f: impl Fn(f32) -> f32, start: u32, step: u32, out: &mut [u32]) {
    for (i, y) in out.iter_mut().enumerate() {
        *y = f(f32::from_bits(start.wrapping_add(step.wrapping_mul(i as u32)))).to_bits();
    }
}

pub static CASES: &[Case] = &[
    case!(exp, core_math::expf, |x| core_math::exp(x.into()), 0.775),
    case!(exp2, core_math::exp2f, |x| core_math::exp2(x.into()), 0.879),
    case!(log, core_math::logf, |x| core_math::log(x.into()), 0.5),
    case!(log1p, core_math::log1pf, |x| core_math::log1p(x.into()), 0.5),
    case!(rsqrt, core_math::rsqrtf, |x| core_math::rsqrt(x.into()), 0.5),
    case!(sigmoid, oracle::sigmoid, oracle::sigmoid_f64, 0.775),
    case!(softplus, oracle::softplus, oracle::softplus_f64, 0.5),
    case!(silu, oracle::silu, oracle::silu_f64, 0.829),
    case!(sin, core_math::sinf, |x| core_math::sin(x.into()), 0.5),
    case!(cos, core_math::cosf, |x| core_math::cos(x.into()), 0.5),
];

/// The distance of `got` from the true value, in ulp of the true value's binade (2^-149 below the normal range).
/// Infinite where one of the two is a NaN or the signs of zeros differ; the canonical NaN is demanded. An infinity
/// counts as 2^128, which is what overflow rounds to.
pub fn ulp_error(got: u32, nearest: f32, precise: f64) -> f64 {
    let want = if nearest.is_nan() {
        CANONICAL_NAN.to_bits()
    } else {
        nearest.to_bits()
    };
    let value = |bits: u32| match f32::from_bits(bits) {
        y if y.is_infinite() => 2f64.powi(128).copysign(f64::from(y)),
        y => f64::from(y),
    };
    if got == want {
        return if nearest.is_finite() {
            (value(got) - precise).abs() / ulp(precise)
        } else {
            0.0
        };
    }
    let (got_value, precise) = (value(got), if precise.is_infinite() { value(want) } else { precise });
    if nearest.is_nan() || got_value.is_nan() || got_value == value(want) {
        return f64::INFINITY;
    }
    (got_value - precise).abs() / ulp(precise)
}

/// The spacing of f32 around v.
fn ulp(v: f64) -> f64 {
    let exponent = ((v.to_bits() >> 52 & 0x7ff) as i32 - 1023).clamp(-126, 127);
    2f64.powi(exponent - 23)
}

/// What a range of inputs gave.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub inputs: u64,
    /// Results that are not the nearest f32.
    pub misrounded: u64,
    /// The largest error. 0.5 if every result is the nearest f32, and if the others are off it by less than f64 shows.
    pub max_ulp: f64,
    /// The input bits of the largest error, the smallest such; meaningless when nothing is misrounded.
    pub worst: u32,
    /// FNV-1a over the results' 32-bit words in the order of the inputs.
    pub hash: u64,
}

impl Outcome {
    pub const NONE: Outcome = Outcome {
        inputs: 0,
        misrounded: 0,
        max_ulp: 0.5,
        worst: 0,
        hash: FNV_START,
    };

    /// This range followed by `next`; the hash runs over the hashes of the parts.
    pub fn join(self, next: &Outcome) -> Outcome {
        let worse = next.max_ulp > self.max_ulp || self.misrounded == 0;
        Outcome {
            inputs: self.inputs + next.inputs,
            misrounded: self.misrounded + next.misrounded,
            max_ulp: if worse { next.max_ulp } else { self.max_ulp },
            worst: if worse { next.worst } else { self.worst },
            hash: fnv(fnv(self.hash, next.hash as u32), (next.hash >> 32) as u32),
        }
    }
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// One step of FNV-1a, a word at a time. A bijection of the hash for a given word: one wrong word always shows.
fn fnv(hash: u64, word: u32) -> u64 {
    (hash ^ u64::from(word)).wrapping_mul(0x0000_0100_0000_01b3)
}

/// Compares `count` inputs, `start`, `start + step`, ..., with the nearest f32.
pub fn check(case: &Case, start: u32, step: u32, count: u64) -> Outcome {
    let mut outcome = Outcome {
        inputs: count,
        ..Outcome::NONE
    };
    let mut buffer = [0u32; 4096];
    let mut done = 0;
    while done < count {
        let part = &mut buffer[..(count - done).min(4096) as usize];
        let first = start.wrapping_add(step.wrapping_mul(done as u32));
        (case.run)(first, step, part);
        for (i, &got) in part.iter().enumerate() {
            outcome.hash = fnv(outcome.hash, got);
            let bits = first.wrapping_add(step.wrapping_mul(i as u32));
            let x = f32::from_bits(bits);
            let nearest = (case.nearest)(x);
            let want = if nearest.is_nan() {
                CANONICAL_NAN.to_bits()
            } else {
                nearest.to_bits()
            };
            if got != want {
                outcome.misrounded += 1;
                let error = ulp_error(got, nearest, (case.precise)(x));
                if error > outcome.max_ulp || outcome.misrounded == 1 {
                    (outcome.max_ulp, outcome.worst) = (error.max(outcome.max_ulp), bits);
                }
            }
        }
        done += part.len() as u64;
    }
    outcome
}

/// Every 4096th input: 2^20 of them, all exponents and both signs. Its hash ties the record to the source.
pub fn check_strided(case: &Case) -> Outcome {
    check(case, 0, 4096, 1 << 20)
}
