//! Whether two sweeps of the same cases name the same winners: the measure of the measuring.

use super::record::{Kind, Mode, Record};
use super::tuned::{CANONICAL, contenders};
use std::collections::BTreeMap;

/// A case and the mode whose winner is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WinnerKey {
    /// The device's name.
    pub device: String,
    /// The operation.
    pub op: String,
    /// The dimensions.
    pub dims: BTreeMap<String, u64>,
    /// Tokens.
    pub n_tok: u32,
    /// The mode.
    pub mode: Mode,
}

/// What two sweeps say of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// The same winner.
    Same,
    /// Different ones, of which at least one sweep says that they cannot be told apart: their intervals p20..p80 overlap.
    Tie,
    /// Different ones.
    Differ,
}

/// A case that both sweeps have.
#[derive(Debug, Clone, PartialEq)]
pub struct AgreeRow {
    /// The case.
    pub key: WinnerKey,
    /// The first sweep's winner.
    pub a: String,
    /// The second's.
    pub b: String,
    /// What they say together.
    pub agreement: Agreement,
    /// How much slower than its own winner a sweep found the other's, as a share; the smaller of the two. None where neither
    /// timed the other's.
    pub gap: Option<f64>,
}

/// Two sweeps' winners.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Agreed {
    /// The cases both have, ordered.
    pub rows: Vec<AgreeRow>,
    /// Cases only the first has a winner of.
    pub only_a: usize,
    /// Cases only the second has a winner of.
    pub only_b: usize,
}

impl Agreed {
    /// The cases of an agreement.
    pub fn count(&self, agreement: Agreement) -> usize {
        self.rows.iter().filter(|row| row.agreement == agreement).count()
    }

    /// The share of the cases with the same winner or a tie; none without cases.
    pub fn share(&self) -> Option<f64> {
        let differ = self.count(Agreement::Differ);
        (!self.rows.is_empty()).then(|| 1.0 - differ as f64 / self.rows.len() as f64)
    }
}

/// Median, p20 and p80 by config, and whether it contends.
type Figures<'r> = BTreeMap<&'r str, (f64, f64, f64, bool)>;

/// Compares the winners of two sets of records: measured times whose bytes held, of each config the latest. A mode that admits
/// all the same configs as the strict one of a case is not a case of its own.
pub fn agree(a: &[Record], b: &[Record]) -> Agreed {
    let (a, mut b) = (figures(a), figures(b));
    let mut out = Agreed::default();
    for (key, first) in a {
        let Some(second) = b.remove(&key) else {
            out.only_a += 1;
            continue;
        };
        let (Some(w), Some(v)) = (winner(&first), winner(&second)) else {
            continue;
        };
        let tied = |all: &Figures, own: &str, other: &str| {
            let (Some(own), Some(other)) = (all.get(own), all.get(other)) else {
                return false;
            };
            own.1 <= other.2 && other.1 <= own.2
        };
        let agreement = match w == v {
            true => Agreement::Same,
            false if tied(&first, w, v) || tied(&second, v, w) => Agreement::Tie,
            false => Agreement::Differ,
        };
        let behind = |all: &Figures, own: &str, other: &str| Some(all.get(other)?.0 / all.get(own)?.0 - 1.0);
        let gaps = [behind(&first, w, v), behind(&second, v, w)];
        out.rows.push(AgreeRow {
            a: w.to_string(),
            b: v.to_string(),
            agreement,
            gap: gaps.into_iter().flatten().min_by(f64::total_cmp),
            key,
        });
    }
    out.only_b = b.len();
    out
}

fn winner<'r>(figures: &Figures<'r>) -> Option<&'r str> {
    let rivals = contenders(figures.iter(), |(_, f)| f.3);
    let least = rivals.into_iter().min_by(|a, b| a.1.0.total_cmp(&b.1.0));
    least.map(|(config, _)| *config)
}

fn figures(records: &[Record]) -> BTreeMap<WinnerKey, Figures<'_>> {
    let mut latest: BTreeMap<(WinnerKey, &str), &Record> = BTreeMap::new();
    let counts = |r: &&Record| r.kind == Kind::Measured && r.times.is_some() && r.bytes_held();
    for r in records.iter().filter(counts) {
        let strict = (r.order == CANONICAL).then_some(Mode::Strict);
        for mode in [strict, Some(Mode::Fast)].into_iter().flatten() {
            let key = WinnerKey {
                device: r.device.name.clone(),
                op: r.op.clone(),
                dims: r.shape.dims.clone(),
                n_tok: r.shape.n_tok,
                mode,
            };
            let slot = latest.entry((key, &r.config)).or_insert(r);
            if slot.time <= r.time {
                *slot = r;
            }
        }
    }
    let mut cases: BTreeMap<WinnerKey, Figures> = BTreeMap::new();
    for ((key, config), r) in latest {
        if let Some(t) = r.times {
            cases
                .entry(key)
                .or_default()
                .insert(config, (t.median_us, t.p20_us, t.p80_us, r.contends()));
        }
    }
    // Fast cases without a config of another order say nothing that the strict ones do not.
    let twins: Vec<WinnerKey> = cases
        .iter()
        .filter(|(key, all)| {
            let strict = WinnerKey {
                mode: Mode::Strict,
                ..(*key).clone()
            };
            key.mode == Mode::Fast && cases.get(&strict).is_some_and(|s| s.len() == all.len())
        })
        .map(|(key, _)| key.clone())
        .collect();
    for key in twins {
        cases.remove(&key);
    }
    cases
}
