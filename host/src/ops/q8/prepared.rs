//! A `q8_matmul` case on a device, with its three answers.

use super::data::{self, Data};
use super::operation::{NAME, entry, order, sizes};
use super::{Q8Activations, Q8Input, Q8Matmul, Q8Packed, Q8Shape, Q8Weights};
use crate::device::{Buffer, Device, LaunchDims, Stream};
use crate::op::random::Random;
use crate::op::{AloneCheck, Case, OpError, Order, Prepared, Reference, compare_bytes, compare_within};
use crate::reference::q8::{self as reference, Exact, Input};
use kernels_gpu::q8_plain;

/// The most multiply-adds the CPU reference is asked for: a second or two of one core.
pub(super) const CPU_LIMIT: u64 = 1 << 31;

/// A case whose weights are repacked and whose activations are quantised.
pub(super) struct Q8Case {
    device: Device,
    case: Case,
    seed: u64,
    shape: Q8Shape,
    n_tok: u32,
    data: Data,
    bf16: bool,
    activations: Q8Activations,
    copies: Vec<(Q8Weights, Buffer)>,
    reference: Option<Vec<u8>>,
    plain: Option<Vec<u8>>,
    exact: Option<Vec<Exact>>,
}

impl Q8Case {
    pub fn new(device: &Device, case: &Case, seed: u64, copies: usize) -> Result<Self, OpError> {
        let (shape, n_tok) = sizes(case)?;
        let bf16 = match case.dtype.as_str() {
            "f32" => false,
            "bf16" => true,
            other => {
                return Err(OpError::Shape(format!(
                    "{NAME}: activations of '{other}'; they are f32 or bf16"
                )));
            }
        };
        let data = data::draw(shape, n_tok, case.values, bf16, seed);
        let activations = quantised(device, shape, &data.x, bf16, n_tok)?;
        let packed = Q8Packed::from_blocks(&data.blocks, shape)?;
        let output_bytes = 4 * n_tok as usize * shape.n as usize * shape.groups as usize;
        let copies = (0..copies.max(1))
            .map(|i| {
                let weights = Q8Weights::upload(device, &packed, &format!("weights{i}"))?;
                let y = device.alloc(output_bytes, &format!("y{i}"))?;
                y.poison()?;
                Ok((weights, y))
            })
            .collect::<Result<Vec<_>, OpError>>()?;
        Ok(Self {
            device: device.clone(),
            case: case.clone(),
            seed,
            shape,
            n_tok,
            data,
            bf16,
            activations,
            copies,
            reference: None,
            plain: None,
            exact: None,
        })
    }

    fn copy(&self, copy: usize) -> Result<&(Q8Weights, Buffer), OpError> {
        self.copies.get(copy).ok_or(OpError::NoSuchCopy {
            copy,
            copies: self.copies.len(),
        })
    }

    /// The GGUF blocks of a group.
    fn blocks(&self, group: usize) -> &[u8] {
        let bytes = self.data.blocks.len() / self.shape.groups as usize;
        &self.data.blocks[group * bytes..(group + 1) * bytes]
    }

    /// The activations of a group as `[n_tok][k]`.
    fn x(&self, group: usize) -> Vec<f32> {
        let (k, stride) = (
            self.shape.k as usize,
            self.shape.k as usize * self.shape.groups as usize,
        );
        self.data
            .x
            .chunks_exact(stride)
            .flat_map(|row| &row[group * k..(group + 1) * k])
            .copied()
            .collect()
    }

    /// `f` for each group, giving `[n_tok][n]`; put together as `[n_tok][groups * n]`.
    fn by_group<T: Copy + Default>(
        &self,
        mut f: impl FnMut(usize) -> Result<Vec<T>, OpError>,
    ) -> Result<Vec<T>, OpError> {
        let (n, groups) = (self.shape.n as usize, self.shape.groups as usize);
        let mut all = vec![T::default(); self.n_tok as usize * groups * n];
        for group in 0..groups {
            for (token, row) in f(group)?.chunks_exact(n).enumerate() {
                let at = (token * groups + group) * n;
                all[at..at + n].copy_from_slice(row);
            }
        }
        Ok(all)
    }

