//! `gdn_conv`: the causal convolution with its rolling state, SiLU, and the L2 norm of the q and k heads.

use half::bf16;
use kernels_gpu::gdn_conv::{THREADS, gdn_conv, grid};

use super::slots::{Slots, every_state};
use super::{GdnConvCall, sequences};
use crate::cost::Work;
use crate::device::{DevPtr, Device, Stream};
use crate::op::call::Call;
use crate::op::data::{Draw, rows};
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Axis, Bound, Config, Dims, Piece, Problem, Same, Spec, Tensor, bytes, sample};
use crate::op::{Case, OpError, Values};
use crate::reference::gdn::{self as reference, Conv, D, Rows};

/// The operation.
pub struct GdnConv;

/// The CPU reference makes up to so many outputs (about two seconds of a core); beyond it those of some sequences and groups of
/// 128 channels, until so many are made.
const CPU_LIMIT: usize = 1 << 25;
const SAMPLED: usize = 64;

fn case(name: &str, [n_tok, n_seq]: [u64; 2], [channels, l2_heads, bias]: [u64; 3], values: Values) -> Case {
    let dims = [
        ("n_tok", n_tok),
        ("n_seq", n_seq),
        ("channels", channels),
        ("l2_heads", l2_heads),
        ("bias", bias),
    ];
    Case::of::<GdnConv>("random", name, &dims, values)
}

/// Refuses heads beyond the channels, and more channels than a grid has.
pub(super) fn check_channels(channels: u64, l2_heads: u64) -> Result<(), String> {
    if l2_heads * D as u64 > channels {
        return Err(format!(
            "l2_heads = {l2_heads} heads of {D} are more than channels = {channels}"
        ));
    }
    if channels > 1 << 26 {
        return Err(format!("channels = {channels}: at most 2^26"));
    }
    Ok(())
}

impl Spec for GdnConv {
    const NAME: &'static str = "gdn_conv";
    const SUMMARY: &'static str =
        "causal convolution of width 4 with rolling state, SiLU, L2 norm of the leading heads";
    const AXES: &'static [Axis] = &[
        Axis::tokens(),
        Axis::optional("n_seq", 1),
        Axis::required("channels"),
        Axis::optional("l2_heads", 0).at_least(0),
        Axis::optional("bias", 0).at_least(0),
    ];
    const DTYPES: &'static [&'static str] = &["bf16"];
    const VALUES: &'static [Values] = &[
        Values::Normal,
        Values::Zeros,
        Values::NonFinite,
        Values::Cancelling,
        Values::Huge,
        Values::Tiny,
        Values::WideRange,
    ];

    fn configs() -> Vec<Config> {
        vec![Config::plain(gdn_conv::KERNEL.meta, THREADS, 0)]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        check_channels(dims.u64("channels"), dims.u64("l2_heads"))?;
        match dims.u64("bias") {
            0 | 1 => Ok(()),
            bias => Err(format!("bias = {bias}: 0 (without) or 1 (with)")),
        }
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for n_tok in [0, 1, 2, 3, 4, 15, 16, 17, 33] {
            cases.push(case("edge", [n_tok, 1], [256, 1, 0], Values::Normal));
            cases.push(case("edge", [n_tok, 3], [37, 0, 1], Values::WideRange));
        }
        for channels in [1, 7, 8, 9, 1023, 1024, 1032] {
            cases.push(case("edge", [5, 2], [channels, 0, channels % 2], Values::Normal));
        }
        cases.push(case("edge", [6, 6], [1152, 8, 0], Values::Normal));
        cases.push(case("edge", [40, 9], [387, 3, 0], Values::Normal));
        cases.extend(
            Self::VALUES
                .iter()
                .map(|&values| case("edge", [21, 4], [384, 2, 1], values)),
        );
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 8 + what, end);
        let channels = if draw(0, 2) == 0 {
            1 + draw(1, 600)
        } else {
            128 * (1 + draw(1, 5))
        };
        let l2_heads = draw(2, channels / D as u64 + 1);
        let values = Self::VALUES[draw(3, Self::VALUES.len() as u64) as usize];
        let shape = [channels, l2_heads, draw(4, 2)];
        case(&format!("case{i}"), [draw(5, 50), 1 + draw(6, 5)], shape, values)
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let (n_tok, n_seq, channels) = (dims.u64("n_tok"), dims.u64("n_seq"), dims.u64("channels"));
        let (x, y) = grid(dims.u32("n_tok"), dims.u32("n_seq"), dims.u32("channels"));
        let states = if every_state(n_tok, n_seq) { n_tok } else { n_seq };
        Work {
            read_bytes: 2 * channels * (n_tok + 3 * n_seq + 4) + 4 * n_tok,
            write_bytes: 2 * channels * (n_tok + 3 * states),
            multiply_adds: 4 * n_tok * channels,
            blocks: u64::from(x) * u64::from(y),
            threads: THREADS,
            ..Work::default()
        }
    }

    fn problem(dims: &Dims, values: Values, _: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        let (n_tok, n_seq, channels) = (dims.usize("n_tok"), dims.usize("n_seq"), dims.usize("channels"));
        let draw = Draw { seed, values };
        // Rows of some kinds lie farther apart than they are long, as slices of a fused projection do.
        let stride = channels + if values == Values::WideRange { 3 } else { 0 };
        let cu_seqlens = sequences(n_tok, n_seq, true, draw.random("gdn_conv lengths"));
        let slots = Slots::draw(&cu_seqlens, draw);
        Ok(Box::new(Data {
            shape: Shape {
                channels,
                l2_heads: dims.usize("l2_heads"),
                stride,
            },
            cu_seqlens,
            x: draw.floats("gdn_conv x", n_tok, stride, 1.0),
            w: draw.ordinary("gdn_conv w", channels, 4, 0.5),
            bias: (dims.u64("bias") == 1).then(|| draw.ordinary("gdn_conv bias", 1, channels, 0.5)),
            state: draw.floats("gdn_conv state", slots.count, 3 * channels, 1.0),
            state_in: slots.state_in,
            state_out: slots.state_out,
            steps: false,
        }))
    }
}

