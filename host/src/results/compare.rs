//! Two sets of records beside each other: which cases became slower, which faster, which cannot be told apart.

use super::measured::Times;
use super::record::{Kind, Mode, Record};
use std::collections::BTreeMap;

/// What makes two records the same case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaseKey {
    /// The operation.
    pub op: String,
    /// The device's name.
    pub device: String,
    /// The dimensions.
    pub dims: BTreeMap<String, u64>,
    /// Tokens.
    pub n_tok: u32,
    /// The mode.
    pub mode: Mode,
    /// The config's id.
    pub config: String,
}

impl CaseKey {
    fn of(r: &Record) -> CaseKey {
        CaseKey {
            op: r.op.clone(),
            device: r.device.name.clone(),
            dims: r.shape.dims.clone(),
            n_tok: r.shape.n_tok,
            mode: r.mode,
            config: r.config.clone(),
        }
    }
}

/// What the two times of a case say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Their intervals p20..p80 overlap.
    Tie,
    /// The second is faster.
    Faster,
    /// The second is slower.
    Slower,
}

/// One case that both sets have.
#[derive(Debug, Clone, PartialEq)]
pub struct CompareRow {
    /// The case.
    pub case: CaseKey,
    /// The first set's times.
    pub a: Times,
    /// The second set's times.
    pub b: Times,
    /// The second median over the first: above 1 is slower.
    pub ratio: f64,
    /// What the times say.
    pub verdict: Verdict,
}

/// Two sets of records, case by case.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// The cases both have, ordered.
    pub rows: Vec<CompareRow>,
    /// The cases only the first has.
    pub only_a: Vec<CaseKey>,
    /// The cases only the second has.
    pub only_b: Vec<CaseKey>,
}

/// Compares the measured times of two sets of records. Of several records of a case the latest counts; records whose bytes
/// did not hold, and modelled costs, do not.
pub fn compare(a: &[Record], b: &[Record]) -> Comparison {
    let (a, mut b) = (latest(a), latest(b));
    let mut out = Comparison::default();
    for (case, (_, a)) in a {
        match b.remove(&case) {
            Some((_, b)) => {
                let ratio = b.median_us / a.median_us;
                let overlap = a.p20_us <= b.p80_us && b.p20_us <= a.p80_us;
                let verdict = match (overlap, ratio > 1.0) {
                    (true, _) => Verdict::Tie,
                    (false, true) => Verdict::Slower,
                    (false, false) => Verdict::Faster,
                };
                out.rows.push(CompareRow {
                    case,
                    a,
                    b,
                    ratio,
                    verdict,
                });
            }
            None => out.only_a.push(case),
        }
    }
    out.only_b = b.into_keys().collect();
    out
}

fn latest(records: &[Record]) -> BTreeMap<CaseKey, (&str, Times)> {
    let mut cases: BTreeMap<CaseKey, (&str, Times)> = BTreeMap::new();
    for r in records.iter().filter(|r| r.kind == Kind::Measured && r.bytes_held()) {
        let Some(times) = r.times else { continue };
        let slot = cases.entry(CaseKey::of(r)).or_insert((&r.time, times));
        if slot.0 <= r.time.as_str() {
            *slot = (&r.time, times);
        }
    }
    cases
}
