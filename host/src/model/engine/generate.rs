//! Generation: several requests together, with or without drafts.

use super::drafts::look_up;
use super::{Engine, Feed, Sampling, SeqId};
use crate::model::ModelError;

/// What is to be generated.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prompt.
    pub prompt: Vec<u32>,
    /// The most tokens to generate.
    pub max_new: usize,
    /// How they are chosen.
    pub sampling: Sampling,
    /// Whether a token that ends a text ends it.
    pub stop: bool,
}

/// Where drafts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draft {
    /// There are none.
    None,
    /// The text: up to so many tokens.
    Lookup(u32),
    /// The MTP head: up to so many tokens.
    Mtp(u32),
}

impl Draft {
    /// The most drafts of a step.
    pub fn count(self) -> u32 {
        match self {
            Draft::None => 0,
            Draft::Lookup(count) | Draft::Mtp(count) => count,
        }
    }
}

/// What has been generated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generated {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Decode steps it took part in.
    pub steps: usize,
    /// Drafts that were verified.
    pub drafted: usize,
    /// Drafts that were right.
    pub accepted: usize,
}

impl Engine {
    /// Generates for several requests together, each in a sequence of its own, which is closed afterwards. `each` sees every token as it is
    /// chosen, with its request's number.
    ///
    /// # Errors
    /// More requests than sequences, an empty prompt, a token that is none, more drafts than the model was loaded for, more positions than there
    /// is room for; the device's.
    pub fn generate(
        &mut self,
        requests: &[Request],
        draft: Draft,
        each: &mut dyn FnMut(usize, u32),
    ) -> Result<Vec<Generated>, ModelError> {
        if draft.count() >= self.limits.per_seq {
            return Err(ModelError::Request(format!(
                "{} drafts a step: the model was loaded for {}",
                draft.count(),
                self.limits.per_seq - 1
            )));
        }
        if matches!(draft, Draft::Mtp(_)) && !self.follow {
            self.follow_with_mtp()?;
        }
        let room = self.limits.context() as usize;
        for (i, request) in requests.iter().enumerate() {
            // The last token that is generated is never fed.
            let (prompt, new) = (request.prompt.len(), request.max_new);
            let wanted = prompt.saturating_add(new.saturating_sub(1));
            if wanted > room {
                return Err(ModelError::Context {
                    what: format!("request {i}, {prompt} tokens of the prompt and {new} to generate"),
                    wanted: wanted as u64,
                    room: room as u64,
                    advice: "shorten the prompt, generate fewer, or load the model with a longer context",
                });
            }
        }
        let mut seqs = Vec::with_capacity(requests.len());
        let outcome = self.open_all(requests, &mut seqs).and_then(|()| {
            let feeds: Vec<Feed<'_>> = seqs
                .iter()
                .zip(requests)
                .map(|(&seq, request)| Feed {
                    seq,
                    tokens: &request.prompt,
                })
                .collect();
            self.run(requests, &seqs, &feeds, draft, each)
        });
        for seq in seqs {
            self.close(seq);
        }
        outcome
    }

    fn open_all(&mut self, requests: &[Request], seqs: &mut Vec<SeqId>) -> Result<(), ModelError> {
        for request in requests {
            seqs.push(self.open(request.sampling)?);
        }
        Ok(())
    }

    fn run(
        &mut self,
        requests: &[Request],
        seqs: &[SeqId],
        prompts: &[Feed<'_>],
        draft: Draft,
        each: &mut dyn FnMut(usize, u32),
    ) -> Result<Vec<Generated>, ModelError> {
        let mut all = vec![Generated::default(); requests.len()];
        let mut live = vec![true; requests.len()];
        let first = self.prefill(prompts)?;
        for (i, token) in first.into_iter().enumerate() {
            live[i] = self.take(&requests[i], &mut all[i], &[token], i, each);
        }
        loop {
            let going: Vec<usize> = (0..requests.len()).filter(|&i| live[i]).collect();
            if going.is_empty() {
                return Ok(all);
            }
            let mut texts = Vec::with_capacity(going.len());
            let drafts = self.drafts(&going, requests, seqs, &all, draft)?;
            for (&i, drafts) in going.iter().zip(drafts) {
                let last = all[i].tokens[all[i].tokens.len() - 1];
                texts.push([vec![last], drafts].concat());
            }
            let feeds: Vec<Feed<'_>> = going
                .iter()
                .zip(&texts)
                .map(|(&i, tokens)| Feed { seq: seqs[i], tokens })
                .collect();
            let chosen = self.decode(&feeds)?;
            for ((&i, text), chosen) in going.iter().zip(&texts).zip(chosen) {
                all[i].steps += 1;
                all[i].drafted += text.len() - 1;
                all[i].accepted += chosen.len() - 1;
                live[i] = self.take(&requests[i], &mut all[i], &chosen, i, each);
            }
        }
    }

    /// Adds chosen tokens to a request's; whether it goes on.
    fn take(
        &self,
        request: &Request,
        generated: &mut Generated,
        chosen: &[u32],
        number: usize,
        each: &mut dyn FnMut(usize, u32),
    ) -> bool {
        for &token in chosen {
            if generated.tokens.len() == request.max_new {
                return false;
            }
            generated.tokens.push(token);
            each(number, token);
            if request.stop && self.config.eos.contains(&token) {
                return false;
            }
        }
        generated.tokens.len() < request.max_new
    }

    /// Drafts for the requests that go on. No more than there is room for, nor than can be of use.
    fn drafts(
        &mut self,
        going: &[usize],
        requests: &[Request],
        seqs: &[SeqId],
        all: &[Generated],
        draft: Draft,
    ) -> Result<Vec<Vec<u32>>, ModelError> {
        let mut most = draft.count() as usize;
        while most > 0 {
            let mut wanted = Vec::with_capacity(going.len());
            for &i in going {
                // The chosen token is not in the cache yet.
                wanted.push((seqs[i], self.sequences.get(seqs[i])?.len() + 1 + most));
            }
            match self.sequences.reserve(&wanted) {
                Ok(()) => break,
                Err(_) => most -= 1,
            }
        }
        let useful = |i: usize| requests[i].max_new.saturating_sub(all[i].tokens.len() + 1);
        match draft {
            _ if most == 0 => Ok(vec![Vec::new(); going.len()]),
            Draft::None => Ok(vec![Vec::new(); going.len()]),
            Draft::Lookup(_) => {
                let text = |&i: &usize| {
                    let text = [&requests[i].prompt[..], &all[i].tokens].concat();
                    look_up(&text, most.min(useful(i)))
                };
                Ok(going.iter().map(text).collect())
            }
            Draft::Mtp(_) => {
                let ids: Vec<SeqId> = going.iter().map(|&i| seqs[i]).collect();
                let mut guesses = self.guesses(&ids, most)?;
                for (&i, guesses) in going.iter().zip(&mut guesses) {
                    guesses.truncate(useful(i));
                }
                Ok(guesses)
            }
        }
    }
}
