//! `nvfp4_matmul`: y = a w^T with NVFP4 weights.

use half::{bf16, f16};
use kernels_gpu::gemm::{self as tiles, Choice};
use kernels_gpu::nvfp4_matmul as kernels;

use super::weights::{Convention, Matmul};
use super::{BLOCK, Nvfp4MatmulCall};
use crate::cost::Work;
use crate::device::{DevPtr, Device, Stream};
use crate::op::call::Call;
use crate::op::data::{Draw, Float};
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Axis, Bound, Config, Dims, Problem, Same, Spec, Tensor};
use crate::op::{Case, OpError, Values};
use crate::ops::gemm::common::{answer, check_tiles, near_an_edge, places, rows_alone, work};
use crate::reference::gemm::{Number, Operands};
use crate::reference::nvfp4::{Product, Weights};

/// The operation.
pub struct Nvfp4Matmul;

fn case(name: &str, sizes: [u64; 3], flags: [u64; 3], values: Values) -> Case {
    let [n, k, n_tok] = sizes;
    let [convention, out_f32, bias] = flags;
    let dims = [
        ("n", n),
        ("k", k),
        ("n_tok", n_tok),
        ("convention", convention),
        ("out_f32", out_f32),
        ("bias", bias),
    ];
    Case::of::<Nvfp4Matmul>("random", name, &dims, values)
}

/// Whose convention, whether y is f32, with bias.
const FLAGS: [[u64; 3]; 6] = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 1], [1, 0, 1]];

impl Spec for Nvfp4Matmul {
    const NAME: &'static str = "nvfp4_matmul";
    const SUMMARY: &'static str = "y = a w^T with NVFP4 weights, 16-bit activations (W4A16)";
    const AXES: &'static [Axis] = &[
        Axis::required("n").in_rows(true),
        Axis::required("k"),
        Axis::tokens(),
        Axis::optional("convention", 0).at_least(0),
        Axis::optional("out_f32", 0).at_least(0),
        Axis::optional("bias", 0).at_least(0),
    ];
    const DTYPES: &'static [&'static str] = &["bf16", "f16"];
    const VALUES: &'static [Values] = &[
        Values::Normal,
        Values::Zeros,
        Values::SubnormalScales,
        Values::MaximalScales,
        Values::NegativeScales,
        Values::NonFinite,
        Values::NonFiniteScales,
        Values::Cancelling,
        Values::Huge,
        Values::Tiny,
        Values::Single,
        Values::WideRange,
    ];

    fn configs() -> Vec<Config> {
        let choice = Choice::Wide;
        let kernel = kernels::nvfp4_matmul_bf16_wide::KERNEL.meta;
        vec![Config::plain(kernel, tiles::threads(choice), kernels::shared(choice))]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        for flag in ["convention", "out_f32", "bias"] {
            if dims.u64(flag) > 1 {
                return Err(format!("{flag} = {}: it is 0 or 1", dims.u64(flag)));
            }
        }
        if !dims.u64("k").is_multiple_of(u64::from(BLOCK)) {
            return Err(format!("k = {}: NVFP4 has blocks of {BLOCK} along k", dims.u64("k")));
        }
        dims.check_product(&["n_tok", "n", "k"], 1)?;
        check_tiles(dims.u64("n_tok"), dims.u64("n"))
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases = Vec::new();
        let edges = [1, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129];
        for (i, &m) in edges.iter().enumerate() {
            let n = edges[(i + 5) % edges.len()];
            let k = [16, 32, 48, 64, 80, 112, 128, 144, 240, 256, 272, 1104][i];
            cases.push(case("edge", [n, k, m], FLAGS[i % 6], Values::WideRange));
            cases.push(case("edge", [m, k, n], FLAGS[(i + 3) % 6], Values::Normal).with_dtype("f16"));
        }
        cases.push(case("edge", [1856, 96, 3], FLAGS[0], Values::Normal));
        cases.push(case("edge", [33, 48, 0], FLAGS[0], Values::Normal));
        // Enough tiles for the widest ones.
        cases.push(case("edge", [1025, 32, 1921], FLAGS[5], Values::WideRange));
        cases.push(case("edge", [16_257, 16, 17], FLAGS[2], Values::WideRange));
        cases.push(case("edge", [897, 16, 1921], FLAGS[0], Values::WideRange).with_dtype("f16"));
        cases.push(case("edge", [16_257, 32, 33], FLAGS[5], Values::WideRange).with_dtype("f16"));
        cases.push(case("edge", [17, 16, 16_257], FLAGS[2], Values::WideRange).with_dtype("f16"));
        for &values in Self::VALUES {
            cases.push(case("edge", [40, 144, 18], FLAGS[5], values));
            cases.push(case("edge", [40, 144, 18], FLAGS[2], values).with_dtype("f16"));
        }
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 32 + what, end);
        let n = near_an_edge(draw);
        let k = 16 * (1 + draw(4, if draw(5, 4) == 0 { 80 } else { 20 }));
        let n_tok = match draw(8, 3) {
            0 => draw(9, 18),
            _ => near_an_edge(|what, end| draw(9 + what, end)),
        };
        let values = Self::VALUES[draw(13, Self::VALUES.len() as u64) as usize];
        let flags = FLAGS[draw(14, 6) as usize];
        case(&format!("case{i}"), [n, k, n_tok], flags, values).with_dtype(Self::DTYPES[draw(15, 3) as usize / 2])
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let choice = tiles::choose(dims.u32("n_tok"), dims.u32("n"));
        // Half a byte a code, a byte for 16 of them.
        let weight_bytes = dims.u64("n") * dims.u64("k") / 16 * 9 + 4;
        work(choice, dims, weight_bytes, kernels::shared(choice))
    }

    fn problem(dims: &Dims, values: Values, dtype: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        Ok(match dtype {
            "f16" => Box::new(Data::<f16>::draw(dims, values, seed)?),
            _ => Box::new(Data::<bf16>::draw(dims, values, seed)?),
        })
    }
}

