//! What files have, as what the device has.
//!
//! Everything is rounded once, to nearest even: f32 and f64 are wide enough to hold each intermediate value exactly, or so nearly that
//! the rounding to bf16 cannot tell.

use std::borrow::Cow;

use half::{bf16, f16};

use super::found::{Found, Nvfp4, row_bytes};
use super::rows::Run;
use crate::gguf::{Q8_0_BLOCK, Q8_0_BLOCK_BYTES};
use crate::model::files::Dtype;
use crate::model::layout::VectorAs;
use crate::op::random::parallel;
use crate::ops::nvfp4::{BLOCK, Convention};

/// Rows as bf16, in bytes; those of a BF16 tensor as they are in the file.
pub(super) fn bf16_rows<'a>(found: &Found<'a>, run: Run) -> Cow<'a, [u8]> {
    let bytes = row_bytes(&found.raw, run);
    if found.raw.dtype == Dtype::Bf16 {
        return Cow::Borrowed(bytes);
    }
    let k = found.k as usize;
    let mut values = vec![bf16::ZERO; run.len as usize * k];
    if let Some(nvfp4) = found.nvfp4 {
        let scales = row_bytes(&nvfp4.scales, run);
        let table = products();
        parallel(&mut values, k, |first, part| {
            let row = first / k;
            let codes = bytes[row * k / 2..].chunks_exact(k / 2);
            let scales = scales[row * k / BLOCK as usize..].chunks_exact(k / BLOCK as usize);
            for ((part, codes), scales) in part.chunks_exact_mut(k).zip(codes).zip(scales) {
                nvfp4_row(codes, scales, &nvfp4, &table, part);
            }
        });
    } else {
        match found.raw.dtype {
            Dtype::F32 => parallel(&mut values, 1, |first, part| {
                for (value, b) in part.iter_mut().zip(bytes[4 * first..].chunks_exact(4)) {
                    *value = bf16::from_f32(f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                }
            }),
            Dtype::F16 => parallel(&mut values, 1, |first, part| {
                for (value, b) in part.iter_mut().zip(bytes[2 * first..].chunks_exact(2)) {
                    *value = bf16::from_f32(f16::from_le_bytes([b[0], b[1]]).to_f32());
                }
            }),
            // Q8_0: no other type is found as a matrix.
            _ => parallel(&mut values, Q8_0_BLOCK, |first, part| {
                let blocks = bytes[first / Q8_0_BLOCK * Q8_0_BLOCK_BYTES..].chunks_exact(Q8_0_BLOCK_BYTES);
                for (part, block) in part.chunks_exact_mut(Q8_0_BLOCK).zip(blocks) {
                    let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
                    for (value, &q) in part.iter_mut().zip(&block[2..]) {
                        // 11 and 8 bits: exact in f32.
                        *value = bf16::from_f32(scale * f32::from(q as i8));
                    }
                }
            }),
        }
    }
    Cow::Owned(bytemuck::cast_slice(&values).to_vec())
}

