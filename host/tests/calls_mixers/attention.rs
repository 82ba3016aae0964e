//! Attention's calls.

use half::bf16;
use host::device::DevPtr;
use host::op::call::Call;
use host::op::spec::PLAIN;
use host::ops::attention::{AttnCall, Order, decode_scratch};
use host::reference::attention::{Attention, Heads as RowHeads};

use crate::memory::{DRAW, Memory, NAN, spread};

#[test]
fn attention() {
    let (q_heads, kv_heads, d, page) = (4, 2, 64, 16);
    // Three sequences: 5 of 21 positions, none of 3, 2 of 2.
    let (cu_seqlens, seq_lens) = (vec![0, 5, 5, 7], vec![21, 3, 2]);
    let (n_tok, n_seq, max_pages) = (7, 3, 3);
    let block_table = vec![4, 1, -1, 2, -1, -1, 0, -1, -1];
    let q: Vec<bf16> = DRAW.floats("q", n_tok * q_heads, d, 1.5);
    let gate: Vec<bf16> = DRAW.floats("gate", n_tok * q_heads, d, 1.5);
    let k: Vec<bf16> = DRAW.floats("k", 5 * kv_heads * page, d, 1.0);
    let v: Vec<bf16> = DRAW.floats("v", 5 * kv_heads * page, d, 1.0);
    let heads = |data| RowHeads {
        data,
        row: q_heads * d,
        head: d,
    };
    let scale_log2 = (std::f64::consts::LOG2_E / (d as f64).sqrt()) as f32;
    for (order, gated) in [(Order::Prefill, true), (Order::Prefill, false), (Order::Decode, true)] {
        let want = Attention {
            q: heads(&q),
            gate: gated.then(|| heads(&gate)),
            k: &k,
            v: &v,
            block_table: &block_table,
            cu_seqlens: &cu_seqlens,
            seq_lens: &seq_lens,
            q_heads,
            kv_heads,
            head_dim: d,
            page,
            window: 9,
            scale_log2,
        };
        let want = want.all(order).expect("an answer");

        let mut memory = Memory::new();
        // Heads of q 72 apart in rows of 320; gates in a tensor of their own, rows of 264; outputs in rows of 304.
        let mut rows = vec![NAN; 8 + n_tok * 320];
        for (i, head) in q.chunks(d).enumerate() {
            rows[8 + i / q_heads * 320 + i % q_heads * 72..][..d].copy_from_slice(head);
        }
        let o = memory.put(&vec![NAN; n_tok * 304]);
        let [part_o, part_ml] = decode_scratch(n_tok as u32, q_heads as u32, d as u32, (max_pages * page) as u32);
        let call = AttnCall {
            order,
            q: memory.put(&rows).add(8),
            gate: match gated {
                true => memory.put(&spread(&gate, q_heads * d, 264, 16)).add(16),
                false => DevPtr::NULL,
            },
            k: memory.put(&[vec![NAN; 24], k.clone()].concat()).add(24),
            v: memory.put(&v),
            o,
            block_table: memory.put(&block_table),
            cu_seqlens: memory.put(&cu_seqlens),
            seq_lens: memory.put(&seq_lens),
            q_row: 320,
            q_head: 72,
            gate_row: 264,
            gate_head: d as u32,
            o_row: 304,
            n_tok: n_tok as u32,
            n_seq,
            max_tok: 5,
            q_heads: q_heads as u32,
            kv_heads: kv_heads as u32,
            head_dim: d as u32,
            page: page as u32,
            max_pages: max_pages as u32,
            window: 9,
            scale_log2,
            part_o: memory.alloc(part_o as usize),
            part_ml: memory.alloc(part_ml as usize),
        };
        assert_eq!(call.case().dtype, "bf16");
        let operation = call.operation().expect("an operation");
        operation.admits(&call.case(), PLAIN).expect("a case of its operation");
        memory.launch(&call, PLAIN);
        let got = memory.get(o, n_tok * 304);
        let bits = |x: Vec<bf16>| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let want = spread(&want, q_heads * d, 304, 0);
        assert_eq!(bits(got), bits(want), "{order:?}, gate {gated}");

        let refused = |call: AttnCall<bf16>, config: &str, text: &str| {
            let error = call.launch(&memory.device, &memory.stream, config).expect_err(text);
            assert!(error.to_string().contains(text), "{error}");
        };
        refused(call, "best", "no config 'best'");
        refused(AttnCall { q_row: 321, ..call }, PLAIN, "q_row = 321");
        refused(
            AttnCall {
                k: call.k.add(1),
                ..call
            },
            PLAIN,
            "k at ",
        );
        refused(AttnCall { head_dim: 96, ..call }, PLAIN, "head_dim = 96");
        if order == Order::Decode {
            refused(AttnCall { max_tok: 2, ..call }, PLAIN, "max_tok = 2");
            let part_o = DevPtr::NULL;
            refused(AttnCall { part_o, ..call }, PLAIN, "part_o");
        }
        // Nothing to do, whatever else.
        memory.launch(
            &AttnCall {
                n_tok: 0,
                q_row: 1,
                ..call
            },
            PLAIN,
        );
    }
}
