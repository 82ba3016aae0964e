//! The command line, as data. What each command does is in the module of its name.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use host::device::DeviceSpec;

use crate::model::args::{BenchArgs, ForwardArgs, PlanModelArgs, VerifyModelArgs};
use crate::select::{Axis, ShapeArg};

/// Kernels that give the same bytes for every tile config, checked before they are timed.
#[derive(Debug, Parser)]
#[command(name = "harness", version, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List kernels, configs, shapes or models
    List(ListArgs),
    /// Show what a sweep would run and why the rest is pruned, or a model's memory and launches; needs no GPU
    Plan(PlanArgs),
    /// Check every config's bytes, then time it (GPU) or rank it by the cost model (simulator)
    Sweep(SweepArgs),
    /// Random shapes and values: tuned kernels, plain kernel, CPU reference and simulator must agree to the byte;
    /// with --model, every way of running a model
    Verify(VerifyArgs),
    /// Run a model: tokens or text in, tokens and logits out
    Forward(ForwardArgs),
    /// Tokens a second of a model, and where the time goes
    Bench(BenchArgs),
    /// The tuned table, made from the records
    Best(BestArgs),
    /// Compare the median times of two sets of records
    Compare(CompareArgs),
    /// Registers, spills, shared memory, occupancy, instruction mix of a kernel
    Inspect(InspectArgs),
    /// Ask the device's tensor cores what they compute, and compare with both models
    Probe(crate::probe::ProbeArgs),
    /// Write the README's result table from the records
    Report(ReportArgs),
    /// Runs one case after another for a parent process; not for users
    #[command(hide = true)]
    Worker(WorkerArgs),
}

/// What to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ListWhat {
    /// Every kernel of the build, by architecture
    Kernels,
    /// Every tile config, by operation
    Configs,
    /// Every case of the shape files
    Shapes,
    /// Every shape file and its model
    Models,
}

/// `harness list`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// What to list
    pub what: ListWhat,
    /// Write JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Which cases: shared by `plan` and `sweep`.
#[derive(Clone, Debug, Default, Args)]
pub struct Selection {
    /// Globs over operation names, case ids and config ids; none means everything
    #[arg(value_name = "GLOB")]
    pub globs: Vec<String>,
    /// A shape file (path, or name of one in shapes/), or dimensions such as m=4,n=4096,k=14336; repeatable
    #[arg(long, value_name = "FILE|m=..,n=..,k=..")]
    pub shape: Vec<ShapeArg>,
    /// Overrides an axis: n_tok=1,2,8 or n=1024:4096:256 (first:last:step); repeatable
    #[arg(short = 'a', long = "axis", value_name = "AXIS=VALUES")]
    pub axis: Vec<Axis>,
    /// Only this tile config
    #[arg(long, value_name = "ID")]
    pub config: Option<String>,
    /// Only configs that keep the canonical order (strict), all within the tolerance (fast), or both
    #[arg(long, value_enum, default_value_t)]
    pub mode: ModeArg,
    /// Part I of N of the cases (I from 0 to N-1)
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Folder of the shape files
    #[arg(long, value_name = "DIR", env = "LOCKSTEP_SHAPES", hide = true)]
    pub shapes_dir: Option<PathBuf>,
}

/// Which winners are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// Canonical order only
    Strict,
    /// Any order within the tolerance
    Fast,
    /// A winner for each
    #[default]
    Both,
}

/// Whether peers are timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PeerArg {
    /// Where there are any
    #[default]
    Auto,
    /// Always; without one the sweep does not start
    On,
    /// Never
    Off,
}

/// Part `index` of `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub index: u64,
    /// At least 1.
    pub count: u64,
}

impl std::str::FromStr for Shard {
    type Err = String;
    fn from_str(s: &str) -> Result<Shard, String> {
        let parsed = s
            .split_once('/')
            .and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parsed {
            Some((index, count)) if index < count => Ok(Shard { index, count }),
            _ => Err(format!(
                "`{s}` is no shard: write I/N with I from 0 to N-1, for example 0/4"
            )),
        }
    }
}

/// Files the result table goes to, besides stdout.
#[derive(Clone, Debug, Default, Args)]
pub struct TableArgs {
    /// Write the table as JSON (`-` for stdout)
    #[arg(long, value_name = "PATH|-")]
    pub json: Option<PathBuf>,
    /// Write the table as CSV (`-` for stdout)
    #[arg(long, value_name = "PATH|-")]
    pub csv: Option<PathBuf>,
    /// Write the table as Markdown (`-` for stdout)
    #[arg(long, value_name = "PATH|-")]
    pub md: Option<PathBuf>,
}

impl TableArgs {
    /// Whether stdout is one of the files.
    ///
    /// # Errors
    /// Two of them are: neither could be read.
    pub fn on_stdout(&self) -> anyhow::Result<bool> {
        let files = [&self.json, &self.csv, &self.md];
        match files.into_iter().flatten().filter(|p| p.as_os_str() == "-").count() {
            0 => Ok(false),
            1 => Ok(true),
            _ => anyhow::bail!("only one of --json, --csv and --md can go to stdout (`-`)"),
        }
    }
}

