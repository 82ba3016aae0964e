//! The data of one case of either operation.

use super::batch::Lengths;
use super::half::Half;
use crate::op::Values;
use crate::op::data::Draw;
use crate::op::spec::Dims;
use crate::reference::attention::{Attention, Heads, Order};

/// Sizes that every part of a problem has in common, or changes one by one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) order: Order,
    pub(super) q_heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) page: usize,
    pub(super) window: usize,
    pub(super) gate: bool,
}

impl Shape {
    pub(super) fn of(dims: &Dims, order: Order) -> Self {
        Self {
            order,
            q_heads: dims.usize("q_heads"),
            kv_heads: dims.usize("kv_heads"),
            head_dim: dims.usize("head_dim"),
            page: dims.usize("page"),
            window: dims.usize("window"),
            gate: dims.u64("gate") == 1,
        }
    }

    /// Elements from a token's queries to the next one's. Without a gate they are part of a packed q, k, v; with one, each head's gate
    /// follows its query, as the checkpoints of gated models have it.
    pub(super) fn q_row(&self) -> usize {
        let heads = if self.gate {
            2 * self.q_heads
        } else {
            self.q_heads + 2 * self.kv_heads
        };
        heads * self.head_dim
    }

    /// Elements from a head's query to the next one's.
    pub(super) fn q_head(&self) -> usize {
        if self.gate { 2 * self.head_dim } else { self.head_dim }
    }

    /// Elements of a page.
    pub(super) fn page_elements(&self) -> usize {
        self.kv_heads * self.page * self.head_dim
    }

    /// scale * log2 e for the usual scale, 1 / sqrt(head_dim).
    pub(super) fn scale_log2(&self) -> f32 {
        (std::f64::consts::LOG2_E / (self.head_dim as f64).sqrt()) as f32
    }
}

/// One launch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Launch {
    /// Its first sequence in seq_lens; in cu_seqlens each launch before has one element more.
    pub(super) first: usize,
    /// Its sequences.
    pub(super) n_seq: usize,
    /// Its first query token among all.
    pub(super) token: usize,
    /// Its query tokens.
    pub(super) tokens: usize,
    /// Those of the sequence that has most.
    pub(super) most: usize,
}

/// The launches of a problem, with the lists they read one after the other.
pub(super) struct Lists {
    pub(super) launches: Vec<Launch>,
    pub(super) cu_seqlens: Vec<i32>,
    pub(super) seq_lens: Vec<i32>,
}

impl Lists {
    /// One launch of a batch.
    pub(super) fn whole(batch: &[Lengths]) -> Self {
        let mut lists = Self {
            launches: Vec::new(),
            cu_seqlens: Vec::new(),
            seq_lens: Vec::new(),
        };
        lists.add(batch, 0);
        lists
    }

    /// One sequence in launches of so many query tokens: at each the cache is as long as it was then.
    pub(super) fn steps(seq: Lengths, steps: &[usize]) -> Self {
        let mut lists = Self::whole(&[]);
        (lists.launches, lists.cu_seqlens) = (Vec::new(), Vec::new());
        let mut token = 0;
        for &tokens in steps {
            let len = seq.len - seq.tokens + token + tokens;
            lists.add(&[Lengths { tokens, len }], token);
            token += tokens;
        }
        lists
    }

    fn add(&mut self, batch: &[Lengths], token: usize) {
        let first = self.seq_lens.len();
        let mut tokens = 0;
        self.cu_seqlens.push(0);
        for seq in batch {
            tokens += seq.tokens;
            self.cu_seqlens.push(tokens as i32);
            self.seq_lens.push(seq.len as i32);
        }
        self.launches.push(Launch {
            first,
            n_seq: batch.len(),
            token,
            tokens,
            most: batch.iter().map(|seq| seq.tokens).max().unwrap_or(0),
        });
    }
}

