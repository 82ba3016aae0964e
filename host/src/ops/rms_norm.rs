//! `rms_norm`: RMSNorm with an optional residual; with several heads QK-norm, in place in a packed tensor.

use bytemuck::cast_slice;
use cuda_std::launch::Kernel;
use half::{bf16, f16};
use kernels_gpu::rms_norm::{self as kernels, LONG_BYTES, THREADS, grid, is_short};

use crate::cost::Work;
use crate::device::{DevPtr, Device, LaunchDims, Stream};
use crate::op::call::Call;
use crate::op::data::{Draw, Float, rows};
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Axis, Bound, Config, Dims, Piece, Problem, Same, Spec, Tensor, bytes, sample};
use crate::op::{Case, OpError, Values};
use crate::reference::{norms, rows::Half};

mod call;

pub use call::RmsNormCall;

/// The operation.
pub struct RmsNorm;

/// Added to the mean of the squares.
const EPS: f32 = 1e-6;
/// Heads of a packed token that are not normed: one before, one after.
const OTHERS: usize = 2;
/// The CPU reference norms up to so many elements (about a second of a core), beyond it [`SAMPLED_ROWS`] tokens.
const CPU_LIMIT: usize = 1 << 26;
const SAMPLED_ROWS: usize = 64;

/// Parameters of the kernels: x, r, w, y, n_tok, heads, n, the strides of x, r and y, eps, zero_centered.
type Args<T> = (
    *const T,
    *mut T,
    *const T,
    *mut T,
    u32,
    u32,
    u32,
    u32,
    u32,
    u32,
    f32,
    u32,
);

/// A dtype of the norms.
pub(super) trait Norm: Float + Sync + std::fmt::Debug {
    /// The reference's name of it.
    const HALF: Half;
    /// The kernel for short rows and the one for long rows.
    fn kernels() -> [Kernel<Args<Self>>; 2];
}

impl Norm for bf16 {
    const HALF: Half = Half::Bf16;
    fn kernels() -> [Kernel<Args<Self>>; 2] {
        [
            kernels::rms_norm_short_bf16::KERNEL,
            kernels::rms_norm_long_bf16::KERNEL,
        ]
    }
}

impl Norm for f16 {
    const HALF: Half = Half::F16;
    fn kernels() -> [Kernel<Args<Self>>; 2] {
        [kernels::rms_norm_short_f16::KERNEL, kernels::rms_norm_long_f16::KERNEL]
    }
}

/// Grid and block for `rows` rows of `n`, and whether they are short.
pub(super) fn launch_dims(rows: usize, n: usize) -> (LaunchDims, bool) {
    let dims = LaunchDims::new(grid(rows as u32, n as u32), THREADS);
    if is_short(n as u32) {
        (dims, true)
    } else {
        (dims.shared(LONG_BYTES), false)
    }
}

/// Refuses what the kernels cannot count: 2^31 elements in a token, 2^31 rows.
pub(super) fn check_rows(n_tok: u64, heads: u64, n: u64) -> Result<(), String> {
    if (heads + OTHERS as u64) * n >= 1 << 31 || n_tok * heads >= 1 << 27 {
        return Err(format!(
            "n_tok = {n_tok}, heads = {heads}, n = {n}: a token has 2^31 elements at the most, and all heads of all tokens are \
             2^27 at the most"
        ));
    }
    Ok(())
}

/// The kinds of values that norms are checked with.
pub(super) const VALUES: &[Values] = &[
    Values::Normal,
    Values::Zeros,
    Values::NonFinite,
    Values::Huge,
    Values::Tiny,
    Values::Single,
    Values::WideRange,
];

/// The lengths of rows at the edges of vectors, warps, slots and held vectors.
pub(super) const EDGES: [u64; 17] = [
    1, 7, 8, 9, 64, 127, 128, 129, 255, 256, 257, 264, 2047, 2048, 2056, 4104, 4097,
];

/// A length of a row near the edges more often than not.
pub(super) fn random_n(draw: impl Fn(u64, u64) -> u64) -> u64 {
    match draw(0, 4) {
        0 => 1 + draw(1, 600),
        1 => 8 * (1 + draw(1, 300)),
        2 => EDGES[draw(1, EDGES.len() as u64) as usize],
        _ => 128 << draw(1, 5),
    }
}

fn case(name: &str, [n_tok, heads, n]: [u64; 3], [residual, zero_centered]: [u64; 2], values: Values) -> Case {
    let dims = [
        ("n_tok", n_tok),
        ("heads", heads),
        ("n", n),
        ("residual", residual),
        ("zero_centered", zero_centered),
    ];
    Case::of::<RmsNorm>("random", name, &dims, values)
}

