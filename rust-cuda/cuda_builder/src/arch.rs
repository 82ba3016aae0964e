//! The GPU architectures kernels are built for.

use std::fmt;
use std::str::FromStr;

use crate::error::CudaBuilderError;

/// A GPU architecture. The variants are named as in Rust-CUDA's `NvvmArch` (`Compute80` and so on).
///
/// A trailing `a` marks the architecture-specific instruction set (wgmma, tcgen05, ...), whose code runs on that
/// architecture alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NvvmArch {
    /// A100.
    Compute80,
    /// RTX 30 series, A40.
    Compute86,
    /// Jetson Orin.
    Compute87,
    /// RTX 40 series, L4, L40.
    Compute89,
    /// H100, H200, without the wgmma family of instructions.
    Compute90,
    /// H100, H200.
    Compute90a,
    /// B200, without tcgen05.
    Compute100,
    /// B200.
    Compute100a,
    /// RTX 50 series.
    Compute120,
    /// RTX 50 series, with block-scaled mma.
    Compute120a,
}

/// (variant, what ptxas and llc call it, the lowest PTX ISA version that knows it, 8.0 at the least).
const TABLE: &[(NvvmArch, &str, &str)] = &[
    (NvvmArch::Compute80, "sm_80", "ptx80"),
    (NvvmArch::Compute86, "sm_86", "ptx80"),
    (NvvmArch::Compute87, "sm_87", "ptx80"),
    (NvvmArch::Compute89, "sm_89", "ptx81"),
    (NvvmArch::Compute90, "sm_90", "ptx83"),
    (NvvmArch::Compute90a, "sm_90a", "ptx83"),
    (NvvmArch::Compute100, "sm_100", "ptx87"),
    (NvvmArch::Compute100a, "sm_100a", "ptx87"),
    (NvvmArch::Compute120, "sm_120", "ptx87"),
    (NvvmArch::Compute120a, "sm_120a", "ptx87"),
];

impl NvvmArch {
    /// The name that ptxas, llc and the host use, such as `sm_90a`.
    pub fn sm(self) -> &'static str {
        self.row().1
    }

    /// The PTX ISA version as an LLVM target feature, such as `ptx83`. Kept low, because a driver refuses PTX newer
    /// than itself: 8.0 needs driver 525, 8.3 needs 545, 8.7 needs 570.
    pub fn ptx_feature(self) -> &'static str {
        self.row().2
    }

    /// Every architecture that can be named.
    pub fn all() -> impl Iterator<Item = NvvmArch> {
        TABLE.iter().map(|row| row.0)
    }

    fn row(self) -> &'static (NvvmArch, &'static str, &'static str) {
        // The table has one row a variant, in the order of the variants; a test holds it to that.
        &TABLE[self as usize]
    }
}

impl fmt::Display for NvvmArch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sm())
    }
}

impl FromStr for NvvmArch {
    type Err = CudaBuilderError;

    /// Reads `sm_90a`, `compute_90a` or `90a`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.trim().trim_start_matches("sm_").trim_start_matches("compute_");
        TABLE
            .iter()
            .find(|row| row.1["sm_".len()..] == *number)
            .map(|row| row.0)
            .ok_or_else(|| CudaBuilderError::UnknownArch(text.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_follows_the_variants() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, i, "{} is out of place", row.1);
        }
    }

    #[test]
    fn names_are_read_in_every_form() {
        for text in ["sm_90a", "compute_90a", "90a", " sm_90a "] {
            assert_eq!(text.parse::<NvvmArch>().unwrap(), NvvmArch::Compute90a, "{text}");
        }
        let message = "sm_70".parse::<NvvmArch>().unwrap_err().to_string();
        assert!(message.contains("sm_70") && message.contains("sm_120a"), "{message}");
    }
}
