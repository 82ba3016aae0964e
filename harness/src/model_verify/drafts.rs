//! Drafts verified together: forced right, and wrong at each place in turn; looked up; the MTP head's.

use host::model::ModelError;
use host::model::engine::{Draft, Feed, Request, Sampling};

use super::runner::{GREEDY, Runner};
use super::trace::{Judge, Trace};

/// The subject's next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// The last chosen token and its drafts.
    pub tokens: Vec<u32>,
    /// Which token of the reference the first row chooses.
    at: usize,
    /// How many tokens must be kept.
    kept: usize,
}

impl Next {
    /// Compares what a step kept, and the logits of the rows that chose them.
    pub fn judge<'l>(&self, judge: &mut Judge<'_>, kept: &[u32], logits: impl Fn(usize) -> &'l [f32]) {
        judge.kept(self.at, self.kept, kept.len());
        for (row, &token) in kept.iter().enumerate().take(self.kept) {
            judge.row(self.at + row, row, logits(row), token);
        }
    }
}

/// The subject's steps with forced drafts: all right, then wrong at the first place, at the second, and so on.
pub struct Drafts<'r> {
    reference: &'r Trace,
    most: usize,
    vocab: u32,
    /// The token of the reference that was chosen last.
    last: usize,
    /// The place that is wrong next; 0 for none.
    wrong: usize,
}

impl<'r> Drafts<'r> {
    /// With up to `most` drafts a step.
    pub fn new(reference: &'r Trace, most: usize, vocab: u32) -> Self {
        Self {
            reference,
            most,
            vocab,
            last: 0,
            wrong: 0,
        }
    }

    /// The next step; none where the reference ends.
    pub fn next(&self) -> Option<Next> {
        let tokens = &self.reference.tokens;
        let rest = tokens.len().checked_sub(self.last + 2)?;
        let count = self.most.min(rest);
        let mut fed = tokens[self.last..=self.last + count].to_vec();
        let wrong = if self.wrong <= count { self.wrong } else { 0 };
        if wrong > 0 {
            fed[wrong] = (fed[wrong] + 1) % self.vocab;
        }
        Some(Next {
            tokens: fed,
            at: self.last + 1,
            kept: if wrong > 0 { wrong } else { count + 1 },
        })
    }

    /// Goes on behind a step.
    pub fn advance(&mut self, done: &Next) {
        self.last += done.kept;
        self.wrong = (self.wrong + 1) % (self.most + 1);
    }
}

impl Runner<'_> {
    /// Runs the subject by itself with forced drafts and compares.
    pub fn drafted<'r>(
        &mut self,
        check: &str,
        reference: &'r Trace,
        count: u32,
        sampling: Sampling,
    ) -> Result<Judge<'r>, ModelError> {
        let vocab = self.engine.config().vocab;
        self.with(sampling, |runner, seq| {
            let mut judge = Judge::new(reference, check);
            runner.begin(seq, &mut judge, check)?;
            let mut drafts = Drafts::new(reference, count as usize, vocab);
            while let Some(next) = drafts.next().filter(|_| judge.fine()) {
                let (chosen, logits) = runner.decode(&[Feed {
                    seq,
                    tokens: &next.tokens,
                }])?;
                next.judge(&mut judge, &chosen[0], |row| logits.row(0, row));
                drafts.advance(&next);
            }
            Ok(judge)
        })
    }

    /// Generates with drafts that the engine finds itself, and compares the tokens; gives how many drafts were right too.
    pub fn generated<'r>(
        &mut self,
        check: &str,
        reference: &'r Trace,
        draft: Draft,
    ) -> Result<(Judge<'r>, String), ModelError> {
        let request = Request {
            prompt: self.prompt(check),
            max_new: reference.tokens.len(),
            sampling: GREEDY,
            stop: false,
        };
        let all = self.engine.generate(&[request], draft, &mut |_, _| {})?;
        let mut judge = Judge::new(reference, check);
        let generated = all.into_iter().next().unwrap_or_default();
        for (at, &token) in generated.tokens.iter().enumerate() {
            judge.token(at, 0, token);
        }
        judge.kept(0, reference.tokens.len(), generated.tokens.len());
        Ok((
            judge,
            format!("{} of {} drafts right", generated.accepted, generated.drafted),
        ))
    }

    /// Runs the subject with the MTP head's drafts and compares.
    pub fn with_mtp<'r>(
        &mut self,
        check: &str,
        reference: &'r Trace,
        count: u32,
    ) -> Result<(Judge<'r>, String), ModelError> {
        if !self.engine.follows() {
            self.engine.follow_with_mtp()?;
        }
        self.with(GREEDY, |runner, seq| {
            let mut judge = Judge::new(reference, check);
            runner.begin(seq, &mut judge, check)?;
            let (mut at, mut drafted, mut right) = (1, 0, 0);
            while at < reference.tokens.len() && judge.fine() {
                let mut tokens = vec![reference.tokens[at - 1]];
                let useful = (reference.tokens.len() - at - 1).min(count as usize);
                if useful > 0 {
                    let guesses = runner.engine.guesses(&[seq], useful)?;
                    tokens.extend(guesses.into_iter().flatten().take(useful));
                }
                let (chosen, logits) = runner.decode(&[Feed { seq, tokens: &tokens }])?;
                for (row, &token) in chosen[0].iter().enumerate() {
                    judge.row(at + row, row, logits.row(0, row), token);
                }
                drafted += tokens.len() - 1;
                right += chosen[0].len() - 1;
                at += chosen[0].len();
            }
            Ok((judge, format!("{right} of {drafted} drafts right")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_are_right_then_wrong_at_each_place() {
        let mut trace = Trace::default();
        (0..12).for_each(|token| trace.push(token, &[0.0]));
        let mut drafts = Drafts::new(&trace, 2, 12);
        let mut steps = Vec::new();
        while let Some(next) = drafts.next() {
            drafts.advance(&next);
            steps.push((next.tokens, next.at, next.kept));
        }
        assert_eq!(
            steps,
            [
                (vec![0, 1, 2], 1, 3),
                (vec![3, 5, 5], 4, 1),
                (vec![4, 5, 7], 5, 2),
                (vec![6, 7, 8], 7, 3),
                (vec![9, 11], 10, 1),
                (vec![10], 11, 1),
            ]
        );
        // Without drafts: one token a step, each of the reference once.
        let mut plain = Drafts::new(&trace, 0, 12);
        let mut at = Vec::new();
        while let Some(next) = plain.next() {
            at.push(next.at);
            plain.advance(&next);
        }
        assert_eq!(at, (1..12).collect::<Vec<_>>());
    }
}
