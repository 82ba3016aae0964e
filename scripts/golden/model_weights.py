"""Random weights for tiny models: values that bf16 holds, sublayers of the residual's size, and routers that no rounding flips.

The scales are such that every part of a model matters to its logits: each sublayer adds about as much as the residual has,
attention is neither uniform nor one-hot, the gated delta net remembers some tens of tokens, norms differ from their neutral weight by tens of
percents. A part that is left out or done wrongly then moves the logits by a share of their size.
"""

import math

import torch

from common import generator, uniform

# How far the embeddings of a token's experts lie above those of the others, where routers read them; and how much of their size the
# weights keep that could disturb that.
LEVELS_APART, QUIET = 2.0, 0.05


def bf16(x):
    """To bf16's nearest value, kept as f32."""
    return x.to(torch.bfloat16).float()


def linear_gain(name, gated):
    """The size of a product's outputs for inputs of size 1, by the product's name."""
    for suffix, gain in (
        ("q_proj.weight", 1.4),  # scores of about 2 where no norm follows
        ("k_proj.weight", 1.4),
        ("gate_proj.weight", 1.5),
        ("up_proj.weight", 1.5),
        ("self_attn.o_proj.weight", 3.0 if gated else 1.5),
        ("out_proj.weight", 1.0),
        ("down_proj.weight", 1.0),
        ("shared_expert_gate.weight", 1.5),
        ("in_proj_a.weight", 0.7),
        ("in_proj_ba.weight", 0.7),
        ("lm_head.weight", 3.0),
    ):
        if name.endswith(suffix):
            return gain
    return 1.0


def norm_weight(name, shape, gen, zero_centred):
    if name.endswith("linear_attn.norm.weight"):
        return uniform(gen, *shape, low=0.6, high=1.4)
    low, high = (1.1, 1.7) if name.endswith(("q_norm.weight", "k_norm.weight")) else (0.7, 1.4)
    w = uniform(gen, *shape, low=low, high=high)
    if zero_centred and high == 1.7:
        # Only a quarter of these heads is turned by its position: it gets the larger share of the scores.
        w[: shape[0] // 4] *= 1.4
        w[shape[0] // 4 :] *= 0.7
    return w - (1.0 if zero_centred else 0.0)


def draw(name, shape, gen, zero_centred):
    """One parameter by its name."""
    if name.endswith("A_log"):
        return torch.log(uniform(gen, *shape, low=0.5, high=8.0))
    if name.endswith("dt_bias"):
        # The inverse softplus of time steps from 0.003 to 0.1, as such layers start their training.
        step = torch.exp(uniform(gen, *shape, low=math.log(0.003), high=math.log(0.1)))
        return torch.log(torch.expm1(step))
    if "norm" in name and len(shape) == 1:
        return norm_weight(name, shape, gen, zero_centred)
    normal = torch.randn(*shape, generator=gen)
    if name.endswith("embed_tokens.weight"):
        return normal
    if name.endswith("conv1d.weight"):
        return normal * 0.6
    if name.endswith("experts.gate_up_proj"):
        return normal * 1.5 / math.sqrt(shape[-1])
    if name.endswith("experts.down_proj"):
        return normal * 1.5 / math.sqrt(shape[-1])
    return normal * linear_gain(name, zero_centred) / math.sqrt(math.prod(shape[1:]))


def routing_rows(vocab, experts, top_k, gen):
    """What the first `experts` dimensions of the embeddings hold: each token prefers `top_k` of them, at random and by a wide margin."""
    rows = uniform(gen, vocab, experts, low=-1.5, high=0.5)
    for row in rows:
        chosen = torch.randperm(experts, generator=gen)[:top_k]
        row[chosen] = uniform(gen, top_k, low=0.5 + LEVELS_APART, high=3.0)
    return rows


def steady_routers(weights, experts, top_k, gen, zero_centred):
    """Makes each router read the dimensions of `routing_rows`, permuted by layer.

    Which experts a token takes is a step function of the logits: where the k-th and the k+1-th are closer than the roundings
    before them, a right implementation takes another expert than the reference and its row is off by the size of an expert, which no bound on
    roundings covers. So the tiny models keep those dimensions of the residual nearly their embeddings' (what is written to
    them is a twentieth), and the routers read them, so that the gap stays far above any rounding, at every layer and token.
    """
    embedding = next(w for name, w in weights.items() if name.endswith("embed_tokens.weight"))
    embedding[:, :experts] = routing_rows(embedding.shape[0], experts, top_k, gen)
    for name, w in weights.items():
        if name.endswith(("o_proj.weight", "out_proj.weight", "down_proj.weight")) and w.shape[0] == embedding.shape[1]:
            w[:experts] *= QUIET
        if name.endswith("experts.down_proj"):
            w[:, :experts] *= QUIET
        if name.endswith("mtp.fc.weight"):
            # [normed embedding | normed hidden state]: these rows pass the embedding on.
            neutral = weights["mtp.pre_fc_norm_embedding.weight"][:experts] + (1.0 if zero_centred else 0.0)
            w[:experts] *= QUIET
            w[:experts, :experts] += torch.diag(1 / neutral)
    for name, w in weights.items():
        if name.endswith("mlp.gate.weight"):
            norm = weights[name.replace("mlp.gate.weight", "post_attention_layernorm.weight")]
            neutral = norm[:experts] + (1.0 if zero_centred else 0.0)
            w *= QUIET
            order = torch.randperm(experts, generator=gen)
            w[torch.arange(experts), order] += 1.3 / neutral[order]


def fill(module, seed, zero_centred, experts=0, top_k=0, extra=None):
    """Draws all parameters of `module` (and of `extra`, a dictionary of further modules by prefix), rounded to bf16."""
    gen = generator(seed)
    parameters = dict(module.named_parameters())
    for prefix, other in (extra or {}).items():
        parameters |= {f"{prefix}.{name}": parameter for name, parameter in other.named_parameters()}
    weights = {name: draw(name, tuple(p.shape), gen, zero_centred) for name, p in parameters.items()}
    if experts:
        steady_routers(weights, experts, top_k, gen, zero_centred)
    for name, parameter in parameters.items():
        parameter.data = bf16(weights[name])
