//! The simulator's tensor core and the reference's, against answers of GPUs and against each other.

use half::{bf16, f16};
use host::reference::mma::{self, Arch, Factor};
use simt::tensor::{self, Format, TensorCore, ZeroProducts, ZeroSum};

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

/// Problems as `harness probe mma --save` writes them, A, B, C and D in a row, with an H200's answers.
#[test]
fn saved_answers_of_an_h200() {
    const BYTES: usize = 1792;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/mma-h200");
    for kind in ["bf16", "f16", "s8"] {
        let path = format!("{folder}/probe_{kind}.bin");
        let Ok(file) = std::fs::read(&path) else {
            eprintln!("SKIPPED: {path} is not there; `harness probe mma --device cuda --save 64` writes it");
            continue;
        };
        assert!(
            !file.is_empty() && file.len().is_multiple_of(BYTES),
            "{path} has {} bytes",
            file.len()
        );
        for (i, bytes) in file.chunks_exact(BYTES).enumerate() {
            let a: Vec<u16> = words(&bytes[..512]).map(u16::from_le_bytes).collect();
            let b: Vec<u16> = words(&bytes[512..768]).map(u16::from_le_bytes).collect();
            let c: Vec<u32> = words(&bytes[768..1280]).map(u32::from_le_bytes).collect();
            let d: Vec<u32> = words(&bytes[1280..]).map(u32::from_le_bytes).collect();
            let answer: [[u32; 8]; 16] = std::array::from_fn(|m| std::array::from_fn(|n| d[m * 8 + n]));
            if kind == "s8" {
                let byte = |words: &[u16], k: usize| i32::from((words[k / 2] >> (8 * (k % 2))) as u8 as i8);
                for (at, d) in d.iter().enumerate() {
                    let (x, y) = (&a[at / 8 * 16..][..16], &b[at % 8 * 16..][..16]);
                    let dot: i32 = (0..32).map(|k| byte(x, k) * byte(y, k)).sum();
                    assert_eq!(
                        *d as i32,
                        (c[at] as i32).wrapping_add(dot),
                        "s8 problem {i}, output {at}"
                    );
                }
                continue;
            }
            let problem = Problem {
                a: std::array::from_fn(|m| std::array::from_fn(|k| a[m * 16 + k])),
                b: std::array::from_fn(|n| std::array::from_fn(|k| b[n * 16 + k])),
                c: std::array::from_fn(|m| std::array::from_fn(|n| f32::from_bits(c[m * 8 + n]))),
            };
            let format = if kind == "f16" { Format::F16 } else { Format::Bf16 };
            assert_eq!(
                simulated(TensorCore::HOPPER, format, &problem),
                answer,
                "simulator, {kind} problem {i}"
            );
            assert_eq!(
                referred(Arch::Hopper, format, &problem),
                answer,
                "reference, {kind} problem {i}"
            );
        }
    }
}

/// One question: factors from k = 0 on, c, and what an H200 answered.
type Corner = (&'static str, Format, &'static [(f64, f64)], u32, u32);

/// 2^n, written short.
const fn p(n: i32) -> f64 {
    f64::from_bits(((1023 + n) as u64) << 52)
}

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;
const SUB: f64 = p(-133);

