//! Texts to tokens and back, by a model's own vocabulary: of `tokenizer.json`, or of a GGUF file's metadata.
//!
//! A GGUF file names its way of splitting a text into words (`tokenizer.ggml.pre`) and has the vocabulary and the merges of a byte-level BPE;
//! what the name means is written down here, from the models' own `tokenizer.json` files, so that either file gives the same tokens.

use std::path::Path;

use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use super::ModelError;
use crate::gguf::{Array, Gguf, Value};

/// A vocabulary, and how texts are cut into its tokens.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Put before every text, where the tokenizer itself does not do so.
    bos: Option<u32>,
    origin: String,
}

/// How a kind of tokenizer, by its name in GGUF files, splits a text into words before it looks for tokens.
struct Kind {
    names: &'static [&'static str],
    /// A word each.
    words: &'static str,
    /// Brings composed characters into one form first.
    nfc: bool,
    /// A word that is a token is that token, whatever the merges say.
    ignore_merges: bool,
    /// Texts begin with a token of their own, unless the file says otherwise.
    bos: bool,
}

/// The kinds that are read. The expressions are those of the `tokenizer.json` files of Qwen2 to Qwen3-Next, Qwen3.5 and 3.6, and Llama 3.
const KINDS: [Kind; 3] = [
    Kind {
        names: &["qwen2"],
        words: r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        nfc: true,
        ignore_merges: false,
        bos: false,
    },
    Kind {
        names: &["qwen35"],
        words: r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        nfc: true,
        ignore_merges: false,
        bos: false,
    },
    Kind {
        names: &["llama-bpe", "llama3", "llama-v3"],
        words: r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        nfc: false,
        ignore_merges: true,
        bos: true,
    },
];

/// GGUF's type of a token that is no text: `<|im_end|>`.
const CONTROL: i32 = 3;
/// GGUF's type of a token that was added to the vocabulary and is never made of others.
const USER_DEFINED: i32 = 4;

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({}, {} tokens)", self.origin, self.len())
    }
}

impl Tokenizer {
    /// Of the `tokenizer.json` of a model's folder.
    ///
    /// # Errors
    /// [`ModelError::Io`] if it cannot be read, [`ModelError::Tokenizer`] if it is broken.
    pub fn from_folder(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("tokenizer.json");
        let text = std::fs::read(&path).map_err(|source| ModelError::Io {
            path: path.clone(),
            source,
        })?;
        Self::from_json(&path.display().to_string(), &text)
    }

    /// Of the text of a `tokenizer.json`. `origin` is what errors call it.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] if it is broken.
    pub fn from_json(origin: &str, text: &[u8]) -> Result<Self, ModelError> {
        let error = |message| ModelError::Tokenizer {
            origin: origin.into(),
            message,
        };
        // The library panics on texts that are no sound JSON, so it is not the first to read them.
        serde_json::from_slice::<serde_json::Value>(text).map_err(|e| error(e.to_string()))?;
        let mut inner = guarded(|| tokenizers::Tokenizer::from_bytes(text)).map_err(error)?;
        // Some files were saved with settings of their training: prompts are never cut or filled up.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| error(e.to_string()))?;
        // Parts that do not fit each other are found now and not at the first prompt.
        guarded(|| inner.encode_fast("a", true)).map_err(error)?;
        Ok(Self {
            inner,
            bos: None,
            origin: origin.into(),
        })
    }

    /// Of a GGUF file's metadata: a byte-level BPE (`gpt2`) of a kind that is known.
    ///
    /// # Errors
    /// [`ModelError::Gguf`] for keys that are missing or of another type, [`ModelError::Tokenizer`] for another model or kind and for
    /// contents that do not fit each other.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, ModelError> {
        let origin = gguf.path().display().to_string();
        let error = |message: String| ModelError::Tokenizer {
            origin: origin.clone(),
            message,
        };
        let model: &str = gguf.meta("tokenizer.ggml.model")?;
        if model != "gpt2" {
            return Err(error(format!("tokenizer.ggml.model `{model}` is not read; `gpt2` is")));
        }
        let pre: &str = gguf.meta("tokenizer.ggml.pre")?;
        let Some(kind) = KINDS.iter().find(|kind| kind.names.contains(&pre)) else {
            let known: Vec<&str> = KINDS.iter().flat_map(|kind| kind.names).copied().collect();
            return Err(error(format!(
                "tokenizer.ggml.pre `{pre}` is not known; known are {}",
                known.join(", ")
            )));
        };
        let tokens = texts(gguf, "tokenizer.ggml.tokens").map_err(&error)?;
        let bpe = BPE::builder()
            .vocab_and_merges(vocab(&tokens).map_err(&error)?, merges(gguf).map_err(&error)?)
            .ignore_merges(kind.ignore_merges)
            .build()
            .map_err(|e| error(format!("tokenizer.ggml.merges: {e}")))?;
        let mut inner = tokenizers::Tokenizer::new(bpe);
        if kind.nfc {
            inner.with_normalizer(Some(NFC));
        }
        let bytes = ByteLevel::new(false, false, false);
        let split = Split::new(
            SplitPattern::Regex(kind.words.into()),
            SplitDelimiterBehavior::Isolated,
            false,
        )
        .map_err(|e| error(e.to_string()))?;
        inner.with_pre_tokenizer(Some(Sequence::new(vec![
            PreTokenizerWrapper::Split(split),
            PreTokenizerWrapper::ByteLevel(bytes),
        ])));
        inner.with_decoder(Some(bytes));
        inner.add_tokens(&added(gguf, &tokens).map_err(&error)?);
        let bos = bos(gguf, kind, tokens.len()).map_err(&error)?;
        Ok(Self { inner, bos, origin })
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens of a text, with the one that begins every text, where the model has one. Names of special tokens in the text are those
    /// tokens.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`]: a text on which the expression that finds words gives up.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let encoding = self
            .inner
            .encode_fast(text, true)
            .map_err(|e| self.error(e.to_string()))?;
        Ok(self.bos.into_iter().chain(encoding.get_ids().iter().copied()).collect())
    }

    /// The text of tokens, without special ones. Bytes that are no UTF-8 become U+FFFD; ids that the vocabulary lacks have no text.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`]: the decoder of a `tokenizer.json` fails.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, ModelError> {
        guarded(|| self.inner.decode(tokens, true)).map_err(|e| self.error(e))
    }

    /// As [`Tokenizer::decode`], with the names of special tokens.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn decode_with_special(&self, tokens: &[u32]) -> Result<String, ModelError> {
        guarded(|| self.inner.decode(tokens, false)).map_err(|e| self.error(e))
    }

    fn error(&self, message: String) -> ModelError {
        ModelError::Tokenizer {
            origin: self.origin.clone(),
            message,
        }
    }
}

