"""Small byte-level BPE tokenizers with the vocabulary of the tiny models, as Qwen's and Llama 3's tokenizer.json are made."""

import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = {"qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "llama-bpe": ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]}

CORPUS = """The quick brown fox jumps over the lazy dog, and the dog does not mind. What's it to the fox? It isn't the fox's dog.
A kernel is one function; the same source runs on a GPU and on a simulator, and gives the same bytes.
for i in range(10):
    print("token", i, 2024 + i)
In 2024 and 2025 there were 12 months, 365 days and 31536000 seconds to a year; in the other years too, but for the leap years.
Größe, Straße, naïve café, Ελληνικά, русский язык, 日本語の文章, 中文的句子.
""" * 3

TEXTS = [
    "",
    " ",
    "Hello, world!",
    "the dog's fox isn't THE DOG'S FOX",
    "  leading and trailing spaces  ",
    "tabs\tand\r\nline ends\n\n\n  and more\n",
    "1234567890 and 3.14159 and 2024",
    "Größe naïve café Ελληνικά русский язык",
    "日本語の文章 中文的句子 한국어",
    "emoji 👩‍👩‍👧‍👦 🇨🇭 👍🏽 and\u200bzero width",
    "e\u0301 is é, and \u0000 is a NUL",
    "for (int i = 0; i < 10; ++i) { x[i] += y[i] * 2; }  // loop",
    "<|im_start|>user\nHi<|im_end|>\n<|endoftext|><|begin_of_text|><|eot_id|>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
]


def train(kind, vocab):
    """`kind`: what llama.cpp calls the pre-tokenizer, qwen2 or llama-bpe."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "llama-bpe"))
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN2 if kind == "qwen2" else LLAMA3), behavior="isolated", invert=False)
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_])
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    special = SPECIAL[kind]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - len(special), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS.splitlines(keepends=True), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    if kind == "llama-bpe":
        begin = special[0]
        template = processors.TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), template])
    if tokenizer.get_vocab_size() != vocab:
        raise SystemExit(f"the tokenizer has {tokenizer.get_vocab_size()} tokens")
    return tokenizer


def encodings(tokenizer):
    """What the package says of TEXTS: ids, and the text that they decode to."""
    rows = []
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        rows.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)})
    return rows


def gguf_vocabulary(tokenizer):
    """Tokens, their types (1 normal, 3 control) and merges in llama.cpp's words."""
    state = json.loads(tokenizer.to_str())
    by_id = {i: token for token, i in tokenizer.get_vocab().items()}
    added = {token["id"] for token in state["added_tokens"]}
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in state["model"]["merges"]]
    order = range(len(by_id))
    return [by_id[i] for i in order], [3 if i in added else 1 for i in order], merges
