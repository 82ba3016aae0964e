//! Drafts of the tokens to come: by the MTP head where the checkpoint has one, by looking the last tokens up in the text where it has none.
//! A draft costs time when it is wrong and changes no token: the model verifies every one.

use super::Engine;
use super::sequence::SeqId;
use super::steps::{Feed, Piece, Row};
use crate::model::ModelError;
use crate::model::plan::{Head, Kind, Net, StepShape};

/// The most tokens that are looked up.
const LONGEST: usize = 3;

/// Up to `count` tokens that followed the longest run of last tokens where it stood before, the latest place first; up to [`LONGEST`] tokens are
/// looked up, as in transformers' prompt lookup.
pub(super) fn look_up(text: &[u32], count: usize) -> Vec<u32> {
    for length in (1..=LONGEST.min(text.len().saturating_sub(1))).rev() {
        let (last, before) = (&text[text.len() - length..], &text[..text.len() - 1]);
        if let Some(at) = before.windows(length).rposition(|run| run == last) {
            return text[at + length..].iter().copied().take(count).collect();
        }
    }
    Vec::new()
}

/// What the MTP head says of a sequence after a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guess {
    seq: SeqId,
    /// Its guess of the token after the chosen one.
    token: u32,
    /// Its row of hidden states after the head's step.
    row: usize,
    /// Which of the head's steps: the next one writes its own hidden states over the row.
    step: u64,
}

impl Engine {
    /// Lets the MTP head go along with every step from now on, so that [`Engine::guesses`] can be asked for. Before the first token of any
    /// sequence.
    ///
    /// # Errors
    /// [`ModelError::Request`]: the model has none, or sequences have begun.
    pub fn follow_with_mtp(&mut self) -> Result<(), ModelError> {
        if self.parts.weights.mtp.is_none() {
            return Err(ModelError::Request(format!(
                "{} has no head that predicts the token after the next: draft by lookup",
                self.config.name
            )));
        }
        if self.sequences.any_begun() {
            return Err(ModelError::Request(
                "the MTP head has to go along from the first token of a sequence, and some have begun".into(),
            ));
        }
        self.follow = true;
        Ok(())
    }

    /// Drops what the MTP head said of a sequence.
    pub(super) fn forget(&mut self, seq: SeqId) {
        self.guesses.retain(|guess| guess.seq != seq);
    }

    /// Whether the MTP head goes along.
    pub fn follows(&self) -> bool {
        self.follow
    }

