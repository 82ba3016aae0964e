//! `moe_grouped`: each expert's rows times its weights.

use std::sync::Arc;

use half::bf16;
use kernels_gpu::moe_grouped::{self as kernels, Choice, choose, launch};

use super::Skew;
use super::launch::MoeGroupedCall;
use super::weights::{Experts, Format, W};
use crate::cost::{Math, Work};
use crate::device::{Device, Stream};
use crate::op::call::Call;
use crate::op::data::Draw;
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Axis, Bound, Config, Dims, Piece, Problem, Same, Spec, Tensor, bytes, sample};
use crate::op::{Case, OpError, Values};
use crate::ops::gemm::common::{CPU_LIMIT, near_an_edge};
use crate::reference::moe::{self as reference, Sorted};

/// The operation.
pub struct MoeGrouped;

/// Rows and columns whose crossings are the sample of the CPU reference, beyond [`CPU_LIMIT`].
const SAMPLED: (usize, usize) = (32, 48);

/// `[n_tok, experts, top_k, n, k]`, then `[nvfp4, gather, skew]`.
fn case(name: &str, sizes: [u64; 5], kind: [u64; 3], values: Values) -> Case {
    let names = ["n_tok", "experts", "top_k", "n", "k", "nvfp4", "gather", "skew"];
    let all: Vec<(&str, u64)> = names.into_iter().zip(sizes.into_iter().chain(kind)).collect();
    Case::of::<MoeGrouped>("random", name, &all, values)
}

