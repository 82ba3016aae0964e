//! Where new tokens go in the paged cache.

use super::{ReferenceError, expect};

/// The cache page and the slot in it of one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Page of the cache.
    pub page: usize,
    /// Slot in the page.
    pub slot: usize,
}

/// The lengths and tables of a batch of sequences.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// `[n_seq + 1]`: where each sequence's new tokens begin.
    pub cu_seqlens: &'a [i32],
    /// `[n_seq]`: tokens of each sequence, the new ones included.
    pub seq_lens: &'a [i32],
    /// `[n_seq][max_pages]`: the cache page of each page of a sequence.
    pub block_table: &'a [i32],
    /// Pages a sequence may have.
    pub max_pages: usize,
    /// Tokens of a page.
    pub page: usize,
    /// Pages of the cache.
    pub n_pages: usize,
}

/// The place of each of the first `n_tok` tokens; none for a token of no sequence and where position or page are out of
/// range.
///
/// # Errors
/// A table whose length does not fit the others.
pub fn places(batch: Batch<'_>, n_tok: usize) -> Result<Vec<Option<Place>>, ReferenceError> {
    let n_seq = batch.seq_lens.len();
    expect("cu_seqlens", batch.cu_seqlens.len(), &[("n_seq + 1", n_seq + 1)])?;
    expect(
        "block_table",
        batch.block_table.len(),
        &[("n_seq", n_seq), ("max_pages", batch.max_pages)],
    )?;
    let mut all = vec![None; n_tok];
    for s in 0..n_seq {
        let (first, end) = (batch.cu_seqlens[s], batch.cu_seqlens[s + 1]);
        for token in first..end {
            let position = i64::from(batch.seq_lens[s]) - i64::from(end - token);
            let Ok(position) = usize::try_from(position) else {
                continue;
            };
            if position / batch.page >= batch.max_pages {
                continue;
            }
            let page = batch.block_table[s * batch.max_pages + position / batch.page];
            let page = usize::try_from(page).ok().filter(|&page| page < batch.n_pages);
            if let (Some(page), Some(out)) = (page, all.get_mut(token as usize)) {
                let slot = position % batch.page;
                *out = Some(Place { page, slot });
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_where_their_positions_are() {
        // Three sequences: two new tokens after 3, none, three from the start; pages of 4.
        let batch = Batch {
            cu_seqlens: &[0, 2, 2, 5],
            seq_lens: &[5, 9, 3],
            block_table: &[7, 2, 0, 0, 5, -1],
            max_pages: 2,
            page: 4,
            n_pages: 8,
        };
        let at = |page, slot| Some(Place { page, slot });
        let expected = [at(7, 3), at(2, 0), at(5, 0), at(5, 1), at(5, 2), None];
        assert_eq!(places(batch, 6).unwrap(), expected);
        // A page outside the cache, a negative position and one beyond the table are no places.
        let small = Batch { n_pages: 6, ..batch };
        assert_eq!(places(small, 5).unwrap()[0], None);
        let short = Batch {
            seq_lens: &[1, 9, 9],
            ..batch
        };
        assert_eq!(places(short, 5).unwrap(), [None, at(7, 0), None, None, None]);
        assert!(places(Batch { max_pages: 3, ..batch }, 5).is_err());
    }
}
