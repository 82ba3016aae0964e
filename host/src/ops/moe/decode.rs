//! `moe_decode`: the experts of a few tokens without a sort, gate and up to the combined output in two launches.

use std::sync::Arc;

use half::bf16;
use kernels_gpu::moe_decode::{GATE_UP_SHARED, GATE_UP_THREADS, ROWS, moe_decode_gate_up_bf16};

use super::path::Sorted;
use super::weights::{DOWN, Experts, Format, W};
use super::{MoeDecodeCall, Skew};
use crate::cost::{Math, Work};
use crate::device::{DevPtr, Device, Stream};
use crate::op::call::Call;
use crate::op::data::Draw;
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Axis, Bound, Config, Dims, Piece, Problem, Same, Spec, Tensor, bytes, sample};
use crate::op::{Case, OpError, Values};
use crate::ops::gemm::common::CPU_LIMIT;
use crate::reference::moe::Layer;

/// The operation.
pub struct MoeDecode;

/// The most tokens: beyond, the sorted path reads each expert once and not once a token.
pub const MAX_TOKENS: u64 = 16;

/// `[n_tok, experts, top_k, n, k]`, then `[nvfp4, shared]`.
fn case(name: &str, sizes: [u64; 5], kind: [u64; 2], values: Values) -> Case {
    let names = ["n_tok", "experts", "top_k", "n", "k", "nvfp4", "shared"];
    let all: Vec<(&str, u64)> = names.into_iter().zip(sizes.into_iter().chain(kind)).collect();
    Case::of::<MoeDecode>("random", name, &all, values)
}

