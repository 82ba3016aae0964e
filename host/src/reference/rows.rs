//! The row sum of docs/numerics.md ("Row reductions"), and 16-bit floats.

use half::{bf16, f16};

/// A 16-bit float format; values are passed as their bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// bfloat16.
    Bf16,
    /// IEEE binary16.
    F16,
}

impl Half {
    /// The value of the bits, exactly.
    pub fn value(self, bits: u16) -> f32 {
        match self {
            Half::Bf16 => f32::from_bits(u32::from(bits) << 16),
            Half::F16 => super::q8::f16_value(bits),
        }
    }

    /// The values of a row.
    pub fn values(self, row: &[u16]) -> Vec<f32> {
        row.iter().map(|&bits| self.value(bits)).collect()
    }

    /// The bits of the nearest value, ties to even; a NaN is 0x7FFF.
    pub fn round(self, x: f32) -> u16 {
        match self {
            _ if x.is_nan() => 0x7FFF,
            Half::Bf16 => bf16::from_f32(x).to_bits(),
            Half::F16 => f16::from_f32(x).to_bits(),
        }
    }
}

/// The sum of the terms, in the order of every row reduction.
pub fn row_sum(terms: &[f32]) -> f32 {
    in_slots(terms, |sum, t| sum + t)
}

/// The sum of the squares, likewise.
pub fn square_sum(x: &[f32]) -> f32 {
    in_slots(x, |sum, x| x.mul_add(x, sum))
}

/// 256 chains over vectors of 8, then a tree of halves.
fn in_slots(x: &[f32], add: impl Fn(f32, f32) -> f32) -> f32 {
    let mut slots = [0.0f32; 256];
    for (v, vector) in x.chunks(8).enumerate() {
        let slot = &mut slots[v % 256];
        *slot = vector.iter().fold(*slot, |sum, &x| add(sum, x));
    }
    let mut left = 128;
    while left > 0 {
        for s in 0..left {
            slots[s] += slots[s + left];
        }
        left /= 2;
    }
    slots[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::random::Random;

    #[test]
    fn formats_round_as_by_hand() {
        // 1 + 2^-8 is half way between two bf16: to even, down; 1 + 3 * 2^-8 up.
        assert_eq!(Half::Bf16.round(1.0 + 1.0 / 256.0), 0x3F80);
        assert_eq!(Half::Bf16.round(1.0 + 3.0 / 256.0), 0x3F82);
        assert_eq!(Half::F16.round(65_520.0), 0x7C00);
        assert_eq!(Half::F16.round(-65_519.0), 0xFBFF);
        for half in [Half::Bf16, Half::F16] {
            assert_eq!(half.round(f32::from_bits(0xFFC0_0001)), 0x7FFF);
            assert_eq!((half.round(0.0), half.round(-0.0)), (0, 0x8000));
            assert_eq!(half.value(half.round(-3.5)), -3.5);
        }
    }

    #[test]
    fn a_row_sum_is_within_the_bound_of_its_tree_and_not_the_sum_in_a_chain() {
        let r = Random::new(1, "row sum");
        let mut other = 0;
        for n in [1usize, 7, 8, 128, 2048, 2049, 5000, 12_288] {
            let x: Vec<f32> = (0..n as u64)
                .map(|i| r.normal(i) * f32::from(1 + (i % 9) as u16))
                .collect();
            let exact: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
            let sum = square_sum(&x);
            // Every square is rounded at most ceil(n / 2048) * 8 + 8 times, and all are positive.
            let roundings = (n.div_ceil(2048) * 8 + 8) as f64;
            assert!(
                (f64::from(sum) - exact).abs() <= exact * roundings * 2f64.powi(-24) * 1.001,
                "{n}"
            );
            let chain = x.iter().fold(0.0f32, |sum, &v| v.mul_add(v, sum));
            other += usize::from(chain != sum);
            // Slots of one vector: the plain sums of a vector's squares.
            if n <= 8 {
                assert_eq!(sum, chain);
            }
        }
        assert!(other >= 4, "the order shows");
    }

    #[test]
    fn the_tree_adds_halves() {
        // Slots 0 and 128 meet first: 2^24 and -2^24 cancel before slot 1's 1 comes in.
        let mut x = vec![0.0f32; 256 * 8];
        (x[0], x[128 * 8], x[8]) = (16_777_216.0, -16_777_216.0, 1.0);
        assert_eq!(row_sum(&x), 1.0);
        // Slots 0 and 64 meet after 0 and 128: 1 is lost in 2^24 then.
        (x[128 * 8], x[64 * 8]) = (1.0, -16_777_216.0);
        assert_eq!(row_sum(&x), 1.0);
        x[8] = 0.0;
        assert_eq!(row_sum(&x), 0.0);
    }
}
