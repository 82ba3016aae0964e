//! What was measured beside a config's bytes: times, the roof, the device's state, its place in the run, a peer.

use super::record::FirstBad;
use serde::{Deserialize, Serialize};

/// Times of one launch, in microseconds, over all samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// The median.
    pub median_us: f64,
    /// A fifth of the samples are below.
    pub p20_us: f64,
    /// A fifth of the samples are above.
    pub p80_us: f64,
    /// The least.
    pub min_us: f64,
    /// How many samples.
    pub samples: u32,
    /// (p80 - p20) / median.
    pub noise: f64,
}

impl Times {
    /// The figures of a list of samples in microseconds; `None` where it is empty or holds a value that is not finite.
    ///
    /// Percentiles are the nearest rank: sample ceil(p * n), counted from 1 in ascending order.
    pub fn from_samples(samples: &[f64]) -> Option<Times> {
        if samples.is_empty() || samples.iter().any(|s| !s.is_finite()) {
            return None;
        }
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let rank = |percent: usize| sorted[(percent * sorted.len()).div_ceil(100).max(1) - 1];
        let (p20_us, median_us, p80_us) = (rank(20), rank(50), rank(80));
        let noise = if median_us > 0.0 {
            (p80_us - p20_us) / median_us
        } else {
            0.0
        };
        let samples = u32::try_from(sorted.len()).unwrap_or(u32::MAX);
        Some(Times {
            median_us,
            p20_us,
            p80_us,
            min_us: sorted[0],
            samples,
            noise,
        })
    }
}

/// How near the roof a time is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Roof {
    /// Bytes that one launch has to move at least.
    pub bytes: u64,
    /// Those bytes over the median time, in GB/s (10^9).
    pub gb_s: f64,
    /// That rate over the measured copy rate of this device; none where no copy was measured.
    pub share_of_copy: Option<f64>,
    /// The least time one launch can take, in microseconds: its bytes at the measured copy rate or its multiply-adds at
    /// their units' rate, whichever is longer. None in old records and where no copy was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor_us: Option<f64>,
    /// `floor_us` over the median time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
}

/// The device's state beside the samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Clocks {
    /// SM clock in MHz.
    pub sm_mhz: Option<u32>,
    /// Temperature in degrees Celsius.
    pub temp_c: Option<u32>,
    /// Power in watts.
    pub power_w: Option<f64>,
    /// Reasons the device gives for a clock below its highest; empty for none.
    pub throttle: Vec<String>,
}

/// A config's place among those timed in the same run whose order its mode admits: a canonical one's among the canonical
/// ones, another's among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The least median.
    Winner,
    /// Its interval p20..p80 overlaps the winner's.
    Tie,
    /// Slower than the winner.
    Behind,
    /// Not timed to the end: far behind after the short round.
    Dropped,
}

/// A peer library's kernel, timed in the same rounds as the configs on the same buffers. It is measured against and wins no
/// table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRun {
    /// The library: `cublasLt`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it ran, as the library identifies it: the fastest of those tried. Empty where it ran nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub algorithm: String,
    /// How many of its algorithms were tried.
    #[serde(default)]
    pub tried: u32,
    /// Whether its bytes are the reference's. Reported and not asked for: a peer may add in an order of its own. None where
    /// they were not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_equal: Option<bool>,
    /// Where they first were not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<FirstBad>,
}
