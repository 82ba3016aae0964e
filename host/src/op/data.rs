//! Drawing tensors for checks and timing, and spreading a reference over the cores.
//!
//! A tensor is drawn by the kind of its values ([`Values`]), its purpose (a name, so that tensors are independent) and a seed;
//! element i depends on nothing else, so any number of threads gives the same data.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use half::{bf16, f16};

use super::Values;
use super::random::{Random, parallel};
use super::spec::Element;

/// A float that tensors are drawn in.
pub trait Float: Element + Send {
    /// The nearest value.
    fn round(v: f32) -> Self;
    /// The largest finite value.
    const LARGEST: f32;
    /// The smallest normal value.
    const SMALLEST: f32;
    /// [`Values::WideRange`] spans magnitudes from 2^-this to 2^this.
    const SPAN: i32;
}

impl Float for f32 {
    fn round(v: f32) -> Self {
        v
    }
    const LARGEST: f32 = f32::MAX;
    const SMALLEST: f32 = f32::MIN_POSITIVE;
    const SPAN: i32 = 20;
}

impl Float for bf16 {
    fn round(v: f32) -> Self {
        bf16::from_f32(v)
    }
    // 0x7F7F: 2^128 - 2^120.
    const LARGEST: f32 = f32::from_bits(0x7F7F_0000);
    const SMALLEST: f32 = f32::MIN_POSITIVE;
    const SPAN: i32 = 20;
}

impl Float for f16 {
    fn round(v: f32) -> Self {
        f16::from_f32(v)
    }
    const LARGEST: f32 = 65_504.0;
    // 2^-14.
    const SMALLEST: f32 = 6.103_515_6e-5;
    const SPAN: i32 = 10;
}

/// What is drawn from: a seed and a kind of values.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// The seed of the case.
    pub seed: u64,
    /// The kind of values of the case.
    pub values: Values,
}

impl Draw {
    /// A tensor of rows of `width` elements. `scale`: the standard deviation of [`Values::Normal`], and the factor of the other
    /// finite kinds but `Huge` and `Tiny`, which are near the ends of the type's range.
    pub fn floats<T: Float>(self, purpose: &str, rows: usize, width: usize, scale: f32) -> Vec<T> {
        let random = Random::new(self.seed, purpose);
        let mut all = vec![T::zeroed(); rows * width];
        let row = width.max(1);
        parallel(&mut all, 1, |first, part| {
            for (i, v) in part.iter_mut().enumerate() {
                let index = first + i;
                *v = self.float(
                    random,
                    index as u64,
                    (index / row) as u64,
                    (index % row) as u64,
                    row as u64,
                    scale,
                );
            }
        });
        all
    }

    /// The same of ordinary values, whatever the kind of the case: for tensors that must stay in range (gates, positions'
    /// tables).
    pub fn ordinary<T: Float>(self, purpose: &str, rows: usize, width: usize, scale: f32) -> Vec<T> {
        let values = Values::Normal;
        Draw { values, ..self }.floats(purpose, rows, width, scale)
    }

    /// Uniform random bytes.
    pub fn bytes(self, purpose: &str, count: usize) -> Vec<u8> {
        let random = Random::new(self.seed, purpose);
        let mut all = vec![0u8; count];
        parallel(&mut all, 8, |first, part| {
            for (i, eight) in part.chunks_mut(8).enumerate() {
                let word = random.at((first / 8 + i) as u64).to_le_bytes();
                eight.copy_from_slice(&word[..eight.len()]);
            }
        });
        all
    }

    /// Uniform integers below `end`.
    pub fn below(self, purpose: &str, count: usize, end: u64) -> Vec<u32> {
        let random = Random::new(self.seed, purpose);
        (0..count as u64).map(|i| random.below(i, end) as u32).collect()
    }

    /// A stream of numbers of the case's seed, for what the helpers above do not draw.
    pub fn random(self, purpose: &str) -> Random {
        Random::new(self.seed, purpose)
    }

