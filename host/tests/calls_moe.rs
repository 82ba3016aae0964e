//! Calls of a mixture of experts, in sorted order and without a sort: on tensors that lie at odd places of one buffer, next to others,
//! they give the CPU reference's bytes and write nothing else; what their kernels do not take is refused.

mod arena;

use arena::{Arena, bits, draw, halves};
use half::bf16;
use host::device::DevPtr;
use host::op::call::Call;
use host::op::spec::PLAIN;
use host::ops::moe::{
    ExpertWeights, MoeCombineCall, MoeDecodeCall, MoeGroupedCall, MoeRouterCall, MoeSortCall, sort_scratch_bytes,
};
use host::ops::nvfp4::Convention;
use host::ops::silu_mul::SiluMulCall;
use host::reference::moe::{Experts, Extras, Layer, combine, router, sort};
use host::reference::nvfp4;

/// A layer's weights on the host, in one format.
struct Weighs {
    bf16: Vec<bf16>,
    codes: Vec<u8>,
    scales: Vec<u8>,
    tensor: Vec<f32>,
}

impl Weighs {
    fn draw(name: &str, experts: usize, rows: usize, k: usize) -> Self {
        let scales = draw(5).bytes(&format!("{name} scales"), experts * rows * k / 16);
        Self {
            bf16: halves(5, name, experts * rows, k),
            codes: draw(5).bytes(&format!("{name} codes"), experts * rows * k / 2),
            scales: scales.iter().map(|b| 0x30 | b & 7).collect(),
            tensor: (0..experts).map(|e| 0.03 + 0.01 * e as f32).collect(),
        }
    }

    fn place(&self, nvfp4: bool, arena: &mut Arena) -> ExpertWeights {
        if !nvfp4 {
            return ExpertWeights::Bf16(arena.put(&self.bf16, 2));
        }
        ExpertWeights::Nvfp4 {
            codes: arena.put(&self.codes, 8),
            scales: arena.put(&self.scales, 1),
            tensor: arena.put(&self.tensor, 4),
            convention: Convention::ModelOpt,
        }
    }

    fn reference(&self, nvfp4: bool) -> Experts<'_> {
        if !nvfp4 {
            return Experts::Bf16(&self.bf16);
        }
        Experts::Nvfp4 {
            codes: &self.codes,
            scales: &self.scales,
            tensor: &self.tensor,
            convention: nvfp4::Convention::ModelOpt,
        }
    }
}

