//! The options of the commands that run whole models.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use host::device::DeviceSpec;
use host::model::engine::{Draft, Sampling};
use host::results::Mode;

use crate::cli::TableArgs;

/// What `--model` says in every command.
pub const MODEL_HELP: &str = "A folder (config.json and safetensors), a .gguf file, or synthetic:NAME[:layers=N][:weights=bf16|nvfp4|q8_0][:seed=S]";

/// Which configs may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ModelMode {
    /// Canonical order only
    #[default]
    Strict,
    /// Any order within the tolerance
    Fast,
}

impl From<ModelMode> for Mode {
    fn from(mode: ModelMode) -> Mode {
        match mode {
            ModelMode::Strict => Mode::Strict,
            ModelMode::Fast => Mode::Fast,
        }
    }
}

/// On or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes
    #[default]
    On,
    /// No
    Off,
}

/// Where and how a model runs.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The model
    #[arg(long, value_name = "MODEL", help = MODEL_HELP)]
    pub model: String,
    /// auto, cuda, cuda:N or simt
    #[arg(long, default_value = "auto")]
    pub device: DeviceSpec,
    /// Only configs that keep the canonical order (strict), or all within the tolerance (fast)
    #[arg(long, value_enum, default_value_t)]
    pub mode: ModelMode,
    /// Whether steps are captured in graphs and replayed
    #[arg(long, value_enum, default_value_t)]
    pub graphs: Switch,
    /// Tokens of a prompt that a step takes, a multiple of 64
    #[arg(long, default_value_t = 512)]
    pub chunk: u32,
    /// Whether the simulator checks every access (bounds, unwritten memory, races): off is several times as fast
    #[arg(long, value_enum, default_value_t)]
    pub simt_checks: Switch,
    /// Positions of a sequence (default: as many as the request needs)
    #[arg(long)]
    pub context: Option<u32>,
}

/// `harness plan --model`
#[derive(Clone, Debug, Default, Args)]
pub struct PlanModelArgs {
    /// Show a model's memory and the launches of its steps
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["globs", "shape", "axis", "config", "shard"],
          help = format!("Memory and launches of a model: {}", lower(MODEL_HELP)))]
    pub model: Option<String>,
    /// Sequences of the decode step, and that the memory is for
    #[arg(short = 'b', long = "batch", requires = "model", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: u32,
    /// Tokens of the prefill step
    #[arg(short = 'p', long = "prompt", requires = "model", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=32768))]
    pub prompt: u32,
    /// Positions of a sequence (default: 4096, or what the model was made for)
    #[arg(long, requires = "model")]
    pub context: Option<u32>,
    /// The GPU whose plan is shown: H200 or simt (default: the one that is there, else an H200)
    #[arg(long, value_name = "NAME")]
    pub gpu: Option<String>,
}

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
}

/// `harness forward`
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("input").required(true).args(["tokens", "prompt"]))]
pub struct ForwardArgs {
    /// Where and how it runs
    #[command(flatten)]
    pub run: RunArgs,
    /// The prompt as token ids: 1,2,3
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    pub tokens: Option<Vec<u32>>,
    /// The prompt as text, for a model that has a tokenizer
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Tokens to generate at most; 0 with --logits for the prompt's logits alone
    #[arg(short = 'n', long = "new", default_value_t = 16)]
    pub new: u32,
    /// Above 0: draw tokens from the softmax of logits / T
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub temperature: f32,
    /// Draw from the K most likely alone; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub top_k: u32,
    /// Draw from the most likely that make up P of the probability
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub top_p: f32,
    /// Seed of the draws: a token depends on it and on its position alone
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Drafts that each step verifies: none, lookup:N (from the text) or mtp:N (from the model's own head)
    #[arg(long, default_value = "none", value_parser = parse_draft)]
    pub draft: Draft,
    /// Write the prompt's logits to a file, f32 little-endian, a row of the vocabulary for each token; print their hash
    #[arg(long, value_name = "FILE")]
    pub logits: Option<PathBuf>,
    /// Write JSON to stdout
    #[arg(long)]
    pub json: bool,
}

impl ForwardArgs {
    /// How tokens are chosen.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            seed: self.seed,
        }
    }
}

