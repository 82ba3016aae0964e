//! Batches: how many query tokens and positions each sequence has, and the bytes and multiply-adds that follow from it.

use crate::op::random::Random;
use crate::op::spec::Dims;

/// One sequence of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lengths {
    /// Query tokens: the last positions.
    pub(super) tokens: usize,
    /// Positions in the cache, the query tokens' included.
    pub(super) len: usize,
}

impl Lengths {
    /// The first and the last position that query token `t` sees.
    pub(super) fn admitted(self, t: usize, window: usize) -> (usize, usize) {
        let last = self.len - self.tokens + t;
        let first = if window == 0 {
            0
        } else {
            (last + 1).saturating_sub(window)
        };
        (first, last)
    }
}

/// The batch of a prefill case. Lengths depend on the dimensions alone, so that what a case costs is known without its seed.
pub(super) fn prefill(dims: &Dims) -> Vec<Lengths> {
    let (n_seq, n_tok, past) = (dims.usize("n_seq"), dims.usize("n_tok"), dims.usize("past"));
    let random = lengths_of(dims);
    let ragged = dims.u64("ragged") == 1;
    // Where one sequence ends and the next begins: even, or cuts at random, some of them equal.
    let mut cuts: Vec<usize> = (0..=n_seq).map(|s| s * n_tok / n_seq).collect();
    if ragged {
        let inner = 1..n_seq;
        inner.for_each(|s| cuts[s] = random.below(s as u64, n_tok as u64 + 1) as usize);
        cuts.sort_unstable();
    }
    let sequence = |s: usize| {
        let tokens = cuts[s + 1] - cuts[s];
        let drawn = random.below((n_seq + s) as u64, past as u64 + 1) as usize;
        // The first has all of it, so that the case has the positions that it names.
        let before = if ragged && s > 0 { drawn } else { past };
        Lengths {
            tokens,
            len: before + tokens,
        }
    };
    (0..n_seq).map(sequence).collect()
}

/// The batch of a decode case.
pub(super) fn decode(dims: &Dims) -> Vec<Lengths> {
    let (n_seq, n_tok, kv_len) = (dims.usize("n_seq"), dims.usize("n_tok"), dims.usize("kv_len"));
    let random = lengths_of(dims);
    let sequence = |s: usize| {
        if dims.u64("ragged") == 0 || s == 0 {
            return Lengths {
                tokens: n_tok,
                len: kv_len,
            };
        }
        let tokens = random.below(2 * s as u64, n_tok as u64 + 1) as usize;
        let before = random.below(2 * s as u64 + 1, (kv_len - tokens) as u64 + 1) as usize;
        Lengths {
            tokens,
            len: before + tokens,
        }
    };
    (0..n_seq).map(sequence).collect()
}

fn lengths_of(dims: &Dims) -> Random {
    let text: Vec<String> = dims
        .pairs()
        .iter()
        .map(|(name, size)| format!("{name}={size}"))
        .collect();
    Random::new(0, &text.join(","))
}

/// What a batch needs at the least, for one head of q and of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Need {
    /// Query tokens.
    pub(super) tokens: u64,
    /// Positions of the cache that some token sees.
    pub(super) positions: u64,
    /// Pairs of a token and a position that it sees.
    pub(super) pairs: u64,
}

/// The need of a batch.
pub(super) fn need(batch: &[Lengths], window: usize) -> Need {
    let mut need = Need::default();
    for seq in batch.iter().filter(|seq| seq.tokens > 0) {
        need.tokens += seq.tokens as u64;
        need.positions += (seq.len - seq.admitted(0, window).0) as u64;
        for t in 0..seq.tokens {
            let (first, last) = seq.admitted(t, window);
            need.pairs += (last + 1 - first) as u64;
        }
    }
    need
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn need_counts_what_is_seen() {
        let batch = [
            Lengths { tokens: 3, len: 5 },
            Lengths { tokens: 0, len: 9 },
            Lengths { tokens: 1, len: 1 },
        ];
        let all = Need {
            tokens: 4,
            positions: 6,
            pairs: 3 + 4 + 5 + 1,
        };
        assert_eq!(need(&batch, 0), all);
        assert_eq!(need(&batch, 100), all);
        assert_eq!(
            need(&batch, 2),
            Need {
                tokens: 4,
                positions: 5,
                pairs: 2 * 3 + 1
            }
        );
    }
}
