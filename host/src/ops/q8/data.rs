//! The data of a case: GGUF blocks and activations drawn from a seed.

use super::Q8Shape;
use crate::op::Values;
use crate::op::random::{Random, parallel};

const BLOCK: usize = kernels_gpu::q8::GGUF_BLOCK_BYTES as usize;

/// Host copies of a case's operands.
pub(super) struct Data {
    /// GGUF blocks `[groups][n][nb][34]`.
    pub blocks: Vec<u8>,
    /// Activations `[n_tok][groups * k]`, each exact in the case's dtype.
    pub x: Vec<f32>,
}

/// Draws weights and activations. `bf16`: round activations to bf16.
pub(super) fn draw(shape: Q8Shape, n_tok: u32, values: Values, bf16: bool, seed: u64) -> Data {
    let mut blocks = vec![0u8; shape.gguf_bytes()];
    let (bytes, scales) = (
        Random::new(seed, "q8 weight bytes"),
        Random::new(seed, "q8 weight scales"),
    );
    parallel(&mut blocks, BLOCK, |first, part| {
        for (i, block) in part.chunks_exact_mut(BLOCK).enumerate() {
            let index = (first / BLOCK + i) as u64;
            block[..2].copy_from_slice(&scale(values, scales, index, shape.blocks() as u64).to_le_bytes());
            for (j, eight) in block[2..].chunks_exact_mut(8).enumerate() {
                eight.copy_from_slice(&weights(values, bytes.at(index * 4 + j as u64)).to_le_bytes());
            }
        }
    });
    let width = shape.k as usize * shape.groups as usize;
    let mut x = vec![0f32; n_tok as usize * width];
    let random = Random::new(seed, "q8 activations");
    let single = random.below(u64::MAX, width as u64);
    parallel(&mut x, 1, |first, part| {
        for (i, v) in part.iter_mut().enumerate() {
            let index = (first + i) as u64;
            let at = index % width as u64;
            let value = if values == Values::Single && at != single {
                0.0
            } else {
                activation(values, random, index, at)
            };
            *v = if bf16 {
                half::bf16::from_f32(value).to_f32()
            } else {
                value
            };
        }
    });
    Data { blocks, x }
}

/// The f16 bits of a weight scale. `nb`: blocks in a row.
fn scale(values: Values, random: Random, index: u64, nb: u64) -> u16 {
    let bits = random.at(index);
    let sign = (bits >> 63 << 15) as u16;
    // 2^-9 .. 2^-6, where the scales of real weights are.
    let ordinary = (6 + bits % 3) as u16 * 1024 + (bits >> 8 & 0x3FF) as u16;
    match values {
        Values::Zeros => 0,
        Values::SubnormalScales => sign | (bits & 0x3FF) as u16,
        Values::MaximalScales => sign | 0x7BFF,
        Values::NegativeScales => sign | ordinary,
        Values::NonFiniteScales if bits >> 32 & 31 == 0 => sign | 0x7C00 | ((bits >> 40 & 1) as u16 * 0x155),
        Values::Cancelling => 0x3000 | ((index % nb % 2) as u16) << 15,
        // Any finite f16.
        Values::WideRange => sign | (bits % 0x7C00) as u16,
        _ => ordinary,
    }
}

/// Eight weight bytes from eight random ones.
fn weights(values: Values, bits: u64) -> u64 {
    match values {
        Values::Zeros => 0,
        Values::AllMinimum => 0x8080_8080_8080_8080,
        // Each byte 127 or -127 by its top bit: 0x7F or 0x81.
        Values::Extremes => u64::from_le_bytes(bits.to_le_bytes().map(|b| if b & 0x80 == 0 { 0x7F } else { 0x81 })),
        Values::Cancelling => 0x8000_8000_8000_8000 ^ 0x7F7F_7F7F_7F7F_7F7F,
        _ => bits,
    }
}

