//! Gated delta net over prompts, in chunks of 64 tokens: docs/numerics.md, "gdn_prefill", line by line.

use std::ops::Range;

use cuda_std::float::exact;
use half::bf16;

use super::gdn::{D, Inputs, stored};
use super::mma::{Arch, Factor, chain, factors};
use super::to_bf16;

/// Tokens of a chunk.
const C: usize = 64;
/// Rows and columns of a block of the inverse.
const BLOCK: usize = 16;

/// A matrix by rows.
type Matrix = Vec<Vec<f32>>;

/// bf16 factors of a matrix's rows.
type Operand = Vec<Vec<Factor>>;

/// What a chunk contributes whatever the state is.
struct Chunk {
    /// q and k, padded with zeros.
    q: Operand,
    k: Operand,
    /// k with the tokens along a row: `[128][64]`.
    k_columns: Operand,
    b: Operand,
    p: Operand,
    /// exp(G_i) and exp(G_63 - G_i).
    from_start: Vec<f32>,
    to_end: Vec<f32>,
}

/// The products of all rows with all rows, from +0.
fn products(a: &Operand, b: &Operand) -> Matrix {
    let row = |x| b.iter().map(|y| chain(Arch::Hopper, x, y, 0.0)).collect();
    a.iter().map(|x| row(x)).collect()
}

fn rounded(rows: &[Vec<f32>]) -> Operand {
    let round = |row: &Vec<f32>| factors(&row.iter().map(|v| to_bf16(*v)).collect::<Vec<_>>());
    rows.iter().map(round).collect()
}

fn transposed<T: Clone>(rows: &[Vec<T>]) -> Vec<Vec<T>> {
    let columns = rows.first().map_or(0, Vec::len);
    (0..columns)
        .map(|c| rows.iter().map(|row| row[c].clone()).collect())
        .collect()
}

/// (I + A)^-1 for A below the diagonal, by blocks of 16 x 16.
fn inverse(a: &Matrix) -> Matrix {
    let mut t = vec![vec![0.0f32; C]; C];
    for block in 0..C / BLOCK {
        let at = block * BLOCK;
        for c in 0..BLOCK {
            t[at + c][at + c] = 1.0;
            for r in c + 1..BLOCK {
                let mut sum = 0.0f32;
                for l in c..r {
                    sum = a[at + r][at + l].mul_add(t[at + l][at + c], sum);
                }
                t[at + r][at + c] = -sum;
            }
        }
    }
    for j in 0..C / BLOCK {
        for i in j + 1..C / BLOCK {
            let mut m = [[0.0f32; BLOCK]; BLOCK];
            for (r, row) in m.iter_mut().enumerate() {
                for (c, sum) in row.iter_mut().enumerate() {
                    for l in j * BLOCK..i * BLOCK {
                        *sum = a[i * BLOCK + r][l].mul_add(t[l][j * BLOCK + c], *sum);
                    }
                }
            }
            for r in 0..BLOCK {
                for c in 0..BLOCK {
                    let mut sum = 0.0f32;
                    for (l, row) in m.iter().enumerate() {
                        sum = t[i * BLOCK + r][i * BLOCK + l].mul_add(row[c], sum);
                    }
                    t[i * BLOCK + r][j * BLOCK + c] = -sum;
                }
            }
        }
    }
    t
}

