//! Runs of the one sequence that is verified, the subject.

use host::model::ModelError;
use host::model::engine::{Engine, Feed, Sampling, SeqId};

use super::Sizes;
use super::batch::Companions;
use super::trace::{Judge, Trace};
use crate::model::made_up;
use crate::worker::plant::planted;

/// Nothing is drawn.
pub const GREEDY: Sampling = Sampling::GREEDY;

/// Tokens drawn with a seed.
pub fn drawn(seed: u64) -> Sampling {
    Sampling {
        temperature: 0.8,
        top_k: 40,
        top_p: 0.95,
        seed,
    }
}

/// What runs the subject.
pub struct Runner<'e> {
    /// The model.
    pub engine: &'e mut Engine,
    /// How much is verified.
    pub sizes: Sizes,
    /// Other sequences.
    pub companions: Companions,
    prompt: Vec<u32>,
    vocab: usize,
    seed: u64,
}

/// The logits of a step's rows.
pub struct Logits {
    rows: Vec<f32>,
    vocab: usize,
    per_seq: usize,
}

impl Logits {
    /// Row `j` of the step's sequence `i`.
    pub fn row(&self, i: usize, j: usize) -> &[f32] {
        let at = (i * self.per_seq + j) * self.vocab;
        self.rows.get(at..at + self.vocab).unwrap_or_default()
    }
}

impl<'e> Runner<'e> {
    /// Of a loaded model.
    pub fn new(engine: &'e mut Engine, prompt: Vec<u32>, sizes: Sizes, seed: u64) -> Self {
        let vocab = engine.config().vocab as usize;
        Self {
            engine,
            companions: Companions::new(seed, prompt.len(), vocab as u32),
            sizes,
            prompt,
            vocab,
            seed,
        }
    }

    /// The seed of prompts and draws.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The subject's prompt in a check; a planted fault changes its last token.
    pub fn prompt(&self, check: &str) -> Vec<u32> {
        let mut prompt = self.prompt.clone();
        if planted("prompt", check)
            && let Some(last) = prompt.last_mut()
        {
            *last = (*last + 1) % self.vocab as u32;
        }
        prompt
    }

    /// Runs `f` with a sequence that is closed afterwards.
    pub fn with<R>(
        &mut self,
        sampling: Sampling,
        f: impl FnOnce(&mut Self, SeqId) -> Result<R, ModelError>,
    ) -> Result<R, ModelError> {
        let seq = self.engine.open(sampling)?;
        let outcome = f(self, seq);
        self.engine.close(seq);
        outcome
    }

    /// Runs prompts; gives the tokens that follow, and the logits of the last one.
    pub fn prefill(&mut self, prompts: &[Feed<'_>]) -> Result<(Vec<u32>, Vec<f32>), ModelError> {
        let chosen = self.engine.prefill(prompts)?;
        let mut rows = self.engine.logits()?;
        let last = rows.split_off(rows.len().saturating_sub(self.vocab));
        Ok((chosen, last))
    }

    /// A decode step.
    pub fn decode(&mut self, feeds: &[Feed<'_>]) -> Result<(Vec<Vec<u32>>, Logits), ModelError> {
        let chosen = self.engine.decode(feeds)?;
        let logits = Logits {
            rows: self.engine.logits()?,
            vocab: self.vocab,
            per_seq: feeds.iter().map(|feed| feed.tokens.len()).max().unwrap_or(1),
        };
        Ok((chosen, logits))
    }

    /// Runs the subject by itself, token by token, and keeps everything.
    pub fn reference(&mut self, sampling: Sampling) -> Result<Trace, ModelError> {
        let prompt = self.prompt("reference");
        let new = self.sizes.new;
        self.with(sampling, |runner, seq| {
            let mut trace = Trace::default();
            let (chosen, logits) = runner.prefill(&[Feed { seq, tokens: &prompt }])?;
            trace.push(chosen[0], &logits);
            while trace.tokens.len() < new {
                let last = trace.tokens[trace.tokens.len() - 1];
                let (chosen, logits) = runner.decode(&[Feed { seq, tokens: &[last] }])?;
                trace.push(chosen[0][0], logits.row(0, 0));
            }
            Ok(trace)
        })
    }

    /// Runs the subject's prompt by itself and compares its first token.
    pub fn begin(&mut self, seq: SeqId, judge: &mut Judge<'_>, check: &str) -> Result<(), ModelError> {
        let prompt = self.prompt(check);
        let (chosen, logits) = self.prefill(&[Feed { seq, tokens: &prompt }])?;
        judge.row(0, 0, &logits, chosen[0]);
        Ok(())
    }

    /// Runs the subject by itself, token by token, and compares.
    pub fn alone<'r>(
        &mut self,
        check: &str,
        reference: &'r Trace,
        sampling: Sampling,
    ) -> Result<Judge<'r>, ModelError> {
        self.with(sampling, |runner, seq| {
            let mut judge = Judge::new(reference, check);
            runner.begin(seq, &mut judge, check)?;
            for at in 1..reference.tokens.len() {
                if !judge.fine() {
                    break;
                }
                let last = reference.tokens[at - 1];
                let (chosen, logits) = runner.decode(&[Feed { seq, tokens: &[last] }])?;
                judge.row(at, 0, logits.row(0, 0), chosen[0][0]);
            }
            Ok(judge)
        })
    }

    /// Runs the subject on pages and slots that others have used, beside one that is still there.
    pub fn reopened<'r>(&mut self, check: &str, reference: &'r Trace) -> Result<Judge<'r>, ModelError> {
        let vocab = self.vocab as u32;
        let others: Vec<Vec<u32>> = (0..2).map(|k| made_up(900 + k, self.prompt.len(), vocab)).collect();
        let used = |runner: &mut Self, seq: SeqId, tokens: &[u32]| -> Result<(), ModelError> {
            let (mut last, _) = runner.prefill(&[Feed { seq, tokens }])?;
            for _ in 0..2 {
                last = runner.decode(&[Feed { seq, tokens: &last }])?.0.concat();
            }
            Ok(())
        };
        let first = self.engine.open(GREEDY)?;
        let outcome = used(self, first, &others[0]);
        if self.sizes.batch() < 2 {
            self.engine.close(first);
            outcome?;
            return self.alone(check, reference, GREEDY);
        }
        let outcome = outcome.and_then(|()| {
            self.with(GREEDY, |runner, second| {
                used(runner, second, &others[1])?;
                runner.engine.close(first);
                runner.alone(check, reference, GREEDY)
            })
        });
        self.engine.close(first);
        outcome
    }
}
