//! `gdn_prefill`: the recurrence over prompts, in chunks of 64.

use half::bf16;
use kernels_gpu::gdn::CHUNK;
use kernels_gpu::gdn_prefill::{gdn_prefill_state, state_grid, state_stages, state_warps};

use super::{
    FUSED, GdnPrefillCall, HEAD_AXES, Mixer, STATE, VALUES, check_heads, chunks_bytes, heads, one_in, sequences,
};
use crate::cost::{Math, Work};
use crate::device::{Device, Stream};
use crate::op::data::{Draw, rows};
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Axis, Bound, Config, Dims, Piece, Problem, Same, Spec, Tensor, bytes, sample};
use crate::op::{Case, OpError, Order, Values};
use crate::reference::gdn::{self, D};
use crate::reference::gdn_prefill;

/// The operation.
pub struct GdnPrefill;

/// The CPU reference does whole problems up to so many chunks of a head (about two seconds of a core); beyond it, columns of V,
/// [`COLUMNS`] at a time, of sequences and heads drawn until so many chunks are done, [`SAMPLED`] at the most.
const CPU_LIMIT: usize = 128;
const COLUMNS: usize = 8;
const SAMPLED: usize = 24;

fn case(name: &str, [n_tok, n_seq, ragged]: [u64; 3], [k_heads, v_heads, head_map]: [u64; 3], values: Values) -> Case {
    let dims = [
        ("n_tok", n_tok),
        ("n_seq", n_seq),
        ("k_heads", k_heads),
        ("v_heads", v_heads),
        ("head_map", head_map),
        ("ragged", ragged),
    ];
    Case::of::<GdnPrefill>("random", name, &dims, values)
}