/// The corners that random problems hit rarely. Where bf16 and f16 can be asked the same, they answered the same.
const CORNERS: &[Corner] = &[
    ("zeros, c -0", Format::Bf16, &[], 0x8000_0000, 0),
    (
        "-0 in all products and c",
        Format::Bf16,
        &[(-0.0, 1.0); 16],
        0x8000_0000,
        0,
    ),
    (
        "-0 in all products and c",
        Format::F16,
        &[(-0.0, 1.0); 16],
        0x8000_0000,
        0,
    ),
    ("1 - 1, c -0", Format::Bf16, &[(1.0, 1.0), (-1.0, 1.0)], 0x8000_0000, 0),
    ("1, c -1", Format::F16, &[(1.0, 1.0)], 0xBF80_0000, 0),
    (
        "0 * huge beside 2^-20",
        Format::Bf16,
        &[(0.0, p(127)), (p(-10), p(-10))],
        0,
        0x3580_0000,
    ),
    (
        "-0 * huge, c 2^-20",
        Format::Bf16,
        &[(-0.0, p(127))],
        0x3580_0000,
        0x3580_0000,
    ),
    ("huge * 0, c 2^-140", Format::Bf16, &[(p(127), 0.0)], 0x200, 0x200),
    (
        "0 * huge beside 2^-20",
        Format::F16,
        &[(0.0, 65504.0), (p(-10), p(-10))],
        0,
        0x3580_0000,
    ),
    ("16 of 2^-150", Format::Bf16, &[(p(-75), p(-75)); 16], 0, 8),
    ("16 of 2^-152", Format::Bf16, &[(p(-76), p(-76)); 16], 0, 2),
    ("16 of 2^-153", Format::Bf16, &[(p(-77), p(-76)); 16], 0, 1),
    ("16 of 2^-153, c 2^-149", Format::Bf16, &[(p(-77), p(-76)); 16], 1, 1),
    ("1.5 * 2^-149", Format::Bf16, &[(1.5 * p(-75), p(-74))], 0, 1),
    (
        "-1.5 * 2^-149",
        Format::Bf16,
        &[(-1.5 * p(-75), p(-74))],
        0,
        0x8000_0001,
    ),
    ("-2^-150", Format::Bf16, &[(-p(-75), p(-75))], 0, 0),
    ("2^-200", Format::Bf16, &[(p(-100), p(-100))], 0, 0),
    ("16 of 2^-266", Format::Bf16, &[(SUB, SUB); 16], 0, 0),
    (
        "2^254 - 2^254 + 1",
        Format::Bf16,
        &[(p(127), p(127)), (-p(127), p(127)), (1.0, 1.0)],
        0,
        0,
    ),
    (
        "2^128 - 2^128 + 2^102",
        Format::Bf16,
        &[(p(127), 2.0), (-p(127), 2.0), (p(51), p(51))],
        0,
        0,
    ),
    (
        "2^128 - 2^128 + 2^103",
        Format::Bf16,
        &[(p(127), 2.0), (-p(127), 2.0), (p(51), p(52))],
        0,
        0x7300_0000,
    ),
    (
        "2^127, c largest",
        Format::Bf16,
        &[(p(127), 1.0)],
        0x7F7F_FFFF,
        0x7F80_0000,
    ),
    (
        "2^103, c largest",
        Format::Bf16,
        &[(p(51), p(52))],
        0x7F7F_FFFF,
        0x7F7F_FFFF,
    ),
    ("2^128", Format::Bf16, &[(p(127), 2.0)], 0, 0x7F80_0000),
    ("-2^128", Format::Bf16, &[(-p(127), 2.0)], 0, 0xFF80_0000),
    (
        "2^128 - 2^127",
        Format::Bf16,
        &[(p(127), 2.0), (-p(127), 1.0)],
        0,
        0x7F00_0000,
    ),
    (
        "2^-133 * 2^10, c 2^-141",
        Format::Bf16,
        &[(SUB, p(10))],
        0x100,
        0x0200_0020,
    ),
    (
        "2^-133 * 2^10, c 2^-142 (cut off)",
        Format::Bf16,
        &[(SUB, p(10))],
        0x80,
        0x0200_0000,
    ),
    (
        "2^-24 * 2^10, c 2^-29",
        Format::F16,
        &[(p(-24), p(10))],
        0x3100_0000,
        0x3880_0100,
    ),
    (
        "2^-24 * 2^10, c 2^-30 (cut off)",
        Format::F16,
        &[(p(-24), p(10))],
        0x3080_0000,
        0x3880_0000,
    ),
    ("1, c 2^-23", Format::Bf16, &[(1.0, 1.0)], 0x3400_0000, 0x3F80_0001),
    ("1, c 2^-24", Format::Bf16, &[(1.0, 1.0)], 0x3380_0000, 0x3F80_0000),
    (
        "2.25 - 1.25 - 1, c 2^-25",
        Format::Bf16,
        &[(1.5, 1.5), (-1.25, 1.0), (-1.0, 1.0)],
        0x3300_0000,
        0x3300_0000,
    ),
    (
        "2.25 - 1.25 - 1, c 2^-26",
        Format::Bf16,
        &[(1.5, 1.5), (-1.25, 1.0), (-1.0, 1.0)],
        0x3280_0000,
        0,
    ),
    (
        "2.25 - 1.25 - 1, c 2^-25",
        Format::F16,
        &[(1.5, 1.5), (-1.25, 1.0), (-1.0, 1.0)],
        0x3300_0000,
        0x3300_0000,
    ),
    (
        "-1 + 2^-25, c 1",
        Format::Bf16,
        &[(-1.0, 1.0), (p(-12), p(-13))],
        0x3F80_0000,
        0x3300_0000,
    ),
    (
        "-1 + 2^-26, c 1",
        Format::Bf16,
        &[(-1.0, 1.0), (p(-13), p(-13))],
        0x3F80_0000,
        0,
    ),
    (
        "-2^-130 + 2^-149, c 2^-130",
        Format::Bf16,
        &[(-p(-65), p(-65)), (p(-74), p(-75))],
        0x8_0000,
        1,
    ),
    ("NaN", Format::Bf16, &[(NAN, 1.0)], 0, 0x7FFF_FFFF),
    ("0 * infinity", Format::F16, &[(0.0, INF)], 0, 0x7FFF_FFFF),
    (
        "infinity - infinity",
        Format::Bf16,
        &[(INF, 1.0), (INF, -1.0)],
        0,
        0x7FFF_FFFF,
    ),
    (
        "infinity, c -infinity",
        Format::Bf16,
        &[(INF, 1.0)],
        0xFF80_0000,
        0x7FFF_FFFF,
    ),
    ("c NaN", Format::Bf16, &[], 0x7FC0_0000, 0x7FFF_FFFF),
    ("-infinity, c 5", Format::Bf16, &[(-INF, 1.0)], 0x40A0_0000, 0xFF80_0000),
    ("infinity * subnormal", Format::Bf16, &[(INF, SUB)], 0, 0x7F80_0000),
];

