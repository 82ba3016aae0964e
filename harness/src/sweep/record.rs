//! From a config's fate to its record.

use std::collections::BTreeMap;

use host::cost::{self, H200, Target};
use host::device::image::{self, BUILT_WITH, Image};
use host::op::{Case, ConfigInfo, Order};
use host::results::{
    BytesCheck, CaseShape, DeviceRecord, Kind, Mode, ModelCost, Record, Roof, SCHEMA, Status, Toolchain, timestamp,
};

use crate::drive::Fate;
use crate::plan::CasePlan;
use crate::provenance::{SOURCE_HASH, provenance, shell_line};
use crate::simt_slice::Slice;
use crate::worker::protocol::{Opened, Outcome, Timed};

/// The architecture whose registers the cost model takes.
const MODEL_ARCH: &str = "sm_90a";

/// What all records of a sweep have in common.
pub struct Context {
    /// The device.
    pub opened: Opened,
    /// Its name on the command line.
    pub spec: String,
    /// Seed of the data.
    pub seed: u64,
    /// The device's copy rate in GB/s.
    pub copy_gb_s: Option<f64>,
}

/// The image a config's kernel comes from on this device; none on the simulator.
pub fn image(opened: &Opened, config: &ConfigInfo) -> Option<&'static Image> {
    image::serving(&opened.arch, config.family)
}

/// What tells one version of a config's kernel from another on this device.
pub fn kernel_hash(opened: &Opened, config: &ConfigInfo) -> String {
    match image(opened, config) {
        Some(image) => image.ptx_sha256.to_string(),
        None => SOURCE_HASH.to_string(),
    }
}

/// The hash that a record was made with.
pub fn hash_of(r: &Record) -> Option<&str> {
    r.ptx_sha256.as_deref().or(r.source_hash.as_deref())
}

/// A case's names and sizes as records have them.
pub fn shape(case: &Case) -> CaseShape {
    let dims: BTreeMap<String, u64> = case.dims.iter().filter(|(d, _)| d != "n_tok").cloned().collect();
    let n_tok = case.dim("n_tok").and_then(|t| u32::try_from(t).ok()).unwrap_or(1);
    CaseShape {
        model: case.model.clone(),
        name: case.name.clone(),
        dims,
        n_tok,
    }
}

impl Context {
    /// The record of a config's end: `checked` is how its byte check ended, if it came to that, `fate` the last that was
    /// heard of it.
    pub fn record(
        &self,
        plan: &CasePlan,
        slice: &Slice,
        config: &ConfigInfo,
        checked: Option<&Outcome>,
        fate: &Fate,
    ) -> Record {
        let simulator = self.opened.simulator;
        let image = image(&self.opened, config);
        let (status, reason) = status(fate);
        let timed = match fate {
            Fate::Timed(t) => Some(t),
            _ => None,
        };
        let outcome = match fate {
            Fate::Checked(o) => Some(o),
            _ => checked,
        };
        let canonical = config.order == Order::Canonical;
        let bytes_check = outcome.and_then(|o| bytes_check(o, canonical, slice));
        let kind = if simulator { Kind::Model } else { Kind::Measured };
        let provenance = provenance();
        Record {
            schema: SCHEMA,
            time: timestamp(),
            commit: provenance.commit.clone(),
            dirty: provenance.dirty,
            command: self.command(plan, config),
            op: host::ops::record_name(&plan.selected.case),
            shape: shape(&plan.selected.case),
            config: config.id.clone(),
            order: config.order.to_string(),
            mode: if canonical { Mode::Strict } else { Mode::Fast },
            device: DeviceRecord {
                name: self.opened.name.clone(),
                arch: image.map_or_else(|| self.opened.arch.clone(), |i| i.arch.to_string()),
                driver: self.opened.driver.clone(),
                sm_count: self.opened.sm_count,
            },
            kind,
            status,
            reason,
            bytes_check,
            times: timed.map(|t| t.times),
            model_cost: (simulator && status == Status::Passed)
                .then(|| model_cost(plan, config))
                .flatten(),
            roof: timed.and_then(|t| self.roof(plan, config, t)),
            clocks: timed.map(|t| t.clocks.clone()),
            ptx_sha256: image.map(|i| i.ptx_sha256.to_string()),
            source_hash: simulator.then(|| SOURCE_HASH.to_string()),
            toolchain: if simulator {
                Toolchain {
                    rustc: provenance.rustc.into(),
                    llvm: String::new(),
                    ptxas: None,
                }
            } else {
                Toolchain {
                    rustc: BUILT_WITH.rustc.into(),
                    llvm: BUILT_WITH.llvm.into(),
                    ptxas: BUILT_WITH.ptxas.map(String::from),
                }
            },
            seed: self.seed,
        }
    }

