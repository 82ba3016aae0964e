//! Which rows of a tensor: a layout's [`Rows`] as runs of consecutive rows.

use crate::model::layout::Rows;

/// Consecutive rows of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The first.
    pub first: u64,
    /// How many.
    pub len: u64,
}

/// The rows of a tensor of `total` rows, in order.
///
/// # Errors
/// Rows that the tensor has not, or groups that cannot be.
pub(super) fn runs(rows: &Rows, total: u64) -> Result<Vec<Run>, String> {
    let beyond = |end: Option<u64>| match end {
        Some(end) if end <= total => None,
        Some(end) => Some(format!("has {total} rows, and those up to {end} are wanted")),
        None => Some(format!("has {total} rows, and those beyond 2^64 are wanted")),
    };
    match *rows {
        Rows::All => Ok(vec![Run { first: 0, len: total }]),
        Rows::Range(ref range) => match (range.end.checked_sub(range.start), beyond(Some(range.end))) {
            (Some(len), None) => Ok(vec![Run {
                first: range.start,
                len,
            }]),
            (None, _) => Err(format!(
                "rows {}..{} are wanted, which are none",
                range.start, range.end
            )),
            (_, Some(message)) => Err(message),
        },
        Rows::Strided {
            first,
            len,
            stride,
            count,
        } => {
            if len == 0 || count == 0 || stride < len {
                return Err(format!(
                    "{count} groups of {len} rows, {stride} apart, are wanted: each must be at least 1, and groups must not overlap"
                ));
            }
            let end = || stride.checked_mul(count - 1)?.checked_add(first)?.checked_add(len);
            match beyond(end()) {
                None => Ok((0..count)
                    .map(|i| Run {
                        first: first + i * stride,
                        len,
                    })
                    .collect()),
                Some(message) => Err(message),
            }
        }
        Rows::Deinterleaved { head, rot } => {
            if head == 0 || !total.is_multiple_of(head) || rot > head || !rot.is_multiple_of(2) {
                return Err(format!(
                    "has {total} rows, and heads of {head} are wanted of which {rot} are permuted: whole heads, and an even number"
                ));
            }
            let mut all = Vec::new();
            for start in (0..total).step_by(head as usize) {
                for parity in 0..2 {
                    all.extend((0..rot / 2).map(|i| Run {
                        first: start + 2 * i + parity,
                        len: 1,
                    }));
                }
                if rot < head {
                    all.push(Run {
                        first: start + rot,
                        len: head - rot,
                    });
                }
            }
            Ok(all)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(rows: &Rows, total: u64) -> Vec<u64> {
        let all = runs(rows, total).unwrap();
        all.into_iter().flat_map(|run| run.first..run.first + run.len).collect()
    }

    #[test]
    fn rows_are_listed_in_order() {
        assert_eq!(listed(&Rows::All, 3), [0, 1, 2]);
        assert_eq!(listed(&Rows::Range(1..3), 3), [1, 2]);
        let strided = Rows::Strided {
            first: 1,
            len: 2,
            stride: 4,
            count: 3,
        };
        assert_eq!(listed(&strided, 11), [1, 2, 5, 6, 9, 10]);
        let permuted = Rows::Deinterleaved { head: 6, rot: 4 };
        assert_eq!(listed(&permuted, 12), [0, 2, 1, 3, 4, 5, 6, 8, 7, 9, 10, 11]);
    }

    #[test]
    fn rows_that_are_not_there_are_refused() {
        let strided = |first, len, stride, count| Rows::Strided {
            first,
            len,
            stride,
            count,
        };
        for (rows, text) in [
            (Rows::Range(2..11), "has 10 rows, and those up to 11"),
            (
                Rows::Range(std::ops::Range { start: 3, end: 2 }),
                "rows 3..2 are wanted",
            ),
            (strided(1, 2, 4, 3), "up to 11"),
            (strided(0, 4, 2, 2), "must not overlap"),
            (strided(0, 0, 2, 2), "at least 1"),
            (strided(u64::MAX, 1, 1, 1), "beyond 2^64"),
            (strided(0, 1, u64::MAX, 9), "beyond 2^64"),
            (Rows::Deinterleaved { head: 4, rot: 2 }, "whole heads"),
            (Rows::Deinterleaved { head: 5, rot: 3 }, "an even number"),
            (Rows::Deinterleaved { head: 5, rot: 6 }, "6 are permuted"),
            (Rows::Deinterleaved { head: 0, rot: 0 }, "heads of 0"),
        ] {
            let error = runs(&rows, 10).unwrap_err();
            assert!(error.contains(text), "{rows:?}: {error}");
        }
    }
}
