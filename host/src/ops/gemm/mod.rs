//! `gemm`: y = a w^T + bias + residual, bf16 or f16.

mod call;
pub(in crate::ops) mod common;
mod multiply;
mod problem;

pub use call::GemmCall;
pub use multiply::{Buffers, Kernel, Kernels, multiply};

use half::{bf16, f16};
use kernels_gpu::gemm::{self as kernels, Choice};

use crate::cost::Work;
use crate::op::random::Random;
use crate::op::spec::{Axis, Config, Dims, Problem, Spec};
use crate::op::{Case, OpError, Values};
use common::{check_tiles, near_an_edge, work};
use problem::Data;

/// The operation.
pub struct Gemm;

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
        Axis::required("n").in_rows(true),
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
        dims.check_product(&["n_tok", "n", "k"], 1)?;
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
        cases.push(case("edge", [16_257, 17, 17], FLAGS[1], Values::WideRange));
        cases.push(case("edge", [897, 16, 1921], FLAGS[0], Values::WideRange).with_dtype("f16"));
        cases.push(case("edge", [16_257, 24, 33], FLAGS[4], Values::WideRange).with_dtype("f16"));
        cases.push(case("edge", [17, 32, 16_257], FLAGS[1], Values::WideRange).with_dtype("f16"));
        for &values in Self::VALUES {
            cases.push(case("edge", [40, 136, 18], FLAGS[4], values));
            cases.push(case("edge", [40, 136, 18], FLAGS[1], values).with_dtype("f16"));
        }
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 32 + what, end);
        let n = near_an_edge(draw);
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
