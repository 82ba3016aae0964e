//! The forward of whole models on the simulator against the plain one of `host::reference`, byte for byte: prompts in chunks, then tokens one by
//! one, then several in one step. The reference's weights are read from the files apart from the loader, so that a tensor that is loaded to a wrong
//! place is seen as well; of every family an error is planted, and seen.

mod files;
mod models;
mod synthetic;

use half::bf16;
use host::device::Device;
use host::model::engine::{Engine, Feed, Opened, Options, Sampling};
use host::model::synthetic::Synthetic;
use host::reference::ReferenceError;
use host::reference::model::{Format, Matrix, Mixer, Mlp, Model};
use host::reference::nvfp4::{Convention, Weights};
use host::rope::{Scaling, frequencies};

/// Of the prompt: beyond a chunk of 64, and no multiple of 16.
const PROMPT: usize = 70;
/// Tokens that are decoded one by one.
const SINGLE: usize = 3;
/// Tokens that are decoded together.
const TOGETHER: usize = 3;

/// A prompt of so many tokens, and those that are decoded.
fn tokens(prompt: usize, vocab: usize) -> Vec<u32> {
    let token = |i: usize| (i * i * 37 + i * 101 + 5) % vocab;
    (0..prompt + SINGLE + TOGETHER).map(|i| token(i) as u32).collect()
}

/// The engine's logits of every token, on the simulator.
fn simulated(opened: &dyn Opened, tokens: &[u32], prompt: usize) -> Vec<f32> {
    let options = Options {
        context: 128,
        chunk: 64,
        page: 16,
        drafts: TOGETHER as u32 - 1,
        all_logits: true,
        ..Options::default()
    };
    let device = Device::simt_with(Default::default());
    let mut engine = Engine::load(&device, opened, options).unwrap();
    let seq = engine.open(Sampling::GREEDY).unwrap();
    let (prompt, rest) = tokens.split_at(prompt);
    let mut logits = engine.prefill_logits(seq, prompt).unwrap();
    let (single, together) = rest.split_at(SINGLE);
    for tokens in single.chunks(1).chain([together]) {
        engine.decode(&[Feed { seq, tokens }]).unwrap();
        logits.extend(engine.logits().unwrap());
    }
    logits
}

/// The first place where two lists of logits differ: row, column, both values.
fn difference(got: &[f32], wanted: &[f32], vocab: usize) -> Option<(usize, usize, f32, f32)> {
    assert_eq!(got.len(), wanted.len());
    let mut pairs = got.iter().zip(wanted).enumerate();
    let (at, (got, wanted)) = pairs.find(|(_, (got, wanted))| got.to_bits() != wanted.to_bits())?;
    Some((at / vocab, at % vocab, *got, *wanted))
}

/// Logits as a wrong implementation would have them.
type Wrong<'a> = &'a dyn Fn(&Model, &[u32]) -> Result<Vec<f32>, ReferenceError>;

/// The engine's logits are the reference's; those of a wrong forward of the first `few` tokens are not.
fn check_model(opened: &dyn Opened, model: &Model, prompt: usize, few: usize, wrong: Wrong<'_>) {
    let (name, vocab) = (&opened.config().name, model.head.n);
    let tokens = tokens(prompt, vocab);
    let got = simulated(opened, &tokens, prompt);
    let wanted = model.logits(&tokens, prompt).unwrap();
    assert!(wanted.iter().all(|v| v.is_finite()) && wanted.iter().any(|v| *v != 0.0));
    let first = difference(&got, &wanted, vocab);
    assert_eq!(first, None, "{name}: (row, column, simulator, reference)");
    let wrong = wrong(model, &tokens[..few]).unwrap();
    let first = difference(&got[..few * vocab], &wrong, vocab);
    assert_ne!(first, None, "{name}: the planted error is not seen");
}

/// [`check_model`] of files.
fn check(name: &'static str, few: usize, wrong: Wrong<'_>) {
    let opened = host::model::open(&files::path(name).to_string_lossy()).unwrap();
    let model = models::read(models::facts(name));
    check_model(opened.as_ref(), &model, PROMPT, few, wrong);
}

/// [`check`] with an error in what the model is.
fn check_with(name: &'static str, plant: fn(&mut Model)) {
    check(name, 8, &|model, tokens| {
        let mut model = model.clone();
        plant(&mut model);
        model.logits(tokens, PROMPT)
    });
}

#[test]
fn llama() {
    check_with("tiny-llama", |model| {
        let scaling = Scaling::None;
        model.config.attention.inv_freq = frequencies(5e5, 128, &scaling).unwrap();
    });
}

