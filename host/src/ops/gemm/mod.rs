//! `gemm`: y = a w^T + bias + residual, bf16 or f16.

mod call;
mod cases;
pub(in crate::ops) mod common;
mod family;
mod multiply;
mod problem;

pub use call::GemmCall;
pub use multiply::{Buffers, Kernel, Kernels, multiply};

use half::{bf16, f16};

use crate::cost::Work;
use crate::op::random::Random;
use crate::op::spec::{Axis, Config, Dims, Problem, Spec};
use crate::op::{Case, OpError, Values};
use common::check_tiles;
use family::Sizes;
use problem::Data;

/// The operation.
pub struct Gemm;

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
        family::all().map(|family| family.config()).collect()
    }

    fn admits(dims: &Dims, config: &str) -> Result<(), String> {
        let family = family::find(config).map_err(|error| error.to_string())?;
        family.admits(Sizes::of(dims))
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
        cases::edges()
    }

    fn random_case(random: Random, i: u64) -> Case {
        cases::random(random, i)
    }

    fn work(dims: &Dims, config: &str, sm_count: u32) -> Work {
        family::find(config).map_or_else(|_| Work::default(), |family| family.work(dims, sm_count))
    }

    fn problem(dims: &Dims, values: Values, dtype: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        Ok(match dtype {
            "f16" => Box::new(Data::<f16>::draw(dims, values, seed)),
            _ => Box::new(Data::<bf16>::draw(dims, values, seed)),
        })
    }
}
