//! Seeded weights: an [`Origin`] whose tensors are made on the device, each by one launch, in the sizes that files would give.
//!
//! Every matrix `[n][k]` has a standard deviation of 1 / sqrt(k), so that inputs of order 1 give outputs of order 1; but what adds to the
//! residual stream has less (down half of it, o and out a quarter), and the router twice: the stream stays of order 1 through any usual
//! number of layers, and experts differ. Heads of q and k are normed to 2 (or projected so, where a model does not norm them), so that
//! attention looks at a few positions: one that averages over all makes all tokens alike within some layers, and they would all be followed
//! by the same token. The embedding has 1 / sqrt(hidden), so that a tied head does not answer each token with itself. Other norms are 1
//! give or take 0.1, A_log and dt_bias are in the ranges that models are initialised with (decay from 1 to 16, steps of 0.001 to 0.1).
//!
//! A tensor's numbers depend on the seed and on its name in a checkpoint: a model's first layers are those of the whole model.

mod fill;

use std::collections::HashMap;

use super::{EmbeddingTable, Experts, Format, Linear, Matrix, Origin, WEIGHTS};
use crate::device::{DevPtr, DeviceError, Stream};
use crate::model::ModelError;
use crate::model::config::ModelConfig;
use crate::model::layout::{
    ExpertsLayout, LinearLayout, MixerLayout, ModelLayout, Part, Piece, Rows, VectorAs, VectorLayout,
};
use crate::model::memory::{Memory, Region};
use crate::ops::nvfp4::Convention;
use crate::shapes::WeightFormat;
use fill::{CODES, E4M3, Fill};
use kernels_gpu::q8;

/// Standard deviation of a norm's weights.
const NORM_DEVIATION: f64 = 0.1;
/// Mean of the weights of the norms of q and k heads: scores have a standard deviation of its square.
const HEAD_NORM: f64 = 2.0;
/// Standard deviation of a convolution's taps: four make up 1.
const CONV_DEVIATION: f64 = 0.5;
/// log of the decay.
const A_LOG: [f64; 2] = [0.0, 2.772_588_722_239_781];
/// What softplus makes steps of 0.001 to 0.1 of.
const DT_BIAS: [f64; 2] = [-6.907_255_237_315_47, -2.252_168_461_044_090_6];
/// Tensor scales of experts, over the one that their weights' deviation asks for.
const TENSOR_SCALES: [f64; 2] = [0.9, 1.1];

/// Vectors that are no norm before a block, by the tensor's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Conv,
    ALog,
    DtBias,
    GatedNorm,
    HeadNorm,
}

/// Seeded weights of a model.
pub struct SyntheticOrigin<'a> {
    config: &'a ModelConfig,
    format: WeightFormat,
    seed: u64,
    kinds: HashMap<&'a str, Kind>,
    stream: Option<Stream>,
    /// The embedding's name and place, where it is bf16: a tied head is the same matrix.
    embedding: Option<(String, DevPtr<u8>)>,
}

impl<'a> SyntheticOrigin<'a> {
    /// Weights of a model whose layout this is.
    pub fn new(config: &'a ModelConfig, layout: &'a ModelLayout, format: WeightFormat, seed: u64) -> Self {
        let mtp = layout.mtp.as_ref().map(|mtp| &mtp.layer);
        let mut kinds = HashMap::new();
        for layer in layout.layers.iter().chain(mtp) {
            match &layer.mixer {
                MixerLayout::Gdn(gdn) => {
                    let all = [
                        (&gdn.conv, Kind::Conv),
                        (&gdn.a_log, Kind::ALog),
                        (&gdn.dt_bias, Kind::DtBias),
                        (&gdn.norm, Kind::GatedNorm),
                    ];
                    kinds.extend(all.map(|(vector, kind)| (vector.tensor.as_str(), kind)));
                }
                MixerLayout::Attention(attention) => {
                    let norms = [&attention.q_norm, &attention.k_norm].into_iter().flatten();
                    kinds.extend(norms.map(|vector| (vector.tensor.as_str(), Kind::HeadNorm)));
                }
            }
        }
        Self {
            config,
            format,
            seed,
            kinds,
            stream: None,
            embedding: None,
        }
    }

