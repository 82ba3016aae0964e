//! What the probe of `wgmma` found: tables, the first differences in hexadecimal, JSON.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use half::f16;
use serde::Serialize;
use serde_json::json;

use super::group::{Tile, Type, View};
use super::model::{simulated, variants};
use crate::exit::Exit;
use crate::probe::category::Category;
use crate::probe::report::output;
use crate::provenance::provenance;
use crate::table::{Format, Table};

/// Counts of a part of the groups. A problem is a 16 x 8 tile of D, 128 outputs.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    /// Groups of 1 to 4 instructions.
    pub groups: u64,
    /// Instructions.
    pub instructions: u64,
    /// Tiles of D.
    pub problems: u64,
    /// Those compared with the reference too.
    pub referred: u64,
    /// Those compared with `mma.sync`.
    pub synced: u64,
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
    /// Outputs that the device's `mma.sync` has otherwise.
    pub mma_sync_differs: u64,
    /// Outputs that the reference has otherwise.
    pub reference_differs: u64,
}

impl Counts {
    /// Adds those of another part.
    pub fn add(&mut self, other: &Counts) {
        self.groups += other.groups;
        self.instructions += other.instructions;
        self.problems += other.problems;
        self.referred += other.referred;
        self.synced += other.synced;
        self.nan += other.nan;
        self.infinite += other.infinite;
        self.subnormal += other.subnormal;
        self.zero += other.zero;
        self.simulator_differs += other.simulator_differs;
        self.mma_sync_differs += other.mma_sync_differs;
        self.reference_differs += other.reference_differs;
    }

    /// Outputs that anything has otherwise.
    pub fn differs(&self) -> u64 {
        self.simulator_differs + self.mma_sync_differs + self.reference_differs
    }

    /// Counts what kinds of numbers the outputs are.
    pub fn count_specials(&mut self, ty: Type, d: &[Tile]) {
        for bits in d.as_flattened() {
            let [nan, infinite, subnormal, zero] = match ty {
                Type::S8 => [false, false, false, *bits == 0],
                Type::F16F16 => {
                    let size = f16::from_bits(*bits as u16 & 0x7FFF);
                    let subnormal = (1..0x400).contains(&size.to_bits());
                    [size.is_nan(), size.is_infinite(), subnormal, size.to_bits() == 0]
                }
                Type::Bf16 | Type::F16 => {
                    let x = f32::from_bits(*bits);
                    [x.is_nan(), x.is_infinite(), x.is_subnormal(), x == 0.0]
                }
            };
            self.nan += u64::from(nan);
            self.infinite += u64::from(infinite);
            self.subnormal += u64::from(subnormal);
            self.zero += u64::from(zero);
        }
    }
}

/// By what the groups are counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// What the operands are.
    Category(Category),
    /// N.
    Columns(u32),
    /// Where A is: `registers`, or its layout in shared memory.
    A(String),
    /// B's layout.
    B(String),
    /// Instructions of a group.
    Steps(u32),
    /// Whether C is added.
    ScaleD(u32),
}

impl Key {
    /// All keys of a group.
    pub fn all(view: &View, category: Category) -> [Key; 6] {
        let group = &view.group;
        let a = if group.registers {
            "registers".to_string()
        } else {
            format!("{:?}", group.a.layout)
        };
        [
            Key::Category(category),
            Key::Columns(group.columns),
            Key::A(a),
            Key::B(format!("{:?}", group.b.layout)),
            Key::Steps(group.steps),
            Key::ScaleD(group.accumulate.into()),
        ]
    }

    /// Name and value.
    fn text(&self) -> (&'static str, String) {
        match self {
            Key::Category(category) => ("category", category.to_string()),
            Key::Columns(n) => ("n", n.to_string()),
            Key::A(place) => ("a", place.clone()),
            Key::B(place) => ("b", place.clone()),
            Key::Steps(n) => ("steps", n.to_string()),
            Key::ScaleD(n) => ("scale_d", n.to_string()),
        }
    }
}

