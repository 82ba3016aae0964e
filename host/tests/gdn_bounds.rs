//! The gated delta net of `host::reference` against the token-by-token recurrence in f64, which knows nothing of chunks, orders and
//! roundings.
//!
//! The bounds are running errors (`golden::near`): [`steps`] and [`chunks`] go through the lines of docs/numerics.md with one
//! rounding of `Near` for each rounding of the contract. Their values, which have no roundings, must be the recurrence's
//! (the chunked form is the same function); their errors bound what the reference may be off.

// Formulas go by index, as they stand on paper.
#![allow(clippy::needless_range_loop)]

mod golden;

use golden::near::{Near, chain, exact, exactly, fma, fma_chain, mma};
use golden::{caught, within};
use half::bf16;
use host::op::random::Random;
use host::reference::gdn::{self, Heads, Inputs, Rows};
use host::reference::gdn_prefill;

const D: usize = 128;
const C: usize = 64;
/// Columns of V that are compared: they do not depend on each other.
const COLUMNS: usize = 4;

/// One head's inputs.
struct Head {
    n: usize,
    q: Vec<bf16>,
    k: Vec<bf16>,
    v: Vec<bf16>,
    g: Vec<f32>,
    beta: Vec<f32>,
    /// `[COLUMNS][128]`
    state: Vec<f32>,
}

impl Head {
    /// Unit q and k, v of size 1, gates from -0.002 to -20, beta in 0..1.
    fn draw(n: usize, seed: u64) -> Head {
        let normal = |purpose: &str, count: usize| -> Vec<f32> {
            let random = Random::new(seed, purpose);
            (0..count as u64).map(|i| random.normal(i)).collect()
        };
        let unit = |purpose: &str| -> Vec<bf16> {
            let rows = normal(purpose, n * D);
            let row = |row: &[f32]| {
                let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
                row.iter().map(move |x| bf16::from_f32(x / norm)).collect::<Vec<_>>()
            };
            rows.chunks(D).flat_map(row).collect()
        };
        let uniform = |purpose: &str| -> Vec<f32> {
            let random = Random::new(seed, purpose);
            (0..n as u64)
                .map(|i| random.below(i, 1 << 20) as f32 / (1 << 20) as f32)
                .collect()
        };
        Head {
            n,
            q: unit("q"),
            k: unit("k"),
            v: normal("v", n * D).into_iter().map(bf16::from_f32).collect(),
            // Most of them mild, so that chunks matter to each other.
            g: uniform("g")
                .into_iter()
                .map(|u| -(-6.0 + 9.0 * u * u * u).exp())
                .collect(),
            beta: uniform("beta"),
            state: normal("state", COLUMNS * D).into_iter().map(|x| 0.3 * x).collect(),
        }
    }

    fn inputs(&self) -> Inputs<'_> {
        let rows = |data| Rows { data, stride: D };
        Inputs {
            q: rows(&self.q),
            k: rows(&self.k),
            v: rows(&self.v),
            g: &self.g,
            beta: &self.beta,
            heads: Heads {
                keys: 1,
                values: 1,
                modulo: false,
            },
            scale: scale(),
        }
    }

    fn row(&self, x: &[bf16], token: usize) -> Vec<f64> {
        x[token * D..(token + 1) * D].iter().map(|x| x.to_f64()).collect()
    }

    /// The recurrence in f64: o `[n][COLUMNS]` and the state after it.
    fn recurrence(&self) -> (Vec<f64>, Vec<f64>) {
        let mut state: Vec<f64> = self.state.iter().map(|&s| f64::from(s)).collect();
        let mut o = Vec::new();
        for t in 0..self.n {
            let (q, k) = (self.row(&self.q, t), self.row(&self.k, t));
            for (column, row) in state.chunks_mut(D).enumerate() {
                row.iter_mut().for_each(|s| *s *= f64::from(self.g[t]).exp());
                let dot = |x: &[f64], row: &[f64]| x.iter().zip(row).map(|(x, s)| x * s).sum::<f64>();
                let u = f64::from(self.beta[t]) * (self.v[t * D + column].to_f64() - dot(&k, row));
                row.iter_mut().zip(&k).for_each(|(s, k)| *s += u * k);
                o.push(f64::from(scale()) * dot(&q, row));
            }
        }
        (o, state)
    }

    /// The reference's steps.
    fn by_steps(&self) -> (Vec<f64>, Vec<f64>) {
        let mut state = vec![0.0; D * D];
        state[..COLUMNS * D].copy_from_slice(&self.state);
        let mut o = Vec::new();
        for t in 0..self.n {
            o.extend(
                gdn::step(&self.inputs(), t, 0, &mut state)[..COLUMNS]
                    .iter()
                    .map(|o| o.to_f64()),
            );
        }
        (o, wide(&state[..COLUMNS * D]))
    }

    /// The reference's chunks.
    fn by_chunks(&self) -> (Vec<f64>, Vec<f64>) {
        let mut state = self.state.clone();
        let o = gdn_prefill::sequence(&self.inputs(), self.n, 0, 0..COLUMNS, &mut state);
        (o.iter().map(|o| o.to_f64()).collect(), wide(&state))
    }
}

