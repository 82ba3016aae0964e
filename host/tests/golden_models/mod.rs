//! What the tests of whole models share: a tiny model and transformers' logits for it, and the bound of docs/numerics.md ("The model's
//! error").

use super::golden::Golden;
use host::device::{Device, SimtOptions};
use host::model::ModelError;
use host::model::config::{Mixer, Mlp, ModelConfig};
use host::model::engine::{Engine, Feed, Opened, Options, Sampling};
use host::model::layout::ModelLayout;
use host::model::weights::Origin;

/// A model of `host/tests/data/models` and its witness.
pub struct Model {
    name: &'static str,
    tokens: Vec<u32>,
    golden: Golden,
}

/// What counts for the number of roundings, beside the model's layers.
#[derive(Clone, Copy, Default)]
pub struct Ways {
    /// The gated delta net in chunks, not step by step.
    pub chunks: bool,
    /// Through the MTP head as well.
    pub mtp: bool,
}

impl Model {
    /// By the folder's or the file's name.
    pub fn new(name: &'static str) -> Self {
        let stem = name.trim_end_matches(".gguf").replace(['-', '.'], "_");
        let golden = Golden::open(&format!("model_{stem}"));
        let tokens = golden.i32("tokens").into_iter().map(|id| id as u32).collect();
        Model { name, tokens, golden }
    }

    /// The 64 tokens that the logits are of.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// A tensor of the witness.
    pub fn golden(&self) -> &Golden {
        &self.golden
    }

    /// The files, opened.
    pub fn open(&self) -> Box<dyn Opened> {
        let path = format!("{}/tests/data/models/{}", env!("CARGO_MANIFEST_DIR"), self.name);
        host::model::open(&path).unwrap()
    }

    /// The model on the simulator, with every access checked or, several times as fast, without.
    pub fn load(&self, checks: bool) -> Engine {
        load(self.open().as_ref(), checks)
    }

    /// In GGUF files products are of Q8_0, and the embedding and the experts are made bf16.
    fn is_q8(&self) -> bool {
        self.name.ends_with(".gguf")
    }

    /// N of docs/numerics.md.
    fn roundings(&self, config: &ModelConfig, ways: Ways) -> f64 {
        let product = if self.is_q8() { 15 } else { 0 };
        let a = &config.attention;
        let attention = 7 + u32::from(a.qk_norm) + u32::from(a.gate) + 2 * product;
        let gdn = 8 + 5 * u32::from(ways.chunks) + 2 * product;
        let mlp = |mlp| match mlp {
            Mlp::Dense => 5 + 2 * product,
            Mlp::Moe => 6 + 2 * u32::from(self.is_q8()),
        };
        let layers: u32 = config
            .layers
            .iter()
            .map(|layer| {
                let mixer = match layer.mixer {
                    Mixer::Attention => attention,
                    Mixer::Gdn => gdn,
                };
                mixer + mlp(layer.mlp)
            })
            .sum();
        let head = 1 + product + u32::from(self.is_q8());
        let mtp = if ways.mtp {
            3 + attention + mlp(config.layers.last().unwrap().mlp)
        } else {
            0
        };
        f64::from(layers + head + mtp)
    }

    /// The bound of one logit in units of the root mean square of its row, among `count` logits.
    pub fn bound(&self, config: &ModelConfig, ways: Ways, count: usize) -> f64 {
        let largest = (2.0 * (2.0 * count as f64).ln()).sqrt();
        3.0 * largest * 2f64.powi(-9) * self.roundings(config, ways).sqrt()
    }

