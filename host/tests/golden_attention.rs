//! Attention of `host::reference`, in both orders, against torch's and transformers' (scripts/golden/attention.py).

mod golden;

use golden::near::{Near, exact, exactly, mma};
use golden::{Golden, U, caught, value, within};
use half::bf16;
use host::reference::attention::{Attention, Heads, Order};

/// Positions of a page; the pages of a sequence lie in the cache in descending order.
const PAGE: usize = 16;
const FILES: [&str; 4] = [
    "attention_d64",
    "attention_d128_window",
    "attention_d128_long",
    "attention_d256_gated",
];

struct Case {
    file: Golden,
    q_heads: usize,
    kv_heads: usize,
    d: usize,
    new: Vec<usize>,
    total: Vec<usize>,
    window: usize,
    scale: f64,
}

/// What a run may do wrong.
#[derive(Clone, Copy)]
struct Run {
    order: Order,
    window: usize,
    scale: f64,
    gated: bool,
    /// Which head takes part as which.
    head: fn(usize, usize) -> usize,
    /// The last position of each past is taken for the first new token's.
    short_past: bool,
}

impl Case {
    fn open(name: &str) -> Case {
        let file = Golden::open(name);
        let (q, k) = (file.shape("q"), file.shape("k"));
        let list = |name: &str| file.i32(name).iter().map(|&n| n as usize).collect();
        Case {
            q_heads: q[1],
            kv_heads: k[1],
            d: q[2],
            new: list("new"),
            total: list("total"),
            window: file.number("window") as usize,
            scale: file.number("scale"),
            file,
        }
    }

    fn right(&self, order: Order) -> Run {
        Run {
            order,
            window: self.window,
            scale: self.scale,
            gated: self.gated(),
            head: |head, _| head,
            short_past: false,
        }
    }

    fn gated(&self) -> bool {
        self.file.has("gate")
    }

    /// k or v as pages `[n_pages][kv_heads][PAGE][d]`, the places behind the sequences' ends NaN; and the block table.
    fn pages(&self, name: &str) -> (Vec<bf16>, Vec<i32>) {
        let rows = self.file.bf16(name);
        let max_pages = self.total.iter().map(|t| t.div_ceil(PAGE)).max().unwrap();
        let n_pages = self.total.len() * max_pages;
        let mut cache = vec![bf16::from_bits(0x7FFF); n_pages * self.kv_heads * PAGE * self.d];
        let (mut table, mut first) = (Vec::new(), 0);
        for (s, &total) in self.total.iter().enumerate() {
            let page = |i: usize| (s + 1) * max_pages - 1 - i;
            table.extend((0..max_pages).map(|i| page(i) as i32));
            for p in 0..total {
                for head in 0..self.kv_heads {
                    let to = ((page(p / PAGE) * self.kv_heads + head) * PAGE + p % PAGE) * self.d;
                    let from = ((first + p) * self.kv_heads + head) * self.d;
                    for j in 0..self.d {
                        cache[to + j] = bf16::from_bits(rows[from + j]);
                    }
                }
            }
            first += total;
        }
        (cache, table)
    }

    fn run(&self, run: Run) -> Vec<f64> {
        let (k, block_table) = self.pages("k");
        let (v, _) = self.pages("v");
        let half = |name: &str| -> Vec<bf16> { self.file.bf16(name).into_iter().map(bf16::from_bits).collect() };
        let row = self.q_heads * self.d;
        let moved = |name: &str| {
            let mut moved = half(name);
            for token in moved.chunks_mut(row) {
                let right = token.to_vec();
                for (h, head) in token.chunks_mut(self.d).enumerate() {
                    head.copy_from_slice(&right[(run.head)(h, self.q_heads) * self.d..][..self.d]);
                }
            }
            moved
        };
        let q = moved("q");
        let gate = if run.gated { moved("gate") } else { Vec::new() };
        let heads = |data| Heads {
            data,
            row,
            head: self.d,
        };
        let mut cu_seqlens = vec![0];
        for n in &self.new {
            cu_seqlens.push(cu_seqlens.last().unwrap() + *n as i32);
        }
        let length = |(total, new): (&usize, &usize)| (total - usize::from(run.short_past && total > new)) as i32;
        let seq_lens: Vec<i32> = self.total.iter().zip(&self.new).map(length).collect();
        let attention = Attention {
            q: heads(&q),
            gate: run.gated.then(|| heads(&gate)),
            k: &k,
            v: &v,
            block_table: &block_table,
            cu_seqlens: &cu_seqlens,
            seq_lens: &seq_lens,
            q_heads: self.q_heads,
            kv_heads: self.kv_heads,
            head_dim: self.d,
            page: PAGE,
            window: run.window,
            scale_log2: (run.scale * std::f64::consts::LOG2_E) as f32,
        };
        let mut o = attention.all(run.order).unwrap();
        for token in o.chunks_mut(row) {
            let wrong = token.to_vec();
            for (h, head) in wrong.chunks(self.d).enumerate() {
                let to = (run.head)(h, self.q_heads) * self.d;
                token[to..to + self.d].copy_from_slice(head);
            }
        }
        o.iter().map(|o| o.to_f64()).collect()
    }

