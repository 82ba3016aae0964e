#!/usr/bin/env python3
"""The tiny models of models.py in NVFP4 (ModelOpt, compressed-tensors) and as GGUF files in Q8_0, with transformers' logits of the float32 model
on the dequantised weights; and their tokenizers with what the `tokenizers` package makes of some texts.

    python scripts/golden/models.py first; then: python scripts/golden/quantised_models.py

Writes host/tests/data/models/{NAME-modelopt, NAME-compressed-tensors, NAME-q8_0.gguf}, tokenizer.json beside two models, and in
host/tests/data/golden the model_* files (as models.py's) and encodings.json.
"""

import json
import shutil
import sys

import torch
import transformers
from safetensors.torch import load_file

import common
import model_gguf
import model_nvfp4
import model_tokenizer
import models
from models import MODELS, VOCAB

QKV, GATE_UP = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")


def with_weights(model, meant):
    """The model with other weights, by the names that `models.plain_weights` gives."""
    for name, parameter in model.named_parameters():
        plain = name.removeprefix("model.")
        if plain in meant:
            models.model_check.expect(parameter.shape == meant[plain].shape, f"{name}: {parameter.shape}, {meant[plain].shape}")
            parameter.data = meant.pop(plain).float().contiguous()
    models.model_check.expect(not meant, f"no parameters are called {list(meant)}")
    return model


def fused(meant):
    """Experts of a checkpoint put together as transformers holds them."""
    rest = {name: w for name, w in meant.items() if ".experts." not in name}
    for name, w in models.fuse_experts({name: w for name, w in meant.items() if ".experts." in name}).items():
        rest[name] = w
    return {name.removeprefix("model."): w for name, w in rest.items()}


def nvfp4(base, kind, suffix, convention, groups, seed):
    source, folder = MODELS / base, MODELS / f"{base}-{suffix}"
    tensors = load_file(source / "model.safetensors")
    layers = sorted({int(name.split(".")[2]) for name in tensors if name.startswith("model.layers.")})
    ignored = ["lm_head"] + [f"model.layers.{i}.mlp.gate" for i in layers if f"model.layers.{i}.mlp.gate.weight" in tensors]
    written, meant = model_nvfp4.quantise(tensors, convention, groups, ignored)
    config = json.loads((source / "config.json").read_text())
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if suffix == "modelopt":
        config["quantization_config"], beside = model_nvfp4.modelopt_configs(ignored)
        models.write_json(folder / "hf_quant_config.json", beside)
        for i in layers:
            written |= {f"model.layers.{i}.self_attn.{part}_proj.{part}_scale": torch.tensor(0.5) for part in "kv"}
    else:
        config["quantization_config"] = model_nvfp4.compressed_tensors_config(ignored)
    models.write_json(folder / "config.json", config)
    models.write_tensors(folder, dict(sorted(written.items())))
    model, _ = models.load(source, kind)
    print(folder.name, sum(file.stat().st_size for file in folder.iterdir()), "bytes")
    models.golden(folder.name, with_weights(model, fused(meant)), None, seed)


def q8_0(base, kind, arch, tokenizer_kind, tokenizer, floats, seed):
    path = MODELS / f"{base}-q8_0.gguf"
    model, _ = models.load(MODELS / base, kind)
    weights = models.plain_weights(model, None)
    if model.config.tie_word_embeddings:
        del weights["lm_head.weight"]
    meant = model_gguf.write(path, arch, model.config, weights, tokenizer_kind, tokenizer, floats)
    print(path.name, path.stat().st_size, "bytes")
    if "lm_head.weight" in meant:
        model.lm_head.weight.data = meant.pop("lm_head.weight")
    model = with_weights(model, meant)
    rounded = {
        name: models.model_weights.bf16(w) if "experts" in name or name == "embed_tokens.weight" else w
        for name, w in models.plain_weights(model, None).items()
    }
    models.golden(f"{base}-q8_0", model, None, seed, q8=True, dequantised=rounded)


def main():
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    llama, qwen3, moe = transformers.LlamaForCausalLM, transformers.Qwen3ForCausalLM, transformers.Qwen3MoeForCausalLM
    tokenizers = {kind: model_tokenizer.train(kind, VOCAB) for kind in ("qwen2", "llama-bpe")}
    for kind, name in (("qwen2", "tiny-qwen3"), ("llama-bpe", "tiny-llama")):
        (MODELS / name / "tokenizer.json").write_text(tokenizers[kind].to_str(pretty=True) + "\n")
    encodings = {name: model_tokenizer.encodings(tokenizers[kind]) for name, kind in (("tiny-qwen3", "qwen2"), ("tiny-llama", "llama-bpe"))}
    (common.OUT / "encodings.json").write_text(json.dumps(encodings, indent=1) + "\n")
    # Published ModelOpt checkpoints share a tensor scale among the parts that runtimes fuse. compressed-tensors' do for gate and up;
    # q, k and v are left apart here, so that both ways of loading are needed.
    nvfp4("tiny-qwen3-coder", moe, "modelopt", model_nvfp4.modelopt, (QKV, GATE_UP), 203)
    nvfp4("tiny-qwen3", qwen3, "compressed-tensors", model_nvfp4.compressed_tensors, (GATE_UP,), 202)
    q8_0("tiny-llama", llama, "llama", "llama-bpe", tokenizers["llama-bpe"], ("output.weight",), 301)
    q8_0("tiny-qwen3", qwen3, "qwen3", "qwen2", tokenizers["qwen2"], ("blk.0.attn_v.weight", "blk.1.ffn_up.weight"), 302)
    q8_0("tiny-qwen3-coder", moe, "qwen3moe", "qwen2", tokenizers["qwen2"], (), 303)


if __name__ == "__main__":
    main()
