//! Tokens a second, by the host's clock around calls that end with the tokens on the host.

use std::time::Instant;

use host::model::ModelError;
use host::model::engine::{Engine, Feed, Sampling, SeqId};
use serde::{Deserialize, Serialize};

use crate::model::made_up;

/// Tokens of the prompts that generation starts behind.
pub const DEPTH: u32 = 16;

/// Tokens a second over the repeats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, as of a sample; 0 for one.
    pub deviation: f64,
    /// Each.
    pub samples: Vec<f64>,
}

impl Speed {
    /// Of some samples.
    pub fn of(samples: Vec<f64>) -> Speed {
        let n = samples.len().max(1) as f64;
        let mean = samples.iter().sum::<f64>() / n;
        let squares: f64 = samples.iter().map(|s| (s - mean).powi(2)).sum();
        let deviation = if samples.len() > 1 {
            (squares / (n - 1.0)).sqrt()
        } else {
            0.0
        };
        Speed {
            mean,
            deviation,
            samples,
        }
    }
}

/// Prompts of `length` tokens, one at a time, each of other tokens.
pub fn prompts(engine: &mut Engine, length: u32, repeat: u32) -> Result<Speed, ModelError> {
    let mut samples = Vec::new();
    // The first run loads kernels, the second captures the steps' graphs.
    let warm = if engine.device().info().is_simulator { 1 } else { 2 };
    for turn in 0..warm + u64::from(repeat) {
        let tokens = made_up(turn, length as usize, engine.config().vocab);
        let seq = engine.open(Sampling::GREEDY)?;
        let started = Instant::now();
        let outcome = engine.prefill(&[Feed { seq, tokens: &tokens }]);
        let seconds = started.elapsed().as_secs_f64();
        engine.close(seq);
        outcome?;
        if turn >= warm {
            samples.push(f64::from(length) / seconds);
        }
    }
    Ok(Speed::of(samples))
}

/// `new` steps of `batch` sequences together, each behind a prompt of its own.
pub fn decode(engine: &mut Engine, batch: u32, new: u32, repeat: u32) -> Result<Speed, ModelError> {
    let mut samples = Vec::new();
    for turn in 0..=u64::from(repeat) {
        // Graphs are captured in a step's second run.
        let steps = if turn == 0 { new.min(3) } else { new };
        let (seqs, mut tokens) = begin(engine, batch, turn)?;
        let started = Instant::now();
        for _ in 0..steps {
            tokens = step(engine, &seqs, &tokens)?;
        }
        let seconds = started.elapsed().as_secs_f64();
        seqs.into_iter().for_each(|seq| engine.close(seq));
        if turn > 0 {
            samples.push(f64::from(batch) * f64::from(new) / seconds);
        }
    }
    Ok(Speed::of(samples))
}

/// Opens sequences and runs their prompts; gives the tokens that follow.
pub fn begin(engine: &mut Engine, batch: u32, seed: u64) -> Result<(Vec<SeqId>, Vec<u32>), ModelError> {
    let vocab = engine.config().vocab;
    let mut seqs = Vec::new();
    let mut prompts = Vec::new();
    for i in 0..u64::from(batch) {
        seqs.push(engine.open(Sampling::GREEDY)?);
        prompts.push(made_up(seed * 8191 + i, DEPTH as usize, vocab));
    }
    let feeds: Vec<Feed<'_>> = seqs
        .iter()
        .zip(&prompts)
        .map(|(&seq, tokens)| Feed { seq, tokens })
        .collect();
    let tokens = engine.prefill(&feeds)?;
    Ok((seqs, tokens))
}

/// One step of one token each.
pub fn step(engine: &mut Engine, seqs: &[SeqId], tokens: &[u32]) -> Result<Vec<u32>, ModelError> {
    let feeds: Vec<Feed<'_>> = seqs
        .iter()
        .zip(tokens)
        .map(|(&seq, token)| Feed {
            seq,
            tokens: std::slice::from_ref(token),
        })
        .collect();
    let chosen = engine.decode(&feeds)?;
    Ok(chosen.iter().filter_map(|tokens| tokens.first().copied()).collect())
}

#[cfg(test)]
mod tests {
    use super::Speed;

    #[test]
    fn mean_and_deviation_are_a_samples() {
        let speed = Speed::of(vec![2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!(speed.mean, 5.0);
        assert!((speed.deviation - (32.0_f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!(Speed::of(vec![3.0]).deviation, 0.0);
    }
}
