//! The chunked gated delta rule of `host::reference` against transformers' (scripts/golden/gdn.py), which its script holds to the
//! recurrence and to FLA's code.
//!
//! The bound goes through the lines of docs/numerics.md with an error for each value: what bf16 takes from S, r, B, P and n, what the
//! tensor-core chains and the f32 operations lose, and how the inverse and the state carry it on.

mod golden;

use golden::near::{Near, exact, exactly, fma, mma};
use golden::{Golden, caught, within};
use half::bf16;
use host::reference::gdn::{D, Heads, Inputs, Rows};
use host::reference::gdn_prefill::sequence;

/// Tokens of a chunk.
const C: usize = 64;
/// Rows and columns of a block of the inverse.
const BLOCK: usize = 16;
/// The files keep every eighth column of V.
const EVERY: usize = 8;

type Matrix = Vec<Vec<Near>>;

fn zeros(rows: usize, columns: usize) -> Matrix {
    vec![vec![Near::default(); columns]; rows]
}

/// A sequence as its file has it.
struct Sequence {
    file: Golden,
    q: Vec<bf16>,
    k: Vec<bf16>,
    v: Vec<bf16>,
    g: Vec<f32>,
    beta: Vec<f32>,
    /// `[v_heads][V][K]`.
    state: Vec<f32>,
    heads: Heads,
    n_tok: usize,
    scale: f64,
}