    fn command(&self, plan: &CasePlan, config: &ConfigInfo) -> String {
        let mut words = vec!["harness".to_string(), "sweep".into()];
        words.extend(plan.selected.arguments());
        words.extend([
            "--config".into(),
            config.id.clone(),
            "--device".into(),
            self.spec.clone(),
        ]);
        words.extend(["--seed".into(), self.seed.to_string()]);
        shell_line(words)
    }

    fn roof(&self, plan: &CasePlan, config: &ConfigInfo, timed: &Timed) -> Option<Roof> {
        let case = &plan.selected.case;
        let work = plan.op.work(case, &config.id, self.opened.sm_count).ok()?;
        let us = timed.times.median_us;
        let gb_s = work.bytes() as f64 / (us * 1e3);
        let target = Target::of(&self.opened.name);
        let floor_us = self.copy_gb_s.map(|copy| work.floor_us(1e9 * copy, target));
        Some(Roof {
            bytes: work.bytes(),
            gb_s,
            share_of_copy: self.copy_gb_s.map(|copy| gb_s / copy),
            floor_us,
            share: floor_us.map(|floor| floor / us),
        })
    }
}

fn status(fate: &Fate) -> (Status, Option<String>) {
    match fate {
        Fate::Checked(Outcome::Held { .. }) => (Status::Passed, None),
        Fate::Checked(Outcome::Wrong { message, .. }) => (Status::Incorrect, Some(message.clone())),
        Fate::Checked(Outcome::Failed { message }) | Fate::Died(message) => (Status::Error, Some(message.clone())),
        Fate::Timed(t) => (Status::Passed, t.pruned.clone()),
        Fate::TimedOut(message) => (Status::Timeout, Some(message.clone())),
    }
}

fn bytes_check(outcome: &Outcome, canonical: bool, slice: &Slice) -> Option<BytesCheck> {
    match outcome {
        Outcome::Held {
            against,
            compared,
            elements,
        } => Some(BytesCheck {
            against: against.clone(),
            equal: canonical,
            within_tolerance: !canonical,
            compared: *compared,
            // Of the case, of which perhaps not all rows ran.
            elements: elements * slice.of / slice.rows.max(1),
            first_bad: None,
        }),
        Outcome::Wrong { against, first_bad, .. } => Some(BytesCheck {
            against: against.clone(),
            equal: false,
            within_tolerance: false,
            compared: 0,
            elements: 0,
            first_bad: Some(first_bad.clone()),
        }),
        Outcome::Failed { .. } => None,
    }
}

/// The cost model's figures for a config on an H200.
pub fn model_cost(plan: &CasePlan, config: &ConfigInfo) -> Option<ModelCost> {
    let work = plan.op.work(&plan.selected.case, &config.id, H200.sms).ok()?;
    let registers = cost::registers(MODEL_ARCH, config.kernel);
    let estimate = cost::estimate(&work, &H200, registers);
    let resident = f64::from(estimate.blocks_per_sm * config.threads);
    Some(ModelCost {
        cost: estimate.us,
        bytes: work.bytes(),
        instructions: work.multiply_adds,
        occupancy: registers.map(|_| (resident / f64::from(H200.threads)).min(1.0)),
    })
}
