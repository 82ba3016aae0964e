//! `gemm`: y = a w^T + bias + residual, bf16 or f16.

use half::{bf16, f16};
use kernels_gpu::gemm::{self as kernels, Choice};

use crate::cost::{Math, Work};
use crate::device::{Buffer, Device, LaunchDims, Stream};
use crate::op::data::{Draw, Float};
use crate::op::random::Random;
use crate::op::spec::{
    Alone, Answer, Axis, Bound, Config, Dims, Element, Piece, Problem, Same, Spec, Tensor, bytes, sample,
};
use crate::op::{Case, OpError, Values};
use crate::reference::gemm::{Number, Operands};

/// The operation.
pub struct Gemm;

/// The CPU reference makes a whole output of up to so many multiply-adds (a second or two of a core), else [`SAMPLED`] of its rows
/// and columns.
pub(crate) const CPU_LIMIT: usize = 1 << 27;
/// Rows and columns whose crossings are the sample.
const SAMPLED: (usize, usize) = (24, 48);

/// The places of an output of m by n that the CPU reference computes: none where it computes all of them.
pub(crate) fn places(m: usize, n: usize, k: usize) -> Option<Vec<(usize, usize)>> {
    if m * n * k <= CPU_LIMIT {
        return None;
    }
    let rows = sample(Random::new(0, "gemm rows"), SAMPLED.0, m);
    let columns = sample(Random::new(0, "gemm columns"), SAMPLED.1, n);
    Some(
        rows.iter()
            .flat_map(|&r| columns.iter().map(move |&c| (r, c)))
            .collect(),
    )
}

/// An answer of outputs at the places that [`places`] names.
pub(crate) fn answer<T: Element>(n: usize, places: Option<Vec<(usize, usize)>>, y: &[T]) -> Answer {
    match places {
        None => Answer::Whole(vec![bytes(y)]),
        Some(places) => {
            let piece = |(i, &(row, column)): (usize, &(usize, usize))| Piece::new("y", row * n + column, &y[i..=i]);
            Answer::Pieces(places.iter().enumerate().map(piece).collect())
        }
    }
}

/// The launch of an output of m by n with the shared memory of its tile.
pub(crate) fn launch_dims(choice: Choice, m: u32, n: u32, shared_bytes: u32) -> LaunchDims {
    let (rows, columns) = kernels::size(choice);
    LaunchDims::new(m.div_ceil(rows) * n.div_ceil(columns), kernels::threads(choice)).shared(shared_bytes)
}

/// Refuses outputs of more tiles than a grid has blocks.
pub(crate) fn check_tiles(m: u64, n: u64) -> Result<(), String> {
    if m.div_ceil(16) * n.div_ceil(32) >= 1 << 31 {
        return Err(format!("n_tok = {m}, n = {n}: 2^31 tiles or more"));
    }
    Ok(())
}

/// What a product of this shape does: `weight_bytes` are those of all weights, `choice` its tile.
pub(crate) fn work(choice: Choice, dims: &Dims, weight_bytes: u64, shared_bytes: u32) -> Work {
    let (n, k, m) = (dims.u64("n"), dims.u64("k"), dims.u64("n_tok"));
    let (rows, columns) = kernels::size(choice);
    let (down, across) = (m.div_ceil(u64::from(rows)), n.div_ceil(u64::from(columns)));
    let output = if dims.u64("out_f32") == 1 { 4 } else { 2 };
    Work {
        read_bytes: weight_bytes + 2 * m * k,
        passes: 1,
        // Tiles read both sides again, from L2 for the most part.
        reread_bytes: 0,
        write_bytes: output * m * n,
        multiply_adds: m * n * k,
        math: Math::Bf16,
        blocks: down * across,
        threads: kernels::threads(choice),
        shared_bytes,
        chain: k.div_ceil(16),
        // A dependent mma.sync.m16n8k16, measured on an H200.
        chain_cycles: 26.8,
        ..Work::default()
    }
}

/// Sizes near the edges of tiles (16, 32, 64, 128) and of stages.
pub(crate) fn near_an_edge(draw: impl Fn(u64, u64) -> u64) -> u64 {
    match draw(0, 4) {
        0 => 1 + draw(1, 200),
        1 => 8 * (1 + draw(1, 24)),
        _ => ([16, 32, 64, 128][draw(1, 4) as usize] * (1 + draw(2, 2)) + draw(3, 3)) - 1,
    }
}

