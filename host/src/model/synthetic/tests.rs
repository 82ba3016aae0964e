//! Names, the shape files' models against what is published of them.

use super::*;
use crate::device::{Device, SimtOptions};
use crate::model::config::Mixer;
use crate::model::engine::{Engine, Options, Sampling};
use crate::model::memory::Memory;
use crate::model::weights::ModelWeights;

#[test]
fn names_are_taken_apart() {
    let name = |text: &str| SyntheticName::parse(text).unwrap();
    let plain = name("synthetic:qwen3-8b");
    assert_eq!(
        (plain.model.as_str(), plain.layers, plain.weights, plain.seed),
        ("qwen3-8b", None, None, 0)
    );
    let full = name("synthetic:qwen3.6-35b-a3b:seed=18446744073709551615:layers=4:weights=q8_0");
    assert_eq!((full.model.as_str(), full.layers), ("qwen3.6-35b-a3b", Some(4)));
    assert_eq!((full.weights, full.seed), (Some(WeightFormat::Q8_0), u64::MAX));
}

#[test]
fn what_is_no_name_is_refused_with_what_would_do() {
    for (text, wanted) in [
        ("qwen3-8b", "begins with `synthetic:`"),
        ("synthetic:", "there is no model ``; there are llama-3.2-3b, qwen3-4b"),
        ("synthetic:qwen9", "there is no model `qwen9`; there are "),
        ("synthetic:anchors", "there is no model `anchors`"),
        ("synthetic:qwen3-8b:layers=0", "layers=`0`: it must be a number from 1"),
        ("synthetic:qwen3-8b:layers", "layers=``"),
        ("synthetic:qwen3-8b:layers=1:layers=2", "`layers` is given twice"),
        (
            "synthetic:qwen3-8b:weights=fp8",
            "weights=`fp8`: it must be bf16, nvfp4 or q8_0",
        ),
        (
            "synthetic:qwen3-8b:seed=-1",
            "seed=`-1`: it must be a number from 0, below 2^64",
        ),
        ("synthetic:qwen3-8b:depth=3", "`depth` is no option; there are layers=N"),
        ("synthetic:qwen3-8b:", "`` is no option"),
        ("synthetic:qwen3-8b:layers=37", "37: the model has 36"),
    ] {
        let error = Synthetic::open(text).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    }
    assert_eq!(
        config("qwen3-8b").unwrap(),
        config("synthetic:qwen3-8b:seed=3").unwrap()
    );
}

/// Every file with a `[model]` is a model that can be loaded.
#[test]
fn every_model_passes_its_check() {
    let shapes = ShapeSet::embedded().unwrap();
    let names = names(&shapes);
    assert_eq!(names.len(), 12, "{names:?}");
    for name in names {
        let model = Synthetic::open(&format!("{PREFIX}{name}")).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(model.config().layers.len(), model.layout().layers.len());
        assert!(model.config().max_positions >= 4096, "{name}");
        assert_eq!(model.layout().mtp.is_some(), model.config().mtp, "{name}");
    }
}

/// Bytes of a model's weights, counted by the code that loads them.
fn bytes(name: &str, weights: WeightFormat, mtp: bool) -> u64 {
    let mut config = config(name).unwrap();
    config.mtp &= mtp;
    let model = Synthetic::new(config, weights, 0).unwrap();
    let mut memory = Memory::counted();
    let size = [model.config.vocab, model.config.hidden];
    ModelWeights::load(model.origin().unwrap().as_mut(), &mut memory, model.layout(), size).unwrap();
    memory.total()
}

/// Parameters as the models' cards say them, in millions.
#[test]
fn parameters_are_as_published() {
    for (name, millions) in [
        ("qwen3.6-35b-a3b", 34_660),
        ("qwen3-next-80b-a3b", 79_670),
        ("qwen3-coder-30b-a3b", 30_532),
        ("qwen3-8b", 8_191),
        ("qwen3-4b", 4_022),
        ("qwen3.5-4b", 4_206),
        ("llama-3.2-3b", 3_213),
    ] {
        let counted = bytes(name, WeightFormat::Bf16, false) / 2_000_000;
        let off = (counted as f64 / f64::from(millions) - 1.0).abs();
        assert!(off < 0.005, "{name}: {counted} million, and {millions} are published");
    }
}

