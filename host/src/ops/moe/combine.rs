//! `moe_combine`: a token's experts, weighted and added in slot order, with the shared expert and the residual.

use half::bf16;
use kernels_gpu::moe_combine::{COLUMNS, THREADS, grid, moe_combine};

use crate::cost::Work;
use crate::device::{DevPtr, Device, LaunchDims, Stream};
use crate::op::call::{Call, MODEL, expect_aligned, expect_plain};
use crate::op::data::Draw;
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Axis, Bound, Config, Dims, Piece, Problem, Same, Spec, Tensor, bytes, sample};
use crate::op::{Case, OpError, Values};
use crate::reference::moe::{self as reference, Extras};

/// The operation.
pub struct MoeCombine;

/// The CPU reference reads up to so many elements (about a second of a core), beyond it [`SAMPLED_ROWS`] tokens.
const CPU_LIMIT: usize = 1 << 26;
const SAMPLED_ROWS: usize = 64;

fn case(name: &str, n_tok: u64, [top_k, n]: [u64; 2], [shared, residual]: [u64; 2], values: Values) -> Case {
    let dims = [
        ("n_tok", n_tok),
        ("top_k", top_k),
        ("n", n),
        ("shared", shared),
        ("residual", residual),
    ];
    Case::of::<MoeCombine>("random", name, &dims, values)
}

impl Spec for MoeCombine {
    const NAME: &'static str = "moe_combine";
    const SUMMARY: &'static str =
        "the weighted sum of each token's experts in slot order, shared expert and residual fused";
    const AXES: &'static [Axis] = &[
        Axis::tokens(),
        Axis::required("top_k"),
        Axis::required("n"),
        Axis::optional("shared", 0).at_least(0),
        Axis::optional("residual", 0).at_least(0),
    ];
    const DTYPES: &'static [&'static str] = &["bf16"];
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
        vec![Config::plain(moe_combine::KERNEL.meta, THREADS, 0)]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        super::check_flag(dims, "shared")?;
        super::check_flag(dims, "residual")?;
        dims.check_product(&["n_tok", "top_k", "n"], 1)?;
        let (n, most) = (dims.u64("n"), 65_535 * u64::from(THREADS) * 8);
        if n > most {
            return Err(format!("n = {n}: at most {most}"));
        }
        Ok(())
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for n in [1, 7, 8, 9, 704, 1023, 1024, 1032, 2048] {
            for n_tok in [0, 1, 3] {
                cases.push(case("edge", n_tok, [8, n], [1, 1], Values::WideRange));
            }
        }
        for extras in [[0, 0], [0, 1], [1, 0], [1, 1]] {
            for top_k in [1, 2, 10] {
                cases.push(case("edge", 5, [top_k, 65], extras, Values::WideRange));
                cases.push(case("edge", 5, [top_k, 64], extras, Values::Normal));
            }
        }
        for &values in Self::VALUES {
            cases.push(case("edge", 6, [8, 72], [1, 1], values));
            cases.push(case("edge", 6, [6, 71], [0, 0], values));
        }
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 8 + what, end);
        let n = match draw(0, 3) {
            0 => 1 + draw(1, 400),
            1 => 8 * (1 + draw(1, 300)),
            _ => 1024 * (1 + draw(1, 2)) + draw(2, 3) - 1,
        };
        let values = Self::VALUES[draw(3, Self::VALUES.len() as u64) as usize];
        let flags = draw(4, 4);
        case(
            &format!("case{i}"),
            draw(5, 12),
            [1 + draw(6, 12), n],
            [flags & 1, flags >> 1],
            values,
        )
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let (n_tok, n) = (dims.u64("n_tok"), dims.u64("n"));
        let rows = dims.u64("top_k") + dims.u64("shared") + dims.u64("residual");
        let (x, y) = grid(dims.u32("n_tok"), dims.u32("n"));
        Work {
            read_bytes: 2 * n_tok * n * rows + 4 * n_tok * (dims.u64("top_k") + dims.u64("shared")),
            write_bytes: 2 * n_tok * n,
            blocks: u64::from(x) * u64::from(y),
            threads: THREADS,
            ..Work::default()
        }
    }

    fn problem(dims: &Dims, values: Values, _: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        let (n_tok, top_k, n) = (dims.usize("n_tok"), dims.usize("top_k"), dims.usize("n"));
        let draw = Draw { seed, values };
        let if_there = |axis: &str| if dims.u64(axis) == 1 { n_tok } else { 0 };
        let mut weights: Vec<f32> = draw.floats("moe_combine weights", n_tok, top_k, 0.25);
        // A router's weights are not negative.
        weights.iter_mut().for_each(|w| *w = w.abs());
        let mut x: Vec<bf16> = draw.floats("moe_combine x", n_tok * top_k, n, 1.0);
        if values == Values::Cancelling {
            // Two slots that cancel, then a small one: bytes depend on the order of the slots.
            for pair in (0..n_tok * top_k).filter(|pair| pair % top_k % 3 == 1) {
                weights[pair] = weights[pair - 1];
                for j in pair * n..(pair + 1) * n {
                    x[j] = -x[j - n];
                }
            }
            super::shrink_each_third(&mut weights, top_k);
        }
        Ok(Box::new(Data {
            n_tok,
            top_k,
            n,
            x,
            weights,
            gate: draw.floats("moe_combine gate", if_there("shared"), 1, 2.0),
            shared: draw.floats("moe_combine shared", if_there("shared"), n, 1.0),
            residual: draw.floats("moe_combine residual", if_there("residual"), n, 1.0),
        }))
    }
}

