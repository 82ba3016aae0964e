//! A GPU against the simulator, in one process: the prompt's logits and those of a few steps.

use anyhow::Result;
use host::device::{Device, DeviceSpec};
use host::model::ModelError;
use host::model::engine::{Engine, Feed, Opened, Options, Sampling};

use super::Sizes;
use super::checks::Found;
use super::trace::{Difference, first_difference};
use crate::cli::VerifyArgs;
use crate::model::{fail, made_up};

/// Decode steps that are compared.
const STEPS: usize = 4;

/// Runs the model on both and compares.
///
/// # Errors
/// The model's and the devices'.
pub fn check(device: &Device, opened: &dyn Opened, args: &VerifyArgs, sizes: &Sizes) -> Result<Found> {
    let options = Options {
        mode: args.whole.mode.into(),
        graphs: false,
        context: sizes.context(),
        chunk: sizes.chunk(),
        all_logits: true,
        ..Options::default()
    };
    let prompt = made_up(args.seed, sizes.prompt, opened.config().vocab);
    let simulator = crate::model::device(&DeviceSpec::Simt, args.whole.simt_checks)?;
    let run = |device: &Device| -> Result<Vec<Vec<f32>>, ModelError> {
        let mut engine = Engine::load(device, opened, options.clone())?;
        logits(&mut engine, &prompt, sizes.new.min(STEPS))
    };
    let (got, want) = (run(device).map_err(fail)?, run(&simulator).map_err(fail)?);
    let mut found = Found {
        rows: want.len(),
        note: format!(
            "{} tokens of the prompt, {} steps",
            prompt.len(),
            want.len() - prompt.len()
        ),
        ..Found::default()
    };
    for (token, (want, got)) in want.iter().zip(&got).enumerate() {
        if let Some((byte, want, got)) = first_difference(want, got) {
            found.first = Some(Difference {
                sequence: if token < prompt.len() {
                    "prompt".into()
                } else {
                    "generated".into()
                },
                token,
                row: 0,
                byte: Some(byte),
                want,
                got,
            });
            break;
        }
    }
    Ok(found)
}

/// The logits of the prompt's tokens and of those fed after it: made-up ones, so that two runs that differ stay comparable.
fn logits(engine: &mut Engine, prompt: &[u32], steps: usize) -> Result<Vec<Vec<f32>>, ModelError> {
    let vocab = engine.config().vocab;
    let seq = engine.open(Sampling::GREEDY)?;
    let mut all = engine.prefill_logits(seq, prompt)?;
    for token in made_up(77, steps, vocab) {
        engine.decode(&[Feed { seq, tokens: &[token] }])?;
        all.extend(engine.logits()?);
    }
    Ok(all.chunks(vocab as usize).map(<[f32]>::to_vec).collect())
}
