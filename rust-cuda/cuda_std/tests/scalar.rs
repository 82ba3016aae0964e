//! What needs no launch: conversions, float and integer instructions, against plain models.

mod common;

use common::Random;
use cuda_std::{bf16, f16, float, int};

#[test]
fn every_f16_has_halfs_value() {
    for bits in 0..=u16::MAX {
        let x = f16::from_bits(bits);
        let (ours, theirs) = (float::f16_to_f32(x), x.to_f32());
        if theirs.is_nan() {
            assert_eq!(ours.to_bits(), 0x7fff_ffff, "{bits:#06x}");
        } else {
            assert_eq!(ours.to_bits(), theirs.to_bits(), "{bits:#06x}");
        }
    }
}

#[test]
fn every_bf16_has_halfs_value() {
    for bits in 0..=u16::MAX {
        let x = bf16::from_bits(bits);
        let (ours, theirs) = (float::bf16_to_f32(x), x.to_f32());
        assert!(
            ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()),
            "{bits:#06x}"
        );
    }
}

#[test]
fn pairs_are_low_half_first() {
    assert_eq!(float::f16x2_to_f32(0xc000_3c00), [1.0, -2.0]);
    assert_eq!(float::bf16x2_to_f32(0xc000_3f80), [1.0, -2.0]);
}

/// Sign, exponent with this bias, and fraction, by their definition.
fn defined(bits: u32, exponent_bits: u32, fraction_bits: u32, bias: i32) -> f64 {
    let field = (bits >> fraction_bits & ((1 << exponent_bits) - 1)) as i32;
    let fraction = f64::from(bits & ((1 << fraction_bits) - 1)) / f64::from(1 << fraction_bits);
    let sign = if bits >> (exponent_bits + fraction_bits) & 1 == 0 {
        1.0
    } else {
        -1.0
    };
    sign * if field == 0 {
        fraction * 2f64.powi(1 - bias)
    } else {
        (1.0 + fraction) * 2f64.powi(field - bias)
    }
}

#[test]
fn every_e4m3() {
    for bits in 0..=u8::MAX {
        let value = float::e4m3_to_f32(bits);
        if bits & 0x7f == 0x7f {
            assert_eq!(value.to_bits(), 0x7fff_ffff, "{bits:#04x}");
        } else {
            assert_eq!(
                value.to_bits(),
                (defined(bits.into(), 4, 3, 7) as f32).to_bits(),
                "{bits:#04x}"
            );
        }
    }
    assert_eq!(
        (float::e4m3_to_f32(0x7e), float::e4m3_to_f32(0x01)),
        (448.0, 0.001953125)
    );
}

#[test]
fn every_e2m1() {
    let listed = [
        0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0f32,
    ];
    for (bits, want) in (0u32..).zip(listed) {
        // The upper bits are those of other elements of a packed word.
        for others in [0, 0xffff_fff0] {
            assert_eq!(float::e2m1_to_f32(bits | others).to_bits(), want.to_bits(), "{bits}");
        }
        assert_eq!(f64::from(want), defined(bits, 2, 1, 1));
    }
}

fn check_rounding(x: f32) {
    let (h, b) = (float::f32_to_f16(x), float::f32_to_bf16(x));
    // Packed, each half rounds as it does alone, whatever the other one is.
    let halves = |packed: u32| (packed as u16, (packed >> 16) as u16);
    let y = -1.0 - x;
    let (h_of_y, b_of_y) = (float::f32_to_f16(y), float::f32_to_bf16(y));
    assert_eq!(
        halves(float::f32x2_to_f16x2(x, y)),
        (h.to_bits(), h_of_y.to_bits()),
        "{x:e} and {y:e}"
    );
    assert_eq!(
        halves(float::f32x2_to_bf16x2(x, y)),
        (b.to_bits(), b_of_y.to_bits()),
        "{x:e} and {y:e}"
    );
    if x.is_nan() {
        assert_eq!((h.to_bits(), b.to_bits()), (0x7fff, 0x7fff), "{:#010x}", x.to_bits());
    } else {
        assert_eq!(h.to_bits(), f16::from_f32(x).to_bits(), "f16 of {:#010x}", x.to_bits());
        assert_eq!(
            b.to_bits(),
            bf16::from_f32(x).to_bits(),
            "bf16 of {:#010x}",
            x.to_bits()
        );
    }
}

/// Every 16-bit value of both formats, the midpoint to its neighbour, and the f32 on both sides of each.
#[test]
fn rounding_to_16_bits_at_every_boundary() {
    for bits in 0..=u16::MAX {
        for value in [f16::from_bits(bits).to_f32(), bf16::from_bits(bits).to_f32()] {
            for half_step in [0, 0x1000, 0x8000] {
                for near in [-1i32, 0, 1] {
                    check_rounding(f32::from_bits(
                        value.to_bits().wrapping_add(half_step).wrapping_add_signed(near),
                    ));
                }
            }
        }
    }
    // Subnormal f16: the midpoints are not at a fixed bit.
    for n in 0..=2048u32 {
        let midpoint = (n as f32) * 2f32.powi(-25);
        for near in [-1i32, 0, 1] {
            check_rounding(f32::from_bits(midpoint.to_bits().wrapping_add_signed(near)));
        }
    }
}

