//! Golden files (scripts/golden/README.md) and what their tests share: reading, roundings, and a comparison against a bound
//! for every element.

// Each test file uses a part of this.
#![allow(dead_code)]

pub mod near;

use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::path::PathBuf;

/// Half an ulp of f32, relative: what one f32 operation is off by at most.
pub const U: f64 = 1.0 / 16_777_216.0;

/// One golden file.
pub struct Golden {
    bytes: Vec<u8>,
    facts: HashMap<String, String>,
}

impl Golden {
    /// `host/tests/data/golden/NAME.safetensors`.
    pub fn open(name: &str) -> Self {
        let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/data/golden", name].iter().collect();
        let path = path.with_extension("safetensors");
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let facts = header.metadata().clone().unwrap();
        Golden { bytes, facts }
    }

    /// A number from the file's metadata.
    pub fn number(&self, name: &str) -> f64 {
        self.facts[name].parse().unwrap()
    }

    /// A tensor's sizes.
    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.tensors().tensor(name).unwrap().shape().to_vec()
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors().tensor(name).is_ok()
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }

    fn raw<const N: usize, T>(&self, name: &str, dtypes: &[Dtype], read: fn([u8; N]) -> T) -> Vec<T> {
        let tensors = self.tensors();
        let tensor = tensors.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(dtypes.contains(&tensor.dtype()), "{name} is {:?}", tensor.dtype());
        let (elements, rest) = tensor.data().as_chunks::<N>();
        assert!(rest.is_empty());
        elements.iter().map(|&bytes| read(bytes)).collect()
    }

    /// The bits of a bf16 tensor.
    pub fn bf16(&self, name: &str) -> Vec<u16> {
        self.raw(name, &[Dtype::BF16], u16::from_le_bytes)
    }

    /// An f32 tensor.
    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.raw(name, &[Dtype::F32], f32::from_le_bytes)
    }

    /// An i32 tensor.
    pub fn i32(&self, name: &str) -> Vec<i32> {
        self.raw(name, &[Dtype::I32], i32::from_le_bytes)
    }

    /// A tensor of bytes, or of 8-bit floats as their bits.
    pub fn u8(&self, name: &str) -> Vec<u8> {
        self.raw(name, &[Dtype::U8, Dtype::F8_E4M3], |[byte]| byte)
    }

    /// A bf16 or f32 tensor as f64.
    pub fn f64(&self, name: &str) -> Vec<f64> {
        if self.tensors().tensor(name).unwrap().dtype() == Dtype::BF16 {
            return wide(&self.bf16(name));
        }
        self.f32(name).into_iter().map(f64::from).collect()
    }
}

/// The value of bf16 bits.
pub fn value(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}

/// The values of bf16 bits.
pub fn wide(bits: &[u16]) -> Vec<f64> {
    bits.iter().map(|&b| value(b)).collect()
}

/// The values of f32.
pub fn wide32(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// How far rounding to bf16 moves a value of at most this size: half a unit in the last of 8 bits, for values whose
/// distance from `x` is at most `error`.
pub fn bf16_rounding(x: f64, error: f64) -> f64 {
    let size = (x.abs() + error).max(2f64.powi(-126));
    2f64.powi(size.log2().floor() as i32 - 8)
}

/// The bound of a bf16 result whose value before its rounding is within `error` of `x`; and the witness's own f32.
pub fn stored_bf16(x: f64, error: f64) -> f64 {
    let error = error + x.abs() * U;
    error + bf16_rounding(x, error)
}

/// The largest |got - want| / bound, and where it is. A NaN or an infinity counts as infinitely wrong.
pub fn worst(got: &[f64], want: &[f64], bound: impl Fn(usize) -> f64) -> (f64, usize) {
    assert_eq!(got.len(), want.len());
    assert!(!got.is_empty());
    let ratio = |i: usize| {
        let ratio = (got[i] - want[i]).abs() / bound(i);
        if ratio.is_nan() && got[i] != want[i] {
            f64::INFINITY
        } else {
            ratio
        }
    };
    let at = (0..got.len()).max_by(|&a, &b| ratio(a).total_cmp(&ratio(b))).unwrap();
    (ratio(at), at)
}

/// Asserts that every element is within its bound, and prints how near the worst one comes.
pub fn within(what: &str, got: &[f64], want: &[f64], bound: impl Fn(usize) -> f64) {
    let (ratio, at) = worst(got, want, &bound);
    println!("{what}: the worst of {} is {ratio:.3} of its bound", got.len());
    assert!(
        ratio <= 1.0,
        "{what}[{at}]: {} where the witness has {}; at most {} apart",
        got[at],
        want[at],
        bound(at)
    );
}

/// Asserts that a planted error is seen: some element is outside its bound, and not by a hair.
pub fn caught(what: &str, got: &[f64], want: &[f64], bound: impl Fn(usize) -> f64) {
    let (ratio, _) = worst(got, want, bound);
    println!("planted: {what}: {ratio:.1} bounds");
    assert!(ratio > 2.0, "{what} passes: {ratio} of the bound");
}