    /// The reference's own quantisation of a group's activations.
    fn quantised(&self, group: usize) -> Result<reference::Quantised, OpError> {
        let x = self.x(group);
        let (n_tok, k) = (self.n_tok as usize, self.shape.k as usize);
        let quantised = if self.bf16 {
            reference::quantise(Input::Bf16(&bf16_bits(&x)), n_tok, k)
        } else {
            reference::quantise(Input::F32(&x), n_tok, k)
        };
        Ok(quantised?)
    }

    /// The plain kernels on one group.
    fn run_plain(&self, group: usize) -> Result<Vec<f32>, OpError> {
        let (n, k, nb, n_tok) = (self.shape.n, self.shape.k, self.shape.blocks() as u32, self.n_tok);
        let outputs = n as usize * n_tok as usize;
        let stream = self.device.stream()?;
        let upload = |bytes: &[u8], name: &str| -> Result<Buffer, OpError> {
            let buffer = self.device.alloc(bytes.len(), name)?;
            buffer.upload(bytes)?;
            Ok(buffer)
        };
        let blocks = upload(self.blocks(group), "plain.blocks")?;
        let x: Vec<u8> = self.x(group).iter().flat_map(|v| v.to_le_bytes()).collect();
        let x = upload(&x, "plain.x")?;
        let token_blocks = n_tok as usize * nb as usize;
        let q = self.device.alloc(token_blocks * 32, "plain.q")?;
        let d = self.device.alloc(token_blocks * 4, "plain.d")?;
        let y = self.device.alloc(outputs * 4, "plain.y")?;
        y.poison()?;
        let grid = |items: usize| LaunchDims::new(items.div_ceil(q8_plain::THREADS as usize) as u32, q8_plain::THREADS);
        let args = (
            x.ptr_as::<f32>().cast_const(),
            q.ptr_as::<i8>(),
            d.ptr_as::<f32>(),
            n_tok,
            k,
            nb,
        );
        self.device
            .launch(&stream, &q8_plain::q8_quantize_plain::KERNEL, grid(token_blocks), args)?;
        let (q, d) = (q.ptr_as::<i8>().cast_const(), d.ptr_as::<f32>().cast_const());
        let args = (blocks.ptr().cast_const(), q, d, y.ptr_as::<f32>(), n, nb, n_tok);
        self.device
            .launch(&stream, &q8_plain::q8_matmul_plain::KERNEL, grid(outputs), args)?;
        self.device.synchronize()?;
        if let Some(byte) = y.first_unwritten() {
            return Err(OpError::Unwritten {
                op: NAME,
                coords: format!("plain output {}", byte / 4),
            });
        }
        Ok(y.download_vec(outputs)?)
    }
}

impl Prepared for Q8Case {
    fn case(&self) -> &Case {
        &self.case
    }

    fn copies(&self) -> usize {
        self.copies.len()
    }

    fn poison(&mut self) -> Result<(), OpError> {
        for (_, y) in &self.copies {
            y.poison()?;
        }
        Ok(())
    }

    fn launch(&self, config: &str, stream: &Stream, copy: usize) -> Result<(), OpError> {
        let (weights, y) = self.copy(copy)?;
        Q8Matmul::new(config)?.launch(&self.device, stream, weights, &self.activations, y, self.n_tok)
    }

    fn output(&self, copy: usize) -> Result<Vec<u8>, OpError> {
        let (_, y) = self.copy(copy)?;
        self.device.synchronize()?;
        if let Some(byte) = y.first_unwritten() {
            return Err(OpError::Unwritten {
                op: NAME,
                coords: self.coords(byte),
            });
        }
        Ok(y.download_vec(y.len_bytes())?)
    }