/// The first output of a group where the device and something else differ.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    #[serde(rename = "type")]
    ty: Type,
    category: Category,
    index: u64,
    form: String,
    row: usize,
    column: usize,
    a: String,
    b: String,
    c: String,
    device: String,
    mma_sync: Option<String>,
    simulator: String,
    reference: String,
}

impl Finding {
    /// From a group with at least one difference, and the answers to it.
    pub fn new(
        (ty, category, index): (Type, Category, u64),
        view: &View,
        d: &[Tile],
        sync: Option<&[Tile]>,
        simulator: &[Tile],
        reference: &[Tile],
    ) -> Finding {
        let differs = |(t, i): &(usize, usize)| {
            let others = [Some(simulator), Some(reference), sync];
            others.into_iter().flatten().any(|other| other[*t][*i] != d[*t][*i])
        };
        let all = (0..d.len()).flat_map(|t| (0..128).map(move |i| (t, i)));
        let (t, i) = all.into_iter().find(differs).unwrap_or((0, 0));
        let (row, column) = (t % 4 * 16 + i / 8, t / 4 * 8 + i % 8);
        let (steps, columns) = (view.group.steps as usize, view.group.columns as usize);
        let hex = |words: &[u16]| words.iter().map(|x| format!("{x:04x}")).collect::<Vec<_>>().join(" ");
        let rows = |rows: &[[u16; 16]], first: usize, stride: usize| -> String {
            let of_steps = (0..steps).map(|s| hex(&rows[first + s * stride]));
            of_steps.collect::<Vec<_>>().join(" | ")
        };
        Finding {
            ty,
            category,
            index,
            form: format!("{:?}", view.group),
            row,
            column,
            a: rows(view.a, row, 64),
            b: rows(view.b, column, columns),
            c: format!("{:08x}", view.c[t][i]),
            device: format!("{:08x}", d[t][i]),
            mma_sync: sync.map(|sync| format!("{:08x}", sync[t][i])),
            simulator: format!("{:08x}", simulator[t][i]),
            reference: format!("{:08x}", reference[t][i]),
        }
    }

    fn text(&self) -> String {
        format!(
            "{} {}, group {}, row {}, column {}: device {}, mma.sync {}, simulator {}, reference {}\n  {}\n  a {}\n  b {}\n  c {}\n",
            self.ty.name(),
            self.category,
            self.index,
            self.row,
            self.column,
            self.device,
            self.mma_sync.as_deref().unwrap_or("-"),
            self.simulator,
            self.reference,
            self.form,
            self.a,
            self.b,
            self.c
        )
    }
}

/// Everything that a run of random groups found.
pub struct Report {
    device: String,
    seed: u64,
    reference_share: u64,
    /// By type and key.
    pub counts: BTreeMap<(Type, Key), Counts>,
    findings: Vec<Finding>,
    /// Groups tried with other models.
    pub tried: usize,
    /// By type and variant: outputs of those groups that it has otherwise.
    wrong_by_variant: BTreeMap<Type, Vec<(&'static str, u64)>>,
}

impl Report {
    /// Nothing found yet.
    pub fn new(device: &str, seed: u64, reference_share: u64) -> Report {
        Report {
            device: device.to_string(),
            seed,
            reference_share,
            counts: BTreeMap::new(),
            findings: Vec::new(),
            tried: 0,
            wrong_by_variant: BTreeMap::new(),
        }
    }

    /// Keeps a finding unless there are `most` of its type and category.
    pub fn keep(&mut self, finding: Finding, most: usize) {
        let same = |f: &&Finding| f.ty == finding.ty && f.category == finding.category;
        if self.findings.iter().filter(same).count() < most {
            self.findings.push(finding);
        }
    }

    /// The sum over all groups of a type.
    #[cfg(test)]
    pub fn of(&self, ty: Type) -> Counts {
        let mut sum = Counts::default();
        for ((of, key), counts) in &self.counts {
            if *of == ty && matches!(key, Key::Category(_)) {
                sum.add(counts);
            }
        }
        sum
    }

