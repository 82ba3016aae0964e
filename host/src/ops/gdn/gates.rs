//! `gdn_gates`: g = -(exp(A_log) softplus(a + dt_bias)) and beta = sigmoid(b).

use half::bf16;
use kernels_gpu::gdn_gates::{THREADS, gdn_gates, grid};

use super::GdnGatesCall;
use crate::cost::Work;
use crate::device::{Device, Stream};
use crate::op::call::Call;
use crate::op::data::{Draw, rows};
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Axis, Bound, Config, Dims, Problem, Same, Spec, Tensor, bytes, sample};
use crate::op::{Case, OpError, Values};
use crate::reference::gdn as reference;

/// The operation.
pub struct GdnGates;

fn case(name: &str, n_tok: u64, v_heads: u64, values: Values) -> Case {
    Case::of::<GdnGates>("random", name, &[("n_tok", n_tok), ("v_heads", v_heads)], values)
}

/// Refuses more gates than a kernel counts.
pub(super) fn check_count(n_tok: u64, v_heads: u64) -> Result<(), String> {
    if n_tok * v_heads >= 1 << 31 {
        return Err(format!("n_tok = {n_tok}, v_heads = {v_heads}: 2^31 gates or more"));
    }
    Ok(())
}

impl Spec for GdnGates {
    const NAME: &'static str = "gdn_gates";
    const SUMMARY: &'static str = "gates of the delta net from their projections";
    const AXES: &'static [Axis] = &[Axis::tokens(), Axis::required("v_heads")];
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
        vec![Config::plain(gdn_gates::KERNEL.meta, THREADS, 0)]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        check_count(dims.u64("n_tok"), dims.u64("v_heads"))
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for n_tok in [0, 1, 2, 63] {
            for v_heads in [1, 8, 32, 257] {
                cases.push(case("edge", n_tok, v_heads, Values::Normal));
            }
        }
        cases.extend(Self::VALUES.iter().map(|&values| case("edge", 33, 31, values)));
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 8 + what, end);
        let values = Self::VALUES[draw(0, Self::VALUES.len() as u64) as usize];
        case(&format!("case{i}"), draw(1, 70), 1 + draw(2, 64), values)
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let n = dims.u64("n_tok") * dims.u64("v_heads");
        Work {
            read_bytes: 4 * n,
            write_bytes: 8 * n,
            blocks: u64::from(grid(dims.u32("n_tok"), dims.u32("v_heads"))),
            threads: THREADS,
            ..Work::default()
        }
    }

    fn problem(dims: &Dims, values: Values, _: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        let (n_tok, v_heads) = (dims.usize("n_tok"), dims.usize("v_heads"));
        let draw = Draw { seed, values };
        // b and a in one row, as a fused projection leaves them.
        let ba = draw.floats("gdn_gates ba", n_tok, 2 * v_heads, 3.0);
        let a_log = draw.ordinary("gdn_gates A_log", 1, v_heads, 3.0);
        let dt_bias = draw.floats("gdn_gates dt_bias", 1, v_heads, 2.0);
        Ok(Box::new(Data {
            n_tok,
            v_heads,
            ba,
            a_log,
            dt_bias,
        }))
    }
}

/// The data of a case.
struct Data {
    n_tok: usize,
    v_heads: usize,
    ba: Vec<bf16>,
    a_log: Vec<f32>,
    dt_bias: Vec<f32>,
}

impl Problem for Data {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let (n_tok, v_heads) = (("n_tok", self.n_tok), ("v_head", self.v_heads));
        vec![
            Tensor::weight("ba", &[n_tok, ("b or a", 2), v_heads], &self.ba),
            Tensor::input("a_log", &[v_heads], &self.a_log),
            Tensor::input("dt_bias", &[v_heads], &self.dt_bias),
            Tensor::output::<f32>("g", &[n_tok, v_heads]),
            Tensor::output::<f32>("beta", &[n_tok, v_heads]),
        ]
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, t: &Bound) -> Result<(), OpError> {
        let b = t.at("ba")?;
        let stride = 2 * self.v_heads as u32;
        let call = GdnGatesCall {
            a: b.add(self.v_heads),
            b,
            a_log: t.at("a_log")?,
            dt_bias: t.at("dt_bias")?,
            g: t.at("g")?,
            beta: t.at("beta")?,
            n_tok: self.n_tok as u32,
            v_heads: self.v_heads as u32,
            a_stride: stride,
            b_stride: stride,
        };
        call.launch(device, stream, config)
    }

    fn reference(&self) -> Result<Answer, OpError> {
        let mut gates = vec![(0.0, 0.0); self.n_tok * self.v_heads];
        rows(&mut gates, self.v_heads, |token, row| {
            for (h, out) in row.iter_mut().enumerate() {
                let at = token * 2 * self.v_heads + h;
                *out = reference::gates(self.ba[at + self.v_heads], self.ba[at], self.a_log[h], self.dt_bias[h]);
            }
        });
        let (g, beta): (Vec<f32>, Vec<f32>) = gates.into_iter().unzip();
        Ok(Answer::Whole(vec![bytes(&g), bytes(&beta)]))
    }

    fn alone(&self, pick: Random) -> Vec<Alone> {
        if self.n_tok < 2 {
            return Vec::new();
        }
        let row = |token: usize| Alone {
            name: "row alone",
            problem: Box::new(Data {
                n_tok: 1,
                v_heads: self.v_heads,
                ba: self.ba[token * 2 * self.v_heads..][..2 * self.v_heads].to_vec(),
                a_log: self.a_log.clone(),
                dt_bias: self.dt_bias.clone(),
            }),
            same: ["g", "beta"]
                .map(|tensor| Same::new::<f32>(tensor, token * self.v_heads, 0, self.v_heads))
                .to_vec(),
        };
        sample(pick, 3, self.n_tok).into_iter().map(row).collect()
    }
}