/// The sizes that the formats have: 9 and 17 bytes of NVFP4 and Q8_0 for 16 values.
#[test]
fn formats_take_the_bytes_they_should() {
    let gigabytes = |name, weights| bytes(name, weights, true) as f64 / 1e9;
    let close = |got: f64, wanted: f64| assert!((got / wanted - 1.0).abs() < 0.01, "{got}, not {wanted}");
    close(gigabytes("qwen3-8b", WeightFormat::Q8_0), 8.191 * 34.0 / 32.0);
    // The head and the embedding stay bf16.
    let outer = 2.0 * 151_936.0 * 2048.0 / 1e9;
    let experts = 30.532 - outer;
    close(
        gigabytes("qwen3-coder-30b-a3b", WeightFormat::Nvfp4),
        experts * 9.0 / 16.0 + outer * 2.0,
    );
}

/// The tables say what the families' own configs say of the same models.
#[test]
fn layers_alternate_as_the_interval_says() {
    let hybrid = config("qwen3.6-35b-a3b").unwrap();
    assert_eq!((hybrid.attention_layers(), hybrid.gdn_layers()), (10, 30));
    let attention = |i: usize| hybrid.layers[i].mixer == Mixer::Attention;
    assert!((0..40).all(|i| attention(i) == (i % 4 == 3)));
    assert_eq!(config("qwen3-8b").unwrap().gdn_layers(), 0);
}

/// Logits of some tokens, of the model with its layers repeated until there are so many.
fn logits(name: &str, layers: usize, tokens: &[u32]) -> Vec<f32> {
    let mut config = config(name).unwrap();
    config.layers = config.layers.iter().copied().cycle().take(layers).collect();
    config.mtp = false;
    let model = Synthetic::new(config, WeightFormat::Bf16, 0).unwrap();
    let options = Options {
        graphs: false,
        context: 64,
        chunk: 64,
        all_logits: true,
        ..Options::default()
    };
    // What is asked here are values; without its checks the simulator is faster.
    let fast = SimtOptions {
        checks: false,
        ..SimtOptions::default()
    };
    let mut engine = Engine::load(&Device::simt_with(fast), &model, options).unwrap();
    let seq = engine.open(Sampling::GREEDY).unwrap();
    engine.prefill_logits(seq, tokens).unwrap()
}

/// The cosine of the angle between two lists.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// A deep model's logits are of order 1, tokens differ, what came before counts, and the last layers neither drown nor do all: the
/// residual stream neither fades nor explodes.
#[test]
fn deep_models_keep_activations_of_order_1_and_tokens_apart() {
    for (name, layers) in [("tiny-qwen3", 12), ("tiny-llama", 12), ("tiny-qwen3.6", 8)] {
        let tokens = [7, 100, 3, 511, 0, 100];
        let whole = logits(name, layers, &tokens);
        assert!(whole.iter().all(|v| v.is_finite()), "{name}");
        let rows: Vec<&[f32]> = whole.chunks_exact(512).collect();
        let mut alike = Vec::new();
        for (i, row) in rows.iter().enumerate() {
            let rms = (row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 512.0).sqrt();
            assert!((0.7..1.4).contains(&rms), "{name}: rms {rms} of row {i}");
            alike.extend(rows[..i].iter().map(|other| cosine(row, other)));
        }
        // With attention that averages over all positions it is 0.75.
        let mean = alike.iter().sum::<f64>() / alike.len() as f64;
        assert!(mean < 0.5, "{name}: rows are {mean} alike: {alike:?}");
        let fewer = logits(name, layers - 4, &tokens);
        let c = cosine(&whole, &fewer);
        assert!((0.5..0.999).contains(&c), "{name}: 4 layers less are {c} like all");
    }
}
