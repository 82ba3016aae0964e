//! Tensors on the simulator against the CPU reference, found at the addresses that plans launch on.

use half::bf16;

use super::*;
use crate::device::Device;
use crate::model::engine::Opened;
use crate::model::layout::MlpLayout;
use crate::model::synthetic::Synthetic;
use crate::model::weights::{LayerWeights, MixerWeights, MlpWeights, ModelWeights};
use crate::ops::q8::{Q8Packed, Q8Shape};
use crate::reference::synthetic::{self as reference, Key};
use kernels_gpu::synthesize::NORMAL_DEVIATION;

const SEED: u64 = 11;

fn load(text: &str, memory: &mut Memory) -> (Synthetic, ModelWeights) {
    let model = Synthetic::open(text).unwrap();
    let config = model.config();
    let weights = ModelWeights::load(
        model.origin().unwrap().as_mut(),
        memory,
        model.layout(),
        [config.vocab, config.hidden],
    );
    let weights = weights.unwrap();
    (model, weights)
}

fn on_device(text: &str) -> (Memory, Synthetic, ModelWeights) {
    let mut memory = Memory::on(&Device::simt_with(Default::default()));
    let (model, weights) = load(&format!("synthetic:{text}:seed={SEED}"), &mut memory);
    (memory, model, weights)
}

/// So many elements from an address of the simulator's memory.
fn read<T: Copy>(from: DevPtr<T>, len: usize) -> Vec<T> {
    // SAFETY: the simulator's memory is this process's; the tests' lengths are those that were taken and filled.
    unsafe { std::slice::from_raw_parts(from.get(), len) }.to_vec()
}

fn key(name: &str) -> Key {
    Key {
        seed: SEED,
        tensor: id(name),
    }
}

/// What bf16 numbers of this deviation are by the reference.
fn normal(name: &str, len: usize, mean: f32, deviation: f64) -> Vec<bf16> {
    reference::normal(key(name), len, mean, (deviation / NORMAL_DEVIATION) as f32)
}

fn bf16_of(matrix: &Matrix) -> Vec<bf16> {
    match matrix.format {
        Format::Bf16(w) => read(w, (matrix.n * matrix.k) as usize),
        other => panic!("{other:?} is not bf16"),
    }
}

fn gdn(layer: &LayerWeights) -> &crate::model::weights::GdnWeights {
    match &layer.mixer {
        MixerWeights::Gdn(gdn) => gdn,
        MixerWeights::Attention(_) => panic!("attention"),
    }
}

fn moe(layer: &LayerWeights) -> &crate::model::weights::MoeWeights {
    match &layer.mlp {
        MlpWeights::Moe(moe) => moe,
        MlpWeights::Dense(_) => panic!("dense"),
    }
}

#[test]
fn counted_memory_has_the_sizes_of_a_device_s() {
    for name in [
        "tiny-qwen3-next",
        "tiny-qwen3.6",
        "tiny-qwen3-coder",
        "tiny-qwen3",
        "tiny-llama",
    ] {
        for format in ["bf16", "nvfp4", "q8_0"] {
            let text = format!("synthetic:{name}:weights={format}");
            let (mut counted, mut real) = (Memory::counted(), Memory::on(&Device::simt_with(Default::default())));
            load(&text, &mut counted);
            load(&text, &mut real);
            assert_eq!(counted.parts(), real.parts(), "{text}");
            assert!(real.total() > 1 << 20, "{text}: {}", real.total());
        }
    }
}

