//! The simulator's tensor core and the reference's, against answers of GPUs and against each other.

// Formulas go by index, as they stand on paper.
#![allow(clippy::needless_range_loop)]

mod answers;
mod corners;
mod floor;
mod warpgroups;

use half::{bf16, f16};
use host::reference::mma::{self, Arch, Factor};
use simt::tensor::{self, Format, TensorCore};

/// One m16n8k16: A `[m][k]`, B `[n][k]`, C `[m][n]`.
struct Problem {
    a: [[u16; 16]; 16],
    b: [[u16; 16]; 8],
    c: [[f32; 8]; 16],
}

fn simulated(core: TensorCore, format: Format, p: &Problem) -> [[u32; 8]; 16] {
    tensor::m16n8k16(core, format, &p.a, &p.b, &p.c).map(|row| row.map(f32::to_bits))
}

fn referred(arch: Arch, format: Format, p: &Problem) -> [[u32; 8]; 16] {
    let row = |bits: &[u16; 16]| -> Vec<Factor> {
        match format {
            Format::Bf16 => mma::factors(&bits.map(bf16::from_bits)),
            Format::F16 => mma::factors(&bits.map(f16::from_bits)),
        }
    };
    let (a, b) = (p.a.each_ref().map(row), p.b.each_ref().map(row));
    std::array::from_fn(|m| std::array::from_fn(|n| mma::chain(arch, &a[m], &b[n], p.c[m][n]).to_bits()))
}

/// Matrices of any shape: the group of eight columns against one chain at a time.
#[test]
fn products_of_matrices_are_chains() {
    let mut random = Random(7);
    for (m, n, k) in [
        (1, 1, 1),
        (3, 5, 16),
        (2, 8, 17),
        (5, 9, 48),
        (1, 33, 100),
        (40, 70, 130),
    ] {
        for special in [false, true] {
            let mut element = || {
                let bits = random.next();
                let ordinary = bits as u16 & 0x87FF | 0x3800;
                bf16::from_bits(if special && bits >> 53 == 0 {
                    bits as u16 | 0x7F80
                } else {
                    ordinary
                })
            };
            let a: Vec<bf16> = (0..m * k).map(|_| element()).collect();
            let b: Vec<bf16> = (0..n * k).map(|_| element()).collect();
            let d = mma::gemm(&a, &b, k);
            assert_eq!(d.len(), m * n);
            for (at, d) in d.iter().enumerate() {
                let bits = |row: &[bf16]| -> Vec<u16> { row.iter().map(|x| x.to_bits()).collect() };
                let (x, y) = (bits(&a[at / n * k..][..k]), bits(&b[at % n * k..][..k]));
                let one = mma::dot_bf16(&x, &y, 0.0);
                assert_eq!(d.to_bits(), one.to_bits(), "{m} x {n} x {k}, output {at}");
            }
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// Random bit patterns under masks: all bits, or exponents of a narrow or a low range, with zeros in between.
fn random_problem(random: &mut Random, kind: u64) -> Problem {
    let factor = |random: &mut Random| {
        let bits = random.next();
        match kind {
            _ if bits >> 60 == 0 => (bits as u16) & 0x8000,
            0 => bits as u16,
            1 => bits as u16 & 0xBFFF,
            2 => bits as u16 & 0x83FF,
            _ => bits as u16 & 0x81FF | 0x3C00,
        }
    };
    Problem {
        a: std::array::from_fn(|_| std::array::from_fn(|_| factor(random))),
        b: std::array::from_fn(|_| std::array::from_fn(|_| factor(random))),
        c: std::array::from_fn(|_| {
            std::array::from_fn(|_| {
                let bits = random.next() as u32;
                f32::from_bits(match kind {
                    0 => bits,
                    1 => bits & 0xBFFF_FFFF,
                    2 => bits & 0x83FF_FFFF,
                    _ => bits & 0x81FF_FFFF | 0x3C00_0000,
                })
            })
        }),
    }
}

#[test]
fn the_two_models_agree() {
    let mut random = Random(1);
    let mut special = 0;
    for i in 0..8000 {
        let problem = random_problem(&mut random, i / 4 % 4);
        let format = [Format::Bf16, Format::F16][(i % 2) as usize];
        let (core, arch) =
            [(TensorCore::HOPPER, Arch::Hopper), (TensorCore::AMPERE, Arch::Ampere)][(i / 2 % 2) as usize];
        let d = simulated(core, format, &problem);
        assert_eq!(d, referred(arch, format, &problem), "problem {i}, {format:?}, {arch:?}");
        special += d
            .as_flattened()
            .iter()
            .filter(|d| !f32::from_bits(**d).is_finite())
            .count();
        // The vectorised product against the one that takes an addend at a time.
        for m in 0..16 {
            for n in 0..8 {
                let one = tensor::k16(core, format, &problem.a[m], &problem.b[n], problem.c[m][n]);
                assert_eq!(one.to_bits(), d[m][n], "problem {i}, row {m}, column {n}");
            }
        }
    }
    assert!(special > 10_000, "random bits make infinities and NaN: {special}");
}
