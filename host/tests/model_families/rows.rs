//! Each row of each tensor of a checkpoint goes to exactly one place.

use crate::tensors::{Form, PLAIN, Tensors, checkpoint};
use crate::{PUBLISHED, read};
use host::model::config::ModelConfig;
use host::model::family::{Naming, resolve};
use host::model::layout::*;
use std::collections::BTreeMap;

/// Rows of one tensor that are used, as ranges.
type Used = BTreeMap<String, Vec<(u64, u64)>>;

/// The rows a piece takes, in order, of a tensor with `total`.
pub fn ranges(rows: &Rows, total: u64) -> Vec<(u64, u64)> {
    match rows {
        Rows::All => vec![(0, total)],
        Rows::Range(range) => vec![(range.start, range.end)],
        Rows::Strided {
            first,
            len,
            stride,
            count,
        } => (0..*count)
            .map(|i| (first + i * stride, first + i * stride + len))
            .collect(),
        // Within each head the even ones of the first `rot`, the odd ones, the rest.
        Rows::Deinterleaved { head, rot } => (0..total / head)
            .flat_map(|h| {
                let pairs = (0..2).flat_map(move |odd| (0..rot / 2).map(move |i| h * head + 2 * i + odd));
                pairs.chain(h * head + rot..(h + 1) * head).map(|row| (row, row + 1))
            })
            .collect(),
    }
}

struct Count<'a> {
    tensors: &'a Tensors,
    used: Used,
}

impl Count<'_> {
    /// The whole name of a matrix.
    fn find(&self, base: &str) -> Result<(String, u64), String> {
        let names = [
            format!("{base}.weight"),
            format!("{base}.weight_packed"),
            base.to_string(),
        ];
        let found = names
            .iter()
            .find_map(|n| self.tensors.get(n).map(|rows| (n.clone(), *rows)));
        found.ok_or(format!("{base} is not in the checkpoint"))
    }

    fn pieces(&mut self, n: u64, pieces: &[Piece]) -> Result<(), String> {
        let mut sum = 0;
        for piece in pieces {
            let (name, total) = self.find(&piece.base)?;
            let rows = ranges(&piece.rows, total);
            sum += rows.iter().map(|(a, b)| b - a).sum::<u64>();
            self.used.entry(name).or_default().extend(rows);
        }
        match sum == n {
            true => Ok(()),
            false => Err(format!("{pieces:?} have {sum} rows, not {n}")),
        }
    }

    fn linear(&mut self, linear: &LinearLayout) -> Result<(), String> {
        linear
            .parts
            .iter()
            .try_for_each(|part| self.pieces(part.n.into(), &part.pieces))
    }

    fn vector(&mut self, vector: &VectorLayout) -> Result<(), String> {
        let total = self.tensors.get(&vector.tensor);
        let total = *total.ok_or(format!("{} is not in the checkpoint", vector.tensor))?;
        if total != vector.len {
            return Err(format!("{} has {total} elements, not {}", vector.tensor, vector.len));
        }
        let used = self.used.entry(vector.tensor.clone()).or_default();
        used.extend(ranges(&vector.rows, total));
        Ok(())
    }

    fn layer(&mut self, layer: &LayerLayout) -> Result<(), String> {
        self.vector(&layer.input_norm)?;
        self.vector(&layer.post_norm)?;
        match &layer.mixer {
            MixerLayout::Attention(a) => {
                self.linear(&a.qkv)?;
                self.linear(&a.o)?;
                a.q_norm.iter().chain(&a.k_norm).try_for_each(|v| self.vector(v))?;
            }
            MixerLayout::Gdn(g) => {
                self.linear(&g.input)?;
                self.linear(&g.out)?;
                for v in [&g.conv, &g.a_log, &g.dt_bias, &g.norm] {
                    self.vector(v)?;
                }
            }
        }
        match &layer.mlp {
            MlpLayout::Dense(d) => self.dense(d),
            MlpLayout::Moe(m) => {
                self.linear(&m.router)?;
                for stack in [&m.gate_up, &m.down] {
                    for expert in &stack.experts {
                        self.pieces(stack.n.into(), expert)?;
                    }
                }
                if let Some((dense, gate)) = &m.shared {
                    self.dense(dense)?;
                    self.linear(gate)?;
                }
                Ok(())
            }
        }
    }

    fn dense(&mut self, dense: &DenseLayout) -> Result<(), String> {
        self.linear(&dense.gate_up)?;
        self.linear(&dense.down)
    }
}

