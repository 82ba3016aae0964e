//! Rows of an embedding table.

use half::bf16;

use super::{ReferenceError, expect, q8, to_bf16};

/// Row `id` of a table of bf16 rows of `n`; zeros for an id that the table does not have.
pub fn row(table: &[bf16], id: i32, n: usize) -> Vec<bf16> {
    let row = usize::try_from(id).ok().and_then(|id| table.chunks_exact(n).nth(id));
    row.map_or(vec![bf16::ZERO; n], <[bf16]>::to_vec)
}

/// Row `id` of a table of Q8_0 rows of ceil(n / 32) blocks of 34 bytes: round(d * q). Zeros for an id that the table
/// does not have.
///
/// # Errors
/// `blocks` is not a whole number of rows.
pub fn row_q8_0(blocks: &[u8], id: i32, n: usize) -> Result<Vec<bf16>, ReferenceError> {
    let row_bytes = n.div_ceil(32) * 34;
    let rows = blocks.len() / row_bytes.max(1);
    expect("blocks", blocks.len(), &[("vocab", rows), ("bytes", row_bytes)])?;
    let Some(id) = usize::try_from(id).ok().filter(|&id| id < rows) else {
        return Ok(vec![bf16::ZERO; n]);
    };
    let row = &blocks[id * row_bytes..][..row_bytes];
    let value = |j: usize| {
        let block = &row[j / 32 * 34..][..34];
        let d = q8::f16_value(u16::from_le_bytes([block[0], block[1]]));
        to_bf16(d * f32::from(block[2 + j % 32] as i8))
    };
    Ok((0..n).map(value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_and_others_are_zero() {
        let table: Vec<bf16> = (0..6u8).map(|i| bf16::from_f32(f32::from(i))).collect();
        assert_eq!(row(&table, 1, 3), table[3..]);
        for id in [-1, 2, i32::MIN, i32::MAX] {
            assert_eq!(row(&table, id, 3), [bf16::ZERO; 3]);
        }
        // One row of 33 values: d = 0.5, q = j - 16; then d = 2.
        let mut blocks = vec![0x00, 0x38];
        blocks.extend((0..32u8).map(|j| j.wrapping_sub(16)));
        blocks.extend([0x00, 0x40, 0xFF]);
        blocks.resize(68, 77);
        let y = row_q8_0(&blocks, 0, 33).unwrap();
        assert_eq!((y[0].to_f32(), y[31].to_f32(), y[32].to_f32()), (-8.0, 7.5, -2.0));
        assert_eq!(row_q8_0(&blocks, 1, 33).unwrap(), [bf16::ZERO; 33]);
        assert!(row_q8_0(&blocks[1..], 0, 33).is_err());
    }
}
