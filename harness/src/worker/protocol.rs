//! What parent and worker say to each other: one JSON value a line.

use host::op::Case;
use host::results::{Clocks, FirstBad, Times};
use serde::{Deserialize, Serialize};

/// From the parent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Measure the device's copy rate.
    CopyRate,
    /// Check configs of one case, then time them if asked.
    Sweep(SweepJob),
    /// Run one random case through every implementation.
    Verify(VerifyJob),
}

/// One case of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepJob {
    /// What is run; on the simulator it may have fewer rows than the case it stands for.
    pub case: Case,
    /// Seed of its data.
    pub seed: u64,
    /// Config ids, each admitted by the operation.
    pub configs: Vec<String>,
    /// Time them after the check. Never set on the simulator.
    pub time: bool,
    /// Simulator: run with all checks on.
    pub checks: bool,
}

/// One case of a verification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerifyJob {
    /// What is run.
    pub case: Case,
    /// Its number in the seed's sequence.
    pub index: u64,
    /// Seed of its data.
    pub seed: u64,
    /// Config ids, each admitted by the operation.
    pub configs: Vec<String>,
    /// Launches of each kernel.
    pub repeat: u32,
    /// On a GPU: compare with the simulator's bytes too.
    pub with_simulator: bool,
}

/// From the worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Event {
    /// The device is open.
    Ready(Opened),
    /// The copy rate in GB/s (10^9 bytes read plus written a second); none where it means nothing.
    CopyRate(Option<f64>),
    /// This config is next; if the worker dies now, it was this one.
    Start {
        /// The config's id.
        config: String,
        /// What is done with it.
        phase: Phase,
    },
    /// A config's bytes.
    Checked {
        /// The config's id.
        config: String,
        /// How the check ended.
        outcome: Outcome,
    },
    /// A config's times.
    Timed {
        /// The config's id.
        config: String,
        /// The times and the device's state.
        timed: Timed,
    },
    /// The job as a whole failed, for example for lack of memory.
    Failed {
        /// Why.
        message: String,
    },
    /// A sign of life.
    Alive,
    /// The job is done; the worker waits for the next.
    Done,
}

/// What a worker does with a config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The data and the references are made; the config is named `*`.
    Prepare,
    /// Its bytes are compared.
    Check,
    /// It is timed.
    Time,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Phase::Prepare => "preparing",
            Phase::Check => "checking bytes",
            Phase::Time => "timing",
        })
    }
}

/// The worker's device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The device's name, as the driver gives it, or `simt`.
    pub name: String,
    /// The architecture whose kernels run, or `simt`.
    pub arch: String,
    /// Whether it is the simulator.
    pub simulator: bool,
    /// The driver's version.
    pub driver: Option<String>,
    /// Multiprocessors.
    pub sm_count: u32,
}

/// How a byte check ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// It held against all of these.
    Held {
        /// The references.
        against: Vec<String>,
        /// Elements compared.
        compared: u64,
        /// Elements of the output.
        elements: u64,
    },
    /// It did not.
    Wrong {
        /// The reference it failed against.
        against: Vec<String>,
        /// The first difference.
        first_bad: FirstBad,
        /// The difference in words, with its coordinate.
        message: String,
    },
    /// It did not run to its end.
    Failed {
        /// Why.
        message: String,
    },
}

/// A config's times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    /// Times of a launch.
    pub times: Times,
    /// The device's state beside the samples.
    pub clocks: Clocks,
    /// Dropped after the first round, with the reason; its times are of that round.
    pub pruned: Option<String>,
    /// Timed again among the fastest; its times are of that round.
    pub finalist: bool,
    /// Copies of the operands the launches rotated over.
    pub copies: usize,
}