    /// Compares logits with the witness's, `[rows][vocab]`: how many bounds the worst is away, and in how many rows the witness's
    /// largest logit is sure and ours is another.
    pub fn compare(&self, config: &ModelConfig, ways: Ways, got: &[f32], want: &[f64]) -> Comparison {
        let vocab = config.vocab as usize;
        assert_eq!(got.len(), want.len());
        assert!(!want.is_empty() && want.len().is_multiple_of(vocab));
        let bound = self.bound(config, ways, want.len());
        let mut found = Comparison::default();
        for (got, want) in got.chunks(vocab).zip(want.chunks(vocab)) {
            let rms = (want.iter().map(|x| x * x).sum::<f64>() / vocab as f64).sqrt();
            for (got, want) in got.iter().zip(want) {
                let bounds = (f64::from(*got) - want).abs() / (bound * rms);
                found.bounds = found.bounds.max(if bounds.is_nan() { f64::INFINITY } else { bounds });
            }
            let first = (0..vocab).max_by(|&i, &j| want[i].total_cmp(&want[j])).unwrap();
            let second = (0..vocab)
                .filter(|&i| i != first)
                .map(|i| want[i])
                .fold(f64::MIN, f64::max);
            if want[first] - second > 2.0 * bound * rms {
                found.sure += 1;
                found.wrong += usize::from((0..vocab).any(|i| i != first && got[i] >= got[first]));
            }
        }
        found
    }

    /// Asserts that logits are those of the witness; gives the rows whose largest logit was sure.
    pub fn holds(&self, what: &str, config: &ModelConfig, ways: Ways, got: &[f32], want: &[f64]) -> usize {
        let found = self.compare(config, ways, got, want);
        println!("{} {what}: {found:?}", self.name);
        assert!(
            found.bounds <= 1.0 && found.wrong == 0,
            "{} {what}: {found:?}",
            self.name
        );
        found.sure
    }
}

/// How logits compare with the witness's.
#[derive(Debug, Default)]
pub struct Comparison {
    /// The worst distance, in bounds.
    pub bounds: f64,
    /// Rows whose largest logit is further than two bounds from the next.
    pub sure: usize,
    /// Of those, the rows where ours is another.
    pub wrong: usize,
}

/// A model on the simulator, ready for one sequence of 128 positions, and for all logits.
pub fn load(opened: &dyn Opened, checks: bool) -> Engine {
    let device = Device::simt_with(SimtOptions {
        checks,
        ..SimtOptions::default()
    });
    let options = Options {
        context: 128,
        chunk: 64,
        all_logits: true,
        ..Options::default()
    };
    Engine::load(&device, opened, options).unwrap()
}

/// The logits of all tokens, the prompt in pieces of these sizes.
pub fn prefilled(engine: &mut Engine, tokens: &[u32], pieces: &[usize]) -> Vec<f32> {
    assert_eq!(pieces.iter().sum::<usize>(), tokens.len());
    let seq = engine.open(Sampling::GREEDY).unwrap();
    let (mut logits, mut first) = (Vec::new(), 0);
    for piece in pieces {
        logits.extend(engine.prefill_logits(seq, &tokens[first..first + piece]).unwrap());
        first += piece;
    }
    engine.close(seq);
    logits
}

/// The same, token by token, by the steps of decoding.
pub fn decoded(engine: &mut Engine, tokens: &[u32]) -> Vec<f32> {
    let seq = engine.open(Sampling::GREEDY).unwrap();
    let mut logits = Vec::new();
    for token in tokens.chunks(1) {
        engine.decode(&[Feed { seq, tokens: token }]).unwrap();
        logits.extend(engine.logits().unwrap());
    }
    engine.close(seq);
    logits
}

/// A model whose config or layout was made wrong.
pub struct Wrong {
    opened: Box<dyn Opened>,
    config: ModelConfig,
    layout: ModelLayout,
}

impl Wrong {
    /// A model, as it is.
    pub fn new(model: &Model) -> Self {
        let opened = model.open();
        let (config, layout) = (opened.config().clone(), opened.layout().clone());
        Wrong { opened, config, layout }
    }

    /// With an error.
    pub fn with(mut self, plant: impl FnOnce(&mut ModelConfig, &mut ModelLayout)) -> Self {
        plant(&mut self.config, &mut self.layout);
        self
    }
}

impl Opened for Wrong {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn layout(&self) -> &ModelLayout {
        &self.layout
    }

    fn origin(&self) -> Result<Box<dyn Origin + '_>, ModelError> {
        self.opened.origin()
    }
}
