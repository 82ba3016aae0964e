//! Elementary functions on f32 whose same source gives the same bytes on the GPU and on the CPU.
//!
//! Only operations that IEEE 754 defines to the last bit are used, and both sides have: add, subtract, multiply, fma,
//! divide and square root rounded to nearest, conversions, integer operations. The GPU's own approximations
//! (`ex2.approx`, `rsqrt.approx`, ...) differ from one architecture to the next and have no counterpart on a CPU.
//!
//! All functions: subnormal inputs and results are what they should be, nothing is flushed; a NaN input, or an input
//! outside of the domain, gives [`CANONICAL_NAN`]; infinities and signed zeros give the
//! mathematical limit. Every function has been compared over all 2^32 inputs with a correctly rounded result; its doc
//! states the largest error found, in units in the last place (ulp) of the result, and how many results were not the
//! nearest f32. The record of that run is `results/math/exact.jsonl`, the way to repeat it is in
//! `docs/decisions/exact-math.md`.
//!
//! `exp`, `exp2`, `sigmoid` and `silu`, which sit in inner loops, use f32 alone. The others take one f64 polynomial
//! and round once: dear on a GPU with few f64 units, and not used often enough to matter.
//!
//! Apart from them stand [`exp2a`] and [`pow2`], which attention's softmax is made of: [`exp2a`] is short in place of exact, and
//! both read a NaN as something very small.

mod exp;
mod log;
mod rsqrt;
mod sigmoid;
mod trig;

pub use exp::{exp, exp2, exp2a, pow2};
pub use log::{log, log1p, softplus};
pub use rsqrt::rsqrt;
pub use sigmoid::{sigmoid, silu};
pub use trig::{cos, sin};

use crate::float::{CANONICAL_NAN, fma, fma_f64};

/// A function of one f32.
#[cfg(not(target_arch = "nvptx64"))]
pub type Function = fn(f32) -> f32;

/// Every function of this module by name, for checks that run over all of them.
#[cfg(not(target_arch = "nvptx64"))]
pub const FUNCTIONS: &[(&str, Function)] = &[
    ("exp", exp),
    ("exp2", exp2),
    ("log", log),
    ("log1p", log1p),
    ("rsqrt", rsqrt),
    ("sigmoid", sigmoid),
    ("softplus", softplus),
    ("silu", silu),
    ("sin", sin),
    ("cos", cos),
];

/// c\[0\] + c\[1\] x + c\[2\] x^2 + ... in f32, by Horner's rule from the highest power down, one fma a step.
#[inline(always)]
fn horner<const N: usize>(x: f32, c: &[f32; N]) -> f32 {
    let mut sum = c[N - 1];
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        sum = fma(sum, x, c[i]);
    }
    sum
}

/// [`horner`] in f64.
#[inline(always)]
fn horner64<const N: usize>(x: f64, c: &[f64; N]) -> f64 {
    let mut sum = c[N - 1];
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        sum = fma_f64(sum, x, c[i]);
    }
    sum
}

/// x limited to low..=high; a NaN stays one.
#[inline(always)]
fn limit(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > high { high } else { x };
    if x < low { low } else { x }
}

/// y, or [`CANONICAL_NAN`] where `invalid`.
#[inline(always)]
fn or_nan(y: f32, invalid: bool) -> f32 {
    if invalid { CANONICAL_NAN } else { y }
}

/// 2^n as an f32, for n in -126..=127; any other n gives some value without a panic.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}
