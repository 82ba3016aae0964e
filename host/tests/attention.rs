//! Attention's reference against softmax in f64 within a bound that follows from the contract's roundings, and that these checks and
//! those of `operations.rs` can fail. The kernels against the reference are in `operations.rs`.

use half::{bf16, f16};
use host::op::Values;
use host::op::data::{Draw, Float};
use host::op::random::Random;
use host::reference::attention::{Attention, Element, Heads, Order};

/// One sequence on a paged cache in which page j is page n - 1 - j, with a query for each of its last positions.
struct Sequence<T> {
    q: Vec<T>,
    k: Vec<T>,
    v: Vec<T>,
    gate: Vec<T>,
    block_table: Vec<i32>,
    cu_seqlens: [i32; 2],
    seq_lens: [i32; 1],
    sizes: Sizes,
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    tokens: usize,
    len: usize,
    q_heads: usize,
    kv_heads: usize,
    head_dim: usize,
    page: usize,
    window: usize,
    gated: bool,
}

impl<T: Float + Element> Sequence<T> {
    fn draw(sizes: Sizes, values: Values, seed: u64) -> Self {
        let draw = Draw { seed, values };
        let pages = sizes.len.div_ceil(sizes.page);
        let rows = pages * sizes.kv_heads * sizes.page;
        Self {
            q: draw.floats("q", sizes.tokens * sizes.q_heads, sizes.head_dim, 1.5),
            k: draw.floats("k", rows, sizes.head_dim, 1.0),
            v: draw.floats("v", rows, sizes.head_dim, 1.0),
            gate: draw.ordinary("gate", sizes.tokens * sizes.q_heads, sizes.head_dim, 2.0),
            block_table: (0..pages as i32).rev().collect(),
            cu_seqlens: [0, sizes.tokens as i32],
            seq_lens: [sizes.len as i32],
            sizes,
        }
    }

