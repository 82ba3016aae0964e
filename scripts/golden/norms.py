#!/usr/bin/env python3
"""RMS norms as Hugging Face transformers computes them: Qwen3's, Qwen3-Next's with zero-centred weights and its gated one.

    scripts/golden/README.md says how to install; then: python scripts/golden/norms.py

Writes norms.safetensors. Per case: x (and r, z) bf16, w, y = the module's output in float64, stored as f32. With a
residual, h is the bf16 sum as torch makes it.
"""

import torch
from transformers.models.qwen3 import modeling_qwen3 as qwen3
from transformers.models.qwen3_next import modeling_qwen3_next as next_

from common import generator, in_float64, normal, write

EPS = 1e-6


def rows(gen, n_tok, n):
    """Rows of several sizes, from one where eps decides to one where it does not matter."""
    scales = torch.tensor([1.0, 1e-3, 30.0, 0.02, 2.5])[torch.arange(n_tok) % 5]
    return (normal(gen, n_tok, n).float() * scales[:, None]).to(torch.bfloat16)


def norm(kind, n, w):
    module = kind(n, eps=EPS).double()
    module.weight.data = w.double()
    return module


def main():
    in_float64(qwen3)
    in_float64(next_)
    tensors = {}

    def keep(case, **found):
        tensors.update({f"{case}.{name}": value for name, value in found.items()})

    gen = generator(1)
    # 2500: more than one vector for each of the 256 slots of a row sum, and a short last vector.
    x, w = rows(gen, 3, 2500), (1 + normal(gen, 2500, scale=0.3).float()).to(torch.bfloat16)
    keep("plain", x=x, w=w, y=norm(qwen3.Qwen3RMSNorm, 2500, w)(x.double()).float())
    x, w = rows(gen, 10, 128), (1 + normal(gen, 128, scale=0.3).float()).to(torch.bfloat16)
    keep("head", x=x, w=w, y=norm(qwen3.Qwen3RMSNorm, 128, w)(x.double()).float())
    x, w = rows(gen, 5, 300), normal(gen, 300, scale=0.3)
    # Qwen3NextRMSNorm writes x.float(): its own arithmetic is float32 here.
    keep("zero_centred", x=x, w=w, y=norm(next_.Qwen3NextRMSNorm, 300, w)(x.double()).float())
    x, r, w = rows(gen, 5, 264), rows(gen, 5, 264), normal(gen, 264, scale=0.3)
    h = x + r
    keep("residual", x=x, r=r, w=w, h=h, y=norm(next_.Qwen3NextRMSNorm, 264, w)(h.double()).float())
    x, z, w = rows(gen, 10, 128), normal(gen, 10, 128, scale=3), (1 + normal(gen, 128, scale=0.3).float()).to(torch.bfloat16)
    keep("gated", x=x, z=z, w=w, y=norm(next_.Qwen3NextRMSNormGated, 128, w)(x.double(), z.double()).float())
    write("norms", "norms.py", ["transformers"], tensors, eps=EPS)


if __name__ == "__main__":
    main()
