//! What `--resume` may skip: pairs of case and config with a finished record of the same kernel, device and seed.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use host::op::ConfigInfo;
use host::results::{BytesCheck, Kind, Record, Status, read_records};

use super::record::{hash_of, kernel_hash, shape};
use crate::plan::CasePlan;
use crate::simt_slice::Slice;
use crate::worker::SAMPLED;
use crate::worker::protocol::Opened;

/// Finished records by operation, sizes and config.
#[derive(Default)]
pub struct Finished {
    by_key: HashMap<String, Record>,
}

fn key(op: &str, dims: impl std::fmt::Debug, n_tok: u32, config: &str) -> String {
    format!("{op} {dims:?} {n_tok} {config}")
}

impl Finished {
    /// Reads the records of a device that count for a run with `seed`. A record is finished if its bytes were compared to
    /// the end; errors and timeouts are run again.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path, opened: &Opened, seed: u64) -> Result<Finished> {
        let read = read_records(path)?;
        for s in &read.skipped {
            eprintln!("{}: line {} passed over: {}", path.display(), s.line, s.reason);
        }
        let kind = if opened.simulator { Kind::Model } else { Kind::Measured };
        let mut by_key = HashMap::new();
        for r in read.records {
            let compared = matches!(r.status, Status::Passed | Status::Incorrect);
            if compared && r.kind == kind && r.device.name == opened.name && r.seed == seed {
                by_key.insert(key(&r.op, &r.shape.dims, r.shape.n_tok, &r.config), r);
            }
        }
        Ok(Finished { by_key })
    }

    /// The record that makes a run unnecessary: same kernel, and no less of the case compared than would be now.
    pub fn get(&self, plan: &CasePlan, slice: &Slice, config: &ConfigInfo, opened: &Opened) -> Option<&Record> {
        let shape = shape(&plan.selected.case);
        let r = self.by_key.get(&key(
            &host::ops::record_name(&plan.selected.case),
            &shape.dims,
            shape.n_tok,
            &config.id,
        ))?;
        let same_kernel = hash_of(r) == Some(kernel_hash(opened, config).as_str());
        // No smaller a share of the case than would be compared now. A GPU runs the whole, and a sample of it is drawn anew
        // alike; wrong bytes are wrong however few were compared.
        let check = r.bytes_check.as_ref();
        let share = |b: &BytesCheck| u128::from(b.compared) * u128::from(slice.of);
        let wanted = |b: &BytesCheck| u128::from(b.elements) * u128::from(slice.rows);
        let enough = check.is_some_and(|b| {
            let sampled = b.against.iter().all(|a| a == SAMPLED);
            r.status == Status::Incorrect || share(b) >= wanted(b) || (sampled && slice.rows == slice.of)
        });
        (same_kernel && enough).then_some(r)
    }
}
