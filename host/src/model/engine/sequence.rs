//! Sequences: their tokens, the pages and slots they hold.

use crate::model::ModelError;
use crate::model::limits::Limits;

/// A sequence: a number that no other one of the engine had or will have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeqId(pub(super) usize);

/// How a sequence's tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Not above 0: the largest logit's token.
    pub temperature: f32,
    /// The most likely tokens alone; 0 for all.
    pub top_k: u32,
    /// The shortest prefix of them with this share of the probability; 1 for all.
    pub top_p: f32,
    /// Of the random numbers: a token depends on the seed and its position alone.
    pub seed: u64,
}

impl Sampling {
    /// Always the largest logit's token.
    pub const GREEDY: Sampling = Sampling {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        seed: 0,
    };

    /// Whether nothing is drawn.
    pub fn is_greedy(&self) -> bool {
        // NaN draws nothing either.
        self.temperature.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater)
    }

    /// `top_p` as the operation `sample` takes it: a share of 2^24, rounded up.
    pub(super) fn top_p_bits(&self) -> u32 {
        let share = (f64::from(self.top_p).clamp(0.0, 1.0) * f64::from(1 << 24)).ceil();
        if self.top_p.is_nan() { 1 << 24 } else { share as u32 }
    }
}

/// One sequence.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    id: SeqId,
    /// Whether a step of it failed midway: nobody knows what its pages and slots hold.
    pub failed: bool,
    /// Tokens whose keys, values and states are on the device.
    pub tokens: Vec<u32>,
    /// The pages of its positions, in order.
    pub pages: Vec<i32>,
    /// Its slots; the state is in `slots[now]`.
    pub slots: Vec<i32>,
    /// None before the first token.
    pub now: Option<usize>,
    /// How its tokens are chosen.
    pub sampling: Sampling,
}

impl Sequence {
    /// Positions in the cache.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The slot its states are in; -1 before the first token.
    pub fn state_in(&self) -> i32 {
        self.now.map_or(-1, |i| self.slots[i])
    }

    /// The slots for the states after each of `count` tokens: the last one's is where the states are now, which are read before.
    pub fn state_out(&self, count: usize) -> Vec<i32> {
        let now = self.now.unwrap_or(0);
        let mut others = (0..self.slots.len()).filter(|&i| i != now);
        let mut order: Vec<usize> = others.by_ref().take(count.saturating_sub(1)).collect();
        order.push(now);
        order.iter().map(|&i| self.slots[i]).collect()
    }
}

/// All sequences, and the pages and slots that are free.
#[derive(Clone, Debug)]
pub(super) struct Sequences {
    limits: Limits,
    open: Vec<Option<Sequence>>,
    /// The number of the next sequence of each place: it leaves the place when divided by the number of places.
    next: Vec<usize>,
    free_pages: Vec<i32>,
}

impl Sequences {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            open: vec![None; limits.max_seqs as usize],
            next: (0..limits.max_seqs as usize).collect(),
            // The lowest page is taken first.
            free_pages: (0..limits.n_pages as i32).rev().collect(),
        }
    }

    pub fn open(&mut self, sampling: Sampling) -> Result<SeqId, ModelError> {
        let Some(at) = self.open.iter().position(Option::is_none) else {
            return Err(ModelError::Request(format!(
                "{} sequences are open, as many as the model was loaded for: close one, or load it with more",
                self.open.len()
            )));
        };
        let per_seq = self.limits.per_seq as i32;
        let first = at as i32 * per_seq;
        let id = SeqId(self.next[at]);
        self.next[at] += self.open.len();
        self.open[at] = Some(Sequence {
            id,
            failed: false,
            tokens: Vec::new(),
            pages: Vec::new(),
            slots: (first..first + per_seq).collect(),
            now: None,
            sampling,
        });
        Ok(id)
    }

    /// Whether a sequence has tokens.
    pub fn any_begun(&self) -> bool {
        self.open.iter().flatten().any(|sequence| sequence.len() > 0)
    }

    pub fn close(&mut self, id: SeqId) {
        let at = self.place(id);
        if let Some(sequence) = self.open[at].take_if(|sequence| sequence.id == id) {
            self.free_pages.extend(sequence.pages.into_iter().rev());
        }
    }

    fn place(&self, id: SeqId) -> usize {
        id.0 % self.open.len()
    }

    pub fn get(&self, id: SeqId) -> Result<&Sequence, ModelError> {
        self.open[self.place(id)]
            .as_ref()
            .filter(|sequence| sequence.id == id)
            .ok_or_else(|| ModelError::Request(format!("sequence {} is not open", id.0)))
    }

    pub fn get_mut(&mut self, id: SeqId) -> Result<&mut Sequence, ModelError> {
        let at = self.place(id);
        self.open[at]
            .as_mut()
            .filter(|sequence| sequence.id == id)
            .ok_or_else(|| ModelError::Request(format!("sequence {} is not open", id.0)))
    }

    /// Sees to it that sequences have pages for so many positions each; takes none where one lacks room.
    pub fn reserve(&mut self, wanted: &[(SeqId, usize)]) -> Result<(), ModelError> {
        let (page, context) = (self.limits.page as usize, self.limits.context() as usize);
        let mut missing = Vec::with_capacity(wanted.len());
        for &(id, positions) in wanted {
            if positions > context {
                return Err(ModelError::Context {
                    what: format!("sequence {}", id.0),
                    wanted: positions as u64,
                    room: context as u64,
                    advice: "shorten the text, or load the model with a longer context",
                });
            }
            let has = self.get(id)?.pages.len();
            missing.push((id, positions.div_ceil(page).saturating_sub(has)));
        }
        let all: usize = missing.iter().map(|m| m.1).sum();
        if all > self.free_pages.len() {
            return Err(ModelError::Context {
                what: "the cache of all sequences".into(),
                wanted: (all * page) as u64,
                room: (self.free_pages.len() * page) as u64,
                advice: "close a sequence, or load the model with more cache positions",
            });
        }
        for (id, count) in missing {
            let rest = self.free_pages.len() - count;
            let taken: Vec<i32> = self.free_pages.drain(rest..).rev().collect();
            self.get_mut(id)?.pages.extend(taken);
        }
        Ok(())
    }
}
