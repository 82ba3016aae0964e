//! `moe_sort`: the (token, slot) pairs in the order of their experts.

use kernels_gpu::moe_sort::{
    SMALL, THREADS, chunks, moe_sort_count, moe_sort_offsets, moe_sort_place, moe_sort_small, shared_bytes,
};

use super::Skew;
use crate::cost::Work;
use crate::device::{DevPtr, Device, LaunchDims, Stream};
use crate::op::call::{Call, MODEL, expect_plain};
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Axis, Bound, Config, Dims, Problem, Same, Spec, Tensor, bytes};
use crate::op::{Case, OpError, Values};
use crate::reference::moe::{self as reference, Sorted};

/// The operation.
pub struct MoeSort;

fn case(name: &str, [n_tok, experts, top_k]: [u64; 3], values: Values) -> Case {
    let dims = [("n_tok", n_tok), ("experts", experts), ("top_k", top_k)];
    Case::of::<MoeSort>("random", name, &dims, values)
}

/// Kernels that a sort of so many pairs takes.
fn launches(pairs: u64) -> u32 {
    if pairs <= u64::from(SMALL) { 1 } else { 3 }
}

impl Spec for MoeSort {
    const NAME: &'static str = "moe_sort";
    const SUMMARY: &'static str = "(token, slot) pairs in the order of their experts, with each expert's offset";
    const AXES: &'static [Axis] = &[Axis::tokens(), Axis::required("experts"), Axis::required("top_k")];
    const DTYPES: &'static [&'static str] = &["i32"];
    /// Of the routing: `Normal` uniform, `WideRange` zipf, `Single` all pairs on one expert, `NonFinite` with ids that are no
    /// expert (a quarter of the pairs), `Zeros` without any that is.
    const VALUES: &'static [Values] = &[
        Values::Normal,
        Values::WideRange,
        Values::Single,
        Values::NonFinite,
        Values::Zeros,
    ];

    fn configs() -> Vec<Config> {
        vec![Config::plain(moe_sort_place::KERNEL.meta, THREADS, shared_bytes(1))]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        super::check_routing(dims.u64("n_tok"), dims.u64("experts"), dims.u64("top_k"))
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for n_tok in [0, 1, 31, 32, 33, 255, 256, 257, 512, 513, 1100] {
            cases.push(case("edge", [n_tok, 60, 8], Values::Normal));
        }
        for (experts, top_k) in [
            (1, 1),
            (8, 2),
            (128, 8),
            (255, 1),
            (256, 8),
            (257, 8),
            (512, 10),
            (1024, 32),
        ] {
            cases.push(case("edge", [70, experts, top_k], Values::Normal));
            cases.push(case("edge", [4097 / top_k + 1, experts, top_k], Values::WideRange));
        }
        // Chunks of more than the least length.
        cases.push(case("edge", [65_536, 60, 5], Values::WideRange));
        for &values in Self::VALUES {
            cases.push(case("edge", [77, 60, 4], values));
            cases.push(case("edge", [2500, 60, 2], values));
        }
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 8 + what, end);
        let experts = [1 + draw(0, 40), 8, 60, 128, 256, 1 + draw(0, 1024)][draw(1, 6) as usize];
        let top_k = 1 + draw(2, experts.min(10));
        let n_tok = match draw(3, 4) {
            0 => draw(4, 3000),
            1 => 4096 / top_k + draw(4, 3) - 1,
            _ => draw(4, 80),
        };
        let values = Self::VALUES[draw(5, Self::VALUES.len() as u64) as usize];
        case(&format!("case{i}"), [n_tok, experts, top_k], values)
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let pairs = dims.u64("n_tok") * dims.u64("top_k");
        Work {
            read_bytes: 4 * pairs,
            write_bytes: 4 * (pairs + dims.u64("experts") + 1),
            launches: launches(pairs),
            blocks: if launches(pairs) == 1 {
                1
            } else {
                u64::from(chunks(pairs as u32).0)
            },
            threads: THREADS,
            shared_bytes: shared_bytes(dims.u32("experts")),
            ..Work::default()
        }
    }

    fn problem(dims: &Dims, values: Values, _: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        let (n_tok, experts, top_k) = (dims.usize("n_tok"), dims.usize("experts"), dims.usize("top_k"));
        let skew = match values {
            Values::WideRange => Skew::Zipf,
            Values::Single => Skew::One,
            _ => Skew::Uniform,
        };
        let mut ids = skew.ids(Random::new(seed, "moe_sort ids"), n_tok, experts, top_k);
        match values {
            Values::NonFinite => super::stray(seed, experts, 4, &mut ids),
            Values::Zeros => super::stray(seed, experts, 1, &mut ids),
            _ => {}
        }
        Ok(Box::new(Data {
            n_tok,
            experts,
            top_k,
            ids,
        }))
    }
}

/// The data of a case.
struct Data {
    n_tok: usize,
    experts: usize,
    top_k: usize,
    ids: Vec<i32>,
}

