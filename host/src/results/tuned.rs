//! The table of winners: made from records, read by dispatch.
//!
//! How a winner is chosen, for one (operation, dimensions, token bucket, architecture):
//! 1. Only records of the kind asked for count, whose kernel is the current build's where both hashes are known
//!    ([`CurrentHash`]). Of several records of one config and shape that say whether its bytes hold, the latest counts, and
//!    only if they did: a config that was right once and is wrong now wins nothing.
//! 2. A bucket is judged at the largest token count any of its records has, so that all its configs are judged at the same.
//! 3. Records that were behind in their own run do not compete where others did ([`Record::contends`]). The least median wins. Configs whose interval p20..p80 overlaps the winner's are a tie; of those the one that
//!    [`TuneRules::preference`] puts first is taken, then the first id.
//! 4. strict: the same among configs in the canonical order.
//!
//! A shape nobody measured takes the winners of the nearest shapes, nearest first ([`TunedTable::candidates`]).

use super::record::{Kind, Mode, Record, Status};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The order that strict mode admits.
pub const CANONICAL: &str = "canonical";

/// Says the hash of the current build's kernel for a record's operation, architecture and config; `None` where it is not known.
pub type CurrentHash<'a> = &'a dyn Fn(&Record) -> Option<String>;

/// What [`TunedTable::from_records`] goes by.
pub struct TuneRules<'a> {
    /// The records that count. The two kinds of a figure are never ranked together.
    pub kind: Kind,
    /// The current build's kernels.
    pub current: CurrentHash<'a>,
    /// Which of two tied configs is simpler: (operation, config id) to a rank, the least first.
    pub preference: &'a dyn Fn(&str, &str) -> u32,
}

impl TuneRules<'_> {
    /// Measured times, every record's kernel taken as current, no preference but the id's.
    pub fn measured() -> TuneRules<'static> {
        TuneRules {
            kind: Kind::Measured,
            current: &|_| None,
            preference: &|_, _| 0,
        }
    }
}

/// A config and the figures it won with: microseconds, or the model's costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Winner {
    /// The config's id.
    pub config: String,
    /// Its order of arithmetic.
    pub order: String,
    /// The median; of the model, the cost.
    pub median: f64,
    /// A fifth of the samples are below.
    pub p20: f64,
    /// A fifth of the samples are above.
    pub p80: f64,
    /// Configs that cannot be told from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tied: Vec<String>,
    /// The kernel it was measured with ([`Record::kernel_hash`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_hash: Option<String>,
}

/// The winners of one shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunedEntry {
    /// The operation.
    pub op: String,
    /// The architecture.
    pub arch: String,
    /// The dimensions, in elements.
    pub dims: BTreeMap<String, u64>,
    /// The bucket of token counts ([`token_bucket`]).
    pub bucket: u32,
    /// The token count the bucket was judged at.
    pub n_tok: u32,
    /// The best config in the canonical order; none where none was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<Winner>,
    /// The best config of any order.
    pub fast: Winner,
}

impl TunedEntry {
    /// The winner for a mode.
    pub fn winner(&self, mode: Mode) -> Option<&Winner> {
        match mode {
            Mode::Strict => self.strict.as_ref(),
            Mode::Fast => Some(&self.fast),
        }
    }
}

/// One GPU's winners.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunedTable {
    /// The device's name as its records have it.
    pub device: String,
    /// Where the figures come from.
    pub kind: Kind,
    /// The winners, ordered by operation, architecture, dimensions, bucket.
    #[serde(default, rename = "entry")]
    pub entries: Vec<TunedEntry>,
}

/// What dispatch should try: a config, and how near the shape it was measured on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice<'a> {
    /// The config with its figures.
    pub winner: &'a Winner,
    /// The shape it won.
    pub entry: &'a TunedEntry,
    /// 0 for the shape asked for; else as [`TunedTable::candidates`] says.
    pub distance: f64,
}

/// The bucket of a token count: 1 to 8 each have their own (a decode step, a verification), above that the next power of two.
pub fn token_bucket(n_tok: u32) -> u32 {
    match n_tok {
        0..=8 => n_tok.max(1),
        _ => n_tok.checked_next_power_of_two().unwrap_or(u32::MAX),
    }
}

/// The records made with a kernel that is not the current build's: to be measured again.
pub fn stale<'r>(records: &'r [Record], current: CurrentHash) -> Vec<&'r Record> {
    records.iter().filter(|r| is_stale(r, current)).collect()
}

fn is_stale(record: &Record, current: CurrentHash) -> bool {
    match (record.kernel_hash(), current(record)) {
        (Some(then), Some(now)) => then != now,
        _ => false,
    }
}

/// Orders by operation, architecture, dimensions and bucket.
type ShapeKey<'r> = (&'r str, &'r str, &'r BTreeMap<String, u64>, u32);

impl TunedTable {
    /// The winners among the records of one device. The rules are at the top of this module's page.
    pub fn from_records(device: &str, records: &[Record], rules: &TuneRules) -> TunedTable {
        let counts = |r: &&Record| {
            r.device.name == device
                && r.kind == rules.kind
                && (can_win(r) || r.status == Status::Incorrect)
                && !is_stale(r, rules.current)
        };
        let mut shapes: BTreeMap<ShapeKey, Vec<&Record>> = BTreeMap::new();
        for r in records.iter().filter(counts) {
            let key = (
                r.op.as_str(),
                r.device.arch.as_str(),
                &r.shape.dims,
                token_bucket(r.shape.n_tok),
            );
            shapes.entry(key).or_default().push(r);
        }
        let entries = shapes
            .iter()
            .filter_map(|(key, records)| entry(key, records, rules))
            .collect();
        TunedTable {
            device: device.into(),
            kind: rules.kind,
            entries,
        }
    }

