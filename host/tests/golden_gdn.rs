//! The gated delta net's steps, convolution and gates of `host::reference` against transformers' (scripts/golden/gdn.py). The chunked
//! form is in golden_gdn_prefill.rs.

mod golden;

use golden::near::{Near, chain, exact, exactly, fma, fma_chain};
use golden::{Golden, caught, value, within};
use half::bf16;
use host::reference::gdn::{Conv, D, Heads, Inputs, Rows, conv, gates, step};

fn halves(bits: &[u16]) -> Vec<bf16> {
    bits.iter().map(|&b| bf16::from_bits(b)).collect()
}

/// A sequence by steps: the inputs as the file has them.
struct Steps {
    file: Golden,
    q: Vec<bf16>,
    k: Vec<bf16>,
    v: Vec<bf16>,
    g: Vec<f32>,
    beta: Vec<f32>,
    heads: Heads,
    n_tok: usize,
    scale: f64,
}

impl Steps {
    fn open(name: &str) -> Steps {
        let file = Golden::open(name);
        let half = |name: &str| halves(&file.bf16(name));
        let (k, v) = (file.shape("k"), file.shape("v"));
        let heads = Heads {
            keys: k[1],
            values: v[1],
            modulo: false,
        };
        Steps {
            q: half("q"),
            k: half("k"),
            v: half("v"),
            g: file.f32("g"),
            beta: file.f32("beta"),
            heads,
            n_tok: k[0],
            scale: file.number("scale"),
            file,
        }
    }

    fn inputs(&self) -> Inputs<'_> {
        let rows = |data, heads: usize| Rows {
            data,
            stride: heads * D,
        };
        Inputs {
            q: rows(&self.q, self.heads.keys),
            k: rows(&self.k, self.heads.keys),
            v: rows(&self.v, self.heads.values),
            g: &self.g,
            beta: &self.beta,
            heads: self.heads,
            scale: self.scale as f32,
        }
    }

    /// o of every token, head after head, and every eighth row of the last state.
    fn run(&self, inputs: &Inputs<'_>) -> (Vec<f64>, Vec<f64>) {
        let mut states: Vec<f32> = halves(&self.file.bf16("state")).iter().map(|s| s.to_f32()).collect();
        let mut o = Vec::new();
        for token in 0..self.n_tok {
            for (head, state) in states.chunks_mut(D * D).enumerate() {
                o.extend(step(inputs, token, head, state).iter().map(|o| o.to_f64()));
            }
        }
        let rows = states.chunks(D).step_by(8).flatten();
        (o, rows.map(|&s| f64::from(s)).collect())
    }

    /// The same with errors: S' = S exp(g), u = beta (v - S' k), S = S' + u k, o = scale (S q).
    fn bounds(&self) -> (Vec<Near>, Vec<Near>) {
        let mut states = exactly(&self.file.f64("state"));
        let inputs = self.inputs();
        let near = |x: &[bf16]| -> Vec<Near> { x.iter().map(|x| exact(x.to_f64())).collect() };
        let scale = exact(self.scale).ulps(0.5);
        let mut o = Vec::new();
        for token in 0..self.n_tok {
            for (head, state) in states.chunks_mut(D * D).enumerate() {
                let key = self.heads.key(head) * D;
                let (q, k) = (
                    near(inputs.q.get(token, key..key + D)),
                    near(inputs.k.get(token, key..key + D)),
                );
                let at = token * self.heads.values + head;
                let decay = exact(f64::from(self.g[at])).exp();
                let beta = exact(f64::from(self.beta[at]));
                let v = near(inputs.v.get(token, head * D..head * D + D));
                for (row, v) in state.chunks_mut(D).zip(v) {
                    row.iter_mut().for_each(|s| *s = (*s * decay).f32());
                    let u = (beta * (v - dot(row, &k)).f32()).f32();
                    row.iter_mut().zip(&k).for_each(|(s, k)| *s = fma(u, *k, *s));
                    o.push((dot(row, &q) * scale).f32().bf16());
                }
            }
        }
        (o, states.chunks(D).step_by(8).flatten().copied().collect())
    }
}

