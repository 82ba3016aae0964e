#!/usr/bin/env python3
"""Gated delta net: transformers' Qwen3NextGatedDeltaNet and its two rules, and FLA's naive code, which must agree with them.

    scripts/golden/README.md says how to install; then: python scripts/golden/gdn.py

Writes gdn_*.safetensors. Inputs bf16 (g, beta f32), outputs computed in float64 and stored as f32. States are [v_heads][V][K],
the transpose of transformers' own. The columns of V do not depend on each other, so large outputs keep every eighth: o8, state8.
"""

import importlib.util
import inspect
import sys
import types
from pathlib import Path

import torch
from transformers import Qwen3NextConfig
from transformers.models.qwen3_next import modeling_qwen3_next as next_

from common import generator, in_float64, normal, uniform, write

D = 128
PACKAGES = ["transformers", "fla-core"]


def fla_naive():
    """FLA's naive file by its path: the package itself wants a GPU's compiler at import."""
    spec = importlib.util.find_spec("fla")
    if spec is None:
        print("fla-core is not installed: its naive rules are not compared", file=sys.stderr)
        return None
    path = Path(spec.submodule_search_locations[0]) / "ops" / "gated_delta_rule" / "naive.py"
    module = types.ModuleType("fla_naive")
    exec(compile(path.read_text(), path, "exec"), module.__dict__)
    in_float64(module)
    return module


def agree(what, a, b, tolerance):
    error = ((a - b).abs().max() / b.abs().max()).item()
    print(f"  {what}: {error:.1e} of the largest")
    if not error < tolerance:
        raise SystemExit(f"{what} differ by {error}")


def unit(x):
    """L2-normalised heads, as they come out of the convolution."""
    return next_.l2norm(x.float()).to(torch.bfloat16)


def draw(gen, n_tok, k_heads, v_heads):
    q, k = (unit(normal(gen, n_tok, k_heads, D)) for _ in range(2))
    v = normal(gen, n_tok, v_heads, D)
    # Gates from nearly none (-0.001) to nearly all forgotten (-8), most of them mild.
    g = -torch.exp(uniform(gen, n_tok, v_heads, low=-7, high=2.1))
    return q, k, v, g, uniform(gen, n_tok, v_heads)


def rules(q, k, v, g, beta, state, naive):
    """Both of transformers' rules, and both of FLA's, on one sequence; [n_tok][heads][..] in, the same and [v_heads][K][V] out."""
    args = [x.double()[None] for x in (q, k, v, g, beta)]
    start = None if state is None else state.double().transpose(1, 2)[None]
    run = dict(initial_state=start, output_final_state=True)
    o, final = next_.torch_recurrent_gated_delta_rule(*args, **run)
    o_chunk, final_chunk = next_.torch_chunk_gated_delta_rule(*args, **run)
    agree("chunked and recurrent", o_chunk, o, 1e-12)
    agree("their states", final_chunk, final, 1e-12)
    if naive is not None:
        group = v.shape[1] // k.shape[1]
        args[:2] = [x.repeat_interleave(group, dim=2) for x in args[:2]]
        # FLA's chunked naive writes .float() once: float32 there.
        o_naive, final_naive = naive.naive_chunk_gated_delta_rule(*args, **run)
        agree("FLA's chunked", o_naive, o, 1e-5)
        args[3], args[4] = args[4], args[3]
        o_naive, final_naive = naive.naive_recurrent_gated_delta_rule(*args, **run)
        agree("FLA's recurrent", o_naive, o, 1e-12)
        agree("its state", final_naive, final, 1e-12)
    return o[0], final[0].transpose(1, 2)


