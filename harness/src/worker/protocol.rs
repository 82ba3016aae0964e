//! What parent and worker say to each other: one JSON value a line.

use host::op::Case;
use host::results::{Clocks, FirstBad, PeerRun, Place, Times};
use serde::{Deserialize, Serialize};

/// From the parent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Measure the device's copy rate.
    CopyRate,
    /// Look for peer libraries.
    Peers,
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
    /// Time the peers that take the case beside them.
    pub peer: bool,
    /// Time single cold launches of the fastest as well.
    pub cold: bool,
    /// Fewer samples.
    pub quick: bool,
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
    /// The peers, and why the others are not there.
    Peers {
        /// Those that are.
        found: Vec<PeerFound>,
        /// The others, in words.
        missing: Vec<String>,
    },
    /// How a peer did on the case: before the configs' times.
    Peer(Box<PeerTimed>),
    /// Where the case's time went.
    Spent(Spent),
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
        timed: Box<Timed>,
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
    /// It is a peer, and is looked for, checked or timed.
    Peer,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Phase::Prepare => "preparing",
            Phase::Check => "checking bytes",
            Phase::Time => "timing",
            Phase::Peer => "running a peer",
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

/// A library that can be measured against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerFound {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it was found.
    pub file: String,
}

/// Seconds of a case by what they were spent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Making the data and the references.
    pub prepare_s: f64,
    /// Comparing bytes before timing.
    pub check_s: f64,
    /// Timing, and comparing the bytes of what was timed.
    pub time_s: f64,
}

/// The times of one candidate, a config or a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Times of a launch among replays over rotating copies.
    pub times: Times,
    /// Times of single cold launches.
    pub cold: Option<Times>,
    /// The device's state before the round that `times` is of.
    pub before: Clocks,
    /// And after it.
    pub clocks: Clocks,
    /// How often the round was run again because the device was throttled.
    pub repeated: u32,
}

/// A config's times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    /// The times and the device's state.
    pub measured: Measured,
    /// Its place among the configs of this job.
    pub place: Place,
    /// The fastest peer's median over this one, of the same round; and of cold launches.
    pub ratio_to_peer: Option<f64>,
    /// Of cold launches.
    pub cold_ratio_to_peer: Option<f64>,
    /// Dropped after the first round, with the reason; its times are of that round.
    pub pruned: Option<String>,
    /// Timed again among the fastest; its times are of that round.
    pub finalist: bool,
    /// Copies of the operands the launches rotated over.
    pub copies: usize,
}

/// How a peer did on a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerTimed {
    /// What ran.
    pub run: PeerRun,
    /// Its times, or why it has none.
    pub outcome: Result<Measured, String>,
    /// Whether it does not take the case, which is no failure.
    pub refused: bool,
}