/// Eight chains of fma and their tree: chain j over k = 32 i + 4 j + e.
fn dot(row: &[Near], x: &[Near]) -> Near {
    let part = |j: usize| {
        let places = move || (0..4).flat_map(move |i| (0..4).map(move |e| 32 * i + 4 * j + e));
        fma_chain(places().map(|k| row[k]), places().map(|k| x[k]))
    };
    let p: Vec<Near> = (0..8).map(part).collect();
    let add = |a: Near, b: Near| (a + b).f32();
    add(
        add(add(p[0], p[4]), add(p[2], p[6])),
        add(add(p[1], p[5]), add(p[3], p[7])),
    )
}

#[test]
fn steps() {
    let steps = Steps::open("gdn_steps");
    let (want_o, want_state) = (steps.file.f64("o"), steps.file.f64("state8"));
    let (o_bounds, state_bounds) = steps.bounds();
    let (o_bound, state_bound) = (|i: usize| o_bounds[i].bound(), |i: usize| state_bounds[i].bound());
    let right = steps.inputs();
    let (o, state) = steps.run(&right);
    within("o of the steps", &o, &want_o, o_bound);
    within("the state after them", &state, &want_state, state_bound);

    let wrong = |what: &str, inputs: Inputs<'_>| {
        let (o, state) = steps.run(&inputs);
        caught(what, &o, &want_o, o_bound);
        if inputs.scale == right.scale && inputs.q.data == right.q.data {
            caught(what, &state, &want_state, state_bound);
        }
    };
    let modulo = Heads {
        modulo: true,
        ..steps.heads
    };
    wrong("value head h reads key head h mod 2", Inputs { heads: modulo, ..right });
    wrong(
        "a scale of 1 / 128",
        Inputs {
            scale: 1.0 / 128.0,
            ..right
        },
    );
    wrong(
        "q and k exchanged",
        Inputs {
            q: right.k,
            k: right.q,
            ..right
        },
    );
    let ones = vec![1.0; steps.beta.len()];
    wrong("beta forgotten", Inputs { beta: &ones, ..right });
    let mut later = steps.g.clone();
    later.rotate_right(steps.heads.values);
    wrong("the gate of the token before", Inputs { g: &later, ..right });
    let base2: Vec<f32> = steps.g.iter().map(|g| g * std::f32::consts::LN_2).collect();
    wrong("2^g for e^g", Inputs { g: &base2, ..right });
}

/// The convolution's lines: a product, three fma, silu, bf16; then in heads of 128 the row sum of squares (a slot has one vector: 8
/// fma in a chain, and 8 levels, of which the last 4 have two terms that are not zero), eps, the root, a product, bf16.
fn conv_bounds(x: &[f64], w: &[f64], channels: usize) -> Vec<Near> {
    let n_tok = x.len() / channels;
    let value = |t: usize, c: usize| {
        let tap = |i: usize| {
            (
                exact(w[c * 4 + i]),
                exact(if t + i < 3 { 0.0 } else { x[(t + i - 3) * channels + c] }),
            )
        };
        let (w0, x0) = tap(0);
        let first = (w0 * x0).f32();
        let sum = (1..4).map(tap).fold(first, |acc, (w, x)| fma(w, x, acc));
        sum.silu().bf16()
    };
    (0..n_tok * channels)
        .map(|i| value(i / channels, i % channels))
        .collect()
}

fn normalised(head: &[Near]) -> Vec<Near> {
    let slots = head.chunks(8).map(|v| fma_chain(v.iter().copied(), v.iter().copied()));
    // A chain of 16 additions has more roundings than the tree over 16 slots.
    let sum = (chain(slots) + exact(1e-6)).f32();
    let slope = 0.5 * (sum.value - sum.error).powf(-1.5);
    let root = sum.map(|x| x.sqrt().recip(), slope, 0.5);
    head.iter().map(|&x| (x * root).f32().bf16()).collect()
}