impl Spec for RmsNorm {
    const NAME: &'static str = "rms_norm";
    const SUMMARY: &'static str = "RMSNorm, with a residual added before it; per head (QK-norm) in place";
    const AXES: &'static [Axis] = &[
        Axis::tokens(),
        Axis::optional("heads", 1),
        Axis::required("n"),
        Axis::optional("residual", 0).at_least(0),
        Axis::optional("zero_centered", 0).at_least(0),
    ];
    const DTYPES: &'static [&'static str] = &["bf16", "f16"];
    const VALUES: &'static [Values] = VALUES;

    fn configs() -> Vec<Config> {
        vec![Config::plain(
            kernels::rms_norm_long_bf16::KERNEL.meta,
            THREADS,
            LONG_BYTES,
        )]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        for flag in ["residual", "zero_centered"] {
            if dims.u64(flag) > 1 {
                return Err(format!("{flag} = {}: it is 0 or 1", dims.u64(flag)));
            }
        }
        check_rows(dims.u64("n_tok"), dims.u64("heads"), dims.u64("n"))
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for (i, n) in (0..).zip(EDGES) {
            cases.push(case("edge", [3, 1, n], [i % 2, i / 2 % 2], Values::WideRange));
            cases.push(case("edge", [2, 5, n], [0, i % 2], Values::WideRange).with_dtype("f16"));
        }
        for n_tok in [0, 1, 2, 33] {
            cases.push(case("edge", [n_tok, 1, 520], [1, 0], Values::WideRange));
            cases.push(case("edge", [n_tok, 3, 128], [1, 0], Values::Normal));
        }
        // A sum in a wrong order moves a result by 2^-25 or so: it takes many of f16 for one to be rounded elsewhere.
        for [n_tok, heads, n] in [[40, 1, 2048], [16, 1, 4104], [32, 16, 128], [32, 8, 256]] {
            cases.push(case("edge", [n_tok, heads, n], [0, 0], Values::Normal).with_dtype("f16"));
        }
        for &values in Self::VALUES {
            cases.push(case("edge", [3, 1, 512], [1, 1], values));
            cases.push(case("edge", [3, 2, 96], [0, 0], values).with_dtype("f16"));
        }
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 16 + what, end);
        let n = random_n(draw);
        let (n_tok, heads) = if draw(2, 2) == 0 {
            (draw(3, 20), 1)
        } else {
            (draw(3, 6), 1 + draw(4, 9))
        };
        let values = Self::VALUES[draw(5, Self::VALUES.len() as u64) as usize];
        let dtype = Self::DTYPES[draw(6, 2) as usize];
        case(&format!("case{i}"), [n_tok, heads, n], [draw(7, 2), draw(8, 2)], values).with_dtype(dtype)
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let (n, elements) = (dims.u64("n"), dims.u64("n_tok") * dims.u64("heads") * dims.u64("n"));
        let moved = 2 * elements * (1 + dims.u64("residual"));
        let (launch, short) = launch_dims(dims.usize("n_tok") * dims.usize("heads"), dims.usize("n"));
        Work {
            read_bytes: moved + 2 * n,
            write_bytes: moved,
            blocks: u64::from(launch.grid.x),
            threads: THREADS,
            shared_bytes: if short { 0 } else { LONG_BYTES },
            ..Work::default()
        }
    }

    fn problem(dims: &Dims, values: Values, dtype: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        let draw = Draw { seed, values };
        Ok(match dtype {
            "f16" => Box::new(Data::<f16>::new(dims, draw)),
            _ => Box::new(Data::<bf16>::new(dims, draw)),
        })
    }
}

/// The data of a case. One head: x to y. Several: in place in the heads 1.. of a token of `heads` + 2.
struct Data<T> {
    n_tok: usize,
    heads: usize,
    n: usize,
    zero_centered: bool,
    x: Vec<T>,
    /// `[n_tok][heads][n]`, or nothing.
    r: Option<Vec<T>>,
    w: Vec<T>,
}

/// One token's results: y, or its whole packed row, and the new residual.
struct Row<T> {
    y: Vec<T>,
    r: Vec<T>,
}

impl<T: Norm> Data<T> {
    fn new(dims: &Dims, draw: Draw) -> Self {
        let (n_tok, heads, n) = (dims.usize("n_tok"), dims.usize("heads"), dims.usize("n"));
        let of_token = if heads == 1 { 1 } else { heads + OTHERS };
        let residual = dims.u64("residual") == 1;
        Self {
            n_tok,
            heads,
            n,
            zero_centered: dims.u64("zero_centered") == 1,
            x: draw.floats("rms_norm x", n_tok * of_token, n, 1.0),
            r: residual.then(|| draw.floats("rms_norm r", n_tok * heads, n, 1.0)),
            w: draw.ordinary("rms_norm w", 1, n, 1.0),
        }
    }