    /// The configs to try for a shape, nearest first, each config once.
    ///
    /// Only entries of the operation, the architecture and the same set of dimensions count. Two shapes are as far apart as
    /// the sum over their dimensions of |log2(a / b)|, plus twice that of their token buckets (which change what a kernel is
    /// bound by more than a size does); ties go to the smaller dimensions. The caller takes the first config that admits the
    /// shape.
    pub fn candidates(
        &self,
        op: &str,
        arch: &str,
        dims: &BTreeMap<String, u64>,
        n_tok: u32,
        mode: Mode,
    ) -> Vec<Choice<'_>> {
        let bucket = token_bucket(n_tok);
        let same = |e: &&TunedEntry| e.op == op && e.arch == arch && e.dims.keys().eq(dims.keys());
        let mut choices: Vec<Choice> = self
            .entries
            .iter()
            .filter(same)
            .filter_map(|entry| {
                let winner = entry.winner(mode)?;
                let sizes: f64 = entry
                    .dims
                    .values()
                    .zip(dims.values())
                    .map(|(&a, &b)| octaves(a, b))
                    .sum();
                let tokens = octaves(u64::from(entry.bucket), u64::from(bucket));
                Some(Choice {
                    winner,
                    entry,
                    distance: sizes + 2.0 * tokens,
                })
            })
            .collect();
        // Stable: entries are ordered by their dimensions, so of equally near ones the smaller stays first.
        choices.sort_by(|a, b| a.distance.total_cmp(&b.distance));
        let mut seen = std::collections::BTreeSet::new();
        choices.retain(|c| seen.insert(c.winner.config.as_str()));
        choices
    }
}

/// |log2(a / b)|, with 0 taken as 1.
fn octaves(a: u64, b: u64) -> f64 {
    (a.max(1) as f64 / b.max(1) as f64).log2().abs()
}

/// (median, p20, p80) of a record: of its times, or of its modelled cost, which has no spread.
fn figures(r: &Record) -> Option<(f64, f64, f64)> {
    let figures = match r.kind {
        Kind::Measured => r.times.map(|t| (t.median_us, t.p20_us, t.p80_us)),
        Kind::Model => r.model_cost.map(|m| (m.cost, m.cost, m.cost)),
        Kind::Verify | Kind::Peer => None,
    };
    figures.filter(|(m, a, b)| m.is_finite() && a.is_finite() && b.is_finite())
}

/// Whether its bytes held and there is a figure to rank it by.
fn can_win(r: &Record) -> bool {
    r.bytes_held() && figures(r).is_some()
}

fn entry(key: &ShapeKey, records: &[&Record], rules: &TuneRules) -> Option<TunedEntry> {
    let held = records.iter().filter(|r| can_win(r));
    let n_tok = held.map(|r| r.shape.n_tok).max()?;
    let mut latest: BTreeMap<&str, &Record> = BTreeMap::new();
    for r in records.iter().filter(|r| r.shape.n_tok == n_tok) {
        let slot = latest.entry(&r.config).or_insert(r);
        if slot.time <= r.time {
            *slot = r;
        }
    }
    latest.retain(|_, r| can_win(r));
    let strict = best(latest.values().filter(|r| r.order == CANONICAL), rules);
    let fast = best(latest.values(), rules)?;
    let &(op, arch, dims, bucket) = key;
    Some(TunedEntry {
        op: op.into(),
        arch: arch.into(),
        dims: dims.clone(),
        bucket,
        n_tok,
        strict,
        fast,
    })
}

/// Those that contend ([`Record::contends`]), or all where none does.
pub fn contenders<T>(runs: impl Iterator<Item = T>, contends: impl Fn(&T) -> bool) -> Vec<T> {
    let mut runs: Vec<T> = runs.collect();
    if runs.iter().any(&contends) {
        runs.retain(contends);
    }
    runs
}

fn best<'r>(records: impl Iterator<Item = &'r &'r Record>, rules: &TuneRules) -> Option<Winner> {
    let runs = contenders(records.filter_map(|r| figures(r).map(|f| (*r, f))), |(r, _)| {
        r.contends()
    });
    let (_, least) = runs.iter().min_by(|a, b| a.1.0.total_cmp(&b.1.0))?;
    let overlaps = |f: &(f64, f64, f64)| f.1 <= least.2 && least.1 <= f.2;
    let mut tied: Vec<_> = runs.iter().filter(|(_, f)| overlaps(f)).collect();
    tied.sort_by_key(|(r, _)| ((rules.preference)(&r.op, &r.config), &r.config));
    let (r, (median, p20, p80)) = *tied.first()?;
    Some(Winner {
        config: r.config.clone(),
        order: r.order.clone(),
        median: *median,
        p20: *p20,
        p80: *p80,
        tied: tied[1..].iter().map(|(r, _)| r.config.clone()).collect(),
        kernel_hash: r.kernel_hash().map(str::to_string),
    })
}
