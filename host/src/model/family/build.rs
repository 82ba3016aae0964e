//! The layout that all families share: which tensors there are follows from the config, what they are called from the file.

use super::Naming;
use super::names::{Names, names, outer, there};
use crate::model::config::{Attention, Gdn, Mixer, Mlp, ModelConfig, Moe};
use crate::model::layout::{
    AttentionLayout, DenseLayout, ExpertsLayout, GdnLayout, LayerLayout, LinearLayout, MixerLayout, MlpLayout,
    ModelLayout, MoeLayout, MtpLayout, Part, Piece, Rows, VectorAs, VectorLayout,
};

/// The layout of a model of any family.
pub fn layout(config: &ModelConfig, naming: Naming, has: &dyn Fn(&str) -> bool) -> ModelLayout {
    let outer = outer(naming, has);
    let build = Build {
        config,
        naming,
        names: names(naming),
        has,
    };
    let prefix = |i: usize| format!("{}{}.{i}.", outer.prefix, build.names.layers);
    let layers = config.layers.iter().enumerate();
    let head = match config.tied_embeddings {
        true => &outer.embedding,
        false => &outer.lm_head,
    };
    ModelLayout {
        layers: layers
            .map(|(i, layer)| build.layer(&prefix(i), layer.mixer, layer.mlp))
            .collect(),
        final_norm: build.norm("final_norm", outer.final_norm, config.hidden),
        lm_head: linear(
            "lm_head",
            config.hidden,
            [part("lm_head", config.vocab, [whole(head.clone())])],
        ),
        mtp: build.mtp(&prefix(config.layers.len())),
        embedding: outer.embedding,
    }
}

/// All rows of a tensor.
fn whole(base: String) -> Piece {
    Piece { base, rows: Rows::All }
}

/// Consecutive rows.
fn range(base: String, first: u64, rows: u64) -> Piece {
    Piece {
        base,
        rows: Rows::Range(first..first + rows),
    }
}

/// `count` groups of `len` rows, the first at `first`, `stride` apart.
fn strided(base: &str, [first, len, stride, count]: [u32; 4]) -> Piece {
    Piece {
        base: base.into(),
        rows: Rows::Strided {
            first: first.into(),
            len: len.into(),
            stride: stride.into(),
            count: count.into(),
        },
    }
}

fn part<const N: usize>(name: &'static str, n: u32, pieces: [Piece; N]) -> Part {
    Part {
        name,
        n,
        pieces: pieces.into(),
    }
}

fn linear<const N: usize>(role: &'static str, k: u32, parts: [Part; N]) -> LinearLayout {
    LinearLayout {
        role,
        k,
        parts: parts.into(),
    }
}

struct Build<'a> {
    config: &'a ModelConfig,
    naming: Naming,
    names: &'static Names,
    has: &'a dyn Fn(&str) -> bool,
}