#[derive(Clone, Copy)]
struct Shape {
    channels: usize,
    l2_heads: usize,
    stride: usize,
}

/// The data of a case.
struct Data {
    shape: Shape,
    cu_seqlens: Vec<i32>,
    x: Vec<bf16>,
    w: Vec<bf16>,
    bias: Option<Vec<bf16>>,
    /// `[slots][channels][3]`
    state: Vec<bf16>,
    /// `[n_seq]`
    state_in: Vec<i32>,
    /// `[n_tok]`
    state_out: Vec<i32>,
    /// Whether each sequence is a launch of its own, which may go on from the state of the one before.
    steps: bool,
}

impl Data {
    fn n_seq(&self) -> usize {
        self.state_in.len()
    }

    fn n_tok(&self) -> usize {
        self.cu_seqlens[self.n_seq()] as usize
    }

    fn tokens(&self, seq: usize) -> std::ops::Range<usize> {
        self.cu_seqlens[seq] as usize..self.cu_seqlens[seq + 1] as usize
    }

    fn slot(&self, slot: i32) -> std::ops::Range<usize> {
        let size = 3 * self.shape.channels;
        slot as usize * size..(slot as usize + 1) * size
    }

    /// The reference's pieces of group `group` of 128 channels of a sequence.
    fn group(&self, seq: usize, group: usize) -> Vec<Piece> {
        let channels = group * D..(group * D + D).min(self.shape.channels);
        let tokens = self.tokens(seq);
        let conv = Conv {
            w: &self.w,
            bias: self.bias.as_deref(),
            l2_heads: self.shape.l2_heads,
        };
        let x = Rows {
            data: &self.x[tokens.start * self.shape.stride..],
            stride: self.shape.stride,
        };
        let old = (self.state_in[seq] >= 0).then(|| &self.state[self.slot(self.state_in[seq])]);
        let all = reference::conv(conv, x, tokens.len(), old, channels.clone());
        let mut pieces = Vec::new();
        for (t, (token, y)) in tokens.zip(all.y.chunks(channels.len())).enumerate() {
            pieces.push(Piece::new("y", token * self.shape.channels + channels.start, y));
            if self.state_out[token] >= 0 {
                let slot = self.slot(self.state_out[token]).start;
                pieces.push(Piece::new("state", slot + channels.start * 3, &all.state(t + 1)));
            }
        }
        pieces
    }

    /// One sequence by itself, cut into pieces: each goes on from the state after the token before it, if it has tokens. Every state
    /// that the whole keeps is kept here too, in slots from 1 on.
    fn part(&self, name: &'static str, seq: usize, cuts: &[usize]) -> Alone {
        let (Shape { channels, stride, .. }, tokens) = (self.shape, self.tokens(seq));
        let ends: Vec<usize> = cuts.iter().copied().chain([tokens.len()]).collect();
        let (mut state_out, mut slots) = (vec![-1; tokens.len()], 1);
        for (t, token) in tokens.clone().enumerate() {
            if self.state_out[token] >= 0 || ends.contains(&(t + 1)) {
                state_out[t] = slots;
                slots += 1;
            }
        }
        let mut state = vec![bf16::ZERO; slots as usize * 3 * channels];
        let from = self.state_in[seq];
        if from >= 0 {
            state[..3 * channels].copy_from_slice(&self.state[self.slot(from)]);
        }
        let mut same = vec![Same::new::<bf16>(
            "y",
            tokens.start * channels,
            0,
            tokens.len() * channels,
        )];
        for (t, token) in tokens
            .clone()
            .enumerate()
            .filter(|&(_, token)| self.state_out[token] >= 0)
        {
            let (whole, size) = (self.slot(self.state_out[token]), 3 * channels);
            same.push(Same::new::<bf16>(
                "state",
                whole.start,
                state_out[t] as usize * size,
                size,
            ));
        }
        let first = if from >= 0 { 0 } else { -1 };
        let start = |cut: &usize| cut.checked_sub(1).map_or(first, |last| state_out[last]);
        let problem = Box::new(Data {
            shape: self.shape,
            cu_seqlens: std::iter::once(0).chain(ends.iter().map(|&end| end as i32)).collect(),
            x: self.x[tokens.start * stride..tokens.end * stride].to_vec(),
            w: self.w.clone(),
            bias: self.bias.clone(),
            state,
            state_in: std::iter::once(first).chain(cuts.iter().map(start)).collect(),
            state_out,
            steps: true,
        });
        Alone { name, problem, same }
    }
}

