//! How much of a case the simulator checks. It runs real kernels at a fraction of a GPU's speed, so a large matrix is
//! checked on its first rows, at full K and full `n_tok`; the number of rows is stated in records and tables. It depends on
//! the selection and the budget alone, never on the machine, so that a rerun checks the same.

use host::op::Case;

/// Billions of multiply-adds of the default sweep's checks: about a minute on two cores.
pub const DEFAULT_BUDGET: u64 = 100;
/// At least so many rows: several row tiles, and more than one for each of a block's warps.
const MIN_ROWS: u64 = 64;
/// Rows are taken in whole tiles of this many, for any tile size in use.
const ROW_STEP: u64 = 32;
/// Token slots of a tile: a kernel that computes tiles pays for all of them.
const TOKEN_TILE: u64 = 8;
/// A case of at most so many multiply-adds a config runs with all of the simulator's checks on (they cost ten times).
const CHECKED_WORK: u64 = 1_000_000;

/// The part of a case that is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The case with its `n` cut down; the case itself where all rows run.
    pub case: Case,
    /// Rows (of each group) that run.
    pub rows: u64,
    /// Rows (of each group) that there are.
    pub of: u64,
    /// All of the simulator's checks are on.
    pub checks: bool,
}

impl Slice {
    /// Elements of the output that `rows` rows of each group have.
    pub fn elements(&self, rows: u64) -> u64 {
        let dim = |d: &str| self.case.dim(d).unwrap_or(1);
        rows * dim("groups") * dim("n_tok")
    }

    /// The whole case, as a GPU runs it.
    pub fn whole(case: &Case) -> Slice {
        let n = case.dim("n").unwrap_or(0);
        Slice {
            case: case.clone(),
            rows: n,
            of: n,
            checks: false,
        }
    }
}

/// Multiply-adds of one row with all its tokens, as the simulator pays for them.
fn work_of_row(case: &Case) -> u64 {
    let dim = |d: &str| case.dim(d).unwrap_or(1);
    dim("k") * dim("groups") * dim("n_tok").next_multiple_of(TOKEN_TILE)
}

/// What each (case, config) pair may cost so that all pairs stay within `budget` billions of multiply-adds: cases that need
/// less than an equal share leave the rest to the others. `None` where everything fits or the budget is 0.
pub fn share<'c>(pairs: impl Iterator<Item = (&'c Case, usize)>, budget: u64) -> Option<u64> {
    if budget == 0 {
        return None;
    }
    let mut all: Vec<(u64, u64)> = pairs
        .filter(|p| p.1 > 0)
        .map(|(c, n)| (work_of_row(c) * c.dim("n").unwrap_or(1), n as u64))
        .collect();
    all.sort_unstable();
    let mut left = budget * 1_000_000_000;
    let mut count: u64 = all.iter().map(|p| p.1).sum();
    for (work, configs) in all {
        if work > left / count {
            return Some(left / count);
        }
        left -= work * configs;
        count -= configs;
    }
    None
}

/// The part of `case` that runs within `share` for each config; all of it where that is `None`.
pub fn slice(case: &Case, share: Option<u64>) -> Slice {
    let mut slice = Slice::whole(case);
    let row = work_of_row(case).max(1);
    if let Some(share) = share {
        let rows = (share / row / ROW_STEP * ROW_STEP).max(MIN_ROWS);
        if rows < slice.of {
            slice.rows = rows;
            for (d, size) in &mut slice.case.dims {
                if d == "n" {
                    *size = rows;
                }
            }
        }
    }
    slice.checks = slice.rows * row <= CHECKED_WORK;
    slice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(n: u64, k: u64, n_tok: u64) -> Case {
        Case::new("q8_matmul", "m", "t", &[("n", n), ("k", k), ("n_tok", n_tok)])
    }

    #[test]
    fn small_cases_leave_their_share_to_large_ones_and_the_budget_holds() {
        let cases = [
            case(9, 32, 1),
            case(4096, 4096, 1),
            case(100_000, 4096, 8),
            case(2048, 2048, 3),
        ];
        let share = share(cases.iter().map(|c| (c, 10)), 2);
        let slices: Vec<Slice> = cases.iter().map(|c| slice(c, share)).collect();
        let total: u64 = slices.iter().map(|s| 10 * s.rows * work_of_row(&s.case)).sum();
        assert!(total <= 2_000_000_000 && total > 1_500_000_000, "{total}");
        assert_eq!((slices[0].rows, slices[0].checks), (9, true));
        assert!(slices[2].rows < 4096 && slices[2].rows.is_multiple_of(ROW_STEP) && !slices[2].checks);
        assert_eq!((slices[2].of, slices[2].case.dim("n")), (100_000, Some(slices[2].rows)));
        assert_eq!(slices[2].case.dim("k"), Some(4096));
    }

    #[test]
    fn everything_runs_where_it_fits_or_no_budget_is_set() {
        let cases = [case(512, 512, 1)];
        assert_eq!(share(cases.iter().map(|c| (c, 3)), 1), None);
        assert_eq!(share(cases.iter().map(|c| (c, 3)), 0), None);
        assert_eq!(slice(&cases[0], None).rows, 512);
    }
}
