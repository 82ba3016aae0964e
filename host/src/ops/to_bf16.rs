//! `to_bf16`: rows of f32 rounded to bf16.

use half::bf16;
use kernels_gpu::to_bf16::{THREADS, VECTOR, grid, to_bf16};

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
pub struct ToBf16;

/// The CPU reference rounds up to so many elements (a second of a core), beyond it [`SAMPLED_ROWS`] rows.
const CPU_LIMIT: usize = 1 << 26;
const SAMPLED_ROWS: usize = 64;
/// Elements between two rows of x that are no whole vectors: so rows begin at addresses of every kind.
const GAP: usize = 3;

fn case(name: &str, n: u64, n_tok: u64, values: Values) -> Case {
    Case::of::<ToBf16>("random", name, &[("n", n), ("n_tok", n_tok)], values)
}

impl Spec for ToBf16 {
    const NAME: &'static str = "to_bf16";
    const SUMMARY: &'static str = "rows of f32 rounded to bf16";
    const AXES: &'static [Axis] = &[Axis::required("n"), Axis::tokens()];
    const DTYPES: &'static [&'static str] = &["f32"];
    const VALUES: &'static [Values] = &[
        Values::Normal,
        Values::Zeros,
        Values::NonFinite,
        Values::Huge,
        Values::Tiny,
        Values::WideRange,
    ];

    fn configs() -> Vec<Config> {
        vec![Config::plain(to_bf16::KERNEL.meta, THREADS, 0)]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        elementwise::check_threads(VECTOR, dims.u64("n"), dims.u64("n_tok"))
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for n in [1, 3, 4, 5, 7, 8, 9, 64, 2047, 2048, 2056] {
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
        let gap = if n.is_multiple_of(VECTOR as usize) { 0 } else { GAP };
        let stride = n + gap;
        let x = Draw { seed, values }.floats("to_bf16 x", n_tok, stride, 1.0);
        Ok(Box::new(Data { n, n_tok, stride, x }))
    }
}

/// y = bf16(x), rounded to nearest even: docs/numerics.md, "Conventions".
#[derive(Clone, Copy, Debug)]
pub struct ToBf16Call {
    /// `[n_tok][n]`.
    pub x: DevPtr<f32>,
    /// `[n_tok][n]`.
    pub y: DevPtr<bf16>,
    /// Tokens.
    pub n_tok: u32,
    /// Elements of a token.
    pub n: u32,
    /// Elements from a token of `x` to the next.
    pub x_stride: u32,
    /// Elements from a token of `y` to the next.
    pub y_stride: u32,
}

impl Call for ToBf16Call {
    fn case(&self) -> Case {
        let dims = [("n", u64::from(self.n)), ("n_tok", u64::from(self.n_tok))];
        Case::of::<ToBf16>(MODEL, ToBf16::NAME, &dims, Values::Normal)
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        expect_plain(ToBf16::NAME, config)?;
        let (n, n_tok) = (u64::from(self.n), u64::from(self.n_tok));
        elementwise::check_threads(VECTOR, n, n_tok).map_err(|why| refused(ToBf16::NAME, why))?;
        if n_tok == 0 || n == 0 {
            return Ok(());
        }
        let args = (
            self.x.get(),
            self.y.get_mut(),
            self.n,
            self.n_tok,
            self.x_stride,
            self.y_stride,
        );
        let dims = LaunchDims::new(grid(n, n_tok) as u32, THREADS);
        Ok(device.launch(stream, &to_bf16::KERNEL, dims, args)?)
    }
}

/// The data of a case: x `[n_tok][stride]`, of which y `[n_tok][n]` is made.
struct Data {
    n: usize,
    n_tok: usize,
    stride: usize,
    x: Vec<f32>,
}

impl Data {
    /// One token's elements.
    fn row(&self, token: usize) -> &[f32] {
        &self.x[token * self.stride..][..self.n]
    }
}

impl Problem for Data {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let tokens = ("n_tok", self.n_tok);
        vec![
            // All that is read: cold when it is timed, as a weight is.
            Tensor::weight("x", &[tokens, ("element", self.stride)], &self.x),
            Tensor::output::<bf16>("y", &[tokens, ("n", self.n)]),
        ]
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, tensors: &Bound) -> Result<(), OpError> {
        let call = ToBf16Call {
            x: tensors.at("x")?,
            y: tensors.at("y")?,
            n_tok: self.n_tok as u32,
            n: self.n as u32,
            x_stride: self.stride as u32,
            y_stride: self.n as u32,
        };
        call.launch(device, stream, config)
    }

    fn reference(&self) -> Result<Answer, OpError> {
        if self.x.len() <= CPU_LIMIT {
            let y = reference::to_bf16::rows(&self.x, self.n_tok, self.n, self.stride)?;
            return Ok(Answer::Whole(vec![bytes(&y)]));
        }
        let tokens = sample(Random::new(0, "to_bf16 pieces"), SAMPLED_ROWS, self.n_tok);
        let piece = |token| Piece::new("y", token * self.n, &reference::to_bf16::to_bf16(self.row(token)));
        Ok(Answer::Pieces(tokens.into_iter().map(piece).collect()))
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
                stride: self.n,
                x: self.row(token).to_vec(),
            }),
            same: vec![Same::new::<bf16>("y", token * self.n, 0, self.n)],
        };
        sample(pick, 3, self.n_tok).into_iter().map(row).collect()
    }
}
