//! The delta net's calls.

use half::bf16;
use host::device::DevPtr;
use host::op::call::Call;
use host::op::spec::PLAIN;
use host::ops::gdn::{GdnConvCall, GdnDecodeCall, GdnGatesCall, GdnPrefillCall, chunks_bytes};
use host::reference::gdn::{self as reference, Conv, D, Heads, Inputs, Rows};
use host::reference::gdn_prefill;

use crate::memory::{DRAW, Memory, NAN, spread};

/// A convolution on the device: sequences' lengths, where they start, where each token's state goes. Gives y and all slots.
fn convolve(
    x: &[bf16],
    w: &[bf16],
    state: &[bf16],
    lens: &[usize],
    from: &[i32],
    to: &[i32],
) -> (Vec<bf16>, Vec<bf16>) {
    const CHANNELS: usize = 136;
    let mut memory = Memory::new();
    let n_tok = x.len() / CHANNELS;
    let ends = lens.iter().scan(0, |end, len| {
        *end += *len as i32;
        Some(*end)
    });
    let cu_seqlens: Vec<i32> = std::iter::once(0).chain(ends).collect();
    let call = GdnConvCall {
        // Rows of a fused projection, from an odd element on.
        x: memory.put(&spread(x, CHANNELS, 151, 3)).add(3),
        w: memory.put(w),
        bias: DevPtr::NULL,
        state: memory.put(state),
        state_in: memory.put(from),
        state_out: memory.put(to),
        cu_seqlens: memory.put(&cu_seqlens),
        y: memory.put(&vec![NAN; n_tok * CHANNELS]),
        n_tok: n_tok as u32,
        n_seq: lens.len() as u32,
        channels: CHANNELS as u32,
        x_stride: 151,
        l2_heads: 1,
    };
    memory.launch(&call, PLAIN);
    (
        memory.get(call.y, n_tok * CHANNELS),
        memory.get(call.state, state.len()),
    )
}

#[test]
fn convolution_keeps_states_anywhere() {
    const CHANNELS: usize = 136;
    let slot = |state: &[bf16], i: i32| state[i as usize * 3 * CHANNELS..][..3 * CHANNELS].to_vec();
    let (lens, n_tok) = ([37, 0, 4, 20], 61);
    let x: Vec<bf16> = DRAW.floats("x", n_tok, CHANNELS, 1.0);
    let w: Vec<bf16> = DRAW.floats("w", CHANNELS, 4, 0.5);
    let state: Vec<bf16> = DRAW.floats("state", 9, 3 * CHANNELS, 1.0);
    let from = [2, 5, -1, 7];
    let mut to = vec![-1; n_tok];
    // The first starts from slot 2, which its token 29, of another tile, takes over; others of it have slots of their own.
    (to[0], to[29], to[36]) = (0, 2, 4);
    // The third keeps every state, the fourth its last one in place.
    to[37..41].copy_from_slice(&[1, 3, 6, 8]);
    to[60] = 7;
    let (y, states) = convolve(&x, &w, &state, &lens, &from, &to);

    let (mut want_y, mut want_states, mut first) = (Vec::new(), state.clone(), 0);
    for (seq, &len) in lens.iter().enumerate() {
        let old = (from[seq] >= 0).then(|| slot(&state, from[seq]));
        let conv = Conv {
            w: &w,
            bias: None,
            l2_heads: 1,
        };
        let rows = Rows {
            data: &x[first * CHANNELS..],
            stride: CHANNELS,
        };
        let all = reference::conv(conv, rows, len, old.as_deref(), 0..CHANNELS);
        want_y.extend(&all.y);
        for t in (0..len).filter(|t| to[first + t] >= 0) {
            let at = to[first + t] as usize * 3 * CHANNELS;
            want_states[at..at + 3 * CHANNELS].copy_from_slice(&all.state(t + 1));
        }
        first += len;
    }
    assert_eq!(y, want_y);
    assert_eq!(states, want_states, "slot 5, of the sequence without tokens, included");

    // Rolled back: a run that ended at token j left the state that the whole run kept after token j, and going on from there
    // gives the rest.
    for end in [1, 2, 3] {
        let rows = |tokens: std::ops::Range<usize>| &x[tokens.start * CHANNELS..tokens.end * CHANNELS];
        let mut ended = vec![-1; end];
        ended[end - 1] = 0;
        let (_, alone) = convolve(rows(37..37 + end), &w, &state, &[end], &[-1], &ended);
        let kept = to[37 + end - 1];
        assert_eq!(slot(&alone, 0), slot(&states, kept), "after {end} tokens");
        assert_ne!(
            slot(&alone, 0),
            slot(&states, to[37 + end]),
            "the state of the token after it"
        );
        let (rest, _) = convolve(rows(37 + end..41), &w, &states, &[4 - end], &[kept], &vec![-1; 4 - end]);
        assert_eq!(
            rest,
            y[(37 + end) * CHANNELS..41 * CHANNELS],
            "the rest after {end} tokens"
        );
    }
}

