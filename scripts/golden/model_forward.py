"""The forward of every family written out plainly, with the rounding points of docs/numerics.md, to see how far they move logits.

With `store` the identity it must give transformers' logits (models.py asserts it: two codes for one model); with `store` bf16 it
shows the distance that a right implementation has; with a `fault` the distance that a wrong one has. Everything is computed in
float64 between the rounding points.
"""

import math

import torch
from torch.nn.functional import silu, softplus

CHUNK = 64


def to_bf16(x):
    return x.to(torch.bfloat16).double()


def exact(x):
    return x


def q8_activations(x):
    """Activations after the contract's q8_quantize: blocks of 32, f32 scales."""
    blocks = x.reshape(*x.shape[:-1], -1, 32)
    scale = (blocks.abs().amax(-1, keepdim=True).float() / 127).double()
    steps = torch.round(blocks / torch.where(scale == 0, 1.0, scale))
    return (steps.clamp(-127, 127) * scale).reshape(x.shape)


class Forward:
    """One model: `facts` (see models.py), `weights` by their Hugging Face names without the prefix `model.`."""

    def __init__(self, facts, weights, store=to_bf16, q8=False, gdn_chunks=True, fault=None):
        self.f, self.store, self.q8, self.gdn_chunks, self.fault = facts, store, q8, gdn_chunks, fault
        self.w = {name: w.double() for name, w in weights.items()}
        self.router_logits = []

    # Products, norms, rotations.

    def product(self, x, w):
        """f32 in the contract: only what is stored is rounded."""
        return (q8_activations(x) if self.q8 else x) @ w.T

    def linear(self, x, name):
        return self.store(self.product(x, self.w[f"{name}.weight"]))

    def norm(self, x, name, centred=None):
        centred = self.f["zero_centred"] if centred is None else centred
        w = self.w[f"{name}.weight"] + (1 if centred and self.fault != "no 1 + w in " + name.split(".")[-1] else 0)
        return self.store(x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.f["eps"]) * w)

    def rope(self, x, positions):
        """x [n][heads][d]."""
        rot, inv_freq = self.f["rot"], self.f["unscaled" if self.fault == "no scaling of frequencies" else "inv_freq"]
        angle = (positions[:, None].float() * inv_freq.float()).double()[:, None]
        c, s = angle.cos(), angle.sin()
        if self.fault == "rope of neighbours":
            x1, x2 = x[..., 0:rot:2], x[..., 1:rot:2]
            turned = torch.stack([x1 * c - x2 * s, x2 * c + x1 * s], -1).flatten(-2)
        else:
            x1, x2 = x[..., : rot // 2], x[..., rot // 2 : rot]
            turned = torch.cat([x1 * c - x2 * s, x2 * c + x1 * s], -1)
        return self.store(torch.cat([turned, x[..., rot:]], -1))

    # Token mixers.

    def attention(self, x, at, positions):
        f, n, d = self.f, x.shape[0], self.f["head_dim"]
        heads, kv_heads = f["q_heads"], f["kv_heads"]
        q = self.linear(x, f"{at}.q_proj").view(n, heads, -1)
        if f["gated"]:
            q, gate = q[..., :d], q[..., d:]
        k, v = (self.linear(x, f"{at}.{p}_proj").view(n, kv_heads, d) for p in "kv")
        if f["qk_norm"] and self.fault != "no QK norm":
            q, k = self.norm(q, f"{at}.q_norm"), self.norm(k, f"{at}.k_norm")
        shift = 1 if self.fault == "q one position late" else 0
        q, k = self.rope(q, positions + shift), self.rope(k, positions)
        head = torch.arange(heads)
        head = head % kv_heads if self.fault == "kv head by remainder" else head // (heads // kv_heads)
        scores = torch.einsum("nhd,mhd->hnm", q, k[:, head]) * d**-0.5
        scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf)
        p = torch.exp2((scores - scores.amax(-1, keepdim=True)) * math.log2(math.e))
        y = torch.einsum("hnm,mhd->nhd", self.store(p), v[:, head]) / p.sum(-1).T[..., None]
        y = self.store(y)
        if f["gated"] and self.fault != "no output gate":
            y = self.store(y * torch.sigmoid(gate))
        return self.linear(y.flatten(1), f"{at}.o_proj")

    def gdn_inputs(self, x, at):
        f, n = self.f, x.shape[0]
        kh, vh = f["gdn_k_heads"], f["gdn_v_heads"]
        if f["gdn_packed"]:
            group = vh // kh
            qkvz = self.linear(x, f"{at}.in_proj_qkvz").view(n, kh, -1)
            q, k, v, z = qkvz.split([128, 128, 128 * group, 128 * group], -1)
            b, a = self.linear(x, f"{at}.in_proj_ba").view(n, kh, -1).split([group, group], -1)
            qkv = torch.cat([part.flatten(1) for part in (q, k, v)], 1)
            return qkv, z.reshape(n, vh, 128), b.flatten(1), a.flatten(1)
        qkv, z, b, a = (self.linear(x, f"{at}.in_proj_{part}") for part in ("qkv", "z", "b", "a"))
        return qkv, z.view(n, vh, 128), b, a

    def gdn(self, x, at):
        f, n = self.f, x.shape[0]
        kh, vh = f["gdn_k_heads"], f["gdn_v_heads"]
        qkv, z, b, a = self.gdn_inputs(x, at)
        w = self.w[f"{at}.conv1d.weight"].squeeze(1)
        padded = torch.cat([torch.zeros(3, qkv.shape[1]).double(), qkv])
        order = (3, 2, 1, 0) if self.fault == "convolution backwards" else (0, 1, 2, 3)
        qkv = self.store(silu(sum(padded[i : i + n] * w[:, tap] for i, tap in enumerate(order))))
        q, k, v = qkv.split([128 * kh, 128 * kh, 128 * vh], -1)
        q, k = (t.reshape(n, kh, 128) for t in (q, k))
        if self.fault != "no L2 norm of q and k":
            q, k = (self.store(t * torch.rsqrt(t.square().sum(-1, keepdim=True) + 1e-6)) for t in (q, k))
        head = torch.arange(vh)
        head = head % kh if self.fault == "GDN key head by remainder" else head // (vh // kh)
        q, k, v = q[:, head], k[:, head], v.reshape(n, vh, 128)
        g = -torch.exp(self.w[f"{at}.A_log"]) * softplus(a + (0 if self.fault == "no dt_bias" else self.w[f"{at}.dt_bias"]))
        beta = torch.sigmoid(b)
        o = (self.gdn_prefill if self.gdn_chunks else self.gdn_decode)(q, k, v, g, beta)
        o = o * torch.rsqrt(o.square().mean(-1, keepdim=True) + f["eps"]) * self.w[f"{at}.norm.weight"]
        o = self.store(o if self.fault == "no z" else o * silu(z))
        return self.linear(o.flatten(1), f"{at}.out_proj")

    def gdn_decode(self, q, k, v, g, beta):
        """The recurrence, token by token."""
        n, heads, d = q.shape
        state, out = torch.zeros(heads, d, d).double(), []
        for t in range(n):
            state = state * torch.exp(g[t])[:, None, None]
            u = beta[t][:, None] * (v[t] - torch.einsum("hvk,hk->hv", state, k[t]))
            state = state + u[..., None] * k[t][:, None]
            out.append(torch.einsum("hvk,hk->hv", state, q[t]) * d**-0.5)
        return self.store(torch.stack(out))

    def gdn_prefill(self, q, k, v, g, beta):
        """The chunked form with its own roundings; the letters are docs/numerics.md's."""
        heads, d, s = q.shape[1], q.shape[2], self.store
        state, out = torch.zeros(heads, d, d).double(), []
        for first in range(0, q.shape[0], CHUNK):
            qc, kc, vc, gc, bc = (t[first : first + CHUNK].transpose(0, 1) for t in (q, k, v, g, beta))
            n = qc.shape[1]
            total = gc.cumsum(-1)
            decay = torch.exp((total[..., None] - total[:, None]).masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf))
            a = ((kc @ kc.transpose(1, 2)) * decay * bc[..., None]).tril(-1)
            b = s(torch.linalg.inv(torch.eye(n).double() + a) * bc[:, None])
            state_in = s(state)
            r = s(vc - torch.exp(total)[..., None] * (kc @ state_in.transpose(1, 2)))
            new = b @ r
            p = s((qc @ kc.transpose(1, 2)) * decay)
            o = d**-0.5 * (p @ s(new) + torch.exp(total)[..., None] * (qc @ state_in.transpose(1, 2)))
            out.append(s(o).transpose(0, 1))
            left = torch.exp(total[:, -1:] - total)[..., None]
            state = s(new * left).transpose(1, 2) @ kc + state * torch.exp(total[:, -1])[:, None, None]
        return torch.cat(out)

    # Feed-forward.

    def swiglu(self, x, gate, up, down):
        g, u = (self.store(self.product(x, w)) for w in (gate, up))
        if self.fault == "gate and up exchanged":
            g, u = u, g
        return self.store(self.product(self.store(silu(g) * u), down))

    def dense(self, x, at):
        return self.swiglu(x, *(self.w[f"{at}.{p}_proj.weight"] for p in ("gate", "up", "down")))

    def moe(self, x, at):
        f, q8 = self.f, self.q8
        self.q8 = False  # experts, router and shared gate are not Q8_0 products
        logits = self.product(x, self.w[f"{at}.gate.weight"])
        ranked = logits.sort(-1, descending=True)
        k = f["top_k"]
        self.router_logits.append(logits)
        p = torch.softmax(logits, -1).gather(1, ranked.indices[:, :k])
        if f["normalise"] and self.fault != "weights not normalised":
            p = p / p.sum(-1, keepdim=True)
        y = torch.zeros_like(x)
        for e in range(logits.shape[1]):
            rows, slot = (ranked.indices[:, :k] == e).nonzero(as_tuple=True)
            gate, up = self.w[f"{at}.experts.gate_up_proj"][e].chunk(2)
            y[rows] += p[rows, slot, None] * self.swiglu(x[rows], gate, up, self.w[f"{at}.experts.down_proj"][e])
        self.q8 = q8
        if f["shared"]:
            gate = torch.sigmoid(self.product(x, self.w[f"{at}.shared_expert_gate.weight"]))
            y += self.dense(x, f"{at}.shared_expert") * (1 if self.fault == "no shared expert's gate" else gate)
        return self.store(y)

    # The whole.

    def layer(self, h, at, kind, positions):
        x = self.norm(h, f"{at}.input_layernorm")
        y = self.gdn(x, f"{at}.linear_attn") if kind == "linear_attention" else self.attention(x, f"{at}.self_attn", positions)
        h = self.store(h + y)
        x = self.norm(h, f"{at}.post_attention_layernorm")
        return self.store(h + (self.moe(x, f"{at}.mlp") if self.f["experts"] else self.dense(x, f"{at}.mlp")))

    def head(self, x):
        return self.product(x, self.w["lm_head.weight" if "lm_head.weight" in self.w else "embed_tokens.weight"])

    def hidden(self, tokens):
        """After the final norm: what the head multiplies, and what the MTP head takes."""
        h = self.store(self.w["embed_tokens.weight"][tokens])
        for i, kind in enumerate(self.f["layer_types"]):
            h = self.layer(h, f"layers.{i}", kind, torch.arange(len(tokens)))
        return self.norm(h, "norm")

    def logits(self, tokens):
        return self.head(self.hidden(tokens))

    def mtp_logits(self, tokens, rows, chosen):
        """Of each of `rows`: what the MTP head, given the hidden state of that token and `chosen` (by row) as the token after it, says of the
        one after that. The rows before it are given the tokens that do follow."""
        hidden, last = self.hidden(tokens), []
        for t, token in zip(rows.tolist(), chosen):
            following = torch.cat([tokens[1 : t + 1], token[None]])
            e = self.norm(self.w["embed_tokens.weight"][following], "mtp.pre_fc_norm_embedding")
            h = self.norm(hidden[: t + 1], "mtp.pre_fc_norm_hidden")
            x = self.linear(torch.cat([h, e] if self.fault == "MTP's halves exchanged" else [e, h], -1), "mtp.fc")
            x = self.layer(x, "mtp.layers.0", "full_attention", torch.arange(t + 1))
            last.append(self.norm(x[-1:], "mtp.norm"))
        return self.head(torch.cat(last))