#[test]
fn qwen3() {
    check_with("tiny-qwen3", |model| {
        let Mlp::Dense(dense) = &mut model.layers[1].mlp else {
            panic!("experts")
        };
        std::mem::swap(&mut dense.gate, &mut dense.up);
    });
}

#[test]
fn qwen3_coder() {
    check_with("tiny-qwen3-coder", |model| model.config.moe.normalise = false);
}

/// A token takes the order of what it is: the prompt's last one in the order of decode has other bytes.
#[test]
fn qwen3_next() {
    check("tiny-qwen3-next", PROMPT, &|model, tokens| {
        model.logits(tokens, PROMPT - 1)
    });
}

#[test]
fn qwen3_5() {
    check_with("tiny-qwen3.5", |model| model.config.gdn.modulo = true);
}

/// The residual stream taken after the norm.
#[test]
fn qwen3_6() {
    check("tiny-qwen3.6", 8, &|model, tokens| {
        let mut h = model.embed(tokens)?;
        for layer in &model.layers {
            let x = model.norm(&h, &layer.input_norm)?;
            h = model.add(&model.mix(&layer.mixer, &x, PROMPT)?, &x)?;
            let x = model.norm(&h, &layer.post_norm)?;
            h = model.add(&model.feed(&layer.mlp, &x)?, &x)?;
        }
        model.head.times(&model.norm(&h, &model.final_norm)?)
    });
}

/// A layer's o_proj as bf16, with its scales in the weights: of NVFP4 they are rounded then, which they are not otherwise; of Q8_0 the activations
/// are not quantised then, which they are otherwise.
fn o_in_bf16(model: &mut Model) {
    let Mixer::Attention(attention) = &mut model.layers[0].mixer else {
        panic!("no attention")
    };
    let Matrix { n, k, ref mut format } = attention.o;
    let values: Vec<f32> = match format {
        Format::Nvfp4 {
            codes,
            scales,
            tensor,
            convention,
        } => {
            let scale = match convention {
                Convention::ModelOpt => *tensor,
                Convention::CompressedTensors => 1.0 / *tensor,
            };
            let w = Weights { codes, scales, n, k }.dequantised::<bf16>().unwrap();
            w.into_iter().map(|w| w.to_f32() * scale).collect()
        }
        Format::Q8(blocks) => files::dequantised(blocks),
        Format::Bf16(_) => panic!("it is bf16"),
    };
    *format = Format::Bf16(values.into_iter().map(bf16::from_f32).collect());
}

#[test]
fn nvfp4_of_modelopt() {
    check_with("tiny-qwen3-coder-modelopt", o_in_bf16);
}

#[test]
fn nvfp4_of_compressed_tensors() {
    check_with("tiny-qwen3-compressed-tensors", o_in_bf16);
}

#[test]
fn q8_0_llama() {
    check_with("tiny-llama-q8_0.gguf", |model| {
        // Pairs as the file's rows have them.
        model.config.attention.interleaved = true;
    });
}

#[test]
fn q8_0_qwen3() {
    check_with("tiny-qwen3-q8_0.gguf", o_in_bf16);
}

#[test]
fn q8_0_qwen3_coder() {
    check_with("tiny-qwen3-coder-q8_0.gguf", |model| {
        let head = model.head.clone();
        let Format::Q8(blocks) = head.format else {
            panic!("the head is not Q8_0")
        };
        let w = files::dequantised(&blocks).into_iter().map(bf16::from_f32).collect();
        model.head.format = Format::Bf16(w);
    });
}

/// The layout of Qwen3.6 in NVFP4: projections of nets, gated attention, experts and the shared one. The shared expert's gate and up are exchanged.
#[test]
fn nvfp4_of_a_hybrid() {
    let opened = Synthetic::open("synthetic:tiny-qwen3.6:weights=nvfp4").unwrap();
    let model = synthetic::model(&opened);
    let Mixer::Gdn(net) = &model.layers[0].mixer else {
        panic!("no net")
    };
    assert!(matches!(net.out.format, Format::Nvfp4 { .. }));
    check_model(&opened, &model, 20, 4, &|model, tokens| {
        let mut model = model.clone();
        let Mlp::Moe(moe) = &mut model.layers[3].mlp else {
            panic!("no experts")
        };
        let (shared, _) = &mut **moe.shared.as_mut().unwrap();
        std::mem::swap(&mut shared.gate, &mut shared.up);
        model.logits(tokens, tokens.len())
    });
}
