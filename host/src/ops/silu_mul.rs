//! `silu_mul`: y = silu(gate) * up, bf16. The smallest operation there is, and the model for others.

use half::bf16;
use kernels_gpu::silu_mul::{THREADS, VECTOR, grid, silu_mul};

use crate::cost::Work;
use crate::device::{DevPtr, Device, LaunchDims, Stream};
use crate::op::call::{Call, MODEL, expect_plain, refused};
use crate::op::data::Draw;
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Axis, Bound, Config, Dims, Piece, Problem, Same, Spec, Tensor, bytes, sample};
use crate::op::{Case, OpError, Values};
use crate::ops::elementwise;
use crate::reference;

/// The operation.
pub struct SiluMul;

/// The CPU reference makes up to so many outputs (a second of a core), beyond it [`SAMPLED_ROWS`] rows.
const CPU_LIMIT: usize = 1 << 25;
const SAMPLED_ROWS: usize = 64;

fn case(name: &str, n: u64, n_tok: u64, values: Values) -> Case {
    Case::of::<SiluMul>("random", name, &[("n", n), ("n_tok", n_tok)], values)
}

impl Spec for SiluMul {
    const NAME: &'static str = "silu_mul";
    const SUMMARY: &'static str = "y = silu(gate) * up, gate and up in one tensor";
    const AXES: &'static [Axis] = &[Axis::required("n"), Axis::tokens()];
    const DTYPES: &'static [&'static str] = &["bf16"];
    const VALUES: &'static [Values] = &[
        Values::Normal,
        Values::Zeros,
        Values::NonFinite,
        Values::Huge,
        Values::Tiny,
        Values::WideRange,
    ];

    fn configs() -> Vec<Config> {
        vec![Config::plain(silu_mul::KERNEL.meta, THREADS, 0)]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        elementwise::check_threads(VECTOR, dims.u64("n"), dims.u64("n_tok"))
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for n in [1, 7, 8, 9, 64, 2047, 2048, 2056] {
            for n_tok in [0, 1, 2, 33] {
                cases.push(case("edge", n, n_tok, Values::WideRange));
            }
        }
        for &values in Self::VALUES {
            cases.push(case("edge", 72, 5, values));
            cases.push(case("edge", 71, 5, values));
        }
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 8 + what, end);
        let n = elementwise::random_n(draw);
        let values = Self::VALUES[draw(3, Self::VALUES.len() as u64) as usize];
        case(&format!("case{i}"), n, draw(4, 18), values)
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let (n, n_tok) = (dims.u64("n"), dims.u64("n_tok"));
        Work {
            read_bytes: 4 * n * n_tok,
            write_bytes: 2 * n * n_tok,
            blocks: grid(n, n_tok),
            threads: THREADS,
            ..Work::default()
        }
    }

    fn problem(dims: &Dims, values: Values, _: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        let (n, n_tok) = (dims.usize("n"), dims.usize("n_tok"));
        // Gates of a standard deviation of 2 reach both ends of the curve.
        let gu = Draw { seed, values }.floats("silu_mul gu", 2 * n_tok, n, 2.0);
        Ok(Box::new(Data { n, n_tok, gu }))
    }
}

/// y = silu(gate) * up: docs/numerics.md, "Mixture of experts".
#[derive(Clone, Copy, Debug)]
pub struct SiluMulCall {
    /// `[n_tok][n]`.
    pub gate: DevPtr<bf16>,
    /// `[n_tok][n]`.
    pub up: DevPtr<bf16>,
    /// Elements from a token of `gate` to the next.
    pub gate_stride: u32,
    /// Elements from a token of `up` to the next.
    pub up_stride: u32,
    /// `[n_tok][n]`, without gaps.
    pub y: DevPtr<bf16>,
    /// Tokens.
    pub n_tok: u32,
    /// Outputs of a token.
    pub n: u32,
}

impl SiluMulCall {
    /// The call on gate and up that one product made: `gate_up` is `[n_tok][2][n]`, gate first.
    pub fn of_product(gate_up: DevPtr<bf16>, y: DevPtr<bf16>, n_tok: u32, n: u32) -> Self {
        let stride = n.saturating_mul(2);
        Self {
            gate: gate_up,
            up: gate_up.add(n as usize),
            gate_stride: stride,
            up_stride: stride,
            y,
            n_tok,
            n,
        }
    }
}

impl Call for SiluMulCall {
    fn case(&self) -> Case {
        let dims = [("n", u64::from(self.n)), ("n_tok", u64::from(self.n_tok))];
        Case::of::<SiluMul>(MODEL, SiluMul::NAME, &dims, Values::Normal)
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        expect_plain(SiluMul::NAME, config)?;
        let (n, n_tok) = (u64::from(self.n), u64::from(self.n_tok));
        elementwise::check_threads(VECTOR, n, n_tok).map_err(|why| refused(SiluMul::NAME, why))?;
        if n_tok == 0 || n == 0 {
            return Ok(());
        }
        let args = (
            self.gate.get(),
            self.up.get(),
            self.y.get_mut(),
            self.n,
            self.n_tok,
            self.gate_stride,
            self.up_stride,
        );
        let dims = LaunchDims::new(grid(n, n_tok) as u32, THREADS);
        Ok(device.launch(stream, &silu_mul::KERNEL, dims, args)?)
    }
}

/// The data of a case.
struct Data {
    n: usize,
    n_tok: usize,
    gu: Vec<bf16>,
}

impl Data {
    /// One token's gate and up.
    fn row(&self, token: usize) -> &[bf16] {
        &self.gu[token * 2 * self.n..][..2 * self.n]
    }
}

impl Problem for Data {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        vec![
            // All that is read: cold when it is timed, as a weight is.
            Tensor::weight(
                "gu",
                &[("n_tok", self.n_tok), ("gate or up", 2), ("n", self.n)],
                &self.gu,
            ),
            Tensor::output::<bf16>("y", &[("n_tok", self.n_tok), ("n", self.n)]),
        ]
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, tensors: &Bound) -> Result<(), OpError> {
        let y = tensors.at("y")?;
        let gate_up = tensors.at("gu")?;
        SiluMulCall::of_product(gate_up, y, self.n_tok as u32, self.n as u32).launch(device, stream, config)
    }

    fn reference(&self) -> Result<Answer, OpError> {
        if self.n_tok * self.n <= CPU_LIMIT {
            return Ok(Answer::Whole(vec![bytes(&reference::silu_mul::silu_mul(
                &self.gu, self.n_tok, self.n,
            )?)]));
        }
        let piece = |token| {
            let y = reference::silu_mul::silu_mul(self.row(token), 1, self.n)?;
            Ok(Piece::new("y", token * self.n, &y))
        };
        let tokens = sample(Random::new(0, "silu_mul pieces"), SAMPLED_ROWS, self.n_tok);
        Ok(Answer::Pieces(
            tokens.into_iter().map(piece).collect::<Result<_, OpError>>()?,
        ))
    }

    fn alone(&self, pick: Random) -> Vec<Alone> {
        if self.n_tok < 2 {
            return Vec::new();
        }
        let row = |token| Alone {
            name: "row alone",
            problem: Box::new(Data {
                n: self.n,
                n_tok: 1,
                gu: self.row(token).to_vec(),
            }),
            same: vec![Same::new::<bf16>("y", token * self.n, 0, self.n)],
        };
        sample(pick, 3, self.n_tok).into_iter().map(row).collect()
    }
}
