"""The bound of docs/numerics.md ("The model's error"), and whether it lies where it should: above the distance that the contract's roundings
make, below what every planted fault makes."""

import math

import torch

from model_forward import Forward, exact, to_bf16

ULP = 2.0**-9  # the root mean square of bf16's relative rounding error, rounded up (0.85 of this)
GAIN = 3.0
Q8_PRODUCT = 15  # roundings that one quantisation of a product's activations counts for

FAULTS = {
    "no QK norm": lambda f: f["qk_norm"],
    "q one position late": lambda f: True,
    "rope of neighbours": lambda f: True,
    "no scaling of frequencies": lambda f: f["unscaled"] is not None,
    "kv head by remainder": lambda f: f["kv_heads"] > 1,
    "no output gate": lambda f: f["gated"],
    "gate and up exchanged": lambda f: True,
    "convolution backwards": lambda f: f["gdn_k_heads"],
    "GDN key head by remainder": lambda f: f["gdn_k_heads"],
    "no dt_bias": lambda f: f["gdn_k_heads"],
    "no z": lambda f: f["gdn_k_heads"],
    "weights not normalised": lambda f: f["experts"] and f["normalise"],
    "no shared expert's gate": lambda f: f["shared"],
    "no 1 + w in input_layernorm": lambda f: f["zero_centred"],
    "no 1 + w in q_norm": lambda f: f["zero_centred"],
    "MTP's halves exchanged": lambda f: False,
}


def roundings(f, chunked=True, mtp=False, q8=False, dequantised=False):
    """How many roundings lie on the way from a token to its logits. `q8`: products are Q8_0's; `dequantised`: embedding and experts were
    made bf16 of something finer."""
    attention = 7 + f["qk_norm"] + f["gated"] + q8 * 2 * Q8_PRODUCT
    gdn = 8 + 5 * chunked + q8 * 2 * Q8_PRODUCT
    if f["experts"]:
        # Experts are no Q8_0 products: their weights are rounded to bf16 instead, twice on the way.
        feed_forward = 6 + 2 * dequantised
    else:
        feed_forward = 5 + q8 * 2 * Q8_PRODUCT
    layers = sum((gdn if kind == "linear_attention" else attention) + feed_forward for kind in f["layer_types"])
    head = 1 + q8 * Q8_PRODUCT
    return layers + head + dequantised + (mtp * (3 + attention + feed_forward))


def bound(f, rows, vocab, **what):
    """Of a logit, in units of its row's root mean square."""
    return GAIN * math.sqrt(2 * math.log(2 * rows * vocab)) * ULP * math.sqrt(roundings(f, **what))


def distance(got, want):
    """The largest |got - want|, each in units of its row's root mean square, and the root mean square of all of them."""
    error = (got - want.double()) / want.double().square().mean(-1, keepdim=True).sqrt()
    return error.abs().max().item(), error.square().mean().sqrt().item()


def gaps(logits, k):
    """How far the last chosen of each token's router logits is from the first that is not."""
    ranked = logits.sort(-1, descending=True).values
    return ranked[:, k - 1] - ranked[:, k]


def expect(condition, what):
    if not condition:
        raise SystemExit(what)


def run(forward, part, tokens, answers, mtp_rows):
    """One of a model's answers; the MTP head goes on from the tokens that transformers' logits choose."""
    return forward.logits(tokens) if part == "logits" else forward.mtp_logits(tokens, mtp_rows, answers["logits"].argmax(-1)[mtp_rows])


def check(name, facts, weights, tokens, answers, mtp_rows=None, q8=False, dequantised=None):
    """Ends with an error where plain code and transformers differ, where a router's choice is close, or where the bound is no good.
    Gives what a golden file's metadata says. `dequantised`: weights with embedding and experts rounded to bf16."""
    plain = Forward(facts, weights, store=exact)
    for part, want in answers.items():
        largest, _ = distance(run(plain, part, tokens, answers, mtp_rows), want)
        expect(largest < 1e-4, f"{name} {part}: the plain forward and transformers differ by {largest}")
    found, noise, router_gap, router_room, k = {}, 0.0, math.inf, math.inf, facts["top_k"]
    for chunked in (True, False) if "linear_attention" in facts["layer_types"] else (True,):
        rounded = Forward(facts, dequantised or weights, store=to_bf16, q8=q8, gdn_chunks=chunked)
        for part, want in answers.items():
            what = dict(chunked=chunked, mtp=part == "mtp_logits", q8=q8, dequantised=dequantised is not None)
            limit = bound(facts, *want.shape, **what)
            largest, typical = distance(run(rounded, part, tokens, answers, mtp_rows), want)
            n = roundings(facts, **what)
            print(
                f"  {part:10} {'chunks' if chunked else 'steps':6} N {n:3}: rms {typical:.4f} = {typical / ULP / math.sqrt(n):.2f} sqrt(N) 2^-9, "
                f"largest {largest:.3f} of {limit:.3f}"
            )
            expect(largest * 1.4 < limit, f"{name} {part}: the bound leaves no room")
            noise = max(noise, limit)
        for moved, still in zip(rounded.router_logits, plain.router_logits):
            gap = gaps(still, k)
            router_gap = min(router_gap, gap.min().item())
            router_room = min(router_room, gap.min().item() / (gaps(moved, k) - gap).abs().max().item())
    if facts["experts"]:
        print(f"  the last chosen and the first other logit of a router are at least {router_gap:.2f} apart: {router_room:.0f} times what roundings do")
        expect(router_room > 8, f"{name}: a router's choice is too close")
        found = dict(router_gap=router_gap, router_room=router_room)
    for fault, applies in FAULTS.items():
        if applies(facts) or (fault.startswith("MTP") and "mtp_logits" in answers):
            wrong = Forward(facts, weights, store=exact, fault=fault)
            moved = max(distance(run(wrong, part, tokens, answers, mtp_rows), want)[0] for part, want in answers.items())
            print(f"  {fault}: {moved:.2f}, {moved / noise:.0f} bounds")
            expect(moved > 1.5 * noise, f"{name}: {fault} moves the logits by {moved} only, the bound is {noise}")
    first, second = answers["logits"].topk(2).values.T
    sure = ((first - second) / answers["logits"].square().mean(-1).sqrt() > 2 * noise).sum().item()
    print(f"  {sure} of {len(tokens)} rows have a sure top-1")
    expect(sure >= len(tokens) // 8, f"{name}: too few rows whose largest logit is sure")
    return found | dict(sure_rows=sure)
