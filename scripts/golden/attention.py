#!/usr/bin/env python3
"""Softmax attention by torch's scaled_dot_product_attention, and with an output gate by transformers' Qwen3NextAttention.

    scripts/golden/README.md says how to install; then: python scripts/golden/attention.py

Writes attention_*.safetensors. A file holds a batch of sequences, the last of whose tokens are new: q bf16 [n_tok][q_heads][d],
k and v bf16 [all positions][kv_heads][d] (sequence after sequence), new and total i32 [n_seq], o f32 [n_tok][q_heads][d]
(computed in float64), gate like q where there is one. Metadata: window (0: none) and scale.
"""

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import Qwen3NextConfig
from transformers.masking_utils import causal_mask_function, sliding_window_causal_mask_function
from transformers.models.qwen3_next import modeling_qwen3_next as next_
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from common import generator, normal, write


def mask(new, total, window):
    """[new][total] by transformers' own mask functions; the queries are the last `new` positions."""
    rule = sliding_window_causal_mask_function(window) if window else causal_mask_function
    q, k = torch.arange(total - new, total)[:, None], torch.arange(total)[None, :]
    return rule(0, 0, q, k).expand(new, total)


def attend(q, k, v, window, scale):
    """One sequence: q [new][q_heads][d], k and v [total][kv_heads][d], float64."""
    heads_first = [x.transpose(0, 1)[None] for x in (q, k, v)]
    allowed = mask(q.shape[0], k.shape[0], window)
    o = scaled_dot_product_attention(*heads_first, attn_mask=allowed, scale=scale, enable_gqa=True)
    return o[0].transpose(0, 1)


def batch(name, seed, d, q_heads, kv_heads, sequences, window=0, sharpness=1.0):
    """`sequences`: (past, new) each."""
    gen = generator(seed)
    new, total = [n for _, n in sequences], [p + n for p, n in sequences]
    # Scores of a standard deviation of `sharpness`, so that some rows are nearly uniform and some nearly one-hot.
    q = normal(gen, sum(new), q_heads, d, scale=sharpness)
    k, v = normal(gen, sum(total), kv_heads, d), normal(gen, sum(total), kv_heads, d)
    scale = d**-0.5
    o, first_q, first_k = [], 0, 0
    for n, t in zip(new, total):
        if n:
            part = attend(q[first_q : first_q + n].double(), *(x[first_k : first_k + t].double() for x in (k, v)), window, scale)
            o.append(part)
        first_q, first_k = first_q + n, first_k + t
    tensors = {"q": q, "k": k, "v": v, "o": torch.cat(o).float()}
    tensors |= {"new": torch.tensor(new, dtype=torch.int32), "total": torch.tensor(total, dtype=torch.int32)}
    write(name, "attention.py", ["transformers"], tensors, window=window, scale=scale)


def gated(name, seed, past, new, q_heads, kv_heads, d):
    """transformers' module, from its projections on: q and the gate come out of one projection, q and k are normed and
    rotated; what enters the attention is taken at its door (rounded to bf16 there) and the output before o_proj."""
    gen = generator(seed)
    hidden, total = 96, past + new
    config = Qwen3NextConfig(
        hidden_size=hidden,
        num_attention_heads=q_heads,
        num_key_value_heads=kv_heads,
        head_dim=d,
        num_hidden_layers=4,
        attn_implementation="golden",
    )
    seen = {}

    def door(module, query, key, value, attention_mask, scaling, **_):
        q, k, v = (x.to(torch.bfloat16) for x in (query, key, value))
        q = q[:, :, past:]
        seen.update(q=q[0].transpose(0, 1), k=k[0].transpose(0, 1), v=v[0].transpose(0, 1), scale=scaling)
        allowed = mask(total, total, 0)
        k, v = (next_.repeat_kv(x.double(), module.num_key_value_groups) for x in (k, v))
        o = scaled_dot_product_attention(query.to(torch.bfloat16).double(), k, v, attn_mask=allowed, scale=scaling)
        return o.transpose(1, 2).contiguous(), None

    ALL_ATTENTION_FUNCTIONS.register("golden", door)
    attention = next_.Qwen3NextAttention(config, layer_idx=3).double()
    for parameter in attention.parameters():
        parameter.data = torch.randn(parameter.shape, generator=gen, dtype=torch.float64) / 4
    attention.q_proj.register_forward_hook(lambda _m, _i, output: output.to(torch.bfloat16).double())
    attention.q_proj.register_forward_hook(lambda _m, _i, output: seen.update(q_proj=output))
    attention.o_proj.register_forward_pre_hook(lambda _m, inputs: seen.update(o=inputs[0]))
    rotary = next_.Qwen3NextRotaryEmbedding(config)
    x = normal(gen, 1, total, hidden).double()
    with torch.no_grad():
        attention(x, rotary(x, torch.arange(total)[None]), None)
    # q_proj's rows are head after head, each d of q and then d of its gate.
    gate = seen["q_proj"][0, past:].view(new, q_heads, 2, d)[:, :, 1]
    tensors = {name: seen[name] for name in "qkv"}
    tensors["gate"] = gate.to(torch.bfloat16)
    tensors["o"] = seen["o"][0, past:].view(new, q_heads, d).float()
    tensors |= {"new": torch.tensor([new], dtype=torch.int32), "total": torch.tensor([total], dtype=torch.int32)}
    write(name, "attention.py", ["transformers"], tensors, window=0, scale=seen["scale"])


def main():
    batch("attention_d64", 11, 64, 4, 2, [(0, 20), (120, 12), (0, 0), (63, 1)])
    batch("attention_d128_window", 12, 128, 4, 2, [(0, 5), (140, 6)], window=50, sharpness=2.0)
    # One kv head, three query heads, across the split at 256; two new tokens, as a draft is verified.
    batch("attention_d128_long", 13, 128, 3, 1, [(298, 2)], sharpness=3.0)
    gated("attention_d256_gated", 14, past=57, new=9, q_heads=4, kv_heads=2, d=256)


if __name__ == "__main__":
    main()
