//! Running error analysis: a value in f64 together with how far the contract's roundings can have taken it.
//!
//! A test goes through an operation's lines of docs/numerics.md with these numbers, one method a rounding point; the error it ends
//! up with is the bound. Everything is first order and worst case, nothing is fitted.

#![allow(dead_code)]

use super::{U, bf16_rounding};
use std::ops::{Add, Mul, Sub};

/// Covers the second-order terms that methods leave out, and f64's own roundings: errors here stay below a few per cent of
/// the values they come with, so their products are below a few per cent of themselves.
const SECOND_ORDER: f64 = 1.05;

/// A value, and at most how far the computed one is from it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Near {
    /// The value in f64, without any of the contract's roundings.
    pub value: f64,
    /// The bound.
    pub error: f64,
}

/// A value that both sides hold exactly.
pub fn exact(value: f64) -> Near {
    Near { value, error: 0.0 }
}

/// [`exact`] of a slice.
pub fn exactly(values: &[f64]) -> Vec<Near> {
    values.iter().map(|&v| exact(v)).collect()
}

impl Near {
    /// The largest it can be.
    pub fn size(self) -> f64 {
        self.value.abs() + self.error
    }

    fn off(self, more: f64) -> Near {
        Near {
            error: self.error + more,
            ..self
        }
    }

    /// One f32 operation's rounding: half an ulp.
    pub fn f32(self) -> Near {
        self.ulps(0.5)
    }

    /// A result so many ulp of f32 off; an ulp is at most 2 U of the value.
    pub fn ulps(self, ulps: f64) -> Near {
        self.off(2.0 * U * ulps * self.size())
    }

    /// Rounded to bf16.
    pub fn bf16(self) -> Near {
        self.off(bf16_rounding(self.value, self.error))
    }

    /// A function whose slope is at most `slope` near here, computed to `ulps` ulp.
    pub fn map(self, f: impl Fn(f64) -> f64, slope: f64, ulps: f64) -> Near {
        let value = f(self.value);
        let moved = Near {
            value,
            error: slope * self.error,
        };
        moved.ulps(ulps)
    }

    /// exact::exp: 0.775 ulp. Its slope is its value, at most e^error of it away.
    pub fn exp(self) -> Near {
        let slope = (self.value + self.error).exp();
        self.map(f64::exp, slope, 0.775)
    }

    /// exact::sigmoid: 0.775 ulp, slope at most 1/4.
    pub fn sigmoid(self) -> Near {
        self.map(|x| 1.0 / (1.0 + (-x).exp()), 0.25, 0.775)
    }

    /// exact::silu: 0.829 ulp, slope at most 1.1.
    pub fn silu(self) -> Near {
        self.map(|x| x / (1.0 + (-x).exp()), 1.1, 0.829)
    }

    /// The bound for a comparison with the witness's value, which is an f32 made of an f64.
    pub fn bound(self) -> f64 {
        SECOND_ORDER * self.error + U * self.value.abs()
    }
}

impl Add for Near {
    type Output = Near;
    fn add(self, other: Near) -> Near {
        Near {
            value: self.value + other.value,
            error: self.error + other.error,
        }
    }
}

impl Sub for Near {
    type Output = Near;
    fn sub(self, other: Near) -> Near {
        self + exact(-1.0) * other
    }
}

impl Mul for Near {
    type Output = Near;
    fn mul(self, other: Near) -> Near {
        Near {
            value: self.value * other.value,
            error: self.size() * other.error + self.error * other.value.abs(),
        }
    }
}

/// A product and a sum with one rounding.
pub fn fma(a: Near, b: Near, c: Near) -> Near {
    (a * b + c).f32()
}

/// A chain of f32 additions from +0.
pub fn chain(terms: impl IntoIterator<Item = Near>) -> Near {
    terms.into_iter().fold(exact(0.0), |sum, term| (sum + term).f32())
}

/// A chain of fma from +0.
pub fn fma_chain(a: impl IntoIterator<Item = Near>, b: impl IntoIterator<Item = Near>) -> Near {
    a.into_iter().zip(b).fold(exact(0.0), |sum, (a, b)| fma(a, b, sum))
}

/// The chain of tensor-core steps from c. In a step of 16 products and c, the largest of the 17 is at least 2^E (or E is its floor
/// of -133), each is cut below 2^(E-25), and the sum, rounded toward zero to 24 bits, loses less than 2^-23 of itself.
pub fn mma(a: &[Near], b: &[Near], c: Near) -> Near {
    assert_eq!(a.len(), b.len());
    let mut acc = c;
    for (a, b) in a.chunks(16).zip(b.chunks(16)) {
        let mut largest = acc.size().max(2f64.powi(-133));
        for (&a, &b) in a.iter().zip(b) {
            let product = a * b;
            largest = largest.max(product.size());
            acc = acc + product;
        }
        acc = acc.off(17.0 * largest * 2f64.powi(-25));
        acc = acc.off(acc.size() * 2f64.powi(-23));
    }
    acc
}
