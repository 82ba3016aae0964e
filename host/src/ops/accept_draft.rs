//! `accept_draft`: how many drafted tokens of each sequence were right, and the token after them.

use kernels_gpu::accept_draft::{THREADS, accept_draft};

use crate::cost::Work;
use crate::device::{DevPtr, Device, LaunchDims, Stream};
use crate::op::call::{Call, MODEL, expect_plain};
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Axis, Bound, Config, Dims, Problem, Same, Spec, Tensor, bytes, sample};
use crate::op::{Case, OpError, Values};
use crate::reference::sampling;

/// The operation.
pub struct AcceptDraft;

fn case(name: &str, n_seq: u64, drafts: u64) -> Case {
    Case::of::<AcceptDraft>("random", name, &[("n_seq", n_seq), ("drafts", drafts)], Values::Normal)
}

impl Spec for AcceptDraft {
    const NAME: &'static str = "accept_draft";
    const SUMMARY: &'static str = "the accepted prefix of each sequence's drafts, and the token after it";
    const AXES: &'static [Axis] = &[
        Axis::required("n_seq").at_least(0),
        Axis::required("drafts").at_least(0),
    ];
    const DTYPES: &'static [&'static str] = &["i32"];
    const VALUES: &'static [Values] = &[Values::Normal];

    fn configs() -> Vec<Config> {
        vec![Config::plain(accept_draft::KERNEL.meta, THREADS, 0)]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        dims.check_product(&["n_seq", "drafts"], 1)
    }

    fn edge_cases() -> Vec<Case> {
        let sizes = [(0, 3), (1, 0), (1, 1), (5, 0), (127, 2), (128, 3), (129, 4), (300, 7)];
        sizes.map(|(n_seq, drafts)| case("edge", n_seq, drafts)).to_vec()
    }

    fn random_case(random: Random, i: u64) -> Case {
        case(
            &format!("case{i}"),
            random.below(2 * i, 200),
            random.below(2 * i + 1, 12),
        )
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let (n_seq, drafts) = (dims.u64("n_seq"), dims.u64("drafts"));
        Work {
            read_bytes: 4 * n_seq * (2 * drafts + 2),
            write_bytes: 8 * n_seq,
            blocks: n_seq.div_ceil(u64::from(THREADS)),
            threads: THREADS,
            ..Work::default()
        }
    }

    fn problem(dims: &Dims, _: Values, _: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        let (n_seq, most) = (dims.usize("n_seq"), dims.usize("drafts"));
        let random = Random::new(seed, "accept_draft");
        let chosen: Vec<i32> = (0..n_seq * (most + 1))
            .map(|i| random.below(i as u64, 250_000) as i32)
            .collect();
        // Three of four drafts are right.
        let draft = |i: usize| {
            let right = chosen[i / most * (most + 1) + i % most];
            right ^ i32::from(random.below((1 << 40) | i as u64, 4) == 0)
        };
        // One length in eight is outside of what there is: it counts as the nearest.
        let count = |i: usize| match random.below((1 << 41) | i as u64, 16) {
            0 => -5,
            1 => i32::MAX,
            _ => random.below((1 << 42) | i as u64, most as u64 + 1) as i32,
        };
        Ok(Box::new(Data {
            most,
            drafts: (0..n_seq * most).map(draft).collect(),
            n_drafts: (0..n_seq).map(count).collect(),
            chosen,
        }))
    }
}

/// The number of each sequence's leading drafts that are the tokens chosen at their places, and the token after them.
#[derive(Clone, Copy, Debug)]
pub struct AcceptDraftCall {
    /// `[n_seq][max_drafts]`.
    pub drafts: DevPtr<i32>,
    /// `[n_seq]`: drafts of each sequence; one outside of 0..=max_drafts counts as the nearest.
    pub n_drafts: DevPtr<i32>,
    /// `[n_seq][max_drafts + 1]`: the tokens chosen at the drafts' places, and behind them.
    pub chosen: DevPtr<i32>,
    /// `[n_seq]`: how many drafts are right.
    pub accepted: DevPtr<i32>,
    /// `[n_seq]`: the token after them.
    pub next: DevPtr<i32>,
    /// Sequences.
    pub n_seq: u32,
    /// Drafts that a row of `drafts` has room for.
    pub max_drafts: u32,
}