    /// Fills what was taken, and waits for it; nothing where memory is only counted.
    fn fill(&mut self, memory: &Memory, f: impl FnOnce(Fill) -> Result<(), DeviceError>) -> Result<(), ModelError> {
        let Some(device) = memory.device() else {
            return Ok(());
        };
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => device.stream()?,
        };
        let stream = self.stream.insert(stream);
        f(Fill {
            device,
            stream,
            seed: self.seed,
        })?;
        Ok(stream.synchronize()?)
    }

    /// A matrix of some parts that lie one behind the other; `name` is the first tensor's.
    fn matrix(
        &mut self,
        memory: &mut Memory,
        name: &str,
        format: WeightFormat,
        [n, k]: [u32; 2],
        deviation: f64,
    ) -> Result<Matrix, ModelError> {
        self.must_divide(name, format, k)?;
        let elements = u64::from(n) * u64::from(k);
        let format = match format {
            WeightFormat::Bf16 => {
                let w = take(memory, name, 2 * elements)?;
                self.fill(memory, |fill| fill.normal(w.ptr(), elements, 0.0, deviation, id(name)))?;
                Format::Bf16(w.ptr())
            }
            WeightFormat::Nvfp4 => {
                let scale = [fill::nvfp4_scale(deviation) as f32];
                let (codes, scales) = self.nvfp4(memory, name, elements)?;
                Format::Nvfp4 {
                    codes,
                    scales,
                    tensor: memory.put(WEIGHTS, name, &scale)?.ptr(),
                    convention: Convention::ModelOpt,
                }
            }
            WeightFormat::Q8_0 => {
                let quads = u64::from(q8::row_tiles(n)) * u64::from(q8::quads(k));
                let qs = take(memory, name, quads * u64::from(q8::QUAD_BYTES))?;
                let ws = take(memory, name, 2 * quads * u64::from(q8::QUAD_WEIGHT_SCALES))?;
                let base = fill::q8_base(deviation);
                self.fill(memory, |fill| fill.q8([qs.ptr(), ws.ptr()], [n, k], base, id(name)))?;
                Format::Q8 {
                    qs: qs.ptr(),
                    ws: ws.ptr(),
                }
            }
        };
        Ok(Matrix { n, k, format })
    }

    /// Codes and block scales of so many values.
    fn nvfp4(
        &mut self,
        memory: &mut Memory,
        name: &str,
        elements: u64,
    ) -> Result<(DevPtr<u8>, DevPtr<u8>), ModelError> {
        let codes = take(memory, name, elements / 2)?;
        let scales = take(memory, name, elements / 16)?;
        self.fill(memory, |fill| {
            fill.bytes(codes.ptr(), elements / 2, CODES, id(name))?;
            fill.bytes(scales.ptr(), elements / 16, E4M3, id(&format!("{name}.scale")))
        })?;
        Ok((codes.ptr(), scales.ptr()))
    }

    fn must_divide(&self, name: &str, format: WeightFormat, k: u32) -> Result<(), ModelError> {
        let block = match format {
            WeightFormat::Bf16 => 1,
            WeightFormat::Nvfp4 => 16,
            WeightFormat::Q8_0 => q8::BLOCK,
        };
        if k.is_multiple_of(block) {
            return Ok(());
        }
        Err(ModelError::Tensor {
            origin: self.config.name.clone(),
            tensor: name.into(),
            message: format!(
                "rows of {k} values; {} takes a multiple of {block}. Choose other weights",
                format.name()
            ),
        })
    }

    /// Over 1 / sqrt(k): the standard deviation of the weights of products that begin with a part.
    fn gain(&self, part: &str) -> f64 {
        // Where nothing norms q and k they are made larger, and v with them, since the three are one matrix.
        let heads = if self.config.attention.qk_norm { 1.0 } else { HEAD_NORM };
        match part {
            "q" => heads,
            "o" => 0.25 / heads,
            "out" => 0.25,
            "down" => 0.5,
            "router" => 2.0,
            _ => 1.0,
        }
    }

    /// How a part of a product is stored.
    fn format(&self, part: &Part) -> WeightFormat {
        match (self.format, part.name) {
            // What ModelOpt leaves alone.
            (WeightFormat::Nvfp4, "b" | "a" | "lm_head" | "mtp_fc") => WeightFormat::Bf16,
            (format, _) => format,
        }
    }
}

