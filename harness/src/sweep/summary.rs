//! The table at a sweep's end: a line a case, with the winner of each mode and what strictness costs.

use host::results::{Kind, Record, Status, contenders};

use super::record::Context;
use crate::cli::ModeArg;
use crate::plan::CasePlan;
use crate::simt_slice::Slice;
use crate::table::Table;

/// A case with what ran of it and its records.
pub type Row<'a> = (&'a CasePlan, &'a Slice, &'a [Record]);

/// The figure configs are ranked by, and the interval in which it lies: microseconds, or the model's cost.
fn figure(r: &Record) -> Option<(f64, f64, f64)> {
    if r.status != Status::Passed {
        return None;
    }
    match r.kind {
        Kind::Measured => r.times.map(|t| (t.median_us, t.p20_us, t.p80_us)),
        Kind::Model => r.model_cost.map(|m| (m.cost, m.cost, m.cost)),
        Kind::Verify | Kind::Peer => None,
    }
}

/// The best of some records, and how many others cannot be told from it.
pub struct Winner<'r> {
    /// Its record.
    pub record: &'r Record,
    /// Median, p20 and p80 in microseconds; or the model's cost three times.
    pub figure: (f64, f64, f64),
    /// Others whose intervals overlap with its.
    pub tied: usize,
}

impl Winner<'_> {
    /// How much slower the strict winner is than the fast one, as a share of the fast one's time; 0 where they cannot be
    /// told apart.
    pub fn strictness_cost(strict: &Winner, fast: &Winner) -> f64 {
        let tie = strict.figure.1 <= fast.figure.2 && fast.figure.1 <= strict.figure.2;
        if tie {
            0.0
        } else {
            strict.figure.0 / fast.figure.0 - 1.0
        }
    }

    /// [`Winner::strictness_cost`] in percent.
    pub fn strictness_pct(strict: &Winner, fast: &Winner) -> String {
        format!("{:.1}", 100.0 * Self::strictness_cost(strict, fast))
    }
}

/// The passed record with the least figure of those that contend.
pub fn winner<'r>(records: impl Iterator<Item = &'r Record>) -> Option<Winner<'r>> {
    let all = contenders(records.filter_map(|r| Some((r, figure(r)?))), |(r, _)| r.contends());
    let &(record, figure) = all.iter().min_by(|a, b| a.1.0.total_cmp(&b.1.0))?;
    let tied = all
        .iter()
        .filter(|(r, f)| r.config != record.config && f.1 <= figure.2 && figure.1 <= f.2)
        .count();
    Some(Winner { record, figure, tied })
}

fn is_strict(r: &&Record) -> bool {
    r.order == host::results::CANONICAL
}

fn named(w: Option<&Winner>) -> String {
    match w {
        None => String::new(),
        Some(w) if w.tied > 0 => format!("{} (ties {})", w.record.config, w.tied),
        Some(w) => w.record.config.clone(),
    }
}

/// The table; its columns depend on the device, so that a modelled cost is never in a column of times.
pub fn table(rows: &[Row], context: &Context, mode: ModeArg) -> Table {
    let simulator = context.opened.simulator;
    let mut table = Table::new(if simulator {
        &[
            "case",
            "shape",
            "strict_config",
            "strict_model_cost",
            "fast_config",
            "fast_model_cost",
            "strict_costs_model_pct",
            "bytes",
            "rows_checked",
            "simulator_checks",
        ]
    } else {
        &[
            "case",
            "shape",
            "strict_config",
            "strict_us",
            "fast_config",
            "fast_us",
            "strict_costs_pct",
            "peer_us",
            "ratio_to_peer",
            "cold_us",
            "GB_per_s",
            "copy_rate_pct",
            "floor_pct",
            "noise_pct",
            "bytes",
            "peer_bytes",
        ]
    });
    for (plan, slice, records) in rows {
        let strict = winner(records.iter().filter(is_strict)).filter(|_| mode != ModeArg::Fast);
        let fast = winner(records.iter()).filter(|_| mode != ModeArg::Strict);
        let value = |w: Option<&Winner>| w.map_or_else(String::new, |w| format!("{:.2}", w.figure.0));
        let cost = match (&strict, &fast) {
            (Some(s), Some(f)) => Winner::strictness_pct(s, f),
            _ => String::new(),
        };
        let mut cells = vec![
            plan.selected.label(),
            plan.selected.case.dims_text(),
            named(strict.as_ref()),
            value(strict.as_ref()),
            named(fast.as_ref()),
            value(fast.as_ref()),
            cost,
        ];
        if simulator {
            cells.push(bytes(records));
            cells.push(if slice.rows == slice.of {
                "all".into()
            } else {
                format!("{} of {}", slice.rows, slice.of)
            });
            cells.push(if slice.checks { "on".into() } else { "off".into() });
        } else {
            let best = strict.as_ref().or(fast.as_ref()).map(|w| w.record);
            let number = |v: Option<f64>, digits: usize| v.map_or_else(String::new, |v| format!("{v:.digits$}"));
            let ratio = best.and_then(|r| r.ratio_to_peer);
            // Of the winner's own round, which the peer's record need not be of.
            let us = best.and_then(|r| r.times).map(|t| t.median_us);
            cells.push(number(us.zip(ratio).map(|(us, ratio)| us * ratio), 2));
            cells.push(number(ratio, 3));
            cells.push(number(best.and_then(|r| r.cold).map(|t| t.median_us), 2));
            let roof = best.and_then(|r| r.roof);
            cells.push(roof.map_or_else(String::new, |r| format!("{:.0}", r.gb_s)));
            cells.push(
                roof.and_then(|r| r.share_of_copy)
                    .map_or_else(String::new, |s| format!("{:.1}", 100.0 * s)),
            );
            cells.push(number(roof.and_then(|r| r.share).map(|share| 100.0 * share), 1));
            cells.push(
                best.and_then(|r| r.times)
                    .map_or_else(String::new, |t| format!("{:.1}", 100.0 * t.noise)),
            );
            cells.push(bytes(records));
            cells.push(peer_bytes(records).into());
        }
        table.row(cells);
    }
    table
}

