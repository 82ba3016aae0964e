//! `moe_router`: a token's best experts and their softmax weights.

use kernels_gpu::moe_router::{THREADS, grid, moe_router_e256, moe_router_e512, moe_router_e1024};

use crate::cost::Work;
use crate::device::{DevPtr, Device, LaunchDims, Stream};
use crate::op::call::{Call, MODEL, expect_aligned, expect_plain};
use crate::op::data::Draw;
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Axis, Bound, Config, Dims, Piece, Problem, Same, Spec, Tensor, bytes, sample};
use crate::op::{Case, OpError, Values};
use crate::reference::moe::{self as reference, Routed};

/// The operation.
pub struct MoeRouter;

/// The CPU reference routes up to so many logits (about a second of a core), beyond it [`SAMPLED_ROWS`] tokens.
const CPU_LIMIT: usize = 1 << 22;
const SAMPLED_ROWS: usize = 256;

fn case(name: &str, [experts, top_k, normalise]: [u64; 3], n_tok: u64, values: Values) -> Case {
    let dims = [
        ("n_tok", n_tok),
        ("experts", experts),
        ("top_k", top_k),
        ("normalise", normalise),
    ];
    Case::of::<MoeRouter>("random", name, &dims, values)
}

impl Spec for MoeRouter {
    const NAME: &'static str = "moe_router";
    const SUMMARY: &'static str = "the top_k experts of each token and their softmax weights";
    const AXES: &'static [Axis] = &[
        Axis::tokens(),
        Axis::required("experts"),
        Axis::required("top_k"),
        Axis::optional("normalise", 1).at_least(0),
    ];
    const DTYPES: &'static [&'static str] = &["f32"];
    /// `Extremes`: whole numbers from -2 to 2, so that most logits tie with others.
    const VALUES: &'static [Values] = &[
        Values::Normal,
        Values::Zeros,
        Values::Extremes,
        Values::NonFinite,
        Values::NonFiniteScales,
        Values::Cancelling,
        Values::Huge,
        Values::Tiny,
        Values::Single,
        Values::WideRange,
    ];

    fn configs() -> Vec<Config> {
        vec![Config::plain(moe_router_e256::KERNEL.meta, THREADS, 0)]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        super::check_routing(dims.u64("n_tok"), dims.u64("experts"), dims.u64("top_k"))?;
        super::check_flag(dims, "normalise")
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for (experts, top_k) in [
            (1, 1),
            (2, 2),
            (7, 3),
            (8, 2),
            (60, 4),
            (128, 8),
            (255, 5),
            (256, 8),
            (257, 32),
            (512, 10),
            (513, 1),
            (1023, 7),
            (1024, 32),
        ] {
            for normalise in [0, 1] {
                cases.push(case("edge", [experts, top_k, normalise], 9, Values::Normal));
            }
        }
        for n_tok in [0, 1, 4, 5] {
            cases.push(case("edge", [256, 8, 1], n_tok, Values::Normal));
        }
        for &values in Self::VALUES {
            for normalise in [0, 1] {
                cases.push(case("edge", [60, 8, normalise], 13, values));
                cases.push(case("edge", [256, 8, normalise], 7, values));
            }
        }
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 8 + what, end);
        let experts = match draw(0, 3) {
            0 => 1 + draw(1, 40),
            1 => [8, 60, 64, 128, 256, 512][draw(1, 6) as usize],
            _ => 1 + draw(1, 1024),
        };
        let top_k = 1 + draw(2, experts.min(if draw(3, 4) == 0 { 32 } else { 10 }));
        let values = Self::VALUES[draw(4, Self::VALUES.len() as u64) as usize];
        case(&format!("case{i}"), [experts, top_k, draw(5, 2)], draw(6, 20), values)
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let n_tok = dims.u64("n_tok");
        Work {
            read_bytes: 4 * n_tok * dims.u64("experts"),
            write_bytes: 8 * n_tok * dims.u64("top_k"),
            blocks: u64::from(grid(dims.u32("n_tok"))),
            threads: THREADS,
            ..Work::default()
        }
    }

    fn problem(dims: &Dims, values: Values, _: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        let (n_tok, experts) = (dims.usize("n_tok"), dims.usize("experts"));
        let draw = Draw { seed, values };
        let mut logits: Vec<f32> = draw.floats("moe_router logits", n_tok, experts, 2.0);
        let random = draw.random("moe_router special");
        for (i, logit) in logits.iter_mut().enumerate() {
            match values {
                Values::Extremes => *logit = logit.round().clamp(-2.0, 2.0),
                // Whole rows of NaN, of either infinity, and of zeros of both signs.
                Values::NonFiniteScales => {
                    let of = |kinds: [f32; 2]| kinds[(random.at(i as u64) & 1) as usize];
                    *logit = match i / experts % 4 {
                        0 => f32::NAN,
                        1 => of([f32::NEG_INFINITY, f32::NAN]),
                        2 => of([f32::INFINITY, 1.0]),
                        _ => of([0.0, -0.0]),
                    };
                }
                _ => {}
            }
        }
        Ok(Box::new(Data {
            n_tok,
            experts,
            top_k: dims.usize("top_k"),
            normalise: dims.u64("normalise") == 1,
            logits,
        }))
    }
}

