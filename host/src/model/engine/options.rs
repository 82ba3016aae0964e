//! What a model is loaded for.

use crate::dispatch::Mode;
use crate::model::ModelError;
use crate::model::config::ModelConfig;
use crate::model::limits::Limits;

/// What a model is loaded for. Everything a step needs is taken at load by these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Strict: only configs in canonical order.
    pub mode: Mode,
    /// Whether steps are captured in graphs and replayed.
    pub graphs: bool,
    /// Sequences open at a time.
    pub max_seqs: u32,
    /// Positions of a sequence.
    pub context: u32,
    /// Positions of all sequences together; none for as many as all can have.
    pub cache_positions: Option<u32>,
    /// Tokens of a prefill step, a multiple of 64.
    pub chunk: u32,
    /// The most drafted tokens of a sequence that a step verifies.
    pub drafts: u32,
    /// Positions of a page.
    pub page: u32,
    /// Whether logits of every token of a prompt can be asked for, and not of the last alone.
    pub all_logits: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::Strict,
            graphs: true,
            max_seqs: 1,
            context: 4096,
            cache_positions: None,
            chunk: 512,
            drafts: 0,
            page: 64,
            all_logits: false,
        }
    }
}

impl Options {
    /// The limits that follow for a model.
    ///
    /// # Errors
    /// [`ModelError::Request`] with the option, its value and what would do.
    pub fn limits(&self, config: &ModelConfig) -> Result<Limits, ModelError> {
        let page = self.page.max(1);
        let max_pages = self.context.div_ceil(page).max(1);
        let per_seq = self.drafts.saturating_add(1);
        let rows = self.max_seqs.saturating_mul(per_seq);
        let n_pages = match self.cache_positions {
            Some(positions) => positions.div_ceil(page),
            None => self.max_seqs.saturating_mul(max_pages),
        };
        let limits = Limits {
            max_seqs: self.max_seqs,
            chunk: self.chunk,
            per_seq,
            max_out: if self.all_logits { rows.max(self.chunk) } else { rows },
            page: self.page,
            max_pages,
            n_pages,
        };
        limits.check(config)?;
        Ok(limits)
    }
}