/// The data of a case.
pub(super) struct Data<T> {
    pub(super) shape: Shape,
    pub(super) q: Vec<T>,
    pub(super) k: Vec<T>,
    pub(super) v: Vec<T>,
    /// `[n_seq][max_pages]`.
    pub(super) block_table: Vec<i32>,
    pub(super) max_pages: usize,
    pub(super) batch: Vec<Lengths>,
    pub(super) lists: Lists,
}

impl<T: Half> Data<T> {
    /// Draws the data of a batch. What no kernel may read is NaN: the rest of a last page, pages that belong to nobody, the parts of q's rows
    /// between queries.
    pub(super) fn draw(shape: Shape, batch: Vec<Lengths>, values: Values, seed: u64) -> Self {
        let draw = Draw { seed, values };
        let tokens: usize = batch.iter().map(|seq| seq.tokens).sum();
        let (d, width) = (shape.head_dim, shape.q_row());
        // Queries twice as large as usual: softmax has peaks then, and maxima that move.
        let mut q: Vec<T> = draw.floats("attention q", tokens, width, 2.0);
        if !shape.gate {
            let unused = shape.q_heads * d..width;
            q.chunks_mut(width.max(1))
                .for_each(|row| row[unused.clone()].fill(T::POISON));
        }
        let pages: Vec<usize> = batch.iter().map(|seq| seq.len.div_ceil(shape.page)).collect();
        // An entry and a few pages more than are used.
        let max_pages = pages.iter().max().map_or(1, |n| n + 1);
        let n_pages = pages.iter().sum::<usize>() + 3;
        let mut free: Vec<i32> = (0..n_pages as i32).collect();
        let random = draw.random("attention pages");
        for i in (1..n_pages).rev() {
            free.swap(i, random.below(i as u64, i as u64 + 1) as usize);
        }
        let mut block_table = vec![i32::MAX; max_pages * batch.len()];
        let mut left = vec![0; n_pages];
        for (s, seq) in batch.iter().enumerate() {
            for j in 0..pages[s] {
                let page = free.pop().unwrap_or_default();
                block_table[s * max_pages + j] = page;
                left[page as usize] = (seq.len - j * shape.page).min(shape.page);
            }
        }
        // V is finite or nothing is promised.
        let finite = if values == Values::NonFinite {
            Values::Normal
        } else {
            values
        };
        let rows = n_pages * shape.kv_heads * shape.page;
        let mut k: Vec<T> = draw.floats("attention k", rows, d, 1.0);
        let mut v: Vec<T> = Draw { values: finite, ..draw }.floats("attention v", rows, d, 1.0);
        for cache in [&mut k, &mut v] {
            for (page, head) in cache.chunks_mut(shape.page * d).enumerate() {
                head[left[page / shape.kv_heads] * d..].fill(T::POISON);
            }
        }
        let lists = Lists::whole(&batch);
        Self {
            shape,
            q,
            k,
            v,
            block_table,
            max_pages,
            batch,
            lists,
        }
    }

    /// Query tokens of all sequences.
    pub(super) fn tokens(&self) -> usize {
        self.batch.iter().map(|seq| seq.tokens).sum()
    }

    /// The batch as the reference takes it, whatever the launches.
    pub(super) fn attention<'a>(&'a self, whole: &'a Lists) -> Attention<'a, T> {
        let shape = self.shape;
        let heads = |data| Heads {
            data,
            row: shape.q_row(),
            head: shape.q_head(),
        };
        Attention {
            q: heads(&self.q),
            gate: shape
                .gate
                .then(|| heads(self.q.get(shape.head_dim..).unwrap_or_default())),
            k: &self.k,
            v: &self.v,
            block_table: &self.block_table,
            cu_seqlens: &whole.cu_seqlens,
            seq_lens: &whole.seq_lens,
            q_heads: shape.q_heads,
            kv_heads: shape.kv_heads,
            head_dim: shape.head_dim,
            page: shape.page,
            window: shape.window,
            scale_log2: shape.scale_log2(),
        }
    }
}
