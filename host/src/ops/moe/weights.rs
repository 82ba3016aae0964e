//! Weights of all experts, drawn, bound and launched with, in bf16 or NVFP4.

use half::bf16;

use crate::device::DevPtr;
use crate::op::OpError;
use crate::op::Values;
use crate::op::call::expect_aligned;
use crate::op::data::Draw;
use crate::op::spec::{Bound, Tensor};
use crate::ops::nvfp4::Convention;
use crate::reference::moe as reference;

/// The weights of all experts on a device, `[experts][rows][k]`: rows and k are the call's.
#[derive(Clone, Copy, Debug)]
pub enum ExpertWeights {
    /// bf16.
    Bf16(DevPtr<bf16>),
    /// NVFP4, as checkpoints have it, one expert after another; k is a multiple of 16.
    Nvfp4 {
        /// `[experts][rows][k / 2]`: two E2M1 a byte, the low nibble is the even k; at a multiple of 8 bytes.
        codes: DevPtr<u8>,
        /// `[experts][rows][k / 16]` E4M3.
        scales: DevPtr<u8>,
        /// `[experts]`, as stored.
        tensor: DevPtr<f32>,
        /// What the tensor scales mean.
        convention: Convention,
    },
}

impl ExpertWeights {
    /// The number of their format on the axis `nvfp4`.
    pub(super) fn format(self) -> u64 {
        match self {
            ExpertWeights::Bf16(_) => 0,
            ExpertWeights::Nvfp4 { convention, .. } => 1 + u64::from(convention.divide()),
        }
    }

    /// Refuses rows that the kernels do not take in this format: of sizes named in `rows`.
    pub(super) fn check(self, op: &str, rows: &[(&str, u64)]) -> Result<(), OpError> {
        Format::new(self.format(), rows).map_err(|why| OpError::Shape(format!("{op}: {why}")))?;
        match self {
            ExpertWeights::Bf16(_) => Ok(()),
            ExpertWeights::Nvfp4 { codes, .. } => expect_aligned(op, "codes", codes, 8),
        }
    }
}

/// How weights are stored: the axis `nvfp4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// 0: bf16.
    Bf16,
    /// 1: NVFP4 whose tensor scales are multiplied by; 2: divided by.
    Nvfp4(Convention),
}

impl Format {
    /// By the number that the axis has, for rows of `k` values.
    pub(super) fn new(nvfp4: u64, rows: &[(&str, u64)]) -> Result<Self, String> {
        let format = match nvfp4 {
            0 => return Ok(Format::Bf16),
            1 => Format::Nvfp4(Convention::ModelOpt),
            2 => Format::Nvfp4(Convention::CompressedTensors),
            _ => {
                return Err(format!(
                    "nvfp4 = {nvfp4}: 0 (bf16), 1 (ModelOpt) or 2 (compressed-tensors)"
                ));
            }
        };
        match rows.iter().find(|(_, k)| !k.is_multiple_of(16)) {
            Some((axis, k)) => Err(format!("{axis} = {k}: NVFP4 has a scale for every 16")),
            None => Ok(format),
        }
    }

    /// Bytes of `rows` rows of `k` values of each of `experts` experts.
    pub(super) fn bytes(self, experts: u64, rows: u64, k: u64) -> u64 {
        match self {
            Format::Bf16 => 2 * experts * rows * k,
            Format::Nvfp4(_) => experts * (rows * (k / 2 + k / 16) + 4),
        }
    }
}

/// The names of the tensors: of bf16 weights, and of NVFP4's codes, scales and tensor scales.
pub(super) type Names = [&'static str; 4];
/// Of the only weights, or of gate and up.
pub(super) const W: Names = ["w", "w_codes", "w_scales", "w_tensor"];
/// Of the down projection.
pub(super) const DOWN: Names = ["down", "down_codes", "down_scales", "down_tensor"];

/// The weights of all experts, `[experts][n][k]`.
#[derive(Clone, Debug)]
pub(super) struct Experts {
    format: Format,
    experts: usize,
    n: usize,
    k: usize,
    bf16: Vec<bf16>,
    codes: Vec<u8>,
    scales: Vec<u8>,
    tensor: Vec<f32>,
}

impl Experts {
    /// Draws them so that outputs have a standard deviation of about 1.
    pub(super) fn draw(draw: Draw, purpose: &str, format: Format, experts: usize, n: usize, k: usize) -> Self {
        let named = |part: &str| format!("moe {purpose} {part}");
        let scale = (1.0 / k as f32).sqrt();
        let mut all = Self {
            format,
            experts,
            n,
            k,
            bf16: Vec::new(),
            codes: Vec::new(),
            scales: Vec::new(),
            tensor: Vec::new(),
        };
        let Format::Nvfp4(convention) = format else {
            all.bf16 = draw.floats(&named("bf16"), experts * n, k, scale);
            return all;
        };
        all.codes = draw.bytes(&named("codes"), experts * n * k / 2);
        all.scales = draw.bytes(&named("scales"), experts * n * k / 16);
        for byte in &mut all.scales {
            *byte = match draw.values {
                Values::Zeros => 0,
                // Zero and subnormal, of either sign.
                Values::Tiny => *byte & 0x87,
                // Any, NaN among them.
                Values::NonFinite => *byte,
                // Any that is finite.
                Values::WideRange if *byte & 0x7F != 0x7F => *byte,
                // 16 to 30, as quantisers make them.
                _ => 0x58 | *byte & 7,
            };
        }
        // Codes have a standard deviation of 3, scales are about 22.
        let usual = scale / 66.0;
        let factors: Vec<f32> = draw.ordinary(&named("tensor"), experts, 1, 0.1);
        all.tensor = factors
            .into_iter()
            .map(|f| match convention {
                Convention::ModelOpt => usual * (1.0 + f),
                Convention::CompressedTensors => (1.0 + f) / usual,
            })
            .collect();
        all
    }

    /// The tensors that a launch reads.
    pub(super) fn tensors(&self, names: Names) -> Vec<Tensor<'_>> {
        let (experts, n) = (("experts", self.experts), ("n", self.n));
        match self.format {
            Format::Bf16 => vec![Tensor::weight(names[0], &[experts, n, ("k", self.k)], &self.bf16)],
            Format::Nvfp4(_) => vec![
                Tensor::weight(names[1], &[experts, n, ("k / 2", self.k / 2)], &self.codes),
                Tensor::weight(names[2], &[experts, n, ("k / 16", self.k / 16)], &self.scales),
                Tensor::input(names[3], &[experts], &self.tensor),
            ],
        }
    }

    /// As a call takes them.
    pub(super) fn on(&self, tensors: &Bound, names: Names) -> Result<ExpertWeights, OpError> {
        Ok(match self.format {
            Format::Bf16 => ExpertWeights::Bf16(tensors.at(names[0])?),
            Format::Nvfp4(convention) => ExpertWeights::Nvfp4 {
                codes: tensors.at(names[1])?,
                scales: tensors.at(names[2])?,
                tensor: tensors.at(names[3])?,
                convention,
            },
        })
    }

    /// As the CPU reference takes them.
    pub(super) fn reference(&self) -> reference::Experts<'_> {
        match self.format {
            Format::Bf16 => reference::Experts::Bf16(&self.bf16),
            Format::Nvfp4(convention) => reference::Experts::Nvfp4 {
                codes: &self.codes,
                scales: &self.scales,
                tensor: &self.tensor,
                convention: convention.reference(),
            },
        }
    }
}
