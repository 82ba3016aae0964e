//! The comparison every check ends in.

use std::fmt;

/// The first difference between two outputs, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Mismatch {
    /// Index of the first byte that differs.
    pub index: usize,
    /// What that byte belongs to; empty until [`Mismatch::at`] names it.
    pub coords: String,
    /// The expected value: the aligned 4-byte word around `index` as hexadecimal and as f32, or the length.
    pub expected: String,
    /// The value found, likewise.
    pub got: String,
    /// How many 4-byte words differ (a short last word counts as one).
    pub count: usize,
    /// How many words were compared.
    pub total: usize,
}

impl Mismatch {
    /// Names what the byte belongs to.
    pub fn at(mut self, coords: impl FnOnce(usize) -> String) -> Self {
        self.coords = coords(self.index);
        self
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch {
            index,
            coords,
            expected,
            got,
            count,
            total,
        } = self;
        write!(f, "{count} of {total} values differ, the first at byte {index}")?;
        if !coords.is_empty() {
            write!(f, " ({coords})")?;
        }
        write!(f, ": expected {expected}, got {got}")
    }
}

impl std::error::Error for Mismatch {}

/// Compares an output with the expected bytes: equal or not, no tolerance.
///
/// # Errors
/// The first byte that differs, with both values. Outputs of different lengths differ at the end of the shorter one.
pub fn compare_bytes(expected: &[u8], got: &[u8]) -> Result<(), Mismatch> {
    if expected == got {
        return Ok(());
    }
    let total = expected.len().max(got.len()).div_ceil(4);
    if expected.len() != got.len() {
        return Err(Mismatch {
            index: expected.len().min(got.len()),
            coords: String::new(),
            expected: format!("{} bytes", expected.len()),
            got: format!("{} bytes", got.len()),
            count: total,
            total,
        });
    }
    let index = expected.iter().zip(got).position(|(e, g)| e != g).unwrap_or(0);
    let count = expected.chunks(4).zip(got.chunks(4)).filter(|(e, g)| e != g).count();
    Err(Mismatch {
        index,
        coords: String::new(),
        expected: word(expected, index),
        got: word(got, index),
        count,
        total,
    })
}

/// Compares two f32 outputs with an absolute bound for each value: `|expected - got| <= bound(i)`. NaN equals NaN, and an
/// infinity only itself. An infinite bound makes no claim: anything passes, NaN too (where one order overflows, another
/// may not, or may meet infinity minus infinity). For configs in another order than the canonical one.
///
/// # Errors
/// The first value outside its bound, or a difference in length.
pub fn compare_within(expected: &[u8], got: &[u8], bound: impl Fn(usize) -> f64) -> Result<(), Mismatch> {
    if expected.len() != got.len() {
        return compare_bytes(expected, got);
    }
    let outside = |(i, (e, g)): (usize, (&[u8], &[u8]))| {
        let (Some(a), Some(b)) = (float(e), float(g)) else {
            return e != g;
        };
        // An infinite bound says that another order may overflow where this one does not: nothing can be asked then.
        if bound(i) == f64::INFINITY {
            return false;
        }
        // Written so that a NaN bound or a lone NaN is outside.
        let bound = bound(i);
        let near = bound == f64::INFINITY || (f64::from(a) - f64::from(b)).abs() <= bound;
        !(a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) || near)
    };
    let words = || expected.chunks(4).zip(got.chunks(4)).enumerate();
    let Some(first) = words().position(outside) else {
        return Ok(());
    };
    let index = first * 4;
    Err(Mismatch {
        index,
        coords: String::new(),
        expected: format!("{} within {:e}", word(expected, index), bound(first)),
        got: word(got, index),
        count: words().filter(|w| outside(*w)).count(),
        total: expected.len().div_ceil(4),
    })
}

fn float(word: &[u8]) -> Option<f32> {
    Some(f32::from_le_bytes(word.try_into().ok()?))
}

/// The word around a byte, as bits and as f32.
fn word(bytes: &[u8], index: usize) -> String {
    let start = index / 4 * 4;
    let word = &bytes[start..(start + 4).min(bytes.len())];
    match float(word) {
        Some(v) => format!("0x{:08X} ({v:e})", v.to_bits()),
        None => format!("{word:02X?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn equal_bytes_pass_and_one_flipped_bit_does_not() {
        let a = bytes(&[1.0, 2.0, -0.0, f32::NAN]);
        assert_eq!(compare_bytes(&a, &a), Ok(()));
        for bit in 0..a.len() * 8 {
            let mut b = a.clone();
            b[bit / 8] ^= 1 << (bit % 8);
            let wrong = compare_bytes(&a, &b).unwrap_err();
            assert_eq!((wrong.index, wrong.count, wrong.total), (bit / 8, 1, 4));
        }
    }

    #[test]
    fn the_message_has_place_and_both_values() {
        let a = bytes(&[1.0, 2.0]);
        let b = bytes(&[1.0, 2.5]);
        let wrong = compare_bytes(&a, &b).unwrap_err().at(|byte| format!("y[{}]", byte / 4));
        assert_eq!(
            wrong.to_string(),
            "1 of 2 values differ, the first at byte 6 (y[1]): expected 0x40000000 (2e0), got 0x40200000 (2.5e0)"
        );
    }

    #[test]
    fn a_missing_end_is_a_difference() {
        let a = bytes(&[1.0, 2.0]);
        assert_eq!(compare_bytes(&a, &a[..5]).unwrap_err().index, 5);
        assert!(compare_within(&a, &a[..4], |_| f64::INFINITY).is_err());
    }

    #[test]
    fn a_bound_is_kept_and_does_not_let_nan_through() {
        let a = bytes(&[1.0, f32::INFINITY, f32::NAN]);
        let near = bytes(&[1.25, f32::INFINITY, f32::from_bits(0x7FC0_0000)]);
        assert_eq!(compare_within(&a, &near, |_| 0.25), Ok(()));
        assert_eq!(compare_within(&a, &near, |_| 0.125).unwrap_err().index, 0);
        let nan = bytes(&[f32::NAN, f32::INFINITY, f32::NAN]);
        assert_eq!(compare_within(&a, &nan, |_| 1e30).unwrap_err().index, 0);
        assert_eq!(compare_within(&a, &nan, |_| f64::INFINITY), Ok(()));
        let finite = bytes(&[1.0, f32::MAX, f32::NAN]);
        assert_eq!(compare_within(&a, &finite, |_| 1e30).unwrap_err().index, 4);
    }
}
