//! `argmax`: the token of the largest logit.

use kernels_gpu::argmax::{PART, SHARED_BYTES, THREADS, argmax_fold, argmax_parts, parts};

use crate::cost::Work;
use crate::device::{DevPtr, Device, LaunchDims, Stream};
use crate::op::call::{Call, MODEL, expect_plain, refused};
use crate::op::data::{Draw, rows};
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Axis, Bound, Config, Dims, Problem, Same, Spec, Tensor, bytes, sample};
use crate::op::{Case, OpError, Values};
use crate::reference::sampling;

/// The operation.
pub struct Argmax;

/// The kinds of values that logits are checked with: see [`logits`].
pub(super) const VALUES: &[Values] = &[
    Values::Normal,
    Values::Zeros,
    Values::NonFinite,
    Values::Cancelling,
    Values::AllMinimum,
    Values::Huge,
    Values::Tiny,
    Values::Single,
    Values::WideRange,
];

/// Logits `[n_tok][vocab]` of a standard deviation of 4. `Cancelling`: rounded to halves, so that most are equal to
/// others, zeros of both signs among them; `AllMinimum`: a row of -infinity, or of NaN, in turn; `Zeros`: of either
/// sign.
pub(super) fn logits(draw: Draw, n_tok: usize, vocab: usize) -> Vec<f32> {
    let mut all: Vec<f32> = match draw.values {
        Values::Cancelling | Values::AllMinimum => draw.ordinary("logits", n_tok, vocab, 4.0),
        _ => draw.floats("logits", n_tok, vocab, 4.0),
    };
    match draw.values {
        Values::Cancelling => all.iter_mut().for_each(|v| *v = (*v * 2.0).round() / 2.0),
        Values::Zeros => {
            let random = draw.random("logits' signs");
            for (i, v) in all.iter_mut().enumerate() {
                *v = if random.at(i as u64).is_multiple_of(2) {
                    0.0
                } else {
                    -0.0
                };
            }
        }
        Values::AllMinimum => {
            for (token, row) in all.chunks_mut(vocab).enumerate() {
                row.fill(if token.is_multiple_of(2) {
                    f32::NEG_INFINITY
                } else {
                    f32::NAN
                });
            }
        }
        _ => {}
    }
    all
}

/// Vocabularies at the edges of vectors and parts.
pub(super) fn edges() -> [u64; 12] {
    let part = u64::from(PART);
    [1, 2, 3, 4, 5, 31, 33, 1000, part - 1, part, part + 1, 2 * part + 12]
}

fn case(name: &str, n_tok: u64, vocab: u64, values: Values) -> Case {
    Case::of::<Argmax>("random", name, &[("n_tok", n_tok), ("vocab", vocab)], values)
}

/// Refuses rows without logits, and those of more parts than a launch has blocks for.
fn check_vocab(vocab: u64) -> Result<(), String> {
    if vocab == 0 || vocab > u64::from(PART) * 65_535 {
        return Err(format!(
            "vocab = {vocab}: from 1 to 65535 parts of {PART} logits are possible"
        ));
    }
    Ok(())
}

impl Spec for Argmax {
    const NAME: &'static str = "argmax";
    const SUMMARY: &'static str = "the largest logit, at the lowest index of several";
    const AXES: &'static [Axis] = &[Axis::tokens(), Axis::required("vocab")];
    const DTYPES: &'static [&'static str] = &["f32"];
    const VALUES: &'static [Values] = VALUES;

    fn configs() -> Vec<Config> {
        vec![Config::plain(argmax_parts::KERNEL.meta, THREADS, SHARED_BYTES)]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        check_vocab(dims.u64("vocab"))
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases: Vec<Case> = edges()
            .into_iter()
            .map(|vocab| case("edge", 2, vocab, Values::Normal))
            .collect();
        // More than 32 parts: a lane folds several.
        cases.push(case("edge", 1, 33 * u64::from(PART) + 1, Values::Cancelling));
        cases.extend([0, 1, 9, 17].map(|n_tok| case("edge", n_tok, 260, Values::Normal)));
        cases.extend(VALUES.iter().map(|&values| case("edge", 4, 515, values)));
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 16 + what, end);
        let vocab = 1 + draw(0, if draw(1, 3) == 0 { 12_000 } else { 600 });
        let values = VALUES[draw(2, VALUES.len() as u64) as usize];
        case(&format!("case{i}"), draw(3, 12), vocab, values)
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let (n_tok, vocab) = (dims.u64("n_tok"), dims.u64("vocab"));
        Work {
            read_bytes: 4 * n_tok * vocab,
            write_bytes: 4 * n_tok,
            launches: 2,
            blocks: n_tok * u64::from(parts(vocab as u32)),
            threads: THREADS,
            shared_bytes: SHARED_BYTES,
            ..Work::default()
        }
    }

    fn problem(dims: &Dims, values: Values, _: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        let (n_tok, vocab) = (dims.usize("n_tok"), dims.usize("vocab"));
        let logits = logits(Draw { seed, values }, n_tok, vocab);
        Ok(Box::new(Data { n_tok, vocab, logits }))
    }
}