/// Block scales of a kind of values. Ordinary ones are from 2^-3 to 14.
fn draw_scales(draw: Draw, count: usize) -> Vec<u8> {
    let random = draw.random("nvfp4_matmul scale kinds");
    let ordinary = draw.below("nvfp4_matmul scales", count, 48);
    let scale = |(i, ordinary): (usize, u32)| {
        let ordinary = 0x20 + ordinary as u8;
        let bits = random.at(i as u64);
        match draw.values {
            // Zero and the seven subnormals, of both signs.
            Values::SubnormalScales => (bits & 0x87) as u8,
            Values::MaximalScales => 0x7E | (bits & 0x80) as u8,
            Values::NegativeScales => ordinary | (bits & 0x80) as u8,
            Values::NonFiniteScales if bits.is_multiple_of(61) => 0x7F | (bits >> 32 & 0x80) as u8,
            // Any that is a number.
            Values::WideRange => ((bits % 0x7F) | (bits >> 32 & 0x80)) as u8,
            Values::Zeros => 0,
            _ => ordinary,
        }
    };
    ordinary.into_iter().enumerate().map(scale).collect()
}

/// The data of a case.
#[derive(Clone)]
struct Data<T> {
    m: usize,
    n: usize,
    k: usize,
    convention: Convention,
    out_f32: bool,
    a: Vec<T>,
    codes: Vec<u8>,
    scales: Vec<u8>,
    tensor_scale: [f32; 1],
    bias: Option<Vec<T>>,
}

