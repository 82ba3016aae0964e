//! `rope`: rotary position embedding of the heads of a packed tensor.

use half::bf16;
use kernels_gpu::rope::{THREADS, rope_bf16, shared_bytes};

use crate::cost::Work;
use crate::device::{DevPtr, Device, LaunchDims, Stream};
use crate::op::call::{Call, MODEL, expect_plain, refused};
use crate::op::data::{Draw, rows};
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Axis, Bound, Config, Dims, Piece, Problem, Same, Spec, Tensor, bytes, sample};
use crate::op::{Case, OpError, Values};
use crate::reference;

/// The operation.
pub struct Rope;

/// The base of the frequencies drawn.
const BASE: f64 = 10_000.0;
/// The CPU reference turns up to so many elements (about a second of a core), beyond it [`SAMPLED_ROWS`] tokens.
const CPU_LIMIT: usize = 1 << 24;
const SAMPLED_ROWS: usize = 64;

fn case(name: &str, [n_tok, heads, head_dim, rot]: [u64; 4], interleaved: u64, values: Values) -> Case {
    let dims = [
        ("n_tok", n_tok),
        ("heads", heads),
        ("head_dim", head_dim),
        ("rot", rot),
        ("interleaved", interleaved),
    ];
    Case::of::<Rope>("random", name, &dims, values)
}

/// The most elements of a head that are turned: their cosines and sines lie in shared memory.
const MAX_ROT: u64 = 8192;

/// Refuses what the kernel cannot turn or count.
fn check_sizes(heads: u64, head_dim: u64, rot: u64) -> Result<(), String> {
    if !rot.is_multiple_of(2) || rot > head_dim || rot > MAX_ROT {
        return Err(format!(
            "rot = {rot}: an even number up to head_dim = {head_dim}, and at the most {MAX_ROT}"
        ));
    }
    if (heads + 1) * head_dim >= 1 << 31 {
        return Err(format!(
            "heads = {heads}, head_dim = {head_dim}: a token has 2^31 elements at the most"
        ));
    }
    Ok(())
}

/// The elements turned: 0 stands for all.
fn rot(dims: &Dims) -> u64 {
    match dims.u64("rot") {
        0 => dims.u64("head_dim"),
        rot => rot,
    }
}

