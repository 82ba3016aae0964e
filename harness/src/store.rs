//! The records of a results folder, and which of them this build would make again differently.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use host::device::image::IMAGES;
use host::results::{Record, read_records};

use crate::provenance::SOURCE_HASH;

/// Files of whole models' measurements begin so: they are of another kind.
pub const MODELS: &str = "models-";

/// Every record of a file, or of the `.jsonl` files of a folder in the order of their names, whole models' left out. Lines that
/// are no record are reported on stderr.
///
/// # Errors
/// No such file or folder, or it cannot be read.
pub fn load(path: &Path) -> Result<Vec<Record>> {
    let mut files: Vec<PathBuf> = Vec::new();
    if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
        files.extend(
            entries
                .flatten()
                .map(|e| e.path())
                .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
                .filter(|p| !p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(MODELS))),
        );
        files.sort();
    } else if path.exists() {
        files.push(path.to_path_buf());
    } else {
        bail!("there is no file or folder {}", path.display());
    }
    let mut all = Vec::new();
    for file in files {
        let read = read_records(&file)?;
        for s in &read.skipped {
            eprintln!("{}: line {} passed over: {}", file.display(), s.line, s.reason);
        }
        all.extend(read.records);
    }
    Ok(all)
}

/// Hashes of PTX that differ in names alone: what records have, and what a build has.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    family: String,
    measured: String,
    built: String,
}

/// The pairs of `results/same-code.toml`.
fn same_code() -> &'static [Pair] {
    #[derive(Default, serde::Deserialize)]
    struct Pairs {
        pair: Vec<Pair>,
    }
    static PAIRS: std::sync::OnceLock<Vec<Pair>> = std::sync::OnceLock::new();
    // The file is the repository's own, and a test reads it: one that does not parse says of nothing that it is the same.
    let parse = || toml::from_str::<Pairs>(include_str!("../../results/same-code.toml")).unwrap_or_default();
    PAIRS.get_or_init(|| parse().pair)
}

/// The hash that this build's kernel for a record's config and architecture has, or the record's own where the code is the same; `None`
/// where this build has no such image.
pub fn current_hash(r: &Record) -> Option<String> {
    let op = host::ops::of_record(&r.op)?;
    let config = op.configs().into_iter().find(|c| c.id == r.config)?;
    let image = IMAGES
        .iter()
        .find(|i| i.family == config.family && i.arch == r.device.arch)?;
    let same = |pair: &&Pair| {
        pair.family == config.family && pair.built == image.ptx_sha256 && Some(&pair.measured) == r.ptx_sha256.as_ref()
    };
    let known = same_code().iter().find(same);
    Some(
        known
            .map_or(image.ptx_sha256, |pair| pair.measured.as_str())
            .to_string(),
    )
}

/// Whether the record was made with another version of its kernel than this build's.
pub fn is_stale(r: &Record) -> bool {
    match (&r.ptx_sha256, &r.source_hash) {
        (Some(then), _) => current_hash(r).is_some_and(|now| now != *then),
        (None, Some(then)) => then != SOURCE_HASH,
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_same_code_are_hashes_of_families_there_are() {
        let families: Vec<&str> = host::ops::all()
            .iter()
            .flat_map(|op| op.configs())
            .map(|c| c.family)
            .collect();
        assert!(!same_code().is_empty());
        for Pair {
            family,
            measured,
            built,
        } in same_code()
        {
            assert!(families.contains(&family.as_str()), "{family}");
            assert_ne!(measured, built);
            for hash in [measured, built] {
                assert!(
                    hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()),
                    "{hash}"
                );
            }
        }
    }
}
