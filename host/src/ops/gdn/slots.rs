//! The slots that the convolution's cases start from and leave states in.

use super::one_in;
use crate::op::Values;
use crate::op::data::Draw;

/// Whether a case that is timed keeps the state of every token, as the verification of drafts does, or of each sequence's last
/// one, as prompts do.
pub(super) fn every_state(n_tok: u64, n_seq: u64) -> bool {
    n_tok <= 8 * n_seq
}

/// Which slot each sequence starts from, and which slots its states go to.
pub(super) struct Slots {
    /// `[n_seq]`.
    pub(super) state_in: Vec<i32>,
    /// `[n_tok]`.
    pub(super) state_out: Vec<i32>,
    /// How many there are.
    pub(super) count: usize,
}

impl Slots {
    /// A third of the sequences starts anew. With [`Values::Normal`] the last token's state, or every token's, is kept, in even
    /// sequences the last one in place; otherwise those of tokens anywhere are, one of them in place in most sequences.
    pub(super) fn draw(cu_seqlens: &[i32], draw: Draw) -> Slots {
        let random = draw.random("gdn_conv slots");
        let (n_seq, n_tok) = (cu_seqlens.len() - 1, cu_seqlens[cu_seqlens.len() - 1] as usize);
        let normal = draw.values == Values::Normal;
        let every = every_state(n_tok as u64, n_seq as u64);
        // Slot s is sequence s's.
        let (mut state_out, mut count) = (vec![-1; n_tok], n_seq);
        for seq in 0..n_seq {
            let tokens = cu_seqlens[seq] as usize..cu_seqlens[seq + 1] as usize;
            let Some(last) = tokens.clone().last() else { continue };
            let (in_place, some) = if normal {
                (last, seq % 2 == 0)
            } else {
                let token = tokens.start + random.below((2 * n_tok + seq) as u64, tokens.len() as u64) as usize;
                (token, !one_in(4, random, 2 * n_tok + n_seq + seq))
            };
            for token in tokens {
                let keep = if normal {
                    every || token == last
                } else {
                    one_in(2, random, token)
                };
                if some && token == in_place {
                    state_out[token] = seq as i32;
                } else if keep {
                    state_out[token] = count as i32;
                    count += 1;
                }
            }
        }
        // In descending order: neighbours in a batch are none in memory.
        let turned = |slot: i32| if slot < 0 { -1 } else { count as i32 - 1 - slot };
        let from = |seq: usize| if one_in(3, random, n_tok + seq) { -1 } else { seq as i32 };
        Slots {
            state_in: (0..n_seq).map(|seq| turned(from(seq))).collect(),
            state_out: state_out.into_iter().map(turned).collect(),
            count,
        }
    }
}