    fn attention(&self) -> Attention<'_, T> {
        let Sizes {
            q_heads,
            kv_heads,
            head_dim,
            page,
            window,
            gated,
            ..
        } = self.sizes;
        let heads = |data| Heads {
            data,
            row: q_heads * head_dim,
            head: head_dim,
        };
        Attention {
            q: heads(&self.q),
            gate: gated.then(|| heads(&self.gate)),
            k: &self.k,
            v: &self.v,
            block_table: &self.block_table,
            cu_seqlens: &self.cu_seqlens,
            seq_lens: &self.seq_lens,
            q_heads,
            kv_heads,
            head_dim,
            page,
            window,
            scale_log2: (std::f64::consts::LOG2_E / (head_dim as f64).sqrt()) as f32,
        }
    }

    /// A row of the cache in f64.
    fn row(&self, cache: &[T], p: usize, kv_head: usize) -> Vec<f64> {
        let Sizes {
            kv_heads,
            head_dim,
            page,
            len,
            ..
        } = self.sizes;
        let at = (len.div_ceil(page) - 1 - p / page) * kv_heads + kv_head;
        let row = &cache[(at * page + p % page) * head_dim..][..head_dim];
        row.iter().map(|x| f64::from(x.widen())).collect()
    }

    /// softmax(q k / sqrt(d)) v of one row in f64, and how far the contract's may be from it, element by element.
    ///
    /// With e(n) = n 2^-24, in the order of docs/numerics.md, all relative unless said:
    /// - s_p: a step of the tensor core truncates 17 addends to 2^-25 of the largest and the sum to 2^-23: 21 * 2^-25 of
    ///   A_p = sum |q k|, absolute, a step; head_dim / 16 steps.
    /// - x_p: c is rounded and x is, so |s c| e(1) + |x| e(1) come to the error of s_p times c, absolute. |x| < |s c| + |m| + 1.
    /// - P_p: ln 2 times that, and 1.02e-4 of exp2a; below 2^-126 something as small, absolute.
    /// - rounding P to the 16-bit type: u, or below its smallest normal number u of that, absolute; l is at least 1/2.
    /// - O: 21 * 2^-25 of sum P |v| a step, len / 16 steps; a fold is two roundings, len / 64 of them at most.
    /// - l: a chain of len / 8, three joins, and the folds.
    /// - 1 / l and the product: e(2). The last rounding: u of the result. A gate: e(8) and u once more.
    fn exact(&self, token: usize, head: usize, u: f64) -> (Vec<f64>, Vec<f64>) {
        let Sizes {
            tokens,
            len,
            q_heads,
            kv_heads,
            head_dim,
            window,
            gated,
            ..
        } = self.sizes;
        let query: Vec<f64> = self.q[(token * q_heads + head) * head_dim..][..head_dim]
            .iter()
            .map(|x| f64::from(x.widen()))
            .collect();
        let last = len - tokens + token;
        let first = if window == 0 {
            0
        } else {
            (last + 1).saturating_sub(window)
        };
        let kv_head = head / (q_heads / kv_heads);
        let c = std::f64::consts::LOG2_E / (head_dim as f64).sqrt();
        let dots: Vec<(f64, f64)> = (first..=last)
            .map(|p| {
                let products = self
                    .row(&self.k, p, kv_head)
                    .into_iter()
                    .zip(&query)
                    .map(|(k, q)| k * q);
                products.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()))
            })
            .collect();
        let top = dots.iter().map(|(s, _)| s * c).fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = dots.iter().map(|(s, _)| (s * c - top).exp2()).collect();
        let total: f64 = weights.iter().sum();
        let e = |n: f64| n * 2f64.powi(-24);
        let step = 21.0 * 2f64.powi(-25);
        let of_p = |(s, size): (f64, f64)| {
            let x = (s * c - top).abs() + 2.0;
            let absolute = step * (head_dim as f64 / 16.0) * size * c + (2.0 * (s * c).abs() + x + top.abs()) * e(1.0);
            std::f64::consts::LN_2 * absolute + 1.02e-4
        };
        let (mut y, mut from_p, mut size) = (vec![0.0; head_dim], vec![0.0; head_dim], vec![0.0; head_dim]);
        let mut of_l = 0.0;
        for (i, w) in weights.iter().enumerate() {
            let share = w / total;
            let error = of_p(dots[i]);
            of_l += share * error;
            for (j, v) in self.row(&self.v, first + i, kv_head).into_iter().enumerate() {
                y[j] += share * v;
                size[j] += share * v.abs();
                // The smallest step of a rounded P, over an l of 1/2 at the least; it covers P below 2^-126 as well.
                from_p[j] += (share * (error + u) + f64::from(T::SMALLEST) * u * 2.0) * v.abs();
            }
        }
        let n = (last + 1 - first) as f64;
        let sums = step * (n / 16.0 + 2.0) + e(2.0 * (n / 64.0 + 2.0));
        of_l += e(n / 8.0 + 4.0 + 2.0 * (n / 64.0 + 2.0) + 2.0);
        let mut bounds = Vec::new();
        for j in 0..head_dim {
            // First order; the second is below a tenth of it while the errors are below a few per cent.
            let mut bound = 1.1 * (from_p[j] + size[j] * sums + y[j].abs() * of_l);
            bound += u * (y[j].abs() + bound) + f64::from(T::SMALLEST) * u;
            if gated {
                let gate = 1.0 / (1.0 + (-f64::from(self.gate[(token * q_heads + head) * head_dim + j].widen())).exp());
                y[j] *= gate;
                bound = (bound + y[j].abs() / gate * e(8.0)) * gate + u * (y[j].abs() + bound);
            }
            bounds.push(bound);
        }
        (y, bounds)
    }

    /// The largest error of sampled rows in units of their bounds.
    fn worst(&self, computed: &Attention<T>, order: Order, u: f64) -> f64 {
        let random = Random::new(7, "rows");
        let mut worst = 0.0f64;
        for i in 0..4 {
            let token = random.below(2 * i, self.sizes.tokens as u64) as usize;
            let head = random.below(2 * i + 1, self.sizes.q_heads as u64) as usize;
            let (y, bounds) = self.exact(token, head, u);
            for (j, got) in computed.row(order, token, head).into_iter().enumerate() {
                worst = worst.max((f64::from(got.widen()) - y[j]).abs() / bounds[j]);
            }
        }
        worst
    }
}

