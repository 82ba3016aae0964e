//! Conversions against the crate `half`, and what the roundings tell apart.

use super::{F16Rounding, TensorCore, k16, of_f32, rounded, to_f32};
use ::half::f16;

#[test]
fn every_f16_has_its_value() {
    for bits in 0..=u16::MAX {
        let (mine, theirs) = (to_f32(bits), f16::from_bits(bits).to_f32());
        assert!(
            mine.to_bits() == theirs.to_bits() || mine.is_nan() && theirs.is_nan(),
            "{bits:#06x}: {mine} and {theirs}"
        );
        if !mine.is_nan() {
            assert_eq!(of_f32(mine, F16Rounding::OfF32), bits);
        }
    }
}

#[test]
fn nearest_is_that_of_the_crate_half() {
    // Every 61st f32: all exponents, ties and their neighbours among them.
    for bits in (0..=u32::MAX)
        .step_by(4093)
        .chain((0x3300_0000..0x4800_0000).step_by(0x800))
    {
        for x in [f32::from_bits(bits), f32::from_bits(bits.wrapping_add(1))] {
            let want = f16::from_f32(x).to_bits();
            if !x.is_nan() {
                assert_eq!(of_f32(x, F16Rounding::OfF32), want, "{x:e}");
            }
        }
    }
}

#[test]
fn truncation_is_below_nearest() {
    let bits = |x: f64| rounded(x, F16Rounding::Truncated);
    assert_eq!(bits(1.999_999), 0x3fff);
    assert_eq!(bits(-1.999_999), 0xbfff);
    assert_eq!(bits(65535.9), 0x7bff);
    assert_eq!(bits(65536.0), 0x7c00);
    assert_eq!(bits(2f64.powi(-24) * 1.9), 1);
    assert_eq!(bits(-(2f64.powi(-25))), 0x8000);
}

/// 1 + 2^-11 is a tie; what lies 25 bits below E tells the roundings apart.
#[test]
fn the_roundings_differ_where_they_should() {
    let half = |x: f64| f16::from_f64(x).to_bits();
    let d = |addends: &[f64], c: f64, rounding| {
        let core = TensorCore {
            f16_rounding: rounding,
            ..TensorCore::HOPPER
        };
        let (mut a, b) = ([0; 16], [half(1.0); 16]);
        for (a, x) in a.iter_mut().zip(addends) {
            *a = half(*x);
        }
        k16(core, &a, &b, half(c))
    };
    use F16Rounding::{OfF32, OfF32WithoutNegativeZero, OfSum, Truncated};
    let tie = [1.0, 2f64.powi(-11)];
    for rounding in [OfF32, OfSum, Truncated] {
        assert_eq!(d(&tie, 0.0, rounding), half(1.0));
    }
    // 2^-24 is truncated from an f32 of 1.., so that the tie goes to even; the exact sum is above the tie.
    let above = [1.0, 2f64.powi(-11), 2f64.powi(-24)];
    assert_eq!(d(&above, 0.0, OfF32), half(1.0));
    assert_eq!(d(&above, 0.0, OfSum), half(1.0 + 2f64.powi(-10)));
    assert_eq!(
        d(&[1.0, 2f64.powi(-11), 2f64.powi(-12)], 0.0, OfF32),
        half(1.0 + 2f64.powi(-10))
    );
    assert_eq!(d(&[1.0, 2f64.powi(-11), 2f64.powi(-12)], 0.0, Truncated), half(1.0));
    // Half of the least subnormal goes to even, which is zero.
    let core = |rounding| {
        let core = TensorCore {
            f16_rounding: rounding,
            ..TensorCore::HOPPER
        };
        let (mut a, mut b) = ([0; 16], [0; 16]);
        (a[0], b[0]) = (half(-(2f64.powi(-13))), half(2f64.powi(-12)));
        k16(core, &a, &b, 0)
    };
    assert_eq!((core(OfF32), core(OfF32WithoutNegativeZero)), (0x8000, 0));
}
