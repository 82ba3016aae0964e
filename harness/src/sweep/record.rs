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
use crate::worker::protocol::{Measured, Opened, Outcome, PeerTimed};

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
    /// What every record of a case has, of no config yet.
    fn base(&self, plan: &CasePlan, config: &str) -> Record {
        let provenance = provenance();
        Record {
            schema: SCHEMA,
            time: timestamp(),
            commit: provenance.commit.clone(),
            dirty: provenance.dirty,
            command: self.command(plan, config),
            op: host::ops::record_name(&plan.selected.case),
            shape: shape(&plan.selected.case),
            config: config.into(),
            order: String::new(),
            mode: Mode::Fast,
            device: DeviceRecord {
                name: self.opened.name.clone(),
                arch: self.opened.arch.clone(),
                driver: self.opened.driver.clone(),
                sm_count: self.opened.sm_count,
            },
            kind: if self.opened.simulator {
                Kind::Model
            } else {
                Kind::Measured
            },
            status: Status::Passed,
            reason: None,
            bytes_check: None,
            times: None,
            cold: None,
            ratio_to_peer: None,
            cold_ratio_to_peer: None,
            place: None,
            peer: None,
            model_cost: None,
            roof: None,
            clocks: None,
            clocks_before: None,
            rounds_repeated: 0,
            ptx_sha256: None,
            source_hash: None,
            toolchain: Toolchain::default(),
            seed: self.seed,
        }
    }

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
        let mut record = self.base(plan, &config.id);
        (record.status, record.reason) = status(fate);
        let outcome = match fate {
            Fate::Checked(o) => Some(o),
            _ => checked,
        };
        let canonical = config.order == Order::Canonical;
        record.order = config.order.to_string();
        record.mode = if canonical { Mode::Strict } else { Mode::Fast };
        record.bytes_check = outcome.and_then(|o| bytes_check(o, canonical, slice));
        if let Some(image) = image {
            record.device.arch = image.arch.to_string();
            record.ptx_sha256 = Some(image.ptx_sha256.to_string());
        }
        if let Fate::Timed(timed) = fate {
            self.measured(&mut record, plan, &config.id, &timed.measured);
            record.place = Some(timed.place);
            record.ratio_to_peer = timed.ratio_to_peer;
            record.cold_ratio_to_peer = timed.cold_ratio_to_peer;
        }
        let provenance = provenance();
        if simulator {
            record.model_cost = (record.status == Status::Passed)
                .then(|| model_cost(plan, config))
                .flatten();
            record.source_hash = Some(SOURCE_HASH.to_string());
            record.toolchain.rustc = provenance.rustc.into();
        } else {
            record.toolchain = Toolchain {
                rustc: BUILT_WITH.rustc.into(),
                llvm: BUILT_WITH.llvm.into(),
                ptxas: BUILT_WITH.ptxas.map(String::from),
            };
        }
        record
    }

    /// The record of a peer. Its order of arithmetic is its own business, and its work that of the case's first config.
    pub fn peer(&self, plan: &CasePlan, timed: &PeerTimed) -> Record {
        let first = plan.run.first().map_or("", |config| &config.id);
        let mut record = Record {
            command: self.command(plan, first),
            order: "peer".into(),
            kind: Kind::Peer,
            peer: Some(timed.run.clone()),
            ..self.base(plan, &timed.run.name)
        };
        match &timed.outcome {
            Ok(measured) => self.measured(&mut record, plan, first, measured),
            Err(why) => {
                record.status = if timed.refused { Status::Skipped } else { Status::Error };
                record.reason = Some(why.clone());
            }
        }
        record
    }

    fn measured(&self, record: &mut Record, plan: &CasePlan, config: &str, measured: &Measured) {
        record.times = Some(measured.times);
        record.cold = measured.cold;
        record.roof = self.roof(plan, config, measured.times.median_us);
        record.clocks_before = Some(measured.before.clone());
        record.clocks = Some(measured.clocks.clone());
        record.rounds_repeated = measured.repeated;
    }

    fn command(&self, plan: &CasePlan, config: &str) -> String {
        let mut words = vec!["harness".to_string(), "sweep".into()];
        words.extend(plan.selected.arguments());
        words.extend(["--config".into(), config.into(), "--device".into(), self.spec.clone()]);
        words.extend(["--seed".into(), self.seed.to_string()]);
        shell_line(words)
    }

    fn roof(&self, plan: &CasePlan, config: &str, us: f64) -> Option<Roof> {
        let case = &plan.selected.case;
        let work = plan.op.work(case, config, self.opened.sm_count).ok()?;
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
        Fate::Peer(_) | Fate::Spent(_) => (Status::Skipped, Some("of no config".into())),
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
