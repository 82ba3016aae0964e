//! Globs of the command line: over operations, alone or with a dtype, over cases and configs.

use anyhow::{Context, Result, bail};
use globset::{Glob, GlobSet, GlobSetBuilder};
use host::op::{Case, Operation, typed};

use crate::select::Selected;

/// Globs of the command line; an empty list matches everything.
#[derive(Clone, Debug)]
pub struct Globs {
    set: GlobSet,
    each: Vec<(String, GlobSet)>,
}

impl Globs {
    /// Compiles the patterns. `*` matches `/` too, so that `q8*` takes every case of the operation.
    ///
    /// # Errors
    /// A pattern that is no glob.
    pub fn new(patterns: &[String]) -> Result<Globs> {
        let mut all = GlobSetBuilder::new();
        let mut each = Vec::new();
        for p in patterns {
            let glob = Glob::new(p).with_context(|| format!("`{p}` is no glob"))?;
            all.add(glob.clone());
            each.push((p.clone(), GlobSetBuilder::new().add(glob).build()?));
        }
        Ok(Globs {
            set: all.build()?,
            each,
        })
    }

    /// Whether any of the patterns matches any of the names; true without patterns.
    pub fn any<S: AsRef<str>>(&self, names: &[S]) -> bool {
        self.set.is_empty() || names.iter().any(|n| self.set.is_match(n.as_ref()))
    }

    /// Whether a pattern names the operation, by itself or with one of its dtypes (`gemm`, `gemm_f16`).
    pub fn name(&self, op: &dyn Operation) -> bool {
        self.any(&[op.name()]) || op.dtypes().iter().any(|dtype| self.means(op, dtype))
    }

    /// Whether a pattern is of one dtype of the operation.
    fn means(&self, op: &dyn Operation, dtype: &str) -> bool {
        let means = |pattern: &str, glob: &GlobSet| {
            pattern.starts_with(op.name()) && glob.is_match(typed(op.name(), dtype)) && !glob.is_match(op.name())
        };
        self.each.iter().any(|(pattern, glob)| means(pattern, glob))
    }

    /// Cases of an operation's first dtype, and the same of the other dtypes that a pattern names.
    pub fn of_dtypes(&self, op: &dyn Operation, cases: Vec<Case>) -> Vec<Case> {
        let others = op.dtypes().iter().skip(1).filter(|dtype| self.means(op, dtype));
        let others = others.flat_map(|dtype| cases.iter().map(|case| case.clone().with_dtype(dtype)));
        let others: Vec<Case> = others.collect();
        cases.into_iter().chain(others).collect()
    }

    /// Splits the patterns into those for cases and those for configs: a pattern that matches one of `config_ids` and no
    /// case narrows the configs. A pattern that matches nothing is an error, because it is nearly always misspelt.
    ///
    /// # Errors
    /// A pattern that matches neither.
    pub fn split(&self, cases: &[Selected], config_ids: &[String]) -> Result<(Globs, Globs)> {
        let (mut for_cases, mut for_configs) = (Vec::new(), Vec::new());
        for (pattern, glob) in &self.each {
            if cases.iter().any(|c| c.names().iter().any(|n| glob.is_match(n))) {
                for_cases.push(pattern.clone());
            } else if config_ids.iter().any(|c| glob.is_match(c)) {
                for_configs.push(pattern.clone());
            } else {
                bail!(
                    "`{pattern}` matches no operation, case or config; `harness list shapes` and `harness list configs` show them"
                );
            }
        }
        Ok((Globs::new(&for_cases)?, Globs::new(&for_configs)?))
    }
}