#[test]
fn bf16_weights_are_the_reference_s() {
    let (_memory, model, weights) = on_device("tiny-qwen3-next:weights=bf16");
    let layout = &model.layout().layers[0];
    let MixerLayout::Gdn(names) = &layout.mixer else {
        panic!("no GDN")
    };
    let gdn = gdn(&weights.layers[0]);
    // All four projections are one matrix, of the first part's numbers.
    assert!(gdn.input.is_fused() && gdn.input.parts.len() == 4);
    let first = &names.input.parts[0];
    let (len, name) = ((gdn.input.n() * 256) as usize, name(first.pieces.first(), "qkv"));
    assert!(bf16_of(&gdn.input.matrices[0]) == normal(&name, len, 0.0, 1.0 / 16.0));
    let out = &gdn.out.matrices[0];
    assert_eq!((out.n, out.k), (256, 512));
    let wanted = normal(
        &names.out.parts[0].pieces[0].base,
        256 * 512,
        0.0,
        0.25 / 512_f64.sqrt(),
    );
    assert!(bf16_of(out) == wanted);
    // Vectors: decays and steps in their ranges, norms about 1 that are stored less it, but not the gated one.
    let a_log = read(gdn.a_log, 4);
    assert!(a_log.iter().all(|a| (0.0..2.78).contains(a)), "{a_log:?}");
    let dt_bias = read(gdn.dt_bias, 4);
    assert!(dt_bias.iter().all(|b| (-6.91..-2.25).contains(b)), "{dt_bias:?}");
    assert!(read(gdn.norm, 128) == normal(&names.norm.tensor, 128, 1.0, 0.1));
    let norm = read(weights.layers[0].input_norm, 256);
    assert!(norm == normal(&layout.input_norm.tensor, 256, 0.0, 0.1));
    assert!(read(gdn.conv, 4 * 1024) == normal(&names.conv.tensor, 4096, 0.0, 0.5));
    // Heads of q and k are normed to 2.
    let (MixerWeights::Attention(attention), MixerLayout::Attention(names)) =
        (&weights.layers[3].mixer, &model.layout().layers[3].mixer)
    else {
        panic!("no attention")
    };
    for (norm, layout) in [(attention.q_norm, &names.q_norm), (attention.k_norm, &names.k_norm)] {
        assert!(read(norm.unwrap(), 256) == normal(&layout.as_ref().unwrap().tensor, 256, 1.0, 0.1));
    }
    // The MTP head has numbers of its own.
    let mtp = weights.mtp.as_ref().unwrap();
    assert_eq!((mtp.fc.n(), mtp.fc.k), (256, 512));
    assert!(read(mtp.layer.input_norm, 256) != norm);
    // Router and experts.
    let moe = moe(&weights.layers[0]);
    let MlpLayout::Moe(names) = &layout.mlp else {
        panic!("no experts")
    };
    let router = normal(&names.router.parts[0].pieces[0].base, 16 * 256, 0.0, 2.0 / 16.0);
    assert!(bf16_of(&moe.router.matrices[0]) == router);
    let Format::Bf16(down) = moe.down.format else {
        panic!("{:?}", moe.down)
    };
    let of = super::name(names.down.experts[0].first(), "experts_down");
    assert!(read(down, 16 * 256 * 64) == normal(&of, 16 * 256 * 64, 0.0, 0.5 / 8.0));
}

#[test]
fn nvfp4_leaves_alone_what_modelopt_does() {
    let (_memory, model, weights) = on_device("tiny-qwen3.6");
    let gdn = gdn(&weights.layers[0]);
    // qkv and z are NVFP4, b and a are not: each by itself.
    let formats: Vec<bool> = gdn
        .input
        .matrices
        .iter()
        .map(|m| matches!(m.format, Format::Nvfp4 { .. }))
        .collect();
    assert_eq!(formats, [true, true, false, false]);
    assert!(matches!(weights.lm_head.matrices[0].format, Format::Bf16(_)));
    assert!(matches!(weights.embedding, EmbeddingTable::Bf16(_)));
    let moe = moe(&weights.layers[3]);
    assert!(matches!(moe.router.matrices[0].format, Format::Bf16(_)));
    let (shared, gate) = moe.shared.as_ref().unwrap();
    assert!(matches!(gate.matrices[0].format, Format::Bf16(_)));
    assert!(shared.gate_up.is_fused() && matches!(shared.down.matrices[0].format, Format::Nvfp4 { .. }));
    let MixerWeights::Attention(attention) = &weights.layers[3].mixer else {
        panic!("no attention")
    };
    assert!(attention.qkv.is_fused() && attention.qkv.parts.len() == 4);
    // One stack's codes, scales and tensor scales.
    let Format::Nvfp4 {
        codes,
        scales,
        tensor,
        convention,
    } = moe.gate_up.format
    else {
        panic!("{:?}", moe.gate_up)
    };
    assert_eq!(
        (moe.gate_up.n, moe.gate_up.k, convention),
        (128, 256, Convention::ModelOpt)
    );
    let MlpLayout::Moe(names) = &model.layout().layers[3].mlp else {
        panic!("no experts")
    };
    let of = super::name(names.gate_up.experts[0].first(), "experts_gate_up");
    let n = 16 * 128 * 256;
    assert!(read(codes, n / 2) == reference::bytes(key(&of), n / 2, 0xFF, 0));
    assert!(read(scales, n / 16) == reference::bytes(key(&format!("{of}.scale")), n / 16, 7, 0x58));
    let tensor = read(tensor, 16);
    let usual = fill::nvfp4_scale(1.0 / 16.0) as f32;
    assert!(
        tensor.iter().all(|s| (0.89 * usual..1.11 * usual).contains(s)),
        "{tensor:?}"
    );
    assert!(tensor.windows(2).all(|pair| pair[0] != pair[1]));
}