fn case(name: &str, sizes: [u64; 3], flags: [u64; 3], values: Values) -> Case {
    let [n, k, n_tok] = sizes;
    let [out_f32, bias, residual] = flags;
    let dims = [
        ("n", n),
        ("k", k),
        ("n_tok", n_tok),
        ("out_f32", out_f32),
        ("bias", bias),
        ("residual", residual),
    ];
    Case::of::<Gemm>("random", name, &dims, values)
}

/// Whether y is f32, with bias, with residual.
const FLAGS: [[u64; 3]; 6] = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1], [1, 1, 0]];

impl Spec for Gemm {
    const NAME: &'static str = "gemm";
    const SUMMARY: &'static str = "y = a w^T + bias + residual, 16-bit operands";
    const AXES: &'static [Axis] = &[
        Axis::required("n"),
        Axis::required("k"),
        Axis::tokens(),
        Axis::optional("out_f32", 0).at_least(0),
        Axis::optional("bias", 0).at_least(0),
        Axis::optional("residual", 0).at_least(0),
    ];
    const DTYPES: &'static [&'static str] = &["bf16", "f16"];
    const VALUES: &'static [Values] = &[
        Values::Normal,
        Values::Zeros,
        Values::NonFinite,
        Values::Cancelling,
        Values::Huge,
        Values::Tiny,
        Values::Single,
        Values::WideRange,
    ];

    fn configs() -> Vec<Config> {
        let choice = Choice::Wide;
        let kernel = kernels::gemm_bf16_wide::KERNEL.meta;
        vec![Config::plain(kernel, kernels::threads(choice), kernels::shared(choice))]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        for flag in ["out_f32", "bias", "residual"] {
            if dims.u64(flag) > 1 {
                return Err(format!("{flag} = {}: it is 0 or 1", dims.u64(flag)));
            }
        }
        if dims.u64("out_f32") == 1 && dims.u64("residual") == 1 {
            return Err("out_f32 = 1 with residual = 1: a residual is added to a 16-bit output".into());
        }
        check_tiles(dims.u64("n_tok"), dims.u64("n"))
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases = Vec::new();
        let edges = [1, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129];
        for (i, &m) in edges.iter().enumerate() {
            let n = edges[(i + 5) % edges.len()];
            let k = [8, 1, 7, 9, 63, 64, 65, 127, 128, 129, 200, 257][i];
            cases.push(case("edge", [n, k, m], FLAGS[i % 6], Values::WideRange));
            cases.push(case("edge", [m, k, n], FLAGS[(i + 3) % 6], Values::Normal).with_dtype("f16"));
        }
        // Widths that are no power of two, no tokens, and enough tiles for the widest ones.
        cases.push(case("edge", [1856, 72, 3], FLAGS[0], Values::Normal));
        cases.push(case("edge", [33, 40, 0], FLAGS[0], Values::Normal));
        cases.push(case("edge", [1025, 24, 1921], FLAGS[4], Values::WideRange));
        for &values in Self::VALUES {
            cases.push(case("edge", [40, 136, 18], FLAGS[4], values));
            cases.push(case("edge", [40, 136, 18], FLAGS[1], values).with_dtype("f16"));
        }
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 32 + what, end);
        let n = near_an_edge(|what, end| draw(what, end));
        let k = near_an_edge(|what, end| draw(4 + what, end));
        let n_tok = match draw(8, 3) {
            0 => draw(9, 18),
            _ => near_an_edge(|what, end| draw(9 + what, end)),
        };
        let values = Self::VALUES[draw(13, Self::VALUES.len() as u64) as usize];
        let flags = FLAGS[draw(14, 6) as usize];
        case(&format!("case{i}"), [n, k, n_tok], flags, values).with_dtype(Self::DTYPES[draw(15, 3) as usize / 2])
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let choice = kernels::choose(dims.u32("n_tok"), dims.u32("n"));
        work(choice, dims, 2 * dims.u64("n") * dims.u64("k"), kernels::shared(choice))
    }

    fn problem(dims: &Dims, values: Values, dtype: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        Ok(match dtype {
            "f16" => Box::new(Data::<f16>::draw(dims, values, seed)),
            _ => Box::new(Data::<bf16>::draw(dims, values, seed)),
        })
    }
}

