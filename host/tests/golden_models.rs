//! Whole models of every family on the simulator against Hugging Face transformers' float32 forward (`scripts/golden/models.py`,
//! `quantised_models.py`), within the bound that docs/numerics.md derives ("The model's error"): the prompt at once, in pieces, and token by
//! token in the order of decoding. NVFP4 and Q8_0 are held to the float32 model on the dequantised weights.

mod golden;
#[path = "golden_models/mod.rs"]
mod models;

use host::model::config::ModelConfig;
use host::model::engine::{Feed, Opened, Sampling};
use host::model::layout::{LayerLayout, LinearLayout, MixerLayout, MlpLayout, ModelLayout};
use host::rope::Scaling;
use models::{Model, Ways, Wrong, decoded, load, prefilled};

const CHUNKS: Ways = Ways {
    chunks: true,
    mtp: false,
};
const STEPS: Ways = Ways {
    chunks: false,
    mtp: false,
};

/// Tokens that are decoded with every access checked; the first is a sequence without a past.
const CHECKED: usize = 3;

/// The prompt at once, in uneven pieces, and token by token.
fn agrees(name: &'static str) {
    let model = Model::new(name);
    let want = model.golden().f64("logits");
    let tokens = model.tokens();
    let mut checked = model.load(true);
    let config = checked.config().clone();
    let vocab = config.vocab as usize;
    let got = prefilled(&mut checked, tokens, &[64]);
    assert!(model.holds("prefill at once", &config, CHUNKS, &got, &want) >= 8);
    let first = decoded(&mut checked, &tokens[..CHECKED]);
    drop(checked);
    let mut engine = model.load(false);
    for pieces in [&[16, 48][..], &[5, 1, 27, 31]] {
        let got = prefilled(&mut engine, tokens, pieces);
        model.holds(&format!("prefill by {pieces:?}"), &config, CHUNKS, &got, &want);
    }
    let got = decoded(&mut engine, tokens);
    assert!(model.holds("token by token", &config, STEPS, &got, &want) >= 8);
    assert!(first == got[..CHECKED * vocab], "{name}: checks change the logits");
}

macro_rules! agrees {
    ($($test:ident: $name:literal,)*) => { $(
        #[test]
        fn $test() {
            agrees($name);
        }
    )* };
}

agrees! {
    llama: "tiny-llama",
    qwen3: "tiny-qwen3",
    qwen3_coder: "tiny-qwen3-coder",
    qwen3_next: "tiny-qwen3-next",
    qwen3_5_dense: "tiny-qwen3.5",
    qwen3_6: "tiny-qwen3.6",
    nvfp4_of_modelopt: "tiny-qwen3-coder-modelopt",
    nvfp4_of_compressed_tensors: "tiny-qwen3-compressed-tensors",
    q8_0_llama: "tiny-llama-q8_0.gguf",
    q8_0_qwen3: "tiny-qwen3-q8_0.gguf",
    q8_0_qwen3_coder: "tiny-qwen3-coder-q8_0.gguf",
}

/// Asserts that a model with a planted error is beyond the bound, and that its largest logits are others.
#[track_caller]
fn caught(name: &'static str, what: &str, plant: impl FnOnce(&mut ModelConfig, &mut ModelLayout)) {
    let model = Model::new(name);
    let right = model.open().config().clone();
    let wrong = Wrong::new(&model).with(plant);
    let got = prefilled(&mut load(&wrong, false), model.tokens(), &[64]);
    let found = model.compare(&right, CHUNKS, &got, &model.golden().f64("logits"));
    println!("planted: {name}, {what}: {found:?}");
    assert!(found.bounds > 2.0, "{name}, {what}: {found:?} passes");
}

/// Every layer's attention.
fn attention(layout: &mut ModelLayout) -> impl Iterator<Item = &mut host::model::layout::AttentionLayout> {
    layout.layers.iter_mut().filter_map(|layer| match &mut layer.mixer {
        MixerLayout::Attention(attention) => Some(attention),
        MixerLayout::Gdn(_) => None,
    })
}

/// Exchanges the tensors of two parts.
fn exchange(linear: &mut LinearLayout, a: usize, b: usize) {
    let pieces = std::mem::take(&mut linear.parts[a].pieces);
    linear.parts[a].pieces = std::mem::replace(&mut linear.parts[b].pieces, pieces);
}

#[test]
fn errors_planted_in_dense_models_are_seen() {
    caught("tiny-llama", "no scaling of frequencies", |config, _| {
        config.attention.scaling = Scaling::None
    });
    caught("tiny-llama", "neighbours as pairs", |config, _| {
        config.attention.interleaved = true
    });
    caught(
        "tiny-llama-q8_0.gguf",
        "frequencies without their factors",
        |config, _| {
            assert!(config.attention.freq_factors.take().is_some());
        },
    );
    caught("tiny-qwen3", "no QK norm", |_, layout| {
        for attention in attention(layout) {
            assert!(attention.q_norm.take().is_some() && attention.k_norm.take().is_some());
        }
    });
    caught("tiny-qwen3", "gate and up exchanged", |_, layout| {
        for layer in &mut layout.layers {
            let MlpLayout::Dense(dense) = &mut layer.mlp else {
                panic!("not dense")
            };
            exchange(&mut dense.gate_up, 0, 1);
        }
    });
    caught("tiny-qwen3-compressed-tensors", "k in v's place", |_, layout| {
        for attention in attention(layout) {
            exchange(&mut attention.qkv, 1, 2);
        }
    });
}

