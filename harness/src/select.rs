//! From the command line to the list of cases: shape files or given dimensions, axes, globs, shards.

use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Result, bail};
use host::op::{Case, Operation};
use host::shapes::ShapeSet;

use crate::cli::{Selection, Shard};
use crate::globs::Globs;

/// One operation at one size: what a sweep checks and times in one go. Entries of several shape files with equal sizes are
/// one such, because they would give one result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// The case, under its first name.
    pub case: Case,
    /// Every name it has in the shape files: `qwen3-8b/ffn_down`.
    pub labels: Vec<String>,
}

impl Selected {
    fn new(case: Case) -> Selected {
        let labels = vec![format!("{}/{}", case.model, case.name)];
        Selected { case, labels }
    }

    /// The first name, and how many more there are.
    pub fn label(&self) -> String {
        match self.labels.len() {
            0 | 1 => format!("{}/{}", self.case.model, self.case.name),
            more => format!("{} +{}", self.labels[0], more - 1),
        }
    }

    /// What decides whether two cases are the same one: everything but the names.
    pub fn key(&self) -> String {
        size_key(&self.case)
    }

    /// The names a glob may match: operation, id, sizes, labels, and each label's two halves.
    pub fn names(&self) -> Vec<String> {
        let mut names = vec![
            self.case.op.clone(),
            self.case.typed_op(),
            self.case.id(),
            self.key(),
            self.case.dims_text(),
        ];
        for l in &self.labels {
            names.push(format!("{}/{l}", self.case.op));
            names.push(l.clone());
            names.extend(l.split('/').map(String::from));
        }
        names
    }

    /// The arguments that select this case alone.
    pub fn arguments(&self) -> Vec<String> {
        vec![
            host::ops::record_name(&self.case),
            "--shape".into(),
            self.case.dims_text(),
        ]
    }
}

/// A case's sizes with its operation, without its names: `q8_matmul/n=4096,k=4096,n_tok=1`.
pub fn size_key(case: &Case) -> String {
    Case {
        model: String::new(),
        name: String::new(),
        ..case.clone()
    }
    .id()
    .replacen("///", "/", 1)
}

/// `--shape`: a file or its name, or dimensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShapeArg {
    /// A path, or the stem of a file in `shapes/`.
    File(String),
    /// Given dimensions; `m` is another name of `n_tok`.
    Dims(Vec<(String, u64)>),
}

impl FromStr for ShapeArg {
    type Err = String;
    fn from_str(s: &str) -> Result<ShapeArg, String> {
        if !s.contains('=') {
            return if s.is_empty() {
                Err("an empty shape".into())
            } else {
                Ok(ShapeArg::File(s.into()))
            };
        }
        let mut dims: Vec<(String, u64)> = Vec::new();
        for part in s.split(',') {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| format!("`{part}` in `{s}` is not NAME=NUMBER"))?;
            let value: u64 = value
                .parse()
                .map_err(|_| format!("`{value}` in `{s}` is no whole number"))?;
            let name = axis_name(name);
            if dims.iter().any(|(n, _)| *n == name) {
                return Err(format!("`{name}` is given twice in `{s}`"));
            }
            dims.push((name, value));
        }
        Ok(ShapeArg::Dims(dims))
    }
}

/// `-a n_tok=1,2,8` or `-a n=1024:4096:256`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// The dimension, or `n_tok`.
    pub name: String,
    /// Its values, in the order given.
    pub values: Vec<u64>,
}

/// More values than this on one axis are taken for a slip of the pen.
const MAX_VALUES: u64 = 10_000;

/// More cases than this are no sweep that ends.
const MAX_CASES: usize = 20_000;

fn axis_name(name: &str) -> String {
    let name = name.trim();
    if name == "m" { "n_tok".into() } else { name.into() }
}

impl FromStr for Axis {
    type Err = String;
    fn from_str(s: &str) -> Result<Axis, String> {
        let (name, list) = s
            .split_once('=')
            .ok_or_else(|| format!("`{s}` is not AXIS=VALUES, such as n_tok=1,2,8"))?;
        let number = |v: &str| {
            v.trim()
                .parse::<u64>()
                .map_err(|_| format!("`{v}` in `{s}` is no whole number"))
        };
        let mut values = Vec::new();
        for part in list.split(',') {
            let ends: Vec<&str> = part.split(':').collect();
            let (first, last, step) = match ends[..] {
                [one] => (number(one)?, number(one)?, 1),
                [a, b] => (number(a)?, number(b)?, 1),
                [a, b, step] => (number(a)?, number(b)?, number(step)?),
                _ => return Err(format!("`{part}` in `{s}` is no range; write FIRST:LAST:STEP")),
            };
            if step == 0 || last < first || (last - first) / step >= MAX_VALUES {
                return Err(format!(
                    "`{part}` in `{s}`: the step is at least 1, last at least first, and a range has at most {MAX_VALUES} values"
                ));
            }
            values.extend((0..=(last - first) / step).map(|i| first + i * step));
        }
        Ok(Axis {
            name: axis_name(name),
            values,
        })
    }
}

/// The shape files: the folder given, else those built in.
pub fn shape_set(dir: Option<&Path>) -> Result<ShapeSet> {
    Ok(match dir {
        Some(dir) => ShapeSet::load(dir)?,
        None => ShapeSet::embedded()?,
    })
}