/// One activation; `at`: its place in the row.
fn activation(values: Values, random: Random, index: u64, at: u64) -> f32 {
    let normal = random.normal(index);
    // The magnitude of a block, the same for all its values.
    let exponent = |low: i32, range: u64| {
        let block = Random::new(random.at(index - at + at / 32), "magnitude");
        2f32.powi(low + block.below(0, range) as i32)
    };
    match values {
        Values::Zeros => 0.0,
        Values::NonFinite => match random.at(index ^ 1 << 63) % 257 {
            0 => f32::NAN,
            1 => f32::INFINITY,
            2 => f32::NEG_INFINITY,
            3 => f32::from_bits(0xFFA0_0001),
            _ => normal,
        },
        Values::Cancelling => 1.0,
        Values::Huge => normal * 9.0e37,
        // From 2^-149, where scales underflow to zero, to 2^-118.
        Values::Tiny => normal * exponent(-100, 18) * 2f32.powi(-40),
        Values::WideRange => normal * exponent(-20, 40),
        _ => normal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(values: Values, bf16: bool) -> Data {
        draw(Q8Shape::new(9, 257, 2).unwrap(), 5, values, bf16, 11)
    }

    #[test]
    fn data_depends_on_the_seed_alone() {
        let shape = Q8Shape::new(9, 257, 2).unwrap();
        let (a, b) = (drawn(Values::Normal, false), drawn(Values::Normal, false));
        assert!(a.blocks == b.blocks && a.x == b.x);
        let c = draw(shape, 5, Values::Normal, false, 12);
        assert!(a.blocks != c.blocks && a.x != c.x);
    }

    #[test]
    fn each_kind_of_values_is_what_it_says() {
        let scales = |d: &Data| -> Vec<u16> {
            d.blocks
                .chunks_exact(BLOCK)
                .map(|b| u16::from_le_bytes([b[0], b[1]]))
                .collect()
        };
        let d = drawn(Values::SubnormalScales, false);
        assert!(scales(&d).iter().all(|s| s & 0x7C00 == 0) && scales(&d).iter().any(|s| s & 0x3FF != 0));
        assert!(
            scales(&drawn(Values::MaximalScales, false))
                .iter()
                .all(|s| s & 0x7FFF == 0x7BFF)
        );
        let d = drawn(Values::NegativeScales, false);
        assert!(scales(&d).iter().any(|s| s >> 15 == 1) && scales(&d).iter().any(|s| s >> 15 == 0));
        let d = drawn(Values::NonFinite, false);
        assert!(d.x.iter().any(|v| v.is_nan()) && d.x.iter().any(|v| v.is_infinite()));
        assert!(
            scales(&drawn(Values::NonFiniteScales, false))
                .iter()
                .any(|s| s & 0x7C00 == 0x7C00)
        );
        let d = drawn(Values::Single, false);
        assert_eq!(d.x.iter().filter(|v| **v != 0.0).count(), 5);
        let d = drawn(Values::AllMinimum, false);
        assert!(d.blocks.chunks_exact(BLOCK).all(|b| b[2..].iter().all(|&q| q == 0x80)));
        let d = drawn(Values::Extremes, false);
        assert!(
            d.blocks
                .chunks_exact(BLOCK)
                .all(|b| b[2..].iter().all(|&q| q == 0x7F || q == 0x81))
        );
        let d = drawn(Values::Tiny, false);
        assert!(d.x.iter().any(|v| v.is_subnormal()));
        let d = drawn(Values::Huge, false);
        assert!(d.x.iter().all(|v| v.is_finite()) && d.x.iter().any(|v| v.abs() > 1e38));
        let d = drawn(Values::Zeros, false);
        assert!(d.x.iter().all(|v| *v == 0.0) && d.blocks.iter().all(|b| *b == 0));
    }

    #[test]
    fn bf16_activations_have_no_lower_half() {
        assert!(
            drawn(Values::WideRange, true)
                .x
                .iter()
                .all(|v| v.to_bits() & 0xFFFF == 0)
        );
        assert!(
            drawn(Values::WideRange, false)
                .x
                .iter()
                .any(|v| v.to_bits() & 0xFFFF != 0)
        );
    }
}