impl Spec for MoeGrouped {
    const NAME: &'static str = "moe_grouped";
    const SUMMARY: &'static str = "each expert's rows times its weights, rows and experts read on the device";
    const AXES: &'static [Axis] = &[
        Axis::tokens(),
        Axis::required("experts"),
        Axis::required("top_k"),
        Axis::required("n").in_rows(true),
        Axis::required("k"),
        Axis::optional("nvfp4", 0).at_least(0),
        Axis::optional("gather", 1).at_least(0),
        Axis::optional("skew", 0).at_least(0),
    ];
    const DTYPES: &'static [&'static str] = &["bf16"];
    /// With `NonFinite`, a quarter of the pairs have no expert either.
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
        let (_, threads, shared) = launch(Choice::Wide, false, 1, 1, 1);
        vec![Config::plain(
            kernels::moe_grouped_bf16_wide::KERNEL.meta,
            threads,
            shared,
        )]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        dims.check_product(&["experts", "n", "k"], 1)?;
        dims.check_product(&["n_tok", "top_k", "n", "k"], 1)?;
        let (n_tok, experts, top_k) = (dims.u64("n_tok"), dims.u64("experts"), dims.u64("top_k"));
        super::check_routing(n_tok, experts, top_k)?;
        super::check_flag(dims, "gather")?;
        Skew::new(dims.u64("skew"))?;
        Format::new(dims.u64("nvfp4"), &[("k", dims.u64("k"))])?;
        let pairs = n_tok * top_k;
        let (_, rows) = launch(
            choose(pairs as u32, experts as u32),
            false,
            pairs as u32,
            experts as u32,
            1,
        )
        .0;
        if rows > 65_535 {
            return Err(format!(
                "n_tok = {n_tok}, top_k = {top_k}: {rows} row tiles, and a grid has 65535"
            ));
        }
        Ok(())
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases = Vec::new();
        // Each tile, at its edges: rows of an expert about 16, 64 and 128, columns and k not whole.
        for (i, sizes) in [
            [1, 8, 2, 33, 8],
            [17, 4, 1, 31, 72],
            [9, 60, 4, 32, 65],
            [64, 2, 1, 65, 40],
            [65, 3, 2, 63, 129],
            [130, 1, 1, 127, 24],
            [129, 2, 2, 129, 33],
            [5, 1, 1, 128, 64],
            [3, 512, 10, 16, 16],
            [2, 256, 8, 1, 1],
            [0, 8, 2, 16, 16],
        ]
        .into_iter()
        .enumerate()
        {
            let i = i as u64;
            cases.push(case("edge", sizes, [0, i % 2, i % 3], Values::WideRange));
            let [n_tok, experts, top_k, n, k] = sizes;
            let sizes = [n_tok, experts, top_k, n, k.next_multiple_of(16)];
            cases.push(case(
                "edge",
                sizes,
                [1 + i % 2, (i + 1) % 2, (i + 1) % 3],
                Values::Normal,
            ));
        }
        for &values in Self::VALUES {
            cases.push(case("edge", [40, 6, 3, 40, 144], [0, 1, 1], values));
            cases.push(case("edge", [40, 6, 3, 40, 144], [1, 0, 0], values));
            cases.push(case("edge", [7, 60, 4, 24, 80], [2, 1, 0], values));
        }
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 32 + what, end);
        let experts = [1, 2, 3, 8, 60, 128][draw(0, 6) as usize];
        let top_k = 1 + draw(1, experts.min(8));
        let n_tok = [draw(2, 6), draw(2, 40), draw(2, 280 / top_k + 1)][draw(3, 3) as usize];
        // Every expert with a row is a tile of its own: many of them are kept small for the simulator.
        let most = if experts.min(n_tok * top_k) > 10 { 70 } else { 150 };
        let n = near_an_edge(|what, end| draw(4 + what, end)).min(most);
        let k = near_an_edge(|what, end| draw(8 + what, end)).min(150);
        let nvfp4 = draw(12, 5).saturating_sub(2);
        let k = if nvfp4 == 0 { k } else { k.next_multiple_of(16) };
        let values = Self::VALUES[draw(13, Self::VALUES.len() as u64) as usize];
        let kind = [nvfp4, draw(14, 2), draw(15, 3)];
        case(&format!("case{i}"), [n_tok, experts, top_k, n, k], kind, values)
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let (n_tok, experts, top_k) = (dims.u64("n_tok"), dims.u64("experts"), dims.u64("top_k"));
        let (n, k, pairs) = (dims.u64("n"), dims.u64("k"), n_tok * top_k);
        let format = Format::new(dims.u64("nvfp4"), &[]).unwrap_or(Format::Bf16);
        let (pairs32, experts32) = (pairs as u32, experts as u32);
        let nvfp4 = format != Format::Bf16;
        let ((x, y), threads, shared_bytes) =
            launch(choose(pairs32, experts32), nvfp4, pairs32, experts32, dims.u32("n"));
        let rows = if dims.u64("gather") == 1 { n_tok } else { pairs };
        Work {
            read_bytes: format.bytes(chosen(dims), n, k) + 2 * rows * k + 4 * (pairs + experts + 1),
            passes: 1,
            write_bytes: 2 * pairs * n,
            multiply_adds: pairs * n * k,
            math: Math::Bf16,
            blocks: u64::from(x) * u64::from(y),
            threads,
            shared_bytes,
            chain: k.div_ceil(16),
            // A dependent mma.sync.m16n8k16, measured on an H200.
            chain_cycles: 26.8,
            ..Work::default()
        }
    }

    fn problem(dims: &Dims, values: Values, _: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        let (n_tok, experts, top_k) = (dims.usize("n_tok"), dims.usize("experts"), dims.usize("top_k"));
        let (n, k, gather) = (dims.usize("n"), dims.usize("k"), dims.u64("gather") == 1);
        let skew = Skew::new(dims.u64("skew")).map_err(OpError::Shape)?;
        let format = Format::new(dims.u64("nvfp4"), &[("k", k as u64)]).map_err(OpError::Shape)?;
        let draw = Draw { seed, values };
        let ids = super::routed(draw, skew, n_tok, experts, top_k);
        let rows = if gather { n_tok } else { ids.len() };
        Ok(Box::new(Data {
            experts,
            top_k,
            n,
            k,
            gather,
            x: draw.floats("moe_grouped x", rows, k, 1.0),
            w: Arc::new(Experts::draw(draw, "w", format, experts, n, k)),
            order: reference::sort(&ids, experts),
            ids,
        }))
    }
}

/// About how many experts have a row, whatever the data: all, or as many as there are pairs.
fn chosen(dims: &Dims) -> u64 {
    let (experts, pairs) = (dims.u64("experts"), dims.u64("n_tok") * dims.u64("top_k"));
    if dims.u64("skew") == 2 {
        return pairs.min(1);
    }
    // Of E experts, each of n_tok draws of top_k leaves one out with probability 1 - top_k / E.
    let out = (1.0 - dims.u64("top_k") as f64 / experts as f64).powf(dims.u64("n_tok") as f64);
    ((experts as f64 * (1.0 - out)).round() as u64).min(pairs)
}

