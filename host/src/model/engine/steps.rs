//! Steps: prompts in chunks, and the next tokens of several sequences with their drafts.

use super::{Engine, SeqId};
use crate::model::ModelError;
use crate::model::plan::{Head, Kind, Net, StepShape};

/// Chunks of a gated delta net: prompts are cut at multiples of it.
const CUT: usize = kernels_gpu::gdn::CHUNK as usize;

/// Tokens for a sequence: a prompt, or the last chosen token and drafts of those after it.
#[derive(Clone, Copy, Debug)]
pub struct Feed<'a> {
    /// The sequence.
    pub seq: SeqId,
    /// Its next tokens.
    pub tokens: &'a [u32],
}

/// Of which tokens of a prompt logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Of the last.
    Last,
    /// Of all.
    All,
}

/// Part of a prompt in one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// Which prompt.
    pub feed: usize,
    /// Its first token here.
    pub first: usize,
    /// Its tokens here.
    pub count: usize,
    /// Whether the prompt ends here.
    pub last: bool,
}

impl Piece {
    /// Those of its tokens (from 0 in this piece) whose logits are wanted.
    pub fn wanted(&self, wanted: Wanted) -> std::ops::Range<usize> {
        match wanted {
            Wanted::All => 0..self.count,
            Wanted::Last if self.last => self.count - 1..self.count,
            Wanted::Last => 0..0,
        }
    }
}

/// One sequence of a step, as the inputs have it.
pub(super) struct Row {
    pub seq: SeqId,
    /// Token ids; -1 for rows that are no token.
    pub ids: Vec<i32>,
    /// Positions in the cache before the step.
    pub past: usize,
    /// The slot after each token.
    pub state_out: Vec<i32>,
    /// The step's own rows (from 0 in this sequence) whose logits are wanted.
    pub wanted: std::ops::Range<usize>,
}

/// Gets, after each step and for each prompt with wanted rows, the prompt's number, the first of the rows, the tokens chosen after them, and
/// a way to their logits.
type Each<'a> =
    dyn FnMut(usize, usize, &[u32], &mut dyn FnMut() -> Result<Vec<f32>, ModelError>) -> Result<(), ModelError> + 'a;

