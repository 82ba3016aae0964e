#!/usr/bin/env python3
"""Tiny random checkpoints of every model family, in the files that published models come in, and transformers' logits for them.

    scripts/golden/README.md says how to install; then: python scripts/golden/models.py

Writes host/tests/data/models/NAME (config.json, *.safetensors as on Hugging Face) and golden/model_NAME.safetensors: tokens i32 [64],
logits f32 [64][vocab] of the float32 model with eager attention, loaded from the very files; where there is an MTP head, mtp_rows i32
[8] and mtp_logits f32 [8][vocab] (of row t: after the tokens up to t, from the hidden state of t and the token that the model's logits choose
there; the rows whose choice is surest). The metadata has the smallest gap of a router.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

import common
import model_check
import model_weights
from common import generator

MODELS = common.OUT.parent / "models"
VOCAB, N_TOK = 320, 64

ATTENTION = dict(vocab_size=VOCAB, hidden_size=128, num_attention_heads=4, num_key_value_heads=2, head_dim=128, num_hidden_layers=2)
HYBRID = dict(
    vocab_size=VOCAB,
    hidden_size=64,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=256,
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    max_position_embeddings=262144,
)
HYBRID_MOE = dict(num_hidden_layers=4, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=32, shared_expert_intermediate_size=32)
MROPE = dict(mrope_interleaved=True, mrope_section=[11, 11, 10], rope_type="default", rope_theta=1e7, partial_rotary_factor=0.25)
LLAMA3 = dict(rope_type="llama3", factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)


def llama():
    config = transformers.LlamaConfig(
        **ATTENTION,
        intermediate_size=256,
        rope_parameters=dict(LLAMA3, rope_theta=5e5),
        max_position_embeddings=131072,
        rms_norm_eps=1e-5,
        bos_token_id=VOCAB - 3,
        eos_token_id=VOCAB - 2,
    )
    # Llama 3.2 scales for 8192 positions; the tiny model is tested on 64, so that the scaled frequencies must come into play there.
    config.rope_parameters["original_max_position_embeddings"] = 64
    return transformers.LlamaForCausalLM(config), dict(seed=101)


def qwen3():
    rope = dict(rope_type="default", rope_theta=1e6)
    config = transformers.Qwen3Config(**(ATTENTION | dict(hidden_size=64)), intermediate_size=192, rope_parameters=rope, tie_word_embeddings=True)
    return transformers.Qwen3ForCausalLM(config), dict(seed=102)


def qwen3_coder():
    config = transformers.Qwen3MoeConfig(
        **ATTENTION,
        intermediate_size=256,
        num_experts=8,
        num_experts_per_tok=3,
        moe_intermediate_size=32,
        norm_topk_prob=True,
        rope_parameters=dict(rope_type="default", rope_theta=1e7),
    )
    return transformers.Qwen3MoeForCausalLM(config), dict(seed=103)


def qwen3_next():
    rope = dict(rope_type="default", rope_theta=1e7, partial_rotary_factor=0.25)
    config = transformers.Qwen3NextConfig(**HYBRID, **HYBRID_MOE, intermediate_size=128, norm_topk_prob=True, rope_parameters=rope)
    return transformers.Qwen3NextForCausalLM(config), dict(seed=104, mtp=True, shards=3)


def qwen3_6():
    """As published: a text model inside a multimodal one, whose vision tower is here too small to be of any use."""
    text = dict(**HYBRID, **HYBRID_MOE, rope_parameters=dict(MROPE), mtp_num_hidden_layers=1)
    vision = dict(depth=1, hidden_size=16, intermediate_size=16, num_heads=2, out_hidden_size=64, num_position_embeddings=4, patch_size=2)
    config = transformers.Qwen3_5MoeConfig(text_config=text, vision_config=vision, image_token_id=316, video_token_id=317)
    return transformers.Qwen3_5MoeForConditionalGeneration(config), dict(
        seed=105, mtp=True, fused=True, float32=("A_log", "linear_attn.norm.weight")
    )


def qwen3_5():
    """The dense one, without the multimodal model around it: one layer of each kind."""
    config = transformers.Qwen3_5TextConfig(
        **HYBRID,
        num_hidden_layers=2,
        intermediate_size=128,
        layer_types=["linear_attention", "full_attention"],
        rope_parameters=dict(MROPE),
        tie_word_embeddings=True,
    )
    return transformers.Qwen3_5ForCausalLM(config), dict(seed=106)


FAMILIES = {
    "tiny-llama": llama,
    "tiny-qwen3": qwen3,
    "tiny-qwen3-coder": qwen3_coder,
    "tiny-qwen3-next": qwen3_next,
    "tiny-qwen3.6": qwen3_6,
    "tiny-qwen3.5": qwen3_5,
}


def text_config(config):
    return getattr(config, "text_config", None) or config


def decoder(model):
    """The stack of layers, inside whatever is around it."""
    return getattr(model.model, "language_model", model.model)


def unscaled(c):
    """The frequencies without Llama 3's scaling, for a planted fault."""
    return c.rope_parameters["rope_theta"] ** -(torch.arange(0, c.head_dim, 2) / c.head_dim)


