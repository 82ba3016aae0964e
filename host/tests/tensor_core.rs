//! The simulator's tensor core and the reference's, against answers of GPUs and against each other.

use half::{bf16, f16};
use host::reference::mma::{self, Arch, Factor};
use simt::tensor::{self, Format, TensorCore};

/// The little-endian words of a file of `tests/data`.
fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes
        .chunks_exact(N)
        .map(|word| word.try_into().expect("chunks of N bytes"))
}

/// Problems of one m16n8k16 each.
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

/// 256 problems of wide exponent range and an H200's answers.
#[test]
fn answers_of_an_h200() {
    let a: Vec<u16> = words(include_bytes!("data/mma-h200/a_bf16_256x16x16.bin"))
        .map(u16::from_le_bytes)
        .collect();
    let b: Vec<u16> = words(include_bytes!("data/mma-h200/b_bf16_256x8x16.bin"))
        .map(u16::from_le_bytes)
        .collect();
    let c: Vec<f32> = words(include_bytes!("data/mma-h200/c_f32_256x16x8.bin"))
        .map(f32::from_le_bytes)
        .collect();
    let d: Vec<u32> = words(include_bytes!("data/mma-h200/d_f32_256x16x8.bin"))
        .map(u32::from_le_bytes)
        .collect();
    assert_eq!(
        (a.len(), b.len(), c.len(), d.len()),
        (256 * 256, 256 * 128, 256 * 128, 256 * 128)
    );
    let mut ampere_differs = 0;
    for i in 0..256 {
        let problem = Problem {
            a: std::array::from_fn(|m| std::array::from_fn(|k| a[i * 256 + m * 16 + k])),
            b: std::array::from_fn(|n| std::array::from_fn(|k| b[i * 128 + n * 16 + k])),
            c: std::array::from_fn(|m| std::array::from_fn(|n| c[i * 128 + m * 8 + n])),
        };
        let answer: [[u32; 8]; 16] = std::array::from_fn(|m| std::array::from_fn(|n| d[i * 128 + m * 8 + n]));
        assert_eq!(
            simulated(TensorCore::HOPPER, Format::Bf16, &problem),
            answer,
            "simulator, problem {i}"
        );
        assert_eq!(
            referred(Arch::Hopper, Format::Bf16, &problem),
            answer,
            "reference, problem {i}"
        );
        ampere_differs += usize::from(referred(Arch::Ampere, Format::Bf16, &problem) != answer);
    }
    assert!(
        ampere_differs > 200,
        "the problems tell generations apart: {ampere_differs} of 256 do"
    );
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
