//! `harness report --md`: the README's result tables, made from the records, so that no figure is typed by hand: the tuned
//! kernels', those beside a peer library's, the plain ones' a model, and whole models.

mod models;
mod peers;
mod plain;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use host::results::{Kind, Record, slug};

use crate::cli::ReportArgs;
use crate::exit::{Exit, usage};
use crate::provenance::default_results_dir;
use crate::select::shape_set;
use crate::store;
use crate::sweep::{Winner, winner};
use crate::table::{Format, Table};

/// What the table replaces starts after this line.
pub const BEGIN: &str = "<!-- results:begin (made by `harness report`, do not edit) -->";
/// And ends before this one.
pub const END: &str = "<!-- results:end -->";
/// A workload of shapes at the edges of tiles: for checks, not for show.
const NOT_SHOWN: &str = "edge-cases";

/// The command.
///
/// # Errors
/// Records or the file cannot be read, the file has no markers, or it cannot be written.
pub fn command(args: &ReportArgs) -> Result<Exit> {
    let dir = args.out.clone().unwrap_or_else(default_results_dir);
    let records = if dir.exists() { store::load(&dir)? } else { Vec::new() };
    let path = &args.md;
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read {}", path.display()))
        .map_err(usage)?;
    let body = [models::tables(&dir)?, tables(&records)?];
    let body: Vec<&str> = body
        .iter()
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    let new = replace(&text, &body.join("\n"))
        .with_context(|| path.display().to_string())
        .map_err(usage)?;
    if new == text {
        eprintln!("{} is up to date", path.display());
    } else if args.check {
        eprintln!(
            "{} is not what the records say; `harness report` rewrites it",
            path.display()
        );
        return Ok(Exit::Mismatch);
    } else {
        std::fs::write(path, new).with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("{} rewritten from {} records", path.display(), records.len());
    }
    Ok(Exit::Good)
}

fn replace(text: &str, body: &str) -> Result<String> {
    let lacks = || format!("lacks the lines `{BEGIN}` and `{END}`, in this order");
    let begin = text.find(BEGIN).with_context(lacks)? + BEGIN.len();
    let Some(length) = text[begin..].find(END) else {
        bail!(lacks())
    };
    Ok(format!("{}\n\n{}\n{}", &text[..begin], body, &text[begin + length..]))
}

/// One shape: its names, and for each token count its records.
#[derive(Default)]
struct Shape<'r> {
    labels: Vec<String>,
    by_tok: BTreeMap<u32, BTreeMap<&'r str, &'r Record>>,
}

/// What a shape's row says: strict winners, by token count.
#[derive(Default)]
struct Row {
    times: BTreeMap<u32, f64>,
    /// Of the fewest tokens: bytes that have to be moved, the rate they are moved at, its share of the copy rate.
    bytes: u64,
    gb_s: Option<f64>,
    share: Option<f64>,
    worst_share: Option<f64>,
    /// The most that the strict winner is behind the fast one, 0 where they tie.
    worst_cost: f64,
}

impl Row {
    fn add(&mut self, n_tok: u32, strict: &Winner<'_>, fast: &Winner<'_>) {
        let roof = strict.record.roof;
        let share = roof.and_then(|roof| roof.share_of_copy);
        if self.times.is_empty() {
            self.bytes = roof.map_or(0, |roof| roof.bytes);
            self.gb_s = roof.map(|roof| roof.gb_s);
            self.share = share;
        }
        self.times.insert(n_tok, strict.figure.0);
        self.worst_share = match (self.worst_share, share) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.worst_cost = self.worst_cost.max(Winner::strictness_cost(strict, fast));
    }
}

/// All devices' tables as Markdown.
fn tables(all: &[Record]) -> Result<String> {
    let shown = |r: &&Record| r.kind == Kind::Measured && r.shape.model != NOT_SHOWN && r.bytes_held();
    let mut devices: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for r in all.iter().filter(shown) {
        devices.entry(&r.device.name).or_default().push(r);
    }
    if devices.is_empty() {
        return Ok("No GPU has been measured yet.\n".into());
    }
    let shapes = shape_set(None)?;
    let mut parts = Vec::new();
    for (device, records) in &devices {
        let (plain, tuned): (Vec<&Record>, Vec<&Record>) = records.iter().partition(|r| plain::is_plain(r));
        if !tuned.is_empty() {
            parts.push(device_table(device, &tuned));
        }
        let peers = all
            .iter()
            .filter(|r| r.device.name == **device && r.shape.model != NOT_SHOWN);
        let beside: Vec<&Record> = peers
            .filter(|r| r.kind == Kind::Peer || r.ratio_to_peer.is_some())
            .collect();
        parts.extend(Some(peers::tables(device, &beside)).filter(|text| !text.is_empty()));
        parts.extend(Some(plain::tables(&plain, &shapes)?).filter(|text| !text.is_empty()));
    }
    Ok(parts.join("\n"))
}