impl Problem for Data {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let (channel, n_seq) = (("channel", self.shape.channels), ("n_seq", self.n_seq()));
        let slots = self.state.len() / (3 * self.shape.channels);
        let bias = self.bias.as_deref().unwrap_or_default();
        vec![
            Tensor::weight("x", &[("n_tok", self.n_tok()), ("channel", self.shape.stride)], &self.x),
            Tensor::weight("w", &[channel, ("tap", 4)], &self.w),
            Tensor::input("bias", &[("channel", bias.len())], bias),
            Tensor::input("cu_seqlens", &[("n_seq", self.cu_seqlens.len())], &self.cu_seqlens),
            Tensor::input("state_in", &[n_seq], &self.state_in),
            Tensor::input("state_out", &[("n_tok", self.n_tok())], &self.state_out),
            Tensor::in_out("state", &[("slot", slots), channel, ("input", 3)], &self.state),
            Tensor::output::<bf16>("y", &[("n_tok", self.n_tok()), channel]),
        ]
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, t: &Bound) -> Result<(), OpError> {
        let (launches, n_seq) = if self.steps {
            (self.n_seq(), 1)
        } else {
            (1, self.n_seq())
        };
        let bias = match self.bias {
            Some(_) => t.at("bias")?,
            None => DevPtr::NULL,
        };
        for i in 0..launches {
            let call = GdnConvCall {
                x: t.at("x")?,
                w: t.at("w")?,
                bias,
                state: t.at("state")?,
                state_in: t.at("state_in")?.add(i),
                state_out: t.at("state_out")?,
                cu_seqlens: t.at("cu_seqlens")?.add(i),
                y: t.at("y")?,
                n_tok: self.n_tok() as u32,
                n_seq: n_seq as u32,
                channels: self.shape.channels as u32,
                x_stride: self.shape.stride as u32,
                l2_heads: self.shape.l2_heads as u32,
            };
            call.launch(device, stream, config)?;
        }
        Ok(())
    }

    fn reference(&self) -> Result<Answer, OpError> {
        let groups = self.shape.channels.div_ceil(D);
        let pairs = self.n_seq() * groups;
        let whole = self.n_tok() * self.shape.channels <= CPU_LIMIT;
        let chosen = if whole {
            (0..pairs).collect()
        } else {
            let mut left = CPU_LIMIT;
            let mut drawn = sample(Random::new(0, "gdn_conv pieces"), SAMPLED, pairs);
            // At least one that leaves a state; then as many as the limit lets.
            let kept = |pair: &usize| self.state_out[self.tokens(pair / groups)].iter().any(|&slot| slot >= 0);
            drawn.extend((0..pairs).find(kept));
            drawn.reverse();
            drawn.retain(|pair| {
                let enough = left == 0;
                left = left.saturating_sub(D * self.tokens(pair / groups).len());
                !enough
            });
            drawn
        };
        let mut jobs: Vec<_> = chosen.into_iter().map(|pair| (pair, Vec::new())).collect();
        rows(&mut jobs, 1, |_, job| {
            let (pair, pieces) = &mut job[0];
            *pieces = self.group(*pair / groups, *pair % groups);
        });
        let pieces: Vec<Piece> = jobs.into_iter().flat_map(|(_, pieces)| pieces).collect();
        if !whole {
            return Ok(Answer::Pieces(pieces));
        }
        let (mut state, mut y) = (bytes(&self.state), vec![0; self.n_tok() * self.shape.channels * 2]);
        for piece in pieces {
            let tensor = if piece.tensor == "y" { &mut y } else { &mut state };
            tensor[piece.offset..][..piece.bytes.len()].copy_from_slice(&piece.bytes);
        }
        Ok(Answer::Whole(vec![state, y]))
    }

    fn alone(&self, pick: Random) -> Vec<Alone> {
        let Some(seq) = (0..self.n_seq()).max_by_key(|&seq| self.tokens(seq).len()) else {
            return Vec::new();
        };
        let len = self.tokens(seq).len();
        if len == 0 {
            return Vec::new();
        }
        let mut parts = Vec::new();
        if self.n_seq() > 1 {
            parts.push(self.part("sequence alone", seq, &[]));
        }
        if (2..40).contains(&len) {
            parts.push(self.part("tokens one by one", seq, &(1..len).collect::<Vec<_>>()));
        }
        if len > 1 {
            let mut cuts: Vec<usize> = (0..1 + pick.below(0, 3))
                .map(|i| pick.below(1 + i, len as u64 + 1) as usize)
                .collect();
            cuts.sort_unstable();
            parts.push(self.part("split anywhere", seq, &cuts));
        }
        parts
    }
}