/// Whether a layout takes each row of each tensor exactly once; of a tied embedding, the head once more.
pub fn check(layout: &ModelLayout, tensors: &Tensors) -> Result<(), String> {
    let mut count = Count {
        tensors,
        used: Used::new(),
    };
    let (name, total) = count.find(&layout.embedding)?;
    if layout.lm_head.parts[0].pieces[0].base != layout.embedding {
        count.used.insert(name, vec![(0, total)]);
    }
    count.linear(&layout.lm_head)?;
    count.vector(&layout.final_norm)?;
    for layer in &layout.layers {
        count.layer(layer)?;
    }
    if let Some(mtp) = &layout.mtp {
        count.linear(&mtp.fc)?;
        for v in [&mtp.embedding_norm, &mtp.hidden_norm, &mtp.norm] {
            count.vector(v)?;
        }
        count.layer(&mtp.layer)?;
    }
    for (name, total) in tensors {
        let mut ranges = count.used.remove(name).ok_or(format!("{name} is not used"))?;
        ranges.sort_unstable();
        let end = ranges.iter().try_fold(0, |end, (a, b)| (*a == end).then_some(*b));
        if end != Some(*total) {
            return Err(format!("{name}: {} ranges are not its {total} rows", ranges.len()));
        }
    }
    Ok(())
}

pub fn layout(config: &ModelConfig, naming: Naming, tensors: &Tensors) -> ModelLayout {
    let mut config = config.clone();
    resolve(&mut config, naming, &|name| tensors.contains_key(name)).unwrap()
}

#[test]
fn every_row_is_used_once() {
    for name in PUBLISHED {
        let config = read(name).truncated(5).unwrap();
        for prefix in ["model.", "model.language_model.", "language_model.model."] {
            for fused_experts in [false, true] {
                for weight in ["weight", "weight_packed"] {
                    let form = Form {
                        prefix,
                        fused_experts,
                        weight,
                    };
                    let tensors = checkpoint(&config, form);
                    let layout = layout(&config, Naming::HuggingFace, &tensors);
                    check(&layout, &tensors).unwrap_or_else(|e| panic!("{name} {prefix} {weight}: {e}"));
                    assert_eq!(layout.mtp.is_some(), config.mtp, "{name}");
                }
            }
        }
    }
}

#[test]
fn a_row_that_is_lost_or_used_twice_is_found() {
    let config = read("qwen3-next-80b-a3b").truncated(4).unwrap();
    let tensors = checkpoint(&config, PLAIN);
    let good = layout(&config, Naming::HuggingFace, &tensors);
    check(&good, &tensors).unwrap();
    let gdn = |layout: &mut ModelLayout, change: &dyn Fn(&mut GdnLayout)| {
        let MixerLayout::Gdn(g) = &mut layout.layers[0].mixer else {
            panic!("the first layer is a gated delta net");
        };
        change(g);
    };
    let planted: [&dyn Fn(&mut GdnLayout); 4] = [
        // k where q is.
        &|g| g.input.parts[0].pieces[1] = g.input.parts[0].pieces[0].clone(),
        // z with the stride of b.
        &|g| g.input.parts[1].pieces[0].rows = g.input.parts[2].pieces[0].rows.clone(),
        &|g| g.input.parts[3].pieces[0].rows = g.input.parts[2].pieces[0].rows.clone(),
        &|g| g.dt_bias = g.a_log.clone(),
    ];
    for change in planted {
        let mut bad = good.clone();
        gdn(&mut bad, change);
        assert!(check(&bad, &tensors).is_err());
    }
    let mut bad = good.clone();
    let MlpLayout::Moe(moe) = &mut bad.layers[3].mlp else {
        panic!("all layers have experts");
    };
    moe.down.experts.swap(0, 1);
    check(&bad, &tensors).expect("an order is not what this check is for");
    let MlpLayout::Moe(moe) = &mut bad.layers[3].mlp else {
        panic!("all layers have experts");
    };
    moe.down.experts[0] = moe.down.experts[1].clone();
    assert!(check(&bad, &tensors).is_err());
    bad = good;
    bad.mtp = None;
    assert!(check(&bad, &tensors).is_err());
}

