//! `harness forward`: a prompt in, tokens and logits out.

mod output;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use host::model::ModelError;
use host::model::config::ModelConfig;
use host::model::engine::{Engine, Generated, Options, Request, Sampling};

use crate::exit::usage;
use crate::model::args::{ForwardArgs, Switch};
use crate::model::{Fnv128, device, fail, open};
use output::Outcome;

/// The command.
///
/// # Errors
/// What the model, its files or the request cannot be (exit code 2); what the device did (3); a file that cannot be written.
pub fn command(args: &ForwardArgs) -> Result<()> {
    let opened = open(&args.run.model)?;
    let tokenizer = output::tokenizer(opened.as_ref());
    let prompt = match (&args.tokens, &args.prompt) {
        (Some(tokens), _) => tokens.clone(),
        (None, text) => {
            let text = text.as_deref().unwrap_or_default();
            let tokenizer = tokenizer
                .as_ref()
                .map_err(|e| usage(anyhow::anyhow!("--prompt: {e}")))?;
            tokenizer.encode(text).map_err(fail)?
        }
    };
    check(&prompt, opened.config()).map_err(fail)?;
    let options = options(args, prompt.len(), opened.config())?;
    let device = device(&args.run.device, args.run.simt_checks)?;
    let started = Instant::now();
    let mut engine = Engine::load(&device, opened.as_ref(), options).map_err(fail)?;
    let load = started.elapsed();
    let logits = match &args.logits {
        Some(path) => Some(write_logits(&mut engine, &prompt, path)?),
        None => None,
    };
    let (generated, prefill, decode) = generate(&mut engine, args, &prompt)?;
    Outcome {
        args,
        engine: &engine,
        prompt: &prompt,
        text: tokenizer
            .ok()
            .map(|t| t.decode(&generated.tokens).map_err(fail))
            .transpose()?,
        generated,
        logits,
        load,
        prefill,
        decode,
    }
    .print()
}

/// Refuses a prompt before the model is loaded.
fn check(prompt: &[u32], config: &ModelConfig) -> Result<(), ModelError> {
    let vocab = config.vocab;
    if prompt.is_empty() {
        return Err(ModelError::Request(
            "the prompt has no tokens: it needs one at least".into(),
        ));
    }
    match prompt.iter().position(|&id| id >= vocab) {
        Some(index) => Err(ModelError::Token {
            index,
            id: prompt[index],
            vocab,
        }),
        None => Ok(()),
    }
}

/// What the model is loaded for.
fn options(args: &ForwardArgs, prompt: usize, config: &ModelConfig) -> Result<Options> {
    // The last generated token is not fed any more.
    let needed = prompt as u64 + u64::from(args.new.saturating_sub(1));
    let context = match args.run.context {
        Some(context) => context,
        None => u32::try_from(needed + u64::from(args.draft.count()))
            .unwrap_or(u32::MAX)
            .min(config.max_positions),
    };
    if needed > u64::from(context) {
        return Err(fail(ModelError::Context {
            what: format!("{prompt} tokens of the prompt and {} to generate", args.new),
            wanted: needed,
            room: u64::from(context),
            advice: "shorten the prompt, generate fewer, or raise --context as far as the model goes",
        }));
    }
    Ok(Options {
        mode: args.run.mode.into(),
        graphs: args.run.graphs == Switch::On,
        max_seqs: 1,
        context,
        chunk: args.run.chunk,
        drafts: args.draft.count(),
        all_logits: args.logits.is_some(),
        ..Options::default()
    })
}

/// Writes the logits of all tokens of the prompt; gives their hash.
fn write_logits(engine: &mut Engine, prompt: &[u32], path: &Path) -> Result<Fnv128> {
    let seq = engine.open(Sampling::GREEDY).map_err(fail)?;
    let logits = engine.prefill_logits(seq, prompt);
    engine.close(seq);
    let logits = logits.map_err(fail)?;
    let bytes: Vec<u8> = logits.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(path, bytes).with_context(|| format!("cannot write the logits to {}", path.display()))?;
    Ok(Fnv128::of(&logits))
}

/// Generates; also the time to the first token, and from there to the last.
fn generate(engine: &mut Engine, args: &ForwardArgs, prompt: &[u32]) -> Result<(Generated, Duration, Duration)> {
    if args.new == 0 {
        return Ok((Generated::default(), Duration::ZERO, Duration::ZERO));
    }
    let request = Request {
        prompt: prompt.to_vec(),
        max_new: args.new as usize,
        sampling: args.sampling(),
        stop: true,
    };
    let started = Instant::now();
    let mut first = None;
    let all = engine.generate(&[request], args.draft, &mut |_, _| {
        first.get_or_insert_with(Instant::now);
    });
    let ended = Instant::now();
    let generated = all.map_err(fail)?.pop().unwrap_or_default();
    let first = first.unwrap_or(ended);
    Ok((generated, first - started, ended - first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_positive_or_nothing() {
        assert_eq!(output::rate(10, Duration::ZERO), None);
        assert_eq!(output::rate(10, Duration::from_secs(2)), Some(5.0));
    }
}
