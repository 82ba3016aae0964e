//! Small files made by the tests, with every element's exact value, and what the device must have of it, worked out by plain indexing.

use half::{bf16, f16};
use host::device::{DevPtr, Pod};
use host::gguf::Gguf;
use host::model::files::Safetensors;
use host::model::layout::{LinearLayout, Part, Piece, Rows};
use host::op::random::Random;
use host::ops::nvfp4::Convention;
use host::reference::nvfp4::{e2m1, e4m3};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use std::collections::BTreeMap;

/// Tensors of a file under construction, and the exact values of its matrices by their base names.
#[derive(Default)]
pub struct Made {
    pub tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
    /// Q8_0 tensors, which only GGUF has.
    pub blocks: BTreeMap<String, (Vec<usize>, Vec<u8>)>,
    pub values: BTreeMap<String, Vec<Vec<f64>>>,
}

impl Made {
    pub fn put(&mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) {
        self.tensors.insert(name.into(), (dtype, shape.into(), bytes));
    }

    /// A tensor of normal values in BF16, F16 or F32, of a whole name; its matrix is `[..][last dimension]`.
    pub fn floats(&mut self, name: &str, dtype: Dtype, shape: &[usize]) {
        let random = Random::new(7, name);
        let count: usize = shape.iter().product();
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        for i in 0..count as u64 {
            let v = random.normal(i);
            let v = match dtype {
                Dtype::BF16 => {
                    bytes.extend(bf16::from_f32(v).to_le_bytes());
                    bf16::from_f32(v).to_f64()
                }
                Dtype::F16 => {
                    bytes.extend(f16::from_f32(v).to_le_bytes());
                    f16::from_f32(v).to_f64()
                }
                _ => {
                    bytes.extend(v.to_le_bytes());
                    f64::from(v)
                }
            };
            values.push(v);
        }
        let k = *shape.last().unwrap_or(&1);
        self.values
            .insert(base(name), values.chunks(k).map(<[f64]>::to_vec).collect());
        self.put(name, dtype, shape, bytes);
    }

    /// The three tensors of NVFP4 `[rows][k]`.
    pub fn nvfp4(&mut self, base: &str, convention: Convention, [rows, k]: [usize; 2], scale: f32) {
        let [codes, scales] = ["codes", "scales"].map(|what| Random::new(7, &format!("{base} {what}")));
        let codes: Vec<u8> = (0..rows * k / 2).map(|i| codes.at(i as u64) as u8).collect();
        // Any block scale that is a number: zeros, subnormals and negative ones too.
        let scales: Vec<u8> = (0..rows * k / 16)
            .map(|i| scales.at(i as u64) as u8)
            .map(|byte| if byte & 0x7F == 0x7F { 0x38 } else { byte })
            .collect();
        let value = |row: usize, column: usize| {
            let at = row * k + column;
            let code = codes[at / 2] >> (4 * (at % 2)) & 15;
            let product = f64::from(e2m1(code)) * f64::from(e4m3(scales[at / 16]));
            match convention {
                Convention::ModelOpt => product * f64::from(scale),
                Convention::CompressedTensors => product / f64::from(scale),
            }
        };
        let row = |row: usize| (0..k).map(|column| value(row, column)).collect();
        self.values.insert(base.into(), (0..rows).map(row).collect());
        let names = convention.names().map(|name| format!("{base}.{name}"));
        self.put(&names[0], Dtype::U8, &[rows, k / 2], codes);
        self.put(&names[1], Dtype::F8_E4M3, &[rows, k / 16], scales);
        let shape: &[usize] = if convention == Convention::ModelOpt { &[] } else { &[1] };
        self.put(&names[2], Dtype::F32, shape, scale.to_le_bytes().to_vec());
    }

    /// A Q8_0 tensor of a whole name, `[..][k]`.
    pub fn q8(&mut self, name: &str, shape: &[usize]) {
        let random = Random::new(7, name);
        let k = *shape.last().expect("a matrix");
        let rows = shape.iter().product::<usize>() / k;
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        for block in 0..(rows * k / 32) as u64 {
            let scale = f16::from_f32(random.normal(block * 40) * 0.01);
            bytes.extend(scale.to_le_bytes());
            for j in 0..32 {
                let q = random.at(block * 40 + 1 + j) as i8;
                bytes.push(q as u8);
                values.push(scale.to_f64() * f64::from(q));
            }
        }
        self.values
            .insert(base(name), values.chunks(k).map(<[f64]>::to_vec).collect());
        self.blocks.insert(name.into(), (shape.into(), bytes));
    }