/// Memory of a tensor.
fn take(memory: &mut Memory, name: &str, bytes: u64) -> Result<Region, ModelError> {
    memory.alloc(WEIGHTS, name, bytes as usize)
}

/// A tensor's number: FNV-1a over its name, 64 bits.
fn id(name: &str) -> u64 {
    let start = 0xCBF2_9CE4_8422_2325;
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    name.bytes().fold(start, step)
}

/// The name of the numbers of a part or stack that begins with a piece: the tensor's, with what it is for where it shares that tensor.
fn name(piece: Option<&Piece>, what: &str) -> String {
    match piece {
        Some(Piece { base, rows: Rows::All }) => base.clone(),
        Some(Piece { base, .. }) => format!("{base}:{what}"),
        None => what.into(),
    }
}

/// The standard deviation of a matrix.
fn deviation(k: u32, gain: f64) -> f64 {
    gain / f64::from(k).sqrt()
}

impl Origin for SyntheticOrigin<'_> {
    fn linear(&mut self, memory: &mut Memory, layout: &LinearLayout) -> Result<Linear, ModelError> {
        let formats: Vec<WeightFormat> = layout.parts.iter().map(|part| self.format(part)).collect();
        // The parts of each matrix.
        let groups: Vec<&[Part]> = match formats.windows(2).all(|pair| pair[0] == pair[1]) {
            true => vec![&layout.parts],
            false => layout.parts.chunks(1).collect(),
        };
        let mut matrices = Vec::with_capacity(groups.len());
        for parts in groups {
            let n = parts.iter().map(|part| part.n).sum();
            let Some(first) = parts.first() else { continue };
            let (name, format) = (name(first.pieces.first(), first.name), self.format(first));
            matrices.push(match &self.embedding {
                Some((tied, table)) if *tied == name && format == WeightFormat::Bf16 => Matrix {
                    n,
                    k: layout.k,
                    format: Format::Bf16(table.cast()),
                },
                _ => {
                    let deviation = deviation(layout.k, self.gain(first.name));
                    self.matrix(memory, &name, format, [n, layout.k], deviation)?
                }
            });
        }
        Ok(Linear {
            role: layout.role,
            k: layout.k,
            matrices,
            parts: layout.parts.iter().map(|part| (part.name, part.n)).collect(),
        })
    }

    fn linear_bf16(&mut self, memory: &mut Memory, layout: &LinearLayout) -> Result<Linear, ModelError> {
        let format = std::mem::replace(&mut self.format, WeightFormat::Bf16);
        let linear = self.linear(memory, layout);
        self.format = format;
        linear
    }

    fn experts(&mut self, memory: &mut Memory, layout: &ExpertsLayout) -> Result<Experts, ModelError> {
        let &ExpertsLayout { role, n, k, .. } = layout;
        let experts = layout.experts.len() as u32;
        let name = name(layout.experts.first().and_then(|pieces| pieces.first()), role);
        let elements = u64::from(experts) * u64::from(n) * u64::from(k);
        // Down adds to the residual stream: it is the one with as many outputs as the stream is wide.
        let down = self
            .config
            .moe
            .is_some_and(|moe| [n, k] == [self.config.hidden, moe.ffn]);
        let deviation = deviation(k, self.gain(if down { "down" } else { "gate" }));
        let format = match self.format {
            WeightFormat::Nvfp4 => {
                self.must_divide(&name, WeightFormat::Nvfp4, k)?;
                let (codes, scales) = self.nvfp4(memory, &name, elements)?;
                let tensor = take(memory, &name, 4 * u64::from(experts))?;
                let range = TENSOR_SCALES.map(|factor| factor * fill::nvfp4_scale(deviation));
                self.fill(memory, |fill| {
                    let tensor_id = id(&format!("{name}.tensor"));
                    fill.uniform(tensor.ptr(), u64::from(experts), range, tensor_id)
                })?;
                Format::Nvfp4 {
                    codes,
                    scales,
                    tensor: tensor.ptr(),
                    convention: Convention::ModelOpt,
                }
            }
            WeightFormat::Bf16 | WeightFormat::Q8_0 => {
                let w = take(memory, &name, 2 * elements)?;
                self.fill(memory, |fill| fill.normal(w.ptr(), elements, 0.0, deviation, id(&name)))?;
                Format::Bf16(w.ptr())
            }
        };
        Ok(Experts {
            role,
            experts,
            n,
            k,
            format,
        })
    }

    fn vector(&mut self, memory: &mut Memory, layout: &VectorLayout) -> Result<DevPtr<u8>, ModelError> {
        let (len, name) = (layout.len, layout.tensor.as_str());
        let size = match layout.store {
            VectorAs::Bf16 | VectorAs::Bf16LessOne => 2,
            VectorAs::F32 | VectorAs::F32LogOfNegative => 4,
        };
        let region = take(memory, name, size * len)?;
        let kind = self.kinds.get(name).copied();
        let centre = match self.config.zero_centered && kind != Some(Kind::GatedNorm) {
            true => 1.0,
            false => 0.0,
        };
        let mean = if kind == Some(Kind::HeadNorm) { HEAD_NORM } else { 1.0 } - centre;
        self.fill(memory, |fill| match kind {
            Some(Kind::ALog) => fill.uniform(region.ptr(), len, A_LOG, id(name)),
            Some(Kind::DtBias) => fill.uniform(region.ptr(), len, DT_BIAS, id(name)),
            Some(Kind::Conv) => fill.normal(region.ptr(), len, 0.0, CONV_DEVIATION, id(name)),
            Some(Kind::GatedNorm | Kind::HeadNorm) | None => {
                fill.normal(region.ptr(), len, mean, NORM_DEVIATION, id(name))
            }
        })?;
        Ok(region.ptr())
    }

    fn embedding(
        &mut self,
        memory: &mut Memory,
        base: &str,
        vocab: u32,
        hidden: u32,
    ) -> Result<EmbeddingTable, ModelError> {
        let (elements, deviation) = (u64::from(vocab) * u64::from(hidden), deviation(hidden, 1.0));
        if self.format == WeightFormat::Q8_0 {
            self.must_divide(base, WeightFormat::Q8_0, hidden)?;
            let blocks = elements / u64::from(q8::BLOCK);
            let table = take(memory, base, blocks * u64::from(q8::GGUF_BLOCK_BYTES))?;
            let scale = fill::q8_base(deviation);
            self.fill(memory, |fill| fill.q8_0(table.ptr(), blocks, scale, id(base)))?;
            return Ok(EmbeddingTable::Q8_0(table.ptr()));
        }
        let table = take(memory, base, 2 * elements)?;
        self.fill(memory, |fill| {
            fill.normal(table.ptr(), elements, 0.0, deviation, id(base))
        })?;
        self.embedding = Some((base.into(), table.ptr()));
        Ok(EmbeddingTable::Bf16(table.ptr()))
    }
}

#[cfg(test)]
mod tests;
