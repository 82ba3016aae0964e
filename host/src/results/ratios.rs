//! How the strict winners stand against the peer: a ratio a case, and geometric means over the groups of cases that are asked
//! for something.

use super::record::{Kind, Record};
use super::tuned::CANONICAL;
use std::collections::BTreeMap;

/// A case's strict winner against the peer of the same run.
#[derive(Debug, Clone, PartialEq)]
pub struct Ratio {
    /// The operation.
    pub op: String,
    /// The dimensions.
    pub dims: BTreeMap<String, u64>,
    /// Tokens: rows of the product.
    pub n_tok: u32,
    /// The winner.
    pub config: String,
    /// Its median in microseconds.
    pub us: f64,
    /// The peer's median over it: above 1 is faster than the peer.
    pub ratio: f64,
    /// The same of cold launches, where they were timed.
    pub cold: Option<f64>,
}

/// Ratios with something in common.
#[derive(Debug, Clone, PartialEq)]
pub struct RatioGroup {
    /// What they have in common: `M >= 256`.
    pub name: &'static str,
    /// How many.
    pub rows: usize,
    /// Their geometric mean.
    pub mean: f64,
    /// The least.
    pub least: f64,
    /// How many are under [`LEAST`].
    pub under: usize,
    /// What the geometric mean should be at least; none where nothing is asked.
    pub wanted: Option<f64>,
}

/// No row should be under this.
pub const LEAST: f64 = 0.9;

/// The strict winners of the cases with a ratio to a peer: of each config the latest record, the least median of those whose
/// bytes held. Ordered by operation, dimensions and tokens.
pub fn ratios<'r>(records: impl IntoIterator<Item = &'r Record>) -> Vec<Ratio> {
    type Key<'r> = (&'r str, &'r BTreeMap<String, u64>, u32);
    let mut cases: BTreeMap<Key, BTreeMap<&str, &Record>> = BTreeMap::new();
    let counts = |r: &&Record| r.kind == Kind::Measured && r.order == CANONICAL && r.bytes_held();
    for r in records.into_iter().filter(counts).filter(|r| r.ratio_to_peer.is_some()) {
        let case = cases.entry((&r.op, &r.shape.dims, r.shape.n_tok)).or_default();
        let slot = case.entry(&r.config).or_insert(r);
        if slot.time <= r.time {
            *slot = r;
        }
    }
    let row = |(key, configs): (Key, BTreeMap<&str, &Record>)| {
        let timed = configs.values().filter_map(|r| Some((*r, r.times?.median_us)));
        let (r, us) = timed.min_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(Ratio {
            op: key.0.into(),
            dims: key.1.clone(),
            n_tok: key.2,
            config: r.config.clone(),
            us,
            ratio: r.ratio_to_peer?,
            cold: r.cold_ratio_to_peer,
        })
    };
    cases.into_iter().filter_map(row).collect()
}

/// The group a product is in. Narrow ones (N = 32 and 64) are one by themselves at every M, and in no other.
fn group(r: &Ratio) -> (usize, &'static str, Option<f64>) {
    match (r.dims.get("n"), r.n_tok) {
        (Some(32 | 64), _) => (1, "N = 32, 64", Some(1.3)),
        (_, 256..) => (0, "M >= 256", Some(1.0)),
        (_, 0..=32) => (2, "M <= 32", Some(1.1)),
        _ => (3, "32 < M < 256", None),
    }
}

/// The groups that have rows, in a fixed order.
pub fn groups(rows: &[Ratio]) -> Vec<RatioGroup> {
    let mut found: BTreeMap<usize, RatioGroup> = BTreeMap::new();
    for r in rows {
        let (place, name, wanted) = group(r);
        let g = found.entry(place).or_insert(RatioGroup {
            name,
            rows: 0,
            mean: 0.0,
            least: f64::INFINITY,
            under: 0,
            wanted,
        });
        g.rows += 1;
        g.mean += r.ratio.ln();
        g.least = g.least.min(r.ratio);
        g.under += usize::from(r.ratio < LEAST);
    }
    let mean = |mut g: RatioGroup| {
        g.mean = (g.mean / g.rows as f64).exp();
        g
    };
    found.into_values().map(mean).collect()
}