#[test]
fn errors_planted_in_mixtures_of_experts_are_seen() {
    let moe = |layer: &mut LayerLayout, plant: &dyn Fn(&mut host::model::layout::MoeLayout)| match &mut layer.mlp {
        MlpLayout::Moe(moe) => plant(moe),
        MlpLayout::Dense(_) => panic!("not of experts"),
    };
    caught(
        "tiny-qwen3-coder",
        "weights of the chosen not normalised",
        |config, _| {
            config.moe.as_mut().unwrap().normalise = false;
        },
    );
    caught("tiny-qwen3-coder-modelopt", "two experts exchanged", |_, layout| {
        for layer in &mut layout.layers {
            moe(layer, &|moe| moe.down.experts.swap(2, 5));
        }
    });
    caught("tiny-qwen3-coder", "one expert less", |config, _| {
        config.moe.as_mut().unwrap().top_k -= 1
    });
    caught(
        "tiny-qwen3.6",
        "gate and up of the shared expert exchanged",
        |_, layout| {
            for layer in &mut layout.layers {
                moe(layer, &|moe| {
                    exchange(&mut moe.shared.as_mut().unwrap().0.gate_up, 0, 1)
                });
            }
        },
    );
    caught("tiny-qwen3-next", "no shared expert", |config, layout| {
        config.moe.as_mut().unwrap().shared_ffn = None;
        for layer in &mut layout.layers {
            moe(layer, &|moe| moe.shared = None);
        }
    });
}

#[test]
fn errors_planted_in_hybrid_models_are_seen() {
    caught("tiny-qwen3-next", "no output gate", |config, _| {
        config.attention.gate = false
    });
    caught("tiny-qwen3-next", "norms without their 1", |config, _| {
        config.zero_centered = false
    });
    caught("tiny-qwen3-next", "key heads by remainder", |config, _| {
        config.gdn.as_mut().unwrap().modulo = true
    });
    caught("tiny-qwen3.5", "the whole head turned", |config, _| {
        config.attention.rot = 256
    });
    caught("tiny-qwen3.6", "a and b exchanged", |_, layout| {
        for layer in &mut layout.layers {
            if let MixerLayout::Gdn(gdn) = &mut layer.mixer {
                exchange(&mut gdn.input, 2, 3);
            }
        }
    });
}

/// The bound is of the prompt's own tokens: one token read one position late is far beyond it.
#[test]
fn a_token_too_many_is_seen() {
    let model = Model::new("tiny-qwen3.6");
    let mut engine = model.load(false);
    let config = engine.config().clone();
    let mut tokens = model.tokens().to_vec();
    tokens.insert(0, 7);
    let got = prefilled(&mut engine, &tokens, &[1, 64]);
    let vocab = config.vocab as usize;
    let found = model.compare(&config, CHUNKS, &got[vocab..], &model.golden().f64("logits"));
    assert!(found.bounds > 2.0 && found.wrong > 0, "{found:?}");
}

/// The MTP head's logits after prompts of several lengths, with the token that the model itself has chosen. The first prompt's accesses
/// are checked.
fn mtp_logits(model: &Model, opened: &dyn Opened) -> Vec<f32> {
    let logits = model.golden().f64("logits");
    let vocab = opened.config().vocab as usize;
    let mut all = Vec::new();
    let mut engine = load(opened, true);
    engine.follow_with_mtp().unwrap();
    for (i, row) in model.golden().i32("mtp_rows").into_iter().enumerate() {
        if i == 1 {
            engine = load(opened, false);
            engine.follow_with_mtp().unwrap();
        }
        let row = row as usize;
        let seq = engine.open(Sampling::GREEDY).unwrap();
        let tokens = &model.tokens()[..=row];
        let chosen = engine.prefill(&[Feed { seq, tokens }]).unwrap();
        let right = &logits[row * vocab..][..vocab];
        assert!(
            right.iter().all(|x| *x <= right[chosen[0] as usize]),
            "the token after {row}"
        );
        let got = engine.draft_logits().unwrap();
        let guess = engine.guesses(&[seq], 1).unwrap()[0][0] as usize;
        assert!(got.iter().all(|x| *x <= got[guess]), "the guess after {row}");
        all.extend(got);
        engine.close(seq);
    }
    all
}

fn mtp_agrees(name: &'static str) {
    let model = Model::new(name);
    let opened = model.open();
    let config = opened.config();
    let ways = Ways {
        chunks: true,
        mtp: true,
    };
    let want = model.golden().f64("mtp_logits");
    let got = mtp_logits(&model, opened.as_ref());
    model.holds("MTP head", config, ways, &got, &want);
    let wrong = Wrong::new(&model).with(|_, layout| {
        let mtp = layout.mtp.as_mut().unwrap();
        std::mem::swap(&mut mtp.embedding_norm.tensor, &mut mtp.hidden_norm.tensor);
    });
    let found = model.compare(config, ways, &mtp_logits(&model, &wrong), &want);
    println!("planted: {name}, norms of the MTP head's halves exchanged: {found:?}");
    assert!(found.bounds > 2.0, "{found:?} passes");
}

#[test]
fn the_mtp_head_of_qwen3_next() {
    mtp_agrees("tiny-qwen3-next");
}

#[test]
fn the_mtp_head_of_qwen3_6() {
    mtp_agrees("tiny-qwen3.6");
}
