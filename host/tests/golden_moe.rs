//! Mixture of experts of `host::reference` against transformers' sparse blocks (scripts/golden/moe.py).
//!
//! The bound of an output is a running error analysis over the contract's lines: logits and products as tensor-core chains, gate and
//! up and their product rounded to bf16, each expert's output rounded to bf16, the combine a chain of fma in slot order, the sum
//! rounded to bf16.

mod golden;

use golden::near::{Near, exact, fma, mma};
use golden::{Golden, caught, wide32, within};
use half::bf16;
use host::reference::mma::gemm_bf16;
use host::reference::moe::{Extras, Routed, combine, router};
use host::reference::silu_mul::silu_mul;

fn halves(bits: &[u16]) -> Vec<bf16> {
    bits.iter().map(|&b| bf16::from_bits(b)).collect()
}

/// A feed-forward's weights, and the sizes to read them with.
#[derive(Clone)]
struct Expert {
    /// `[2 inter][hidden]`, gate's rows first.
    gate_up: Vec<bf16>,
    /// `[hidden][inter]`.
    down: Vec<bf16>,
    hidden: usize,
}

impl Expert {
    fn inter(&self) -> usize {
        self.down.len() / self.hidden
    }

    /// As the contract rounds it, by host::reference.
    fn run(&self, x: &[bf16]) -> Vec<bf16> {
        let round = |v: Vec<f32>| v.into_iter().map(bf16::from_f32).collect::<Vec<_>>();
        let gate_up = round(gemm_bf16(x, &self.gate_up, self.hidden));
        let h = silu_mul(&gate_up, 1, self.inter()).unwrap();
        round(gemm_bf16(&h, &self.down, self.inter()))
    }

    /// The same by error analysis.
    fn bound(&self, x: &[Near]) -> Vec<Near> {
        let row = |w: &[bf16], row: usize, k: usize| near(&w[row * k..][..k]);
        let inter = self.inter();
        let gu = |i: usize| mma(x, &row(&self.gate_up, i, self.hidden), exact(0.0)).bf16();
        let h: Vec<Near> = (0..inter)
            .map(|i| (gu(i).silu() * gu(inter + i)).f32().bf16())
            .collect();
        (0..self.hidden)
            .map(|i| mma(&h, &row(&self.down, i, inter), exact(0.0)).bf16())
            .collect()
    }
}

fn near(x: &[bf16]) -> Vec<Near> {
    x.iter().map(|x| exact(x.to_f64())).collect()
}

struct Block {
    file: Golden,
    x: Vec<bf16>,
    router: Vec<bf16>,
    experts: Vec<Expert>,
    shared: Option<(Expert, Vec<bf16>)>,
    hidden: usize,
    top_k: usize,
    normalise: bool,
}

impl Block {
    fn open(name: &str) -> Block {
        let file = Golden::open(name);
        let shape = file.shape("down");
        let (count, hidden, inter) = (shape[0], shape[1], shape[2]);
        let (gate_up, down) = (halves(&file.bf16("gate_up")), halves(&file.bf16("down")));
        let expert = |i: usize| Expert {
            gate_up: gate_up[i * 2 * inter * hidden..][..2 * inter * hidden].to_vec(),
            down: down[i * inter * hidden..][..inter * hidden].to_vec(),
            hidden,
        };
        let shared = name.ends_with("next").then(|| {
            let (gate_up, down) = (file.bf16("shared_gate_up"), file.bf16("shared_down"));
            let expert = Expert {
                gate_up: halves(&gate_up),
                down: halves(&down),
                hidden,
            };
            (expert, halves(&file.bf16("shared_gate")))
        });
        Block {
            x: halves(&file.bf16("x")),
            router: halves(&file.bf16("router")),
            experts: (0..count).map(expert).collect(),
            shared,
            hidden,
            top_k: file.number("top_k") as usize,
            normalise: file.number("normalise") == 1.0,
            file,
        }
    }

    fn n_tok(&self) -> usize {
        self.x.len() / self.hidden
    }

    fn token(&self, token: usize) -> &[bf16] {
        &self.x[token * self.hidden..][..self.hidden]
    }

    fn logits(&self) -> Vec<f32> {
        gemm_bf16(&self.x, &self.router, self.hidden)
    }

    fn route(&self, normalise: bool) -> Routed {
        router(&self.logits(), self.n_tok(), self.experts.len(), self.top_k, normalise).unwrap()
    }

    /// The whole block by host::reference.
    fn run(&self, routed: &Routed) -> Vec<f64> {
        let pairs = routed.ids.iter().enumerate();
        let x: Vec<bf16> = pairs
            .flat_map(|(pair, &id)| self.experts[id as usize].run(self.token(pair / self.top_k)))
            .collect();
        let shared = self.shared.as_ref().map(|(expert, gate)| {
            let rows = (0..self.n_tok()).flat_map(|t| expert.run(self.token(t)));
            (gemm_bf16(&self.x, gate, self.hidden), rows.collect::<Vec<_>>())
        });
        let extras = Extras {
            shared: shared.as_ref().map(|(gate, rows)| (&gate[..], &rows[..])),
            residual: None,
        };
        let y = combine(&x, &routed.weights, extras, self.n_tok(), self.top_k, self.hidden).unwrap();
        y.iter().map(|y| y.to_f64()).collect()
    }

