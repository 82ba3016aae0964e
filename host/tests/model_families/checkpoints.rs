//! The tiny checkpoints that transformers and the `gguf` package wrote: their configs, and that each row of each tensor is used once.

use crate::rows::check;
use crate::tensors::Tensors;
use host::gguf::Gguf;
use host::model::config::{Mixer, ModelConfig};
use host::model::family::{self, Naming};
use std::path::{Path, PathBuf};

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models")
}

/// The tensors of a folder's safetensors files by their headers: names and rows, vectors with their length. Without the vision tower and
/// the scales of quantised matrices, which belong to the matrix beside them.
fn headers(folder: &Path) -> Tensors {
    let mut tensors = Tensors::new();
    for file in std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()) {
        if file.extension().is_none_or(|end| end != "safetensors") {
            continue;
        }
        let bytes = std::fs::read(file).unwrap();
        let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
        for (name, about) in header.as_object().unwrap() {
            let shape: Vec<u64> = match about.get("shape") {
                Some(shape) => serde_json::from_value(shape.clone()).unwrap(),
                None => continue,
            };
            if name.contains("visual.") || name.ends_with("_scale") || name.ends_with("_scale_2") {
                continue;
            }
            let elements = shape.iter().product::<u64>();
            let conv = name.ends_with("conv1d.weight");
            let columns = if conv || shape.len() == 1 {
                1
            } else {
                shape[shape.len() - 1]
            };
            tensors.insert(name.clone(), elements / columns);
        }
    }
    tensors
}

fn folder(name: &str) -> (ModelConfig, Tensors) {
    let path = models().join(name);
    (family::from_folder(&path).unwrap(), headers(&path))
}

fn all_used(mut config: ModelConfig, naming: Naming, tensors: &Tensors) -> ModelConfig {
    let layout = family::resolve(&mut config, naming, &|name| tensors.contains_key(name)).unwrap();
    check(&layout, tensors).unwrap_or_else(|e| panic!("{}: {e}", config.name));
    config
}

#[test]
fn folders() {
    let mtp = |name: &str| {
        let (config, tensors) = folder(name);
        let config = all_used(config, Naming::HuggingFace, &tensors);
        assert_eq!((config.vocab, config.name.as_str()), (320, name));
        config.mtp
    };
    for name in ["tiny-llama", "tiny-qwen3", "tiny-qwen3-coder", "tiny-qwen3.5"] {
        assert!(!mtp(name), "{name}");
    }
    for name in ["tiny-qwen3-coder-modelopt", "tiny-qwen3-compressed-tensors"] {
        assert!(!mtp(name), "{name}");
    }
    for name in ["tiny-qwen3-next", "tiny-qwen3.6"] {
        assert!(mtp(name), "{name}");
    }
    let (hybrid, tensors) = folder("tiny-qwen3.5");
    let mixers: Vec<Mixer> = hybrid.layers.iter().map(|layer| layer.mixer).collect();
    assert_eq!(mixers, [Mixer::Gdn, Mixer::Attention]);
    let mut lost = tensors.clone();
    lost.insert("model.layers.0.mlp.extra.weight".into(), 1);
    let layout = family::resolve(&mut hybrid.clone(), Naming::HuggingFace, &|name| {
        tensors.contains_key(name)
    })
    .unwrap();
    assert!(check(&layout, &lost).is_err());
}

#[test]
fn gguf_files_say_what_the_folders_say() {
    for name in ["tiny-llama", "tiny-qwen3", "tiny-qwen3-coder"] {
        let gguf = Gguf::open(models().join(format!("{name}-q8_0.gguf"))).unwrap();
        let tensors: Tensors = gguf
            .tensors()
            .filter(|t| t.name() != "rope_freqs.weight")
            .map(|t| {
                (
                    t.name().to_string(),
                    if t.dims().len() == 1 { t.elements() } else { t.rows() },
                )
            })
            .collect();
        let of_gguf = all_used(family::from_gguf(name, &gguf).unwrap(), Naming::Gguf, &tensors);
        let (of_folder, _) = folder(name);
        let same = ModelConfig {
            eos: of_folder.eos.clone(),
            attention: host::model::config::Attention {
                scaling: of_folder.attention.scaling.clone(),
                freq_factors: None,
                ..of_gguf.attention.clone()
            },
            ..of_gguf.clone()
        };
        assert_eq!(same, of_folder);
        // Of Llama 3's scaling the file has the divisors that it comes to.
        let a = &of_gguf.attention;
        assert_eq!(a.freq_factors.is_some(), name == "tiny-llama");
        let table = |attention: &host::model::config::Attention| {
            let mut table = host::rope::frequencies(attention.theta, a.rot as usize, &attention.scaling).unwrap();
            let divisors = attention.freq_factors.iter().flatten();
            table.iter_mut().zip(divisors).for_each(|(f, divisor)| *f /= divisor);
            table
        };
        for (ours, theirs) in table(a).iter().zip(table(&of_folder.attention)) {
            assert!((ours - theirs).abs() <= 2e-6 * theirs, "{name}: {ours} and {theirs}");
        }
    }
}