/// The weighted sum of each token's experts, with the shared expert and the residual. Where n is a multiple of 8, the tensors of
/// bf16 are at multiples of 16 bytes.
#[derive(Clone, Copy, Debug)]
pub struct MoeCombineCall {
    /// `[n_tok][top_k][n]`, in pair order.
    pub x: DevPtr<bf16>,
    /// `[n_tok][top_k]`, the router's.
    pub weights: DevPtr<f32>,
    /// `[n_tok]`, the shared expert's logits; null without it.
    pub gate: DevPtr<f32>,
    /// `[n_tok][n]`, the shared expert's output, or null.
    pub shared: DevPtr<bf16>,
    /// `[n_tok][n]`, or null; may be y.
    pub residual: DevPtr<bf16>,
    /// `[n_tok][n]`.
    pub y: DevPtr<bf16>,
    /// Tokens.
    pub n_tok: u32,
    /// Slots of a token.
    pub top_k: u32,
    /// Columns.
    pub n: u32,
}

impl Call for MoeCombineCall {
    fn case(&self) -> Case {
        let dims = [
            ("n_tok", u64::from(self.n_tok)),
            ("top_k", u64::from(self.top_k)),
            ("n", u64::from(self.n)),
            ("shared", u64::from(!self.shared.is_null())),
            ("residual", u64::from(!self.residual.is_null())),
        ];
        Case::of::<MoeCombine>(MODEL, MoeCombine::NAME, &dims, Values::Normal)
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        const OP: &str = MoeCombine::NAME;
        expect_plain(OP, config)?;
        let Self { n_tok, top_k, n, .. } = *self;
        super::expect_gate(OP, self.gate, self.shared)?;
        let grid = grid(n_tok, n);
        if n == 0 || grid.1 > 65_535 {
            return Err(OpError::Shape(format!(
                "{OP}: n = {n}: from 1 to {} are possible",
                65_535 * THREADS * COLUMNS
            )));
        }
        if n.is_multiple_of(8) {
            let tensors = [
                ("x", self.x),
                ("shared", self.shared),
                ("residual", self.residual),
                ("y", self.y),
            ];
            tensors
                .iter()
                .try_for_each(|(name, at)| expect_aligned(OP, name, *at, 16))?;
        }
        if n_tok == 0 {
            return Ok(());
        }
        let args = (
            self.x.get(),
            self.weights.get(),
            self.gate.get(),
            self.shared.get(),
            self.residual.get(),
            self.y.get_mut(),
            top_k,
            n,
        );
        Ok(device.launch(stream, &moe_combine::KERNEL, LaunchDims::new(grid, THREADS), args)?)
    }
}