def sequence(name, seed, n_tok, k_heads, v_heads, carried, naive, whole):
    print(name)
    gen = generator(seed)
    q, k, v, g, beta = draw(gen, n_tok, k_heads, v_heads)
    state = normal(gen, v_heads, D, D, scale=0.3) if carried else None
    o, final = rules(q, k, v, g, beta, state, naive)
    tensors = {"q": q, "k": k, "v": v, "g": g, "beta": beta, "state8": final[:, ::8].float()}
    tensors |= {"o": o.float()} if whole else {"o8": o[..., ::8].float()}
    if carried:
        tensors["state"] = state
    write(name, "gdn.py", PACKAGES, tensors, scale=D**-0.5, every=8)


def layer(name, seed, n_tok=9, cached=5):
    """transformers' layer up to its rule: packed projections, convolution, gates, L2 norms, seen at the doors of its functions."""
    gen = generator(seed)
    k_heads, v_heads = 1, 2
    config = Qwen3NextConfig(
        hidden_size=64,
        linear_num_key_heads=k_heads,
        linear_num_value_heads=v_heads,
        linear_key_head_dim=D,
        linear_value_head_dim=D,
        num_hidden_layers=4,
    )
    net = next_.Qwen3NextGatedDeltaNet(config, layer_idx=0).double()
    for parameter in net.parameters():
        parameter.data = (torch.randn(parameter.shape, generator=gen) / 3).to(torch.bfloat16).double()
    seen = {}
    for projection in (net.in_proj_qkvz, net.in_proj_ba):
        projection.register_forward_hook(lambda _m, _i, output: output.to(torch.bfloat16).double())
    net.in_proj_ba.register_forward_hook(lambda _m, _i, output: seen.update(ba=output))
    originals = next_.causal_conv1d_fn, next_.torch_chunk_gated_delta_rule

    def conv(x, weight, bias=None, activation=None, **_):
        y = originals[0](x, weight, bias, activation=activation)
        seen.update(x=x[0].T, weight=weight, conv=y[0].T)
        # The same by the function of single tokens: what it leaves is the rolling state.
        state = torch.zeros(1, x.shape[1], 3, dtype=x.dtype)
        steps = [next_.causal_conv1d_update(x[:, :, t : t + 1], state, weight, bias, activation) for t in range(x.shape[2])]
        agree("convolution by single tokens", torch.cat(steps, dim=2), y, 1e-12)
        seen.update(conv_state=state[0])
        return y

    def rule(q, k, v, g, beta, **_):
        seen.update(q=next_.l2norm(q)[0], k=next_.l2norm(k)[0], v=v[0], g=g[0], beta=beta[0])
        return originals[1](q, k, v, g, beta)

    next_.causal_conv1d_fn, next_.torch_chunk_gated_delta_rule = conv, rule
    with torch.no_grad():
        net(normal(gen, 1, n_tok, 64).double())
    next_.causal_conv1d_fn, next_.torch_chunk_gated_delta_rule = originals
    ba = seen["ba"][0].view(n_tok, k_heads, 2, v_heads // k_heads)
    tensors = {name: seen[name].to(torch.bfloat16) for name in ("x", "weight", "conv_state")}
    tensors |= {"b": ba[:, :, 0].reshape(n_tok, -1).to(torch.bfloat16), "a": ba[:, :, 1].reshape(n_tok, -1).to(torch.bfloat16)}
    tensors |= {"a_log": net.A_log.float(), "dt_bias": net.dt_bias.float()}
    tensors |= {name: seen[name].float() for name in ("conv", "q", "k", "v", "g", "beta")}
    write(name, "gdn.py", PACKAGES, tensors)


def main():
    in_float64(next_)
    # transformers' own code, not the GPU kernels it takes in its place where FLA is installed.
    for name in ("causal_conv1d_fn", "causal_conv1d_update", "torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"):
        setattr(next_, name, inspect.unwrap(getattr(next_, name)))
    naive = fla_naive()
    sequence("gdn_steps", 21, 12, 2, 4, True, naive, whole=True)
    sequence("gdn_heads", 22, 70, 2, 4, False, naive, whole=False)
    sequence("gdn_chunks", 23, 130, 1, 2, True, naive, whole=False)
    layer("gdn_layer", 24)


if __name__ == "__main__":
    main()
