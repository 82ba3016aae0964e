//! Tensors, launches and answers of a case.

use kernels_gpu::attn_decode;

use super::batch::need;
use super::call::AttnCall;
use super::data::{Data, Launch, Lists};
use super::half::Half;
use crate::device::{DevPtr, Device, Stream};
use crate::op::OpError;
use crate::op::call::Call;
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Bound, Piece, Problem, Tensor, bytes, sample};
use crate::reference::attention::Order;

/// The CPU reference does at most so many steps of a tensor core (about two seconds of a core), beyond it a sample of rows.
const CPU_STEPS: u64 = 1 << 24;
/// Rows of a sample: at least and at most.
const SAMPLED_ROWS: (u64, u64) = (4, 64);

impl<T: Half> Data<T> {
    /// Splits of the cache's capacity.
    fn splits(&self) -> u32 {
        attn_decode::splits((self.max_pages * self.shape.page) as u32)
    }

    /// A launch on the problem's tensors, the `index`th.
    fn call(&self, launch: &Launch, index: usize, tensors: &Bound) -> Result<AttnCall<T>, OpError> {
        let shape = &self.shape;
        let (q_row, o_row) = (shape.q_row(), shape.q_heads * shape.head_dim);
        let q = tensors.at::<T>("q")?.add(launch.token * q_row);
        let scratch = |name| match shape.order {
            Order::Prefill => Ok(DevPtr::NULL),
            Order::Decode => tensors.at(name),
        };
        Ok(AttnCall {
            order: shape.order,
            q,
            gate: if shape.gate {
                q.add(shape.head_dim)
            } else {
                DevPtr::NULL
            },
            k: tensors.at("k")?,
            v: tensors.at("v")?,
            o: tensors.at("o")?.add(launch.token * o_row),
            block_table: tensors.at("block_table")?,
            cu_seqlens: tensors.at("cu_seqlens")?.add(launch.first + index),
            seq_lens: tensors.at("seq_lens")?.add(launch.first),
            q_row: q_row as u32,
            q_head: shape.q_head() as u32,
            gate_row: q_row as u32,
            gate_head: shape.q_head() as u32,
            o_row: o_row as u32,
            n_tok: launch.tokens as u32,
            n_seq: launch.n_seq as u32,
            max_tok: launch.most as u32,
            q_heads: shape.q_heads as u32,
            kv_heads: shape.kv_heads as u32,
            head_dim: shape.head_dim as u32,
            page: shape.page as u32,
            max_pages: self.max_pages as u32,
            window: shape.window as u32,
            scale_log2: shape.scale_log2(),
            part_o: scratch("part_o")?,
            part_ml: scratch("part_ml")?,
        })
    }
}

impl<T: Half> Problem for Data<T> {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let shape = &self.shape;
        let (n_tok, d) = (self.tokens(), ("head_dim", shape.head_dim));
        let pages = self.k.len() / shape.page_elements();
        let cache = [
            ("n_pages", pages),
            ("kv_head", shape.kv_heads),
            ("position", shape.page),
            d,
        ];
        let table = [("n_seq", self.batch.len()), ("n_pages", self.max_pages)];
        let mut tensors = vec![
            Tensor::input("q", &[("n_tok", n_tok), ("q_row", shape.q_row())], &self.q),
            Tensor::weight("k", &cache, &self.k),
            Tensor::weight("v", &cache, &self.v),
            Tensor::input("block_table", &table, &self.block_table),
            Tensor::input(
                "cu_seqlens",
                &[("n", self.lists.cu_seqlens.len())],
                &self.lists.cu_seqlens,
            ),
            Tensor::input("seq_lens", &[("n", self.lists.seq_lens.len())], &self.lists.seq_lens),
        ];
        if shape.order == Order::Decode {
            let (rows, splits) = (("row", n_tok * shape.q_heads), ("split", self.splits() as usize));
            tensors.push(Tensor::scratch::<f32>("part_o", &[rows, splits, d]));
            tensors.push(Tensor::scratch::<f32>("part_ml", &[rows, splits, ("m or l", 2)]));
        }
        tensors.push(Tensor::output::<T>(
            "o",
            &[("n_tok", n_tok), ("head", shape.q_heads), d],
        ));
        tensors
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, tensors: &Bound) -> Result<(), OpError> {
        for (i, launch) in self.lists.launches.iter().enumerate() {
            self.call(launch, i, tensors)?.launch(device, stream, config)?;
        }
        Ok(())
    }

    fn reference(&self) -> Result<Answer, OpError> {
        let shape = &self.shape;
        let whole = Lists::whole(&self.batch);
        let attention = self.attention(&whole);
        let rows = (self.tokens() * shape.q_heads) as u64;
        let steps = need(&self.batch, shape.window).pairs * (shape.q_heads * shape.head_dim / 8) as u64;
        if steps <= CPU_STEPS {
            return Ok(Answer::Whole(vec![bytes(&attention.all(shape.order)?)]));
        }
        attention.check()?;
        let count = (CPU_STEPS / (steps / rows).max(1)).clamp(SAMPLED_ROWS.0, SAMPLED_ROWS.1);
        let picked = sample(Random::new(0, "attention pieces"), count as usize, rows as usize);
        let mut found = vec![T::POISON; picked.len() * shape.head_dim];
        crate::op::data::rows(&mut found, shape.head_dim, |i, row| {
            row.copy_from_slice(&attention.row(shape.order, picked[i] / shape.q_heads, picked[i] % shape.q_heads));
        });
        let pieces = picked.iter().zip(found.chunks(shape.head_dim));
        Ok(Answer::Pieces(
            pieces
                .map(|(row, o)| Piece::new("o", row * shape.head_dim, o))
                .collect(),
        ))
    }

    fn alone(&self, pick: Random) -> Vec<Alone> {
        super::alone::parts(self, pick)
    }
}
