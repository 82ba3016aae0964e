//! `sample`: one token a row by temperature, top-k, top-p and a seed.

use kernels_gpu::sample::{BINS_BYTES, PART, THREADS, launches, parts, sample_bins};

use super::argmax::{VALUES, edges, logits};
use crate::cost::Work;
use crate::device::{Device, Stream};
use crate::op::call::Call;
use crate::op::data::{Draw, rows};
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Axis, Bound, Config, Dims, Piece, Problem, Same, Spec, Tensor, bytes, sample};
use crate::op::{Case, OpError, Values};
use crate::reference::sampling::{self, Sampling};

mod call;

pub use call::{SampleCall, scratch_bytes};

/// The operation.
pub struct Sample;

/// The largest vocabulary: sums of as many weights of 2^40 stay below 2^63.
const MAX_VOCAB: u64 = 1 << 23;
/// The CPU reference samples from up to so many logits (a second or two of a core, most of it sorting), beyond it
/// [`SAMPLED_ROWS`] rows.
const CPU_LIMIT: usize = 1 << 22;
const SAMPLED_ROWS: usize = 8;

/// top_p in thousandths as the kernel takes it: ceil(p * 2^24).
pub fn top_p_bits(milli: u64) -> u32 {
    (milli.min(1000) << 24).div_ceil(1000) as u32
}

fn case(name: &str, [n_tok, vocab]: [u64; 2], [top_k, top_p_milli]: [u64; 2], values: Values) -> Case {
    let dims = [
        ("n_tok", n_tok),
        ("vocab", vocab),
        ("top_k", top_k),
        ("top_p_milli", top_p_milli),
    ];
    Case::of::<Sample>("random", name, &dims, values)
}

/// Refuses rows without logits, and those of too many.
fn check_vocab(vocab: u64) -> Result<(), String> {
    if vocab == 0 || vocab > MAX_VOCAB {
        return Err(format!("vocab = {vocab}: from 1 to {MAX_VOCAB} logits are possible"));
    }
    Ok(())
}

impl Spec for Sample {
    const NAME: &'static str = "sample";
    const SUMMARY: &'static str = "seeded sampling with temperature, top-k and top-p";
    const AXES: &'static [Axis] = &[
        Axis::tokens(),
        Axis::required("vocab"),
        Axis::optional("top_k", 0).at_least(0),
        Axis::optional("top_p_milli", 1000).at_least(0),
    ];
    const DTYPES: &'static [&'static str] = &["f32"];
    const VALUES: &'static [Values] = VALUES;

    fn configs() -> Vec<Config> {
        vec![Config::plain(sample_bins::KERNEL.meta, THREADS, BINS_BYTES)]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        let (vocab, milli) = (dims.u64("vocab"), dims.u64("top_p_milli"));
        check_vocab(vocab)?;
        if milli > 1000 {
            return Err(format!("top_p_milli = {milli}: thousandths, 1000 at the most"));
        }
        Ok(())
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for (i, vocab) in (0..).zip(edges()) {
            cases.push(case("edge", [2, vocab], [0, 1000], Values::Normal));
            cases.push(case(
                "edge",
                [1, vocab],
                [[1, 1000], [0, 900], [5, 500]][i % 3],
                Values::Cancelling,
            ));
        }
        let part = u64::from(PART);
        for vocab in [part - 1, part, part + 1] {
            cases.push(case("edge", [2, vocab], [vocab / 2, 950], Values::Cancelling));
        }
        // More parts than the last launch has threads, the last key's logits in all of them.
        cases.push(case("edge", [1, 257 * part + 1], [300_000, 900], Values::Cancelling));
        for top_k in [0, 1, 2, 499, 500, 501] {
            for milli in [0, 1, 500, 999, 1000] {
                cases.push(case("edge", [2, 500], [top_k, milli], Values::Cancelling));
            }
        }
        cases.extend([0, 1, 5].map(|n_tok| case("edge", [n_tok, 100], [20, 950], Values::Normal)));
        for &values in VALUES {
            cases.push(case("edge", [6, 515], [0, 1000], values));
            cases.push(case("edge", [4, 515], [40, 900], values));
        }
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 16 + what, end);
        let vocab = 1 + draw(0, if draw(1, 3) == 0 { 5000 } else { 600 });
        let top_k = if draw(2, 2) == 0 {
            0
        } else {
            (1 + draw(3, vocab + 2)) >> draw(4, 6)
        };
        let milli = if draw(5, 2) == 0 { 1000 } else { draw(6, 1001) };
        let values = VALUES[draw(7, VALUES.len() as u64) as usize];
        case(&format!("case{i}"), [draw(8, 4), vocab], [top_k, milli], values)
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let (n_tok, vocab) = (dims.u64("n_tok"), dims.u64("vocab"));
        Work {
            read_bytes: 4 * n_tok * vocab,
            write_bytes: 4 * n_tok,
            launches: launches(),
            blocks: n_tok * u64::from(parts(vocab as u32)),
            threads: THREADS,
            shared_bytes: BINS_BYTES,
            ..Work::default()
        }
    }

    fn problem(dims: &Dims, values: Values, _: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        let (n_tok, vocab) = (dims.usize("n_tok"), dims.usize("vocab"));
        let draw = Draw { seed, values };
        let random = draw.random("sample parameters");
        let temperature = |i: u64| match random.below(4 * i, 12) {
            0 => 0.0,
            1 => -1.0,
            2 => f32::INFINITY,
            // Huge and tiny logits need such a temperature for more than one token to have a weight.
            3 => 1e37,
            4 => 1e-30,
            _ => 0.3 + random.below(4 * i + 1, 1700) as f32 / 1000.0,
        };
        let rows = 0..n_tok as u64;
        let top_k = dims.u32("top_k");
        Ok(Box::new(Data {
            vocab,
            logits: logits(draw, n_tok, vocab),
            // The first row is always an ordinary one.
            temperature: rows
                .clone()
                .map(|i| if i == 0 { 0.7 } else { temperature(i) })
                .collect(),
            top_k: rows.clone().map(|_| top_k).collect(),
            top_p: rows.clone().map(|_| top_p_bits(dims.u64("top_p_milli"))).collect(),
            seed: rows.clone().map(|i| random.at(4 * i + 2)).collect(),
            position: rows.map(|i| random.below(4 * i + 3, 1 << 20) as i32).collect(),
        }))
    }
}

