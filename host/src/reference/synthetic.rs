//! Seeded weights, element by element (docs/numerics.md, "Synthetic weights").

use half::{bf16, f16};

use super::sampling::philox;

/// Whose numbers: a seed, and a tensor of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The seed.
    pub seed: u64,
    /// The tensor.
    pub tensor: u64,
}

impl Key {
    /// Word `w` (of 4) of the Philox block `i`.
    fn word(self, i: u64, w: usize) -> u32 {
        let halves = |v: u64| [(v & 0xFFFF_FFFF) as u32, (v >> 32) as u32];
        let ([i0, i1], [t0, t1]) = (halves(i), halves(self.tensor));
        philox([i0, i1, t0, t1], halves(self.seed))[w]
    }

    /// The j-th of the words, four a Philox block.
    fn nth(self, j: u64) -> u32 {
        self.word(j / 4, (j % 4) as usize)
    }

    /// Byte j of the words, low byte first.
    fn byte(self, j: u64) -> u8 {
        self.nth(j / 4).to_le_bytes()[(j % 4) as usize]
    }
}

/// bf16(mean + scale * S), S the sum of a word's bytes less 510.
pub fn normal(key: Key, len: usize, mean: f32, scale: f32) -> Vec<bf16> {
    let value = |j: usize| {
        let bytes = key.nth(j as u64).to_le_bytes();
        let sum: i32 = bytes.into_iter().map(i32::from).sum();
        bf16::from_f32(scale.mul_add((sum - 510) as f32, mean))
    };
    (0..len).map(value).collect()
}

/// low + step * u, u a word's upper 24 bits.
pub fn uniform(key: Key, len: usize, low: f32, step: f32) -> Vec<f32> {
    let value = |j: usize| step.mul_add((key.nth(j as u64) / 256) as f32, low);
    (0..len).map(value).collect()
}

/// Random bytes: the bits of `keep` stay, those of `set` are set.
pub fn bytes(key: Key, len: usize, keep: u8, set: u8) -> Vec<u8> {
    (0..len).map(|j| key.byte(j as u64) & keep | set).collect()
}

/// Q8_0 blocks `[blocks][34]`, as GGUF has them: an f16 scale and 32 integers.
pub fn q8_0(key: Key, blocks: usize, base: f32) -> Vec<u8> {
    let mut out = Vec::with_capacity(blocks * 34);
    for block in 0..blocks as u64 {
        let factor = 768 + key.word(4 * block + 2, 0) / (1 << 23);
        out.extend(f16::from_f32(base * factor as f32).to_le_bytes());
        out.extend((0..32).map(|j| key.byte(64 * block + j)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { seed: 7, tensor: 3 };

    /// Mean and standard deviation.
    fn moments(values: impl Iterator<Item = f64>) -> (f64, f64) {
        let values: Vec<f64> = values.collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let square = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
        (mean, square.sqrt())
    }

    fn near(got: (f64, f64), wanted: (f64, f64)) {
        let close = |a: f64, b: f64| (a - b).abs() < 0.02 * wanted.1;
        assert!(
            close(got.0, wanted.0) && close(got.1, wanted.1),
            "{got:?}, not {wanted:?}"
        );
    }

    #[test]
    fn moments_are_those_the_constants_say() {
        use kernels_gpu::synthesize::{NORMAL_DEVIATION, SCALE_FACTOR, UNIFORM_STEPS};
        let scale = (0.25 / NORMAL_DEVIATION) as f32;
        near(
            moments(normal(KEY, 40_000, 1.0, scale).iter().map(|v| v.to_f64())),
            (1.0, 0.25),
        );
        let step = (4.0 / UNIFORM_STEPS) as f32;
        let values = uniform(KEY, 40_000, -1.0, step);
        assert!(values.iter().all(|v| (-1.0..3.0).contains(v)));
        near(
            moments(values.iter().map(|v| f64::from(*v))),
            (1.0, 4.0 / 12_f64.sqrt()),
        );
        let blocks = q8_0(KEY, 2000, (0.01 / SCALE_FACTOR) as f32);
        let d = |block: &[u8]| f16::from_le_bytes([block[0], block[1]]).to_f64();
        let (mean, deviation) = moments(blocks.chunks(34).map(d));
        assert!((mean - 0.01).abs() < 1e-4 && (deviation - 0.01 / 48_f64.sqrt()).abs() < 1e-4);
        let q = blocks.chunks(34).flat_map(|b| &b[2..]).map(|q| f64::from(*q as i8));
        near(moments(q), (-0.5, 73.9));
    }

    #[test]
    fn seeds_and_tensors_differ_and_masks_hold() {
        let all = bytes(KEY, 4096, 0xFF, 0);
        for other in [Key { seed: 8, ..KEY }, Key { tensor: 4, ..KEY }] {
            let same = bytes(other, 4096, 0xFF, 0)
                .iter()
                .zip(&all)
                .filter(|(a, b)| a == b)
                .count();
            assert!((4..40).contains(&same), "{same} of 4096 bytes are the same");
        }
        assert_eq!((0..=255).filter(|b| all.contains(b)).count(), 256);
        let scales = bytes(KEY, 256, 7, 0x58);
        assert!((0x58..0x60).all(|s| scales.contains(&s)));
        assert!(scales.iter().all(|s| (0x58..0x60).contains(s)));
    }
}
