//! y = bf16(x), one element after another.

use half::bf16;

use super::{ReferenceError, expect};

/// Each of `x` rounded to nearest even; every NaN is the one NaN that results have, 0x7FFF.
pub fn to_bf16(x: &[f32]) -> Vec<bf16> {
    x.iter().map(|&v| super::to_bf16(v)).collect()
}

/// The first `n` of each of `n_tok` rows of `x`, which are `stride` elements apart.
///
/// # Errors
/// [`ReferenceError`] where `x` has not `n_tok * stride` elements, or a row not `n`.
pub fn rows(x: &[f32], n_tok: usize, n: usize, stride: usize) -> Result<Vec<bf16>, ReferenceError> {
    expect("x", x.len(), &[("n_tok", n_tok), ("stride", stride)])?;
    expect("a row", n.min(stride), &[("n", n)])?;
    let each = |row: &[f32]| to_bf16(&row[..n]);
    Ok(x.chunks_exact(stride.max(1)).flat_map(each).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_even_and_a_nan_is_the_one_nan() {
        let bits = |v: &[f32]| to_bf16(v).into_iter().map(bf16::to_bits).collect::<Vec<_>>();
        // 1 + 2^-8 and 1 + 3 * 2^-8 lie between two neighbours each; one more bit decides.
        let ties = [0x3F80_8000, 0x3F81_8000, 0x3F80_8001, 0x3F80_7FFF].map(f32::from_bits);
        assert_eq!(bits(&ties), [0x3F80, 0x3F82, 0x3F81, 0x3F80]);
        let odd = [0xFFA0_0001, 0x7F80_0001, 0x7F7F_FFFF, 0x8000_0001].map(f32::from_bits);
        assert_eq!(bits(&odd), [0x7FFF, 0x7FFF, 0x7F80, 0x8000]);
    }

    #[test]
    fn rows_leave_out_what_is_between_them() {
        let x = [1.0, 2.0, 9.0, 3.0, 4.0, 9.0];
        let y = rows(&x, 2, 2, 3).unwrap();
        assert_eq!(y.iter().map(|v| v.to_f32()).collect::<Vec<_>>(), [1.0, 2.0, 3.0, 4.0]);
        assert!(rows(&x, 2, 2, 2).is_err());
        assert!(rows(&x, 2, 4, 3).is_err());
    }
}