/// The tensors of a product on a device.
#[derive(Clone, Copy, Debug)]
pub struct Buffers<'a> {
    /// `[m][k]`.
    pub a: &'a Buffer,
    /// `[n][k]`.
    pub w: &'a Buffer,
    /// `[n]`.
    pub bias: Option<&'a Buffer>,
    /// `[m][n]`; not where y is f32.
    pub residual: Option<&'a Buffer>,
    /// `[m][n]`.
    pub y: &'a Buffer,
    /// Whether y is f32 and not of the operands' dtype.
    pub out_f32: bool,
}

/// y = a w^T + bias + residual by the plain kernel, for `[m, n, k]`, operands of dtype `T`. Nothing is launched where m is 0.
///
/// # Errors
/// [`OpError::Shape`]: a buffer is too small, n or k is 0, a residual with an f32 output. The device's.
pub fn multiply<T: Kernels>(
    device: &Device,
    stream: &Stream,
    buffers: Buffers,
    [m, n, k]: [u32; 3],
) -> Result<(), OpError> {
    let Buffers {
        a,
        w,
        bias,
        residual,
        y,
        out_f32,
    } = buffers;
    let (rows, columns, inner) = (m as usize, n as usize, k as usize);
    let needs = [
        (Some(a), 2 * rows * inner),
        (Some(w), 2 * columns * inner),
        (bias, 2 * columns),
        (residual, 2 * rows * columns),
        (Some(y), if out_f32 { 4 } else { 2 } * rows * columns),
    ];
    for (buffer, wanted) in needs {
        if let Some(buffer) = buffer.filter(|buffer| buffer.len_bytes() < wanted) {
            return Err(OpError::Shape(format!(
                "{} has {} bytes, and a product of [{m}][{k}] by [{n}][{k}] needs {wanted}",
                buffer.name(),
                buffer.len_bytes()
            )));
        }
    }
    if n == 0 || k == 0 {
        return Err(OpError::Shape(format!(
            "a product of [{m}][{k}] by [{n}][{k}]: n and k are at least 1"
        )));
    }
    if out_f32 && residual.is_some() {
        return Err(OpError::Shape(
            "a residual is added to a 16-bit output, and y is f32".into(),
        ));
    }
    if m == 0 {
        return Ok(());
    }
    let choice = kernels::choose(m, n);
    let optional = |buffer: Option<&Buffer>| buffer.map_or(std::ptr::null(), |b| b.ptr_as::<u16>().cast_const());
    let args = (
        a.ptr_as::<u16>().cast_const(),
        w.ptr_as::<u16>().cast_const(),
        optional(bias),
        optional(residual),
        y.ptr(),
        m,
        n,
        k,
        u32::from(out_f32),
    );
    let dims = launch_dims(choice, m, n, kernels::shared(choice));
    Ok(device.launch(stream, &T::kernel(choice), dims, args)?)
}

/// A dtype of operands.
pub trait Kernels: Element + Float + Number {
    /// The kernel of a tile.
    #[doc(hidden)]
    fn kernel(choice: Choice) -> Kernel;
}

/// The kernels' type.
pub type Kernel = cuda_std::launch::Kernel<(
    *const u16,
    *const u16,
    *const u16,
    *const u16,
    *mut u8,
    u32,
    u32,
    u32,
    u32,
)>;

impl Kernels for bf16 {
    fn kernel(choice: Choice) -> Kernel {
        match choice {
            Choice::Wide => kernels::gemm_bf16_wide::KERNEL,
            Choice::Middle => kernels::gemm_bf16_middle::KERNEL,
            Choice::Thin => kernels::gemm_bf16_thin::KERNEL,
        }
    }
}

impl Kernels for f16 {
    fn kernel(choice: Choice) -> Kernel {
        match choice {
            Choice::Wide => kernels::gemm_f16_wide::KERNEL,
            Choice::Middle => kernels::gemm_f16_middle::KERNEL,
            Choice::Thin => kernels::gemm_f16_thin::KERNEL,
        }
    }
}

/// The data of a case.
#[derive(Clone)]
struct Data<T> {
    m: usize,
    n: usize,
    k: usize,
    out_f32: bool,
    a: Vec<T>,
    w: Vec<T>,
    bias: Option<Vec<T>>,
    residual: Option<Vec<T>>,
}

