//! `nvfp4_quantize`: a bf16 matrix to NVFP4, in either checkpoint's convention.

use half::bf16;
use kernels_gpu::nvfp4_quantize::{AMAX_BLOCKS, BLOCK, THREADS, nvfp4_amax, nvfp4_quantize};

use super::Convention;
use crate::cost::Work;
use crate::device::{Device, LaunchDims, Stream};
use crate::op::data::Draw;
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Axis, Bound, Config, Dims, Piece, Problem, Same, Spec, Tensor, sample};
use crate::op::{Case, OpError, Values};
use crate::reference::nvfp4;

/// The operation.
pub struct Nvfp4Quantize;

/// The CPU reference quantises up to so many values (a second of a core), beyond it [`SAMPLED_ROWS`] rows.
const CPU_LIMIT: usize = 1 << 24;
const SAMPLED_ROWS: usize = 64;

fn case(name: &str, rows: u64, k: u64, convention: u64, values: Values) -> Case {
    let dims = [("rows", rows), ("k", k), ("convention", convention)];
    Case::of::<Nvfp4Quantize>("random", name, &dims, values)
}

impl Spec for Nvfp4Quantize {
    const NAME: &'static str = "nvfp4_quantize";
    const SUMMARY: &'static str = "bf16 weights to NVFP4 codes, block scales and tensor scale";
    const AXES: &'static [Axis] = &[
        Axis::required("rows").at_least(0),
        Axis::required("k"),
        Axis::optional("convention", 0).at_least(0),
    ];
    const DTYPES: &'static [&'static str] = &["bf16"];
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
        vec![Config::plain(nvfp4_quantize::KERNEL.meta, THREADS, 0)]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        let (rows, k) = (dims.u64("rows"), dims.u64("k"));
        if dims.u64("convention") > 1 {
            return Err(format!("convention = {}: it is 0 or 1", dims.u64("convention")));
        }
        if !k.is_multiple_of(u64::from(BLOCK)) {
            return Err(format!("k = {k}: NVFP4 has blocks of {BLOCK} along k"));
        }
        if rows * k / u64::from(BLOCK) >= 1 << 31 {
            return Err(format!("rows = {rows}, k = {k}: 2^31 blocks of {BLOCK} or more"));
        }
        Ok(())
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for convention in [0, 1] {
            for (rows, k) in [
                (0, 16),
                (1, 16),
                (1, 32),
                (3, 48),
                (255, 16),
                (256, 16),
                (257, 16),
                (33, 1024),
            ] {
                cases.push(case("edge", rows, k, convention, Values::WideRange));
            }
            for &values in Self::VALUES {
                cases.push(case("edge", 5, 208, convention, values));
            }
        }
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 8 + what, end);
        let values = Self::VALUES[draw(2, Self::VALUES.len() as u64) as usize];
        let k = 16 * (1 + draw(1, 40));
        case(&format!("case{i}"), 1 + draw(0, 40), k, draw(3, 2), values)
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let values = dims.u64("rows") * dims.u64("k");
        let blocks = values / u64::from(BLOCK);
        Work {
            // Two passes: the second one needs the largest of all.
            read_bytes: 2 * values,
            passes: 2,
            write_bytes: 9 * blocks + 4,
            launches: 2,
            blocks: blocks.div_ceil(u64::from(THREADS)),
            threads: THREADS,
            ..Work::default()
        }
    }

    fn problem(dims: &Dims, values: Values, _: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        let (rows, k) = (dims.usize("rows"), dims.usize("k"));
        let number = dims.u64("convention");
        let convention = Convention::from_number(number)
            .ok_or_else(|| OpError::Shape(format!("nvfp4_quantize: convention = {number}; it is 0 or 1")))?;
        let x = Draw { seed, values }.floats("nvfp4_quantize x", rows, k, 0.1);
        Ok(Box::new(Data { rows, k, convention, x }))
    }
}

/// The data of a case.
struct Data {
    rows: usize,
    k: usize,
    convention: Convention,
    x: Vec<bf16>,
}