/// Products of every code with every block scale: `[256 scales][16 codes]`, exact in f64.
fn products() -> Vec<[f64; 16]> {
    const MAGNITUDES: [f64; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    (0..=255_u8)
        .map(|scale| {
            let scale = e4m3(scale);
            std::array::from_fn(|code| {
                let magnitude = MAGNITUDES[code % 8];
                scale * if code < 8 { magnitude } else { -magnitude }
            })
        })
        .collect()
}

/// The value of an E4M3: bias 7, no infinity, all ones is NaN.
fn e4m3(byte: u8) -> f64 {
    let (exponent, fraction) = (i32::from(byte >> 3 & 15), f64::from(byte & 7));
    let magnitude = match (exponent, byte & 7) {
        (15, 7) => f64::NAN,
        (0, _) => fraction / 512.0,
        _ => (8.0 + fraction) * 2_f64.powi(exponent - 10),
    };
    if byte < 0x80 { magnitude } else { -magnitude }
}

/// A row of NVFP4: the exact product with the tensor scale (a quotient is as near as f64 has it, which no bf16's rounding can tell: it has
/// 6 bits over 24, so it is a tie of two bf16 or more than 2^-33 from one).
fn nvfp4_row(codes: &[u8], scales: &[u8], nvfp4: &Nvfp4, table: &[[f64; 16]], out: &mut [bf16]) {
    let tensor = f64::from(nvfp4.tensor_scale);
    let blocks = codes.chunks_exact(BLOCK as usize / 2).zip(scales);
    for (out, (codes, &scale)) in out.chunks_exact_mut(BLOCK as usize).zip(blocks) {
        let products = &table[usize::from(scale)];
        for (pair, &byte) in out.chunks_exact_mut(2).zip(codes) {
            for (value, code) in pair.iter_mut().zip([byte & 15, byte >> 4]) {
                let product = products[usize::from(code)];
                *value = round(match nvfp4.convention {
                    Convention::ModelOpt => product * tensor,
                    Convention::CompressedTensors => product / tensor,
                });
            }
        }
    }
}

/// The nearest bf16 of an f64, ties to even: rounded to odd on the way through f32, so that it is rounded once.
pub(super) fn round(v: f64) -> bf16 {
    let near = v as f32;
    if f64::from(near) == v || !near.is_finite() {
        return bf16::from_f32(near);
    }
    let bits = near.to_bits();
    let truncated = if f64::from(near).abs() > v.abs() {
        bits - 1
    } else {
        bits
    };
    bf16::from_f32(f32::from_bits(truncated | 1))
}

/// Elements of a vector as f32, exact; `None` for a type that is none of F32, F16 and BF16.
pub(super) fn floats(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let halves = || bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    match dtype {
        Dtype::F32 => Some(
            bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
        ),
        Dtype::F16 => Some(halves().map(|bits| f16::from_bits(bits).to_f32()).collect()),
        Dtype::Bf16 => Some(halves().map(|bits| bf16::from_bits(bits).to_f32()).collect()),
        _ => None,
    }
}

/// A vector's elements as the device has them, in bytes.
///
/// # Errors
/// A number that has no such value, with its index.
pub(super) fn vector(values: &[f32], store: VectorAs) -> Result<Vec<u8>, String> {
    let halves = |f: &dyn Fn(f32) -> bf16| values.iter().flat_map(|v| f(*v).to_le_bytes()).collect();
    match store {
        VectorAs::Bf16 => Ok(halves(&bf16::from_f32)),
        VectorAs::Bf16LessOne => Ok(halves(&|v| round(f64::from(v) - 1.0))),
        VectorAs::F32 => Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        VectorAs::F32LogOfNegative => {
            if let Some((i, v)) = values.iter().enumerate().find(|(_, v)| !(**v < 0.0 && v.is_finite())) {
                return Err(format!("element {i} is {v}; it must be below 0, as -exp(A_log) is"));
            }
            let log = |v: &f32| cuda_std::float::exact::log(-v).to_le_bytes();
            Ok(values.iter().flat_map(log).collect())
        }
    }
}

/// Bytes of an element of a stored vector.
pub(super) fn element_bytes(store: VectorAs) -> usize {
    match store {
        VectorAs::Bf16 | VectorAs::Bf16LessOne => 2,
        VectorAs::F32 | VectorAs::F32LogOfNegative => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_f64_is_rounded_once() {
        // 1 + 2^-8 is a tie and goes to even; anything more goes up, though f32 cannot tell it from the tie.
        let tie = 1.0 + 2_f64.powi(-8);
        assert_eq!(round(tie).to_f64(), 1.0);
        assert_eq!(round(tie + 2_f64.powi(-40)).to_f64(), 1.0 + 2_f64.powi(-7));
        assert_eq!(round(-tie - 2_f64.powi(-40)).to_f64(), -1.0 - 2_f64.powi(-7));
        assert_eq!(round(tie + 2_f64.powi(-7)).to_f64(), 1.0 + 2_f64.powi(-6));
        assert_eq!(
            round(tie + 2_f64.powi(-7) - 2_f64.powi(-40)).to_f64(),
            1.0 + 2_f64.powi(-7)
        );
        // Twice rounded it is the tie's.
        assert_eq!(bf16::from_f32((tie + 2_f64.powi(-40)) as f32).to_f64(), 1.0);
        assert!(round(f64::NAN).is_nan() && round(1e300) == bf16::INFINITY && round(1e-300).to_bits() == 0);
        assert_eq!(round(-1e-300).to_bits(), 0x8000);
    }

    #[test]
    fn e4m3_has_its_landmarks() {
        let values = [
            (0x00, 0.0),
            (0x01, 2_f64.powi(-9)),
            (0x07, 7.0 / 512.0),
            (0x08, 2_f64.powi(-6)),
            (0x38, 1.0),
            (0x7E, 448.0),
        ];
        for (byte, value) in values {
            assert_eq!((e4m3(byte), e4m3(byte | 0x80)), (value, -value));
        }
        assert!(e4m3(0x7F).is_nan() && e4m3(0xFF).is_nan());
    }
}