/// `none`, `lookup:N`, `mtp:N`.
fn parse_draft(text: &str) -> Result<Draft, String> {
    let wrong = || format!("`{text}` is no kind of draft: write none, lookup:N or mtp:N with N from 1 to 7");
    if text == "none" {
        return Ok(Draft::None);
    }
    let (kind, count) = text.split_once(':').ok_or_else(wrong)?;
    let count = count.parse().ok().filter(|n| (1..=7).contains(n)).ok_or_else(wrong)?;
    match kind {
        "lookup" => Ok(Draft::Lookup(count)),
        "mtp" => Ok(Draft::Mtp(count)),
        _ => Err(wrong()),
    }
}

/// Which steps are taken apart by operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ByRole {
    /// One decode step of the first batch size
    #[default]
    Decode,
    /// One step of the first prompt length
    Prefill,
    /// Both
    Both,
    /// None
    Off,
}

/// `harness bench`
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// Where and how it runs
    #[command(flatten)]
    pub run: RunArgs,
    /// Prompt lengths; each prompt runs alone
    #[arg(short = 'p', long = "prompt", value_delimiter = ',', default_value = "512")]
    pub prompt: Vec<u32>,
    /// Tokens to generate
    #[arg(short = 'n', long = "new", default_value_t = 128)]
    pub new: u32,
    /// Sequences that are generated together
    #[arg(short = 'b', long = "batch", value_delimiter = ',', default_value = "1")]
    pub batch: Vec<u32>,
    /// Repeats of each test, after one that is not counted
    #[arg(short = 'r', long = "repeat", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: u32,
    /// Steps to show the time by operation of
    #[arg(long, value_enum, default_value_t)]
    pub by_role: ByRole,
    /// Folder that measurements are appended to (default: results/ of the workspace)
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Files for the tables
    #[command(flatten)]
    pub table: TableArgs,
}

/// `harness verify --model`
#[derive(Clone, Debug, Args)]
pub struct VerifyModelArgs {
    /// Verify a whole model: the same bytes in every way of running it
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["globs", "cases", "case", "repeat"],
          help = format!("The same logits in every way of running a model: {}", lower(MODEL_HELP)))]
    pub model: Option<String>,
    /// Tokens to generate (default: 256, on the simulator 8)
    #[arg(long, requires = "model", value_parser = clap::value_parser!(u32).range(2..=65536))]
    pub new: Option<u32>,
    /// Tokens of the prompt (default: 600, on the simulator 130)
    #[arg(long, requires = "model", value_parser = clap::value_parser!(u32).range(65..=65536))]
    pub prompt_tokens: Option<u32>,
    /// Batch sizes (default: 1,4,16, on the simulator 1,3)
    #[arg(long, requires = "model", value_delimiter = ',')]
    pub batches: Option<Vec<u32>>,
    /// Tokens of a prompt that a step takes (default: 64,512,2048, on the simulator 64,128)
    #[arg(long, requires = "model", value_delimiter = ',')]
    pub chunks: Option<Vec<u32>>,
    /// Drafts verified together (default: 2,3,4, on the simulator 2,3)
    #[arg(long, requires = "model", value_delimiter = ',')]
    pub drafts: Option<Vec<u32>>,
    /// Only configs that keep the canonical order, or all within the tolerance
    #[arg(long, requires = "model", value_enum, default_value_t)]
    pub mode: ModelMode,
    /// Whether the simulator checks every access (bounds, unwritten memory, races): off is several times as fast
    #[arg(long, requires = "model", value_enum, default_value_t)]
    pub simt_checks: Switch,
    /// Compare a GPU's logits with the simulator's as well
    #[arg(long, requires = "model", value_enum)]
    pub against: Option<Against>,
}

/// What a GPU is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Against {
    /// The simulator
    Simt,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_are_parsed() {
        assert_eq!(parse_draft("none"), Ok(Draft::None));
        assert_eq!(parse_draft("lookup:3"), Ok(Draft::Lookup(3)));
        assert_eq!(parse_draft("mtp:1"), Ok(Draft::Mtp(1)));
        for bad in ["", "mtp", "mtp:0", "mtp:8", "lookup:x", "eagle:2"] {
            assert!(parse_draft(bad).unwrap_err().contains(bad), "{bad}");
        }
    }
}