fn device_table(device: &str, records: &[&Record]) -> String {
    let mut shapes: BTreeMap<(&str, &BTreeMap<String, u64>), Shape> = BTreeMap::new();
    for r in records {
        let shape = shapes.entry((&r.op, &r.shape.dims)).or_default();
        let label = format!("{}/{}", r.shape.model, r.shape.name);
        if !shape.labels.contains(&label) {
            shape.labels.push(label);
        }
        let slot = shape
            .by_tok
            .entry(r.shape.n_tok)
            .or_default()
            .entry(&r.config)
            .or_insert(r);
        if slot.time <= r.time {
            *slot = r;
        }
    }
    let counts: BTreeSet<u32> = shapes.values().flat_map(|s| s.by_tok.keys().copied()).collect();
    let mut columns = vec!["op".into(), "shape".into(), "sizes".into(), "weights_MB".into()];
    columns.extend(counts.iter().map(|n_tok| format!("us_n_tok_{n_tok}")));
    columns.extend(
        [
            "GB_per_s",
            "copy_rate_pct",
            "copy_rate_pct_worst",
            "strict_costs_pct_worst",
        ]
        .map(String::from),
    );
    let mut table = Table::new(&columns.iter().map(String::as_str).collect::<Vec<_>>());
    let mut newest: Option<&Record> = None;
    let mut stale = 0;
    for ((op, dims), shape) in &shapes {
        let mut row = Row::default();
        for (n_tok, configs) in &shape.by_tok {
            let all = || configs.values().copied();
            let strict = winner(all().filter(|r| r.order == host::results::CANONICAL));
            let Some((strict, fast)) = strict.zip(winner(all())) else {
                continue;
            };
            let r = strict.record;
            row.add(*n_tok, &strict, &fast);
            stale += usize::from(store::is_stale(r));
            if newest.is_none_or(|n| n.time < r.time) {
                newest = Some(r);
            }
        }
        let dims: Vec<String> = dims.iter().map(|(d, v)| format!("{d}={v}")).collect();
        let mut cells = vec![
            (*op).to_string(),
            shape.labels.join(", "),
            dims.join(", "),
            format!("{:.1}", row.bytes as f64 / 1e6),
        ];
        cells.extend(
            counts
                .iter()
                .map(|n_tok| row.times.get(n_tok).map_or_else(String::new, |us| format!("{us:.2}"))),
        );
        let percent = |v: Option<f64>| v.map_or_else(String::new, |v| format!("{:.1}", 100.0 * v));
        cells.extend([
            row.gb_s.map_or_else(String::new, |v| format!("{v:.0}")),
            percent(row.share),
            percent(row.worst_share),
            percent(Some(row.worst_cost)),
        ]);
        table.row(cells);
    }
    let mut out = table.render(Format::Markdown);
    if let Some(n) = newest {
        let commit: String = n.commit.chars().take(12).collect();
        out += &format!(
            "\n{device}, driver {}. Strict mode's winners, medians over CUDA-graph replays of programmatic dependent launches with \
             the weights rotated through copies larger than L2; GB_per_s and copy_rate_pct are those of the fewest tokens, \
             the share is of this device's own copy rate (read and written), `worst` is over all token counts. The bytes of \
             all {} runs were checked before they were timed. Latest record {}, commit {commit}{}; records in \
             `results/{}.jsonl`.\n",
            n.device.driver.as_deref().unwrap_or("unknown"),
            records.len(),
            n.time,
            if n.dirty { " with changes" } else { "" },
            slug(device)
        );
    }
    if stale > 0 {
        out += &format!("{stale} of these rows were measured with an earlier version of their kernel.\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let once = replace(&text, "new\n").unwrap();
        assert_eq!(once, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(replace(&once, "new\n").unwrap(), once);
        assert!(replace("nothing", "new").is_err());
        assert!(replace(&format!("{END}\n{BEGIN}\n"), "new").is_err());
    }

    #[test]
    fn without_records_it_says_so() {
        assert_eq!(tables(&[]).expect("no records"), "No GPU has been measured yet.\n");
    }
}
