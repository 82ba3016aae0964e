//! `harness compare A B`: which cases became slower, which faster, which cannot be told apart; with `--winners`, whether two
//! sweeps name the same winners.

use anyhow::Result;
use host::results::{Agreement, Mode, Record, Verdict, agree, compare};

use crate::cli::CompareArgs;
use crate::exit::{Exit, usage};
use crate::store;
use crate::sweep::write;
use crate::table::Table;

/// When a comparison fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// A case of the second set is slower by more than so many percent.
    Slower(f64),
    /// Fewer than so many percent of the cases agree.
    Agree(f64),
}

/// Reads `slower=2%` or `agree=95%` (the sign may be left out).
pub fn parse_limit(s: &str) -> Result<Limit, String> {
    let number = |name: &str| {
        let number = s.strip_prefix(name)?.strip_prefix('=')?;
        let number: f64 = number.strip_suffix('%').unwrap_or(number).parse().ok()?;
        (number.is_finite() && number >= 0.0).then_some(number)
    };
    match (number("slower"), number("agree")) {
        (Some(limit), _) => Ok(Limit::Slower(limit)),
        (_, Some(limit)) if limit <= 100.0 => Ok(Limit::Agree(limit)),
        _ => Err(format!(
            "`{s}` is no limit: write slower=P% or agree=P%, for example slower=2%"
        )),
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
    let limit = match (args.fail_on, args.winners) {
        (None, false) => None,
        (Some(Limit::Slower(limit)), false) => Some(limit),
        (limit, true) => return winners(args, &a, &b, limit),
        (Some(Limit::Agree(_)), false) => {
            return Err(usage(anyhow::anyhow!(
                "--fail-on agree=P% is of winners: add --winners"
            )));
        }
    };
    let outcome = compare(&a, &b);
    if limit.is_some() && outcome.rows.is_empty() {
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
        exceeded += usize::from(slower && limit.is_some_and(|limit| 100.0 * (r.ratio - 1.0) > limit));
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
    if let Some(limit) = limit {
        notes += &format!("{exceeded} cases slower by more than {limit} %\n");
    }
    write(&table, &args.table, &notes)?;
    Ok(if exceeded > 0 { Exit::Mismatch } else { Exit::Good })
}

/// `--winners`.
fn winners(args: &CompareArgs, a: &[Record], b: &[Record], limit: Option<Limit>) -> Result<Exit> {
    let limit = match limit {
        None => None,
        Some(Limit::Agree(limit)) => Some(limit),
        Some(Limit::Slower(_)) => {
            return Err(usage(anyhow::anyhow!(
                "--fail-on slower=P% is of each config's times: leave --winners out, or write agree=P%"
            )));
        }
    };
    let agreed = agree(a, b);
    let share = agreed.share();
    if limit.is_some() && share.is_none() {
        return Err(usage(anyhow::anyhow!(
            "--fail-on has nothing to judge: no case has winners in both ({} only in {}, {} only in {})",
            agreed.only_a,
            args.a.display(),
            agreed.only_b,
            args.b.display()
        )));
    }
    let mut table = Table::new(&[
        "gpu",
        "op",
        "shape",
        "n_tok",
        "mode",
        "a_winner",
        "b_winner",
        "agreement",
        "gap_pct",
    ]);
    for r in &agreed.rows {
        let dims: Vec<String> = r.key.dims.iter().map(|(d, v)| format!("{d}={v}")).collect();
        let mode = match r.key.mode {
            Mode::Strict => "strict",
            Mode::Fast => "fast",
        };
        let agreement = match r.agreement {
            Agreement::Same => "same",
            Agreement::Tie => "tie",
            Agreement::Differ => "differ",
        };
        table.row([
            r.key.device.clone(),
            r.key.op.clone(),
            dims.join(","),
            r.key.n_tok.to_string(),
            mode.into(),
            r.a.clone(),
            r.b.clone(),
            agreement.into(),
            r.gap.map_or_else(String::new, |gap| format!("{:.2}", 100.0 * gap)),
        ]);
    }
    let mut notes = format!(
        "{} same, {} ties, {} differ; {} cases only in A, {} only in B\n",
        agreed.count(Agreement::Same),
        agreed.count(Agreement::Tie),
        agreed.count(Agreement::Differ),
        agreed.only_a,
        agreed.only_b
    );
    if let Some(share) = share {
        notes += &format!("{:.1} % of the winners are the same or tied\n", 100.0 * share);
    }
    write(&table, &args.table, &notes)?;
    let failed = limit.zip(share).is_some_and(|(limit, share)| 100.0 * share < limit);
    Ok(if failed { Exit::Mismatch } else { Exit::Good })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(dir: &std::path::Path, name: &str, cases: &[[(&str, f64); 2]]) -> std::path::PathBuf {
        let mut text = String::new();
        for (i, configs) in cases.iter().enumerate() {
            for (config, us) in configs {
                let line = format!(
                    r#"{{"schema":1,"time":"2026-01-01T00:00:00Z","commit":"c","dirty":false,"command":"x","op":"gemm",
                    "shape":{{"model":"m","name":"a","dims":{{"n":8}},"n_tok":{i}}},"config":"{config}","order":"canonical",
                    "mode":"strict","device":{{"name":"G","arch":"sm_90a","driver":null,"sm_count":1}},"kind":"measured",
                    "status":"PASSED","bytes_check":{{"against":["cpu"],"equal":true,"first_bad":null}},
                    "times":{{"median_us":{us},"p20_us":{us},"p80_us":{us},"min_us":{us},"samples":3,"noise":0.0}},
                    "toolchain":{{"rustc":"r","llvm":"l","ptxas":null}},"seed":1}}"#
                );
                text += &(line.replace('\n', " ") + "\n");
            }
        }
        let path = dir.join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    #[test]
    fn winners_that_differ_fail_where_asked() {
        let dir = tempfile::tempdir().expect("a folder");
        let a = lines(
            dir.path(),
            "a.jsonl",
            &[[("x", 1.0), ("y", 2.0)], [("x", 1.0), ("y", 1.0)]],
        );
        let b = lines(
            dir.path(),
            "b.jsonl",
            &[[("x", 2.0), ("y", 1.0)], [("x", 1.1), ("y", 1.0)]],
        );
        let run = |a: &std::path::Path, b: &std::path::Path, winners, fail_on| {
            command(&CompareArgs {
                a: a.into(),
                b: b.into(),
                winners,
                fail_on,
                table: Default::default(),
            })
        };
        // One differs, one is a tie in the first.
        assert_eq!(run(&a, &b, true, None).expect("compared"), Exit::Good);
        assert_eq!(
            run(&a, &b, true, Some(Limit::Agree(50.0))).expect("compared"),
            Exit::Good
        );
        assert_eq!(
            run(&a, &b, true, Some(Limit::Agree(95.0))).expect("compared"),
            Exit::Mismatch
        );
        assert_eq!(
            run(&a, &a, true, Some(Limit::Agree(100.0))).expect("compared"),
            Exit::Good
        );
        // Each limit belongs to its own comparison, and nothing is judged without a case.
        let none = lines(dir.path(), "none.jsonl", &[]);
        for refused in [
            run(&a, &b, true, Some(Limit::Slower(2.0))),
            run(&a, &b, false, Some(Limit::Agree(95.0))),
            run(&a, &none, true, Some(Limit::Agree(95.0))),
        ] {
            assert!(refused.expect_err("refused").is::<crate::exit::Usage>());
        }
    }

    #[test]
    fn limits() {
        assert_eq!(parse_limit("slower=2%"), Ok(Limit::Slower(2.0)));
        assert_eq!(parse_limit("slower=0.5"), Ok(Limit::Slower(0.5)));
        assert_eq!(parse_limit("agree=95%"), Ok(Limit::Agree(95.0)));
        for bad in [
            "faster=2%",
            "slower=",
            "slower=-1",
            "slower=inf",
            "agree=101%",
            "agree",
            "agree=x",
        ] {
            assert!(parse_limit(bad).unwrap_err().contains(bad));
        }
    }
}