impl Spec for GdnPrefill {
    const NAME: &'static str = "gdn_prefill";
    const SUMMARY: &'static str = "the gated delta net over prompts: n_tok packed tokens of n_seq sequences";
    const AXES: &'static [Axis] = &[
        Axis::tokens(),
        Axis::optional("n_seq", 1),
        HEAD_AXES[0],
        HEAD_AXES[1],
        HEAD_AXES[2],
        HEAD_AXES[3],
        Axis::optional("ragged", 1).at_least(0),
    ];
    const DTYPES: &'static [&'static str] = &["bf16"];
    const VALUES: &'static [Values] = VALUES;

    fn configs() -> Vec<Config> {
        // The second launch takes most of the time.
        let plain = Config::plain(gdn_prefill_state::KERNEL.meta, 128, state_stages(1, 0).1);
        let fused = Config {
            id: FUSED.into(),
            order: Order::Canonical,
            ..plain.clone()
        };
        vec![plain, fused]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        check_heads(dims)?;
        dims.check_product(&["n_seq", "v_heads"], 4 * STATE as u64)?;
        dims.check_product(&["n_tok", "v_heads"], 4 * STATE as u64)?;
        if dims.u64("ragged") > 1 {
            return Err(format!(
                "ragged = {}: 0 (all alike) or 1 (cut anywhere)",
                dims.u64("ragged")
            ));
        }
        Ok(())
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for n_tok in [0, 1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 192] {
            cases.push(case("edge", [n_tok, 1, 0], [1, 1, 0], Values::Normal));
        }
        for [n_tok, n_seq, ragged] in [[0, 3, 1], [1, 4, 1], [3, 5, 1], [130, 3, 1], [128, 2, 0], [200, 7, 1]] {
            cases.push(case("edge", [n_tok, n_seq, ragged], [1, 1, 0], Values::WideRange));
        }
        cases.push(case("edge", [70, 2, 1], [2, 4, 0], Values::Normal));
        cases.push(case("edge", [70, 1, 1], [2, 4, 1], Values::Normal));
        // Blocks of two and of four warps in the second launch.
        cases.push(case("edge", [40, 7, 0], [1, 4, 0], Values::Normal));
        cases.push(case("edge", [51, 13, 1], [1, 4, 0], Values::Normal));
        cases.extend(
            VALUES
                .iter()
                .map(|&values| case("edge", [100, 2, 1], [1, 2, 0], values)),
        );
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 8 + what, end);
        let n_tok = match draw(3, 3) {
            0 => draw(4, 80),
            1 => (64 * (1 + draw(4, 2)) + draw(5, 3)) - 1,
            _ => draw(4, 200),
        };
        // Long ones have one head: a simulated chunk is some ten million multiply-adds.
        let k_heads = if n_tok > 80 { 1 } else { 1 + draw(0, 2) };
        let shape = [k_heads, k_heads * (1 + draw(1, 2) * u64::from(n_tok <= 80)), draw(2, 2)];
        let values = VALUES[draw(6, VALUES.len() as u64) as usize];
        case(
            &format!("case{i}"),
            [n_tok, 1 + draw(7, 4), (i % 4 / 3) ^ 1],
            shape,
            values,
        )
    }

    fn work(dims: &Dims, _: &str, sm_count: u32) -> Work {
        let (n_tok, n_seq, heads) = (dims.u64("n_tok"), dims.u64("n_seq"), heads(dims));
        let v_heads = heads.values as u64;
        let states = n_seq * v_heads * 4 * STATE as u64;
        let (chunk, d) = (u64::from(CHUNK), D as u64);
        let warps = state_warps(dims.u32("n_seq"), heads.values as u32, sm_count);
        let (x, y, z) = state_grid(dims.u32("n_seq"), heads.values as u32, warps);
        Work {
            read_bytes: states + Mixer::bytes(heads, n_tok),
            write_bytes: states + n_tok * v_heads * 2 * d,
            // A token's: k k^T, q k^T, (1 / 3 of) the inverse; k S, q S, B r, P n, the state.
            multiply_adds: n_tok * v_heads * (2 * chunk * d + chunk * chunk / 3 + 3 * d * d + 2 * chunk * d),
            math: Math::Bf16,
            launches: 2,
            blocks: u64::from(x) * u64::from(y) * u64::from(z),
            threads: 32 * warps,
            shared_bytes: state_stages(warps, u32::MAX).1,
            ..Work::default()
        }
    }

    fn problem(dims: &Dims, values: Values, _: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        let (n_tok, n_seq, heads) = (dims.usize("n_tok"), dims.usize("n_seq"), heads(dims));
        let draw = Draw { seed, values };
        let random = draw.random("gdn_prefill slots");
        // Even sequences work in place, odd ones leave the state in another slot; slots are scattered. A third starts anew.
        let slots: Vec<(i32, i32)> = (0..n_seq as i32)
            .rev()
            .map(|s| (s + s / 2, s + s / 2 + s % 2))
            .collect();
        let n_slots = n_seq + n_seq.div_ceil(2);
        let rare = |i: usize| values != Values::Normal && one_in(5, random, i);
        let slot = |slot, none| if none { -1 } else { slot };
        Ok(Box::new(Data {
            x: Mixer::draw(heads, n_tok, draw),
            cu_seqlens: sequences(
                n_tok,
                n_seq,
                dims.u64("ragged") == 1,
                draw.random("gdn_prefill lengths"),
            ),
            state: draw.floats("gdn_prefill state", n_slots * heads.values, STATE, 0.3),
            state_in: (0..n_seq)
                .map(|s| slot(slots[s].0, one_in(3, random, n_seq + s)))
                .collect(),
            state_out: (0..n_seq).map(|s| slot(slots[s].1, rare(s))).collect(),
            steps: false,
        }))
    }
}

/// The data of a case.
struct Data {
    x: Mixer,
    cu_seqlens: Vec<i32>,
    /// `[slots][v_heads][128][128]`
    state: Vec<f32>,
    state_in: Vec<i32>,
    state_out: Vec<i32>,
    /// Whether each sequence is a launch of its own, which may go on from the state of the one before.
    steps: bool,
}

impl Data {
    fn v_heads(&self) -> usize {
        self.x.heads.values
    }

    fn n_seq(&self) -> usize {
        self.state_in.len()
    }

    fn tokens(&self, seq: usize) -> std::ops::Range<usize> {
        self.cu_seqlens[seq] as usize..self.cu_seqlens[seq + 1] as usize
    }

    /// Where a head of a slot is in the state.
    fn at(&self, slot: i32, head: usize) -> usize {
        (slot as usize * self.v_heads() + head) * STATE
    }