    fn cpu_reference(&mut self) -> Result<Reference<'_>, OpError> {
        let Q8Shape { n, k, groups } = self.shape;
        let work = u64::from(groups) * u64::from(n) * u64::from(k) * u64::from(self.n_tok);
        if work > CPU_LIMIT {
            return Ok(Reference::TooLarge(format!(
                "{work} multiply-adds; the CPU reference is computed up to {CPU_LIMIT}, above that the plain kernel is \
                 the reference"
            )));
        }
        let bytes = match self.reference.take() {
            Some(bytes) => bytes,
            None => to_bytes(&self.by_group(|group| {
                let x = self.quantised(group)?;
                Ok(reference::matmul_quantised(
                    self.blocks(group),
                    &x,
                    n as usize,
                    k as usize,
                    self.n_tok as usize,
                )?)
            })?),
        };
        Ok(Reference::Bytes(self.reference.insert(bytes)))
    }

    fn plain(&mut self) -> Result<&[u8], OpError> {
        let bytes = match self.plain.take() {
            Some(bytes) => bytes,
            None => to_bytes(&self.by_group(|group| self.run_plain(group))?),
        };
        Ok(self.plain.insert(bytes))
    }

    /// One token of several, another one for each config. A config that is not of the canonical order, or that takes no single
    /// token, shows nothing.
    fn alone(&mut self, config: &str, stream: &Stream) -> Result<Vec<AloneCheck>, OpError> {
        let tile = &entry(config)?.config;
        let one = tile.admits(self.shape.n, self.shape.quads(), 1);
        if self.n_tok < 2 || order(tile) != Order::Canonical || one.is_err() {
            return Ok(Vec::new());
        }
        let token = Random::new(self.seed, config).below(0, u64::from(self.n_tok)) as usize;
        self.copy(0)?.1.poison()?;
        self.launch(config, stream, 0)?;
        let whole = self.output(0)?;
        let width = self.shape.k as usize * self.shape.groups as usize;
        let x = &self.data.x[token * width..][..width];
        let x = quantised(&self.device, self.shape, x, self.bf16, 1)?;
        let row = 4 * self.shape.n as usize * self.shape.groups as usize;
        let first = token * row;
        let y = self.device.alloc(row, "y of a token")?;
        y.poison()?;
        let (weights, _) = self.copy(0)?;
        Q8Matmul::new(config)?.launch(&self.device, stream, weights, &x, &y, 1)?;
        self.device.synchronize()?;
        if let Some(byte) = y.first_unwritten() {
            return Err(OpError::Unwritten {
                op: NAME,
                coords: format!("{} alone", self.coords(first + byte)),
            });
        }
        let got = y.download_vec::<u8>(row)?;
        let outcome = compare_bytes(&whole[first..first + row], &got).map_err(|mut mismatch| {
            mismatch.index += first;
            mismatch.at(|byte| self.coords(byte))
        });
        Ok(vec![AloneCheck {
            name: "token alone",
            compared: row,
            outcome,
        }])
    }

    /// Both outputs may be as far from the exact sum as [`Exact::loose`] bounds any order of any parts, so they may be twice
    /// that apart.
    fn within_tolerance(&mut self, expected: &[u8], got: &[u8]) -> Result<(), OpError> {
        let (n, k, n_tok) = (self.shape.n as usize, self.shape.k as usize, self.n_tok as usize);
        let exact = match self.exact.take() {
            Some(exact) => exact,
            None => self.by_group(|group| {
                let x = self.quantised(group)?;
                Ok(reference::exact(self.blocks(group), &x, n, k, n_tok)?)
            })?,
        };
        let exact = self.exact.insert(exact);
        Ok(compare_within(expected, got, |i| {
            exact.get(i).map_or(0.0, |e| 2.0 * e.loose)
        })?)
    }

    fn coords(&self, byte: usize) -> String {
        let (n, width) = (
            self.shape.n as usize,
            self.shape.n as usize * self.shape.groups as usize,
        );
        let (token, column) = (byte / 4 / width, byte / 4 % width);
        let group = if self.shape.groups > 1 {
            format!("[group {}]", column / n)
        } else {
            String::new()
        };
        format!("y[token {token}]{group}[row {}] byte {}", column % n, byte % 4)
    }
}

/// Activations of `n_tok` tokens, quantised.
fn quantised(device: &Device, shape: Q8Shape, x: &[f32], bf16: bool, n_tok: u32) -> Result<Q8Activations, OpError> {
    let stream = device.stream()?;
    let activations = Q8Activations::new(device, shape, n_tok)?;
    let buffer = device.alloc(x.len() * if bf16 { 2 } else { 4 }, "x")?;
    if bf16 {
        buffer.upload(&bf16_bits(x))?;
        activations.quantize(device, &stream, Q8Input::Bf16(&buffer), n_tok)?;
    } else {
        buffer.upload(x)?;
        activations.quantize(device, &stream, Q8Input::F32(&buffer), n_tok)?;
    }
    // Before x is freed.
    device.synchronize()?;
    Ok(activations)
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The upper halves: the values are bf16 already.
fn bf16_bits(values: &[f32]) -> Vec<u16> {
    values.iter().map(|v| (v.to_bits() >> 16) as u16).collect()
}