#[test]
fn rounding_to_16_bits_of_random_values() {
    let mut random = Random(1);
    for _ in 0..1 << 20 {
        check_rounding(f32::from_bits(random.u32()));
    }
}

/// All 2^32 values, half a minute: `cargo test -p cuda_std --test scalar -- --ignored`.
#[test]
#[ignore = "all 2^32 values: half a minute"]
fn rounding_to_16_bits_of_every_value() {
    for bits in 0..=u32::MAX {
        check_rounding(f32::from_bits(bits));
    }
}

/// PTX's `min` and `max`, written by the table of the ISA: NaN loses, -0 < +0.
#[test]
fn min_and_max_follow_ptx() {
    let samples = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::MIN_POSITIVE,
        1e-45,
        -1e-45,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        -f32::NAN,
    ];
    // An order that tells the zeros apart.
    let key = |x: f32| (x.to_bits() as i32) ^ (((x.to_bits() as i32) >> 31) as u32 >> 1) as i32;
    for a in samples {
        for b in samples {
            let (low, high) = match (a.is_nan(), b.is_nan()) {
                (true, true) => (float::CANONICAL_NAN, float::CANONICAL_NAN),
                (true, false) => (b, b),
                (false, true) => (a, a),
                (false, false) => {
                    if key(a) <= key(b) {
                        (a, b)
                    } else {
                        (b, a)
                    }
                }
            };
            assert_eq!(float::min(a, b).to_bits(), low.to_bits(), "min({a}, {b})");
            assert_eq!(float::max(a, b).to_bits(), high.to_bits(), "max({a}, {b})");
            let keeping = if a.is_nan() || b.is_nan() {
                float::CANONICAL_NAN
            } else {
                high
            };
            assert_eq!(float::max_nan(a, b).to_bits(), keeping.to_bits(), "max_nan({a}, {b})");
        }
    }
}

#[test]
fn whole_numbers() {
    for (x, even, floor, ceil, trunc) in [
        (2.5, 2.0, 2.0, 3.0, 2.0),
        (3.5, 4.0, 3.0, 4.0, 3.0),
        (-2.5, -2.0, -3.0, -2.0, -2.0),
        (-0.25, -0.0, -1.0, -0.0, -0.0),
    ] {
        let ours = [float::round_even(x), float::floor(x), float::ceil(x), float::trunc(x)];
        assert_eq!(
            ours.map(f32::to_bits),
            [even, floor, ceil, trunc].map(f32::to_bits),
            "{x}"
        );
    }
    assert_eq!(
        [2.5, -3.5, 1e10, -1e10, f32::NAN].map(float::to_i32_even),
        [2, -4, i32::MAX, i32::MIN, 0]
    );
}

#[test]
fn signs_are_bits() {
    assert_eq!(float::abs(-0.0).to_bits(), 0);
    assert_eq!(float::abs(f32::from_bits(0xffc0_0001)).to_bits(), 0x7fc0_0001);
    assert_eq!(float::copysign(3.0, -0.0), -3.0);
    assert_eq!(
        float::fma(1.0 + f32::EPSILON, 1.0 - f32::EPSILON, -1.0),
        -f32::EPSILON * f32::EPSILON
    );
}

#[test]
fn dp4a_against_wide_sums() {
    let mut random = Random(2);
    for i in 0..200_000 {
        let (a, b, c) = match i {
            0 => (0x8080_8080, 0x8080_8080, i32::MAX as u32),
            1 => (0x7f7f_7f7f, 0x8080_8080, i32::MIN as u32),
            2 => (u32::MAX, u32::MAX, u32::MAX),
            _ => (random.u32(), random.u32(), random.u32()),
        };
        let byte = |x: u32, i: u32| i64::from(x >> (8 * i) & 255);
        let signed = |x: u32, i: u32| if byte(x, i) > 127 { byte(x, i) - 256 } else { byte(x, i) };
        let s: i64 = (0..4).map(|i| signed(a, i) * signed(b, i)).sum();
        let u: i64 = (0..4).map(|i| byte(a, i) * byte(b, i)).sum();
        assert_eq!(
            int::dp4a_s8(a, b, c as i32),
            (s + i64::from(c as i32)) as i32,
            "{a:#x} {b:#x} {c:#x}"
        );
        assert_eq!(int::dp4a_u8(a, b, c), (u + i64::from(c)) as u32, "{a:#x} {b:#x} {c:#x}");
    }
}

#[test]
fn byte_permute_picks_and_replicates_signs() {
    let (a, b) = (0x8302_01f0, 0x0706_8504);
    assert_eq!(int::byte_permute(a, b, 0x3210), a);
    assert_eq!(int::byte_permute(a, b, 0x7654), b);
    assert_eq!(int::byte_permute(a, b, 0x5140), 0x8501_04f0);
    assert_eq!(int::byte_permute(a, b, 0xdb98), 0xffff_00ff);
}
