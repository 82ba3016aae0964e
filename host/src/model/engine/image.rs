//! The inputs of a step, from its rows.

use super::Engine;
use super::steps::Row;
use crate::model::ModelError;
use crate::model::plan::{Kind, StepShape};

impl Engine {
    /// The image's tokens, lengths, pages and slots.
    pub(super) fn set_rows(&mut self, shape: StepShape, rows: &[Row]) -> Result<(), ModelError> {
        let (n_tok, n_seq) = (shape.n_tok as usize, shape.n_seq as usize);
        let per_seq = shape.per_seq() as usize;
        let (mut ids, mut positions) = (vec![-1; n_tok], vec![0; n_tok]);
        let mut state_out = vec![-1; n_tok];
        let (mut seq_lens, mut state_in, mut state_end) = (vec![0; n_seq], vec![-1; n_seq], vec![-1; n_seq]);
        let mut cu_seqlens = Vec::with_capacity(n_seq + 1);
        let max_pages = self.limits.max_pages as usize;
        let mut block_table = vec![-1; n_seq * max_pages];
        let mut at = 0;
        for (s, row) in rows.iter().enumerate() {
            let sequence = self.sequences.get(row.seq)?;
            cu_seqlens.push(at as i32);
            for (j, (&id, &slot)) in row.ids.iter().zip(&row.state_out).enumerate() {
                ids[at + j] = id;
                positions[at + j] = (row.past + j) as i32;
                state_out[at + j] = slot;
            }
            at += row.ids.len();
            seq_lens[s] = (row.past + row.ids.len()) as i32;
            state_in[s] = sequence.state_in();
            state_end[s] = row.state_out.last().copied().unwrap_or(-1);
            block_table[s * max_pages..][..sequence.pages.len()].copy_from_slice(&sequence.pages);
        }
        // Sequences that are none: no tokens of a prefill, and those of a decode are before every position.
        for _ in rows.len()..=n_seq {
            cu_seqlens.push(at as i32);
            if shape.kind == Kind::Decode {
                at += per_seq;
            }
        }
        let (inputs, image) = (self.parts.inputs, &mut self.image);
        image.set(inputs.ids, &ids);
        image.set(inputs.positions, &positions);
        image.set(inputs.cu_seqlens, &cu_seqlens);
        image.set(inputs.seq_lens, &seq_lens);
        image.set(inputs.state_in, &state_in);
        image.set(inputs.state_end, &state_end);
        image.set(inputs.state_out, &state_out);
        image.set(inputs.block_table, &block_table);
        Ok(())
    }

    /// The image's wanted rows, in order, and how their tokens are chosen.
    pub(super) fn set_wanted(&mut self, shape: StepShape, rows: &[Row]) -> Result<(), ModelError> {
        let n_out = shape.n_out as usize;
        let mut out_rows = vec![-1; n_out];
        let (mut temperature, mut top_k, mut top_p) =
            (vec![0.0_f32; n_out], vec![0_u32; n_out], vec![1_u32 << 24; n_out]);
        let (mut position, mut seed) = (vec![0_i32; n_out], vec![0_u64; n_out]);
        let (mut first, mut out) = (0, 0);
        for row in rows {
            let sampling = self.sequences.get(row.seq)?.sampling;
            for j in row.wanted.clone() {
                out_rows[out] = (first + j) as i32;
                temperature[out] = sampling.temperature;
                top_k[out] = sampling.top_k;
                top_p[out] = sampling.top_p_bits();
                // The token that is chosen here has the next position.
                position[out] = (row.past + j + 1) as i32;
                seed[out] = sampling.seed;
                out += 1;
            }
            first += row.ids.len();
        }
        let (inputs, image) = (self.parts.inputs, &mut self.image);
        image.set(inputs.out_rows, &out_rows);
        image.set(inputs.temperature, &temperature);
        image.set(inputs.top_k, &top_k);
        image.set(inputs.top_p, &top_p);
        image.set(inputs.sample_position, &position);
        image.set(inputs.seed, &seed);
        Ok(())
    }
}