/// Runs the library on what a file says. It panics on some files whose parts do not fit each other; here that is an error as any other.
fn guarded<T>(run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    // The tokenizer is only read, and its cache, which locks guard, is no part of its results.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied());
            Err(format!(
                "its parts do not fit each other: {}",
                text.unwrap_or("no reason is known")
            ))
        }
    }
}

/// An array of texts.
fn texts<'a>(gguf: &'a Gguf, key: &str) -> Result<Vec<&'a str>, String> {
    let array: Array<'a> = gguf.meta(key).map_err(|e| e.to_string())?;
    let text = |(i, value)| match value {
        Value::Str(bytes) => std::str::from_utf8(bytes).map_err(|e| format!("{key}: entry {i} is no UTF-8: {e}")),
        other => Err(format!("{key}: entry {i} is {other:?}, no text")),
    };
    array.iter().enumerate().map(text).collect()
}

/// The ids of the tokens.
fn vocab(tokens: &[&str]) -> Result<Vocab, String> {
    if tokens.is_empty() || u32::try_from(tokens.len()).is_err() {
        return Err(format!("tokenizer.ggml.tokens has {} entries", tokens.len()));
    }
    Ok(tokens
        .iter()
        .zip(0..)
        .map(|(token, id)| (token.to_string(), id))
        .collect())
}

/// Pairs of tokens that become one, the first to be tried first.
fn merges(gguf: &Gguf) -> Result<Merges, String> {
    let key = "tokenizer.ggml.merges";
    let merge = |(i, text): (usize, &str)| match text.split_once(' ') {
        Some((left, right)) => Ok((left.to_string(), right.to_string())),
        None => Err(format!(
            "{key}: entry {i} is `{text}`, no two tokens with a space between them"
        )),
    };
    texts(gguf, key)?.into_iter().enumerate().map(merge).collect()
}

/// The tokens that are found in a text before it is split into words.
fn added(gguf: &Gguf, tokens: &[&str]) -> Result<Vec<AddedToken>, String> {
    let key = "tokenizer.ggml.token_type";
    let Some(types) = gguf.meta_opt::<Array<'_>>(key).map_err(|e| e.to_string())? else {
        return Ok(Vec::new());
    };
    if types.len() != tokens.len() as u64 {
        return Err(format!(
            "{key} has {} entries, tokenizer.ggml.tokens {}",
            types.len(),
            tokens.len()
        ));
    }
    let added = |(token, kind): (&&str, Value<'_>)| match kind {
        Value::I32(CONTROL) => Some(AddedToken::from(*token, true)),
        Value::I32(USER_DEFINED) => Some(AddedToken::from(*token, false).normalized(false)),
        _ => None,
    };
    Ok(tokens.iter().zip(types.iter()).filter_map(added).collect())
}

/// The token that begins every text.
fn bos(gguf: &Gguf, kind: &Kind, tokens: usize) -> Result<Option<u32>, String> {
    let wanted: Option<bool> = gguf
        .meta_opt("tokenizer.ggml.add_bos_token")
        .map_err(|e| e.to_string())?;
    if !wanted.unwrap_or(kind.bos) {
        return Ok(None);
    }
    let key = "tokenizer.ggml.bos_token_id";
    match gguf.meta_opt::<u32>(key).map_err(|e| e.to_string())? {
        Some(id) if (id as usize) < tokens => Ok(Some(id)),
        Some(id) => Err(format!("{key} is {id}, and there are {tokens} tokens")),
        None if wanted.is_none() => Ok(None),
        None => Err(format!("tokenizer.ggml.add_bos_token is true, and {key} is missing")),
    }
}