    fn float<T: Float>(self, random: Random, index: u64, row: u64, at: u64, width: u64, scale: f32) -> T {
        let normal = random.normal(index);
        // Independent of `normal`'s bits.
        let bits = || random.at(index ^ (1 << 63));
        // Of a group of 32 neighbours, the same for all of them.
        let exponent = |low: i32, range: i32| {
            let group = Random::new(random.at((row << 32) ^ (at / 32) ^ (1 << 62)), "magnitude");
            2f32.powi(low + group.below(0, range as u64) as i32)
        };
        let v = match self.values {
            Values::Zeros => 0.0,
            Values::NonFinite => match bits() % 257 {
                0 => f32::NAN,
                1 => f32::INFINITY,
                2 => f32::NEG_INFINITY,
                3 => f32::from_bits(0xFFA0_0001),
                _ => normal * scale,
            },
            // Neighbours cancel: v, -v.
            Values::Cancelling => {
                let v = random.normal(index - at % 2) * scale;
                if at.is_multiple_of(2) { v } else { -v }
            }
            Values::Huge => (normal * (T::LARGEST / 4.0)).clamp(-T::LARGEST, T::LARGEST),
            // From the smallest normal down to zero, subnormals among them.
            Values::Tiny => normal * T::SMALLEST * exponent(-8, 10),
            Values::Single if at != random.below(row ^ (1 << 61), width) => 0.0,
            Values::WideRange => normal * scale * exponent(-T::SPAN, 2 * T::SPAN),
            _ => normal * scale,
        };
        T::round(v)
    }
}

/// Calls `f(index, row)` for every row of `width` elements of a reference's output, on all cores. Rows are taken one at a time,
/// so they may differ in cost.
pub fn rows<T: Send>(out: &mut [T], width: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let width = width.max(1);
    let threads = std::thread::available_parallelism()
        .map_or(1, NonZeroUsize::get)
        .min(out.len().div_ceil(width));
    let next = Mutex::new(out.chunks_mut(width).enumerate());
    let work = || {
        loop {
            let row = next.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((i, row)) = row else { break };
            f(i, row);
        }
    };
    if threads <= 1 {
        return work();
    }
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn<T: Float>(values: Values) -> Vec<T> {
        Draw { seed: 5, values }.floats("x", 40, 257, 1.0)
    }

    #[test]
    fn each_kind_is_what_it_says_in_every_type() {
        fn each<T: Float>(widen: fn(T) -> f32) {
            let all = |values| -> Vec<f32> { drawn::<T>(values).into_iter().map(widen).collect() };
            assert!(all(Values::Zeros).iter().all(|v| *v == 0.0));
            let v = all(Values::NonFinite);
            assert!(v.iter().any(|v| v.is_nan()) && v.iter().any(|v| v.is_infinite()));
            let v = all(Values::Cancelling);
            assert!(
                v.chunks(257)
                    .all(|row| row[..256].iter().sum::<f32>() == 0.0 && row[0] != 0.0)
            );
            let v = all(Values::Huge);
            assert!(v.iter().all(|v| v.is_finite()) && v.iter().any(|v| v.abs() > T::LARGEST / 2.0));
            let v = all(Values::Tiny);
            assert!(
                v.iter().any(|v| v.abs() < T::SMALLEST && *v != 0.0) && v.iter().all(|v| v.abs() < 8.0 * T::SMALLEST)
            );
            let v = all(Values::Single);
            assert!(v.chunks(257).all(|row| row.iter().filter(|v| **v != 0.0).count() <= 1));
            assert!(v.iter().filter(|v| **v != 0.0).count() > 35);
            let v = all(Values::WideRange);
            assert!(v.iter().all(|v| v.is_finite()) && v.iter().any(|v| v.abs() > 64.0));
            assert!(v.iter().any(|v| v.abs() < 0.01));
        }
        each::<f32>(|v| v);
        each::<bf16>(bf16::to_f32);
        each::<f16>(f16::to_f32);
    }

    #[test]
    fn data_depends_on_seed_and_purpose_alone() {
        let draw = |seed, purpose| {
            Draw {
                seed,
                values: Values::Normal,
            }
            .floats::<f32>(purpose, 3, 7, 0.5)
        };
        assert_eq!(draw(1, "x"), draw(1, "x"));
        assert_ne!(draw(1, "x"), draw(2, "x"));
        assert_ne!(draw(1, "x"), draw(1, "y"));
    }

    #[test]
    fn every_row_is_done_once() {
        let mut out = vec![0usize; 103 * 5];
        rows(&mut out, 5, |i, row| row.iter_mut().for_each(|v| *v += i + 1));
        assert!(out.iter().enumerate().all(|(at, v)| *v == at / 5 + 1));
        rows(&mut Vec::<u8>::new(), 5, |_, _| panic!("no rows"));
    }
}
