//! `harness bench --model`: tokens a second as llama-bench has them, and where a step's time goes.
//!
//! - `pp512`: prompts of 512 tokens, one at a time, from the call to the token that follows it.
//! - `tg128`: 128 decode steps of `batch` sequences together behind short prompts; each step ends when its tokens are on the host.
//!
//! Each test runs uncounted until its kernels are loaded and its graphs captured, then `-r` times. On the simulator all times are the
//! host's: they are labelled so, and nothing is recorded.

mod output;
pub mod record;
pub mod roles;
mod speed;

use anyhow::Result;
use host::device::Device;
use host::model::engine::{Engine, Options};
use host::results::Clocks;

use crate::exit::usage;
use crate::model::args::{BenchArgs, ByRole, Switch};
use crate::model::{device, fail, open, parameters};
use crate::worker::copy_rate;
use output::Report;
use record::{Common, What};

/// The command.
///
/// # Errors
/// What the model or the options cannot be (exit code 2); what the device did (3); a file that cannot be written.
pub fn command(args: &BenchArgs) -> Result<()> {
    args.table.on_stdout().map_err(usage)?;
    check(args).map_err(usage)?;
    let opened = open(&args.run.model)?;
    let device = device(&args.run.device, args.run.simt_checks)?;
    // Before the model takes the memory that it needs.
    let copy_gb_s = copy_rate::measure(&device)?;
    let options = options(args, opened.config().max_positions);
    let mut engine = Engine::load(&device, opened.as_ref(), options).map_err(fail)?;
    let weights = engine.memory().parts().get("weights").copied().unwrap_or(0);
    let common = Common::new(args, &engine, weights, parameters(opened.config(), opened.layout()));
    let mut report = Report::new(common, copy_gb_s);
    for &length in args.prompt.iter().filter(|&&length| length > 0) {
        let speed = speed::prompts(&mut engine, length, args.repeat).map_err(fail)?;
        report.add(What::prompt(length, speed), clocks(&device));
    }
    for &batch in args.batch.iter().filter(|_| args.new > 0) {
        let speed = speed::decode(&mut engine, batch, args.new, args.repeat).map_err(fail)?;
        report.add(What::decode(batch, args.new, speed), clocks(&device));
    }
    for shape in wanted_steps(args, &engine) {
        let step = roles::measure(&mut engine, shape, copy_gb_s)?;
        report.add(What::Step(step), clocks(&device));
    }
    report.graphs(&engine.graphs());
    report.write(args)
}

/// Refuses what no test can be made of.
fn check(args: &BenchArgs) -> Result<()> {
    anyhow::ensure!(
        args.batch.iter().all(|batch| (1..=4096).contains(batch)),
        "a batch of {:?} sequences: each must be from 1 to 4096",
        args.batch
    );
    anyhow::ensure!(
        args.prompt.iter().any(|p| *p > 0) || args.new > 0,
        "-p 0 -n 0: there is nothing to measure"
    );
    Ok(())
}

/// What the model is loaded for.
fn options(args: &BenchArgs, max_positions: u32) -> Options {
    let longest = args.prompt.iter().copied().max().unwrap_or(0);
    let needed = longest.max(args.new.saturating_add(speed::DEPTH));
    Options {
        mode: args.run.mode.into(),
        graphs: args.run.graphs == Switch::On,
        max_seqs: args.batch.iter().copied().max().unwrap_or(1),
        // What is beyond the model is refused at load, with the numbers.
        context: args.run.context.unwrap_or(needed.max(64.min(max_positions))),
        chunk: args.run.chunk,
        ..Options::default()
    }
}

/// The steps to be taken apart.
fn wanted_steps(args: &BenchArgs, engine: &Engine) -> Vec<roles::Step> {
    let decode = args.batch.first().filter(|_| args.new > 0);
    let prefill = args.prompt.iter().find(|&&length| length > 0);
    let (with_decode, with_prefill) = match args.by_role {
        ByRole::Decode => (true, false),
        ByRole::Prefill => (false, true),
        ByRole::Both => (true, true),
        ByRole::Off => (false, false),
    };
    let decode = decode.filter(|_| with_decode).map(|&batch| roles::Step::Decode(batch));
    let prefill = prefill
        .filter(|_| with_prefill)
        .map(|&length| roles::Step::Prefill(length.min(engine.limits().chunk)));
    decode.into_iter().chain(prefill).collect()
}

/// The device's state now.
fn clocks(device: &Device) -> Option<Clocks> {
    let state = device.clock_state()?;
    Some(Clocks {
        sm_mhz: state.sm_mhz,
        temp_c: state.temperature_c,
        power_w: state.power_w,
        throttle: state.throttled_by().into_iter().map(String::from).collect(),
    })
}