#[test]
fn convolution_and_norms() {
    let file = Golden::open("gdn_layer");
    let shape = file.shape("x");
    let (n_tok, channels) = (shape[0], shape[1]);
    let (x, w) = (halves(&file.bf16("x")), halves(&file.bf16("weight")));
    let run = |w: &[bf16], l2_heads: usize| {
        let rows = Rows {
            data: &x,
            stride: channels,
        };
        let conv_of = Conv {
            w,
            bias: None,
            l2_heads,
        };
        let all = conv(conv_of, rows, n_tok, None, 0..channels);
        let y: Vec<f64> = all.y.iter().map(|y| y.to_f64()).collect();
        (y, all.state(n_tok))
    };
    let bounds = conv_bounds(&file.f64("x"), &file.f64("weight"), channels);
    let (y, state) = run(&w, 0);
    let want = file.f64("conv");
    within("convolution", &y, &want, |i| bounds[i].bound());
    assert_eq!(state, halves(&file.bf16("conv_state")), "the last three inputs");
    let mut backwards = w.clone();
    backwards.chunks_mut(4).for_each(<[bf16]>::reverse);
    caught("taps from the newest", &run(&backwards, 0).0, &want, |i| {
        bounds[i].bound()
    });

    // Channels: one head of q, one of k, two of v.
    let (y, _) = run(&w, 2);
    let split = |y: &[f64], head: usize| -> Vec<f64> {
        y.chunks(channels)
            .flat_map(|row| &row[head * D..][..D])
            .copied()
            .collect()
    };
    for (head, name) in ["q", "k"].into_iter().enumerate() {
        let rows = bounds.chunks(channels);
        let bounds: Vec<Near> = rows.flat_map(|row| normalised(&row[head * D..][..D])).collect();
        let want = file.f64(name);
        within(name, &split(&y, head), &want, |i| bounds[i].bound());
        caught("no L2 norm", &split(&run(&w, 0).0, head), &want, |i| bounds[i].bound());
        // An RMS norm is another factor of sqrt(128).
        let rms: Vec<f64> = split(&y, head).iter().map(|y| y * (D as f64).sqrt()).collect();
        caught("an RMS norm", &rms, &want, |i| bounds[i].bound());
    }
}

/// g = -(exp(A_log) softplus(a + dt_bias)), beta = sigmoid(b): each function off by its ulps, each product and sum rounded. The witness's
/// exp(A_log) is an f32 (1 ulp).
#[test]
fn gate_values() {
    let file = Golden::open("gdn_layer");
    let (a, b) = (file.bf16("a"), file.bf16("b"));
    let (a_log, dt_bias) = (file.f32("a_log"), file.f32("dt_bias"));
    let heads = a_log.len();
    let run = |a: &[u16], b: &[u16], dt_bias: &[f32]| -> (Vec<f64>, Vec<f64>) {
        let one = |i: usize| {
            let half = |bits: u16| bf16::from_bits(bits);
            let (g, beta) = gates(half(a[i]), half(b[i]), a_log[i % heads], dt_bias[i % heads]);
            (f64::from(g), f64::from(beta))
        };
        (0..a.len()).map(one).unzip()
    };
    let bounds = |i: usize| {
        let head = i % heads;
        let sum = (exact(value(a[i])) + exact(f64::from(dt_bias[head]))).f32();
        let softplus = sum.map(|x| x.exp().ln_1p(), 1.0, 0.51);
        let a = exact(f64::from(a_log[head])).exp().ulps(1.0);
        let g = (a * softplus).f32();
        (g.bound(), exact(value(b[i])).sigmoid().bound())
    };
    let (want_g, want_beta) = (file.f64("g"), file.f64("beta"));
    let (g, beta) = run(&a, &b, &dt_bias);
    within("g", &g, &want_g, |i| bounds(i).0);
    within("beta", &beta, &want_beta, |i| bounds(i).1);
    let (g, beta) = run(&b, &a, &dt_bias);
    caught("a and b exchanged: g", &g, &want_g, |i| bounds(i).0);
    caught("a and b exchanged: beta", &beta, &want_beta, |i| bounds(i).1);
    let (g, _) = run(&a, &b, &vec![0.0; heads]);
    caught("no dt_bias", &g, &want_g, |i| bounds(i).0);
}
