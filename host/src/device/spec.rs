//! Which device to open, and how.

use super::{DeviceError, Result, TensorCore};
use std::fmt;
use std::str::FromStr;

/// Which device to open. From text: `auto`, `cuda`, `cuda:1`, `simt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceSpec {
    /// The first CUDA device if there is one, else the simulator.
    #[default]
    Auto,
    /// The CUDA device of this number.
    Cuda(u32),
    /// The simulator, with all checks on.
    Simt,
}

impl FromStr for DeviceSpec {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(DeviceSpec::Auto),
            "cuda" => Ok(DeviceSpec::Cuda(0)),
            "simt" => Ok(DeviceSpec::Simt),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|ordinal| ordinal.parse().ok())
                .map(DeviceSpec::Cuda)
                .ok_or_else(|| DeviceError::Spec { text: text.to_string() }),
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceSpec::Auto => f.write_str("auto"),
            DeviceSpec::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            DeviceSpec::Simt => f.write_str("simt"),
        }
    }
}

/// How the simulator runs kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimtOptions {
    /// Check every access (bounds, alignment, unwritten memory, races). Slower by about ten times.
    pub checks: bool,
    /// Run threads in an order drawn from this seed in place of the fixed one.
    pub seed: Option<u64>,
    /// Threads of the host to run blocks on; 0 means one a core.
    pub workers: usize,
    /// Whose tensor cores the simulator computes as.
    pub tensor: TensorCore,
}

impl Default for SimtOptions {
    /// All checks, fixed order, all cores, Hopper's tensor cores.
    fn default() -> Self {
        SimtOptions {
            checks: true,
            seed: None,
            workers: 0,
            tensor: TensorCore::default(),
        }
    }
}
