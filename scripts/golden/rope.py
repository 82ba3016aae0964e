#!/usr/bin/env python3
"""Rotary embeddings as Hugging Face transformers computes them: whole head, partial, interleaved, and three scaling rules.

    scripts/golden/README.md says how to install; then: python scripts/golden/rope.py

Writes rope.safetensors. Per case: x bf16 [n_tok][heads][head_dim], positions i32 [n_tok], inv_freq f32 [rot / 2] as the
model's own class makes it, scaling f32 [1] (the factor on cos and sin; 1 but for YaRN), y f32 = the rotated x, from cos and sin
in float32 (the models' own precision) and products in float64. The metadata has each case's parameters.
"""

import torch
from transformers import CohereConfig, LlamaConfig, Qwen3Config, Qwen3NextConfig
from transformers.models.cohere import modeling_cohere as cohere
from transformers.models.llama import modeling_llama as llama
from transformers.models.qwen3 import modeling_qwen3 as qwen3
from transformers.models.qwen3_next import modeling_qwen3_next as next_

from common import generator, normal, write

POSITIONS = [0, 1, 7, 100, 4095, 131071]
HEADS = 2

CASES = {
    "default": (qwen3, "Qwen3", Qwen3Config, dict(head_dim=128, rope_theta=1e6)),
    "partial": (next_, "Qwen3Next", Qwen3NextConfig, dict(head_dim=256, rope_theta=1e7, partial_rotary_factor=0.25)),
    "interleaved": (cohere, "Cohere", CohereConfig, dict(head_dim=64, rope_theta=1e4)),
    "llama3": (
        llama,
        "Llama",
        LlamaConfig,
        dict(
            head_dim=128,
            rope_type="llama3",
            rope_theta=5e5,
            factor=32.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=8192,
        ),
    ),
    "linear": (llama, "Llama", LlamaConfig, dict(head_dim=64, rope_type="linear", rope_theta=1e4, factor=4.0)),
    "yarn": (
        qwen3,
        "Qwen3",
        Qwen3Config,
        dict(head_dim=128, rope_type="yarn", rope_theta=1e6, factor=4.0, original_max_position_embeddings=32768),
    ),
}


def main():
    tensors, facts = {}, {}
    for seed, (case, (module, family, config_class, given)) in enumerate(CASES.items()):
        rope = {"rope_type": "default"} | {key: value for key, value in given.items() if key != "head_dim"}
        d = given["head_dim"]
        config = config_class(
            head_dim=d,
            hidden_size=HEADS * d,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            max_position_embeddings=262144,
            rope_parameters=dict(rope),
        )
        rotary = getattr(module, f"{family}RotaryEmbedding")(config)
        x = normal(generator(seed), len(POSITIONS), HEADS, d)
        cos, sin = rotary(x.double(), torch.tensor([POSITIONS]))
        heads_first = x.double().transpose(0, 1)[None]
        y, _ = module.apply_rotary_pos_emb(heads_first, heads_first, cos, sin)
        tensors[f"{case}.x"] = x
        tensors[f"{case}.positions"] = torch.tensor(POSITIONS, dtype=torch.int32)
        tensors[f"{case}.inv_freq"] = rotary.inv_freq.float()
        tensors[f"{case}.scaling"] = torch.tensor([rotary.attention_scaling], dtype=torch.float32)
        tensors[f"{case}.y"] = y[0].transpose(0, 1).float()
        facts[case] = f"{family} {given}"
    write("rope", "rope.py", ["transformers"], tensors, **facts)


if __name__ == "__main__":
    main()
