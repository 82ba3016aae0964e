//! The tiny models as the reference takes them: sizes from their config.json, tensors by the names that published checkpoints have.

use host::reference::gdn::Heads;
use host::reference::model::{
    Attention, AttentionConfig, Config, Dense, Gdn, Layer, Matrix, Mixer, Mlp, Model, Moe, MoeConfig, Table,
};
use host::rope::{Scaling, frequencies};

use crate::files::{Checkpoint, rows, stack};

/// What the config.json of a tiny model says that its tensors do not.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The folder or file.
    pub name: &'static str,
    /// Before `layers`.
    pub prefix: &'static str,
    pub eps: f32,
    pub q_heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Elements of a head that are turned.
    pub rot: usize,
    pub theta: f64,
    /// Llama 3's rule with the tiny model's numbers.
    pub llama3: bool,
    /// Hybrids of gated attention and gated delta nets, with norms that store w - 1.
    pub hybrid: bool,
    pub top_k: usize,
}

const LLAMA: Facts = Facts {
    name: "tiny-llama",
    prefix: "model.",
    eps: 1e-5,
    q_heads: 4,
    kv_heads: 2,
    head_dim: 128,
    rot: 128,
    theta: 5e5,
    llama3: true,
    hybrid: false,
    top_k: 0,
};

const QWEN3: Facts = Facts {
    name: "tiny-qwen3",
    eps: 1e-6,
    theta: 1e6,
    llama3: false,
    ..LLAMA
};

const CODER: Facts = Facts {
    name: "tiny-qwen3-coder",
    theta: 1e7,
    top_k: 3,
    ..QWEN3
};

const NEXT: Facts = Facts {
    name: "tiny-qwen3-next",
    q_heads: 2,
    kv_heads: 1,
    head_dim: 256,
    rot: 64,
    theta: 1e7,
    hybrid: true,
    top_k: 2,
    ..QWEN3
};

/// The tiny model of this name.
pub fn facts(name: &'static str) -> Facts {
    let family = match name {
        _ if name.starts_with("tiny-llama") => LLAMA,
        _ if name.starts_with("tiny-qwen3-coder") => CODER,
        "tiny-qwen3-next" | "tiny-qwen3.5" => NEXT,
        "tiny-qwen3.6" => Facts {
            prefix: "model.language_model.",
            ..NEXT
        },
        _ => QWEN3,
    };
    Facts { name, ..family }
}

/// Reads the model.
pub fn read(f: Facts) -> Model {
    let c = &Checkpoint::open(f.name);
    let prefix = f.prefix;
    let embedding = format!("{prefix}embed_tokens");
    let name = format!("{embedding}.weight");
    let final_norm = c.bf16(&format!("{prefix}norm.weight"));
    let tied = !c.has("lm_head.weight");
    let layers = (0..)
        .map(|i| format!("{prefix}layers.{i}"))
        .take_while(|at| c.has(&format!("{at}.input_layernorm.weight")));
    Model {
        config: config(f, c, final_norm.len()),
        embedding: c.q8(&name).map_or_else(|| Table::Bf16(c.bf16(&name)), Table::Q8),
        layers: layers.map(|at| layer(f, c, &at)).collect(),
        final_norm,
        head: c.matrix(if tied { &embedding } else { "lm_head" }),
    }
}

/// The frequencies: f32 of the rule in f64; a GGUF file's factors divide them in f32.
fn inv_freq(f: Facts, c: &Checkpoint) -> Vec<f32> {
    let scaling = match f.llama3 && !c.has("rope_freqs.weight") {
        false => Scaling::None,
        true => Scaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_positions: 64,
        },
    };
    let mut inv_freq = frequencies(f.theta, f.rot, &scaling).unwrap();
    if c.has("rope_freqs.weight") {
        let factors = c.f32("rope_freqs.weight");
        assert_eq!(factors.len(), inv_freq.len());
        inv_freq.iter_mut().zip(factors).for_each(|(f, factor)| *f /= factor);
    }
    inv_freq
}

fn config(f: Facts, c: &Checkpoint, hidden: usize) -> Config {
    Config {
        hidden,
        eps: f.eps,
        zero_centered: f.hybrid,
        attention: AttentionConfig {
            q_heads: f.q_heads,
            kv_heads: f.kv_heads,
            head_dim: f.head_dim,
            inv_freq: inv_freq(f, c),
            interleaved: false,
            scale_log2: (std::f64::consts::LOG2_E / (f.head_dim as f64).sqrt()) as f32,
        },
        gdn: Heads {
            keys: 2,
            values: 4,
            modulo: false,
        },
        moe: MoeConfig {
            top_k: f.top_k,
            normalise: true,
        },
    }
}

fn layer(f: Facts, c: &Checkpoint, at: &str) -> Layer {
    let experts = c.has(&format!("{at}.mlp.gate.weight"));
    Layer {
        input_norm: c.bf16(&format!("{at}.input_layernorm.weight")),
        mixer: if c.has(&format!("{at}.linear_attn.A_log")) {
            Mixer::Gdn(gdn(c, &format!("{at}.linear_attn")))
        } else {
            Mixer::Attention(attention(f, c, &format!("{at}.self_attn")))
        },
        post_norm: c.bf16(&format!("{at}.post_attention_layernorm.weight")),
        mlp: if experts {
            Mlp::Moe(moe(c, &format!("{at}.mlp")))
        } else {
            Mlp::Dense(dense(c, &format!("{at}.mlp")))
        },
    }
}