impl Spec for MoeDecode {
    const NAME: &'static str = "moe_decode";
    const SUMMARY: &'static str = "the routed experts of a few tokens without a sort: gate, up, silu, down, combine";
    const AXES: &'static [Axis] = &[
        Axis::tokens(),
        Axis::required("experts"),
        Axis::required("top_k"),
        Axis::required("n"),
        Axis::required("k"),
        Axis::optional("nvfp4", 0).at_least(0),
        Axis::optional("shared", 0).at_least(0),
    ];
    const DTYPES: &'static [&'static str] = &["bf16"];
    /// With `NonFinite`, a quarter of the pairs have no expert either.
    const VALUES: &'static [Values] = &[
        Values::Normal,
        Values::Zeros,
        Values::NonFinite,
        Values::Cancelling,
        Values::Huge,
        Values::Tiny,
        Values::WideRange,
    ];

    fn configs() -> Vec<Config> {
        let kernel = moe_decode_gate_up_bf16::KERNEL.meta;
        vec![Config::plain(kernel, GATE_UP_THREADS, GATE_UP_SHARED)]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        dims.check_product(&["experts", "n", "k"], 1)?;
        dims.check_product(&["n_tok", "top_k", "n", "k"], 1)?;
        let n_tok = dims.u64("n_tok");
        if n_tok > MAX_TOKENS {
            return Err(format!(
                "n_tok = {n_tok}: at most {MAX_TOKENS}; more take moe_sort and moe_grouped"
            ));
        }
        super::check_routing(n_tok, dims.u64("experts"), dims.u64("top_k"))?;
        Format::new(dims.u64("nvfp4"), &[("n", dims.u64("n")), ("k", dims.u64("k"))])?;
        super::check_flag(dims, "shared")
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for (i, sizes) in [
            [1, 8, 2, 16, 32],
            [1, 1, 1, 1, 1],
            [2, 60, 4, 17, 33],
            [3, 8, 8, 15, 130],
            [16, 4, 2, 48, 64],
            [5, 512, 10, 32, 16],
            [4, 256, 9, 40, 72],
            [2, 64, 32, 20, 24],
            [0, 8, 2, 16, 16],
        ]
        .into_iter()
        .enumerate()
        {
            let i = i as u64;
            cases.push(case("edge", sizes, [0, i % 2], Values::WideRange));
            let [n_tok, experts, top_k, n, k] = sizes;
            let sizes = [n_tok, experts, top_k, n.next_multiple_of(16), k.next_multiple_of(16)];
            cases.push(case("edge", sizes, [1 + i % 2, i / 2 % 2], Values::Normal));
        }
        for &values in Self::VALUES {
            for nvfp4 in 0..3 {
                for shared in 0..2 {
                    cases.push(case("edge", [5, 6, 3, 48, 144], [nvfp4, shared], values));
                }
            }
        }
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 16 + what, end);
        let experts = [1, 2, 8, 60, 128][draw(0, 5) as usize];
        let top_k = 1 + draw(1, experts.min(10));
        let n_tok = if draw(2, 3) == 0 { draw(3, 17) } else { draw(3, 4) };
        let nvfp4 = draw(4, 5).saturating_sub(2);
        let step = if nvfp4 == 0 && draw(5, 2) == 0 { 1 } else { 16 };
        let size = |what: u64| (1 + draw(what, 160)).next_multiple_of(step);
        let values = Self::VALUES[draw(6, Self::VALUES.len() as u64) as usize];
        case(
            &format!("case{i}"),
            [n_tok, experts, top_k, size(7), size(8)],
            [nvfp4, draw(9, 2)],
            values,
        )
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let (n_tok, top_k, n, k) = (dims.u64("n_tok"), dims.u64("top_k"), dims.u64("n"), dims.u64("k"));
        let (pairs, experts, shared) = (n_tok * top_k, dims.u64("experts"), dims.u64("shared"));
        let format = Format::new(dims.u64("nvfp4"), &[]).unwrap_or(Format::Bf16);
        let out = (1.0 - top_k as f64 / experts as f64).powf(n_tok as f64);
        let chosen = ((experts as f64 * (1.0 - out)).round() as u64).min(pairs);
        Work {
            read_bytes: format.bytes(chosen, 2 * n, k) + format.bytes(chosen, k, n) + (1 + shared) * 2 * n_tok * k,
            passes: 1,
            write_bytes: 2 * n_tok * k,
            multiply_adds: 3 * pairs * n * k,
            math: Math::Bf16,
            launches: 2,
            blocks: n.div_ceil(u64::from(ROWS)) * pairs,
            threads: GATE_UP_THREADS,
            shared_bytes: GATE_UP_SHARED,
            chain: k.div_ceil(16),
            // A dependent mma.sync.m16n8k16, measured on an H200.
            chain_cycles: 26.8,
            ..Work::default()
        }
    }

    fn problem(dims: &Dims, values: Values, _: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        let (n_tok, experts, top_k) = (dims.usize("n_tok"), dims.usize("experts"), dims.usize("top_k"));
        let (n, k) = (dims.usize("n"), dims.usize("k"));
        let format = Format::new(dims.u64("nvfp4"), &[]).map_err(OpError::Shape)?;
        let draw = Draw { seed, values };
        let mut weights: Vec<f32> = draw.ordinary("moe_decode weights", n_tok, top_k, 0.25);
        weights.iter_mut().for_each(|w| *w = w.abs());
        let mut ids = super::routed(draw, Skew::Uniform, n_tok, experts, top_k);
        if values == Values::Cancelling {
            // One expert twice, with opposite weights, then another with a small one: bytes depend on the order of the slots.
            for pair in (0..ids.len()).filter(|pair| pair % top_k % 3 == 1) {
                ids[pair] = ids[pair - 1];
                weights[pair] = -weights[pair - 1];
            }
            super::shrink_each_third(&mut weights, top_k);
        }
        // Only the routing cancels: products that do would leave nothing to add in any order.
        let draw = match values {
            Values::Cancelling => Draw {
                seed,
                values: Values::Normal,
            },
            _ => draw,
        };
        let with_shared = if dims.u64("shared") == 1 { n_tok } else { 0 };
        Ok(Box::new(Data {
            n_tok,
            experts,
            top_k,
            n,
            k,
            x: draw.floats("moe_decode x", n_tok, k, 1.0),
            ids,
            weights,
            shared_gate: draw.floats("moe_decode shared gate", with_shared, 1, 2.0),
            shared: draw.floats("moe_decode shared", with_shared, k, 1.0),
            gate_up: Arc::new(Experts::draw(draw, "gate_up", format, experts, 2 * n, k)),
            down: Arc::new(Experts::draw(draw, "down", format, experts, k, n)),
        }))
    }
}

/// The data of a case; a shared expert that is not there is empty.
#[derive(Clone)]
pub(super) struct Data {
    pub n_tok: usize,
    pub experts: usize,
    pub top_k: usize,
    pub n: usize,
    pub k: usize,
    pub x: Vec<bf16>,
    pub ids: Vec<i32>,
    pub weights: Vec<f32>,
    pub shared_gate: Vec<f32>,
    pub shared: Vec<bf16>,
    pub gate_up: Arc<Experts>,
    pub down: Arc<Experts>,
}

