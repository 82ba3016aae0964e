//! The subject among other sequences.

use std::collections::BTreeMap;

use host::model::ModelError;
use host::model::engine::{Feed, Sampling, SeqId};

use super::drafts::Drafts;
use super::runner::{GREEDY, Runner, drawn};
use super::trace::{Difference, Judge, Trace};
use crate::model::{Fnv128, made_up};

/// Sequences that are in a batch beside the subject. The k-th is the same in every batch, so its logits must be the same in all.
pub struct Companions {
    seed: u64,
    longest: usize,
    vocab: u32,
    /// By companion, the hashes of its rows as first seen.
    seen: BTreeMap<usize, Vec<Fnv128>>,
}

impl Companions {
    /// With prompts of up to `longest` tokens.
    pub fn new(seed: u64, longest: usize, vocab: u32) -> Self {
        Self {
            seed,
            longest,
            vocab,
            seen: BTreeMap::new(),
        }
    }

    /// The k-th one's prompt; all have lengths of their own.
    pub fn prompt(&self, k: usize) -> Vec<u32> {
        let length = 1 + (17 + 41 * k) % self.longest.max(1);
        made_up(
            self.seed.wrapping_mul(1000).wrapping_add(k as u64 + 1),
            length,
            self.vocab,
        )
    }

    /// Drafts that are wrong, unless chance has it otherwise.
    fn drafts(&self, k: usize, step: usize, most: usize) -> Vec<u32> {
        let count = (k + step) % (most + 1);
        made_up(self.seed ^ (k * 7919 + step) as u64, count, self.vocab)
    }

    /// Compares a row with the same companion's in an earlier batch.
    fn row(&mut self, k: usize, token: usize, logits: &[f32]) -> Option<Difference> {
        let hash = Fnv128::of(logits);
        let seen = self.seen.entry(k).or_default();
        match seen.get(token) {
            Some(want) if *want == hash => None,
            Some(want) => Some(Difference {
                sequence: format!("companion {k}"),
                // The first token is the prompt's, whose logits are not kept.
                token: token + 1,
                row: 0,
                byte: None,
                want: format!("logits of hash {want} as in the batch before"),
                got: format!("logits of hash {hash}"),
            }),
            None => {
                seen.push(hash);
                None
            }
        }
    }
}

/// How a batch is run.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// Sequences, the subject among them.
    pub size: u32,
    /// How the subject's tokens are chosen.
    pub sampling: Sampling,
    /// The most drafts of the subject's steps, right and wrong; 0 for steps of one token.
    pub drafts: u32,
}

impl Runner<'_> {
    /// Runs the subject in the middle of a batch and compares.
    pub fn batch<'r>(&mut self, check: &str, reference: &'r Trace, batch: Batch) -> Result<Judge<'r>, ModelError> {
        let mut seqs = Vec::new();
        let outcome = self.batch_of(check, reference, batch, &mut seqs);
        for seq in seqs {
            self.engine.close(seq);
        }
        outcome
    }

    fn batch_of<'r>(
        &mut self,
        check: &str,
        reference: &'r Trace,
        batch: Batch,
        seqs: &mut Vec<SeqId>,
    ) -> Result<Judge<'r>, ModelError> {
        let others = batch.size as usize - 1;
        for k in 0..others {
            let draws = !batch.sampling.is_greedy() && k % 2 == 0;
            seqs.push(self.engine.open(if draws { drawn(1000 + k as u64) } else { GREEDY })?);
        }
        let subject = self.engine.open(batch.sampling)?;
        seqs.push(subject);
        // The subject's prompt is the last, so that its logits are among those of the last step.
        let mut prompts: Vec<Vec<u32>> = (0..others).map(|k| self.companions.prompt(k)).collect();
        prompts.push(self.prompt(check));
        let feeds: Vec<Feed<'_>> = seqs
            .iter()
            .zip(&prompts)
            .map(|(&seq, tokens)| Feed { seq, tokens })
            .collect();
        let (mut last, logits) = self.prefill(&feeds)?;
        let mut judge = Judge::new(reference, check);
        judge.row(0, 0, &logits, last[others]);
        last.truncate(others);
        let place = others / 2;
        let mut drafts = Drafts::new(reference, batch.drafts as usize, self.engine.config().vocab);
        let mut step = 0;
        while let Some(next) = drafts.next().filter(|_| judge.fine()) {
            let mut texts: Vec<(SeqId, Vec<u32>)> = Vec::new();
            for k in 0..others {
                let drafts = self.companions.drafts(k, step, batch.drafts as usize);
                texts.push((seqs[k], [vec![last[k]], drafts].concat()));
            }
            texts.insert(place, (subject, next.tokens.clone()));
            let feeds: Vec<Feed<'_>> = texts.iter().map(|(seq, tokens)| Feed { seq: *seq, tokens }).collect();
            let (mut chosen, logits) = self.decode(&feeds)?;
            let kept = chosen.remove(place);
            next.judge(&mut judge, &kept, |row| logits.row(place, row));
            drafts.advance(&next);
            for (k, chosen) in chosen.iter().enumerate() {
                last[k] = chosen.last().copied().unwrap_or_default();
                // With drafts by chance, or with drawn tokens, a companion is not the same in every batch.
                if batch.drafts == 0 && batch.sampling.is_greedy() {
                    let at = k + usize::from(k >= place);
                    if let Some(difference) = self.companions.row(k, step, logits.row(at, 0)) {
                        judge.found(difference);
                    }
                }
            }
            step += 1;
        }
        Ok(judge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn companions_differ_and_are_remembered() {
        let mut companions = Companions::new(3, 130, 500);
        let lengths: Vec<usize> = (0..4).map(|k| companions.prompt(k).len()).collect();
        assert_eq!(lengths, [18, 59, 100, 11]);
        assert_ne!(companions.prompt(0)[..11], companions.prompt(3)[..11]);
        assert!(companions.row(0, 0, &[1.0]).is_none() && companions.row(0, 0, &[1.0]).is_none());
        let difference = companions.row(0, 0, &[1.5]).unwrap();
        assert!(
            difference.to_string().starts_with("companion 0, token 1"),
            "{difference}"
        );
    }
}