/// The data of a case; what is not there is empty.
struct Data {
    n_tok: usize,
    top_k: usize,
    n: usize,
    x: Vec<bf16>,
    weights: Vec<f32>,
    gate: Vec<f32>,
    shared: Vec<bf16>,
    residual: Vec<bf16>,
}

impl Data {
    /// One token's data.
    fn token(&self, token: usize) -> Data {
        Data {
            n_tok: 1,
            x: super::row(&self.x, token, self.top_k * self.n),
            weights: super::row(&self.weights, token, self.top_k),
            gate: super::row(&self.gate, token, 1),
            shared: super::row(&self.shared, token, self.n),
            residual: super::row(&self.residual, token, self.n),
            ..*self
        }
    }

    fn answer(&self) -> Result<Vec<bf16>, OpError> {
        let extras = Extras {
            shared: (!self.gate.is_empty()).then_some((&self.gate, &self.shared)),
            residual: (!self.residual.is_empty()).then_some(&self.residual),
        };
        Ok(reference::combine(
            &self.x,
            &self.weights,
            extras,
            self.n_tok,
            self.top_k,
            self.n,
        )?)
    }
}

impl Problem for Data {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let (tokens, n) = (("n_tok", self.n_tok), ("n", self.n));
        let if_there = |there: usize| ("n_tok", if there == 0 { 0 } else { self.n_tok });
        vec![
            Tensor::weight("x", &[tokens, ("slot", self.top_k), n], &self.x),
            Tensor::input("weights", &[tokens, ("slot", self.top_k)], &self.weights),
            Tensor::input("gate", &[if_there(self.gate.len())], &self.gate),
            Tensor::weight("shared", &[if_there(self.shared.len()), n], &self.shared),
            Tensor::weight("residual", &[if_there(self.residual.len()), n], &self.residual),
            Tensor::output::<bf16>("y", &[tokens, n]),
        ]
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, tensors: &Bound) -> Result<(), OpError> {
        let or_null = |name: &str, there: usize| match there {
            0 => Ok(DevPtr::NULL),
            _ => tensors.at(name),
        };
        let call = MoeCombineCall {
            x: tensors.at("x")?,
            weights: tensors.at("weights")?,
            gate: tensors.at("gate")?,
            shared: or_null("shared", self.shared.len())?,
            residual: or_null("residual", self.residual.len())?,
            y: tensors.at("y")?,
            n_tok: self.n_tok as u32,
            top_k: self.top_k as u32,
            n: self.n as u32,
        };
        call.launch(device, stream, config)
    }

    fn reference(&self) -> Result<Answer, OpError> {
        if self.x.len() <= CPU_LIMIT {
            return Ok(Answer::Whole(vec![bytes(&self.answer()?)]));
        }
        let piece = |token| Ok(Piece::new("y", token * self.n, &self.token(token).answer()?));
        let tokens = sample(Random::new(0, "moe_combine pieces"), SAMPLED_ROWS, self.n_tok);
        Ok(Answer::Pieces(
            tokens.into_iter().map(piece).collect::<Result<_, OpError>>()?,
        ))
    }

    fn alone(&self, pick: Random) -> Vec<Alone> {
        if self.n_tok < 2 {
            return Vec::new();
        }
        let row = |token| Alone {
            name: "token alone",
            problem: Box::new(self.token(token)),
            same: vec![Same::new::<bf16>("y", token * self.n, 0, self.n)],
        };
        sample(pick, 3, self.n_tok).into_iter().map(row).collect()
    }
}