/// `harness plan`
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Which cases
    #[command(flatten)]
    pub select: Selection,
    /// Which model
    #[command(flatten)]
    pub whole: PlanModelArgs,
    /// Write JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `harness sweep`
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// Which cases
    #[command(flatten)]
    pub select: Selection,
    /// auto, cuda, cuda:N or simt
    #[arg(long, default_value = "auto")]
    pub device: DeviceSpec,
    /// Skip (case, config) pairs that have a finished record of the same kernel, device and seed
    #[arg(long)]
    pub resume: bool,
    /// Seconds without a sign of life after which a case's kernel is given up
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// Folder the records are appended to (default: results/ of the workspace)
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Seed of the random data
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// GPU only: time peer libraries (cuBLASLt) in the same rounds: where there are any, always (or fail), never
    #[arg(long, value_enum, default_value_t)]
    pub peer: PeerArg,
    /// GPU only: single cold launches of the fastest as well
    #[arg(long)]
    pub cold: bool,
    /// GPU only: fewer samples, for thousands of cases
    #[arg(long)]
    pub quick: bool,
    /// Simulator only: billions of multiply-adds that the byte checks may take in all; decides how many rows of each
    /// case are checked (0: all rows of every case)
    #[arg(long, value_name = "G", default_value_t = crate::simt_slice::DEFAULT_BUDGET)]
    pub simt_budget: u64,
    /// Files for the table
    #[command(flatten)]
    pub table: TableArgs,
}

/// The most cases of one verification: they are drawn before the first one runs.
const MAX_CASES: u64 = 1_000_000;

/// `harness verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Globs over operation names and config ids; none means everything
    #[arg(value_name = "GLOB")]
    pub globs: Vec<String>,
    /// Number of random cases
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=MAX_CASES))]
    pub cases: u64,
    /// Seed of shapes and values
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Only this case of the seed's sequence
    #[arg(long, value_name = "I", value_parser = clap::value_parser!(u64).range(..MAX_CASES))]
    pub case: Option<u64>,
    /// auto, cuda, cuda:N or simt
    #[arg(long, default_value = "auto")]
    pub device: DeviceSpec,
    /// Launches of each kernel; all must give the same bytes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
    /// Seconds without a sign of life after which a case is given up
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// Write the outcome as JSON (`-` for stdout)
    #[arg(long, value_name = "PATH|-")]
    pub json: Option<PathBuf>,
    /// Which model
    #[command(flatten)]
    pub whole: VerifyModelArgs,
}

/// `harness best`
#[derive(Debug, Args)]
pub struct BestArgs {
    /// Only this GPU
    #[arg(long, value_name = "NAME")]
    pub gpu: Option<String>,
    /// Write the tuned tables that the host's dispatch reads
    #[arg(long)]
    pub write: bool,
    /// Folder of the records (default: results/ of the workspace)
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Files for the table
    #[command(flatten)]
    pub table: TableArgs,
}

/// `harness compare`
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Records to compare with: a file or a results folder
    pub a: PathBuf,
    /// Records to judge: a file or a results folder
    pub b: PathBuf,
    /// Compare the winners and not each config's times: whether both name the same one, or call it a tie
    #[arg(long)]
    pub winners: bool,
    /// Exit 1 if a case of B is slower by more, for example slower=2%; with --winners, if fewer cases agree, for example
    /// agree=95%
    #[arg(long, value_name = "slower=P%|agree=P%", value_parser = crate::compare::parse_limit)]
    pub fail_on: Option<crate::compare::Limit>,
    /// Files for the table
    #[command(flatten)]
    pub table: TableArgs,
}

/// `harness inspect`
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A kernel's name or glob, or an operation
    pub kernel: String,
    /// Only this tile config
    #[arg(long, value_name = "ID")]
    pub config: Option<String>,
    /// Architecture (default: the newest that was built)
    #[arg(long)]
    pub arch: Option<String>,
    /// Print the machine code too; needs nvdisasm or cuobjdump in .toolchain or PATH
    #[arg(long)]
    pub sass: bool,
    /// Files for the table
    #[command(flatten)]
    pub table: TableArgs,
}

/// `harness report`
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The file to rewrite between its two marker comments
    #[arg(long, value_name = "FILE", default_value = "README.md")]
    pub md: PathBuf,
    /// Folder of the records (default: results/ of the workspace)
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Only say whether the file is up to date (exit 1 if not)
    #[arg(long)]
    pub check: bool,
}

/// `harness worker`
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// The device to open
    #[arg(long)]
    pub device: DeviceSpec,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn shards() {
        assert_eq!("1/4".parse(), Ok(Shard { index: 1, count: 4 }));
        for bad in ["4/4", "0/0", "1", "a/b", "-1/2"] {
            assert!(bad.parse::<Shard>().unwrap_err().contains(bad), "{bad}");
        }
    }
}
