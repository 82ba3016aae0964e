//! The record: one line of a results file.

use super::measured::{Clocks, PeerRun, Place, Roof, Times};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The version of the schema that [`Record`] is. It rises when a field changes its meaning or goes; a new optional field
/// leaves it as it is.
pub const SCHEMA: u32 = 1;

/// Where a record's figures come from. Records of different kinds are never compared or ranked together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Times of a device, from its own events.
    Measured,
    /// The simulator's cost model: a rank, not a time.
    Model,
    /// Bytes only.
    Verify,
    /// Times of a peer library's kernel ([`PeerRun`]), from the device's events in the same rounds as the configs'.
    Peer,
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Ran, and its bytes are the reference's.
    Passed,
    /// Ran, and its bytes are not the reference's.
    Incorrect,
    /// Did not run to its end: a launch failed, the device was lost, the simulator found a fault.
    Error,
    /// Took longer than a case may.
    Timeout,
    /// Not run; the reason says why.
    Skipped,
}

impl fmt::Display for Status {
    /// The name as in the record: `PASSED`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Status::Passed => "PASSED",
            Status::Incorrect => "INCORRECT",
            Status::Error => "ERROR",
            Status::Timeout => "TIMEOUT",
            Status::Skipped => "SKIPPED",
        })
    }
}

/// Which configs dispatch may choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Only configs in the operation's canonical order.
    Strict,
    /// Any config.
    Fast,
}

/// What was run: a shape file's entry at one token count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CaseShape {
    /// The shape file's stem: `qwen3-8b`.
    pub model: String,
    /// The entry: `ffn_down`.
    pub name: String,
    /// The operation's dimensions, in elements: `n`, `k`, `groups`.
    pub dims: BTreeMap<String, u64>,
    /// Tokens.
    pub n_tok: u32,
}

/// The device, as it calls itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// `NVIDIA H200`, or `simt` for the simulator. [`slug`] makes the file's name of it.
    pub name: String,
    /// The architecture whose kernels ran: `sm_90a`, or `simt`.
    pub arch: String,
    /// The driver's version; none on the simulator.
    pub driver: Option<String>,
    /// Multiprocessors.
    pub sm_count: u32,
}

/// The first byte, or element, that is not the reference's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstBad {
    /// Which reference it differs from.
    pub against: String,
    /// Its index in the output, in elements.
    pub index: u64,
    /// What the kernel gave, in hex bits.
    pub got: String,
    /// What the reference gave, in hex bits.
    pub want: String,
}

/// The comparison with the references, on the buffers that were timed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BytesCheck {
    /// The references compared with: `cpu`, `cpu_sampled` (a sample of the output), `plain`, `simt`.
    pub against: Vec<String>,
    /// All bytes that were compared were equal.
    pub equal: bool,
    /// Bytes were not asked to be equal, because the config declares another order than the canonical one, and every
    /// element was within the operation's tolerance. Never together with `equal`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub within_tolerance: bool,
    /// Elements of the output that were compared: of a sample, those in it. 0 where one was wrong.
    #[serde(default)]
    pub compared: u64,
    /// Elements the output has.
    #[serde(default)]
    pub elements: u64,
    /// Where they first were not.
    pub first_bad: Option<FirstBad>,
}

impl BytesCheck {
    /// Whether it held for a config of this order: equal bytes, or, outside the canonical order, the tolerance.
    fn held(&self, order: &str) -> bool {
        self.equal || (self.within_tolerance && order != super::tuned::CANONICAL)
    }
}

/// The simulator's cost model: configs are ranked by `cost`, which is no time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ModelCost {
    /// The rank: less is better. Its unit is the model's own.
    pub cost: f64,
    /// Bytes of device memory moved by one launch.
    pub bytes: u64,
    /// Thread instructions, or the model's stand-in for them.
    pub instructions: u64,
    /// Warps an SM can hold over the most it can hold, 0 to 1; none where ptxas was not there to say.
    pub occupancy: Option<f64>,
}

/// What made the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// `rustc --version`.
    pub rustc: String,
    /// LLVM's version.
    pub llvm: String,
    /// ptxas's version, where there was one.
    pub ptxas: Option<String>,
}

