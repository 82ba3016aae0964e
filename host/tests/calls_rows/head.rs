//! argmax, sample and accept_draft.

use host::device::DevPtr;
use host::ops::accept_draft::AcceptDraftCall;
use host::ops::argmax::{self, ArgmaxCall};
use host::ops::sample::{self, SampleCall};
use host::reference::sampling::{self, Sampling};

use crate::rows::{Rows, draw_f32, holds, simulator};

#[test]
fn argmax_and_sample_of_rows_at_odd_addresses() {
    let device = simulator();
    let (tokens, vocab) = (3usize, 4_230usize);
    let logits = draw_f32("logits", tokens, vocab);
    let rows: Vec<&[f32]> = logits.chunks(vocab).collect();
    let best: Vec<i32> = rows.iter().map(|row| sampling::argmax(row) as i32).collect();
    let parameters = [(0.7, 0, 1 << 24), (1.3, 40, 15 << 20), (0.0, 0, 1 << 24)];
    let chosen: Vec<i32> = (rows.iter().zip(parameters).enumerate())
        .map(|(i, (row, (temperature, top_k, top_p)))| {
            let with = Sampling {
                temperature,
                top_k,
                top_p,
                seed: 11 + i as u64,
                position: 9 - i as i32,
            };
            sampling::sample(row, with) as i32
        })
        .collect();
    assert_ne!(best, chosen);
    let (n_tok, n) = (tokens as u32, vocab as u32);
    let logits = Rows::input(&device, &logits, tokens * vocab, 3, tokens * vocab);
    let out = Rows::output(&device, &[0i32; 3], 3, 5, 3);
    let bytes = argmax::scratch_bytes(n_tok, n).max(sample::scratch_bytes(n_tok, n));
    let scratch = device.alloc(bytes, "scratch").expect("memory");
    let call = ArgmaxCall {
        logits: logits.ptr(),
        parts: DevPtr::of(&scratch),
        tokens: out.ptr(),
        n_tok,
        vocab: n,
    };
    let wrong = [
        ArgmaxCall {
            logits: call.logits.add(1),
            ..call
        },
        ArgmaxCall { vocab: 0, ..call },
    ];
    holds(&device, call, &wrong, &out, &best);

    let temperature = Rows::input(&device, &parameters.map(|p| p.0), 3, 1, 3);
    let seed = Rows::input(&device, &[11u64, 12, 13], 3, 1, 3);
    let top_k = Rows::input(&device, &parameters.map(|p| p.1), 3, 2, 3);
    let top_p = Rows::input(&device, &parameters.map(|p| p.2), 3, 3, 3);
    let position = Rows::input(&device, &[9i32, 8, 7], 3, 1, 3);
    let call = SampleCall {
        logits: logits.ptr(),
        temperature: temperature.ptr(),
        top_k: top_k.ptr(),
        top_p: top_p.ptr(),
        seed: seed.ptr(),
        position: position.ptr(),
        scratch: DevPtr::of(&scratch),
        tokens: out.ptr(),
        n_tok,
        vocab: n,
    };
    let wrong = [
        SampleCall {
            logits: call.logits.add(1),
            ..call
        },
        SampleCall {
            seed: call.seed.add(1),
            ..call
        },
        SampleCall {
            vocab: (1 << 23) + 1,
            ..call
        },
    ];
    holds(&device, call, &wrong, &out, &chosen);
}

#[test]
fn accept_draft_of_two_sequences() {
    let device = simulator();
    let drafts = Rows::input(&device, &[4, 5, 6, 7, 8, 9], 6, 1, 6);
    let n_drafts = Rows::input(&device, &[3, 2], 2, 2, 2);
    let chosen = Rows::input(&device, &[4, 5, 1, 2, 7, 8, 3, 0], 8, 3, 8);
    let [accepted, next] = [3, 4].map(|offset| Rows::output(&device, &[0i32; 2], 2, offset, 2));
    let call = AcceptDraftCall {
        drafts: drafts.ptr(),
        n_drafts: n_drafts.ptr(),
        chosen: chosen.ptr(),
        accepted: accepted.ptr(),
        next: next.ptr(),
        n_seq: 2,
        max_drafts: 3,
    };
    let wrong = [
        AcceptDraftCall { max_drafts: 2, ..call },
        AcceptDraftCall {
            drafts: call.drafts.add(1),
            ..call
        },
    ];
    holds(&device, call, &wrong, &next, &[1, 3]);
    holds(&device, call, &wrong[1..], &accepted, &[2, 2]);
}