impl Chunk {
    /// The chunk of `count` tokens from `first` on.
    fn new(x: &Inputs<'_>, head: usize, first: usize, count: usize) -> Chunk {
        let (mut q, mut k) = (vec![vec![bf16::ZERO; D]; C], vec![vec![bf16::ZERO; D]; C]);
        let (mut sums, mut betas, mut sum) = (Vec::new(), Vec::new(), 0.0f32);
        for i in 0..C {
            let (g, beta) = if i < count {
                let (query, key) = x.query_and_key(first + i, head);
                q[i].copy_from_slice(query);
                k[i].copy_from_slice(key);
                x.gates(first + i, head)
            } else {
                (0.0, 0.0)
            };
            sum += g;
            sums.push(sum);
            betas.push(beta);
        }
        let k_columns = transposed(&k);
        let operand = |rows: &[Vec<bf16>]| -> Operand { rows.iter().map(|row| factors(row)).collect() };
        let (q, k, k_columns) = (operand(&q), operand(&k), operand(&k_columns));
        let (kk, qk) = (products(&k, &k), products(&q, &k));
        let zero = || vec![vec![0.0f32; C]; C];
        let (mut a, mut p, mut b) = (zero(), zero(), zero());
        for i in 0..C {
            for j in 0..=i {
                let d = exact::exp(sums[i] - sums[j]);
                p[i][j] = qk[i][j] * d;
                if j < i {
                    a[i][j] = (kk[i][j] * d) * betas[i];
                }
            }
        }
        let t = inverse(&a);
        for i in 0..C {
            for j in 0..=i {
                b[i][j] = t[i][j] * betas[j];
            }
        }
        Chunk {
            q,
            k,
            k_columns,
            b: rounded(&b),
            p: rounded(&p),
            from_start: sums.iter().map(|g| exact::exp(*g)).collect(),
            to_end: sums.iter().map(|g| exact::exp(sums[C - 1] - *g)).collect(),
        }
    }

    /// Column v of V: its row `state` of the state goes to the end of the chunk; gives the outputs of its tokens. `values`: the
    /// column's v, zeros after the last token.
    fn advance(&self, state: &mut [f32], values: &[f32], scale: f32) -> Vec<bf16> {
        let s = &rounded(&[state.to_vec()])[0];
        let dot = |a: &[Factor], b: &[Factor], c| chain(Arch::Hopper, a, b, c);
        let r: Vec<f32> = (0..C)
            .map(|i| (-self.from_start[i]).mul_add(dot(&self.k[i], s, 0.0), values[i]))
            .collect();
        let r = &rounded(&[r])[0];
        let n: Vec<f32> = (0..C).map(|i| dot(&self.b[i], r, 0.0)).collect();
        let operand = &rounded(std::slice::from_ref(&n))[0];
        let output = |i: usize| {
            let old = self.from_start[i] * dot(&self.q[i], s, 0.0);
            to_bf16(scale * dot(&self.p[i], operand, old))
        };
        let o = (0..C).map(output).collect();
        let decayed: Vec<f32> = n.iter().zip(&self.to_end).map(|(n, e)| n * e).collect();
        let decayed = &rounded(&[decayed])[0];
        for (k, s) in state.iter_mut().enumerate() {
            *s = dot(decayed, &self.k_columns[k], *s * self.from_start[C - 1]);
        }
        o
    }
}

/// One sequence of `len` tokens, one value head, some columns of V. `state`: those rows of its state, `[columns][128]`,
/// updated. Gives o `[len][columns]`.
pub fn sequence(x: &Inputs<'_>, len: usize, head: usize, columns: Range<usize>, state: &mut [f32]) -> Vec<bf16> {
    let mut out = Vec::with_capacity(len * columns.len());
    for first in (0..len).step_by(C) {
        let count = (len - first).min(C);
        let chunk = Chunk::new(x, head, first, count);
        let by_column: Vec<Vec<bf16>> = (columns.clone().zip(state.chunks_mut(D)))
            .map(|(column, row)| {
                let mut values = [0.0f32; C];
                for (i, v) in values.iter_mut().enumerate().take(count) {
                    *v = x.value(first + i, head)[column].to_f32();
                }
                chunk.advance(row, &values, x.scale)
            })
            .collect();
        for i in 0..count {
            out.extend(by_column.iter().map(|column| column[i]));
        }
    }
    state.iter_mut().for_each(|s| *s = stored(*s));
    out
}