fn attention(f: Facts, c: &Checkpoint, at: &str) -> Attention {
    let d = f.head_dim;
    let [q, k, v, o] = ["q", "k", "v", "o"].map(|part| c.matrix(&format!("{at}.{part}_proj")));
    // llama.cpp's converter makes neighbours of rows (i, i + d / 2) of a Llama's head.
    let unturned = |w: Matrix| match f.llama3 && f.name.ends_with(".gguf") {
        true => {
            let from = |row: usize| row / d * d + row % (d / 2) * 2 + row % d / (d / 2);
            rows(&w, (0..w.n).map(from))
        }
        false => w,
    };
    // With a gate, each head's query and then its gate.
    let half = |second: usize| rows(&q, (0..f.q_heads * d).map(|row| (row / d * 2 + second) * d + row % d));
    let (q, gate) = match f.hybrid {
        true => (half(0), Some(half(1))),
        false => (unturned(q), None),
    };
    let norm = |part: &str| format!("{at}.{part}_norm.weight");
    Attention {
        q,
        gate,
        k: unturned(k),
        v,
        qk_norm: c.has(&norm("q")).then(|| ["q", "k"].map(|part| c.bf16(&norm(part)))),
        o,
    }
}

fn gdn(c: &Checkpoint, at: &str) -> Gdn {
    let (keys, values, d) = (2, 4, 128);
    let [qkv, z, b, a] = if c.has(&format!("{at}.in_proj_qkvz.weight")) {
        // Of each key head: q, k, v of its two value heads, z of them; b of them, a of them.
        let (qkvz, ba) = (
            c.matrix(&format!("{at}.in_proj_qkvz")),
            c.matrix(&format!("{at}.in_proj_ba")),
        );
        let group = values / keys;
        let of = |first: usize, width: usize| {
            let stride = (2 + 2 * group) * d;
            (0..keys * width).map(move |row| row / width * stride + first + row % width)
        };
        let all = of(0, d).chain(of(d, d)).chain(of(2 * d, group * d));
        let of_ba = |first: usize| (0..values).map(move |row| row / group * 2 * group + first + row % group);
        [
            rows(&qkvz, all),
            rows(&qkvz, of((2 + group) * d, group * d)),
            rows(&ba, of_ba(0)),
            rows(&ba, of_ba(group)),
        ]
    } else {
        ["qkv", "z", "b", "a"].map(|part| c.matrix(&format!("{at}.in_proj_{part}")))
    };
    Gdn {
        qkv,
        z,
        b,
        a,
        conv: c.bf16(&format!("{at}.conv1d.weight")),
        a_log: c.f32(&format!("{at}.A_log")),
        dt_bias: c.f32(&format!("{at}.dt_bias")),
        norm: c.bf16(&format!("{at}.norm.weight")),
        out: c.matrix(&format!("{at}.out_proj")),
    }
}

fn dense(c: &Checkpoint, at: &str) -> Dense {
    let [gate, up, down] = ["gate", "up", "down"].map(|part| c.matrix(&format!("{at}.{part}_proj")));
    Dense { gate, up, down }
}

/// Experts as three kinds of files have them.
fn moe(c: &Checkpoint, at: &str) -> Moe {
    let router = c.matrix(&format!("{at}.gate"));
    let (gate_up, down): (Vec<Vec<Matrix>>, Vec<Matrix>) = if c.has(&format!("{at}.experts.gate_up_proj")) {
        let gate_up = c.slices(&format!("{at}.experts.gate_up_proj"));
        let down = c.slices(&format!("{at}.experts.down_proj"));
        (gate_up.into_iter().map(|both| vec![both]).collect(), down)
    } else if c.has(&format!("{at}.experts.gate.weight")) {
        let [gate, up, down] = ["gate", "up", "down"].map(|part| c.slices(&format!("{at}.experts.{part}.weight")));
        (
            gate.into_iter().zip(up).map(|(gate, up)| vec![gate, up]).collect(),
            down,
        )
    } else {
        let of = |e: usize, part: &str| c.matrix(&format!("{at}.experts.{e}.{part}_proj"));
        let both = |e| vec![of(e, "gate"), of(e, "up")];
        let down = |e| of(e, "down");
        ((0..router.n).map(both).collect(), (0..router.n).map(down).collect())
    };
    let shared = format!("{at}.shared_expert");
    Moe {
        ffn: down[0].k,
        router,
        gate_up: stack(&gate_up),
        down: stack(&down.into_iter().map(|one| vec![one]).collect::<Vec<_>>()),
        shared: c
            .has(&format!("{shared}.gate_proj.weight"))
            .then(|| Box::new((dense(c, &shared), c.matrix(&format!("{shared}_gate"))))),
    }
}
