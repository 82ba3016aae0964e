//! Attention on a paged cache, one query row after another: docs/numerics.md, "Attention", in both orders.

use cuda_std::float::exact::{exp2a, sigmoid};
use half::{bf16, f16};

use super::mma::{self, Arch, Factor};
use super::{ReferenceError, expect, to_bf16};

/// Which of the two orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `attn_prefill`: one chain over all positions, a running maximum that moves at granules.
    Prefill,
    /// `attn_decode`: units of 64 positions from zero, folded to splits, spans and the row.
    Decode,
}

/// An element of q, k, v, gate and o.
pub trait Element: mma::Element + Send {
    /// The value.
    fn widen(self) -> f32;
    /// The nearest element, ties to even; a NaN is 0x7FFF.
    fn round(v: f32) -> Self;
}

impl Element for bf16 {
    fn widen(self) -> f32 {
        self.to_f32()
    }
    fn round(v: f32) -> Self {
        to_bf16(v)
    }
}

impl Element for f16 {
    fn widen(self) -> f32 {
        self.to_f32()
    }
    fn round(v: f32) -> Self {
        if v.is_nan() {
            f16::from_bits(0x7FFF)
        } else {
            f16::from_f32(v)
        }
    }
}

/// Heads in rows: head h of row t is at `t * row + h * head`.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a, T> {
    /// All elements.
    pub data: &'a [T],
    /// Elements from a row to the next.
    pub row: usize,
    /// Elements from a head to the next.
    pub head: usize,
}

impl<T> Heads<'_, T> {
    fn of(&self, row: usize, head: usize, width: usize) -> &[T] {
        &self.data[row * self.row + head * self.head..][..width]
    }
}

/// The tensors of a launch, as in `kernels_gpu::attn`'s table.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a, T> {
    /// Queries by token.
    pub q: Heads<'a, T>,
    /// Output gates by token, where there are any.
    pub gate: Option<Heads<'a, T>>,
    /// `[n_pages][kv_heads][page][head_dim]`.
    pub k: &'a [T],
    /// As `k`.
    pub v: &'a [T],
    /// `[n_seq][max_pages]`.
    pub block_table: &'a [i32],
    /// `[n_seq + 1]`.
    pub cu_seqlens: &'a [i32],
    /// `[n_seq]`.
    pub seq_lens: &'a [i32],
    /// Query heads.
    pub q_heads: usize,
    /// Heads of the cache.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Positions of a page.
    pub page: usize,
    /// Positions that a token sees; 0 for all before it.
    pub window: usize,
    /// scale * log2 e.
    pub scale_log2: f32,
}

/// Sums over some of a row's positions.
struct Partial {
    m: f32,
    l: f32,
    o: Vec<f32>,
}

/// The positions a row sees, and whose they are.
struct Row<'a> {
    sequence: usize,
    kv_head: usize,
    /// The query.
    q: &'a [Factor],
    first: usize,
    last: usize,
}