fn scale() -> f32 {
    1.0 / (D as f32).sqrt()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// docs/numerics.md, gdn_decode.
fn steps(head: &Head) -> (Vec<Near>, Vec<Near>) {
    let mut state = exactly(&wide(&head.state));
    let mut o = Vec::new();
    let dot = |row: &[Near], x: &[Near]| {
        let p: Vec<Near> = (0..8)
            .map(|j| {
                let of = |x: &[Near]| -> Vec<Near> { (0..16).map(|i| x[32 * (i / 4) + 4 * j + i % 4]).collect() };
                fma_chain(of(row), of(x))
            })
            .collect();
        let add = |a: Near, b: Near| (a + b).f32();
        let fours = [0, 2, 1, 3].map(|j| add(p[j], p[j + 4]));
        add(add(fours[0], fours[1]), add(fours[2], fours[3]))
    };
    for t in 0..head.n {
        let (q, k) = (exactly(&head.row(&head.q, t)), exactly(&head.row(&head.k, t)));
        let decay = exact(f64::from(head.g[t])).exp();
        for (column, row) in state.chunks_mut(D).enumerate() {
            row.iter_mut().for_each(|s| *s = (*s * decay).f32());
            let v = exact(head.v[t * D + column].to_f64());
            let u = (exact(f64::from(head.beta[t])) * (v - dot(row, &k)).f32()).f32();
            row.iter_mut().zip(&k).for_each(|(s, k)| *s = fma(u, *k, *s));
            o.push((dot(row, &q) * exact(f64::from(scale()))).f32().bf16());
        }
    }
    (o, state)
}

/// docs/numerics.md, gdn_prefill.
fn chunks(head: &Head) -> (Vec<Near>, Vec<Near>) {
    let mut state = exactly(&wide(&head.state));
    let mut o = Vec::new();
    let zero = exact(0.0);
    for first in (0..head.n).step_by(C) {
        let count = (head.n - first).min(C);
        let rows = |x: &[bf16]| -> Vec<Vec<Near>> {
            let row = |i| {
                if i < count {
                    exactly(&head.row(x, first + i))
                } else {
                    vec![zero; D]
                }
            };
            (0..C).map(row).collect()
        };
        let gate = |x: &[f32], i: usize| {
            if i < count {
                exact(f64::from(x[first + i]))
            } else {
                zero
            }
        };
        let (q, k) = (rows(&head.q), rows(&head.k));
        // The sums up to j are the same numbers in G_i and in G_j: only the additions after j are off in their difference.
        let difference = |i: usize, j: usize| -> Near {
            let (mut sum, mut after) = (zero, zero);
            for l in 0..=i {
                sum = (sum + gate(&head.g, l)).f32();
                if l > j {
                    let size = exact(sum.size()).f32().error;
                    after = after
                        + gate(&head.g, l)
                        + Near {
                            value: 0.0,
                            error: size,
                        };
                }
            }
            after.f32()
        };
        let sums: Vec<Near> = (0..C).map(|i| chain((0..=i).map(|l| gate(&head.g, l)))).collect();
        let d = |i: usize, j: usize| difference(i, j).exp();
        let square = || vec![vec![zero; C]; C];
        let (mut a, mut t, mut b, mut p) = (square(), square(), square(), square());
        for i in 0..C {
            for j in 0..=i {
                p[i][j] = (mma(&q[i], &k[j], zero) * d(i, j)).f32().bf16();
                if j < i {
                    a[i][j] = ((mma(&k[i], &k[j], zero) * d(i, j)).f32() * gate(&head.beta, i)).f32();
                }
            }
        }
        for c in 0..C {
            t[c][c] = exact(1.0);
            for r in c + 1..c / 16 * 16 + 16 {
                t[r][c] = zero - fma_chain((c..r).map(|l| a[r][l]), (c..r).map(|l| t[l][c]));
            }
        }
        for c in 0..C {
            for block in c / 16 + 1..C / 16 {
                let (above, rows) = (c / 16 * 16..block * 16, block * 16..block * 16 + 16);
                let product = |r: usize| fma_chain(above.clone().map(|l| a[r][l]), above.clone().map(|l| t[l][c]));
                let m: Vec<Near> = rows.clone().map(product).collect();
                for r in rows.clone() {
                    t[r][c] = zero - fma_chain(rows.clone().map(|l| t[r][l]), m.iter().copied());
                }
            }
        }
        for i in 0..C {
            for j in 0..=i {
                b[i][j] = (t[i][j] * gate(&head.beta, j)).f32().bf16();
            }
        }
        let from_start: Vec<Near> = sums.iter().map(|g| g.exp()).collect();
        let to_end: Vec<Near> = (0..C).map(|j| d(C - 1, j)).collect();
        let mut outputs = vec![Vec::new(); count];
        for (column, row) in state.chunks_mut(D).enumerate() {
            let s: Vec<Near> = row.iter().map(|s| s.bf16()).collect();
            let r: Vec<Near> = (0..C)
                .map(|i| {
                    let v = if i < count {
                        exact(head.v[(first + i) * D + column].to_f64())
                    } else {
                        zero
                    };
                    fma(zero - from_start[i], mma(&k[i], &s, zero), v).bf16()
                })
                .collect();
            let n: Vec<Near> = (0..C).map(|i| mma(&b[i], &r, zero)).collect();
            let rounded: Vec<Near> = n.iter().map(|n| n.bf16()).collect();
            for (i, outputs) in outputs.iter_mut().enumerate() {
                let old = (from_start[i] * mma(&q[i], &s, zero)).f32();
                outputs.push((exact(f64::from(scale())) * mma(&p[i], &rounded, old)).f32().bf16());
            }
            let decayed: Vec<Near> = n.iter().zip(&to_end).map(|(n, e)| (*n * *e).f32().bf16()).collect();
            for (x, s) in row.iter_mut().enumerate() {
                let keys: Vec<Near> = k.iter().map(|k| k[x]).collect();
                *s = mma(&decayed, &keys, (*s * from_start[C - 1]).f32());
            }
        }
        o.extend(outputs.into_iter().flatten());
    }
    (o, state)
}

fn values(x: &[Near]) -> Vec<f64> {
    x.iter().map(|x| x.value).collect()
}

/// Compares both outputs of the reference with the recurrence.
fn holds(what: &str, got: &(Vec<f64>, Vec<f64>), near: &(Vec<Near>, Vec<Near>), head: &Head) {
    let (o, state) = head.recurrence();
    // Without roundings it is the same function.
    within("values of o", &values(&near.0), &o, |i| 1e-12 + 1e-10 * o[i].abs());
    within("values of the state", &values(&near.1), &state, |i| {
        1e-12 + 1e-10 * state[i].abs()
    });
    within(&format!("{what} o"), &got.0, &o, |i| near.0[i].bound());
    within(&format!("{what} state"), &got.1, &state, |i| near.1[i].bound());
}

#[test]
fn steps_stay_within_their_bound_of_the_recurrence() {
    let head = Head::draw(24, 1);
    let near = steps(&head);
    holds("steps", &head.by_steps(), &near, &head);
    // Each of these is another recurrence, and seen.
    let (_, state) = head.recurrence();
    let off = |what: &str, change: &dyn Fn(&mut Head)| {
        let mut other = Head::draw(24, 1);
        change(&mut other);
        caught(what, &other.by_steps().1, &state, |i| near.1[i].bound());
    };
    off("a decay off by 2^-10", &|h| h.g[23] -= 2f32.powi(-10));
    off("beta of one token off by 2^-8", &|h| h.beta[23] *= 1.0 - 2f32.powi(-8));
    off("keys one token early", &|h| h.k.rotate_left(D));
}

#[test]
fn chunks_stay_within_their_bound_of_the_recurrence() {
    // A short chunk alone; two whole ones and a short one.
    for (n, seed) in [(40, 2), (150, 3)] {
        let head = Head::draw(n, seed);
        let near = chunks(&head);
        holds("chunks", &head.by_chunks(), &near, &head);
        let (o, _) = head.recurrence();
        let off = |what: &str, change: &dyn Fn(&mut Head)| {
            let mut other = Head::draw(n, seed);
            change(&mut other);
            caught(what, &other.by_chunks().0, &o, |i| near.0[i].bound());
        };
        off("no decay in a token", &|h| h.g[n / 2] = 0.0);
        off("a token that is not written", &|h| h.beta[n - 9] = 0.0);
        off("keys one token late", &|h| h.k.rotate_right(D));
        off("the state of another sequence", &|h| {
            h.state.iter_mut().for_each(|s| *s = -*s)
        });
    }
}

#[test]
fn another_order_gives_other_bytes_and_the_canonical_splits_do_not() {
    let head = Head::draw(150, 4);
    let split = |at: usize| {
        let mut state = head.state.clone();
        let first = gdn_prefill::sequence(&head.inputs(), at, 0, 0..COLUMNS, &mut state);
        let rest = gdn_prefill::sequence(&head.inputs().from(at), head.n - at, 0, 0..COLUMNS, &mut state);
        let o = [first, rest].concat();
        (o.iter().map(|o| o.to_f64()).collect::<Vec<_>>(), wide(&state))
    };
    let whole = head.by_chunks();
    assert_eq!(split(64), whole);
    assert_eq!(split(128), whole);
    // Chunks at other places are the same function in another order.
    assert_ne!(split(32), whole);
    assert_ne!(head.by_steps(), whole);
}

#[test]
fn a_dot_product_in_another_order_gives_other_states() {
    // One chain over k, or the eight chains added one after the other, where the canonical order has a tree.
    let one_chain = |row: &[f32], k: &[f32]| row.iter().zip(k).fold(0.0f32, |sum, (s, k)| s.mul_add(*k, sum));
    let chains = |row: &[f32], k: &[f32]| -> [f32; 8] {
        std::array::from_fn(|j| {
            let at = |i: usize| 32 * (i / 4) + 4 * j + i % 4;
            (0..16).fold(0.0f32, |sum, i| row[at(i)].mul_add(k[at(i)], sum))
        })
    };
    let no_tree = |row: &[f32], k: &[f32]| chains(row, k).into_iter().fold(0.0f32, |sum, p| sum + p);
    let canonical = |row: &[f32], k: &[f32]| {
        let p = chains(row, k);
        ((p[0] + p[4]) + (p[2] + p[6])) + ((p[1] + p[5]) + (p[3] + p[7]))
    };
    let head = Head::draw(8, 5);
    let by = |dot: &dyn Fn(&[f32], &[f32]) -> f32| {
        let mut state = head.state.clone();
        for t in 0..head.n {
            let k: Vec<f32> = head.k[t * D..(t + 1) * D].iter().map(|k| k.to_f32()).collect();
            let decay = cuda_std::float::exact::exp(head.g[t]);
            for (column, row) in state.chunks_mut(D).enumerate() {
                row.iter_mut().for_each(|s| *s *= decay);
                let u = head.beta[t] * (head.v[t * D + column].to_f32() - dot(row, &k));
                row.iter_mut().zip(&k).for_each(|(s, k)| *s = u.mul_add(*k, *s));
            }
        }
        wide(&state)
    };
    let reference = head.by_steps().1;
    assert_eq!(by(&canonical), reference);
    assert_ne!(by(&one_chain), reference);
    assert_ne!(by(&no_tree), reference);
}