/// The head of a tied model is the embedding: the same numbers where both are Q8_0, the same memory where both are bf16.
#[test]
fn tied_heads_are_the_embedding() {
    let (_memory, model, weights) = on_device("tiny-llama");
    let EmbeddingTable::Q8_0(table) = weights.embedding else {
        panic!("{:?}", weights.embedding)
    };
    let Format::Q8 { qs, ws } = weights.lm_head.matrices[0].format else {
        panic!("{:?}", weights.lm_head)
    };
    let blocks = read(table, 512 * 8 * 34);
    assert!(blocks == reference::q8_0(key(&model.layout().embedding), 512 * 8, fill::q8_base(1.0 / 16.0)));
    let packed = Q8Packed::from_blocks(&blocks, Q8Shape::new(512, 256, 1).unwrap()).unwrap();
    assert!(read(qs, packed.qs.len()) == packed.qs && read(ws, packed.ws.len()) == packed.ws);

    let (_memory, _, weights) = on_device("tiny-llama:weights=bf16");
    let (EmbeddingTable::Bf16(table), Format::Bf16(head)) = (weights.embedding, weights.lm_head.matrices[0].format)
    else {
        panic!("{:?}, {:?}", weights.embedding, weights.lm_head)
    };
    assert_eq!(table, head);
    let (_memory, _, weights) = on_device("tiny-qwen3:weights=bf16");
    let (EmbeddingTable::Bf16(table), Format::Bf16(head)) = (weights.embedding, weights.lm_head.matrices[0].format)
    else {
        panic!("{:?}, {:?}", weights.embedding, weights.lm_head)
    };
    assert!(read(table, 512 * 256) != read(head, 512 * 256));
}

/// Fewer layers are the first ones of the whole model; another seed is another model.
#[test]
fn names_and_seeds_say_the_numbers() {
    let query = |text: &str| {
        let mut memory = Memory::on(&Device::simt_with(Default::default()));
        let (_, weights) = load(text, &mut memory);
        let MixerWeights::Attention(attention) = &weights.layers[0].mixer else {
            panic!("no attention")
        };
        bf16_of(&attention.qkv.matrices[0])
    };
    let whole = query("synthetic:tiny-qwen3:weights=bf16");
    assert!(whole == query("synthetic:tiny-qwen3:layers=1:weights=bf16:seed=0"));
    let other = query("synthetic:tiny-qwen3:layers=1:weights=bf16:seed=1");
    let same = whole.iter().zip(&other).filter(|(a, b)| a == b).count();
    assert!(same < whole.len() / 50, "{same} of {}", whole.len());
}

#[test]
fn rows_that_do_not_divide_are_refused_by_name() {
    let model = Synthetic::open("synthetic:tiny-qwen3").unwrap();
    let config = ModelConfig {
        hidden: 264,
        ..model.config().clone()
    };
    for (weights, wanted) in [
        (WeightFormat::Q8_0, "rows of 264 values; q8_0 takes a multiple of 32"),
        (WeightFormat::Nvfp4, "rows of 264 values; nvfp4 takes a multiple of 16"),
    ] {
        let model = Synthetic::new(config.clone(), weights, 0).unwrap();
        let error = ModelWeights::load(
            model.origin().unwrap().as_mut(),
            &mut Memory::counted(),
            model.layout(),
            [512, 264],
        );
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains(wanted) && error.contains("tiny-qwen3: tensor `"),
            "{error}"
        );
    }
}
