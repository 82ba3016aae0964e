//! What cannot be, from files to requests: each an error that names the thing and the numbers, after which everything still works.

use std::fs;
use std::path::{Path, PathBuf};

use host::device::{Device, SimtOptions};
use host::model::ModelError;
use host::model::engine::{Draft, Engine, Feed, Options, Request, Sampling};

fn device() -> Device {
    Device::simt_with(SimtOptions {
        checks: false,
        ..SimtOptions::default()
    })
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models")
}

fn options() -> Options {
    Options {
        max_seqs: 2,
        context: 128,
        chunk: 64,
        drafts: 2,
        ..Options::default()
    }
}

fn load(device: &Device, path: &Path) -> Result<Engine, ModelError> {
    let opened = host::model::open(path.to_str().unwrap())?;
    Engine::load(device, opened.as_ref(), options())
}

/// The logits after a short prompt in a sequence of its own.
fn logits(engine: &mut Engine) -> Vec<u32> {
    let seq = engine.open(Sampling::GREEDY).unwrap();
    engine
        .prefill(&[Feed {
            seq,
            tokens: &[3, 1, 4],
        }])
        .unwrap();
    let logits = engine.logits().unwrap();
    engine.close(seq);
    logits.into_iter().map(f32::to_bits).collect()
}