    /// The MTP head's step after a prompt's: token i + 1 beside the hidden state of i; after the last token the chosen one.
    pub(super) fn follow_prefill(
        &mut self,
        prompts: &[Feed<'_>],
        pieces: &[Piece],
        rows: &[Row],
        chosen: &[u32],
        shape: StepShape,
    ) -> Result<(), ModelError> {
        let (mut next, mut first) = (0, 0);
        let mut shifted = Vec::with_capacity(rows.len());
        let mut out = Vec::new();
        let mut hidden = Vec::new();
        for (piece, row) in pieces.iter().zip(rows) {
            let tokens = prompts[piece.feed].tokens;
            let picked = row.wanted.len();
            let after = match chosen.get(next + picked.max(1) - 1) {
                Some(&token) if piece.last => token,
                _ => tokens.get(piece.first + piece.count).copied().unwrap_or_default(),
            };
            next += picked;
            let inside = tokens[piece.first + 1..piece.first + piece.count].iter();
            let ids = inside.copied().chain([after]).map(|id| id as i32).collect();
            hidden.extend((first..first + piece.count).map(|i| i as i32));
            first += piece.count;
            if piece.last {
                out.push((row.seq, first - 1));
            }
            shifted.push(row.again(ids));
        }
        let guesses = self.run_mtp(shape, &shifted, &hidden, &out)?;
        self.keep(guesses);
        Ok(())
    }

    /// The MTP head's step after a decode step: beside the hidden state of each kept token the one chosen after it.
    pub(super) fn follow_decode(
        &mut self,
        rows: &[Row],
        kept: &[Vec<u32>],
        shape: StepShape,
    ) -> Result<(), ModelError> {
        let per_seq = shape.per_seq() as usize;
        let (mut shifted, mut out) = (Vec::with_capacity(rows.len()), Vec::new());
        for (s, (row, kept)) in rows.iter().zip(kept).enumerate() {
            let mut ids = vec![-1; per_seq];
            for (to, &id) in ids.iter_mut().zip(kept) {
                *to = id as i32;
            }
            out.push((row.seq, s * per_seq + kept.len() - 1));
            shifted.push(row.again(ids));
        }
        let hidden: Vec<i32> = (0..(rows.len() * per_seq) as i32).collect();
        let guesses = self.run_mtp(shape, &shifted, &hidden, &out)?;
        self.keep(guesses);
        Ok(())
    }

    fn keep(&mut self, guesses: Vec<Guess>) {
        for guess in guesses {
            self.forget(guess.seq);
            self.guesses.push(guess);
        }
    }

    /// Runs the MTP head on rows; `out`: the sequences whose guess is wanted, with their rows. Their guesses, in order.
    fn run_mtp(
        &mut self,
        shape: StepShape,
        rows: &[Row],
        hidden: &[i32],
        out: &[(SeqId, usize)],
    ) -> Result<Vec<Guess>, ModelError> {
        let n_out = if out.is_empty() { 0 } else { shape.n_seq };
        let shape = StepShape {
            net: Net::Mtp,
            n_out,
            head: if out.is_empty() { Head::None } else { Head::Greedy },
            ..shape
        };
        self.set_rows(shape, rows)?;
        let mut hidden_rows = vec![-1; shape.n_tok as usize];
        hidden_rows[..hidden.len()].copy_from_slice(hidden);
        let mut out_rows = vec![-1; n_out as usize];
        for (to, (_, row)) in out_rows.iter_mut().zip(out) {
            *to = *row as i32;
        }
        self.image.set(self.parts.inputs.hidden_rows, &hidden_rows);
        self.image.set(self.parts.inputs.out_rows, &out_rows);
        self.mtp_steps += 1;
        let step = self.mtp_steps;
        self.launch(shape)?;
        let tokens = self.chosen(shape, out.len())?;
        self.guessed = out.len();
        let guess = |(&(seq, row), token)| Guess { seq, token, row, step };
        Ok(out.iter().zip(tokens).map(guess).collect())
    }

    /// The MTP head's logits of its last step, `[vocab]` of each sequence that it guessed for, in the order of the step.
    ///
    /// # Errors
    /// The device's.
    pub fn draft_logits(&self) -> Result<Vec<f32>, ModelError> {
        let mut logits = vec![0.0; self.guessed * self.config.vocab as usize];
        if let Some(buffer) = self
            .memory
            .buffer(&self.parts.outputs.draft_logits)
            .filter(|_| !logits.is_empty())
        {
            buffer.download(&mut logits)?;
        }
        Ok(logits)
    }

    /// Up to `count` guesses of the MTP head for each sequence: what follows the token that was chosen last. All but the first go on from
    /// the head's last step, so there is one alone where a sequence had no part in it.
    ///
    /// # Errors
    /// [`ModelError::Request`]: the head does not go along, a sequence has no token yet or is there twice. The device's.
    pub fn guesses(&mut self, seqs: &[SeqId], count: usize) -> Result<Vec<Vec<u32>>, ModelError> {
        let mut guesses = Vec::with_capacity(seqs.len());
        for (i, seq) in seqs.iter().enumerate() {
            if seqs[..i].contains(seq) {
                return Err(ModelError::Request(format!("sequence {} is there twice", seq.0)));
            }
            let found = self.guesses.iter().find(|guess| guess.seq == *seq);
            let none = || ModelError::Request(format!("the MTP head has no guess for sequence {}", seq.0));
            guesses.push(*found.ok_or_else(none)?);
        }
        if count == 0 {
            return Ok(vec![Vec::new(); seqs.len()]);
        }
        let mut all: Vec<Vec<u32>> = guesses.iter().map(|guess| vec![guess.token]).collect();
        let max_tok = self.limits.max_tok() as i32;
        for ahead in 1..count {
            if guesses.iter().any(|guess| guess.step != self.mtp_steps) {
                break;
            }
            let (mut rows, mut positions) = (Vec::with_capacity(seqs.len()), Vec::new());
            for guess in &guesses {
                let past = self.sequences.get(guess.seq)?.len() + ahead - 1;
                positions.push((guess.seq, past + 1));
                rows.push(Row {
                    seq: guess.seq,
                    ids: vec![guess.token as i32],
                    past,
                    state_out: vec![-1],
                    wanted: 0..1,
                });
            }
            if self.sequences.reserve(&positions).is_err() {
                break;
            }
            let n_seq = self.limits.step_seqs(seqs.len() as u32);
            let shape = StepShape {
                net: Net::Mtp,
                kind: Kind::Decode,
                n_tok: n_seq,
                n_seq,
                n_out: n_seq,
                head: Head::Greedy,
            };
            // The head goes on from its own hidden states.
            let hidden: Vec<i32> = guesses.iter().map(|guess| max_tok + guess.row as i32).collect();
            let out: Vec<(SeqId, usize)> = seqs.iter().enumerate().map(|(row, &seq)| (seq, row)).collect();
            guesses = self.run_mtp(shape, &rows, &hidden, &out)?;
            for (drafts, guess) in all.iter_mut().zip(&guesses) {
                drafts.push(guess.token);
            }
        }
        Ok(all)
    }
}

impl Row {
    /// The same sequence and place with other tokens, whose states nobody keeps.
    fn again(&self, ids: Vec<i32>) -> Row {
        Row {
            seq: self.seq,
            state_out: vec![-1; ids.len()],
            ids,
            past: self.past,
            wanted: 0..0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::look_up;

    #[test]
    fn the_longest_and_latest_run_is_continued() {
        assert_eq!(look_up(&[1, 2, 3, 4, 9, 1, 2, 3], 2), [4, 9]);
        // Two tokens match later than three would.
        assert_eq!(look_up(&[5, 1, 2, 3, 7, 2, 3, 8, 1, 2, 3], 1), [7]);
        assert_eq!(look_up(&[4, 6, 4, 7, 4], 3), [7, 4]);
        assert_eq!(look_up(&[1, 1], 4), [1]);
        assert!(look_up(&[1, 2, 3], 4).is_empty() && look_up(&[], 1).is_empty());
    }
}