impl Spec for Rope {
    const NAME: &'static str = "rope";
    const SUMMARY: &'static str = "rotary position embedding, of a part of each head too; halves or interleaved pairs";
    const AXES: &'static [Axis] = &[
        Axis::tokens(),
        Axis::required("heads"),
        Axis::required("head_dim"),
        Axis::optional("rot", 0).at_least(0),
        Axis::optional("interleaved", 0).at_least(0),
    ];
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
        vec![Config::plain(rope_bf16::KERNEL.meta, THREADS, 0)]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        dims.check_product(&["n_tok", "heads", "head_dim"], 1)?;
        if dims.u64("interleaved") > 1 {
            return Err(format!("interleaved = {}: it is 0 or 1", dims.u64("interleaved")));
        }
        check_sizes(dims.u64("heads"), dims.u64("head_dim"), rot(dims))
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases = Vec::new();
        // Whole vectors and broken ones, all of a head and a part; two heads are turned in place, three are not.
        let sizes = [
            (2, 0),
            (6, 4),
            (64, 0),
            (64, 32),
            (128, 0),
            (256, 64),
            (80, 24),
            (20, 0),
            (22, 10),
        ];
        for (head_dim, rot) in sizes {
            for heads in [2, 3] {
                for interleaved in [0, 1] {
                    cases.push(case("edge", [3, heads, head_dim, rot], interleaved, Values::Normal));
                }
            }
        }
        // Another order of a pair's product and sum shows in one of some ten thousand results.
        cases.push(case("edge", [200, 8, 128, 0], 0, Values::Normal));
        cases.push(case("edge", [200, 8, 128, 0], 1, Values::Normal));
        for n_tok in [0, 1, 17] {
            cases.push(case("edge", [n_tok, 4, 64, 0], 0, Values::Normal));
        }
        for &values in Self::VALUES {
            cases.push(case("edge", [4, 2, 32, 16], 0, values));
            cases.push(case("edge", [4, 3, 32, 16], 1, values));
        }
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 16 + what, end);
        let head_dim = if draw(0, 2) == 0 {
            2 * (1 + draw(1, 70))
        } else {
            16 << draw(1, 5)
        };
        let rot = if draw(2, 2) == 0 {
            0
        } else {
            2 * (1 + draw(3, head_dim / 2))
        };
        let values = Self::VALUES[draw(4, Self::VALUES.len() as u64) as usize];
        case(
            &format!("case{i}"),
            [draw(5, 9), 1 + draw(6, 9), head_dim, rot],
            draw(7, 2),
            values,
        )
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let (n_tok, heads) = (dims.u64("n_tok"), dims.u64("heads"));
        // In place only the turned elements move.
        let width = if heads.is_multiple_of(2) {
            rot(dims)
        } else {
            dims.u64("head_dim")
        };
        Work {
            read_bytes: n_tok * (heads * width * 2 + 4) + 2 * rot(dims),
            write_bytes: n_tok * heads * width * 2,
            blocks: n_tok,
            threads: THREADS,
            shared_bytes: shared_bytes(rot(dims) as u32),
            ..Work::default()
        }
    }

    fn problem(dims: &Dims, values: Values, _: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        let draw = Draw { seed, values };
        let (n_tok, heads, head_dim) = (dims.usize("n_tok"), dims.usize("heads"), dims.usize("head_dim"));
        let rot = rot(dims);
        // Ordinary positions, and among them negative and huge ones: f32 does not hold all of those.
        let random = draw.random("rope positions");
        let position = |i: u64| match random.below(2 * i, 16) {
            0 => random.at(2 * i + 1) as i32,
            1 => 16_777_217 + random.below(2 * i + 1, 1000) as i32,
            _ => random.below(2 * i + 1, 262_144) as i32,
        };
        let frequency = |i: u64| BASE.powf(-2.0 * i as f64 / rot as f64) as f32;
        Ok(Box::new(Data {
            n_tok,
            heads,
            head_dim,
            interleaved: dims.u64("interleaved") == 1,
            x: draw.floats("rope x", n_tok * (heads + 1), head_dim, 1.0),
            positions: (0..n_tok as u64).map(position).collect(),
            inv_freq: (0..rot / 2).map(frequency).collect(),
        }))
    }
}

/// The rotary embedding of every head of every token. The order is docs/numerics.md's, "RoPE, KV append".
#[derive(Clone, Copy, Debug)]
pub struct RopeCall {
    /// `[n_tok][heads][head_dim]`: q and k of a packed projection are heads of one call.
    pub x: DevPtr<bf16>,
    /// `[n_tok][heads][head_dim]`; may be `x`, with the same stride.
    pub y: DevPtr<bf16>,
    /// `[n_tok]`.
    pub positions: DevPtr<i32>,
    /// `[rot / 2]`.
    pub inv_freq: DevPtr<f32>,
    /// Tokens.
    pub n_tok: u32,
    /// Heads of a token, one after another.
    pub heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// Elements of a head that are turned, the first ones: even, at most `head_dim`.
    pub rot: u32,
    /// Pairs are neighbours, in place of (i, i + rot / 2).
    pub interleaved: bool,
    /// Elements from a token of `x` to the next.
    pub x_stride: u32,
    /// Elements from a token of `y` to the next.
    pub y_stride: u32,
}

impl Call for RopeCall {
    fn case(&self) -> Case {
        let sizes = [self.n_tok, self.heads, self.head_dim, self.rot].map(u64::from);
        let case = case(Rope::NAME, sizes, self.interleaved.into(), Values::Normal);
        let model = MODEL.into();
        Case { model, ..case }
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        expect_plain(Rope::NAME, config)?;
        let (heads, head_dim, rot) = (self.heads, self.head_dim, self.rot);
        check_sizes(heads.into(), head_dim.into(), rot.into()).map_err(|why| refused(Rope::NAME, why))?;
        if self.n_tok == 0 || heads == 0 || head_dim == 0 {
            return Ok(());
        }
        let args = (
            self.x.get(),
            self.y.get_mut(),
            self.positions.get(),
            self.inv_freq.get(),
            heads,
            head_dim,
            rot,
            u32::from(self.interleaved),
            self.x_stride,
            self.y_stride,
        );
        let dims = LaunchDims::new(self.n_tok, THREADS).shared(shared_bytes(rot));
        Ok(device.launch(stream, &rope_bf16::KERNEL, dims, args)?)
    }
}