impl Build<'_> {
    fn there(&self, base: &str) -> bool {
        there(self.has, base)
    }

    /// A norm's weights; llama.cpp stores them with the 1 that a zero-centred norm adds.
    fn norm(&self, role: &'static str, tensor: String, len: u32) -> VectorLayout {
        let store = match self.config.zero_centered && self.naming == Naming::Gguf {
            true => VectorAs::Bf16LessOne,
            false => VectorAs::Bf16,
        };
        vector(role, tensor, len.into(), store)
    }

    fn layer(&self, at: &str, mixer: Mixer, mlp: Mlp) -> LayerLayout {
        let (config, names) = (self.config, self.names);
        let norm = |role, base: &str| self.norm(role, format!("{at}{base}.weight"), config.hidden);
        let [usual, other] = names.post_norm;
        let post_norm = match (self.has)(&format!("{at}{other}.weight")) {
            true => other,
            false => usual,
        };
        LayerLayout {
            input_norm: norm("input_norm", names.input_norm),
            mixer: match (mixer, &config.gdn) {
                (Mixer::Gdn, Some(gdn)) => MixerLayout::Gdn(self.gdn(at, gdn)),
                _ => MixerLayout::Attention(self.attention(at, &config.attention)),
            },
            post_norm: norm("post_norm", post_norm),
            mlp: match (mlp, &config.moe) {
                (Mlp::Moe, Some(moe)) => MlpLayout::Moe(self.moe(at, moe)),
                _ => MlpLayout::Dense(self.dense(at, config.ffn.unwrap_or(0))),
            },
        }
    }

    fn attention(&self, at: &str, a: &Attention) -> AttentionLayout {
        let names = self.names;
        let [q, k, v, o] = [names.q, names.k, names.v, names.o].map(|base| format!("{at}{base}"));
        let (q_width, kv_width) = (a.q_heads * a.head_dim, a.kv_heads * a.head_dim);
        // Heads whose pairs lie side by side are put back as all other models have them, so that one rotation serves all.
        let turned = |base: String| match self.naming == Naming::Gguf && self.config.family == super::llama::NAME {
            true => Piece {
                base,
                rows: Rows::Deinterleaved {
                    head: a.head_dim.into(),
                    rot: a.rot.into(),
                },
            },
            false => whole(base),
        };
        let mut parts = match a.gate {
            // Of each head its query, then its gate.
            true => vec![
                part("q", q_width, [strided(&q, [0, a.head_dim, 2 * a.head_dim, a.q_heads])]),
                part(
                    "gate",
                    q_width,
                    [strided(&q, [a.head_dim, a.head_dim, 2 * a.head_dim, a.q_heads])],
                ),
            ],
            false => vec![part("q", q_width, [turned(q)])],
        };
        parts.push(part("k", kv_width, [turned(k)]));
        parts.push(part("v", kv_width, [whole(v)]));
        let head_norm = |role, base: &str| {
            let norm = || self.norm(role, format!("{at}{base}.weight"), a.head_dim);
            a.qk_norm.then(norm)
        };
        AttentionLayout {
            qkv: LinearLayout {
                role: "attn_qkv",
                k: self.config.hidden,
                parts,
            },
            q_norm: head_norm("q_norm", names.q_norm),
            k_norm: head_norm("k_norm", names.k_norm),
            o: linear("attn_o", q_width, [part("o", self.config.hidden, [whole(o)])]),
        }
    }

    fn gdn(&self, at: &str, g: &Gdn) -> GdnLayout {
        let names = self.names;
        let full = |base: &str| format!("{at}{base}");
        let (d, ratio) = (g.head_dim, g.v_heads / g.k_heads.max(1));
        let packed = full(names.gdn_qkvz);
        let [qkv, z] = match self.there(&packed) {
            // Of each key head its q and k, then v and z of its value heads.
            true => {
                let (values, stride) = (ratio * d, 2 * d + 2 * ratio * d);
                let rows = |first, len| strided(&packed, [first, len, stride, g.k_heads]);
                [
                    part("qkv", g.channels(), [rows(0, d), rows(d, d), rows(2 * d, values)]),
                    part("z", g.v_width(), [rows(2 * d + values, values)]),
                ]
            }
            false => [
                part("qkv", g.channels(), [whole(full(names.gdn_qkv))]),
                part("z", g.v_width(), [whole(full(names.gdn_z))]),
            ],
        };
        let packed = full(names.gdn_ba);
        let [b, a] = match self.there(&packed) {
            true => ["b", "a"].map(|name| {
                let first = if name == "b" { 0 } else { ratio };
                part(
                    name,
                    g.v_heads,
                    [strided(&packed, [first, ratio, 2 * ratio, g.k_heads])],
                )
            }),
            false => {
                [("b", names.gdn_b), ("a", names.gdn_a)].map(|(name, base)| part(name, g.v_heads, [whole(full(base))]))
            }
        };
        let a_log = match self.naming {
            Naming::HuggingFace => VectorAs::F32,
            Naming::Gguf => VectorAs::F32LogOfNegative,
        };
        let (conv_len, heads) = (u64::from(g.channels()) * u64::from(g.conv_width), g.v_heads.into());
        GdnLayout {
            input: linear("gdn_in", self.config.hidden, [qkv, z, b, a]),
            conv: vector("gdn_conv", full(names.gdn_conv) + ".weight", conv_len, VectorAs::Bf16),
            a_log: vector("gdn_a_log", full(names.gdn_a_log), heads, a_log),
            dt_bias: vector("gdn_dt_bias", full(names.gdn_dt_bias), heads, VectorAs::F32),
            // The gated norm is centred on 0 nowhere.
            norm: vector("gdn_norm", full(names.gdn_norm) + ".weight", d.into(), VectorAs::Bf16),
            out: linear(
                "gdn_out",
                g.v_width(),
                [part("out", self.config.hidden, [whole(full(names.gdn_out))])],
            ),
        }
    }

    fn dense(&self, at: &str, ffn: u32) -> DenseLayout {
        let names = [self.names.gate, self.names.up, self.names.down];
        self.gate_up_down(at, names, ["ffn_gate_up", "ffn_down"], ffn)
    }

    fn gate_up_down(
        &self,
        at: &str,
        [gate, up, down]: [&str; 3],
        [both, last]: [&'static str; 2],
        ffn: u32,
    ) -> DenseLayout {
        let hidden = self.config.hidden;
        let all = |base: &str| [whole(format!("{at}{base}"))];
        DenseLayout {
            gate_up: linear(both, hidden, [part("gate", ffn, all(gate)), part("up", ffn, all(up))]),
            down: linear(last, ffn, [part("down", hidden, all(down))]),
        }
    }

    fn moe(&self, at: &str, moe: &Moe) -> MoeLayout {
        let (names, hidden) = (self.names, self.config.hidden);
        let full = |base: &str| format!("{at}{base}");
        let one = |role, name, n, base: &str| linear(role, hidden, [part(name, n, [whole(full(base))])]);
        let shared = moe.shared_ffn.map(|ffn| {
            let parts = [names.shared_gate_proj, names.shared_up, names.shared_down];
            (
                self.gate_up_down(at, parts, ["shared_gate_up", "shared_down"], ffn),
                one("shared_gate", "shared_gate", 1, names.shared_gate),
            )
        });
        let [gate_up, down] = self.experts(at, moe);
        let stack = |role, n, k, experts| ExpertsLayout { role, n, k, experts };
        MoeLayout {
            router: one("router", "router", moe.experts, names.router),
            gate_up: stack("experts_gate_up", 2 * moe.ffn, hidden, gate_up),
            down: stack("experts_down", hidden, moe.ffn, down),
            shared,
        }
    }

    /// Each expert's rows of gate and up, and of down: tensors of its own, or rows of stacks.
    fn experts(&self, at: &str, moe: &Moe) -> [Vec<Vec<Piece>>; 2] {
        let names = self.names;
        let full = |base: &str| format!("{at}{base}");
        let (ffn, hidden) = (u64::from(moe.ffn), u64::from(self.config.hidden));
        // The number goes before the last part of the name.
        let own = |base: &str, e: u64| {
            let (path, last) = base.rsplit_once('.').unwrap_or(("", base));
            whole(format!("{at}{path}.{e}.{last}"))
        };
        let row = |base: &str, e: u64, rows: u64| range(full(base), e * rows, rows);
        let stacked = [names.experts_gate_up, names.experts_gate, names.experts_down]
            .iter()
            .any(|base| self.there(&full(base)));
        let both = self.there(&full(names.experts_gate_up));
        let alone = self.naming == Naming::HuggingFace && !stacked;
        let gate_up = |e: u64| match (alone, both) {
            (true, _) => vec![own(names.experts_gate, e), own(names.experts_up, e)],
            (false, true) => vec![row(names.experts_gate_up, e, 2 * ffn)],
            (false, false) => vec![row(names.experts_gate, e, ffn), row(names.experts_up, e, ffn)],
        };
        let down = |e: u64| match alone {
            true => vec![own(names.experts_down, e)],
            false => vec![row(names.experts_down, e, hidden)],
        };
        let experts = 0..u64::from(moe.experts);
        [experts.clone().map(gate_up).collect(), experts.map(down).collect()]
    }

    /// The MTP head, if the config says that there may be one and the file has it. `next` is the prefix of the layer after the last, where
    /// llama.cpp puts it.
    fn mtp(&self, next: &str) -> Option<MtpLayout> {
        let last = self.config.layers.last()?;
        let of_gguf = format!("{next}nextn.");
        let prefix = match self.naming {
            Naming::Gguf => of_gguf.as_str(),
            Naming::HuggingFace if self.there("model.mtp.fc") => "model.mtp.",
            Naming::HuggingFace => "mtp.",
        };
        let [fc, embedding, hidden, norm] = match self.naming {
            Naming::Gguf => ["eh_proj", "enorm", "hnorm", "shared_head_norm"],
            Naming::HuggingFace => ["fc", "pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm"],
        };
        let fc = format!("{prefix}{fc}");
        if !self.config.mtp || !self.there(&fc) {
            return None;
        }
        let width = self.config.hidden;
        let vector = |role, base: &str| self.norm(role, format!("{prefix}{base}.weight"), width);
        let layer = match self.naming {
            Naming::Gguf => next.to_string(),
            Naming::HuggingFace => format!("{prefix}layers.0."),
        };
        Some(MtpLayout {
            embedding_norm: vector("mtp_embedding_norm", embedding),
            hidden_norm: vector("mtp_hidden_norm", hidden),
            fc: linear("mtp_fc", 2 * width, [part("mtp_fc", width, [whole(fc)])]),
            layer: self.layer(&layer, Mixer::Attention, last.mlp),
            norm: vector("mtp_norm", norm),
        })
    }
}

fn vector(role: &'static str, tensor: String, len: u64, store: VectorAs) -> VectorLayout {
    VectorLayout {
        role,
        tensor,
        len,
        store,
        rows: Rows::All,
    }
}