/// Bytes of the scratch of an [`ArgmaxCall`].
pub fn scratch_bytes(n_tok: u32, vocab: u32) -> usize {
    n_tok as usize * parts(vocab) as usize * size_of::<u64>()
}

/// The token of the largest logit of each row: docs/numerics.md, "Head and sampling".
#[derive(Clone, Copy, Debug)]
pub struct ArgmaxCall {
    /// `[n_tok][vocab]`.
    pub logits: DevPtr<f32>,
    /// Scratch of [`scratch_bytes`].
    pub parts: DevPtr<u64>,
    /// `[n_tok]`: the results.
    pub tokens: DevPtr<i32>,
    /// Rows.
    pub n_tok: u32,
    /// Logits of a row.
    pub vocab: u32,
}

impl Call for ArgmaxCall {
    fn case(&self) -> Case {
        let dims = [("n_tok", u64::from(self.n_tok)), ("vocab", u64::from(self.vocab))];
        Case::of::<Argmax>(MODEL, Argmax::NAME, &dims, Values::Normal)
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        expect_plain(Argmax::NAME, config)?;
        check_vocab(self.vocab.into()).map_err(|why| refused(Argmax::NAME, why))?;
        if self.n_tok == 0 {
            return Ok(());
        }
        let n_parts = parts(self.vocab);
        let dims = LaunchDims::new((self.n_tok, n_parts), THREADS).shared(SHARED_BYTES);
        let args = (self.logits.get(), self.parts.get_mut(), self.vocab);
        device.launch(stream, &argmax_parts::KERNEL, dims, args)?;
        let dims = LaunchDims::new(self.n_tok.div_ceil(THREADS / 32), THREADS);
        let args = (self.parts.get(), self.tokens.get_mut(), self.n_tok, n_parts);
        Ok(device.launch(stream, &argmax_fold::KERNEL, dims, args)?)
    }
}

/// The data of a case.
struct Data {
    n_tok: usize,
    vocab: usize,
    logits: Vec<f32>,
}

impl Problem for Data {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let tokens = ("n_tok", self.n_tok);
        vec![
            Tensor::weight("logits", &[tokens, ("vocab", self.vocab)], &self.logits),
            Tensor::scratch::<u64>("parts", &[tokens, ("part", parts(self.vocab as u32) as usize)]),
            Tensor::output::<i32>("tokens", &[tokens]),
        ]
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, tensors: &Bound) -> Result<(), OpError> {
        let call = ArgmaxCall {
            logits: tensors.at("logits")?,
            parts: tensors.at("parts")?,
            tokens: tensors.at("tokens")?,
            n_tok: self.n_tok as u32,
            vocab: self.vocab as u32,
        };
        call.launch(device, stream, config)
    }

    fn reference(&self) -> Result<Answer, OpError> {
        let mut tokens = vec![0i32; self.n_tok];
        rows(&mut tokens, 1, |token, out| {
            out[0] = sampling::argmax(&self.logits[token * self.vocab..][..self.vocab]) as i32;
        });
        Ok(Answer::Whole(vec![bytes(&tokens)]))
    }

    fn alone(&self, pick: Random) -> Vec<Alone> {
        if self.n_tok < 2 {
            return Vec::new();
        }
        let row = |token: usize| Alone {
            name: "row alone",
            problem: Box::new(Data {
                n_tok: 1,
                logits: self.logits[token * self.vocab..][..self.vocab].to_vec(),
                ..*self
            }),
            same: vec![Same::new::<i32>("tokens", token, 0, 1)],
        };
        sample(pick, 3, self.n_tok).into_iter().map(row).collect()
    }
}
