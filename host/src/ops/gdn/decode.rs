//! `gdn_decode`: steps of the recurrence, one or several tokens a sequence.

use half::bf16;
use kernels_gpu::gdn_decode::{THREADS, gdn_decode, gdn_decode_fused, grid};

use super::{FUSED, GdnDecodeCall, HEAD_AXES, Mixer, STATE, VALUES, check_heads, heads, one_in};
use crate::cost::{Math, Work};
use crate::device::{Device, Stream};
use crate::op::call::Call;
use crate::op::data::{Draw, rows};
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Axis, Bound, Config, Dims, Piece, Problem, Same, Spec, Tensor, bytes, sample};
use crate::op::{Case, OpError, Order, Values};
use crate::reference::gdn::{self as reference, D};

/// The operation.
pub struct GdnDecode;

/// The CPU reference makes up to so many steps of a head (about two seconds of a core), beyond it those of [`SAMPLED`] pairs of
/// sequence and head.
const CPU_LIMIT: usize = 1 << 13;
const SAMPLED: usize = 48;

fn case(name: &str, [n_seq, n_tok]: [u64; 2], [k_heads, v_heads, head_map]: [u64; 3], values: Values) -> Case {
    let dims = [
        ("n_seq", n_seq),
        ("n_tok", n_tok),
        ("k_heads", k_heads),
        ("v_heads", v_heads),
        ("head_map", head_map),
    ];
    Case::of::<GdnDecode>("random", name, &dims, values)
}

/// Refuses more tokens than a kernel counts.
pub(super) fn check_tokens(n_seq: u64, n_tok: u64) -> Result<(), String> {
    if n_seq * n_tok >= 1 << 31 {
        return Err(format!("n_seq = {n_seq}, n_tok = {n_tok}: 2^31 tokens or more"));
    }
    Ok(())
}

impl Spec for GdnDecode {
    const NAME: &'static str = "gdn_decode";
    const SUMMARY: &'static str = "steps of the gated delta net: n_tok tokens of each sequence, each as if alone";
    const AXES: &'static [Axis] = &[
        Axis::required("n_seq").at_least(0),
        Axis::tokens(),
        HEAD_AXES[0],
        HEAD_AXES[1],
        HEAD_AXES[2],
        HEAD_AXES[3],
    ];
    const DTYPES: &'static [&'static str] = &["bf16"];
    const VALUES: &'static [Values] = VALUES;

    fn configs() -> Vec<Config> {
        let fused = Config {
            id: FUSED.into(),
            kernel: gdn_decode_fused::KERNEL.meta,
            order: Order::Canonical,
            threads: THREADS,
            shared_bytes: 0,
        };
        vec![Config::plain(gdn_decode::KERNEL.meta, THREADS, 0), fused]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        check_heads(dims)?;
        dims.check_product(&["n_seq", "n_tok", "v_heads"], 4 * STATE as u64)?;
        check_tokens(dims.u64("n_seq"), dims.u64("n_tok"))
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases = vec![
            case("edge", [0, 1], [1, 2, 0], Values::Normal),
            case("edge", [2, 0], [1, 2, 0], Values::Normal),
            case("edge", [1, 1], [16, 32, 0], Values::Normal),
            case("edge", [4, 1], [4, 8, 0], Values::Normal),
            case("edge", [1, 8], [2, 4, 1], Values::Normal),
            case("edge", [3, 2], [3, 6, 1], Values::Huge),
        ];
        for &values in VALUES {
            cases.push(case("edge", [2, 3], [1, 3, 0], values));
            cases.push(case("edge", [3, 1], [2, 2, 0], values));
        }
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 8 + what, end);
        let k_heads = 1 + draw(0, 3);
        let shape = [k_heads, k_heads * (1 + draw(1, 3)), draw(2, 2)];
        let values = VALUES[draw(3, VALUES.len() as u64) as usize];
        case(&format!("case{i}"), [1 + draw(4, 3), 1 + draw(5, 5)], shape, values)
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let (n_seq, n_tok, heads) = (dims.u64("n_seq"), dims.u64("n_tok"), heads(dims));
        let states = n_seq * heads.values as u64 * 4 * STATE as u64;
        let steps = n_seq * n_tok * heads.values as u64;
        let (x, y, z) = grid(n_seq as u32, heads.values as u32);
        Work {
            read_bytes: states + Mixer::bytes(heads, n_seq * n_tok),
            // Every token's state has a slot.
            write_bytes: n_tok * states + steps * 2 * D as u64,
            multiply_adds: steps * 4 * STATE as u64,
            math: Math::F32,
            blocks: u64::from(x) * u64::from(y) * u64::from(z),
            threads: THREADS,
            ..Work::default()
        }
    }

    fn problem(dims: &Dims, values: Values, _: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        let (n_seq, n_tok, heads) = (dims.usize("n_seq"), dims.usize("n_tok"), heads(dims));
        let draw = Draw { seed, values };
        let random = draw.random("gdn_decode slots");
        // A sequence has max(n_tok, 1) slots, in a scattered order. It starts from one of them, which its last token's state
        // takes over: a single token works in place.
        let of_seq = n_tok.max(1);
        let n_slots = n_seq * of_seq;
        let slot = |seq: usize, i: usize| (n_slots - 1 - (seq * of_seq + i)) as i32;
        let rare = |i: usize| values != Values::Normal && one_in(5, random, i);
        let state_in = (0..n_seq).map(|s| if rare(s) { -1 } else { slot(s, 0) }).collect();
        let state_out = (0..n_seq * n_tok)
            .map(|i| {
                if rare(n_seq + i) {
                    -1
                } else {
                    slot(i / n_tok, (i % n_tok + 1) % of_seq)
                }
            })
            .collect();
        Ok(Box::new(Data {
            x: Mixer::draw(heads, n_seq * n_tok, draw),
            n_seq,
            n_tok,
            state: draw.floats("gdn_decode state", n_slots * heads.values, STATE, 0.3),
            state_in,
            state_out,
            steps: false,
        }))
    }
}

