//! `harness verify --model`: the same logits, byte for byte, in every way of running a model.
//!
//! One run is the reference: batch 1, launch by launch, no drafts, the largest chunk, greedy. Its logits at every token are kept.
//! Then the same sequence is run in every other way (again, with graphs, in other chunks, among other sequences, with drafts right
//! and wrong, drawn with a seed, on pages and slots that others have used), and every row of logits that chose a token is compared.

mod batch;
mod calls;
mod checks;
mod drafts;
mod output;
mod runner;
mod simulator;
mod trace;

use std::time::Instant;

use anyhow::{Result, ensure};
use host::model::engine::{Engine, Options};

use crate::cli::VerifyArgs;
use crate::exit::{Exit, usage};
use crate::model::args::Against;
use crate::model::{device, fail, made_up, open};
use checks::Check;
use output::{Outcome, Report};
use runner::Runner;

/// The most drafts of a step.
const MOST_DRAFTS: u32 = 7;

/// How much is verified.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Tokens to generate.
    pub new: usize,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Batch sizes.
    pub batches: Vec<u32>,
    /// Chunks.
    pub chunks: Vec<u32>,
    /// Drafts.
    pub drafts: Vec<u32>,
}

impl Sizes {
    /// What was asked for; else as much as the device does in a few minutes.
    ///
    /// # Errors
    /// A size that nothing can be run with.
    fn new(args: &VerifyArgs, simulator: bool) -> Result<Sizes> {
        let whole = &args.whole;
        let list = |given: &Option<Vec<u32>>, gpu: &[u32], simt: &[u32]| {
            let default = if simulator { simt } else { gpu };
            given.clone().unwrap_or_else(|| default.to_vec())
        };
        let one =
            |given: Option<u32>, gpu: u32, simt: u32| given.unwrap_or(if simulator { simt } else { gpu }) as usize;
        let sizes = Sizes {
            new: one(whole.new, 256, 8),
            prompt: one(whole.prompt_tokens, 600, 130),
            batches: list(&whole.batches, &[1, 4, 16], &[1, 3]),
            chunks: list(&whole.chunks, &[64, 512, 2048], &[64, 128]),
            drafts: list(&whole.drafts, &[2, 3, 4], &[2, 3]),
        };
        let positive = |what: &str, list: &[u32]| {
            ensure!(
                list.iter().all(|&n| n > 0),
                "--{what} {list:?}: each must be at least 1"
            );
            Ok(())
        };
        positive("batches", &sizes.batches)?;
        positive("drafts", &sizes.drafts)?;
        ensure!(
            sizes.drafts.iter().all(|&n| n <= MOST_DRAFTS),
            "--drafts {:?}: a step verifies {MOST_DRAFTS} at most",
            sizes.drafts
        );
        ensure!(
            !sizes.chunks.is_empty() && sizes.chunks.iter().all(|&n| n > 0 && n.is_multiple_of(64)),
            "--chunks {:?}: each must be a multiple of 64",
            sizes.chunks
        );
        Ok(sizes)
    }

    fn most(list: &[u32], least: u32) -> u32 {
        list.iter().copied().max().unwrap_or(least).max(least)
    }

    /// The largest batch.
    pub fn batch(&self) -> u32 {
        Self::most(&self.batches, 1)
    }

    /// The reference's chunk.
    pub fn chunk(&self) -> u32 {
        Self::most(&self.chunks, 64)
    }

    /// The most drafts of a step.
    pub fn most_drafts(&self) -> u32 {
        Self::most(&self.drafts, 0)
    }

    /// Positions that a sequence needs.
    fn context(&self) -> u32 {
        u32::try_from(self.prompt + self.new)
            .unwrap_or(u32::MAX)
            .saturating_add(self.most_drafts() + 1)
    }
}

/// The command.
///
/// # Errors
/// What the model or the sizes cannot be (exit code 2); a device or model that cannot be opened (3); a file that cannot be written.
pub fn command(args: &VerifyArgs) -> Result<Exit> {
    let name = args.whole.model.as_deref().unwrap_or_default();
    let opened = open(name)?;
    let device = device(&args.device, args.whole.simt_checks)?;
    let simulator = device.info().is_simulator;
    let sizes = Sizes::new(args, simulator).map_err(usage)?;
    if args.whole.against == Some(Against::Simt) && simulator {
        return Err(usage(anyhow::anyhow!(
            "--against simt compares a GPU with the simulator, and --device {} is the simulator",
            args.device
        )));
    }
    let options = Options {
        mode: args.whole.mode.into(),
        graphs: false,
        max_seqs: sizes.batch(),
        context: sizes.context(),
        chunk: sizes.chunk(),
        drafts: sizes.most_drafts(),
        ..Options::default()
    };
    let mut engine = Engine::load(&device, opened.as_ref(), options).map_err(fail)?;
    let prompt = made_up(args.seed, sizes.prompt, engine.config().vocab);
    let mut report = Report::new(args, &engine, &sizes);
    let mut runner = Runner::new(&mut engine, prompt, sizes.clone(), args.seed);
    let started = Instant::now();
    let reference = runner.reference(runner::GREEDY).map_err(fail)?;
    let drawn = runner.reference(runner::drawn(args.seed)).map_err(fail)?;
    report.reference(&reference, started.elapsed());
    for check in Check::all(&sizes, runner.engine.config().mtp) {
        let started = Instant::now();
        let outcome = Outcome::of(check.run(&mut runner, &reference, &drawn).map_err(fail));
        report.add(&check.name(), &check.what(), outcome, started.elapsed());
    }
    // Before another model takes memory.
    drop(engine);
    if args.whole.against == Some(Against::Simt) {
        let started = Instant::now();
        let outcome = Outcome::of(simulator::check(&device, opened.as_ref(), args, &sizes));
        report.add(
            "simulator",
            "the same model on the simulator",
            outcome,
            started.elapsed(),
        );
    }
    report.write(args)
}