    /// The reference's pieces of some columns of a head of a sequence.
    fn columns(&self, seq: usize, head: usize, columns: std::ops::Range<usize>) -> Vec<Piece> {
        let share = columns.start * D..columns.end * D;
        let mut state = match self.state_in[seq] {
            slot if slot >= 0 => self.state[self.at(slot, head)..][share.clone()].to_vec(),
            _ => vec![0.0; share.len()],
        };
        let tokens = self.tokens(seq);
        let inputs = self.x.inputs().from(tokens.start);
        let o = gdn_prefill::sequence(&inputs, tokens.len(), head, columns.clone(), &mut state);
        let at = |token: usize| (token * self.v_heads() + head) * D + columns.start;
        let rows = tokens.zip(o.chunks(columns.len()));
        let mut pieces: Vec<Piece> = rows.map(|(token, o)| Piece::new("o", at(token), o)).collect();
        let slot = self.state_out[seq];
        if slot >= 0 {
            pieces.push(Piece::new("state", self.at(slot, head) + share.start, &state));
        }
        pieces
    }

    /// Shared memory that a block may take. The simulator, whose blocks have as much as an H200's, does some cases with one stage.
    fn most_shared(&self, device: &Device) -> u32 {
        let most = device.info().shared_bytes_per_block;
        if device.info().is_simulator && self.x.n.is_multiple_of(3) {
            0
        } else {
            most
        }
    }

    /// One sequence by itself, of one head or all, cut into pieces: the first slot is 0, and piece i goes from slot i to i + 1.
    fn part(&self, name: &'static str, seq: usize, head: Option<usize>, cuts: &[usize]) -> Alone {
        let tokens = self.tokens(seq);
        let heads = head.map_or(0..self.v_heads(), |h| h..h + 1);
        let size = heads.len() * STATE;
        let pieces = cuts.len() + 1;
        let mut state = vec![0.0; (pieces + 1) * size];
        let from = self.state_in[seq];
        if from >= 0 {
            state[..size].copy_from_slice(&self.state[self.at(from, heads.start)..][..size]);
        }
        let row = heads.len() * D;
        let o = |(i, token)| Same::new::<bf16>("o", (token * self.v_heads() + heads.start) * D, i * row, row);
        let mut same: Vec<Same> = tokens.clone().enumerate().map(o).collect();
        if self.state_out[seq] >= 0 {
            let whole = self.at(self.state_out[seq], heads.start);
            same.push(Same::new::<f32>("state", whole, pieces * size, size));
        }
        let ends = cuts.iter().copied().chain([tokens.len()]).map(|end| end as i32);
        let first = if from >= 0 { 0 } else { -1 };
        let problem = Box::new(Data {
            cu_seqlens: std::iter::once(0).chain(ends).collect(),
            x: self.x.cut(tokens, head),
            state,
            state_in: std::iter::once(first).chain(1..pieces as i32).collect(),
            state_out: (1..=pieces as i32).collect(),
            steps: true,
        });
        Alone { name, problem, same }
    }
}