    fn packed(&self) -> bool {
        self.heads > 1
    }

    /// Elements of a token in x.
    fn width(&self) -> usize {
        if self.packed() {
            (self.heads + OTHERS) * self.n
        } else {
            self.n
        }
    }

    fn row(&self, token: usize) -> Result<Row<T>, OpError> {
        let (n, width) = (self.n, self.width());
        let mut row = Row {
            y: self.x[token * width..][..width].to_vec(),
            r: Vec::new(),
        };
        for head in 0..self.heads {
            let first = if self.packed() { (1 + head) * n } else { 0 };
            let mut x = row.y[first..][..n].to_vec();
            if let Some(r) = &self.r {
                let r = &r[(token * self.heads + head) * n..][..n];
                let sum = norms::add_residual(T::HALF, cast_slice(&x), cast_slice(r))?;
                x.copy_from_slice(cast_slice(&sum));
                row.r.extend(&x);
            }
            let y = norms::rms_norm(T::HALF, cast_slice(&x), cast_slice(&self.w), EPS, self.zero_centered)?;
            row.y[first..][..n].copy_from_slice(cast_slice(&y));
        }
        Ok(row)
    }
}

impl<T: Norm> Problem for Data<T> {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let (tokens, n) = (("n_tok", self.n_tok), ("n", self.n));
        let mut all = vec![Tensor::input("w", &[n], &self.w)];
        if let Some(r) = &self.r {
            all.push(Tensor::in_out("r", &[tokens, ("head", self.heads), n], r));
        }
        if self.packed() {
            all.push(Tensor::in_out(
                "y",
                &[tokens, ("head", self.heads + OTHERS), n],
                &self.x,
            ));
        } else {
            all.push(Tensor::weight("x", &[tokens, n], &self.x));
            all.push(Tensor::output::<T>("y", &[tokens, n]));
        }
        all
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, tensors: &Bound) -> Result<(), OpError> {
        let y = tensors.at::<T>("y")?;
        // In place from the second head of a token on.
        let (x, y) = if self.packed() {
            (y.add(self.n), y.add(self.n))
        } else {
            (tensors.at("x")?, y)
        };
        let residual = match &self.r {
            Some(_) => tensors.at("r")?,
            None => DevPtr::NULL,
        };
        let stride = self.width() as u32;
        let call = RmsNormCall {
            x,
            residual,
            w: tensors.at("w")?,
            y,
            n_tok: self.n_tok as u32,
            heads: self.heads as u32,
            n: self.n as u32,
            x_stride: stride,
            r_stride: (self.heads * self.n) as u32,
            y_stride: stride,
            eps: EPS,
            zero_centered: self.zero_centered,
        };
        call.launch(device, stream, config)
    }

    fn reference(&self) -> Result<Answer, OpError> {
        let (width, r_width) = (self.width(), self.heads * self.n);
        if self.x.len() <= CPU_LIMIT {
            let mut all: Vec<Option<Result<Row<T>, OpError>>> = (0..self.n_tok).map(|_| None).collect();
            rows(&mut all, 1, |token, out| out[0] = Some(self.row(token)));
            let all = all.into_iter().flatten().collect::<Result<Vec<_>, _>>()?;
            let (y, r): (Vec<_>, Vec<_>) = all.iter().map(|row| (bytes(&row.y), bytes(&row.r))).unzip();
            let r = self.r.is_some().then(|| r.concat());
            return Ok(Answer::Whole(r.into_iter().chain([y.concat()]).collect()));
        }
        let mut pieces = Vec::new();
        for token in sample(Random::new(0, "rms_norm pieces"), SAMPLED_ROWS, self.n_tok) {
            let row = self.row(token)?;
            pieces.push(Piece::new("y", token * width, &row.y));
            if self.r.is_some() {
                pieces.push(Piece::new("r", token * r_width, &row.r));
            }
        }
        Ok(Answer::Pieces(pieces))
    }

    fn alone(&self, pick: Random) -> Vec<Alone> {
        if self.n_tok < 2 {
            return Vec::new();
        }
        let (width, r_width) = (self.width(), self.heads * self.n);
        let row = |token: usize| {
            let part = Data {
                n_tok: 1,
                x: self.x[token * width..][..width].to_vec(),
                r: self.r.as_ref().map(|r| r[token * r_width..][..r_width].to_vec()),
                w: self.w.clone(),
                ..*self
            };
            let y = Same::new::<T>("y", token * width, 0, width);
            let r = part
                .r
                .as_ref()
                .map(|_| Same::new::<T>("r", token * r_width, 0, r_width));
            Alone {
                name: "row alone",
                problem: Box::new(part),
                same: r.into_iter().chain([y]).collect(),
            }
        };
        sample(pick, 3, self.n_tok).into_iter().map(row).collect()
    }
}
