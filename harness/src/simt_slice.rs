//! How much of a case the simulator checks. It runs real kernels at a fraction of a GPU's speed, so a large case is checked
//! on its first rows (of the axis that the operation says is one of independent rows, the longest if there are several);
//! the number of rows is stated in records and tables. It depends on the selection and the budget alone, never on the
//! machine, so that a rerun checks the same.

use host::op::{Case, Operation};

/// Billions of multiply-adds of the default sweep's checks: about a minute on two cores.
pub const DEFAULT_BUDGET: u64 = 100;
/// At least so many rows: several row tiles, and more than one for each of a block's warps.
const MIN_ROWS: u64 = 64;
/// Rows are taken in whole tiles of this many, for any tile size in use.
const ROW_STEP: u64 = 32;
/// A case of at most so many multiply-adds a config runs with all of the simulator's checks on (they cost ten times).
const CHECKED_WORK: u64 = 1_000_000;

/// The part of a case that is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The case with its rows cut down; the case itself where all rows run.
    pub case: Case,
    /// Rows that run; 1 for an operation without rows.
    pub rows: u64,
    /// Rows that there are.
    pub of: u64,
    /// All of the simulator's checks are on.
    pub checks: bool,
}

impl Slice {
    /// The whole case, as a GPU runs it.
    pub fn whole(op: &dyn Operation, case: &Case) -> Slice {
        let rows = axis(op, case).map_or(1, |(_, rows)| rows);
        Slice {
            case: case.clone(),
            rows,
            of: rows,
            checks: false,
        }
    }
}

/// The axis whose first rows may stand for all, with its size.
fn axis(op: &dyn Operation, case: &Case) -> Option<(&'static str, u64)> {
    let rows = op.axes().iter().filter(|axis| axis.rows);
    let sized = rows.filter_map(|axis| Some((axis.name, case.dim(axis.name)?)));
    // The first of equals, so that the choice is one of the operation's order.
    sized.rev().max_by_key(|(_, size)| *size)
}

/// What each (case, config) pair may cost so that all pairs stay within `budget` billions of multiply-adds: cases that need
/// less than an equal share leave the rest to the others. `None` where everything fits or the budget is 0.
pub fn share<'c>(pairs: impl Iterator<Item = (&'c dyn Operation, &'c Case, usize)>, budget: u64) -> Option<u64> {
    if budget == 0 {
        return None;
    }
    let mut all: Vec<(u64, u64)> = pairs
        .filter(|p| p.2 > 0)
        .map(|(op, case, n)| (op.simulated_work(case), n as u64))
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
pub fn slice(op: &dyn Operation, case: &Case, share: Option<u64>) -> Slice {
    let mut slice = Slice::whole(op, case);
    let work = op.simulated_work(case);
    let row = (work / slice.of.max(1)).max(1);
    if let (Some(share), Some((axis, _))) = (share, axis(op, case)) {
        let rows = (share / row / ROW_STEP * ROW_STEP).max(MIN_ROWS);
        if rows < slice.of {
            slice.rows = rows;
            for (d, size) in &mut slice.case.dims {
                if d == axis {
                    *size = rows;
                }
            }
        }
    }
    slice.checks = slice.rows * row <= CHECKED_WORK;
    slice
}

/// A case that is not cut (one long sequence, say) may cost so many times its share.
const OVER_SHARE: u64 = 4;
/// What any case may cost with all its configs, however small the shares are.
const ALWAYS: u64 = 100_000_000;

/// Whether a case, cut as [`fn@slice`] cuts it, costs little enough to be run at all with so many configs.
pub fn affordable(op: &dyn Operation, cut: &Case, configs: usize, share: Option<u64>) -> bool {
    let always = ALWAYS / (configs as u64).max(1);
    share.is_none_or(|share| op.simulated_work(cut) <= (OVER_SHARE * share).max(always))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op() -> &'static dyn Operation {
        host::ops::by_name("q8_matmul").expect("the operation")
    }

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
        let op = op();
        let share = share(cases.iter().map(|c| (op, c, 10)), 2);
        let slices: Vec<Slice> = cases.iter().map(|c| slice(op, c, share)).collect();
        let total: u64 = slices.iter().map(|s| 10 * op.simulated_work(&s.case)).sum();
        assert!(total <= 2_000_000_000 && total > 1_500_000_000, "{total}");
        assert_eq!((slices[0].rows, slices[0].checks), (9, true));
        assert!(slices[2].rows < 4096 && slices[2].rows.is_multiple_of(ROW_STEP) && !slices[2].checks);
        assert_eq!((slices[2].of, slices[2].case.dim("n")), (100_000, Some(slices[2].rows)));
        assert_eq!(slices[2].case.dim("k"), Some(4096));
    }

    #[test]
    fn what_cannot_be_cut_is_left_out_only_beyond_the_budget() {
        let op = host::ops::by_name("attn_decode").expect("the operation");
        let dims = |kv_len| {
            let dims = [
                ("n_seq", 1),
                ("n_tok", 1),
                ("kv_len", kv_len),
                ("q_heads", 32),
                ("kv_heads", 8),
                ("head_dim", 128),
            ];
            dims.map(|(axis, size): (&str, u64)| (axis.to_string(), size))
        };
        let long = op.custom_case(&dims(1 << 20)).expect("a case");
        let short = op.custom_case(&dims(64)).expect("a case");
        assert!(affordable(op, &short, 1, Some(1)) && !affordable(op, &long, 1, Some(1)));
        assert!(affordable(op, &long, 1, None));
    }

    #[test]
    fn everything_runs_where_it_fits_or_no_budget_is_set() {
        let cases = [case(512, 512, 1)];
        assert_eq!(share(cases.iter().map(|c| (op(), c, 3)), 1), None);
        assert_eq!(share(cases.iter().map(|c| (op(), c, 3)), 0), None);
        assert_eq!(slice(op(), &cases[0], None).rows, 512);
    }

    #[test]
    fn other_operations_are_cut_at_their_own_rows() {
        let op = host::ops::by_name("silu_mul").expect("the operation");
        let case = op
            .custom_case(&[("n".into(), 4096), ("n_tok".into(), 100_000)])
            .expect("a case");
        let cut = slice(op, &case, Some(50_000_000_000));
        assert_eq!((cut.case.dim("n"), cut.of), (Some(4096), 100_000));
        assert!(
            cut.rows < 100_000 && cut.case.dim("n_tok") == Some(cut.rows),
            "{}",
            cut.rows
        );
    }
}