/// The operations a selection can mean.
pub type Ops = [&'static dyn Operation];

/// Every case the selection names, before globs and shards: shape files or given dimensions, times axes; equal sizes merged.
///
/// # Errors
/// A shape file that cannot be read, dimensions that fit no operation, an axis that no case has.
pub fn cases(sel: &Selection, ops: &Ops) -> Result<Vec<Selected>> {
    let set = shape_set(sel.shapes_dir.as_deref())?;
    let globs = Globs::new(&sel.globs)?;
    let mut found = Merged::default();
    let mut from_set = |set: &ShapeSet| {
        for op in ops {
            let cases = op.cases(set);
            globs
                .of_dtypes(*op, cases)
                .into_iter()
                .for_each(|c| merge(&mut found, Selected::new(c)));
        }
    };
    if sel.shape.is_empty() {
        from_set(&set);
    }
    for arg in &sel.shape {
        if let ShapeArg::File(name) = arg {
            from_set(&shape_file(&set, name)?);
        }
    }
    // Given sizes are for the operations that are named, so that their refusals are heard; for all where none is.
    let mut meant: Vec<&'static dyn Operation> = ops.to_vec();
    if ops.iter().any(|op| globs.name(*op)) {
        meant.retain(|op| globs.name(*op));
    }
    for arg in &sel.shape {
        if let ShapeArg::Dims(given) = arg {
            given_dims(given, &meant, &globs)?
                .into_iter()
                .for_each(|c| merge(&mut found, Selected::new(c)));
        }
    }
    let mut cases = found.cases;
    for axis in &sel.axis {
        cases = override_axis(cases, axis)?;
    }
    Ok(cases)
}

/// Cases of different sizes, in the order they came, with where each is by its key.
#[derive(Default)]
struct Merged {
    cases: Vec<Selected>,
    places: HashMap<String, usize>,
}

fn merge(found: &mut Merged, new: Selected) {
    let place = *found.places.entry(new.key()).or_insert(found.cases.len());
    match found.cases.get_mut(place) {
        Some(known) => {
            for l in new.labels {
                if !known.labels.contains(&l) {
                    known.labels.push(l);
                }
            }
        }
        None => found.cases.push(new),
    }
}

fn shape_file(set: &ShapeSet, name: &str) -> Result<ShapeSet> {
    let path = Path::new(name);
    if let Some(model) = set.model(name) {
        return Ok(ShapeSet {
            models: vec![model.clone()],
        });
    }
    if path.extension().is_some_and(|e| e == "toml") || path.exists() {
        return Ok(ShapeSet::load_file(path)?);
    }
    let known: Vec<&str> = set.models.iter().map(|m| m.name.as_str()).collect();
    bail!(
        "`{name}` is no shape file; known are {} (or give a path, or dimensions such as n=4096,k=14336)",
        known.join(", ")
    )
}

fn given_dims(given: &[(String, u64)], ops: &Ops, globs: &Globs) -> Result<Vec<Case>> {
    let mut refusals = Vec::new();
    let mut cases = Vec::new();
    for op in ops {
        match op.custom_case(given) {
            Ok(case) => cases.extend(globs.of_dtypes(*op, vec![case])),
            Err(e) => refusals.push(format!("{}: {e}", op.name())),
        }
    }
    if cases.is_empty() {
        let given: Vec<String> = given.iter().map(|(d, v)| format!("{d}={v}")).collect();
        bail!("no operation takes {}. {}", given.join(","), refusals.join("; "));
    }
    Ok(cases)
}

/// Gives an axis other values. Cases of operations that have no such axis are left out: the axis asks for those that have it.
fn override_axis(cases: Vec<Selected>, axis: &Axis) -> Result<Vec<Selected>> {
    if cases.len().saturating_mul(axis.values.len()) > MAX_CASES {
        bail!(
            "{} cases times {} values of {} are more than {MAX_CASES}: name fewer shapes or values",
            cases.len(),
            axis.values.len(),
            axis.name
        );
    }
    let mut out = Merged::default();
    let has = |c: &&Selected| c.case.dim(&axis.name).is_some();
    if let (Some(first), None) = (cases.first(), cases.iter().find(has)) {
        let mut axes: Vec<&str> = cases
            .iter()
            .flat_map(|c| &c.case.dims)
            .map(|(d, _)| d.as_str())
            .collect();
        axes.sort_unstable();
        axes.dedup();
        let what = if cases.iter().all(|c| c.case.op == first.case.op) {
            first.case.op.as_str()
        } else {
            "any operation"
        };
        bail!("`{}` is no axis of {what}; the axes are {}", axis.name, axes.join(", "));
    }
    for known in cases.iter().filter(has) {
        for &v in &axis.values {
            let mut new = known.clone();
            let Some(size) = new.case.dims.iter_mut().find(|(d, _)| *d == axis.name) else {
                continue;
            };
            let changed = size.1 != v;
            size.1 = v;
            if changed && axis.name != "n_tok" {
                // No longer the size that the file's name stands for.
                new.case.model = "custom".into();
                new.case.name = "custom".into();
                new.labels.clear();
            }
            merge(&mut out, new);
        }
    }
    Ok(out.cases)
}

/// Keeps the cases a glob matches.
pub fn matching(cases: Vec<Selected>, globs: &Globs) -> Vec<Selected> {
    cases.into_iter().filter(|c| globs.any(&c.names())).collect()
}

/// Whether the case belongs to the shard: by a hash of its id (FNV-1a), so that adding a case moves no other.
pub fn in_shard(id: &str, shard: Shard) -> bool {
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    // FNV's low bits are weak for short strings: fold the high half in.
    (hash ^ (hash >> 32)) % shard.count == shard.index
}