impl Problem for Data {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let n_slots = self.state.len() / (self.v_heads() * STATE);
        let (head, n_seq) = (("v_head", self.v_heads()), ("n_seq", self.n_seq()));
        let scratch = chunks_bytes(self.x.n as u32, self.n_seq() as u32, self.v_heads() as u32) as usize;
        let mut all = self.x.tensors();
        all.extend([
            Tensor::input("cu_seqlens", &[("n_seq", self.cu_seqlens.len())], &self.cu_seqlens),
            Tensor::input("state_in", &[n_seq], &self.state_in),
            Tensor::input("state_out", &[n_seq], &self.state_out),
            Tensor::scratch::<u8>("chunks", &[("byte", scratch)]),
            Tensor::in_out("state", &[("slot", n_slots), head, ("v", D), ("k", D)], &self.state),
            Tensor::output::<bf16>("o", &[("n_tok", self.x.n), head, ("v", D)]),
        ]);
        all
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, t: &Bound) -> Result<(), OpError> {
        let (launches, n_seq) = if self.steps {
            (self.n_seq(), 1)
        } else {
            (1, self.n_seq())
        };
        let (heads, stride) = (self.x.heads, self.x.stride as u32);
        let p = self.x.bound(t, 0)?;
        for i in 0..launches {
            let call = GdnPrefillCall {
                q: p.q,
                k: p.k,
                v: p.v,
                g: p.g,
                beta: p.beta,
                a: p.a,
                b: p.b,
                a_log: p.a_log,
                dt_bias: p.dt_bias,
                cu_seqlens: t.at("cu_seqlens")?.add(i),
                chunks: t.at("chunks")?,
                state: t.at("state")?,
                state_in: t.at("state_in")?.add(i),
                state_out: t.at("state_out")?.add(i),
                o: t.at("o")?,
                n_tok: self.x.n as u32,
                n_seq: n_seq as u32,
                k_heads: heads.keys as u32,
                v_heads: heads.values as u32,
                modulo: heads.modulo,
                q_stride: stride,
                k_stride: stride,
                v_stride: stride,
            };
            call.launch_within(device, stream, config, self.most_shared(device))?;
        }
        Ok(())
    }

    fn reference(&self) -> Result<Answer, OpError> {
        gdn::check(&self.x.inputs(), self.x.n)?;
        let pairs = self.n_seq() * self.v_heads();
        let chunks = |pair: usize| self.tokens(pair / self.v_heads()).len().div_ceil(CHUNK as usize);
        let whole = (0..pairs).map(chunks).sum::<usize>() <= CPU_LIMIT;
        let groups = D / COLUMNS;
        let random = Random::new(0, "gdn_prefill pieces");
        let mut jobs: Vec<_> = if whole {
            (0..pairs).map(|pair| (pair, 0..D, Vec::new())).collect()
        } else {
            let mut left = 3 * CPU_LIMIT;
            let mut job = |pair: usize| {
                let enough = left == 0;
                left = left.saturating_sub(chunks(pair).max(1));
                let first = random.below(pair as u64, groups as u64) as usize * COLUMNS;
                (!enough).then_some((pair, first..first + COLUMNS, Vec::new()))
            };
            // At least one pair that leaves a state.
            let kept = (0..pairs).find(|pair| self.state_out[pair / self.v_heads()] >= 0);
            let drawn = sample(random, SAMPLED, pairs).into_iter();
            kept.into_iter().chain(drawn).filter_map(&mut job).collect()
        };
        rows(&mut jobs, 1, |_, job| {
            let (pair, columns, pieces) = &mut job[0];
            *pieces = self.columns(*pair / self.v_heads(), *pair % self.v_heads(), columns.clone());
        });
        let pieces: Vec<Piece> = jobs.into_iter().flat_map(|(_, _, pieces)| pieces).collect();
        if !whole {
            return Ok(Answer::Pieces(pieces));
        }
        let (mut state, mut o) = (bytes(&self.state), vec![0; self.x.n * self.v_heads() * D * 2]);
        for piece in pieces {
            let tensor = if piece.tensor == "o" { &mut o } else { &mut state };
            tensor[piece.offset..][..piece.bytes.len()].copy_from_slice(&piece.bytes);
        }
        Ok(Answer::Whole(vec![state, o]))
    }

    fn alone(&self, pick: Random) -> Vec<Alone> {
        // The longest sequence has the most to show.
        let Some(seq) = (0..self.n_seq()).max_by_key(|&seq| self.tokens(seq).len()) else {
            return Vec::new();
        };
        let len = self.tokens(seq).len();
        if len == 0 {
            return Vec::new();
        }
        let head = pick.below(0, self.v_heads() as u64) as usize;
        let mut parts = vec![self.part("head alone", seq, Some(head), &[])];
        if self.n_seq() > 1 {
            parts.push(self.part("sequence alone", seq, None, &[]));
        }
        if len > CHUNK as usize {
            // One to three cuts; pieces of no chunk at all are empty prompts.
            let last = (len / CHUNK as usize) as u64;
            let mut cuts: Vec<usize> = (0..1 + pick.below(1, 3))
                .map(|i| CHUNK as usize * (1 + pick.below(2 + i, last) as usize))
                .collect();
            cuts.sort_unstable();
            parts.push(self.part("split at 64", seq, Some(head), &cuts));
        }
        parts
    }
}