#[test]
fn gates_and_both_recurrences() {
    let heads = Heads {
        keys: 2,
        values: 4,
        modulo: true,
    };
    let n = 6;
    let mut memory = Memory::new();
    let [q, k] = ["q", "k"].map(|name| -> Vec<bf16> { DRAW.floats(name, n, heads.keys * D, 0.09) });
    let v: Vec<bf16> = DRAW.floats("v", n, heads.values * D, 1.0);
    let [a, b] = ["a", "b"].map(|name| -> Vec<bf16> { DRAW.floats(name, n, heads.values, 1.0) });
    let [a_log, dt_bias]: [Vec<f32>; 2] = ["a_log", "dt_bias"].map(|name| DRAW.floats(name, 1, heads.values, 0.5));
    let [a_log_at, dt_bias_at] = [&a_log, &dt_bias].map(|x| memory.put(x));

    // a and b in tensors of different strides.
    let gates = GdnGatesCall {
        a: memory.put(&spread(&a, 4, 7, 2)).add(2),
        b: memory.put(&spread(&b, 4, 5, 1)).add(1),
        a_log: a_log_at,
        dt_bias: dt_bias_at,
        g: memory.put(&vec![f32::NAN; n * 4]),
        beta: memory.put(&vec![f32::NAN; n * 4]),
        n_tok: n as u32,
        v_heads: 4,
        a_stride: 7,
        b_stride: 5,
    };
    memory.launch(&gates, PLAIN);
    let each = |i: usize| reference::gates(a[i], b[i], a_log[i % 4], dt_bias[i % 4]);
    let (g, beta): (Vec<f32>, Vec<f32>) = (0..n * 4).map(each).unzip();
    assert_eq!(memory.get(gates.g, n * 4), g);
    assert_eq!(memory.get(gates.beta, n * 4), beta);

    let rows = |data, heads: usize| Rows {
        data,
        stride: heads * D,
    };
    let inputs = Inputs {
        q: rows(&q, heads.keys),
        k: rows(&k, heads.keys),
        v: rows(&v, heads.values),
        g: &g,
        beta: &beta,
        heads,
        scale: 1.0 / (D as f32).sqrt(),
    };
    let size = heads.values * D * D;
    let state: Vec<f32> = DRAW.floats("state", 5, size, 0.3);
    let steps = GdnDecodeCall {
        q: memory.put(&spread(&q, 256, 264, 8)).add(8),
        k: memory.put(&spread(&k, 256, 300, 4)).add(4),
        v: memory.put(&spread(&v, 512, 513, 1)).add(1),
        g: gates.g,
        beta: gates.beta,
        a: DevPtr::NULL,
        b: DevPtr::NULL,
        a_log: DevPtr::NULL,
        dt_bias: DevPtr::NULL,
        state: memory.put(&state),
        state_in: memory.put(&[3, -1]),
        // Sequences of three tokens: the first keeps its second and third state, the latter in place.
        state_out: memory.put(&[-1, 1, 3, 0, -1, 4]),
        o: memory.put(&vec![NAN; n * 512]),
        n_seq: 2,
        n_tok: 3,
        k_heads: 2,
        v_heads: 4,
        modulo: true,
        q_stride: 264,
        k_stride: 300,
        v_stride: 513,
    };
    assert_eq!(steps.only().expect("one config").config, PLAIN);
    let error = steps.launch(&memory.device, &memory.stream, "fused").expect_err("no a");
    assert!(error.to_string().contains("admit 'plain' alone"), "{error}");
    memory.launch(&steps, PLAIN);
    let (mut want_o, mut want_states) = (vec![bf16::ZERO; n * 512], state.clone());
    for (seq, (from, to)) in [(Some(3), [-1, 1, 3]), (None, [0, -1, 4])].into_iter().enumerate() {
        for head in 0..4 {
            let mut s = from.map_or(vec![0.0; D * D], |slot: usize| {
                state[slot * size + head * D * D..][..D * D].to_vec()
            });
            for (t, slot) in to.into_iter().enumerate() {
                let token = seq * 3 + t;
                let o = reference::step(&inputs, token, head, &mut s);
                want_o[(token * 4 + head) * D..][..D].copy_from_slice(&o);
                if slot >= 0 {
                    want_states[slot as usize * size + head * D * D..][..D * D].copy_from_slice(&s);
                }
            }
        }
    }
    assert_eq!(memory.get(steps.o, n * 512), want_o);
    assert!(memory.get(steps.state, 5 * size) == want_states, "states of the steps");

    let prefill = GdnPrefillCall {
        q: steps.q,
        k: steps.k,
        v: steps.v,
        g: DevPtr::NULL,
        beta: DevPtr::NULL,
        a: memory.put(&a),
        b: memory.put(&b),
        a_log: a_log_at,
        dt_bias: dt_bias_at,
        cu_seqlens: memory.put(&[0, 2, 6]),
        chunks: memory.alloc(chunks_bytes(n as u32, 2, 4) as usize),
        state: memory.put(&state),
        state_in: memory.put(&[3, -1]),
        state_out: memory.put(&[3, 2]),
        o: memory.put(&vec![NAN; n * 512]),
        n_tok: n as u32,
        n_seq: 2,
        k_heads: 2,
        v_heads: 4,
        modulo: true,
        q_stride: 264,
        k_stride: 300,
        v_stride: 513,
    };
    assert_eq!(prefill.only().expect("one config").config, "fused");
    memory.launch(&prefill, "fused");
    let mut want_states = state.clone();
    for (from, to, tokens) in [(Some(3), 3, 0..2), (None, 2, 2..6)] {
        for head in 0..4 {
            let mut s = from.map_or(vec![0.0; D * D], |slot: usize| {
                state[slot * size + head * D * D..][..D * D].to_vec()
            });
            let o = gdn_prefill::sequence(&inputs.from(tokens.start), tokens.len(), head, 0..D, &mut s);
            for (token, o) in tokens.clone().zip(o.chunks(D)) {
                want_o[(token * 4 + head) * D..][..D].copy_from_slice(o);
            }
            want_states[to * size + head * D * D..][..D * D].copy_from_slice(&s);
        }
    }
    assert_eq!(memory.get(prefill.o, n * 512), want_o);
    assert!(
        memory.get(prefill.state, 5 * size) == want_states,
        "states of the chunks"
    );
}
