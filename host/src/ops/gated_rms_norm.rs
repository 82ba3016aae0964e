//! `gated_rms_norm`: RMSNorm per head, times silu of a gate that lies in a wider tensor.

use bytemuck::cast_slice;
use cuda_std::launch::Kernel;
use half::{bf16, f16};
use kernels_gpu::gated_rms_norm::{self as kernels, LONG_BYTES, THREADS};

use super::rms_norm::{EDGES, Norm, VALUES, check_rows, launch_dims, random_n};
use crate::cost::Work;
use crate::device::{DevPtr, Device, Stream};
use crate::op::call::{Call, MODEL, expect_plain, refused};
use crate::op::data::{Draw, rows};
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Axis, Bound, Config, Dims, Piece, Problem, Same, Spec, Tensor, bytes, sample};
use crate::op::{Case, OpError, Values};
use crate::reference::norms;

/// The operation.
pub struct GatedRmsNorm;

/// Added to the mean of the squares.
const EPS: f32 = 1e-6;
/// The CPU reference norms up to so many elements (about a second of a core), beyond it [`SAMPLED_ROWS`] tokens.
const CPU_LIMIT: usize = 1 << 25;
const SAMPLED_ROWS: usize = 64;

/// Parameters of the kernels: x, z, w, y, n_tok, heads, n, the strides of x, z and y, eps.
type Args<T> = (*const T, *const T, *const T, *mut T, u32, u32, u32, u32, u32, u32, f32);

/// A dtype of this norm.
trait Gated: Norm {
    /// The kernel for short rows and the one for long rows.
    fn gated() -> [Kernel<Args<Self>>; 2];
}

impl Gated for bf16 {
    fn gated() -> [Kernel<Args<Self>>; 2] {
        [
            kernels::gated_rms_norm_short_bf16::KERNEL,
            kernels::gated_rms_norm_long_bf16::KERNEL,
        ]
    }
}

impl Gated for f16 {
    fn gated() -> [Kernel<Args<Self>>; 2] {
        [
            kernels::gated_rms_norm_short_f16::KERNEL,
            kernels::gated_rms_norm_long_f16::KERNEL,
        ]
    }
}

fn case(name: &str, n_tok: u64, heads: u64, n: u64, values: Values) -> Case {
    let dims = [("n_tok", n_tok), ("heads", heads), ("n", n)];
    Case::of::<GatedRmsNorm>("random", name, &dims, values)
}

