//! `harness compare A B`: which cases became slower, which faster, which cannot be told apart.

use anyhow::Result;
use host::results::{Verdict, compare};

use crate::cli::CompareArgs;
use crate::exit::{Exit, usage};
use crate::store;
use crate::sweep::write;
use crate::table::Table;

/// Reads `slower=2%` (the sign may be left out).
pub fn parse_limit(s: &str) -> Result<f64, String> {
    let number = s.strip_prefix("slower=").map(|v| v.strip_suffix('%').unwrap_or(v));
    match number.and_then(|v| v.parse::<f64>().ok()) {
        Some(v) if v.is_finite() && v >= 0.0 => Ok(v),
        _ => Err(format!("`{s}` is no limit: write slower=P%, for example slower=2%")),
    }
}

/// The command.
///
/// # Errors
/// Records that are not there or cannot be read.
pub fn command(args: &CompareArgs) -> Result<Exit> {
    let (a, b) = (
        store::load(&args.a).map_err(usage)?,
        store::load(&args.b).map_err(usage)?,
    );
    let outcome = compare(&a, &b);
    if args.fail_on.is_some() && outcome.rows.is_empty() {
        let (only_a, only_b) = (outcome.only_a.len(), outcome.only_b.len());
        return Err(usage(anyhow::anyhow!(
            "--fail-on has nothing to judge: no case was measured in both ({only_a} only in {}, {only_b} only in {})",
            args.a.display(),
            args.b.display()
        )));
    }
    let mut table = Table::new(&[
        "gpu", "op", "shape", "n_tok", "config", "a_us", "b_us", "b_over_a", "verdict",
    ]);
    let mut exceeded = 0;
    for r in &outcome.rows {
        let slower = r.verdict == Verdict::Slower;
        exceeded += usize::from(slower && args.fail_on.is_some_and(|limit| 100.0 * (r.ratio - 1.0) > limit));
        let dims: Vec<String> = r.case.dims.iter().map(|(d, v)| format!("{d}={v}")).collect();
        table.row([
            r.case.device.clone(),
            r.case.op.clone(),
            dims.join(","),
            r.case.n_tok.to_string(),
            r.case.config.clone(),
            format!("{:.2}", r.a.median_us),
            format!("{:.2}", r.b.median_us),
            format!("{:.3}", r.ratio),
            match r.verdict {
                Verdict::Tie => "tie".to_string(),
                Verdict::Faster => "faster".into(),
                Verdict::Slower => "slower".into(),
            },
        ]);
    }
    let count = |v: Verdict| outcome.rows.iter().filter(|r| r.verdict == v).count();
    let mut notes = format!(
        "{} faster, {} slower, {} ties; {} cases only in A, {} only in B\n",
        count(Verdict::Faster),
        count(Verdict::Slower),
        count(Verdict::Tie),
        outcome.only_a.len(),
        outcome.only_b.len()
    );
    if let Some(limit) = args.fail_on {
        notes += &format!("{exceeded} cases slower by more than {limit} %\n");
    }
    write(&table, &args.table, &notes)?;
    Ok(if exceeded > 0 { Exit::Mismatch } else { Exit::Good })
}

#[cfg(test)]
mod tests {
    #[test]
    fn limits() {
        assert_eq!(super::parse_limit("slower=2%"), Ok(2.0));
        assert_eq!(super::parse_limit("slower=0.5"), Ok(0.5));
        for bad in ["faster=2%", "slower=", "slower=-1", "slower=inf"] {
            assert!(super::parse_limit(bad).unwrap_err().contains(bad));
        }
    }
}
