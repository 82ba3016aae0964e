//! Rope, the cache and the rows of a table.

use half::bf16;
use host::ops::embedding::{EmbeddingCall, EmbeddingTable};
use host::ops::kv_append::KvAppendCall;
use host::ops::rope::RopeCall;
use host::reference::kv_append::{Batch, places};
use host::reference::{embedding, rope};

use crate::rows::{Rows, draw, holds, simulator};

#[test]
fn rope_from_one_packed_tensor_to_another() {
    let device = simulator();
    let (tokens, heads, head_dim, rot) = (3usize, 3usize, 64usize, 32usize);
    let x = draw("x", tokens * heads, head_dim);
    let positions = [5, 0, 70_000];
    let inv_freq: Vec<f32> = (0..rot / 2).map(|i| 0.5f32.powi(i as i32)).collect();
    for interleaved in [false, true] {
        let mut y = x.clone();
        for (i, head) in y.chunks_mut(head_dim).enumerate() {
            rope::rope(head, positions[i / heads], &inv_freq, interleaved);
        }
        let x = Rows::input(&device, &x, heads * head_dim, 9, 200);
        let positions = Rows::input(&device, &positions, 3, 1, 3);
        let inv_freq = Rows::input(&device, &inv_freq, rot / 2, 3, rot / 2);
        let out = Rows::output(&device, &vec![bf16::ZERO; y.len()], heads * head_dim, 16, 195);
        let call = RopeCall {
            x: x.ptr(),
            y: out.ptr(),
            positions: positions.ptr(),
            inv_freq: inv_freq.ptr(),
            n_tok: 3,
            heads: 3,
            head_dim: 64,
            rot: 32,
            interleaved,
            x_stride: 200,
            y_stride: 195,
        };
        let wrong = [
            RopeCall { x_stride: 199, ..call },
            RopeCall { y_stride: 196, ..call },
            RopeCall {
                interleaved: !interleaved,
                ..call
            },
            RopeCall { rot: 30, ..call },
            // Refused: an odd number of elements.
            RopeCall { rot: 31, ..call },
        ];
        holds(&device, call, &wrong, &out, &y);
    }
}

#[test]
fn kv_append_from_two_tensors() {
    let device = simulator();
    let (tokens, kv_heads, d, page, max_pages, n_pages) = (4usize, 2usize, 24usize, 4usize, 3usize, 5usize);
    let (cu_seqlens, seq_lens, table) = ([0, 3, 4], [6, 9], [4, 1, -1, 0, 3, 2]);
    let [k, v] = ["k", "v"].map(|name| draw(name, tokens, kv_heads * d));
    let caches = ["k cache", "v cache"].map(|name| draw(name, n_pages * kv_heads * page, d));
    let mut expected = caches.clone();
    let batch = Batch {
        cu_seqlens: &cu_seqlens,
        seq_lens: &seq_lens,
        block_table: &table,
        max_pages,
        page,
        n_pages,
    };
    for (token, place) in places(batch, tokens).unwrap().into_iter().enumerate() {
        let place = place.expect("a page for every token");
        for head in 0..kv_heads {
            let row = ((place.page * kv_heads + head) * page + place.slot) * d;
            for (cache, new) in expected.iter_mut().zip([&k, &v]) {
                cache[row..][..d].copy_from_slice(&new[(token * kv_heads + head) * d..][..d]);
            }
        }
    }
    let width = kv_heads * d;
    let (k, v) = (
        Rows::input(&device, &k, width, 8, 77),
        Rows::input(&device, &v, width, 3, 77),
    );
    let [cu, lens, table] =
        [&cu_seqlens[..], &seq_lens[..], &table[..]].map(|t| Rows::input(&device, t, t.len(), 1, 9));
    let [k_cache, v_cache] = [0, 1].map(|i| {
        let cache = &caches[i];
        Rows::output(&device, cache, cache.len(), 1 + 7 * i, cache.len())
    });
    let call = KvAppendCall {
        k: k.ptr(),
        v: v.ptr(),
        k_cache: k_cache.ptr(),
        v_cache: v_cache.ptr(),
        block_table: table.ptr(),
        cu_seqlens: cu.ptr(),
        seq_lens: lens.ptr(),
        n_tok: 4,
        n_seq: 2,
        kv_heads: 2,
        head_dim: 24,
        page: 4,
        max_pages: 3,
        n_pages: 5,
        stride: 77,
    };
    let wrong = [
        KvAppendCall { stride: 78, ..call },
        KvAppendCall { max_pages: 2, ..call },
        KvAppendCall { page: 8, ..call },
        KvAppendCall { n_tok: 3, ..call },
        // Refused.
        KvAppendCall { page: 0, ..call },
    ];
    holds(&device, call, &wrong, &v_cache, &expected[1]);
    k_cache.reset();
    holds(&device, call, &wrong, &k_cache, &expected[0]);
}

#[test]
fn embedding_from_inside_a_buffer() {
    let device = simulator();
    let (vocab, n) = (6, 70);
    let ids = [5, -1, 0, 6, 3];
    let table = draw("table", vocab, n);
    let bytes: Vec<u8> = (0..vocab * 3 * 34).map(|i| (i * 7 % 120) as u8).collect();
    let y: Vec<bf16> = ids.iter().flat_map(|&id| embedding::row(&table, id, n)).collect();
    let of_q8: Vec<bf16> = ids
        .iter()
        .flat_map(|&id| embedding::row_q8_0(&bytes, id, n).unwrap())
        .collect();
    let ids = Rows::input(&device, &ids, 5, 3, 5);
    let table = Rows::input(&device, &table, vocab * n, 5, vocab * n);
    let blocks = Rows::input(&device, &bytes, bytes.len(), 6, bytes.len());
    let out = Rows::output(&device, &vec![bf16::ZERO; y.len()], 5 * n, 3, 5 * n);
    let call = EmbeddingCall {
        table: EmbeddingTable::Bf16(table.ptr()),
        ids: ids.ptr(),
        y: out.ptr(),
        n_tok: 5,
        n: n as u32,
        vocab: vocab as u32,
    };
    let wrong = [
        EmbeddingCall { vocab: 5, ..call },
        EmbeddingCall {
            table: EmbeddingTable::Bf16(table.ptr().add(1)),
            ..call
        },
        EmbeddingCall { n_tok: 4, ..call },
    ];
    holds(&device, call, &wrong, &out, &y);
    let table = EmbeddingTable::Q8_0(blocks.ptr());
    holds(&device, EmbeddingCall { table, ..call }, &[call], &out, &of_q8);
}