/// The order in which a part takes its rows.
fn order(part: &Part, tensors: &Tensors) -> Vec<u64> {
    let rows = part.pieces.iter().flat_map(|piece| {
        let total = tensors[&format!("{}.weight", piece.base)];
        ranges(&piece.rows, total)
    });
    rows.flat_map(|(a, b)| a..b).collect()
}

#[test]
fn packed_projections_are_taken_apart_as_transformers_does() {
    let config = read("qwen3-next-80b-a3b").truncated(4).unwrap();
    let tensors = checkpoint(&config, PLAIN);
    let layout = layout(&config, Naming::HuggingFace, &tensors);
    let MixerLayout::Gdn(gdn) = &layout.layers[0].mixer else {
        panic!("the first layer is a gated delta net");
    };
    // view(heads, 768), split in [128, 128, 256, 256]; view(heads, 4), split in [2, 2].
    let split = |width: u64, parts: &[u64], which: usize| -> Vec<u64> {
        let first: u64 = parts[..which].iter().sum();
        (0..16 * width)
            .filter(|row| (first..first + parts[which]).contains(&(row % width)))
            .collect()
    };
    let qkvz = |which| split(768, &[128, 128, 256, 256], which);
    let [qkv, z, b, a] = &gdn.input.parts[..] else {
        panic!("four parts");
    };
    assert_eq!([qkv.name, z.name, b.name, a.name], ["qkv", "z", "b", "a"]);
    assert_eq!(order(qkv, &tensors), [qkvz(0), qkvz(1), qkvz(2)].concat());
    assert_eq!(order(z, &tensors), qkvz(3));
    assert_eq!(order(b, &tensors), split(4, &[2, 2], 0));
    assert_eq!(order(a, &tensors), split(4, &[2, 2], 1));
    let MixerLayout::Attention(attention) = &layout.layers[3].mixer else {
        panic!("the fourth layer has attention");
    };
    let names: Vec<_> = attention.qkv.parts.iter().map(|part| part.name).collect();
    assert_eq!(names, ["q", "gate", "k", "v"]);
    assert_eq!(order(&attention.qkv.parts[0], &tensors), split(512, &[256, 256], 0));
    assert_eq!(order(&attention.qkv.parts[1], &tensors), split(512, &[256, 256], 1));
}

#[test]
fn a_head_that_predicts_more_is_used_only_where_it_is() {
    let mut config = read("qwen3-next-80b-a3b").truncated(4).unwrap();
    config.mtp = false;
    let tensors = checkpoint(&config, PLAIN);
    config.mtp = true;
    let layout = resolve(&mut config, Naming::HuggingFace, &|name| tensors.contains_key(name)).unwrap();
    assert!(layout.mtp.is_none() && !config.mtp);
}

#[test]
fn files_of_another_model_are_refused_before_all_names_are_made() {
    let mut config = read("qwen3-next-80b-a3b");
    let e = resolve(&mut config, Naming::HuggingFace, &|_| false)
        .unwrap_err()
        .to_string();
    assert!(e.contains("model.embed_tokens.weight"), "{e}");
    let tensors = checkpoint(&config.clone().truncated(4).unwrap(), PLAIN);
    let e = resolve(&mut config, Naming::HuggingFace, &|name| tensors.contains_key(name)).unwrap_err();
    let e = e.to_string();
    assert!(
        e.contains("model.layers.47.input_layernorm.weight") && e.contains("48 layers"),
        "{e}"
    );
}