impl Call for AcceptDraftCall {
    fn case(&self) -> Case {
        let dims = [("n_seq", u64::from(self.n_seq)), ("drafts", u64::from(self.max_drafts))];
        Case::of::<AcceptDraft>(MODEL, AcceptDraft::NAME, &dims, Values::Normal)
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        expect_plain(AcceptDraft::NAME, config)?;
        if self.n_seq == 0 {
            return Ok(());
        }
        let args = (
            self.drafts.get(),
            self.n_drafts.get(),
            self.chosen.get(),
            self.accepted.get_mut(),
            self.next.get_mut(),
            self.n_seq,
            self.max_drafts,
        );
        let dims = LaunchDims::new(self.n_seq.div_ceil(THREADS), THREADS);
        Ok(device.launch(stream, &accept_draft::KERNEL, dims, args)?)
    }
}

/// The data of a case: drafts `[n_seq][most]`, n_drafts `[n_seq]`, chosen `[n_seq][most + 1]`.
struct Data {
    most: usize,
    drafts: Vec<i32>,
    n_drafts: Vec<i32>,
    chosen: Vec<i32>,
}

impl Problem for Data {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let n_seq = ("n_seq", self.n_drafts.len());
        vec![
            Tensor::input("drafts", &[n_seq, ("draft", self.most)], &self.drafts),
            Tensor::input("n_drafts", &[n_seq], &self.n_drafts),
            Tensor::input("chosen", &[n_seq, ("place", self.most + 1)], &self.chosen),
            Tensor::output::<i32>("accepted", &[n_seq]),
            Tensor::output::<i32>("next", &[n_seq]),
        ]
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, tensors: &Bound) -> Result<(), OpError> {
        let ptr = |name: &str| tensors.at::<i32>(name);
        let call = AcceptDraftCall {
            drafts: ptr("drafts")?,
            n_drafts: ptr("n_drafts")?,
            chosen: ptr("chosen")?,
            accepted: ptr("accepted")?,
            next: ptr("next")?,
            n_seq: self.n_drafts.len() as u32,
            max_drafts: self.most as u32,
        };
        call.launch(device, stream, config)
    }

    fn reference(&self) -> Result<Answer, OpError> {
        let one = |(s, &count): (usize, &i32)| {
            let count = usize::try_from(count).unwrap_or(0).min(self.most);
            let drafts = &self.drafts[s * self.most..][..count];
            let (accepted, next) = sampling::accept_draft(drafts, &self.chosen[s * (self.most + 1)..]);
            (accepted as i32, next)
        };
        let (accepted, next): (Vec<i32>, Vec<i32>) = self.n_drafts.iter().enumerate().map(one).unzip();
        Ok(Answer::Whole(vec![bytes(&accepted), bytes(&next)]))
    }

    fn alone(&self, pick: Random) -> Vec<Alone> {
        let n_seq = self.n_drafts.len();
        if n_seq < 2 {
            return Vec::new();
        }
        let sequence = |s: usize| Alone {
            name: "sequence alone",
            problem: Box::new(Data {
                most: self.most,
                drafts: self.drafts[s * self.most..][..self.most].to_vec(),
                n_drafts: vec![self.n_drafts[s]],
                chosen: self.chosen[s * (self.most + 1)..][..self.most + 1].to_vec(),
            }),
            same: ["accepted", "next"]
                .map(|name| Same::new::<i32>(name, s, 0, 1))
                .to_vec(),
        };
        sample(pick, 3, n_seq).into_iter().map(sequence).collect()
    }
}