/// The data of a case: x `[n_tok][heads + 1][head_dim]`, of which the last head is not turned. An even number of heads
/// is turned in place, an odd one to y `[n_tok][heads][head_dim]`.
struct Data {
    n_tok: usize,
    heads: usize,
    head_dim: usize,
    interleaved: bool,
    x: Vec<bf16>,
    positions: Vec<i32>,
    inv_freq: Vec<f32>,
}

impl Data {
    fn in_place(&self) -> bool {
        self.heads.is_multiple_of(2)
    }

    /// Elements of a token of x, and of the result.
    fn widths(&self) -> (usize, usize) {
        let x = (self.heads + 1) * self.head_dim;
        (x, if self.in_place() { x } else { self.heads * self.head_dim })
    }

    /// Turns a token's row of x as it is into its row of the result.
    fn turn(&self, token: usize, row: &mut [bf16]) {
        let (width, _) = self.widths();
        row.copy_from_slice(&self.x[token * width..][..row.len()]);
        for head in row.chunks_mut(self.head_dim).take(self.heads) {
            reference::rope::rope(head, self.positions[token], &self.inv_freq, self.interleaved);
        }
    }
}

impl Problem for Data {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let (tokens, elements) = (("n_tok", self.n_tok), ("element", self.head_dim));
        let mut all = vec![
            Tensor::input("positions", &[tokens], &self.positions),
            Tensor::input("inv_freq", &[("pair", self.inv_freq.len())], &self.inv_freq),
        ];
        if self.in_place() {
            all.push(Tensor::in_out(
                "y",
                &[tokens, ("head", self.heads + 1), elements],
                &self.x,
            ));
        } else {
            all.push(Tensor::weight(
                "x",
                &[tokens, ("head", self.heads + 1), elements],
                &self.x,
            ));
            all.push(Tensor::output::<bf16>("y", &[tokens, ("head", self.heads), elements]));
        }
        all
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, tensors: &Bound) -> Result<(), OpError> {
        let (x_stride, y_stride) = self.widths();
        let call = RopeCall {
            x: tensors.at(if self.in_place() { "y" } else { "x" })?,
            y: tensors.at("y")?,
            positions: tensors.at("positions")?,
            inv_freq: tensors.at("inv_freq")?,
            n_tok: self.n_tok as u32,
            heads: self.heads as u32,
            head_dim: self.head_dim as u32,
            rot: 2 * self.inv_freq.len() as u32,
            interleaved: self.interleaved,
            x_stride: x_stride as u32,
            y_stride: y_stride as u32,
        };
        call.launch(device, stream, config)
    }

    fn reference(&self) -> Result<Answer, OpError> {
        let (_, width) = self.widths();
        if self.x.len() <= CPU_LIMIT {
            let mut y = vec![bf16::ZERO; self.n_tok * width];
            rows(&mut y, width, |token, row| self.turn(token, row));
            return Ok(Answer::Whole(vec![bytes(&y)]));
        }
        let piece = |token| {
            let mut row = vec![bf16::ZERO; width];
            self.turn(token, &mut row);
            Piece::new("y", token * width, &row)
        };
        let tokens = sample(Random::new(0, "rope pieces"), SAMPLED_ROWS, self.n_tok);
        Ok(Answer::Pieces(tokens.into_iter().map(piece).collect()))
    }

    fn alone(&self, pick: Random) -> Vec<Alone> {
        if self.n_tok < 2 {
            return Vec::new();
        }
        let (x_width, width) = self.widths();
        let row = |token: usize| Alone {
            name: "row alone",
            problem: Box::new(Data {
                n_tok: 1,
                x: self.x[token * x_width..][..x_width].to_vec(),
                positions: vec![self.positions[token]],
                inv_freq: self.inv_freq.clone(),
                ..*self
            }),
            same: vec![Same::new::<bf16>("y", token * width, 0, width)],
        };
        sample(pick, 3, self.n_tok).into_iter().map(row).collect()
    }
}