    /// By variant: outputs of the groups tried that it has otherwise.
    #[cfg(test)]
    pub fn wrong_by_variant(&self, ty: Type) -> &[(&'static str, u64)] {
        self.wrong_by_variant.get(&ty).map_or(&[], Vec::as_slice)
    }

    /// Tries a group that differs with every variant of the model.
    pub fn try_variants(&mut self, ty: Type, view: &View, d: &[Tile]) {
        self.tried += 1;
        let all = variants(ty);
        let wrong_by = self
            .wrong_by_variant
            .entry(ty)
            .or_insert_with(|| all.iter().map(|(name, _)| (*name, 0)).collect());
        for ((_, core), (_, wrong)) in all.iter().zip(wrong_by) {
            *wrong += differing(d, &simulated(*core, ty, view));
        }
    }

    /// Prints and writes; the exit code says whether anything differs.
    ///
    /// # Errors
    /// Stdout or the file.
    pub fn finish(self, json_path: Option<&Path>) -> Result<Exit> {
        let mut table = Table::new(&[
            "type",
            "by",
            "value",
            "groups",
            "instructions",
            "problems",
            "outputs",
            "nan",
            "infinite",
            "subnormal",
            "zero",
            "simulator_differs",
            "mma_sync_outputs",
            "mma_sync_differs",
            "reference_outputs",
            "reference_differs",
        ]);
        let mut sum = Counts::default();
        let mut add = |ty: &str, by: &str, value: &str, c: &Counts| {
            let numbers = [
                c.groups,
                c.instructions,
                c.problems,
                c.problems * 128,
                c.nan,
                c.infinite,
                c.subnormal,
                c.zero,
                c.simulator_differs,
                c.synced * 128,
                c.mma_sync_differs,
                c.referred * 128,
                c.reference_differs,
            ];
            let names = [ty, by, value].map(str::to_string);
            table.row(names.into_iter().chain(numbers.map(|n| n.to_string())));
        };
        let (mut tallies, mut forms) = (Vec::new(), Vec::new());
        for ((ty, key), counts) in &self.counts {
            let (by, value) = key.text();
            add(ty.name(), by, &value, counts);
            if let Key::Category(category) = key {
                sum.add(counts);
                tallies.push(json!({"type": ty, "category": category, "counts": counts}));
            } else {
                forms.push(json!({"type": ty, "by": by, "value": value, "counts": counts}));
            }
        }
        add("all", "", "", &sum);
        let mut text = table.render(Format::Text);
        self.findings.iter().for_each(|finding| text += &finding.text());
        if self.tried > 0 {
            let mut tried = Table::new(&["type", "model", "outputs_it_has_otherwise"]);
            for (ty, variants) in &self.wrong_by_variant {
                for (name, wrong) in variants {
                    tried.row([ty.name().to_string(), name.to_string(), wrong.to_string()]);
                }
            }
            text += &format!("\n{} groups that differ, by other models:\n", self.tried);
            text += &tried.render(Format::Text);
        }
        text += &format!(
            "{} problems of 128 outputs, of {} instructions in {} groups, seed {}, on {}: {} differences\n",
            sum.problems,
            sum.instructions,
            sum.groups,
            self.seed,
            self.device,
            sum.differs()
        );
        let json = json!({
            "what": "wgmma", "device": self.device, "seed": self.seed, "reference_share": self.reference_share,
            "commit": provenance().commit, "dirty": provenance().dirty,
            "tallies": tallies, "forms": forms, "findings": self.findings,
            "tried": self.tried, "variants": self.wrong_by_variant.values().collect::<Vec<_>>(),
        });
        output(&text, &json, json_path)?;
        Ok(if sum.differs() == 0 { Exit::Good } else { Exit::Mismatch })
    }
}

/// Outputs that are not the same.
pub fn differing(a: &[Tile], b: &[Tile]) -> u64 {
    let pairs = a.as_flattened().iter().zip(b.as_flattened());
    pairs.filter(|(a, b)| a != b).count() as u64
}