/// Router to combine in sorted order, and without a sort, with a shared expert: both give the reference's bytes.
fn layer(nvfp4: bool) {
    let (n_tok, experts, top_k, n, k) = (7u32, 6u32, 3u32, 32u32, 48u32);
    let sizes = [n_tok, experts, top_k, n, k].map(|size| size as usize);
    let [tokens, all, slots, inner, outer] = sizes;
    let pairs = n_tok * top_k;
    let x = halves(5, "x", tokens, outer);
    let logits: Vec<f32> = draw(5).floats("logits", tokens, all, 2.0);
    let gate: Vec<f32> = draw(5).floats("gate", 1, tokens, 2.0);
    let extra = halves(5, "shared", tokens, outer);
    let gate_up = Weighs::draw("gate_up", all, 2 * inner, outer);
    let down = Weighs::draw("down", all, outer, inner);

    let mut arena = Arena::new();
    let route = MoeRouterCall {
        logits: arena.put(&logits, 4),
        ids: arena.room(tokens * slots, 4),
        weights: arena.room(tokens * slots, 4),
        n_tok,
        experts,
        top_k,
        normalise: true,
    };
    let in_order = MoeSortCall {
        ids: route.ids,
        counts: DevPtr::NULL,
        offsets: arena.room(all + 1, 4),
        sorted: arena.room(tokens * slots, 4),
        pairs,
        experts,
    };
    let up = MoeGroupedCall {
        x: arena.put(&x, 2),
        w: gate_up.place(nvfp4, &mut arena),
        offsets: in_order.offsets,
        sorted: in_order.sorted,
        y: arena.room(tokens * slots * 2 * inner, 16),
        pairs,
        experts,
        top_k,
        n: 2 * n,
        k,
        gather: true,
    };
    let act = SiluMulCall::of_product(up.y, arena.room(tokens * slots * inner, 16), pairs, n);
    let back = MoeGroupedCall {
        x: act.y,
        w: down.place(nvfp4, &mut arena),
        y: arena.room(tokens * slots * outer, 16),
        n: k,
        k: n,
        gather: false,
        ..up
    };
    let sum = MoeCombineCall {
        x: back.y,
        weights: route.weights,
        gate: arena.put(&gate, 4),
        shared: arena.put(&extra, 16),
        residual: DevPtr::NULL,
        y: arena.room(tokens * outer, 16),
        n_tok,
        top_k,
        n: k,
    };
    let decode = MoeDecodeCall {
        x: up.x,
        ids: route.ids,
        weights: route.weights,
        gate_up: up.w,
        down: back.w,
        h: arena.room(tokens * slots * inner, 2),
        shared_gate: sum.gate,
        shared: sum.shared,
        y: arena.room(tokens * outer, 2),
        n_tok,
        experts,
        top_k,
        n,
        k,
    };
    for call in [&route as &dyn Call, &in_order, &up, &act, &back, &sum, &decode] {
        arena.launch(call, PLAIN).unwrap();
    }
    let routed = router(&logits, tokens, all, slots, true).unwrap();
    assert_eq!(arena.get(route.ids), routed.ids);
    assert_eq!(bits(&arena.get(route.weights)), bits(&routed.weights));
    let order = sort(&routed.ids, all);
    assert_eq!(
        (arena.get(in_order.offsets), arena.get(in_order.sorted)),
        (order.offsets, order.sorted)
    );
    let reference = Layer {
        gate_up: gate_up.reference(nvfp4),
        down: down.reference(nvfp4),
        experts: all,
        n: inner,
        k: outer,
    };
    let shared = Some((&gate[..], &extra[..]));
    let expected = reference
        .forward(&x, &routed.ids, &routed.weights, shared, tokens)
        .unwrap();
    assert_eq!(arena.get(sum.y), expected, "sorted");
    assert_eq!(arena.get(decode.y), expected, "without a sort");
    // A shared expert that is added to what was rounded already is a rounding more.
    let late = MoeCombineCall {
        gate: DevPtr::NULL,
        shared: DevPtr::NULL,
        ..sum
    };
    arena.launch(&late, PLAIN).unwrap();
    let late: Vec<bf16> = arena.get(sum.y);
    let extras = Extras {
        shared,
        ..Extras::default()
    };
    let late = combine(&late, &vec![1.0; tokens], extras, tokens, 1, outer).unwrap();
    assert_ne!(late, expected, "two roundings go unseen");
    arena.gaps_are_untouched();

    let most = MoeDecodeCall { n_tok: 17, ..decode };
    assert!(arena.refusal(&most, PLAIN).contains("at most 16 tokens"));
    let no_gate = MoeDecodeCall {
        shared_gate: DevPtr::NULL,
        ..decode
    };
    assert!(arena.refusal(&no_gate, PLAIN).contains("without its gate's logits"));
    let too_many = MoeRouterCall { top_k: 7, ..route };
    assert!(arena.refusal(&too_many, PLAIN).contains("top_k = 7 of 6 experts"));
    let odd = MoeCombineCall { x: sum.x.add(1), ..sum };
    assert!(arena.refusal(&odd, PLAIN).contains("x at"));
    let ragged = MoeGroupedCall { pairs: 20, ..up };
    assert!(arena.refusal(&ragged, PLAIN).contains("20 pairs"));
    if nvfp4 {
        let short = MoeDecodeCall { n: 24, ..decode };
        assert!(arena.refusal(&short, PLAIN).contains("n = 24"));
    }
}

#[test]
fn a_layer_of_bf16_experts() {
    layer(false);
}

#[test]
fn a_layer_of_nvfp4_experts() {
    layer(true);
}

#[test]
fn a_sort_of_many_pairs_has_room_in_its_scratch() {
    let (pairs, experts) = (5000, 7);
    let ids: Vec<i32> = draw(6).below("ids", pairs, 8).into_iter().map(|id| id as i32).collect();
    let mut arena = Arena::new();
    let call = MoeSortCall {
        ids: arena.put(&ids, 4),
        counts: arena.room(sort_scratch_bytes(pairs as u32, experts) / 4, 4),
        offsets: arena.room(experts as usize + 1, 4),
        sorted: arena.room(pairs, 4),
        pairs: pairs as u32,
        experts,
    };
    arena.launch(&call, PLAIN).unwrap();
    let order = sort(&ids, experts as usize);
    assert_eq!(
        (arena.get(call.offsets), arena.get(call.sorted)),
        (order.offsets, order.sorted)
    );
    arena.gaps_are_untouched();
    // One block up to 4096 pairs, chunks of 2048 up to 128 of them, then longer ones: never more than for more pairs.
    let counters = |pairs| sort_scratch_bytes(pairs, experts) / 4 / 8;
    assert_eq!(
        [4096, 4097, 6144, 6145, 262_144, 262_145, 1 << 30].map(counters),
        [0, 3, 3, 4, 128, 128, 128]
    );
}
