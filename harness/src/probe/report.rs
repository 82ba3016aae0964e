//! What a probe found: tables, the first differences in hexadecimal, JSON.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;

use super::category::Category;
use super::corners::Corner;
use super::device::Answer;
use super::model::{simulated, variants};
use super::problem::{Kind, Problem};
use crate::exit::Exit;
use crate::provenance::provenance;
use crate::table::{Format, Table, print};

/// Counts of one type and category. Outputs are 128 a problem.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Tally {
    /// Problems asked.
    pub problems: u64,
    /// Those compared with the reference too.
    pub referred: u64,
    /// Outputs that are NaN.
    pub nan: u64,
    /// Outputs that are infinite.
    pub infinite: u64,
    /// Outputs that are subnormal.
    pub subnormal: u64,
    /// Outputs that are zero.
    pub zero: u64,
    /// Outputs that the simulator's model has otherwise.
    pub simulator_differs: u64,
    /// Outputs that the reference has otherwise.
    pub reference_differs: u64,
}

impl Tally {
    /// Adds the counts of another part.
    pub fn add(&mut self, other: &Tally) {
        self.problems += other.problems;
        self.referred += other.referred;
        self.nan += other.nan;
        self.infinite += other.infinite;
        self.subnormal += other.subnormal;
        self.zero += other.zero;
        self.simulator_differs += other.simulator_differs;
        self.reference_differs += other.reference_differs;
    }

    /// Counts what kinds of numbers the outputs are.
    pub fn count_specials(&mut self, answer: &Answer) {
        for bits in answer {
            let x = f32::from_bits(*bits);
            self.nan += u64::from(x.is_nan());
            self.infinite += u64::from(x.is_infinite());
            self.subnormal += u64::from(x.is_subnormal());
            self.zero += u64::from(x == 0.0);
        }
    }
}

/// The first output of a problem where the device and a model differ.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    kind: Kind,
    category: Category,
    index: u64,
    row: usize,
    column: usize,
    a: String,
    b: String,
    c: String,
    device: String,
    simulator: String,
    reference: String,
}

impl Finding {
    /// From a problem with at least one difference.
    pub fn new(
        (kind, category, index): (Kind, Category, u64),
        p: &Problem,
        answer: &Answer,
        simulator: &Answer,
        reference: &Answer,
    ) -> Finding {
        let differs = |i: &usize| answer[*i] != simulator[*i] || answer[*i] != reference[*i];
        let i = (0..128).find(differs).unwrap_or(0);
        let (row, column) = (i / 8, i % 8);
        let hex = |words: &[u16]| words.iter().map(|x| format!("{x:04x}")).collect::<Vec<_>>().join(" ");
        Finding {
            kind,
            category,
            index,
            row,
            column,
            a: hex(&p.a[row * 16..][..16]),
            b: hex(&p.b[column * 16..][..16]),
            c: format!("{:08x}", p.c[i]),
            device: format!("{:08x}", answer[i]),
            simulator: format!("{:08x}", simulator[i]),
            reference: format!("{:08x}", reference[i]),
        }
    }

    fn text(&self) -> String {
        let Finding {
            kind,
            category,
            index,
            row,
            column,
            a,
            b,
            c,
            device,
            simulator,
            reference,
        } = self;
        format!(
            "{} {category}, problem {index}, row {row}, column {column}: device {device}, simulator {simulator}, reference {reference}\n  \
             a {a}\n  b {b}\n  c {c}\n",
            kind.name()
        )
    }
}

/// Everything that a run of random problems found.
pub struct Report {
    device: String,
    seed: u64,
    reference_share: u64,
    /// By type and category.
    pub tallies: BTreeMap<(Kind, Category), Tally>,
    findings: Vec<Finding>,
    /// Problems tried with other models.
    pub tried: usize,
    /// By variant: outputs of those problems that it has otherwise.
    wrong_by_variant: Vec<(&'static str, u64)>,
}

impl Report {
    /// Nothing found yet.
    pub fn new(device: &str, seed: u64, reference_share: u64) -> Report {
        Report {
            device: device.to_string(),
            seed,
            reference_share,
            tallies: BTreeMap::new(),
            findings: Vec::new(),
            tried: 0,
            wrong_by_variant: variants().into_iter().map(|(name, _)| (name, 0)).collect(),
        }
    }

    /// Keeps a finding unless there are `most` of its type and category.
    pub fn keep(&mut self, finding: Finding, most: usize) {
        let same = |f: &&Finding| f.kind == finding.kind && f.category == finding.category;
        if self.findings.iter().filter(same).count() < most {
            self.findings.push(finding);
        }
    }