/// One case, run once. Fields that do not apply are absent from the line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When the case ended: RFC 3339, UTC, to the second ([`timestamp`]).
    pub time: String,
    /// The commit of the working tree.
    pub commit: String,
    /// The working tree had changes that are not in the commit.
    pub dirty: bool,
    /// A command that runs this case again.
    pub command: String,
    /// The operation: `q8_matmul`.
    pub op: String,
    /// The shape.
    pub shape: CaseShape,
    /// The config's id.
    pub config: String,
    /// The order of arithmetic the config declares: `canonical`, or another's name.
    pub order: String,
    /// The mode the case was run for.
    pub mode: Mode,
    /// The device.
    pub device: DeviceRecord,
    /// Where the figures come from.
    pub kind: Kind,
    /// How the case ended.
    pub status: Status,
    /// Why, where it did not pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The comparison with the references; none where the case did not get that far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_check: Option<BytesCheck>,
    /// Times; only with [`Kind::Measured`] and [`Kind::Peer`]. Of replays over rotating copies of the operands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Times>,
    /// Times of single launches with nothing in the L2 cache, where they were asked for; only beside `times`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold: Option<Times>,
    /// The peer's median over this config's, of the same round of the same run: above 1 is faster than the peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_to_peer: Option<f64>,
    /// The same of `cold`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_ratio_to_peer: Option<f64>,
    /// Its place in the run; none in old records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What ran in place of a config; with [`Kind::Peer`] and never else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerRun>,
    /// The modelled cost; only with [`Kind::Model`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_cost: Option<ModelCost>,
    /// How near the roof; only beside `times`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roof: Option<Roof>,
    /// The device's state after the round that the times are of; only beside `times`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clocks: Option<Clocks>,
    /// The same before that round; none in old records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clocks_before: Option<Clocks>,
    /// How often the round was run again because the device was throttled.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rounds_repeated: u32,
    /// SHA-256 of the PTX that ran (of the image that holds the kernel), in hex; none on the simulator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ptx_sha256: Option<String>,
    /// Hash of the kernels' Rust sources, for what ran on the simulator: there is no PTX then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_hash: Option<String>,
    /// What made the kernel.
    pub toolchain: Toolchain,
    /// The seed of the case's data.
    pub seed: u64,
}

impl Record {
    /// What the record contradicts itself in, if anything: a time that was not measured, a pass without equal bytes. Such a
    /// record is not written.
    pub fn contradiction(&self) -> Option<String> {
        let says = |what: &str| Some(format!("{} {} {}: {what}", self.op, self.shape.name, self.config));
        let held = self.bytes_check.as_ref().map(|c| c.held(&self.order));
        let peer = self.kind == Kind::Peer;
        let measured = self.kind == Kind::Measured || peer;
        if self.schema != SCHEMA {
            return says("the schema is not this build's");
        }
        if !measured && (self.times.is_some() || self.roof.is_some() || self.clocks.is_some()) {
            return says("times, roof or clocks in a record that is not measured");
        }
        let beside = [self.cold.is_some(), self.ratio_to_peer.is_some(), self.place.is_some()];
        if self.times.is_none() && beside.contains(&true) {
            return says("cold times, a ratio or a place without times");
        }
        if peer != self.peer.is_some() || (peer && self.bytes_check.is_some()) {
            return says("a peer and a config in one record, or a peer's record without the peer");
        }
        if self.kind != Kind::Model && self.model_cost.is_some() {
            return says("a modelled cost in a record that is not of the model");
        }
        match self.status {
            // Nobody asks a peer for equal bytes.
            Status::Passed if peer && self.times.is_some() => None,
            Status::Passed if peer => says("a peer that ran without times"),
            Status::Passed if held != Some(true) => says("passed without a bytes check that held"),
            Status::Passed if self.bytes_check.as_ref().is_some_and(|c| c.against.is_empty()) => {
                says("passed a bytes check against nothing")
            }
            Status::Incorrect if held != Some(false) => says("incorrect without a bytes check that failed"),
            Status::Incorrect if self.times.is_some() => says("a time of a kernel whose bytes are wrong"),
            Status::Error | Status::Timeout | Status::Skipped if self.reason.is_none() => says("no reason given"),
            _ => None,
        }
    }

    /// What tells the kernel that ran from another version of it: the hash of its PTX, on the simulator of its source.
    pub fn kernel_hash(&self) -> Option<&str> {
        self.ptx_sha256.as_deref().or(self.source_hash.as_deref())
    }

    /// The bytes were checked and held; in another order than the canonical one, the tolerance did.
    pub fn bytes_held(&self) -> bool {
        self.status == Status::Passed
            && self
                .bytes_check
                .as_ref()
                .is_some_and(|c| c.held(&self.order) && !c.against.is_empty())
    }

    /// Whether it may win its case: of the last round of its run, or of a record that does not say. Times of an earlier round were taken at
    /// other clocks, and must not be ranked with those of the last.
    pub fn contends(&self) -> bool {
        !matches!(self.place, Some(Place::Behind | Place::Dropped))
    }
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// The file name of a device: lower case, everything but letters and digits a single `-`. `NVIDIA H200` gives
/// `nvidia-h200`; a name without letters and digits gives `device`.
pub fn slug(device: &str) -> String {
    let words = device
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|w| !w.is_empty());
    let slug = words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-");
    if slug.is_empty() { "device".into() } else { slug }
}

/// Now, as records write it: RFC 3339, UTC, to the second. Texts of this form sort by time.
pub fn timestamp() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}
