//! Tokenizers: of `tokenizer.json` and of a GGUF file with the same vocabulary, against what the Python package says (another engine for
//! its expressions), against merges done plainly, and on files that are broken.

use host::gguf::Gguf;
use host::model::ModelError;
use host::model::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn folder(name: &str) -> Tokenizer {
    Tokenizer::from_folder(&data(&format!("models/{name}"))).unwrap()
}

fn gguf(name: &str) -> Gguf {
    Gguf::open(data(&format!("models/{name}-q8_0.gguf"))).unwrap()
}

fn golden() -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(data("golden/encodings.json")).unwrap()).unwrap()
}

/// What differs from the golden ids and texts of a model.
fn differences(tokenizer: &Tokenizer, rows: &serde_json::Value) -> Vec<String> {
    let mut found = Vec::new();
    for row in rows.as_array().unwrap() {
        let text = row["text"].as_str().unwrap();
        let wanted: Vec<u32> = serde_json::from_value(row["ids"].clone()).unwrap();
        let ids = tokenizer.encode(text).unwrap();
        if ids != wanted {
            found.push(format!("{text:?}: {ids:?}, not {wanted:?}"));
        }
        let decoded = tokenizer.decode_with_special(&wanted).unwrap();
        if decoded != row["decoded"].as_str().unwrap() {
            found.push(format!("{text:?} comes back as {decoded:?}"));
        }
    }
    found
}

#[test]
fn both_kinds_of_files_give_the_golden_tokens() {
    let golden = golden();
    for name in ["tiny-qwen3", "tiny-llama"] {
        let rows = &golden[name];
        assert!(rows.as_array().unwrap().len() > 10);
        let of_gguf = Tokenizer::from_gguf(&gguf(name)).unwrap();
        assert_eq!(differences(&folder(name), rows), Vec::<String>::new(), "{name}");
        assert_eq!(differences(&of_gguf, rows), Vec::<String>::new(), "{name}");
        assert_eq!((folder(name).len(), of_gguf.len()), (320, 320));
    }
    // The other model's tokens are not these.
    assert!(!differences(&folder("tiny-qwen3"), &golden["tiny-llama"]).is_empty());
}

#[test]
fn texts_come_back() {
    let texts = [
        "",
        " ",
        "\n\n\r\n\t  x   ",
        "12345 1 22 333 4444",
        "naïve 日本語 🙂🙃 \u{1F9D1}\u{200D}\u{1F680}",
        "\u{0}\u{1}\u{7f}\u{80}\u{ffff}\u{10ffff}",
        "don't DON'T 'S",
        &"long ".repeat(2000),
    ];
    for name in ["tiny-qwen3", "tiny-llama"] {
        let (a, b) = (folder(name), Tokenizer::from_gguf(&gguf(name)).unwrap());
        for text in texts {
            let ids = a.encode(text).unwrap();
            assert_eq!(ids, b.encode(text).unwrap(), "{name}: {text:?}");
            assert_eq!(a.decode(&ids).unwrap(), text, "{name}");
            assert_eq!(b.decode(&ids).unwrap(), text, "{name}");
        }
    }
    // Only Qwen's files bring characters into one form: e with an accent of its own becomes one character.
    let parted = "e\u{301}";
    let composed = |t: &Tokenizer| t.decode(&t.encode(parted).unwrap()).unwrap();
    assert_eq!(composed(&Tokenizer::from_gguf(&gguf("tiny-qwen3")).unwrap()), "\u{e9}");
    assert_eq!(composed(&Tokenizer::from_gguf(&gguf("tiny-llama")).unwrap()), parted);
}