/// The dimensions of the scratch tensor `counts`.
pub(super) fn counts(pairs: usize, experts: usize) -> [(&'static str, usize); 2] {
    let chunks = match launches(pairs as u64) {
        1 => 0,
        _ => chunks(pairs as u32).0 as usize,
    };
    [("chunk", chunks), ("bucket", experts + 1)]
}

/// Bytes of [`MoeSortCall::counts`] for up to so many pairs.
pub fn sort_scratch_bytes(pairs: u32, experts: u32) -> usize {
    // The most chunks there can be. Beyond so many pairs chunks get longer, and there may be fewer of them.
    let most = pairs.min(128 * 2048);
    counts(most as usize, experts as usize)
        .iter()
        .map(|(_, size)| size)
        .product::<usize>()
        * 4
}

/// The (token, slot) pairs in the order of their experts.
#[derive(Clone, Copy, Debug)]
pub struct MoeSortCall {
    /// `[pairs]`: each pair's expert; any other number is none.
    pub ids: DevPtr<i32>,
    /// Scratch, [`sort_scratch_bytes`]; null where that is 0.
    pub counts: DevPtr<u32>,
    /// `[experts + 1]`: where each expert's pairs begin, at last where those without one do. Written without pairs, too.
    pub offsets: DevPtr<i32>,
    /// `[pairs]`: the pair at each place.
    pub sorted: DevPtr<i32>,
    /// Tokens times slots of a token.
    pub pairs: u32,
    /// Experts.
    pub experts: u32,
}

impl Call for MoeSortCall {
    /// The sort does not see which pairs share a token: as of tokens of one slot.
    fn case(&self) -> Case {
        let dims = [
            ("n_tok", u64::from(self.pairs)),
            ("experts", u64::from(self.experts)),
            ("top_k", 1),
        ];
        Case::of::<MoeSort>(MODEL, MoeSort::NAME, &dims, Values::Normal)
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        expect_plain(MoeSort::NAME, config)?;
        let Self { pairs, experts, .. } = *self;
        super::expect_routing(MoeSort::NAME, pairs, experts, 1)?;
        let (ids, offsets, sorted) = (self.ids.get(), self.offsets.get_mut(), self.sorted.get_mut());
        let blocks = |count: u32| LaunchDims::new(count, THREADS).shared(shared_bytes(experts));
        // No pairs have offsets too: zeros.
        if launches(u64::from(pairs)) == 1 {
            let args = (ids, offsets, sorted, pairs, experts);
            return Ok(device.launch(stream, &moe_sort_small::KERNEL, blocks(1), args)?);
        }
        let (count, length) = chunks(pairs);
        let args = (ids, self.counts.get_mut(), pairs, experts, length);
        device.launch(stream, &moe_sort_count::KERNEL, blocks(count), args)?;
        let args = (self.counts.get_mut(), offsets, experts, count);
        device.launch(stream, &moe_sort_offsets::KERNEL, blocks(1), args)?;
        let args = (
            ids,
            self.counts.get(),
            self.offsets.get(),
            sorted,
            pairs,
            experts,
            length,
        );
        Ok(device.launch(stream, &moe_sort_place::KERNEL, blocks(count), args)?)
    }
}

/// The call on the tensors `ids`, `counts`, `offsets` and `sorted`.
pub(super) fn on(tensors: &Bound, pairs: usize, experts: usize) -> Result<MoeSortCall, OpError> {
    Ok(MoeSortCall {
        ids: tensors.at("ids")?,
        counts: tensors.at("counts")?,
        offsets: tensors.at("offsets")?,
        sorted: tensors.at("sorted")?,
        pairs: pairs as u32,
        experts: experts as u32,
    })
}

impl Problem for Data {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        vec![
            Tensor::weight("ids", &[("n_tok", self.n_tok), ("top_k", self.top_k)], &self.ids),
            Tensor::scratch::<u32>("counts", &counts(self.ids.len(), self.experts)),
            Tensor::output::<i32>("offsets", &[("bucket", self.experts + 1)]),
            Tensor::output::<i32>("sorted", &[("pair", self.ids.len())]),
        ]
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, tensors: &Bound) -> Result<(), OpError> {
        on(tensors, self.ids.len(), self.experts)?.launch(device, stream, config)
    }

    fn reference(&self) -> Result<Answer, OpError> {
        let Sorted { offsets, sorted } = reference::sort(&self.ids, self.experts);
        Ok(Answer::Whole(vec![bytes(&offsets), bytes(&sorted)]))
    }

    /// The pairs of an expert do not depend on the tokens after them: those of the first tokens alone begin its list.
    fn alone(&self, pick: Random) -> Vec<Alone> {
        if self.n_tok < 2 {
            return Vec::new();
        }
        let n_tok = 1 + pick.below(0, self.n_tok as u64 - 1) as usize;
        let ids = self.ids[..n_tok * self.top_k].to_vec();
        let (whole, part) = (
            reference::sort(&self.ids, self.experts),
            reference::sort(&ids, self.experts),
        );
        let mut part_ends = part.offsets.clone();
        part_ends.push(ids.len() as i32);
        let same = (0..=self.experts).map(|bucket| {
            let [whole, first, end] = [whole.offsets[bucket], part.offsets[bucket], part_ends[bucket + 1]];
            Same::new::<i32>("sorted", whole as usize, first as usize, (end - first) as usize)
        });
        vec![Alone {
            name: "first tokens alone",
            same: same.filter(|same| same.bytes > 0).collect(),
            problem: Box::new(Data { n_tok, ids, ..*self }),
        }]
    }
}