#[test]
fn corners_that_an_h200_answered() {
    for (text, format, pairs, c, answer) in CORNERS {
        let bits = |x: f64| match format {
            Format::Bf16 => bf16::from_f64(x).to_bits(),
            Format::F16 => f16::from_f64(x).to_bits(),
        };
        let mut problem = Problem {
            a: [[0; 16]; 16],
            b: [[0; 16]; 8],
            c: [[0.0; 8]; 16],
        };
        for (k, (x, y)) in pairs.iter().enumerate() {
            (problem.a[5][k], problem.b[3][k]) = (bits(*x), bits(*y));
        }
        problem.c[5][3] = f32::from_bits(*c);
        let (simulator, reference) = (
            simulated(TensorCore::HOPPER, *format, &problem)[5][3],
            referred(Arch::Hopper, *format, &problem)[5][3],
        );
        assert_eq!(simulator, *answer, "simulator, {format:?}: {text}");
        assert_eq!(reference, *answer, "reference, {format:?}: {text}");
    }
}

/// A model that is wrong in one point is caught by the corners.
#[test]
fn the_corners_tell_wrong_models() {
    let hopper = TensorCore::HOPPER;
    let wrong = [
        TensorCore {
            fraction_bits: 24,
            ..hopper
        },
        TensorCore { products: 8, ..hopper },
        TensorCore {
            exponent_floor: -126,
            ..hopper
        },
        TensorCore {
            zero_products: ZeroProducts::Counted,
            ..hopper
        },
        TensorCore {
            zero_sum: ZeroSum::Ieee,
            ..hopper
        },
    ];
    for core in wrong {
        let caught = CORNERS.iter().filter(|(_, format, pairs, c, answer)| {
            let bits = |x: f64| match format {
                Format::Bf16 => bf16::from_f64(x).to_bits(),
                Format::F16 => f16::from_f64(x).to_bits(),
            };
            let (mut a, mut b) = ([0; 16], [0; 16]);
            for (k, (x, y)) in pairs.iter().enumerate() {
                (a[k], b[k]) = (bits(*x), bits(*y));
            }
            tensor::k16(core, *format, &a, &b, f32::from_bits(*c)).to_bits() != *answer
        });
        assert!(caught.count() > 0, "{core:?}");
    }
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