#[test]
fn special_tokens() {
    for tokenizer in [folder("tiny-qwen3"), Tokenizer::from_gguf(&gguf("tiny-qwen3")).unwrap()] {
        let ids = tokenizer.encode("<|im_start|>a<|im_end|>").unwrap();
        assert_eq!((ids.len(), ids[0], ids[2]), (3, 318, 319));
        assert_eq!(tokenizer.decode(&ids).unwrap(), "a");
        assert_eq!(tokenizer.decode_with_special(&ids).unwrap(), "<|im_start|>a<|im_end|>");
        // Ids beyond the vocabulary have no text, halves of a character none that is known.
        assert_eq!(tokenizer.decode(&[ids[1], 320, u32::MAX]).unwrap(), "a");
        let smile = tokenizer.encode("\u{1F642}").unwrap();
        assert!(smile.len() > 1);
        assert_eq!(tokenizer.decode(&smile[..1]).unwrap(), "\u{fffd}");
    }
}

/// Merges done plainly: of all neighbours the pair that comes first in the list, the leftmost of equals, until none is in it.
fn merged(word: &str, vocabulary: &[String], merges: &[(String, String)]) -> Vec<u32> {
    let mut parts: Vec<String> = word.chars().map(String::from).collect();
    while let Some((_, at)) = (1..parts.len())
        .filter_map(|i| {
            let rank = merges.iter().position(|(a, b)| *a == parts[i - 1] && *b == parts[i])?;
            Some((rank, i))
        })
        .min()
    {
        let right = parts.remove(at);
        parts[at - 1] += &right;
    }
    let id = |part: &String| vocabulary.iter().position(|token| token == part).unwrap() as u32;
    parts.iter().map(id).collect()
}

