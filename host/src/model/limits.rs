//! How much a loaded model is ready for: fixed at load, so that a step takes no memory.

use super::ModelError;
use super::config::ModelConfig;

/// The fewest rows that a prefill step is filled up to.
const SMALLEST_PREFILL: u32 = 16;

/// The sizes that steps are filled up to: 1, 2, 4, ... and the most.
pub(super) fn buckets(most: u32) -> Vec<u32> {
    let mut sizes: Vec<u32> = (0..31).map(|i| 1 << i).take_while(|size| *size < most).collect();
    sizes.push(most);
    sizes
}

/// The size that `count` is filled up to.
fn bucket(count: u32, most: u32) -> u32 {
    count.max(1).next_power_of_two().min(most)
}

/// The most of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sequences of a step, and open at a time.
    pub max_seqs: u32,
    /// Tokens of a prefill step.
    pub chunk: u32,
    /// Tokens of a sequence that a decode step verifies: 1 and the drafts.
    pub per_seq: u32,
    /// Rows of logits of a step.
    pub max_out: u32,
    /// Positions of a page: 16, 32 or 64.
    pub page: u32,
    /// Pages of a sequence.
    pub max_pages: u32,
    /// Pages of the cache.
    pub n_pages: u32,
}

impl Limits {
    /// The most rows of a step.
    pub fn max_tok(&self) -> u32 {
        self.chunk.max(self.slots())
    }

    /// The most positions of a sequence.
    pub fn context(&self) -> u32 {
        self.max_pages.saturating_mul(self.page)
    }

    /// The sequences that a step of so many is filled up to.
    pub fn step_seqs(&self, count: u32) -> u32 {
        bucket(count, self.max_seqs)
    }

    /// The rows that a prefill step of so many tokens is filled up to.
    pub fn prefill_rows(&self, tokens: u32) -> u32 {
        bucket(tokens.max(SMALLEST_PREFILL), self.chunk)
    }

    /// Slots for states: each sequence has one for every token of a verification.
    pub fn slots(&self) -> u32 {
        self.max_seqs.saturating_mul(self.per_seq)
    }

    /// Checks them against each other and the model.
    ///
    /// # Errors
    /// [`ModelError::Request`] with the limit, its value and what would do.
    pub fn check(&self, config: &ModelConfig) -> Result<(), ModelError> {
        let range = |what: &str, value: u32, least: u32, most: u32| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(ModelError::Request(format!(
                "{what} = {value}: it must be from {least} to {most}"
            )))
        };
        range("the number of sequences", self.max_seqs, 1, 4096)?;
        // A grid has at most 65,535 blocks in the direction that some operations have their tokens in.
        range("the tokens of a chunk", self.chunk, 64, 32_768)?;
        range("the tokens of a sequence that a step verifies", self.per_seq, 1, 8)?;
        range(
            "the rows of logits of a step",
            self.max_out,
            self.slots(),
            self.max_tok(),
        )?;
        if !self.chunk.is_multiple_of(64) {
            return Err(ModelError::Request(format!(
                "the tokens of a chunk = {}: it must be a multiple of 64, where the chunks of a gated delta net begin",
                self.chunk
            )));
        }
        if ![16, 32, 64].contains(&self.page) {
            return Err(ModelError::Request(format!(
                "the page = {}: a page has 16, 32 or 64 positions",
                self.page
            )));
        }
        if self.context() > config.max_positions.next_multiple_of(self.page) {
            return Err(ModelError::Request(format!(
                "a context of {} positions: {} was made for {}",
                self.context(),
                config.name,
                config.max_positions
            )));
        }
        range("the pages of the cache", self.n_pages, self.max_pages, 1 << 24)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_filled_up() {
        assert_eq!(buckets(6), [1, 2, 4, 6]);
        assert_eq!(buckets(1), [1]);
        assert_eq!((bucket(0, 8), bucket(3, 8), bucket(5, 6), bucket(8, 8)), (1, 4, 6, 8));
    }
}
