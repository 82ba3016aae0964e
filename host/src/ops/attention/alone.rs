//! Parts of a batch that must come out the same by themselves.

use super::batch::Lengths;
use super::data::{Data, Lists, Shape};
use super::half::Half;
use crate::op::random::Random;
use crate::op::spec::{Alone, Same, sample};
use crate::reference::attention::Order;

/// Some sequences alone, a head alone, and sequences of several tokens in steps.
pub(super) fn parts<T: Half>(data: &Data<T>, pick: Random) -> Vec<Alone> {
    let mut parts = Vec::new();
    let o_row = data.shape.q_heads * data.shape.head_dim;
    let with_tokens: Vec<usize> = (0..data.batch.len()).filter(|&s| data.batch[s].tokens > 0).collect();
    for at in sample(pick, 3, with_tokens.len()) {
        let s = with_tokens[at];
        let seq = data.batch[s];
        let first = tokens_before(data, s);
        let same = || vec![Same::new::<T>("o", first * o_row, 0, seq.tokens * o_row)];
        if data.batch.len() > 1 {
            parts.push(Alone {
                name: "sequence alone",
                problem: Box::new(sequence(data, s)),
                same: same(),
            });
        }
        for (name, steps) in steps(data.shape.order, seq, pick) {
            let mut problem = sequence(data, s);
            problem.lists = Lists::steps(seq, &steps);
            parts.push(Alone {
                name,
                problem: Box::new(problem),
                same: same(),
            });
        }
    }
    if data.shape.q_heads > 1 && data.tokens() > 0 {
        let head = pick.below(5, data.shape.q_heads as u64) as usize;
        let d = data.shape.head_dim;
        let token = |t| Same::new::<T>("o", t * o_row + head * d, t * d, d);
        parts.push(Alone {
            name: "head alone",
            problem: Box::new(one_head(data, head)),
            same: (0..data.tokens()).map(token).collect(),
        });
    }
    parts
}

/// How a sequence's query tokens are cut: a prompt at 64 and at random, drafted tokens one by one.
fn steps(order: Order, seq: Lengths, pick: Random) -> Vec<(&'static str, Vec<usize>)> {
    let mut all = Vec::new();
    if seq.tokens < 2 {
        return all;
    }
    if order == Order::Decode {
        all.push(("tokens one by one", vec![1; seq.tokens]));
        return all;
    }
    // To the next multiple of 64 of the positions, then by 64.
    let to_multiple = (64 - (seq.len - seq.tokens) % 64).min(seq.tokens);
    let mut chunks = vec![to_multiple];
    let mut left = seq.tokens - to_multiple;
    while left > 0 {
        chunks.push(left.min(64));
        left -= left.min(64);
    }
    if chunks.len() > 1 {
        all.push(("split at 64", chunks));
    }
    let cut = 1 + pick.below(6, seq.tokens as u64 - 1) as usize;
    all.push(("split anywhere", vec![cut, seq.tokens - cut]));
    all
}

fn tokens_before<T>(data: &Data<T>, s: usize) -> usize {
    data.batch[..s].iter().map(|seq| seq.tokens).sum()
}

/// Sequence `s` with its own pages, in another order than in the batch.
fn sequence<T: Half>(data: &Data<T>, s: usize) -> Data<T> {
    let (shape, seq) = (data.shape, data.batch[s]);
    let pages = seq.len.div_ceil(shape.page);
    let own = &data.block_table[s * data.max_pages..][..pages];
    let cache = |whole: &[T]| -> Vec<T> {
        let page = |&p: &i32| &whole[p as usize * shape.page_elements()..][..shape.page_elements()];
        own.iter().rev().flat_map(page).copied().collect()
    };
    let q_row = shape.q_row();
    let batch = vec![seq];
    Data {
        shape,
        q: data.q[tokens_before(data, s) * q_row..][..seq.tokens * q_row].to_vec(),
        k: cache(&data.k),
        v: cache(&data.v),
        block_table: (0..pages as i32).rev().collect(),
        max_pages: pages,
        lists: Lists::whole(&batch),
        batch,
    }
}

/// Head `head` of all sequences, with the head of the cache that it reads.
fn one_head<T: Half>(data: &Data<T>, head: usize) -> Data<T> {
    let old = data.shape;
    let shape = Shape {
        q_heads: 1,
        kv_heads: 1,
        ..old
    };
    let kv_head = head / (old.q_heads / old.kv_heads);
    let cache = |whole: &[T]| -> Vec<T> {
        let heads = whole
            .chunks(old.page * old.head_dim)
            .skip(kv_head)
            .step_by(old.kv_heads);
        heads.flatten().copied().collect()
    };
    let mut q = vec![T::POISON; data.tokens() * shape.q_row()];
    for (to, from) in q.chunks_mut(shape.q_row()).zip(data.q.chunks(old.q_row())) {
        // The query, and its gate where there is one.
        let width = old.q_head();
        to[..width].copy_from_slice(&from[head * width..][..width]);
    }
    Data {
        shape,
        q,
        k: cache(&data.k),
        v: cache(&data.v),
        block_table: data.block_table.clone(),
        max_pages: data.max_pages,
        batch: data.batch.clone(),
        lists: Lists::whole(&data.batch),
    }
}