/// The data of a case: a row of logits and of each parameter a token.
struct Data {
    vocab: usize,
    logits: Vec<f32>,
    temperature: Vec<f32>,
    top_k: Vec<u32>,
    top_p: Vec<u32>,
    seed: Vec<u64>,
    position: Vec<i32>,
}

impl Data {
    fn n_tok(&self) -> usize {
        self.seed.len()
    }

    /// The reference's token of a row.
    fn token(&self, row: usize) -> i32 {
        let with = Sampling {
            temperature: self.temperature[row],
            top_k: self.top_k[row],
            top_p: self.top_p[row],
            seed: self.seed[row],
            position: self.position[row],
        };
        sampling::sample(&self.logits[row * self.vocab..][..self.vocab], with) as i32
    }
}

impl Problem for Data {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let tokens = ("n_tok", self.n_tok());
        vec![
            Tensor::weight("logits", &[tokens, ("vocab", self.vocab)], &self.logits),
            Tensor::input("temperature", &[tokens], &self.temperature),
            Tensor::input("top_k", &[tokens], &self.top_k),
            Tensor::input("top_p", &[tokens], &self.top_p),
            Tensor::input("seed", &[tokens], &self.seed),
            Tensor::input("position", &[tokens], &self.position),
            Tensor::scratch::<u64>(
                "scratch",
                &[("word", scratch_bytes(self.n_tok() as u32, self.vocab as u32) / 8)],
            ),
            Tensor::output::<i32>("tokens", &[tokens]),
        ]
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, tensors: &Bound) -> Result<(), OpError> {
        let call = SampleCall {
            logits: tensors.at("logits")?,
            temperature: tensors.at("temperature")?,
            top_k: tensors.at("top_k")?,
            top_p: tensors.at("top_p")?,
            seed: tensors.at("seed")?,
            position: tensors.at("position")?,
            scratch: tensors.at("scratch")?,
            tokens: tensors.at("tokens")?,
            n_tok: self.n_tok() as u32,
            vocab: self.vocab as u32,
        };
        call.launch(device, stream, config)
    }

    fn reference(&self) -> Result<Answer, OpError> {
        if self.logits.len() <= CPU_LIMIT {
            let mut tokens = vec![0i32; self.n_tok()];
            rows(&mut tokens, 1, |row, out| out[0] = self.token(row));
            return Ok(Answer::Whole(vec![bytes(&tokens)]));
        }
        let picked = sample(Random::new(0, "sample pieces"), SAMPLED_ROWS, self.n_tok());
        let mut tokens = vec![0i32; picked.len()];
        rows(&mut tokens, 1, |i, out| out[0] = self.token(picked[i]));
        let piece = |(row, token): (usize, i32)| Piece::new("tokens", row, &[token]);
        Ok(Answer::Pieces(picked.iter().copied().zip(tokens).map(piece).collect()))
    }

    fn alone(&self, pick: Random) -> Vec<Alone> {
        if self.n_tok() < 2 {
            return Vec::new();
        }
        let row = |row: usize| Alone {
            name: "row alone",
            problem: Box::new(Data {
                vocab: self.vocab,
                logits: self.logits[row * self.vocab..][..self.vocab].to_vec(),
                temperature: vec![self.temperature[row]],
                top_k: vec![self.top_k[row]],
                top_p: vec![self.top_p[row]],
                seed: vec![self.seed[row]],
                position: vec![self.position[row]],
            }),
            same: vec![Same::new::<i32>("tokens", row, 0, 1)],
        };
        sample(pick, 3, self.n_tok()).into_iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::top_p_bits;

    #[test]
    fn top_p_is_rounded_up() {
        assert_eq!([0, 500, 1000, 2000].map(top_p_bits), [0, 1 << 23, 1 << 24, 1 << 24]);
        // 0.001 * 2^24 = 16777.216.
        assert_eq!(top_p_bits(1), 16_778);
    }
}