impl Engine {
    /// Runs prompts, chunk by chunk; gives the token that follows each. The logits it was chosen by are [`Engine::logits`]' where one step
    /// was enough.
    ///
    /// # Errors
    /// An empty prompt, a token that is none, more positions than there is room for: nothing has changed then. The device's, after which
    /// the sequences can only be closed.
    pub fn prefill(&mut self, prompts: &[Feed<'_>]) -> Result<Vec<u32>, ModelError> {
        let mut chosen = vec![0; prompts.len()];
        self.prefill_with(prompts, Wanted::Last, &mut |feed, _, tokens, _| {
            chosen[feed] = tokens.last().copied().unwrap_or_default();
            Ok(())
        })?;
        Ok(chosen)
    }

    /// Runs a prompt; gives the logits of all its tokens, `[tokens][vocab]`.
    ///
    /// # Errors
    /// As [`Engine::prefill`]; [`ModelError::Request`] where the model was not loaded for all logits.
    pub fn prefill_logits(&mut self, seq: SeqId, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        if !self.options.all_logits {
            return Err(ModelError::Request(
                "logits of every token of a prompt: load the model with all_logits".into(),
            ));
        }
        // Those of a prompt that is too long are never made.
        let rows = tokens.len().min(self.limits.context() as usize);
        let mut all = Vec::new();
        all.try_reserve_exact(rows * self.config.vocab as usize).map_err(|e| {
            let vocab = self.config.vocab;
            ModelError::Request(format!("logits of {rows} tokens, {vocab} f32 each, on the host: {e}"))
        })?;
        self.prefill_with(&[Feed { seq, tokens }], Wanted::All, &mut |_, _, _, logits| {
            all.extend(logits()?);
            Ok(())
        })?;
        Ok(all)
    }

    /// The next step's pieces: as many tokens as a chunk has, cut at multiples of 64 of a prompt.
    fn next_pieces(&self, prompts: &[Feed<'_>], done: &[usize]) -> Vec<Piece> {
        let (mut room, mut pieces) = (self.chunk as usize, Vec::new());
        for (feed, prompt) in prompts.iter().enumerate() {
            let rest = prompt.tokens.len() - done[feed];
            let last = rest <= room;
            let count = if last { rest } else { room / CUT * CUT };
            if count == 0 || pieces.len() == self.limits.max_seqs as usize {
                continue;
            }
            room -= count;
            pieces.push(Piece {
                feed,
                first: done[feed],
                count,
                last,
            });
        }
        pieces
    }

    fn prefill_with(&mut self, prompts: &[Feed<'_>], wanted: Wanted, each: &mut Each<'_>) -> Result<(), ModelError> {
        self.check_feeds(prompts, usize::MAX)?;
        let mut positions = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            positions.push((prompt.seq, self.sequences.get(prompt.seq)?.len() + prompt.tokens.len()));
        }
        self.sequences.reserve(&positions)?;
        let steps = self.prefill_steps(prompts, wanted, each);
        self.outcome(prompts, steps)
    }

    fn prefill_steps(&mut self, prompts: &[Feed<'_>], wanted: Wanted, each: &mut Each<'_>) -> Result<(), ModelError> {
        let mut done = vec![0; prompts.len()];
        loop {
            let pieces = self.next_pieces(prompts, &done);
            if pieces.is_empty() {
                return Ok(());
            }
            let chosen = self.prefill_step(prompts, &pieces, wanted)?;
            let mut row = 0;
            for piece in &pieces {
                let rows = piece.wanted(wanted).len();
                done[piece.feed] += piece.count;
                if rows > 0 {
                    let mut logits = || self.logits_of(row, rows);
                    each(
                        piece.feed,
                        piece.first + piece.count - rows,
                        &chosen[row..row + rows],
                        &mut logits,
                    )?;
                }
                row += rows;
            }
        }
    }

    /// One step of prompts; the tokens chosen after the wanted rows.
    fn prefill_step(&mut self, prompts: &[Feed<'_>], pieces: &[Piece], wanted: Wanted) -> Result<Vec<u32>, ModelError> {
        let total: usize = pieces.iter().map(|piece| piece.count).sum();
        let mut rows = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let prompt = &prompts[piece.feed];
            let sequence = self.sequences.get(prompt.seq)?;
            let mut state_out = vec![-1; piece.count];
            state_out[piece.count - 1] = sequence.state_out(1)[0];
            let tokens = &prompt.tokens[piece.first..piece.first + piece.count];
            rows.push(Row {
                seq: prompt.seq,
                ids: tokens.iter().map(|&id| id as i32).collect(),
                past: sequence.len(),
                state_out,
                wanted: piece.wanted(wanted),
            });
        }
        let n_seq = self.limits.step_seqs(pieces.len() as u32);
        let n_tok = self.limits.prefill_rows(total as u32);
        let any = rows.iter().any(|row| !row.wanted.is_empty());
        let shape = StepShape {
            net: Net::Main,
            kind: Kind::Prefill,
            n_tok,
            n_seq,
            n_out: match (wanted, any) {
                (_, false) => 0,
                (Wanted::All, _) => n_tok,
                (Wanted::Last, _) => n_seq,
            },
            head: if any { self.head(&rows)? } else { Head::None },
        };
        let chosen = self.step(shape, &rows)?;
        for piece in pieces {
            let prompt = &prompts[piece.feed];
            let sequence = self.sequences.get_mut(prompt.seq)?;
            sequence
                .tokens
                .extend(&prompt.tokens[piece.first..piece.first + piece.count]);
            sequence.now = Some(sequence.now.unwrap_or(0));
        }
        if self.follow {
            self.follow_prefill(prompts, pieces, &rows, &chosen, shape)?;
        }
        Ok(chosen)
    }

    /// Runs the last chosen token of each sequence, with drafts of those after it, in one step. Gives the tokens chosen: one after each draft
    /// that was right, and one more; so many of the fed tokens are kept as were chosen.
    ///
    /// # Errors
    /// No tokens or more than the model was loaded for, a token that is none, more positions than there is room for (each sequence needs it
    /// for as many tokens as the longest feed has): nothing has changed then. The device's, after which the sequences can only be closed.
    pub fn decode(&mut self, feeds: &[Feed<'_>]) -> Result<Vec<Vec<u32>>, ModelError> {
        self.check_feeds(feeds, self.limits.per_seq as usize)?;
        let per_seq = feeds.iter().map(|feed| feed.tokens.len()).max().unwrap_or(0);
        if per_seq == 0 {
            return Ok(Vec::new());
        }
        let (mut rows, mut positions) = (Vec::with_capacity(feeds.len()), Vec::with_capacity(feeds.len()));
        for feed in feeds {
            let sequence = self.sequences.get(feed.seq)?;
            let count = feed.tokens.len();
            let mut ids = vec![-1; per_seq];
            let mut state_out = vec![-1; per_seq];
            for (to, &id) in ids.iter_mut().zip(feed.tokens) {
                *to = id as i32;
            }
            state_out[..count].copy_from_slice(&sequence.state_out(count));
            positions.push((feed.seq, sequence.len() + per_seq));
            rows.push(Row {
                seq: feed.seq,
                ids,
                past: sequence.len(),
                state_out,
                wanted: 0..per_seq,
            });
        }
        self.sequences.reserve(&positions)?;
        let step = self.decode_step(feeds, &rows, per_seq);
        self.outcome(feeds, step)
    }

    /// Marks the sequences of a step that failed: their states may be those of before or of after it.
    fn outcome<R>(&mut self, feeds: &[Feed<'_>], step: Result<R, ModelError>) -> Result<R, ModelError> {
        for feed in feeds.iter().filter(|_| step.is_err()) {
            self.sequences.get_mut(feed.seq)?.failed = true;
        }
        step
    }

    fn decode_step(&mut self, feeds: &[Feed<'_>], rows: &[Row], per_seq: usize) -> Result<Vec<Vec<u32>>, ModelError> {
        let n_seq = self.limits.step_seqs(feeds.len() as u32);
        let n_tok = n_seq * per_seq as u32;
        let shape = StepShape {
            net: Net::Main,
            kind: Kind::Decode,
            n_tok,
            n_seq,
            n_out: n_tok,
            head: self.head(rows)?,
        };
        let chosen = self.step(shape, rows)?;
        let mut kept = Vec::with_capacity(feeds.len());
        for (i, feed) in feeds.iter().enumerate() {
            let chosen = &chosen[i * per_seq..][..feed.tokens.len()];
            let right = feed.tokens[1..].iter().zip(chosen).take_while(|(d, c)| d == c).count();
            let slot = rows[i].state_out[right];
            let sequence = self.sequences.get_mut(feed.seq)?;
            sequence.tokens.extend(&feed.tokens[..=right]);
            sequence.now = sequence.slots.iter().position(|&s| s == slot);
            kept.push(chosen[..=right].to_vec());
        }
        if self.follow {
            self.follow_decode(rows, &kept, shape)?;
        }
        Ok(kept)
    }

    /// The logits of the last step, `[rows][vocab]`: of a prefill's last tokens, in the order of the prompts that ended; of all fed tokens of a
    /// decode, filled up to the most of a sequence.
    ///
    /// # Errors
    /// The device's.
    pub fn logits(&self) -> Result<Vec<f32>, ModelError> {
        self.logits_of(0, self.last_rows)
    }

    fn logits_of(&self, first: usize, rows: usize) -> Result<Vec<f32>, ModelError> {
        let vocab = self.config.vocab as usize;
        let mut logits = vec![0.0; rows * vocab];
        if let Some(buffer) = self.memory.buffer(&self.parts.outputs.logits) {
            buffer.download_at(4 * first * vocab, &mut logits)?;
        }
        Ok(logits)
    }

    /// Refuses what cannot be, before anything changes.
    fn check_feeds(&self, feeds: &[Feed<'_>], most: usize) -> Result<(), ModelError> {
        let max_seqs = self.limits.max_seqs as usize;
        if feeds.len() > max_seqs {
            return Err(ModelError::Request(format!(
                "{} sequences at a time: the model was loaded for {max_seqs}",
                feeds.len()
            )));
        }
        for (i, feed) in feeds.iter().enumerate() {
            if self.sequences.get(feed.seq)?.failed {
                let message = format!(
                    "a step of sequence {} failed midway: close it and begin anew",
                    feed.seq.0
                );
                return Err(ModelError::Request(message));
            }
            if feeds[..i].iter().any(|other| other.seq == feed.seq) {
                return Err(ModelError::Request(format!("sequence {} is there twice", feed.seq.0)));
            }
            if feed.tokens.is_empty() || feed.tokens.len() > most {
                return Err(ModelError::Request(format!(
                    "{} tokens for sequence {}: from 1 to {most} can be taken",
                    feed.tokens.len(),
                    feed.seq.0
                )));
            }
            if let Some((index, &id)) = feed.tokens.iter().enumerate().find(|&(_, &id)| id >= self.config.vocab) {
                let vocab = self.config.vocab;
                return Err(ModelError::Token { index, id, vocab });
            }
        }
        Ok(())
    }

    /// What chooses the tokens: the argmax where nobody draws.
    fn head(&self, rows: &[Row]) -> Result<Head, ModelError> {
        for row in rows {
            if !self.sequences.get(row.seq)?.sampling.is_greedy() {
                return Ok(Head::Sample);
            }
        }
        Ok(Head::Greedy)
    }

    /// Writes the inputs, runs a step of the model, reads the chosen tokens of all wanted rows.
    fn step(&mut self, shape: StepShape, rows: &[Row]) -> Result<Vec<u32>, ModelError> {
        self.set_rows(shape, rows)?;
        self.set_wanted(shape, rows)?;
        let count = rows.iter().map(|row| row.wanted.len()).sum();
        self.last_rows = count;
        self.launch(shape)?;
        self.chosen(shape, count)
    }

    /// Writes the inputs' image to the device and queues a step.
    pub(super) fn launch(&mut self, shape: StepShape) -> Result<(), ModelError> {
        self.parts.inputs.write(&self.memory, &self.image)?;
        let work = (self.work.ptr(), self.work.len_bytes());
        let context = self.parts.context(&self.config, &self.limits, &self.dispatcher, work);
        let graphs = self.options.graphs;
        self.pool.run(context, shape, &self.device, &self.stream, graphs)
    }

    /// The first `count` tokens that a step has chosen.
    pub(super) fn chosen(&self, shape: StepShape, count: usize) -> Result<Vec<u32>, ModelError> {
        let region = match shape.net {
            Net::Main => &self.parts.outputs.tokens,
            Net::Mtp => &self.parts.outputs.draft_tokens,
        };
        let mut tokens = vec![0_i32; count];
        if let Some(buffer) = self.memory.buffer(region).filter(|_| count > 0) {
            buffer.download(&mut tokens)?;
        }
        Ok(tokens.into_iter().map(|id| id as u32).collect())
    }
}