/// The data of a case.
struct Data {
    x: Mixer,
    n_seq: usize,
    n_tok: usize,
    /// `[slots][v_heads][128][128]`
    state: Vec<f32>,
    state_in: Vec<i32>,
    state_out: Vec<i32>,
    /// Whether each token is a launch of its own: then there is one sequence, and `state_in` has a slot for each token.
    steps: bool,
}

impl Data {
    fn v_heads(&self) -> usize {
        self.x.heads.values
    }

    /// Where a head of a slot is in the state.
    fn at(&self, slot: i32, head: usize) -> usize {
        (slot as usize * self.v_heads() + head) * STATE
    }

    /// The reference's outputs of one head of a sequence, `[n_tok][128]`, and the states it leaves, by slot.
    fn head(&self, seq: usize, head: usize) -> (Vec<bf16>, Vec<(i32, Vec<f32>)>) {
        let mut state = match self.state_in[seq] {
            slot if slot >= 0 => self.state[self.at(slot, head)..][..STATE].to_vec(),
            _ => vec![0.0; STATE],
        };
        let (mut o, mut states) = (Vec::new(), Vec::new());
        for token in seq * self.n_tok..(seq + 1) * self.n_tok {
            o.extend(reference::step(&self.x.inputs(), token, head, &mut state));
            if self.state_out[token] >= 0 {
                states.push((self.state_out[token], state.clone()));
            }
        }
        (o, states)
    }

    /// One sequence by itself, of one head or all: its first slot is 0 and token t's slot t + 1.
    fn part(&self, name: &'static str, seq: usize, head: Option<usize>, steps: bool) -> Alone {
        let n_tok = self.n_tok;
        let tokens = seq * n_tok..(seq + 1) * n_tok;
        let heads = head.map_or(0..self.v_heads(), |h| h..h + 1);
        let size = heads.len() * STATE;
        let mut state = vec![0.0; (n_tok + 1) * size];
        let from = self.state_in[seq];
        if from >= 0 {
            state[..size].copy_from_slice(&self.state[self.at(from, heads.start)..][..size]);
        }
        let mut same = Vec::new();
        for (t, token) in tokens.clone().enumerate() {
            let o = (token * self.v_heads() + heads.start) * D;
            same.push(Same::new::<bf16>("o", o, t * heads.len() * D, heads.len() * D));
            if self.state_out[token] >= 0 {
                let whole = self.at(self.state_out[token], heads.start);
                same.push(Same::new::<f32>("state", whole, (t + 1) * size, size));
            }
        }
        let first = if from >= 0 { 0 } else { -1 };
        let others = if steps { 1..n_tok as i32 } else { 0..0 };
        let problem = Box::new(Data {
            x: self.x.cut(tokens, head),
            n_seq: 1,
            n_tok,
            state,
            state_in: std::iter::once(first).chain(others).collect(),
            state_out: (1..=n_tok as i32).collect(),
            steps,
        });
        Alone { name, problem, same }
    }
}