impl<T: Kernels> Data<T> {
    fn draw(dims: &Dims, values: Values, seed: u64) -> Self {
        let (m, n, k) = (dims.usize("n_tok"), dims.usize("n"), dims.usize("k"));
        let draw = Draw { seed, values };
        let some = |name: &str, rows: usize| {
            let given = dims.u64(name) == 1;
            given.then(|| draw.floats(&format!("gemm {name}"), rows, n, 1.0))
        };
        Self {
            m,
            n,
            k,
            out_f32: dims.u64("out_f32") == 1,
            a: draw.floats("gemm a", m, k, 1.0),
            // Outputs of a standard deviation of about 1.
            w: draw.floats("gemm w", n, k, (1.0 / k as f32).sqrt()),
            bias: some("bias", 1),
            residual: some("residual", m),
        }
    }

    fn operands(&self) -> Operands<'_, T> {
        Operands {
            a: &self.a,
            w: &self.w,
            bias: self.bias.as_deref(),
            residual: self.residual.as_deref(),
            m: self.m,
            n: self.n,
            k: self.k,
        }
    }

    /// Rows `first` to `last` by themselves.
    fn part(&self, first: usize, last: usize) -> Self {
        Self {
            m: last - first,
            a: self.a[first * self.k..last * self.k].to_vec(),
            residual: self
                .residual
                .as_ref()
                .map(|r| r[first * self.n..last * self.n].to_vec()),
            ..self.clone()
        }
    }

    fn alone(&self, name: &'static str, first: usize, last: usize) -> Alone {
        let (at, count) = (first * self.n, (last - first) * self.n);
        let same = if self.out_f32 {
            Same::new::<f32>("y", at, 0, count)
        } else {
            Same::new::<T>("y", at, 0, count)
        };
        let problem = Box::new(self.part(first, last));
        Alone {
            name,
            problem,
            same: vec![same],
        }
    }
}

impl<T: Kernels> Problem for Data<T> {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let mut tensors = vec![
            Tensor::weight("w", &[("n", self.n), ("k", self.k)], &self.w),
            Tensor::input("a", &[("n_tok", self.m), ("k", self.k)], &self.a),
        ];
        if let Some(bias) = &self.bias {
            tensors.push(Tensor::input("bias", &[("n", self.n)], bias));
        }
        if let Some(residual) = &self.residual {
            tensors.push(Tensor::input("residual", &[("n_tok", self.m), ("n", self.n)], residual));
        }
        let y = [("n_tok", self.m), ("n", self.n)];
        tensors.push(if self.out_f32 {
            Tensor::output::<f32>("y", &y)
        } else {
            Tensor::output::<T>("y", &y)
        });
        tensors
    }

    fn launch(&self, device: &Device, stream: &Stream, _: &str, tensors: &Bound) -> Result<(), OpError> {
        let optional = |name: &str, given: bool| given.then(|| tensors.buffer(name)).transpose();
        let buffers = Buffers {
            a: tensors.buffer("a")?,
            w: tensors.buffer("w")?,
            bias: optional("bias", self.bias.is_some())?,
            residual: optional("residual", self.residual.is_some())?,
            y: tensors.buffer("y")?,
            out_f32: self.out_f32,
        };
        multiply::<T>(device, stream, buffers, [self.m as u32, self.n as u32, self.k as u32])
    }

    fn reference(&self) -> Result<Answer, OpError> {
        let operands = self.operands();
        let places = places(self.m, self.n, self.k);
        let at = places.clone().unwrap_or_else(|| operands.everywhere());
        Ok(if self.out_f32 {
            answer(self.n, places, &operands.f32_at(&at)?)
        } else {
            answer(self.n, places, &operands.at(&at)?)
        })
    }

    /// A row alone takes the thin tile whatever the batch takes, so this is also decode against prefill (L3).
    fn alone(&self, pick: Random) -> Vec<Alone> {
        if self.m < 2 {
            return Vec::new();
        }
        let rows = sample(pick, 3, self.m);
        let mut parts: Vec<Alone> = rows
            .into_iter()
            .map(|row| self.alone("row alone", row, row + 1))
            .collect();
        let split = if self.m > 64 { 64 } else { self.m / 2 };
        parts.push(self.alone("rows after a split", split, self.m));
        parts
    }
}