impl Data {
    fn blocks(&self) -> usize {
        self.x.len() / BLOCK as usize
    }
}

impl Problem for Data {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        // A matrix of no rows has no scale either.
        let one = usize::from(self.rows > 0);
        vec![
            Tensor::weight("x", &[("rows", self.rows), ("k", self.k)], &self.x),
            Tensor::scratch::<u32>("amax", &[("one", one)]),
            Tensor::output::<u8>("codes", &[("rows", self.rows), ("k / 2", self.k / 2)]),
            Tensor::output::<u8>("scales", &[("rows", self.rows), ("k / 16", self.k / 16)]),
            Tensor::output::<f32>("tensor_scale", &[("one", one)]),
        ]
    }

    fn launch(&self, device: &Device, stream: &Stream, _: &str, tensors: &Bound) -> Result<(), OpError> {
        if self.rows == 0 {
            return Ok(());
        }
        let blocks = self.blocks() as u32;
        let grid = blocks.div_ceil(THREADS);
        let (x, amax) = (tensors.ptr::<bf16>("x")?.cast(), tensors.ptr_mut::<u32>("amax")?);
        device.fill(stream, tensors.buffer("amax")?, 0)?;
        let dims = LaunchDims::new(grid.min(AMAX_BLOCKS), THREADS);
        device.launch(stream, &nvfp4_amax::KERNEL, dims, (x, amax, blocks))?;
        let args = (
            x,
            amax.cast_const(),
            tensors.ptr_mut("codes")?,
            tensors.ptr_mut("scales")?,
            tensors.ptr_mut("tensor_scale")?,
            blocks,
            self.convention.divide(),
        );
        Ok(device.launch(stream, &nvfp4_quantize::KERNEL, LaunchDims::new(grid, THREADS), args)?)
    }

    fn reference(&self) -> Result<Answer, OpError> {
        if self.rows == 0 {
            return Ok(Answer::Whole(vec![Vec::new(); 3]));
        }
        let convention = self.convention.reference();
        if self.x.len() <= CPU_LIMIT {
            let made = nvfp4::quantise(&self.x, self.rows, self.k, convention)?;
            let scale = made.tensor_scale.to_le_bytes().to_vec();
            return Ok(Answer::Whole(vec![made.codes, made.scales, scale]));
        }
        let tensor_scale = nvfp4::tensor_scale(&self.x, convention);
        let mut pieces = vec![Piece::new("tensor_scale", 0, &[tensor_scale])];
        for row in sample(Random::new(0, "nvfp4_quantize pieces"), SAMPLED_ROWS, self.rows) {
            let made = nvfp4::quantise_with(&self.x[row * self.k..][..self.k], tensor_scale, convention);
            pieces.push(Piece::new("codes", row * self.k / 2, &made.codes));
            pieces.push(Piece::new("scales", row * self.k / 16, &made.scales));
        }
        Ok(Answer::Pieces(pieces))
    }

    /// Some rows, each with the row of the matrix's largest value after it: every row depends on that value, and on nothing else of
    /// the others.
    fn alone(&self, pick: Random) -> Vec<Alone> {
        if self.rows < 3 {
            return Vec::new();
        }
        // The largest magnitude as bits; a NaN is larger than all numbers.
        let row = |row: usize| &self.x[row * self.k..][..self.k];
        let most = |x: &[bf16]| x.iter().map(|v| v.to_bits() & 0x7FFF).max();
        let largest = (0..self.rows).max_by_key(|&r| most(row(r))).unwrap_or(0);
        let part = |r: usize| Alone {
            name: "row with the largest value's",
            problem: Box::new(Data {
                rows: 2,
                k: self.k,
                convention: self.convention,
                x: [row(r), row(largest)].concat(),
            }),
            same: vec![
                Same::new::<u8>("codes", r * self.k / 2, 0, self.k / 2),
                Same::new::<u8>("scales", r * self.k / 16, 0, self.k / 16),
                Same::new::<f32>("tensor_scale", 0, 0, 1),
            ],
        };
        sample(pick, 3, self.rows).into_iter().map(part).collect()
    }
}