impl Spec for GatedRmsNorm {
    const NAME: &'static str = "gated_rms_norm";
    const SUMMARY: &'static str = "RMSNorm per head, times silu of a gate";
    const AXES: &'static [Axis] = &[Axis::tokens(), Axis::required("heads"), Axis::required("n")];
    const DTYPES: &'static [&'static str] = &["bf16", "f16"];
    const VALUES: &'static [Values] = VALUES;

    fn configs() -> Vec<Config> {
        vec![Config::plain(
            kernels::gated_rms_norm_short_bf16::KERNEL.meta,
            THREADS,
            0,
        )]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        check_rows(dims.u64("n_tok"), dims.u64("heads"), dims.u64("n"))
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for n in EDGES {
            cases.push(case("edge", 2, 3, n, Values::WideRange));
        }
        for n_tok in [0, 1, 2, 33] {
            cases.push(case("edge", n_tok, 2, 128, Values::Normal));
        }
        // Many results of f16, as for rms_norm: a wrong order shows in few.
        for [n_tok, heads, n] in [[32, 16, 128], [32, 8, 256], [10, 2, 2048]] {
            cases.push(case("edge", n_tok, heads, n, Values::Normal).with_dtype("f16"));
        }
        for &values in Self::VALUES {
            cases.push(case("edge", 3, 4, 128, values));
            cases.push(case("edge", 2, 1, 264, values).with_dtype("f16"));
        }
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 16 + what, end);
        let values = Self::VALUES[draw(5, Self::VALUES.len() as u64) as usize];
        let dtype = Self::DTYPES[draw(6, 2) as usize];
        case(&format!("case{i}"), draw(3, 7), 1 + draw(4, 6), random_n(draw), values).with_dtype(dtype)
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let (n, elements) = (dims.u64("n"), dims.u64("n_tok") * dims.u64("heads") * dims.u64("n"));
        let (launch, short) = launch_dims(dims.usize("n_tok") * dims.usize("heads"), dims.usize("n"));
        Work {
            read_bytes: 4 * elements + 2 * n,
            write_bytes: 2 * elements,
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

/// RMSNorm of every head of every token, times silu of its gate: y = x / rms(x) * w * silu(z). The order is docs/numerics.md's,
/// "Norms". Tensors are of bf16 or f16.
#[derive(Clone, Copy, Debug)]
pub struct GatedRmsNormCall<T = bf16> {
    /// `[n_tok][heads][n]`.
    pub x: DevPtr<T>,
    /// The gate, `[n_tok][heads][n]`.
    pub z: DevPtr<T>,
    /// `[n]`, the same for every head.
    pub w: DevPtr<T>,
    /// `[n_tok][heads][n]`; may be `x`.
    pub y: DevPtr<T>,
    /// Tokens.
    pub n_tok: u32,
    /// Rows of a token, one after another.
    pub heads: u32,
    /// Elements of a row.
    pub n: u32,
    /// Elements from a token of `x` to the next.
    pub x_stride: u32,
    /// Elements from a token of `z` to the next.
    pub z_stride: u32,
    /// Elements from a token of `y` to the next.
    pub y_stride: u32,
    /// What is added to the mean of the squares.
    pub eps: f32,
}

impl<T: Gated> Call for GatedRmsNormCall<T> {
    fn case(&self) -> Case {
        let dims = [
            ("n_tok", u64::from(self.n_tok)),
            ("heads", u64::from(self.heads)),
            ("n", u64::from(self.n)),
        ];
        Case::of::<GatedRmsNorm>(MODEL, GatedRmsNorm::NAME, &dims, Values::Normal).with_dtype(T::DTYPE.name())
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        expect_plain(GatedRmsNorm::NAME, config)?;
        let (n_tok, heads, n) = (self.n_tok, self.heads, self.n);
        check_rows(n_tok.into(), heads.into(), n.into()).map_err(|why| refused(GatedRmsNorm::NAME, why))?;
        if n_tok == 0 || heads == 0 || n == 0 {
            return Ok(());
        }
        let (dims, short) = launch_dims(n_tok as usize * heads as usize, n as usize);
        let args: Args<T> = (
            self.x.get(),
            self.z.get(),
            self.w.get(),
            self.y.get_mut(),
            n_tok,
            heads,
            n,
            self.x_stride,
            self.z_stride,
            self.y_stride,
            self.eps,
        );
        let [of_short, of_long] = T::gated();
        Ok(device.launch(stream, if short { &of_short } else { &of_long }, dims, args)?)
    }
}

/// The data of a case: x `[n_tok][heads][n]`, z the same with one more head a token, as in a packed projection.
struct Data<T> {
    n_tok: usize,
    heads: usize,
    n: usize,
    x: Vec<T>,
    z: Vec<T>,
    w: Vec<T>,
}

impl<T: Gated> Data<T> {
    fn new(dims: &Dims, draw: Draw) -> Self {
        let (n_tok, heads, n) = (dims.usize("n_tok"), dims.usize("heads"), dims.usize("n"));
        Self {
            n_tok,
            heads,
            n,
            x: draw.floats("gated_rms_norm x", n_tok * heads, n, 1.0),
            z: draw.floats("gated_rms_norm z", n_tok * (heads + 1), n, 2.0),
            w: draw.ordinary("gated_rms_norm w", 1, n, 1.0),
        }
    }

    /// One token's result.
    fn row(&self, token: usize) -> Result<Vec<T>, OpError> {
        let n = self.n;
        let mut y = Vec::with_capacity(self.heads * n);
        for head in 0..self.heads {
            let x = &self.x[(token * self.heads + head) * n..][..n];
            let z = &self.z[(token * (self.heads + 1) + head) * n..][..n];
            let (x, z) = (cast_slice(x), cast_slice(z));
            let row = norms::gated_rms_norm(T::HALF, x, z, cast_slice(&self.w), EPS)?;
            y.extend_from_slice(cast_slice(&row));
        }
        Ok(y)
    }
}

impl<T: Gated> Problem for Data<T> {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let (tokens, n) = (("n_tok", self.n_tok), ("n", self.n));
        vec![
            Tensor::weight("x", &[tokens, ("head", self.heads), n], &self.x),
            Tensor::weight("z", &[tokens, ("head", self.heads + 1), n], &self.z),
            Tensor::input("w", &[n], &self.w),
            Tensor::output::<T>("y", &[tokens, ("head", self.heads), n]),
        ]
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, tensors: &Bound) -> Result<(), OpError> {
        let ptr = |name: &str| tensors.at::<T>(name);
        let stride = (self.heads * self.n) as u32;
        let call = GatedRmsNormCall {
            x: ptr("x")?,
            z: ptr("z")?,
            w: ptr("w")?,
            y: ptr("y")?,
            n_tok: self.n_tok as u32,
            heads: self.heads as u32,
            n: self.n as u32,
            x_stride: stride,
            z_stride: stride + self.n as u32,
            y_stride: stride,
            eps: EPS,
        };
        call.launch(device, stream, config)
    }

    fn reference(&self) -> Result<Answer, OpError> {
        let width = self.heads * self.n;
        if self.x.len() <= CPU_LIMIT {
            let mut all: Vec<Option<Result<Vec<T>, OpError>>> = (0..self.n_tok).map(|_| None).collect();
            rows(&mut all, 1, |token, out| out[0] = Some(self.row(token)));
            let all = all.into_iter().flatten().collect::<Result<Vec<_>, _>>()?;
            return Ok(Answer::Whole(vec![bytes(&all.concat())]));
        }
        let piece = |token| Ok(Piece::new("y", token * width, &self.row(token)?));
        let tokens = sample(Random::new(0, "gated_rms_norm pieces"), SAMPLED_ROWS, self.n_tok);
        Ok(Answer::Pieces(
            tokens.into_iter().map(piece).collect::<Result<_, OpError>>()?,
        ))
    }

    fn alone(&self, pick: Random) -> Vec<Alone> {
        let (all, width) = (self.n_tok * self.heads, self.heads * self.n);
        if all < 2 {
            return Vec::new();
        }
        // A head of a token, as the only head of the only token.
        let row = |row: usize| {
            let (token, head) = (row / self.heads, row % self.heads);
            let z = (token * (self.heads + 1) + head) * self.n;
            Alone {
                name: "row alone",
                problem: Box::new(Data {
                    n_tok: 1,
                    heads: 1,
                    x: self.x[row * self.n..][..self.n].to_vec(),
                    // The second head of it is not the gate of this one.
                    z: [&self.z[z..][..self.n], &self.z[z..][..self.n]].concat(),
                    w: self.w.clone(),
                    ..*self
                }),
                same: vec![Same::new::<T>("y", token * width + head * self.n, 0, self.n)],
            }
        };
        sample(pick, 3, all).into_iter().map(row).collect()
    }
}