/// The data of a case.
struct Data {
    experts: usize,
    top_k: usize,
    n: usize,
    k: usize,
    gather: bool,
    x: Vec<bf16>,
    w: Arc<Experts>,
    ids: Vec<i32>,
    order: Sorted,
}

impl Data {
    fn n_tok(&self) -> usize {
        self.ids.len() / self.top_k
    }

    fn grouped(&self) -> reference::Grouped<'_> {
        reference::Grouped {
            x: &self.x,
            weights: self.w.reference(),
            order: &self.order,
            top_k: self.top_k,
            n: self.n,
            k: self.k,
            gather: self.gather,
        }
    }

    /// Where each pair of a token is in the sorted order.
    fn places(&self, token: usize) -> Vec<usize> {
        let place = |pair: usize| self.order.sorted.iter().position(|&p| p as usize == pair).unwrap_or(0);
        (token * self.top_k..(token + 1) * self.top_k).map(place).collect()
    }

    /// One token by itself.
    fn token(&self, token: usize) -> Alone {
        let ids = self.ids[token * self.top_k..][..self.top_k].to_vec();
        let order = reference::sort(&ids, self.experts);
        let mut part = Data {
            x: Vec::new(),
            w: self.w.clone(),
            ids,
            order,
            ..*self
        };
        let (whole, alone) = (self.places(token), part.places(0));
        if self.gather {
            part.x = self.x[token * self.k..][..self.k].to_vec();
        } else {
            // The rows of the sorted order of this token's pairs alone.
            for &pair in &part.order.sorted {
                part.x
                    .extend_from_slice(&self.x[whole[pair as usize] * self.k..][..self.k]);
            }
        }
        let same = |slot: usize| {
            let (whole, alone) = match self.gather {
                true => (whole[slot], alone[slot]),
                false => (token * self.top_k + slot, slot),
            };
            Same::new::<bf16>("y", whole * self.n, alone * self.n, self.n)
        };
        Alone {
            name: "token alone",
            same: (0..self.top_k).map(same).collect(),
            problem: Box::new(part),
        }
    }
}

impl Problem for Data {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let pairs = ("pair", self.ids.len());
        let rows = if self.gather { ("n_tok", self.n_tok()) } else { pairs };
        let mut tensors = self.w.tensors(W);
        tensors.extend([
            Tensor::input("x", &[rows, ("k", self.k)], &self.x),
            Tensor::input("offsets", &[("expert", self.experts + 1)], &self.order.offsets),
            Tensor::input("sorted", &[pairs], &self.order.sorted),
            Tensor::output::<bf16>("y", &[pairs, ("n", self.n)]),
        ]);
        tensors
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, tensors: &Bound) -> Result<(), OpError> {
        let call = MoeGroupedCall {
            x: tensors.at("x")?,
            w: self.w.on(tensors, W)?,
            offsets: tensors.at("offsets")?,
            sorted: tensors.at("sorted")?,
            y: tensors.at("y")?,
            pairs: self.ids.len() as u32,
            experts: self.experts as u32,
            top_k: self.top_k as u32,
            n: self.n as u32,
            k: self.k as u32,
            gather: self.gather,
        };
        call.launch(device, stream, config)
    }

    fn reference(&self) -> Result<Answer, OpError> {
        let grouped = self.grouped();
        if self.ids.len() * self.n * self.k <= CPU_LIMIT {
            return Ok(Answer::Whole(vec![bytes(&grouped.whole()?)]));
        }
        let random = Random::new(0, "moe_grouped pieces");
        let places = sample(random, SAMPLED.0, self.ids.len());
        let columns = sample(random, SAMPLED.1, self.n);
        let mut pieces = Vec::new();
        for (row, values) in grouped.at(&places, &columns)? {
            for (column, value) in columns.iter().zip(values) {
                pieces.push(Piece::new("y", row * self.n + column, &[value]));
            }
        }
        Ok(Answer::Pieces(pieces))
    }

    fn alone(&self, pick: Random) -> Vec<Alone> {
        if self.n_tok() < 2 {
            return Vec::new();
        }
        sample(pick, 3, self.n_tok())
            .into_iter()
            .map(|token| self.token(token))
            .collect()
    }
}