impl Problem for Data {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let n_slots = self.state.len() / (self.v_heads() * STATE);
        let head = ("v_head", self.v_heads());
        let mut all = self.x.tensors();
        all.extend([
            Tensor::input("state_in", &[("n_seq", self.state_in.len())], &self.state_in),
            Tensor::input("state_out", &[("n_tok", self.x.n)], &self.state_out),
            Tensor::in_out("state", &[("slot", n_slots), head, ("v", D), ("k", D)], &self.state),
            Tensor::output::<bf16>("o", &[("n_tok", self.x.n), head, ("v", D)]),
        ]);
        all
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, t: &Bound) -> Result<(), OpError> {
        let (launches, n_tok) = if self.steps { (self.n_tok, 1) } else { (1, self.n_tok) };
        let (heads, stride) = (self.x.heads, self.x.stride as u32);
        for i in 0..launches {
            let p = self.x.bound(t, i)?;
            let call = GdnDecodeCall {
                q: p.q,
                k: p.k,
                v: p.v,
                g: p.g,
                beta: p.beta,
                a: p.a,
                b: p.b,
                a_log: p.a_log,
                dt_bias: p.dt_bias,
                state: t.at("state")?,
                state_in: t.at("state_in")?.add(i),
                state_out: t.at("state_out")?.add(i),
                o: t.at("o")?.add(i * heads.values * D),
                n_seq: self.n_seq as u32,
                n_tok: n_tok as u32,
                k_heads: heads.keys as u32,
                v_heads: heads.values as u32,
                modulo: heads.modulo,
                q_stride: stride,
                k_stride: stride,
                v_stride: stride,
            };
            call.launch(device, stream, config)?;
        }
        Ok(())
    }

    fn reference(&self) -> Result<Answer, OpError> {
        reference::check(&self.x.inputs(), self.x.n)?;
        let pairs = self.n_seq * self.v_heads();
        let whole = pairs * self.n_tok <= CPU_LIMIT;
        let chosen = sample(
            Random::new(0, "gdn_decode pieces"),
            if whole { pairs } else { SAMPLED },
            pairs,
        );
        let mut answers: Vec<_> = chosen.iter().map(|&pair| (pair, None)).collect();
        rows(&mut answers, 1, |_, row| {
            let (pair, answer) = &mut row[0];
            *answer = Some(self.head(*pair / self.v_heads(), *pair % self.v_heads()));
        });
        let mut pieces = Vec::new();
        for (pair, answer) in answers {
            let (seq, head) = (pair / self.v_heads(), pair % self.v_heads());
            let (o, states) = answer.unwrap_or_default();
            for (t, row) in o.chunks(D).enumerate() {
                pieces.push(Piece::new(
                    "o",
                    ((seq * self.n_tok + t) * self.v_heads() + head) * D,
                    row,
                ));
            }
            for (slot, state) in states {
                pieces.push(Piece::new("state", self.at(slot, head), &state));
            }
        }
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
        if self.x.n == 0 {
            return Vec::new();
        }
        let seq = pick.below(0, self.n_seq as u64) as usize;
        let head = pick.below(1, self.v_heads() as u64) as usize;
        let mut parts = vec![self.part("head alone", seq, Some(head), false)];
        if self.n_seq > 1 {
            parts.push(self.part("sequence alone", seq, None, false));
        }
        if self.n_tok > 1 {
            parts.push(self.part("tokens one by one", seq, None, true));
        }
        parts
    }
}
