//! The corners that random problems hit rarely, as an H200 answered them.

use crate::{Problem, referred, simulated};
use half::{bf16, f16};
use host::reference::mma::Arch;
use simt::tensor::{self, Format, TensorCore, ZeroProducts, ZeroSum};

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