fn strings(gguf: &Gguf, key: &str) -> Vec<String> {
    let array: host::gguf::Array = gguf.meta(key).unwrap();
    let text = |value| match value {
        host::gguf::Value::Str(s) => String::from_utf8(s.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    array.iter().map(text).collect()
}

#[test]
fn merges_are_done_in_order() {
    let file = gguf("tiny-qwen3");
    let vocabulary = strings(&file, "tokenizer.ggml.tokens");
    let mut merges: Vec<(String, String)> = strings(&file, "tokenizer.ggml.merges")
        .iter()
        .map(|merge| merge.split_once(' ').map(|(a, b)| (a.into(), b.into())).unwrap())
        .collect();
    let tokenizer = Tokenizer::from_gguf(&file).unwrap();
    // Words of letters are not split, and letters are their own bytes' names.
    let mut state = 1u32;
    let words: Vec<String> = (0..500)
        .map(|i| {
            let letter = |_| {
                state = state.wrapping_mul(1664525).wrapping_add(1013904223);
                char::from(b"theandoiqrs"[(state >> 24) as usize % 11])
            };
            (0..1 + i % 12).map(letter).collect()
        })
        .chain(["the", "quick", "brown", "isn"].map(String::from))
        .collect();
    let differ = |merges: &[(String, String)]| {
        let other = |word: &&String| merged(word, &vocabulary, merges) != tokenizer.encode(word).unwrap();
        words.iter().filter(other).count()
    };
    assert_eq!(differ(&merges), 0);
    merges.reverse();
    assert!(differ(&merges) > 0, "an order that does not matter is not checked");
}

/// A GGUF file with bytes put in place of others of the same length, all of them or the `nth` alone.
fn patched(name: &str, from: &[u8], to: &[u8]) -> Result<Tokenizer, ModelError> {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(data(&format!("models/{name}-q8_0.gguf"))).unwrap();
    let at = bytes
        .windows(from.len())
        .position(|w| w == from)
        .expect("the bytes are in the file");
    bytes[at..at + to.len()].copy_from_slice(to);
    Tokenizer::from_gguf(&Gguf::from_bytes("patched.gguf", bytes).unwrap())
}

#[test]
fn files_that_are_broken_or_unknown() {
    let refused = |result: Result<Tokenizer, ModelError>, parts: &[&str]| {
        let text = result.map(|t| panic!("{t:?} was made")).unwrap_err().to_string();
        for part in parts {
            assert!(text.contains(part), "`{text}` lacks `{part}`");
        }
    };
    refused(
        patched("tiny-qwen3", b"qwen2", b"gpt-9"),
        &["patched.gguf", "tokenizer.ggml.pre", "gpt-9", "qwen2", "llama-bpe"],
    );
    refused(
        patched("tiny-qwen3", b"gpt2", b"bert"),
        &["tokenizer.ggml.model", "bert"],
    );
    refused(
        patched("tiny-qwen3", b"tokenizer.ggml.tokens", b"tokenizer.ggml.tokenz"),
        &["tokenizer.ggml.tokens"],
    );
    refused(
        patched("tiny-qwen3", b"tokenizer.ggml.merges", b"tokenizer.ggml.mergez"),
        &["tokenizer.ggml.merges"],
    );
    let folder = tempfile::tempdir().unwrap();
    refused(Tokenizer::from_folder(folder.path()), &["tokenizer.json"]);
    for broken in ["", "{", "[]", "{\"model\": 3}", "{\"version\": \"1.0\"}"] {
        std::fs::write(folder.path().join("tokenizer.json"), broken).unwrap();
        refused(Tokenizer::from_folder(folder.path()), &["tokenizer.json"]);
    }
    // A template with a token that is not in its own list: found when the file is read, not at the first prompt.
    let good = std::fs::read_to_string(data("models/tiny-llama/tokenizer.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&good).unwrap();
    let listed = &mut json["post_processor"]["processors"][1]["special_tokens"];
    assert!(listed.as_object().unwrap().len() == 1);
    *listed = serde_json::json!({});
    refused(Tokenizer::from_json("a", json.to_string().as_bytes()), &["tokenizer a"]);
}

#[test]
fn prompts_are_not_cut() {
    let mut json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(data("models/tiny-llama/tokenizer.json")).unwrap()).unwrap();
    json["truncation"] =
        serde_json::json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = serde_json::json!({"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "!"});
    let tokenizer = Tokenizer::from_json("a", json.to_string().as_bytes()).unwrap();
    let text = "one two three four five six";
    assert_eq!(
        tokenizer.encode(text).unwrap(),
        folder("tiny-llama").encode(text).unwrap()
    );
}

#[test]
fn mutated_files_do_not_panic() {
    let good = std::fs::read(data("models/tiny-llama/tokenizer.json")).unwrap();
    let gguf = std::fs::read(data("models/tiny-llama-q8_0.gguf")).unwrap();
    // The metadata's part of the file is enough: the tensors are not read here.
    let head = gguf.len() - Gguf::from_bytes("a", gguf.clone()).unwrap().data_start() as usize;
    let mut state = 7u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut made = 0;
    for i in 0..1000 {
        let (source, end) = if i % 2 == 0 {
            (&good, good.len())
        } else {
            (&gguf, gguf.len() - head)
        };
        let mut bytes = source.clone();
        for _ in 0..1 + random(3) {
            let at = random(end);
            bytes[at] = match random(3) {
                0 => b"0123456789-\"[]{},: "[random(19)],
                1 => bytes[random(end)],
                _ => bytes[at] ^ (1 << random(8)),
            };
        }
        let tokenizer = match i % 2 {
            0 => Tokenizer::from_json("mutated", &bytes),
            _ => match Gguf::from_bytes("mutated", bytes) {
                Ok(gguf) => Tokenizer::from_gguf(&gguf),
                Err(_) => continue,
            },
        };
        if let Ok(tokenizer) = tokenizer {
            made += 1;
            // An error is as good as tokens.
            let ids = tokenizer
                .encode("The 12345 <|eot_id|> dog's\n\n  tail \u{1F642}")
                .unwrap_or_default();
            let _ = tokenizer.decode_with_special(&ids);
        }
    }
    assert!(made > 100, "{made} of 1000 were still tokenizers");
}