impl Data {
    /// One token's data.
    fn token(&self, token: usize) -> Data {
        let pairs = token * self.top_k..(token + 1) * self.top_k;
        Data {
            n_tok: 1,
            x: self.x[token * self.k..][..self.k].to_vec(),
            ids: self.ids[pairs.clone()].to_vec(),
            weights: self.weights[pairs].to_vec(),
            shared_gate: super::row(&self.shared_gate, token, 1),
            shared: super::row(&self.shared, token, self.k),
            ..self.clone()
        }
    }

    fn answer(&self) -> Result<Vec<bf16>, OpError> {
        let layer = Layer {
            gate_up: self.gate_up.reference(),
            down: self.down.reference(),
            experts: self.experts,
            n: self.n,
            k: self.k,
        };
        let shared = (!self.shared_gate.is_empty()).then_some((&self.shared_gate[..], &self.shared[..]));
        Ok(layer.forward(&self.x, &self.ids, &self.weights, shared, self.n_tok)?)
    }

    /// The tensors but for what is between x and y, and y.
    pub(super) fn operands(&self) -> Vec<Tensor<'_>> {
        let routed = [("n_tok", self.n_tok), ("slot", self.top_k)];
        let mut tensors = self.gate_up.tensors(W);
        tensors.extend(self.down.tensors(DOWN));
        tensors.extend([
            Tensor::input("x", &[("n_tok", self.n_tok), ("k", self.k)], &self.x),
            Tensor::input("ids", &routed, &self.ids),
            Tensor::input("weights", &routed, &self.weights),
            Tensor::input("shared_gate", &[("n_tok", self.shared_gate.len())], &self.shared_gate),
            Tensor::input(
                "shared",
                &[("n_tok", self.shared_gate.len()), ("k", self.k)],
                &self.shared,
            ),
            Tensor::output::<bf16>("y", &[("n_tok", self.n_tok), ("k", self.k)]),
        ]);
        tensors
    }

    /// The shared expert as calls take it: its logits, its output.
    pub(super) fn shared(&self, tensors: &Bound) -> Result<(DevPtr<f32>, DevPtr<bf16>), OpError> {
        match self.shared_gate.len() {
            0 => Ok((DevPtr::NULL, DevPtr::NULL)),
            _ => Ok((tensors.at("shared_gate")?, tensors.at("shared")?)),
        }
    }
}

impl Problem for Data {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let mut tensors = self.operands();
        tensors.push(Tensor::scratch::<bf16>("h", &[("pair", self.ids.len()), ("n", self.n)]));
        tensors
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, tensors: &Bound) -> Result<(), OpError> {
        let (shared_gate, shared) = self.shared(tensors)?;
        let call = MoeDecodeCall {
            x: tensors.at("x")?,
            ids: tensors.at("ids")?,
            weights: tensors.at("weights")?,
            gate_up: self.gate_up.on(tensors, W)?,
            down: self.down.on(tensors, DOWN)?,
            h: tensors.at("h")?,
            shared_gate,
            shared,
            y: tensors.at("y")?,
            n_tok: self.n_tok as u32,
            experts: self.experts as u32,
            top_k: self.top_k as u32,
            n: self.n as u32,
            k: self.k as u32,
        };
        call.launch(device, stream, config)
    }

    fn reference(&self) -> Result<Answer, OpError> {
        let work = 3 * self.top_k * self.n * self.k;
        if self.n_tok * work <= CPU_LIMIT {
            return Ok(Answer::Whole(vec![bytes(&self.answer()?)]));
        }
        // Whole tokens: an output needs all of its token's h.
        let tokens = sample(
            Random::new(0, "moe_decode pieces"),
            (CPU_LIMIT / work).max(1),
            self.n_tok,
        );
        let piece = |token| Ok(Piece::new("y", token * self.k, &self.token(token).answer()?));
        Ok(Answer::Pieces(
            tokens.into_iter().map(piece).collect::<Result<_, OpError>>()?,
        ))
    }

    /// Tokens by themselves (L2), and all of them on the path of prefill (L3).
    fn alone(&self, pick: Random) -> Vec<Alone> {
        let part = |name, problem, token: usize, count: usize| Alone {
            name,
            problem,
            same: vec![Same::new::<bf16>("y", token * self.k, 0, count * self.k)],
        };
        let tokens = if self.n_tok < 2 {
            Vec::new()
        } else {
            sample(pick, 3, self.n_tok)
        };
        let token = |token| part("token alone", Box::new(self.token(token)) as Box<dyn Problem>, token, 1);
        let mut parts: Vec<Alone> = tokens.into_iter().map(token).collect();
        if self.n_tok > 0 {
            parts.push(part(
                "sorted, as prefill",
                Box::new(Sorted(self.clone())),
                0,
                self.n_tok,
            ));
        }
        parts
    }
}