    pub fn safetensors(&self) -> Safetensors {
        assert!(self.blocks.is_empty(), "safetensors have no Q8_0");
        let views = self.tensors.iter().map(|(name, (dtype, shape, bytes))| {
            (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        Safetensors::from_bytes("made.safetensors", serialize(views, None).unwrap()).unwrap()
    }

    /// As a GGUF file; NVFP4 is not for it.
    pub fn gguf(&self) -> Gguf {
        let floats = self.tensors.iter().map(|(name, (dtype, shape, bytes))| {
            let ty = match dtype {
                Dtype::F32 => 0_u32,
                Dtype::F16 => 1,
                Dtype::BF16 => 30,
                other => panic!("{other} in GGUF"),
            };
            (name, ty, shape, bytes)
        });
        let blocks = self.blocks.iter().map(|(name, (shape, bytes))| (name, 8, shape, bytes));
        let all: Vec<_> = floats.chain(blocks).collect();
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend((all.len() as u64).to_le_bytes());
        file.extend(0_u64.to_le_bytes());
        let mut data: Vec<u8> = Vec::new();
        for (name, ty, shape, bytes) in all {
            file.extend((name.len() as u64).to_le_bytes());
            file.extend(name.as_bytes());
            file.extend((shape.len() as u32).to_le_bytes());
            for n in shape.iter().rev() {
                file.extend((*n as u64).to_le_bytes());
            }
            file.extend(ty.to_le_bytes());
            file.extend((data.len() as u64).to_le_bytes());
            data.extend(bytes);
            data.resize(data.len().next_multiple_of(32), 0);
        }
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(data);
        Gguf::from_bytes("made.gguf", file).unwrap()
    }
}

fn base(name: &str) -> String {
    name.strip_suffix(".weight").unwrap_or(name).to_string()
}

/// Rows of a made matrix, one by one.
pub fn rows(base: &str, indices: impl IntoIterator<Item = usize>) -> Vec<(String, usize)> {
    indices.into_iter().map(|row| (base.to_string(), row)).collect()
}

pub fn piece(base: &str, rows: Rows) -> Piece {
    Piece {
        base: base.into(),
        rows,
    }
}

pub fn all(base: &str) -> Piece {
    piece(base, Rows::All)
}

pub fn linear(k: u32, parts: Vec<(&'static str, u32, Vec<Piece>)>) -> LinearLayout {
    let part = |(name, n, pieces)| Part { name, n, pieces };
    LinearLayout {
        role: "product",
        k,
        parts: parts.into_iter().map(part).collect(),
    }
}

/// The nearest bf16 of a value, of two the even one: found among all of them.
pub fn nearest(v: f64) -> u16 {
    let value = |bits: u16| f64::from(f32::from_bits(u32::from(bits) << 16));
    let (mut low, mut high) = (0_u16, 0x7F80_u16);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if value(middle) <= v.abs() {
            low = middle
        } else {
            high = middle
        }
    }
    let (below, above) = (v.abs() - value(low), value(high) - v.abs());
    let up = above < below || (above == below && low % 2 == 1);
    let bits = if up { high } else { low };
    if v.is_sign_negative() { bits | 0x8000 } else { bits }
}

/// The bf16 bits that rows must have.
pub fn expected(made: &Made, rows: &[(String, usize)]) -> Vec<u16> {
    rows.iter()
        .flat_map(|(base, row)| made.values[base][*row].iter().map(|v| nearest(*v)))
        .collect()
}

/// Elements on the simulator, every byte of which something must have written.
pub fn read<T: Pod, U>(at: DevPtr<U>, count: usize) -> Vec<T> {
    let mut data = vec![T::zeroed(); count];
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut data);
    let at = at.cast::<u8>().get();
    // SAFETY: the tests' memory lives while they read, they read no more than a tensor has, and no kernel runs.
    unsafe {
        assert_eq!(
            simt::memory::first_unwritten(at, bytes.len()),
            None,
            "a byte was never written"
        );
        simt::memory::read(at, bytes);
    }
    data
}