def facts(config, rotary):
    """What model_forward.Forward wants to know."""
    c = text_config(config)
    hybrid = hasattr(c, "linear_num_key_heads")
    return dict(
        zero_centred=hybrid,
        gated=hybrid,
        qk_norm=c.model_type != "llama",
        gdn_packed=c.model_type == "qwen3_next",
        gdn_k_heads=getattr(c, "linear_num_key_heads", 0),
        gdn_v_heads=getattr(c, "linear_num_value_heads", 0),
        eps=c.rms_norm_eps,
        q_heads=c.num_attention_heads,
        kv_heads=c.num_key_value_heads,
        head_dim=c.head_dim,
        rot=2 * len(rotary.inv_freq),
        inv_freq=rotary.inv_freq,
        unscaled=unscaled(c) if c.model_type == "llama" else None,
        layer_types=list(getattr(c, "layer_types", None) or ["full_attention"] * c.num_hidden_layers),
        experts=getattr(c, "num_experts", 0) or 0,
        top_k=getattr(c, "num_experts_per_tok", 0),
        normalise=getattr(c, "norm_topk_prob", True),
        shared=hybrid and bool(getattr(c, "num_experts", 0)),
    )


class Mtp(torch.nn.Module):
    """Qwen's multi-token prediction head, of transformers' own layers: transformers leaves it out. What it computes is vLLM's
    qwen3_next_mtp.py: fc([norm(embedding of the next token) | norm(hidden state after the model's final norm)]), one layer of full
    attention, norm, and the model's own head."""

    def __init__(self, model):
        super().__init__()
        stack, c = decoder(model), text_config(model.config)
        layer, norm = type(stack.layers[0]), type(stack.norm)
        self.fc = torch.nn.Linear(2 * c.hidden_size, c.hidden_size, bias=False)
        self.pre_fc_norm_embedding, self.pre_fc_norm_hidden, self.norm = (norm(c.hidden_size, eps=c.rms_norm_eps) for _ in range(3))
        self.layers = torch.nn.ModuleList([layer(c, layer_idx=c.layer_types.index("full_attention"))])

    def forward(self, model, tokens, rows, chosen):
        """Of each of `rows`: given the hidden state of that token and `chosen` as the token after it; the rows before it have the tokens that do
        follow."""
        stack = decoder(model)
        hidden, last = stack(input_ids=tokens[None]).last_hidden_state, []
        for t, token in zip(rows.tolist(), chosen):
            embedded = stack.embed_tokens(torch.cat([tokens[1 : t + 1], token[None]]))[None]
            x = self.fc(torch.cat([self.pre_fc_norm_embedding(embedded), self.pre_fc_norm_hidden(hidden[:, : t + 1])], -1))
            n = x.shape[1]
            positions = torch.arange(n)[None]
            if hasattr(stack.rotary_emb, "mrope_section"):
                positions = positions.expand(3, 1, n)
            mask = torch.full((n, n), torch.finfo(torch.float32).min).triu(1)[None, None]
            x = self.layers[0](x, position_embeddings=stack.rotary_emb(x, positions), attention_mask=mask)
            last.append(model.lm_head(self.norm(x[:, -1]))[0])
        return torch.stack(last)


