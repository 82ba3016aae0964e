#!/usr/bin/env python3
"""Mixture of experts: transformers' sparse blocks of Qwen3-MoE and of Qwen3-Next (with its gated shared expert).

    scripts/golden/README.md says how to install; then: python scripts/golden/moe.py

Writes moe_*.safetensors. x bf16 [n_tok][hidden]; router bf16 [E][hidden], gate_up bf16 [E][2 inter][hidden] (gate's rows first), down
bf16 [E][hidden][inter], shared_* alike, shared_gate bf16 [1][hidden]; computed in float64: logits and weights f32, ids i32 (in the
router's order), y f32 [n_tok][hidden].
"""

import torch
from transformers import Qwen3MoeConfig, Qwen3NextConfig
from transformers.models.qwen3_moe import modeling_qwen3_moe as moe
from transformers.models.qwen3_next import modeling_qwen3_next as next_

from common import generator, in_float64, normal, write

HIDDEN, INTER, EXPERTS, TOP_K, N_TOK = 48, 24, 12, 4, 10


def block(name, seed, module, kind, config_class, **options):
    gen = generator(seed)
    config = config_class(
        hidden_size=HIDDEN,
        moe_intermediate_size=INTER,
        num_experts=EXPERTS,
        num_experts_per_tok=TOP_K,
        num_hidden_layers=4,
        experts_implementation="eager",
        **options,
    )
    net = getattr(module, kind)(config).double()
    for parameter in net.parameters():
        parameter.data = normal(gen, *parameter.shape, scale=parameter.shape[-1] ** -0.5 * 1.5).double()
    # Tokens 3 and 4 are one token twice; token 5 is small, so that its experts are nearly equal.
    x = normal(gen, N_TOK, HIDDEN)
    x[4], x[5] = x[3], (x[5].float() / 16).to(torch.bfloat16)
    seen = {}
    net.gate.register_forward_hook(lambda _m, _i, output: seen.update(zip(("logits", "weights", "ids"), output)))
    with torch.no_grad():
        y = net(x.double()[None])[0]
    ranked = seen["logits"].sort(descending=True).values
    gap = (ranked[:, :TOP_K] - ranked[:, 1 : TOP_K + 1]).min().item()
    print(f"{name}: the closest logits that matter are {gap:.1e} apart")
    if gap < 1e-4:
        raise SystemExit("too close: rounding could exchange two experts; take another seed")
    tensors = {
        "x": x,
        "router": net.gate.weight,
        "gate_up": net.experts.gate_up_proj,
        "down": net.experts.down_proj,
    }
    if hasattr(net, "shared_expert"):
        shared = net.shared_expert
        tensors["shared_gate_up"] = torch.cat([shared.gate_proj.weight, shared.up_proj.weight])
        tensors["shared_down"] = shared.down_proj.weight
        tensors["shared_gate"] = net.shared_expert_gate.weight
    tensors = {key: value.to(torch.bfloat16) for key, value in tensors.items()}
    tensors |= {"logits": seen["logits"].float(), "weights": seen["weights"].float(), "ids": seen["ids"].int(), "y": y.float()}
    write(name, "moe.py", ["transformers"], tensors, top_k=TOP_K, normalise=int(config.norm_topk_prob))


def main():
    in_float64(moe)
    in_float64(next_)
    block("moe_qwen3", 41, moe, "Qwen3MoeSparseMoeBlock", Qwen3MoeConfig, norm_topk_prob=True)
    block("moe_qwen3_plain", 42, moe, "Qwen3MoeSparseMoeBlock", Qwen3MoeConfig, norm_topk_prob=False)
    block(
        "moe_qwen3_next", 43, next_, "Qwen3NextSparseMoeBlock", Qwen3NextConfig, shared_expert_intermediate_size=INTER, norm_topk_prob=True
    )


if __name__ == "__main__":
    main()