/// What became of the peer's bytes.
fn peer_bytes(records: &[Record]) -> &'static str {
    let peer = records.iter().rev().find_map(|r| Some((r.status, r.peer.as_ref()?)));
    match peer.map(|(status, peer)| (status, peer.bytes_equal)) {
        None => "",
        Some((_, Some(true))) => "equal",
        Some((_, Some(false))) => "differ",
        Some((Status::Skipped, None)) => "refused",
        Some((_, None)) => "failed",
    }
}

/// `14 OK`, or what was wrong first.
fn bytes(records: &[Record]) -> String {
    let configs = || records.iter().filter(|r| r.kind != Kind::Peer);
    let count = |s: Status| configs().filter(|r| r.status == s).count();
    let parts: Vec<String> = [
        (Status::Incorrect, "WRONG"),
        (Status::Error, "ERROR"),
        (Status::Timeout, "TIMEOUT"),
        (Status::Passed, "OK"),
    ]
    .iter()
    .filter(|(s, _)| count(*s) > 0)
    .map(|(s, name)| format!("{} {name}", count(*s)))
    .collect();
    if parts.is_empty() {
        "no config".into()
    } else {
        parts.join(", ")
    }
}

/// What a reader of the table has to know, below it.
pub fn notes(rows: &[Row], context: &Context) -> String {
    let records = || rows.iter().flat_map(|r| r.2).filter(|r| r.kind != Kind::Peer);
    let count = |s: Status| records().filter(|r| r.status == s).count();
    let mut out = format!(
        "{} records: {} passed, {} incorrect, {} errors, {} timeouts\n",
        records().count(),
        count(Status::Passed),
        count(Status::Incorrect),
        count(Status::Error),
        count(Status::Timeout)
    );
    let tolerated = records()
        .filter(|r| r.bytes_check.as_ref().is_some_and(|b| b.within_tolerance))
        .count();
    if tolerated > 0 {
        out +=
            &format!("{tolerated} of the passed are configs of another order: within the tolerance, not byte-equal\n");
    }
    if context.opened.simulator {
        out += "Simulator: bytes are checked for real; model_cost ranks the configs by a model of an H200 and is no time.\n";
    } else {
        let pruned = records()
            .filter(|r| r.status == Status::Passed && r.reason.is_some())
            .count();
        let throttled = records()
            .filter(|r| r.clocks.as_ref().is_some_and(|c| !c.throttle.is_empty()))
            .count();
        out += &format!("{pruned} slow configs dropped after a short round; {throttled} results of a throttled GPU\n");
        out += &against_peer(rows);
        if let Some(copy) = context.copy_gb_s {
            out += &format!(
                "copy_rate_pct is the share of this device's own copy rate, {copy:.0} GB/s, that the strict winner reaches; floor_pct the share of its time that bytes or multiply-adds need at the least\n"
            );
        }
    }
    out
}

/// The strict winners against the peer, in words; nothing without one.
fn against_peer(rows: &[Row]) -> String {
    let ratios = host::results::ratios(rows.iter().flat_map(|r| r.2));
    let mut out = String::new();
    for g in host::results::groups(&ratios) {
        let wanted = g.wanted.map_or_else(String::new, |w| format!(" (wanted {w:.1})"));
        out += &format!(
            "ratio to the peer, {}: geometric mean {:.3}{wanted} of {} cases, least {:.3}, {} under {}\n",
            g.name,
            g.mean,
            g.rows,
            g.least,
            g.under,
            host::results::LEAST
        );
    }
    out
}