    /// By variant: outputs of the problems tried that it has otherwise.
    #[cfg(test)]
    pub fn wrong_by_variant(&self) -> &[(&'static str, u64)] {
        &self.wrong_by_variant
    }

    /// Tries a problem that differs with every variant of the model.
    pub fn try_variants(&mut self, kind: Kind, p: &Problem, answer: &Answer) {
        self.tried += 1;
        for ((_, core), (_, wrong)) in variants().into_iter().zip(&mut self.wrong_by_variant) {
            let model = simulated(core, kind, p);
            *wrong += answer.iter().zip(&model).filter(|(a, b)| a != b).count() as u64;
        }
    }

    /// Prints and writes; the exit code says whether anything differs.
    ///
    /// # Errors
    /// Stdout or the file.
    pub fn finish(self, json_path: Option<&Path>) -> Result<Exit> {
        let mut table = Table::new(&[
            "type",
            "category",
            "problems",
            "outputs",
            "nan",
            "infinite",
            "subnormal",
            "zero",
            "simulator_differs",
            "reference_outputs",
            "reference_differs",
        ]);
        let mut sum = Tally::default();
        for ((kind, category), t) in &self.tallies {
            sum.add(t);
            table.row(row(kind.name(), &category.to_string(), t));
        }
        table.row(row("all", "all", &sum));
        let differ = sum.simulator_differs + sum.reference_differs;
        let mut text = table.render(Format::Text);
        for finding in &self.findings {
            text += &finding.text();
        }
        let mut tried = Table::new(&["model", "outputs_it_has_otherwise"]);
        for (name, wrong) in &self.wrong_by_variant {
            tried.row([name.to_string(), wrong.to_string()]);
        }
        if self.tried > 0 {
            text += &format!(
                "\n{} problems that differ, by other models (outputs of 128 each):\n",
                self.tried
            );
            text += &tried.render(Format::Text);
        }
        text += &format!(
            "{} problems, {} outputs, seed {}, on {}: {differ} differences\n",
            sum.problems,
            sum.problems * 128,
            self.seed,
            self.device
        );
        let rows: Vec<_> = self
            .tallies
            .iter()
            .map(|((k, c), t)| json!({"type": k, "category": c, "counts": t}))
            .collect();
        let json = json!({
            "device": self.device, "seed": self.seed, "reference_share": self.reference_share,
            "commit": provenance().commit, "dirty": provenance().dirty,
            "tallies": rows, "findings": self.findings, "tried": self.tried, "variants": self.wrong_by_variant,
        });
        output(&text, &json, json_path)?;
        Ok(if differ == 0 { Exit::Good } else { Exit::Mismatch })
    }
}

fn row(kind: &str, category: &str, t: &Tally) -> Vec<String> {
    let counts = [
        t.problems,
        t.problems * 128,
        t.nan,
        t.infinite,
        t.subnormal,
        t.zero,
        t.simulator_differs,
        t.referred * 128,
        t.reference_differs,
    ];
    [kind.to_string(), category.to_string()]
        .into_iter()
        .chain(counts.map(|c| c.to_string()))
        .collect()
}

/// The text on stdout, and JSON in its file; only JSON if that is stdout.
pub(super) fn output(text: &str, json: &serde_json::Value, path: Option<&Path>) -> Result<()> {
    let pretty = serde_json::to_string_pretty(json)? + "\n";
    match path {
        Some(path) if path.as_os_str() == "-" => return print(&pretty),
        Some(path) => std::fs::write(path, pretty).with_context(|| format!("cannot write {}", path.display()))?,
        None => {}
    }
    print(text)
}

/// Prints the corners; the exit code says whether a model differs anywhere.
///
/// # Errors
/// Stdout or the file.
pub fn corners(device: &str, corners: &[Corner], json_path: Option<&Path>) -> Result<Exit> {
    let mut table = Table::new(&["topic", "type", "case", "device", "simulator", "reference", "agree"]);
    for c in corners {
        let agree = if c.agrees() { "yes" } else { "NO" };
        let cells = [
            c.topic,
            c.kind.name(),
            &c.case,
            &c.device,
            &c.simulator,
            &c.reference,
            agree,
        ];
        table.row(cells);
    }
    let differ = corners.iter().filter(|c| !c.agrees()).count();
    let text = table.render(Format::Markdown) + &format!("{} corners on {device}: {differ} differ\n", corners.len());
    let json = json!({
        "device": device, "commit": provenance().commit, "dirty": provenance().dirty, "corners": corners,
    });
    output(&text, &json, json_path)?;
    Ok(if differ == 0 { Exit::Good } else { Exit::Mismatch })
}