    /// The bound of every output; see [`row_bound`].
    fn bounds(&self) -> Vec<f64> {
        let (q, k, v) = (self.file.f64("q"), self.file.f64("k"), self.file.f64("v"));
        let gate = if self.gated() {
            self.file.bf16("gate")
        } else {
            Vec::new()
        };
        let (mut bounds, mut token, mut first) = (Vec::new(), 0, 0);
        for (&new, &total) in self.new.iter().zip(&self.total) {
            for i in total - new..total {
                let from = if self.window > 0 {
                    (i + 1).saturating_sub(self.window)
                } else {
                    0
                };
                for h in 0..self.q_heads {
                    let kv = h / (self.q_heads / self.kv_heads);
                    let at = |x: &[f64], p: usize| x[((first + p) * self.kv_heads + kv) * self.d..][..self.d].to_vec();
                    let place = (token * self.q_heads + h) * self.d;
                    let row = Row {
                        q: &q[place..][..self.d],
                        k: (from..=i).map(|p| at(&k, p)).collect(),
                        v: (from..=i).map(|p| at(&v, p)).collect(),
                    };
                    let outputs = row.outputs(self.scale);
                    bounds.extend(outputs.into_iter().enumerate().map(|(j, y)| match gate.get(place + j) {
                        Some(&gate) => (y * exact(value(gate)).sigmoid()).f32().bf16().bound(),
                        None => y.bound(),
                    }));
                }
                token += 1;
            }
            first += total;
        }
        bounds
    }
}

/// One query and the positions it sees.
struct Row<'a> {
    q: &'a [f64],
    k: Vec<Vec<f64>>,
    v: Vec<Vec<f64>>,
}

impl Row<'_> {
    /// y = bf16(O / l) with its error, for either order.
    ///
    /// With p the exact weights, each P is p (1 + e): the exponent x is off by what the chain of s loses, times c, by c's
    /// rounding and by the fma's, times ln 2; exp2a by 1.02e-4 more. As O and l have the same P, an error e of one weight moves
    /// O / l by p e (v - o) / l. On top of that O has bf16(P) for P, which is off by half an ulp of it.
    /// Then the sums. No partial sum of O is above A = sum of p |v|, whatever the order, so a tensor-core step loses below
    /// (17 * 2^-25 + 2^-23) A, of steps there is one for each 16 positions and one more at either end, and folds add two
    /// roundings each, of which there are at most one for each unit of 64 and three more. Rescaling is exact. In l at most
    /// every eighth addition of the chains is in a row, then 3 additions and the folds. 1 / l and the product round once each.
    fn outputs(&self, scale: f64) -> Vec<Near> {
        let n = self.k.len();
        let c = scale * std::f64::consts::LOG2_E;
        let q = exactly(self.q);
        let scores: Vec<Near> = self.k.iter().map(|k| mma(&q, &exactly(k), exact(0.0))).collect();
        let m = scores.iter().map(|s| s.value * c).fold(f64::MIN, f64::max).ceil();
        let (mut p, mut e) = (Vec::new(), Vec::new());
        for s in scores {
            let x = (s * exact(c).ulps(0.5) + exact(-m)).f32();
            p.push(x.value.exp2());
            e.push(std::f64::consts::LN_2 * x.error + 1.02e-4);
        }
        let l: f64 = p.iter().sum();
        let steps = n.div_ceil(16) as f64 + 1.0;
        let folds = n.div_ceil(64) as f64 + 3.0;
        let l_error = U * (n as f64 / 8.0 + 1.0 + 3.0 + 2.0 * folds);
        let output = |j: usize| {
            let v = |i: usize| self.v[i][j];
            let o = (0..n).map(|i| p[i] * v(i)).sum::<f64>() / l;
            let a = (0..n).map(|i| p[i] * v(i).abs()).sum::<f64>() / l;
            let weights: f64 = (0..n)
                .map(|i| p[i] * e[i] * (v(i) - o).abs() + exact(p[i]).bf16().error * v(i).abs())
                .sum();
            let sums = a * (steps * (17.0 * 2f64.powi(-25) + 2f64.powi(-23)) + 2.0 * folds * U);
            let y = Near {
                value: o,
                error: weights / l + sums + l_error * o.abs(),
            };
            y.ulps(1.0).bf16()
        };
        (0..self.q.len()).map(output).collect()
    }
}

#[test]
fn both_orders_are_within_the_roundings() {
    for name in FILES {
        let case = Case::open(name);
        let (want, bounds) = (case.file.f64("o"), case.bounds());
        for order in [Order::Prefill, Order::Decode] {
            let o = case.run(case.right(order));
            within(&format!("{name}, {order:?}"), &o, &want, |i| bounds[i]);
        }
    }
}

#[test]
fn planted_errors_are_seen() {
    for name in FILES {
        let case = Case::open(name);
        let (want, bounds) = (case.file.f64("o"), case.bounds());
        let seen = |what: &str, run: Run| {
            caught(&format!("{name}: {what}"), &case.run(run), &want, |i| bounds[i]);
        };
        let right = case.right(Order::Prefill);
        // Heads 0, 1, 2, 3 of two groups as 0, 2, 1, 3: query heads then read KV head h mod 2.
        if case.kv_heads == 2 {
            let head = |head: usize, heads: usize| (head % 2) * (heads / 2) + head / 2;
            seen("KV head h mod kv_heads", Run { head, ..right });
        }
        if case.window > 0 {
            seen(
                "a window one longer",
                Run {
                    window: case.window + 1,
                    ..right
                },
            );
            seen(
                "a window one shorter",
                Run {
                    window: case.window - 1,
                    ..right
                },
            );
            seen("no window", Run { window: 0, ..right });
        } else {
            let window = case.total.iter().max().unwrap() * 2 / 3;
            seen("the first third left out of the longest rows", Run { window, ..right });
        }
        if case.gated() {
            seen("no gate", Run { gated: false, ..right });
        }
        let scale = case.scale / std::f64::consts::LOG2_E;
        seen("a scale for e, taken to the power of 2", Run { scale, ..right });
        let short_past = true;
        seen("every past one token shorter", Run { short_past, ..right });
    }
}
