//! A synthetic model as the reference takes it: loaded once more, and read from the simulator's memory. What is checked so is the forward, of
//! hybrids in NVFP4 for one, of which no small file exists.

use half::bf16;
use host::device::{DevPtr, Device};
use host::model::config::ModelConfig;
use host::model::engine::Opened;
use host::model::memory::Memory;
use host::model::weights as device;
use host::ops::nvfp4 as ops;
use host::reference::gdn::Heads;
use host::reference::model::{
    Attention, AttentionConfig, Config, Dense, Format, Gdn, Layer, Matrix, Mixer, Mlp, Model, Moe, MoeConfig, Stack,
    Table,
};
use host::reference::nvfp4 as reference;
use host::rope::frequencies;

use crate::files::rows;

fn read<T: Copy>(from: DevPtr<T>, len: usize) -> Vec<T> {
    // SAFETY: the simulator's memory is this process's; lengths are those of the tensors that were filled.
    unsafe { std::slice::from_raw_parts(from.get(), len) }.to_vec()
}

/// Reads a model of bf16 and NVFP4.
pub fn model(opened: &dyn Opened) -> Model {
    let config = opened.config();
    let mut memory = Memory::on(&Device::simt_with(Default::default()));
    let sizes = [config.vocab, config.hidden];
    let mut origin = opened.origin().unwrap();
    let weights = device::ModelWeights::load(origin.as_mut(), &mut memory, opened.layout(), sizes).unwrap();
    let hidden = config.hidden as usize;
    let device::EmbeddingTable::Bf16(table) = weights.embedding else {
        panic!("{:?}", weights.embedding)
    };
    Model {
        embedding: Table::Bf16(read(table, config.vocab as usize * hidden)),
        layers: weights.layers.iter().map(|w| layer(config, w)).collect(),
        final_norm: read(weights.final_norm, hidden),
        head: one(&weights.lm_head),
        config: plain(config),
    }
}

fn plain(config: &ModelConfig) -> Config {
    let a = &config.attention;
    Config {
        hidden: config.hidden as usize,
        eps: config.norm_eps,
        zero_centered: config.zero_centered,
        attention: AttentionConfig {
            q_heads: a.q_heads as usize,
            kv_heads: a.kv_heads as usize,
            head_dim: a.head_dim as usize,
            inv_freq: frequencies(a.theta, a.rot as usize, &a.scaling).unwrap(),
            interleaved: a.interleaved,
            scale_log2: (std::f64::consts::LOG2_E / f64::from(a.head_dim).sqrt()) as f32,
        },
        gdn: Heads {
            keys: config.gdn.map_or(1, |g| g.k_heads as usize),
            values: config.gdn.map_or(1, |g| g.v_heads as usize),
            modulo: config.gdn.is_some_and(|g| g.modulo),
        },
        moe: MoeConfig {
            top_k: config.moe.map_or(1, |m| m.top_k as usize),
            normalise: config.moe.is_some_and(|m| m.normalise),
        },
    }
}

fn matrix(w: &device::Matrix) -> Matrix {
    let (n, k) = (w.n as usize, w.k as usize);
    let format = match w.format {
        device::Format::Bf16(w) => Format::Bf16(read(w, n * k)),
        device::Format::Nvfp4 {
            codes,
            scales,
            tensor,
            convention,
        } => Format::Nvfp4 {
            codes: read(codes, n * k / 2),
            scales: read(scales, n * k / 16),
            tensor: read(tensor, 1)[0],
            convention: meaning(convention),
        },
        device::Format::Q8 { .. } => panic!("Q8_0 is checked with files"),
    };
    Matrix { n, k, format }
}

fn meaning(convention: ops::Convention) -> reference::Convention {
    match convention {
        ops::Convention::ModelOpt => reference::Convention::ModelOpt,
        ops::Convention::CompressedTensors => reference::Convention::CompressedTensors,
    }
}

/// A part of the products of one input, which may be one matrix.
fn part(w: &device::Linear, name: &str) -> Matrix {
    let at = w.parts.iter().position(|part| part.0 == name).unwrap();
    match &w.matrices[..] {
        [all] => {
            let first: u32 = w.parts[..at].iter().map(|part| part.1).sum();
            rows(&matrix(all), first as usize..(first + w.parts[at].1) as usize)
        }
        each => matrix(&each[at]),
    }
}

fn one(w: &device::Linear) -> Matrix {
    matrix(&w.matrices[0])
}

fn stack(w: &device::Experts) -> Stack {
    let (experts, len) = (w.experts as usize, (w.experts * w.n * w.k) as usize);
    match w.format {
        device::Format::Bf16(w) => Stack::Bf16(read(w, len)),
        device::Format::Nvfp4 {
            codes,
            scales,
            tensor,
            convention,
        } => Stack::Nvfp4 {
            codes: read(codes, len / 2),
            scales: read(scales, len / 16),
            tensor: read(tensor, experts),
            convention: meaning(convention),
        },
        device::Format::Q8 { .. } => panic!("there is no such stack"),
    }
}

fn dense(w: &device::DenseWeights) -> Dense {
    Dense {
        gate: part(&w.gate_up, "gate"),
        up: part(&w.gate_up, "up"),
        down: one(&w.down),
    }
}

fn layer(config: &ModelConfig, w: &device::LayerWeights) -> Layer {
    let norm = |from: DevPtr<bf16>| read(from, config.hidden as usize);
    let head = config.attention.head_dim as usize;
    Layer {
        input_norm: norm(w.input_norm),
        mixer: match &w.mixer {
            device::MixerWeights::Attention(a) => Mixer::Attention(Attention {
                q: part(&a.qkv, "q"),
                gate: config.attention.gate.then(|| part(&a.qkv, "gate")),
                k: part(&a.qkv, "k"),
                v: part(&a.qkv, "v"),
                qk_norm: a.q_norm.zip(a.k_norm).map(|(q, k)| [read(q, head), read(k, head)]),
                o: one(&a.o),
            }),
            device::MixerWeights::Gdn(g) => {
                let sizes = config.gdn.unwrap();
                let values = sizes.v_heads as usize;
                Mixer::Gdn(Gdn {
                    qkv: part(&g.input, "qkv"),
                    z: part(&g.input, "z"),
                    b: part(&g.input, "b"),
                    a: part(&g.input, "a"),
                    conv: read(g.conv, 4 * sizes.channels() as usize),
                    a_log: read(g.a_log, values),
                    dt_bias: read(g.dt_bias, values),
                    norm: read(g.norm, 128),
                    out: one(&g.out),
                })
            }
        },
        post_norm: norm(w.post_norm),
        mlp: match &w.mlp {
            device::MlpWeights::Dense(w) => Mlp::Dense(dense(w)),
            device::MlpWeights::Moe(w) => Mlp::Moe(Moe {
                router: one(&w.router),
                ffn: w.down.k as usize,
                gate_up: stack(&w.gate_up),
                down: stack(&w.down),
                shared: w
                    .shared
                    .as_ref()
                    .map(|(shared, gate)| Box::new((dense(shared), one(gate)))),
            }),
        },
    }
}