impl<T: Element> Attention<'_, T> {
    /// Every row in `order`: o `[n_tok][q_heads][head_dim]`.
    ///
    /// # Errors
    /// [`ReferenceError`] where the cache or the lengths have not the elements that the other sizes ask for.
    pub fn all(&self, order: Order) -> Result<Vec<T>, ReferenceError> {
        let tokens = self.cu_seqlens.last().map_or(0, |&n| n as usize);
        let mut o = vec![T::round(0.0); tokens * self.q_heads * self.head_dim];
        self.check()?;
        crate::op::data::rows(&mut o, self.head_dim, |i, row| {
            row.copy_from_slice(&self.row(order, i / self.q_heads, i % self.q_heads));
        });
        Ok(o)
    }

    /// The tensors' sizes against each other.
    ///
    /// # Errors
    /// [`ReferenceError`] naming the tensor.
    pub fn check(&self) -> Result<(), ReferenceError> {
        let width = self.kv_heads * self.page * self.head_dim;
        let pages = self.k.len() / width.max(1);
        let cache = [
            ("n_pages", pages),
            ("kv_heads", self.kv_heads),
            ("page", self.page),
            ("head_dim", self.head_dim),
        ];
        expect("k", self.k.len(), &cache)?;
        expect("v", self.v.len(), &cache)?;
        expect(
            "cu_seqlens",
            self.cu_seqlens.len(),
            &[("n_seq + 1", self.seq_lens.len() + 1)],
        )
    }

    /// The row of o of a token and head: +0 where the token's position is negative, for then it sees nothing.
    pub fn row(&self, order: Order, token: usize, head: usize) -> Vec<T> {
        let sequence = (0..self.seq_lens.len())
            .find(|&s| token < self.cu_seqlens[s + 1] as usize)
            .expect("a token of some sequence");
        // The sequence's query tokens are its last positions. Where it has fewer positions than tokens, its first tokens have
        // none, and nothing is admitted.
        let from_end = self.cu_seqlens[sequence + 1] as usize - token;
        let len = usize::try_from(self.seq_lens[sequence]).unwrap_or(0);
        let y = match len.checked_sub(from_end) {
            Some(last) => self.attended(order, sequence, last, token, head),
            None => vec![T::round(0.0); self.head_dim],
        };
        match &self.gate {
            None => y,
            Some(gate) => {
                let gate = gate.of(token, head, self.head_dim);
                y.into_iter()
                    .zip(gate)
                    .map(|(y, g)| T::round(y.widen() * sigmoid(g.widen())))
                    .collect()
            }
        }
    }

    /// The row of a token at position `last` of its sequence, before the gate.
    fn attended(&self, order: Order, sequence: usize, last: usize, token: usize, head: usize) -> Vec<T> {
        let first = if self.window > 0 {
            (last + 1).saturating_sub(self.window)
        } else {
            0
        };
        let row = Row {
            sequence,
            kv_head: head / (self.q_heads / self.kv_heads),
            q: &mma::factors(self.q.of(token, head, self.head_dim)),
            first,
            last,
        };
        let sums = match order {
            Order::Prefill => self.chain(&row),
            Order::Decode => self.spans(&row),
        };
        let inverse = 1.0 / sums.l;
        let lost = sums.m.is_nan() || sums.m == f32::INFINITY;
        let value = |o: f32| T::round(if lost { f32::NAN } else { o.mul_add(inverse, 0.0) });
        sums.o.into_iter().map(value).collect()
    }

    /// attn_prefill: granule after granule into the same sums.
    fn chain(&self, row: &Row) -> Partial {
        let granule = if self.head_dim <= 128 { 128 } else { 64 };
        let (mut m, mut chains, mut o) = (f32::NEG_INFINITY, [0.0f32; 8], vec![0.0f32; self.head_dim]);
        for g in row.first / granule..=row.last / granule {
            let (first, last) = ((g * granule).max(row.first), (g * granule + granule - 1).min(row.last));
            let scores = self.scores(row, first, last);
            let moved = largest(m, self.maximum(&scores));
            let u = power(m - moved);
            m = moved;
            chains.iter_mut().chain(&mut o).for_each(|sum| *sum *= u);
            self.add(row, &scores, first, m, &mut chains, &mut o);
        }
        let l = join(chains);
        Partial { m, l, o }
    }

    /// attn_decode: the spans of 1024 positions, of splits of 256, of units of 64.
    fn spans(&self, row: &Row) -> Partial {
        self.folded(row, 1024, &|span| {
            self.folded(&within(row, span, 1024), 256, &|split| {
                self.folded(&within(&within(row, span, 1024), split, 256), 64, &|unit| {
                    self.unit(&within(row, unit, 64))
                })
            })
        })
    }

    /// The parts of `size` positions that the row sees something of, folded in ascending order.
    fn folded(&self, row: &Row, size: usize, part: &dyn Fn(usize) -> Partial) -> Partial {
        let parts = (row.first / size..=row.last / size).map(part);
        parts.reduce(fold).expect("a token sees itself")
    }

    /// The sums over one unit, from zero.
    fn unit(&self, row: &Row) -> Partial {
        let scores = self.scores(row, row.first, row.last);
        let m = self.maximum(&scores);
        let (mut chains, mut o) = ([0.0f32; 8], vec![0.0f32; self.head_dim]);
        self.add(row, &scores, row.first, m, &mut chains, &mut o);
        let l = join(chains);
        Partial { m, l, o }
    }

    /// s_p of the positions `first..=last`.
    fn scores(&self, row: &Row, first: usize, last: usize) -> Vec<f32> {
        let score = |p| {
            let k = &self.k[self.at(row, p)..][..self.head_dim];
            mma::chain(Arch::Hopper, row.q, &mma::factors(k), 0.0)
        };
        (first..=last).map(score).collect()
    }

    /// m of a group of scores.
    fn maximum(&self, scores: &[f32]) -> f32 {
        scores
            .iter()
            .map(|s| s * self.scale_log2)
            .fold(f32::NEG_INFINITY, largest)
            .ceil()
    }

    /// Adds P of the positions from `first` on to the chains of l, and P V to o.
    fn add(&self, row: &Row, scores: &[f32], first: usize, m: f32, chains: &mut [f32; 8], o: &mut [f32]) {
        // Steps of 16 positions at multiples of 16; what is not admitted has a P of +0.
        let start = first / 16 * 16;
        let mut weights = vec![T::round(0.0); (first + scores.len()).next_multiple_of(16) - start];
        for (i, s) in scores.iter().enumerate() {
            let p = exp2a(s.mul_add(self.scale_log2, -m));
            chains[(first + i) % 8] += p;
            weights[first - start + i] = T::round(p);
        }
        let weights = mma::factors(&weights);
        let nothing = T::round(0.0).factor();
        let len = self.seq_lens[row.sequence] as usize;
        let rows: Vec<Option<usize>> = (start..start + weights.len())
            .map(|p| (p < len).then(|| self.at(row, p)))
            .collect();
        for (j, sum) in o.iter_mut().enumerate() {
            let column: Vec<Factor> = rows
                .iter()
                .map(|at| at.map_or(nothing, |at| self.v[at + j].factor()))
                .collect();
            *sum = mma::chain(Arch::Hopper, &weights, &column, *sum);
        }
    }

    /// Where a position of the row's sequence and KV head begins in k and v.
    fn at(&self, row: &Row, p: usize) -> usize {
        let max_pages = self.block_table.len() / self.seq_lens.len();
        let page = self.block_table[row.sequence * max_pages + p / self.page] as usize;
        ((page * self.kv_heads + row.kv_head) * self.page + p % self.page) * self.head_dim
    }
}

/// The row as far as it lies in part `index` of `size` positions.
fn within<'a>(row: &Row<'a>, index: usize, size: usize) -> Row<'a> {
    Row {
        first: row.first.max(index * size),
        last: row.last.min(index * size + size - 1),
        ..*row
    }
}

/// The larger; a NaN stays.
fn largest(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
}

/// pow2 of the contract.
fn power(n: f32) -> f32 {
    if n >= -126.0 { 2f32.powi(n as i32) } else { 0.0 }
}

/// l of its eight chains.
fn join(c: [f32; 8]) -> f32 {
    ((c[0] + c[1]) + (c[2] + c[3])) + ((c[4] + c[5]) + (c[6] + c[7]))
}

/// Two partial sums as one.
fn fold(a: Partial, b: Partial) -> Partial {
    let m = largest(a.m, b.m);
    let (u, w) = (power(a.m - m), power(b.m - m));
    let sum = |a: f32, b: f32| a.mul_add(u, b * w);
    Partial {
        m,
        l: sum(a.l, b.l),
        o: a.o.iter().zip(&b.o).map(|(a, b)| sum(*a, *b)).collect(),
    }
}
