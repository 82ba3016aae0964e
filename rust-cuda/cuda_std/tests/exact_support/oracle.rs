//! Correctly rounded sigmoid, softplus and silu, which the crate `core-math` lacks.
//!
//! Each is composed in f64 from correctly rounded f64 functions; the few roundings on the way stay below 2^-50
//! relative. Where the whole interval of that width rounds to one f32, that f32 is the nearest. Elsewhere (one input
//! in some ten millions) the value is computed again to about 2^-95 with [`Dd`].

use super::dd::{self, Dd};

/// The bound of the f64 compositions' relative error.
const F64_ERROR: f64 = 1.0 / (1u64 << 50) as f64;

/// The nearest f32 to a value known as `v` within [`F64_ERROR`]; `exactly` computes it better.
fn round(v: f64, exactly: impl FnOnce() -> f32) -> f32 {
    let (below, above) = ((v - v * F64_ERROR) as f32, (v + v * F64_ERROR) as f32);
    if below.to_bits() == above.to_bits() {
        below
    } else {
        exactly()
    }
}

/// 1 / (1 + e^-x) in f64.
pub fn sigmoid_f64(x: f32) -> f64 {
    1.0 / (1.0 + core_math::exp(-f64::from(x)))
}

/// The same to about 2^-95.
fn sigmoid_dd(x: f32) -> Dd {
    let e = dd::exp(-f64::from(x.abs()));
    let numerator = if x < 0.0 { e } else { Dd::of(1.0) };
    numerator.div(Dd::of(1.0).add(e))
}

/// The f32 nearest to 1 / (1 + e^-x).
pub fn sigmoid(x: f32) -> f32 {
    match x {
        _ if x.is_nan() => x,
        _ if x > 110.0 => 1.0,
        _ if x < -110.0 => 0.0,
        _ => round(sigmoid_f64(x), || sigmoid_dd(x).to_f32()),
    }
}

/// x / (1 + e^-x) in f64.
pub fn silu_f64(x: f32) -> f64 {
    if x > 110.0 {
        x.into()
    } else {
        f64::from(x) / (1.0 + core_math::exp(-f64::from(x)))
    }
}

/// The f32 nearest to x / (1 + e^-x).
pub fn silu(x: f32) -> f32 {
    match x {
        _ if x.is_nan() || x == 0.0 => x,
        _ if x > 110.0 => x,
        _ if x < -120.0 => -0.0,
        // x / 2 + x^2 / 4 - ...: the second term, positive, is too small for Dd but decides the ties among halves of
        // subnormals.
        _ if x.abs() < 2f32.powi(-100) => Dd(f64::from(x) / 2.0, 2f64.powi(-1000)).to_f32(),
        _ => round(silu_f64(x), || sigmoid_dd(x).mul(Dd::of(x.into())).to_f32()),
    }
}

/// log(1 + e^x) in f64.
pub fn softplus_f64(x: f32) -> f64 {
    f64::from(x.max(0.0)) + core_math::log1p(core_math::exp(-f64::from(x.abs())))
}

/// The f32 nearest to log(1 + e^x).
pub fn softplus(x: f32) -> f32 {
    match x {
        _ if x.is_nan() => x,
        _ if x > 110.0 => x,
        _ if x < -110.0 => 0.0,
        _ => round(softplus_f64(x), || {
            let small = dd::ln_1p(dd::exp(-f64::from(x.abs())));
            small.add(Dd::of(x.max(0.0).into())).to_f32()
        }),
    }
}
