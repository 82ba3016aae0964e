//! Seeded random data, fast enough to fill gigabytes, the same for any number of threads.
//!
//! Numbers are counter-based: the i-th number of a seed is SplitMix64's output function (Steele, Lea and Flood, "Fast
//! splittable pseudorandom number generators", 2014) of `seed + i * golden gamma`. So any part of a tensor can be made
//! by any thread.

use std::num::NonZeroUsize;

/// A seed with a stream of numbers reachable by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random {
    seed: u64,
}

const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Random {
    /// The stream of a seed, for one purpose: streams of different purposes are independent.
    pub fn new(seed: u64, purpose: &str) -> Self {
        // FNV-1a of the purpose, so that the name alone decides.
        let hash = purpose.bytes().fold(0xCBF2_9CE4_8422_2325u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3)
        });
        Self {
            seed: mix(seed ^ mix(hash)),
        }
    }

    /// The i-th number.
    #[inline]
    pub fn at(self, index: u64) -> u64 {
        mix(self.seed.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN_GAMMA)))
    }

    /// The i-th number below `end` (at least 1), by multiplication; its bias is below `end / 2^64`.
    pub fn below(self, index: u64, end: u64) -> u64 {
        ((u128::from(self.at(index)) * u128::from(end.max(1))) >> 64) as u64
    }

    /// The i-th value of about a standard normal distribution: the sum of four uniform 16-bit numbers, scaled to
    /// variance 1 (Irwin-Hall; nothing beyond +-3.47). Exact arithmetic, so equal on every machine.
    #[inline]
    pub fn normal(self, index: u64) -> f32 {
        let bits = self.at(index);
        let sum = (bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48);
        // Mean 2 * 65535; variance 4 * 65536^2 / 12.
        (sum as f32 - 131_070.0) * (1.732_050_8 / 65_536.0)
    }
}

/// Runs `f(first item index, items)` over `data` cut into contiguous parts, one for each core. `unit`: parts start at
/// multiples of it. Below about 64 KiB one thread does it all.
pub fn parallel<T: Send>(data: &mut [T], unit: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let unit = unit.max(1);
    if cores == 1 || std::mem::size_of_val(data) < 65_536 {
        return f(0, data);
    }
    let part = data.len().div_ceil(unit).div_ceil(cores) * unit;
    std::thread::scope(|scope| {
        for (i, part_of_data) in data.chunks_mut(part).enumerate() {
            let f = &f;
            scope.spawn(move || f(i * part, part_of_data));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_seed_and_purpose_and_repeat() {
        let a = Random::new(1, "weights");
        assert_eq!(a.at(7), Random::new(1, "weights").at(7));
        assert_ne!(a.at(7), a.at(8));
        assert_ne!(a.at(7), Random::new(2, "weights").at(7));
        assert_ne!(a.at(7), Random::new(1, "scales").at(7));
    }

    #[test]
    fn normal_values_have_mean_zero_and_variance_one() {
        let r = Random::new(3, "normal");
        let n = 100_000;
        let values: Vec<f64> = (0..n).map(|i| f64::from(r.normal(i))).collect();
        let mean = values.iter().sum::<f64>() / n as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
        // Five standard errors: 5 / sqrt(n) and 5 * sqrt(2 / n).
        assert!(
            mean.abs() < 0.016 && (variance - 1.0).abs() < 0.023,
            "mean {mean}, variance {variance}"
        );
    }

    #[test]
    fn below_reaches_every_number_and_no_other() {
        let r = Random::new(4, "below");
        let mut seen = [0u32; 7];
        (0..7000).for_each(|i| seen[r.below(i, 7) as usize] += 1);
        assert!(seen.iter().all(|&count| count > 800), "{seen:?}");
    }

    #[test]
    fn parts_cover_the_data_once_and_start_at_units() {
        let mut data = vec![0usize; 100_003];
        parallel(&mut data, 34, |first, part| {
            assert_eq!(first % 34, 0);
            part.iter_mut().enumerate().for_each(|(i, v)| *v += first + i);
        });
        assert!(data.iter().enumerate().all(|(i, v)| *v == i));
    }
}