def published_config(config):
    """config.json as published models have it: the rope's parameters where older versions of transformers wrote them, and
    Qwen3-Next's kinds of layers by their interval."""
    kept = without_generic(json.loads(config.to_json_string(use_diff=False)))
    kept["architectures"] = config.architectures
    text = kept.get("text_config", kept)
    kept.pop("dtype", None)
    text["dtype"] = "bfloat16"
    if "linear_num_key_heads" in text:
        text["full_attention_interval"] = text["layer_types"].index("full_attention") + 1
    if config.model_type in ("llama", "qwen3", "qwen3_moe", "qwen3_next"):
        rope = kept.pop("rope_parameters")
        kept["rope_theta"] = rope.pop("rope_theta")
        if "partial_rotary_factor" in rope:
            kept["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
        kept["rope_scaling"] = rope if rope["rope_type"] != "default" else None
        kept["torch_dtype"] = kept.pop("dtype")
    if config.model_type == "qwen3_next":
        del kept["layer_types"]
    return kept


# What transformers writes into every config, and no published model's file has.
GENERIC = {"chunk_size_feed_forward", "id2label", "label2id", "is_encoder_decoder", "output_attentions", "output_hidden_states", "return_dict", "problem_type"}


def without_generic(value):
    if not isinstance(value, dict):
        return value
    return {key: without_generic(v) for key, v in value.items() if v is not None and not key.startswith("_") and key not in GENERIC}


def split_experts(name, w):
    """One tensor per expert of a fused one, as published checkpoints name them."""
    at, part = name.rsplit(".", 1)
    for e, expert in enumerate(w):
        if part == "gate_up_proj":
            gate, up = expert.chunk(2)
            yield f"{at}.{e}.gate_proj.weight", gate.contiguous()
            yield f"{at}.{e}.up_proj.weight", up.contiguous()
        else:
            yield f"{at}.{e}.down_proj.weight", expert.contiguous()


def fuse_experts(tensors):
    """The other way round: the experts of a layer in one tensor, as Qwen3.5's and 3.6's checkpoints have them."""
    pieces = [name for name in tensors if ".experts." in name]
    for at in {name.split(".experts.")[0] + ".experts" for name in pieces}:
        count = sum(name.startswith(f"{at}.") for name in pieces) // 3
        gate, up, down = (torch.stack([tensors[f"{at}.{e}.{part}_proj.weight"] for e in range(count)]) for part in ("gate", "up", "down"))
        tensors |= {f"{at}.gate_up_proj": torch.cat([gate, up], 1), f"{at}.down_proj": down}
    return {name: w for name, w in tensors.items() if name not in pieces}


def write_checkpoint(folder, model, mtp, shards=1, fused=False, float32=()):
    """The files of a checkpoint: transformers' own names, by its own save_pretrained, in bf16; the MTP head's experts one by one."""
    with tempfile.TemporaryDirectory() as saved:
        model.save_pretrained(saved)
        tensors = {name: w for file in Path(saved).glob("*.safetensors") for name, w in load_file(file).items()}
    if fused:
        tensors = fuse_experts(tensors)
    for name, w in (mtp.state_dict() if mtp else {}).items():
        named = split_experts(f"mtp.{name}", w) if ".experts." in name else [(f"mtp.{name}", w)]
        tensors |= dict(named)
    tensors = {name: w.contiguous() if name.endswith(tuple(float32)) and float32 else w.to(torch.bfloat16) for name, w in sorted(tensors.items())}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_json(folder / "config.json", published_config(model.config))
    write_tensors(folder, tensors, shards)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_tensors(folder, tensors, shards=1):
    names = list(tensors)
    if shards == 1:
        save(tensors, folder / "model.safetensors")
        return
    weight_map = {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        # Every third name, so that a layer's parts and an expert's pieces lie in different files.
        part = {name: tensors[name] for name in names[i::shards]}
        save(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    size = sum(w.numel() * w.element_size() for w in tensors.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": weight_map})


def save(tensors, path):
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)


def load(folder, kind):
    """The float32 model of a folder's files, and its MTP head, read back from them."""
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager").eval()
    tensors = {name: w.float() for file in sorted(folder.glob("*.safetensors")) for name, w in load_file(file).items()}
    head = {name.removeprefix("mtp."): w for name, w in tensors.items() if name.startswith("mtp.")}
    if not head:
        return model, None
    mtp = Mtp(model).eval()
    for part in ("gate_up_proj", "down_proj"):
        at = "layers.0.mlp.experts"
        rows = [
            torch.cat([head.pop(f"{at}.{e}.{piece}.weight") for piece in (("gate_proj", "up_proj") if part == "gate_up_proj" else (part,))])
            for e in range(text_config(model.config).num_experts)
        ]
        head[f"{at}.{part}"] = torch.stack(rows)
    mtp.load_state_dict(head, strict=True)
    return model, mtp


def plain_weights(model, mtp):
    """Names without what is around the decoder, for model_forward."""
    weights = {name.removeprefix("model.").removeprefix("language_model."): w for name, w in model.state_dict().items() if "visual" not in name}
    return weights | ({f"mtp.{name}": w for name, w in mtp.state_dict().items()} if mtp else {})


def surest(logits, count=8):
    """The rows whose largest logit is furthest from the next, in units of the row's size, in order."""
    first, second = logits.topk(2).values.T
    gap = (first - second) / logits.square().mean(-1).sqrt()
    return gap.topk(count).indices.sort().values


def golden(name, model, mtp, seed, **options):
    """transformers' answers for a model, and what model_check finds out about them."""
    tokens = torch.randint(0, VOCAB - 8, (N_TOK,), generator=generator(seed + 1000))
    with torch.no_grad():
        answers = {"logits": model(input_ids=tokens[None]).logits[0]}
        if mtp:
            rows = surest(answers["logits"])
            answers["mtp_logits"] = mtp(model, tokens, rows, answers["logits"].argmax(-1)[rows])
    known = facts(model.config, decoder(model).rotary_emb)
    found = model_check.check(name, known, plain_weights(model, mtp), tokens, answers, rows if mtp else None, **options)
    if mtp:
        answers["mtp_rows"] = rows.int()
    file = "model_" + name.replace("-", "_").replace(".", "_")
    common.write(file, "models.py", ["transformers"], {"tokens": tokens.int()} | answers, model=name, **found)


def make(name):
    """One family's checkpoint and its golden file."""
    model, options = FAMILIES[name]()
    model = model.float().eval()
    mtp = Mtp(model) if options.pop("mtp", False) else None
    known = facts(model.config, decoder(model).rotary_emb)
    seed = options.pop("seed")
    model_weights.fill(model, seed, known["zero_centred"], known["experts"], known["top_k"], {"mtp": mtp} if mtp else None)
    folder = MODELS / name
    write_checkpoint(folder, model, mtp, **options)
    print(name, sum(file.stat().st_size for file in folder.iterdir()), "bytes")
    made = plain_weights(model, mtp)
    model, mtp = load(folder, type(model))
    model_check.expect(all(torch.equal(made[key], w) for key, w in plain_weights(model, mtp).items()), f"{name}: the files hold other weights")
    golden(name, model, mtp, seed)


def main():
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    for name in sys.argv[1:] or FAMILIES:
        make(name)


if __name__ == "__main__":
    main()