const BASE: Sizes = Sizes {
    tokens: 5,
    len: 300,
    q_heads: 4,
    kv_heads: 2,
    head_dim: 128,
    page: 16,
    window: 0,
    gated: false,
};

/// Sizes of all kinds, and the seeds they are drawn with.
fn all_sizes() -> Vec<(Sizes, u64)> {
    let mut all = Vec::new();
    for (i, len) in [5, 17, 64, 130, 257, 1100].into_iter().enumerate() {
        for (j, head_dim) in [64, 128, 256, 512].into_iter().enumerate() {
            for window in [0, 3, 100] {
                let gated = (i + j) % 2 == 0;
                let page = [16, 32, 64][i % 3];
                let sizes = Sizes {
                    len,
                    head_dim,
                    window,
                    gated,
                    page,
                    ..BASE
                };
                all.push((sizes, (10 * i + j) as u64));
            }
        }
    }
    all
}

/// `u`: half an ulp of 1 in the 16-bit type.
fn near_f64<T: Float + Element>(u: f64) {
    let mut largest = 0.0f64;
    for (sizes, seed) in all_sizes() {
        let sequence = Sequence::<T>::draw(sizes, Values::Normal, seed);
        for order in [Order::Prefill, Order::Decode] {
            let worst = sequence.worst(&sequence.attention(), order, u);
            assert!(worst <= 1.0, "{order:?} {sizes:?}: {worst} bounds off");
            largest = largest.max(worst);
        }
    }
    // A bound that nothing comes near would not be one.
    assert!(largest > 0.2, "the largest error is {largest} bounds");
}

#[test]
fn bf16_is_within_its_roundings_of_softmax_in_f64() {
    near_f64::<bf16>(2f64.powi(-8));
}

#[test]
fn f16_is_within_its_roundings_of_softmax_in_f64() {
    near_f64::<f16>(2f64.powi(-11));
}

#[test]
fn what_is_not_attention_is_beyond_the_bound() {
    let sequence = Sequence::<f16>::draw(BASE, Values::Normal, 3);
    let right = sequence.attention();
    let beyond = |name: &str, wrong: Attention<f16>| {
        for order in [Order::Prefill, Order::Decode] {
            let worst = sequence.worst(&wrong, order, 2f64.powi(-11));
            assert!(worst > 1.0, "{name}, {order:?}: {worst} bounds off passes");
        }
    };
    // One position too few, another scale, the natural exponential, another page, another head, a later token's view.
    let window = BASE.len - BASE.tokens;
    beyond("a window", Attention { window, ..right });
    let scale_log2 = right.scale_log2 * 1.01;
    beyond("the scale", Attention { scale_log2, ..right });
    let scale_log2 = right.scale_log2 * std::f32::consts::LN_2;
    beyond("the base", Attention { scale_log2, ..right });
    // All pages but the last are seen whole, in any order the same: only its place matters.
    let mut block_table = sequence.block_table.clone();
    let end = block_table.len() - 1;
    block_table.swap(0, end);
    let pages = Attention {
        block_table: &block_table,
        ..right
    };
    beyond("the pages", pages);
    let swapped = Attention {
        k: &sequence.v,
        v: &sequence.k,
        ..right
    };
    beyond("k for v", swapped);
    let seq_lens = [BASE.len as i32 - 1];
    beyond(
        "the length",
        Attention {
            seq_lens: &seq_lens,
            ..right
        },
    );
}