/// A copy of a model's folder or file.
fn copy(to: &Path, name: &str) -> PathBuf {
    let (from, to) = (models().join(name), to.join(name));
    if from.is_file() {
        fs::copy(from, &to).unwrap();
        return to;
    }
    fs::create_dir(&to).unwrap();
    for file in fs::read_dir(from).unwrap().map(|file| file.unwrap()) {
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    to
}

/// Puts `with` in the place of every `what` of a file, which must be there.
fn replace(file: PathBuf, what: &str, with: &str) {
    let mut bytes = fs::read(&file).unwrap();
    let places: Vec<usize> = (0..bytes.len())
        .filter(|&i| bytes[i..].starts_with(what.as_bytes()))
        .collect();
    assert!(!places.is_empty(), "{what} is not in {}", file.display());
    for i in places.into_iter().rev() {
        bytes.splice(i..i + what.len(), with.bytes());
    }
    fs::write(file, bytes).unwrap();
}

fn cut(file: PathBuf, len: u64) {
    fs::OpenOptions::new()
        .write(true)
        .open(file)
        .unwrap()
        .set_len(len)
        .unwrap();
}

#[test]
fn files_that_cannot_be_are_named_and_what_is_sound_still_loads() {
    type Spoil = fn(&Path);
    let device = device();
    let cases: &[(&str, Spoil, &[&str])] = &[
        (
            "tiny-qwen3",
            |at| cut(at.join("model.safetensors"), 300_000),
            &["model.safetensors", "data_offsets", "the file has", "bytes of data"],
        ),
        ("tiny-qwen3", |at| cut(at.join("model.safetensors"), 5), &["5 bytes"]),
        (
            "tiny-qwen3-next",
            |at| fs::remove_file(at.join("model-00002-of-00003.safetensors")).unwrap(),
            &["model-00002-of-00003.safetensors", "no such file"],
        ),
        (
            "tiny-qwen3",
            |at| fs::remove_file(at.join("model.safetensors")).unwrap(),
            &["has neither model.safetensors nor"],
        ),
        (
            "tiny-qwen3",
            |at| fs::remove_file(at.join("config.json")).unwrap(),
            &["config.json", "cannot be read"],
        ),
        (
            "tiny-qwen3",
            |at| replace(at.join("model.safetensors"), "1.self_attn.k_proj", "1.self_attn.x_proj"),
            &["tensor `model.layers.1.self_attn.k_proj.weight` is missing"],
        ),
        (
            "tiny-qwen3",
            |at| {
                replace(
                    at.join("config.json"),
                    "\"intermediate_size\": 192",
                    "\"intermediate_size\": 256",
                )
            },
            &["layers.0.mlp.gate_proj.weight", "[192][64]", "256 are wanted"],
        ),
        (
            "tiny-qwen3",
            |at| {
                replace(
                    at.join("config.json"),
                    "\"num_hidden_layers\": 2",
                    "\"num_hidden_layers\": 3",
                )
            },
            &["3", "layer"],
        ),
        (
            "tiny-qwen3",
            |at| replace(at.join("config.json"), "\"qwen3\"", "\"gemma9\""),
            &["architecture `gemma9` is not known", "qwen3_next"],
        ),
        (
            "tiny-llama-q8_0.gguf",
            |at| cut(at.into(), 400_000),
            &["tiny-llama-q8_0.gguf", "tensor"],
        ),
        (
            "tiny-llama-q8_0.gguf",
            |at| cut(at.into(), 100),
            &["tiny-llama-q8_0.gguf"],
        ),
        (
            "tiny-llama-q8_0.gguf",
            |at| replace(at.into(), "llama", "gemma"),
            &["architecture `gemma` is not known", "qwen3moe"],
        ),
        (
            "tiny-llama-q8_0.gguf",
            |at| replace(at.into(), "blk.1.ffn_down.weight", "blk.1.ffn_dawn.weight"),
            &["tensor `blk.1.ffn_down.weight` is missing"],
        ),
    ];
    for (name, spoil, texts) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = copy(folder.path(), name);
        spoil(&path);
        let error = load(&device, &path).unwrap_err().to_string();
        for text in *texts {
            assert!(error.contains(text), "{name}, {text}: {error}");
        }
        assert!(error.len() < 1500, "{error}");
    }
    for (text, wanted) in [
        ("no/such/model", "there is no such folder or file"),
        ("Cargo.toml", "does not end in .gguf"),
        ("synthetic:qwen9", "qwen9"),
        ("", "there is no such"),
    ] {
        let error = host::model::open(text).map(drop).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    // The same process, the same device: sound files load, and what they compute is what they compute alone.
    let alone = logits(&mut load(&self::device(), &models().join("tiny-qwen3")).unwrap());
    assert_eq!(logits(&mut load(&device, &models().join("tiny-qwen3")).unwrap()), alone);
}

#[test]
fn options_beyond_32_bits_are_refused() {
    let opened = host::model::open("synthetic:tiny-llama").unwrap();
    let refused = |options: Options| options.limits(opened.config()).unwrap_err().to_string();
    for page in [16, 32, 64] {
        for context in [u32::MAX, u32::MAX - 1, 1 << 31] {
            let text = refused(Options {
                context,
                page,
                ..options()
            });
            assert!(text.contains("positions: tiny-llama was made for"), "{text}");
        }
    }
    let most = u32::MAX;
    assert!(
        refused(Options {
            max_seqs: most,
            ..options()
        })
        .contains("4294967295")
    );
    assert!(
        refused(Options {
            drafts: most,
            ..options()
        })
        .contains("from 1 to 8")
    );
    assert!(
        refused(Options {
            chunk: most,
            ..options()
        })
        .contains("from 64 to 32768")
    );
    assert!(
        refused(Options {
            chunk: 65_536,
            ..options()
        })
        .contains("from 64 to 32768")
    );
    assert!(refused(Options { page: 0, ..options() }).contains("the page = 0"));
    let cache_positions = Some(most);
    let text = refused(Options {
        cache_positions,
        page: 16,
        ..options()
    });
    assert!(text.contains("the pages of the cache"), "{text}");
}

#[test]
fn a_number_of_a_closed_sequence_is_nobody_elses() {
    let mut engine = load(&device(), &models().join("tiny-qwen3")).unwrap();
    let old = engine.open(Sampling::GREEDY).unwrap();
    engine
        .prefill(&[Feed {
            seq: old,
            tokens: &[1, 2],
        }])
        .unwrap();
    engine.close(old);
    let new = engine.open(Sampling::GREEDY).unwrap();
    engine
        .prefill(&[Feed {
            seq: new,
            tokens: &[3, 4, 5],
        }])
        .unwrap();
    for result in [
        engine.tokens(old).map(drop),
        engine.prefill(&[Feed { seq: old, tokens: &[6] }]).map(drop),
        engine.decode(&[Feed { seq: old, tokens: &[6] }]).map(drop),
    ] {
        assert!(result.unwrap_err().to_string().contains("is not open"));
    }
    engine.close(old);
    assert_eq!(engine.tokens(new).unwrap(), [3, 4, 5]);
}

#[test]
fn a_sequence_whose_step_failed_can_only_be_closed() {
    let device = device();
    let mut engine = load(&device, &models().join("tiny-qwen3.6")).unwrap();
    let expected = logits(&mut engine);
    let other = device.stream().unwrap();
    let seq = engine.open(Sampling::GREEDY).unwrap();
    engine.prefill(&[Feed { seq, tokens: &[3, 1] }]).unwrap();
    // Copies are refused while anything is captured, so the step fails.
    let mut failed = None;
    let capture = device.capture(&other, || {
        failed = engine.decode(&[Feed { seq, tokens: &[4] }]).err();
        Ok(())
    });
    capture.unwrap();
    assert!(matches!(failed, Some(ModelError::Device(_))), "{failed:?}");
    for result in [
        engine.decode(&[Feed { seq, tokens: &[4] }]).map(drop),
        engine.prefill(&[Feed { seq, tokens: &[4] }]).map(drop),
    ] {
        let text = result.unwrap_err().to_string();
        assert!(text.contains("failed midway: close it"), "{text}");
    }
    engine.close(seq);
    assert_eq!(logits(&mut engine), expected);
}

#[test]
fn generation_that_has_no_room_is_refused_before_it_begins_and_drafts_take_none_from_it() {
    let device = device();
    let opened = host::model::open(models().join("tiny-qwen3.6").to_str().unwrap()).unwrap();
    // Two sequences of 128 positions on a cache of 144.
    let crowded = Options {
        page: 16,
        cache_positions: Some(144),
        ..options()
    };
    let mut engine = Engine::load(&device, opened.as_ref(), crowded).unwrap();
    let request = |prompt: usize, max_new: usize| Request {
        prompt: vec![7; prompt],
        max_new,
        sampling: Sampling::GREEDY,
        stop: false,
    };
    let mut seen = 0;
    let long = engine.generate(&[request(3, 2), request(100, 30)], Draft::None, &mut |_, _| seen += 1);
    let text = long.unwrap_err().to_string();
    assert!(
        text.contains("request 1, 100 tokens of the prompt and 30 to generate: 129 positions"),
        "{text}"
    );
    assert!(text.contains("room for 128") && seen == 0, "{text}");
    // 112 and 32 positions: every page. Two drafts for the second would need places beside them in the first.
    let full = [request(111, 2), request(29, 4)];
    let plain = engine.generate(&full, Draft::None, &mut |_, _| ()).unwrap();
    let drafted = engine.generate(&full, Draft::Mtp(2), &mut |_, _| ()).unwrap();
    for (plain, drafted) in plain.iter().zip(&drafted) {
        assert_eq!(plain.tokens, drafted.tokens);
    }
    assert!(drafted[1].drafted > 0 && plain[1].tokens.len() == 4, "{drafted:?}");
}

#[test]
fn the_mtp_heads_guesses_are_of_its_last_step_and_asking_changes_none() {
    let mut engine = load(&device(), &models().join("tiny-qwen3.6")).unwrap();
    engine.follow_with_mtp().unwrap();
    let [a, b] = [(); 2].map(|()| engine.open(Sampling::GREEDY).unwrap());
    assert!(
        engine
            .guesses(&[a], 1)
            .unwrap_err()
            .to_string()
            .contains("has no guess")
    );
    engine
        .prefill(&[Feed {
            seq: a,
            tokens: &[3, 1, 4],
        }])
        .unwrap();
    engine
        .prefill(&[Feed {
            seq: b,
            tokens: &[1, 5],
        }])
        .unwrap();
    let twice = engine.guesses(&[a, a], 1).unwrap_err().to_string();
    assert!(twice.contains("is there twice"), "{twice}");
    assert_eq!(engine.guesses(&[b], 0).unwrap(), [Vec::<u32>::new()]);
    let first = engine.guesses(&[b], 2).unwrap();
    assert_eq!(first[0].len(), 2);
    // The head's own steps have written over the hidden states that a second guess goes on from.
    assert_eq!(engine.guesses(&[b], 2).unwrap()[0], first[0][..1]);
    assert_eq!(engine.guesses(&[a, b], 2).unwrap()[0].len(), 1);
    engine.close(a);
    let a = engine.open(Sampling::GREEDY).unwrap();
    assert!(engine.guesses(&[a], 1).is_err());
}