    /// The logits' bounds.
    fn near_logits(&self, token: usize) -> Vec<Near> {
        let rows = self.router.chunks(self.hidden);
        rows.map(|row| mma(&near(self.token(token)), &near(row), exact(0.0)))
            .collect()
    }

    /// The weights' bounds: exponentials of differences, their sum (a chain, or a row sum: at most 8 additions in a slot of so
    /// few experts and 8 levels), one division.
    fn near_weights(&self, token: usize, ids: &[i32]) -> Vec<Near> {
        let logits = self.near_logits(token);
        let max = logits[ids[0] as usize];
        let e: Vec<Near> = logits.iter().map(|&logit| (logit - max).f32().exp()).collect();
        let mut sum = exact(0.0);
        let summed: Vec<usize> = if self.normalise {
            ids.iter().map(|&id| id as usize).collect()
        } else {
            (0..e.len()).collect()
        };
        for &i in &summed {
            sum = sum + e[i];
        }
        let sum = sum.ulps(0.5 * if self.normalise { self.top_k as f64 } else { 16.0 });
        let inverse = Near {
            value: 1.0 / sum.value,
            error: sum.error / (sum.value * (sum.value - sum.error)),
        };
        ids.iter().map(|&id| (e[id as usize] * inverse).f32()).collect()
    }

    fn near_block(&self, ids: &[i32]) -> Vec<Near> {
        let mut y = Vec::new();
        for (token, ids) in ids.chunks(self.top_k).enumerate() {
            let x = near(self.token(token));
            let mut sums = vec![exact(0.0); self.hidden];
            let mut add = |weight: Near, rows: Vec<Near>| {
                for (sum, row) in sums.iter_mut().zip(rows) {
                    *sum = fma(weight, row, *sum);
                }
            };
            for (&id, weight) in ids.iter().zip(self.near_weights(token, ids)) {
                add(weight, self.experts[id as usize].bound(&x));
            }
            if let Some((expert, gate)) = &self.shared {
                add(mma(&x, &near(gate), exact(0.0)).sigmoid(), expert.bound(&x));
            }
            y.extend(sums.into_iter().map(Near::bf16));
        }
        y
    }
}

#[test]
fn logits_experts_and_weights() {
    for name in ["moe_qwen3", "moe_qwen3_plain", "moe_qwen3_next"] {
        let block = Block::open(name);
        let bounds: Vec<Near> = (0..block.n_tok()).flat_map(|t| block.near_logits(t)).collect();
        let logits = block.file.f64("logits");
        within("logits", &wide32(&block.logits()), &logits, |i| bounds[i].bound());

        let routed = block.route(block.normalise);
        assert_eq!(routed.ids, block.file.i32("ids"), "{name}");
        let weights = block.file.f64("weights");
        let rows = routed.ids.chunks(block.top_k).enumerate();
        let bounds: Vec<Near> = rows.flat_map(|(t, ids)| block.near_weights(t, ids)).collect();
        let bound = |i: usize| bounds[i].bound();
        within("weights", &wide32(&routed.weights), &weights, bound);
        let other = block.route(!block.normalise);
        caught("the other normalisation", &wide32(&other.weights), &weights, bound);
    }
}

#[test]
fn whole_blocks() {
    for name in ["moe_qwen3", "moe_qwen3_plain", "moe_qwen3_next"] {
        let mut block = Block::open(name);
        let routed = block.route(block.normalise);
        let bounds = block.near_block(&routed.ids);
        let bound = |i: usize| bounds[i].bound();
        let y = block.file.f64("y");
        within(name, &block.run(&routed), &y, bound);

        caught(
            "the other normalisation",
            &block.run(&block.route(!block.normalise)),
            &y,
            bound,
        );
        let mut wrong = routed.clone();
        wrong.weights.swap(0, block.top_k - 1);
        caught(
            "the first and last slot's weights exchanged",
            &block.run(&wrong),
            &y,
            bound,
        );
        let shared = block.shared.take();
        if shared.is_some() {
            caught("no shared expert", &block.run(&routed), &y, bound);
            block.shared = shared.map(|(expert, gate)| (expert, vec![bf16::ZERO; gate.len()]));
            caught(
                "a shared expert with a gate of one half",
                &block.run(&routed),
                &y,
                bound,
            );
        } else {
            for expert in &mut block.experts {
                let half = expert.gate_up.len() / 2;
                expert.gate_up.rotate_left(half);
            }
            caught("up taken for gate", &block.run(&routed), &y, bound);
        }
    }
}