/// Bytes are what the checks compare: were an order another one, they would say so. The two orders differ in where the maximum moves
/// and in the folds alone, and granules of 64 from those of 128 in less.
#[test]
fn another_order_gives_other_bytes() {
    let sizes = Sizes { len: 900, ..BASE };
    let differ = |a: Order, b: Order, sizes: Sizes| {
        let sequence = Sequence::<f16>::draw(sizes, Values::Normal, 11);
        let rows = |order| -> Vec<u16> {
            let attention = sequence.attention();
            (0..8)
                .flat_map(|i| attention.row(order, i % 5, i % 4))
                .map(f16::to_bits)
                .collect()
        };
        rows(a) != rows(b)
    };
    assert!(differ(Order::Prefill, Order::Decode, sizes));
    // One unit, one granule: there the two are the same.
    assert!(!differ(Order::Prefill, Order::Decode, Sizes { len: 60, ..sizes }));
    // One split of two units, one granule of 128: the fold shows.
    assert!(differ(Order::Prefill, Order::Decode, Sizes { len: 128, ..sizes }));
}

/// What a row does not see does not matter, whatever it is: NaN in the keys of later positions and before a window.
#[test]
fn unseen_keys_do_not_matter() {
    for window in [0, 40] {
        let sizes = Sizes {
            len: 100,
            tokens: 30,
            window,
            ..BASE
        };
        let clean = Sequence::<bf16>::draw(sizes, Values::Normal, 5);
        let mut spoilt = Sequence::<bf16>::draw(sizes, Values::Normal, 5);
        // Token 3 is at position 73. Its window of 40 begins at 34.
        for p in (74..100).chain(0..if window > 0 { 34 } else { 0 }) {
            for head in 0..sizes.kv_heads {
                let page = 100usize.div_ceil(16) - 1 - p / 16;
                let at = ((page * sizes.kv_heads + head) * 16 + p % 16) * sizes.head_dim;
                spoilt.k[at..at + sizes.head_dim].fill(bf16::NAN);
            }
        }
        for order in [Order::Prefill, Order::Decode] {
            let row = |s: &Sequence<bf16>, token| -> Vec<u16> {
                let row = s.attention().row(order, token, 1);
                row.into_iter().map(bf16::to_bits).collect()
            };
            assert_eq!(row(&clean, 3), row(&spoilt, 3));
            assert_eq!(
                row(&spoilt, 4),
                vec![0x7FFF; sizes.head_dim],
                "the next token sees one of them"
            );
        }
    }
}

/// A sequence that is said to have fewer positions than query tokens: its first tokens have none and see nothing, so their rows are +0,
/// gated or not (a gate of NaN excepted); the others are as they are with the tokens that fit alone.
#[test]
fn a_row_without_positions_is_zero() {
    for (window, gated) in [(0, false), (2, false), (0, true)] {
        let sizes = Sizes {
            len: 3,
            window,
            gated,
            ..BASE
        };
        let mut sequence = Sequence::<bf16>::draw(sizes, Values::Normal, 9);
        let gate_of = |token: usize, head: usize| (token * sizes.q_heads + head) * sizes.head_dim;
        sequence.gate[gate_of(1, 2) + 5] = bf16::NAN;
        // The last three tokens by themselves.
        let fits = Sequence {
            q: sequence.q[2 * sizes.q_heads * sizes.head_dim..].to_vec(),
            k: sequence.k.clone(),
            v: sequence.v.clone(),
            gate: sequence.gate[gate_of(2, 0)..].to_vec(),
            block_table: sequence.block_table.clone(),
            cu_seqlens: [0, 3],
            seq_lens: [3],
            sizes: Sizes { tokens: 3, ..sizes },
        };
        for order in [Order::Prefill, Order::Decode] {
            let bits = |s: &Sequence<bf16>| -> Vec<u16> {
                let all = s.attention().all(order).unwrap();
                all.into_iter().map(bf16::to_bits).collect()
            };
            let (got, fitting) = (bits(&sequence), bits(&fits));
            let mut expected = vec![0; gate_of(2, 0)];
            if gated {
                expected[gate_of(1, 2) + 5] = 0x7FFF;
            }
            expected.extend(&fitting);
            assert!(got == expected, "{order:?}, window {window}, gated {gated}");
            assert!(fitting.iter().all(|y| *y != 0));
        }
    }
}
