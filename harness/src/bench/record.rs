//! The record of a model's measurement: a line of `results/models-<gpu>.jsonl`. The schema is in `results/README.md`.

use host::device::image::{self, BUILT_WITH};
use host::model::engine::Engine;
use host::results::{Clocks, DeviceRecord, Mode, Toolchain, timestamp};
use serde::{Deserialize, Serialize};

use super::roles::StepTimes;
use super::speed::Speed;
use crate::model::args::BenchArgs;
use crate::model::{again, short};
use crate::provenance::provenance;

/// The version of the schema.
pub const SCHEMA: u32 = 1;
/// A family whose image every model runs: it says which architecture's kernels there were.
const A_FAMILY: &str = "rms_norm";

/// Where times come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A GPU ran.
    Measured,
    /// The simulator ran, and the host's clock was read: says nothing of a GPU, and is not recorded.
    HostTime,
}

/// What all records of one run share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Common {
    /// The commit of the working tree.
    pub commit: String,
    /// The working tree had changes that are not in the commit.
    pub dirty: bool,
    /// A command that runs this again.
    pub command: String,
    /// What was run: the argument of `--model`, a path cut to its last part.
    pub model: String,
    /// Its parameters.
    pub parameters: u64,
    /// Bytes of its weights on the device.
    pub weights_bytes: u64,
    /// Bytes of everything it took on the device.
    pub memory_bytes: u64,
    /// The device.
    pub device: DeviceRecord,
    /// Where the times come from.
    pub source: Source,
    /// The mode.
    pub mode: Mode,
    /// Whether steps ran as graphs.
    pub graphs: bool,
    /// Tokens of a prefill step at most.
    pub chunk: u32,
    /// Positions of a sequence.
    pub context: u32,
    /// What made the kernels.
    pub toolchain: Toolchain,
}

impl Common {
    /// Of a loaded model.
    pub fn new(args: &BenchArgs, engine: &Engine, weights_bytes: u64, parameters: u64) -> Common {
        let (info, options, provenance) = (engine.device().info(), engine.options(), provenance());
        let arch = info.arch();
        Common {
            commit: provenance.commit.clone(),
            dirty: provenance.dirty,
            command: again(&args.run.model),
            model: short(&args.run.model),
            parameters,
            weights_bytes,
            memory_bytes: engine.memory().total(),
            device: DeviceRecord {
                name: info.name.clone(),
                arch: image::serving(&arch, A_FAMILY).map_or(arch, |image| image.arch.to_string()),
                driver: info.driver_version.clone(),
                sm_count: info.sms,
            },
            source: if info.is_simulator {
                Source::HostTime
            } else {
                Source::Measured
            },
            mode: options.mode,
            graphs: options.graphs,
            chunk: options.chunk,
            context: options.context,
            toolchain: Toolchain {
                rustc: BUILT_WITH.rustc.into(),
                llvm: BUILT_WITH.llvm.into(),
                ptxas: BUILT_WITH.ptxas.map(String::from),
            },
        }
    }
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Tokens a second.
    Test {
        /// `pp512`, `tg128`.
        name: String,
        /// Sequences together.
        batch: u32,
        /// Tokens of each.
        tokens: u32,
        /// All sequences' tokens a second.
        tokens_per_s: Speed,
    },
    /// A step's time by role.
    Step(StepTimes),
}

impl What {
    /// A prompt.
    pub fn prompt(tokens: u32, tokens_per_s: Speed) -> What {
        What::Test {
            name: format!("pp{tokens}"),
            batch: 1,
            tokens,
            tokens_per_s,
        }
    }

    /// Generation.
    pub fn decode(batch: u32, tokens: u32, tokens_per_s: Speed) -> What {
        What::Test {
            name: format!("tg{tokens}"),
            batch,
            tokens,
            tokens_per_s,
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When it was measured: RFC 3339, UTC, to the second.
    pub time: String,
    /// What all records of the run share.
    #[serde(flatten)]
    pub common: Common,
    /// What was measured.
    #[serde(flatten)]
    pub what: What,
    /// The device's copy rate in GB/s, of which roofs are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_gb_s: Option<f64>,
    /// The device's state when it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clocks: Option<Clocks>,
}

impl ModelRecord {
    /// Of now.
    pub fn new(common: &Common, what: What, copy_gb_s: Option<f64>, clocks: Option<Clocks>) -> Self {
        Self {
            schema: SCHEMA,
            time: timestamp(),
            common: common.clone(),
            what,
            copy_gb_s,
            clocks,
        }
    }
}