impl Sequence {
    fn open(name: &str) -> Sequence {
        let file = Golden::open(name);
        let half = |name: &str| -> Vec<bf16> { file.bf16(name).into_iter().map(bf16::from_bits).collect() };
        let (k, v) = (file.shape("k"), file.shape("v"));
        let heads = Heads {
            keys: k[1],
            values: v[1],
            modulo: false,
        };
        let state = if file.has("state") {
            half("state").iter().map(|s| s.to_f32()).collect()
        } else {
            vec![0.0; heads.values * D * D]
        };
        Sequence {
            q: half("q"),
            k: half("k"),
            v: half("v"),
            g: file.f32("g"),
            beta: file.f32("beta"),
            state,
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

    /// o8 `[n_tok][v_heads][16]` and state8 `[v_heads][16][K]`, computed with the state put back to zero at token `forget`.
    fn run(&self, inputs: &Inputs<'_>, forget: Option<usize>) -> (Vec<f64>, Vec<f64>) {
        let columns = D / EVERY;
        let mut o = vec![0.0; self.n_tok * self.heads.values * columns];
        let mut last = Vec::new();
        for head in 0..self.heads.values {
            let mut state = self.state[head * D * D..][..D * D].to_vec();
            let mut rows = Vec::new();
            let parts = [
                (0, forget.unwrap_or(self.n_tok)),
                (forget.unwrap_or(self.n_tok), self.n_tok),
            ];
            for (first, end) in parts {
                if Some(first) == forget {
                    state.fill(0.0);
                }
                rows.extend(sequence(&inputs.from(first), end - first, head, 0..D, &mut state));
            }
            for (token, row) in rows.chunks(D).enumerate() {
                for (column, o8) in row.iter().step_by(EVERY).enumerate() {
                    o[(token * self.heads.values + head) * columns + column] = o8.to_f64();
                }
            }
            last.extend(state.chunks(D).step_by(EVERY).flatten().map(|&s| f64::from(s)));
        }
        (o, last)
    }

    fn bounds(&self) -> (Vec<Near>, Vec<Near>) {
        let columns = D / EVERY;
        let mut o = vec![Near::default(); self.n_tok * self.heads.values * columns];
        let mut last = Vec::new();
        for head in 0..self.heads.values {
            let state: Vec<f64> = self.state[head * D * D..][..D * D]
                .iter()
                .map(|&s| f64::from(s))
                .collect();
            let mut rows: Matrix = state.chunks(D).step_by(EVERY).map(exactly).collect();
            for first in (0..self.n_tok).step_by(C) {
                let chunk = Chunk::new(self, head, first);
                for (column, row) in rows.iter_mut().enumerate() {
                    let outputs = chunk.advance(self, head, column * EVERY, row);
                    for (i, y) in outputs.into_iter().enumerate() {
                        o[((first + i) * self.heads.values + head) * columns + column] = y;
                    }
                }
            }
            last.extend(rows.into_iter().flatten());
        }
        (o, last)
    }
}

/// What a chunk contributes whatever the state is, with errors.
struct Chunk {
    first: usize,
    count: usize,
    q: Matrix,
    k: Matrix,
    b: Matrix,
    p: Matrix,
    from_start: Vec<Near>,
    to_end: Vec<Near>,
}

impl Chunk {
    fn new(x: &Sequence, head: usize, first: usize) -> Chunk {
        let count = (x.n_tok - first).min(C);
        let key = x.heads.key(head);
        let rows = |data: &[bf16]| -> Matrix {
            let row = |i: usize| {
                let row = &data[((first + i) * x.heads.keys + key) * D..][..D];
                row.iter().map(|x| exact(x.to_f64())).collect()
            };
            (0..count).map(row).collect()
        };
        let (q, k) = (rows(&x.q), rows(&x.k));
        let gate = |i: usize| (first + i) * x.heads.values + head;
        let mut sum = exact(0.0);
        let mut g = Vec::new();
        for i in 0..count {
            sum = (sum + exact(f64::from(x.g[gate(i)]))).f32();
            g.push(sum);
        }
        let beta = |i: usize| exact(f64::from(x.beta[gate(i)]));
        let (mut a, mut p, mut b) = (zeros(C, C), zeros(C, C), zeros(C, C));
        for i in 0..count {
            for j in 0..=i {
                // The same g added to both sums is the same rounding in neither; G_i - G_j is 0 for i = j.
                let d = if i == j { exact(1.0) } else { (g[i] - g[j]).f32().exp() };
                p[i][j] = (mma(&q[i], &k[j], exact(0.0)) * d).f32().bf16();
                if j < i {
                    a[i][j] = ((mma(&k[i], &k[j], exact(0.0)) * d).f32() * beta(i)).f32();
                }
            }
        }
        let t = inverse(&a);
        for i in 0..count {
            for j in 0..=i {
                b[i][j] = (t[i][j] * beta(j)).f32().bf16();
            }
        }
        // The last sum is G_63: the tokens that fill a chunk have g = 0.
        let end = g[count - 1];
        let to_end = g.iter().enumerate().map(|(i, &g)| {
            if i + 1 == count {
                exact(1.0)
            } else {
                (end - g).f32().exp()
            }
        });
        Chunk {
            first,
            count,
            to_end: to_end.collect(),
            from_start: g.iter().map(|g| g.exp()).collect(),
            q,
            k,
            b,
            p,
        }
    }

    /// Takes row `column` of the state over the chunk and gives that column's outputs.
    fn advance(&self, x: &Sequence, head: usize, column: usize, state: &mut [Near]) -> Vec<Near> {
        let rounded: Vec<Near> = state.iter().map(|s| s.bf16()).collect();
        let v = |i: usize| exact(x.v[((self.first + i) * x.heads.values + head) * D + column].to_f64());
        let mut r = vec![Near::default(); C];
        for (i, r) in r.iter_mut().enumerate().take(self.count) {
            let decay = exact(-1.0) * self.from_start[i];
            *r = fma(decay, mma(&self.k[i], &rounded, exact(0.0)), v(i)).bf16();
        }
        let n: Vec<Near> = (0..self.count).map(|i| mma(&self.b[i], &r, exact(0.0))).collect();
        let padded = |n: Vec<Near>| -> Vec<Near> {
            let zeros = vec![Near::default(); C - n.len()];
            [n, zeros].concat()
        };
        let operand = padded(n.iter().map(|n| n.bf16()).collect());
        let scale = exact(x.scale).ulps(0.5);
        let output = |i: usize| {
            let old = (self.from_start[i] * mma(&self.q[i], &rounded, exact(0.0))).f32();
            (scale * mma(&self.p[i], &operand, old)).f32().bf16()
        };
        let o = (0..self.count).map(output).collect();
        let decayed = n.iter().zip(&self.to_end).map(|(&n, &e)| (n * e).f32().bf16());
        let decayed = padded(decayed.collect());
        for (k, s) in state.iter_mut().enumerate() {
            let keys = padded((0..self.count).map(|i| self.k[i][k]).collect());
            *s = mma(&decayed, &keys, (*s * self.from_start[self.count - 1]).f32());
        }
        o
    }
}

/// (I + A)^-1 by blocks, as the contract orders it.
fn inverse(a: &Matrix) -> Matrix {
    let mut t = zeros(C, C);
    for at in (0..C).step_by(BLOCK) {
        for column in 0..BLOCK {
            let c = at + column;
            t[c][c] = exact(1.0);
            for r in c + 1..at + BLOCK {
                let sum = (c..r).fold(exact(0.0), |sum, l| fma(a[r][l], t[l][c], sum));
                t[r][c] = exact(-1.0) * sum;
            }
        }
    }
    for j in (0..C).step_by(BLOCK) {
        for i in (j + BLOCK..C).step_by(BLOCK) {
            for c in j..j + BLOCK {
                let m = |r: usize| (j..i).fold(exact(0.0), |sum, l| fma(a[i + r][l], t[l][c], sum));
                let m: Vec<Near> = (0..BLOCK).map(m).collect();
                for r in 0..BLOCK {
                    let sum = (0..BLOCK).fold(exact(0.0), |sum, l| fma(t[i + r][i + l], m[l], sum));
                    t[i + r][c] = exact(-1.0) * sum;
                }
            }
        }
    }
    t
}

fn check(name: &str) {
    let x = Sequence::open(name);
    let (want_o, want_state) = (x.file.f64("o8"), x.file.f64("state8"));
    let (o_bounds, state_bounds) = x.bounds();
    let (o_bound, state_bound) = (|i: usize| o_bounds[i].bound(), |i: usize| state_bounds[i].bound());
    let right = x.inputs();
    let (o, state) = x.run(&right, None);
    within(&format!("{name}: o"), &o, &want_o, o_bound);
    within(&format!("{name}: state"), &state, &want_state, state_bound);

    let wrong = |what: &str, inputs: Inputs<'_>, forget: Option<usize>| {
        let (o, _) = x.run(&inputs, forget);
        caught(&format!("{name}: {what}"), &o, &want_o, o_bound);
    };
    wrong("the state not carried to the second chunk", right, Some(C));
    if x.heads.keys > 1 {
        let modulo = Heads {
            modulo: true,
            ..x.heads
        };
        wrong(
            "value head h reads key head h mod 2",
            Inputs { heads: modulo, ..right },
            None,
        );
    }
    wrong(
        "a scale of 1 / 128",
        Inputs {
            scale: 1.0 / 128.0,
            ..right
        },
        None,
    );
    let ones = vec![1.0; x.beta.len()];
    wrong("beta forgotten", Inputs { beta: &ones, ..right }, None);
    let mut later = x.g.clone();
    later.rotate_right(x.heads.values);
    wrong("the gate of the token before", Inputs { g: &later, ..right }, None);
    let base2: Vec<f32> = x.g.iter().map(|g| g * std::f32::consts::LN_2).collect();
    wrong("2^g for e^g", Inputs { g: &base2, ..right }, None);
}

#[test]
fn two_key_heads_from_nothing() {
    check("gdn_heads");
}

#[test]
fn three_chunks_from_a_state() {
    check("gdn_chunks");
}