/// The `top_k` best experts of each token, and their weights.
#[derive(Clone, Copy, Debug)]
pub struct MoeRouterCall {
    /// `[n_tok][experts]`; at a multiple of 16 bytes where experts are one of 4.
    pub logits: DevPtr<f32>,
    /// `[n_tok][top_k]`: the experts, in rank order.
    pub ids: DevPtr<i32>,
    /// `[n_tok][top_k]`: their weights.
    pub weights: DevPtr<f32>,
    /// Tokens.
    pub n_tok: u32,
    /// Experts.
    pub experts: u32,
    /// How many a token chooses.
    pub top_k: u32,
    /// Whether the weights of the chosen ones sum up to 1; else those of all experts would.
    pub normalise: bool,
}

impl Call for MoeRouterCall {
    fn case(&self) -> Case {
        let dims = [
            ("n_tok", u64::from(self.n_tok)),
            ("experts", u64::from(self.experts)),
            ("top_k", u64::from(self.top_k)),
            ("normalise", u64::from(self.normalise)),
        ];
        Case::of::<MoeRouter>(MODEL, MoeRouter::NAME, &dims, Values::Normal)
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        const OP: &str = MoeRouter::NAME;
        expect_plain(OP, config)?;
        let Self {
            n_tok, experts, top_k, ..
        } = *self;
        super::expect_routing(OP, n_tok, experts, top_k)?;
        if experts.is_multiple_of(4) {
            expect_aligned(OP, "logits", self.logits, 16)?;
        }
        if n_tok == 0 {
            return Ok(());
        }
        let kernel = match experts {
            0..=256 => moe_router_e256::KERNEL,
            257..=512 => moe_router_e512::KERNEL,
            _ => moe_router_e1024::KERNEL,
        };
        let args = (
            self.logits.get(),
            self.ids.get_mut(),
            self.weights.get_mut(),
            n_tok,
            experts,
            top_k,
            u32::from(self.normalise),
        );
        Ok(device.launch(stream, &kernel, LaunchDims::new(grid(n_tok), THREADS), args)?)
    }
}

/// The data of a case.
struct Data {
    n_tok: usize,
    experts: usize,
    top_k: usize,
    normalise: bool,
    logits: Vec<f32>,
}

impl Data {
    /// The same routing of one token.
    fn token(&self, token: usize) -> Data {
        Data {
            n_tok: 1,
            logits: self.logits[token * self.experts..][..self.experts].to_vec(),
            ..*self
        }
    }

    fn answer(&self) -> Result<Routed, OpError> {
        let Data {
            n_tok,
            experts,
            top_k,
            normalise,
            ..
        } = *self;
        Ok(reference::router(&self.logits, n_tok, experts, top_k, normalise)?)
    }
}

impl Problem for Data {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let out = [("n_tok", self.n_tok), ("top_k", self.top_k)];
        vec![
            Tensor::weight(
                "logits",
                &[("n_tok", self.n_tok), ("experts", self.experts)],
                &self.logits,
            ),
            Tensor::output::<i32>("ids", &out),
            Tensor::output::<f32>("weights", &out),
        ]
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, tensors: &Bound) -> Result<(), OpError> {
        let call = MoeRouterCall {
            logits: tensors.at("logits")?,
            ids: tensors.at("ids")?,
            weights: tensors.at("weights")?,
            n_tok: self.n_tok as u32,
            experts: self.experts as u32,
            top_k: self.top_k as u32,
            normalise: self.normalise,
        };
        call.launch(device, stream, config)
    }

    fn reference(&self) -> Result<Answer, OpError> {
        if self.n_tok * self.experts <= CPU_LIMIT {
            let Routed { ids, weights } = self.answer()?;
            return Ok(Answer::Whole(vec![bytes(&ids), bytes(&weights)]));
        }
        let mut pieces = Vec::new();
        for token in sample(Random::new(0, "moe_router pieces"), SAMPLED_ROWS, self.n_tok) {
            let Routed { ids, weights } = self.token(token).answer()?;
            pieces.push(Piece::new("ids", token * self.top_k, &ids));
            pieces.push(Piece::new("weights", token * self.top_k, &weights));
        }
        Ok(Answer::Pieces(pieces))
    }

    fn alone(&self, pick: Random) -> Vec<Alone> {
        if self.n_tok < 2 {
            return Vec::new();
        }
        let row = |token| Alone {
            name: "token alone",
            problem: Box::new(self.token(token)),
            same: vec![
                Same::new::<i32>("ids", token * self.top_k, 0, self.top_k),
                Same::new::<f32>("weights", token * self.top_k, 0, self.top_k),
            ],
        };
        sample(pick, 3, self.n_tok).into_iter().map(row).collect()
    }
}