impl<T: Matmul + Float + Number> Data<T> {
    fn draw(dims: &Dims, values: Values, seed: u64) -> Result<Self, OpError> {
        let (m, n, k) = (dims.usize("n_tok"), dims.usize("n"), dims.usize("k"));
        let number = dims.u64("convention");
        let convention = Convention::from_number(number)
            .ok_or_else(|| OpError::Shape(format!("nvfp4_matmul: convention = {number}; it is 0 or 1")))?;
        let draw = Draw { seed, values };
        // Weights of about 1 / sqrt(k) come from codes and scales of about 3 each; no power of two.
        let scale = draw.ordinary::<f32>("nvfp4_matmul tensor scale", 1, 1, 0.2)[0].abs() + 0.1;
        let scale = scale / (k as f32).sqrt();
        Ok(Self {
            m,
            n,
            k,
            convention,
            out_f32: dims.u64("out_f32") == 1,
            a: draw.floats("nvfp4_matmul a", m, k, 1.0),
            codes: draw.bytes("nvfp4_matmul codes", n * k / 2),
            scales: draw_scales(draw, n * k / 16),
            tensor_scale: [match convention {
                Convention::ModelOpt => scale,
                Convention::CompressedTensors => 1.0 / scale,
            }],
            bias: (dims.u64("bias") == 1).then(|| draw.floats("nvfp4_matmul bias", 1, n, 1.0)),
        })
    }

    /// Rows `first` to `last` by themselves.
    fn alone(&self, name: &'static str, first: usize, last: usize) -> Alone {
        let part = Self {
            m: last - first,
            a: self.a[first * self.k..last * self.k].to_vec(),
            ..self.clone()
        };
        let (at, count) = (first * self.n, (last - first) * self.n);
        let same = if self.out_f32 {
            Same::new::<f32>("y", at, 0, count)
        } else {
            Same::new::<T>("y", at, 0, count)
        };
        let problem = Box::new(part);
        Alone {
            name,
            problem,
            same: vec![same],
        }
    }
}

impl<T: Matmul + Float + Number> Problem for Data<T> {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let mut tensors = vec![
            Tensor::weight("codes", &[("n", self.n), ("k / 2", self.k / 2)], &self.codes),
            Tensor::weight("scales", &[("n", self.n), ("k / 16", self.k / 16)], &self.scales),
            Tensor::input("tensor_scale", &[("one", 1)], &self.tensor_scale),
            Tensor::input("a", &[("n_tok", self.m), ("k", self.k)], &self.a),
        ];
        if let Some(bias) = &self.bias {
            tensors.push(Tensor::input("bias", &[("n", self.n)], bias));
        }
        let y = [("n_tok", self.m), ("n", self.n)];
        tensors.push(if self.out_f32 {
            Tensor::output::<f32>("y", &y)
        } else {
            Tensor::output::<T>("y", &y)
        });
        tensors
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, tensors: &Bound) -> Result<(), OpError> {
        let bias = match self.bias {
            Some(_) => tensors.at("bias")?,
            None => DevPtr::NULL,
        };
        let call = Nvfp4MatmulCall::<T> {
            a: tensors.at("a")?,
            codes: tensors.at("codes")?,
            scales: tensors.at("scales")?,
            tensor_scale: tensors.at("tensor_scale")?,
            convention: self.convention,
            bias,
            y: DevPtr::of(tensors.buffer("y")?),
            m: self.m as u32,
            n: self.n as u32,
            k: self.k as u32,
            out_f32: self.out_f32,
        };
        call.launch(device, stream, config)
    }

    fn reference(&self) -> Result<Answer, OpError> {
        let weights = Weights {
            codes: &self.codes,
            scales: &self.scales,
            n: self.n,
            k: self.k,
        };
        let w = weights.dequantised::<T>()?;
        let operands = Operands {
            a: &self.a,
            w: &w,
            bias: None,
            residual: None,
            m: self.m,
            n: self.n,
            k: self.k,
        };
        let product = Product {
            operands,
            tensor_scale: self.tensor_scale[0],
            convention: self.convention.reference(),
            bias: self.bias.as_deref(),
        };
        let places = places(self.m, self.n, self.k);
        let at = places.clone().unwrap_or_else(|| operands.everywhere());
        Ok(if self.out_f32 {
            answer(self.n, places, &product.f32_at(&at)?)
        } else {
            answer(self.n, places, &product.at(&at)?)
        })
    }

    /// A row alone takes the thin tile whatever the batch takes, so this is also decode against prefill (L3).
    fn alone(&self, pick: Random) -> Vec<Alone> {
        rows_alone(pick, self.m, |name, first, end| self.alone(name, first, end))
    }
}
