"""GGUF files by the `gguf` package, with llama.cpp's tensor names and keys as its convert_hf_to_gguf.py writes them for these families."""

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type

import model_tokenizer

# Hugging Face's names and llama.cpp's, inside a layer.
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
}
GLOBAL = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}


def llama_rows(w, heads):
    """The converter's order of q's and k's rows for the architecture `llama`: pairs (i, i + d/2) of a head become neighbours."""
    d = w.shape[0] // heads
    return w.reshape(heads, 2, d // 2, -1).transpose(1, 2).reshape(w.shape)


def rope_factors(config):
    """`rope_freqs.weight`: what Llama 3's scaling divides each frequency by."""
    rope, d = config.rope_parameters, config.head_dim
    frequencies = rope["rope_theta"] ** -(torch.arange(0, d, 2, dtype=torch.float64) / d)
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * torch.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 / ((1 - smooth) / rope["factor"] + smooth)).float()


def stored(name, w, floats):
    """The bytes of a tensor and what they mean: Q8_0, f16 for the names in `floats`, f32 for vectors and routers."""
    data = np.ascontiguousarray(w.float().numpy())
    if w.ndim == 1 or name.endswith("ffn_gate_inp.weight"):
        return data, Type.F32, w.float()
    kind = Type.F16 if name in floats else Type.Q8_0
    made = gguf.quants.quantize(data, kind)
    return made, kind, torch.from_numpy(gguf.quants.dequantize(made, kind).astype(np.float32).copy())


def names(weights, experts):
    """(llama.cpp's name, its tensor, Hugging Face's name) of all weights; the experts of a layer in one."""
    for name, w in weights.items():
        if name in GLOBAL:
            yield GLOBAL[name], w, name
            continue
        _, layer, rest = name.split(".", 2)
        if rest == "mlp.experts.gate_up_proj":
            gate, up = w.chunk(2, 1)
            yield f"blk.{layer}.ffn_gate_exps.weight", gate, name
            yield f"blk.{layer}.ffn_up_exps.weight", up, name
        elif rest == "mlp.experts.down_proj":
            yield f"blk.{layer}.ffn_down_exps.weight", w, name
        else:
            yield f"blk.{layer}.{LAYER[rest.removesuffix('.weight')]}.weight", w, name


def write(path, arch, config, weights, tokenizer_kind, tokenizer, floats=()):
    """Writes one file; gives the weights it means, by Hugging Face's names. `config` is transformers', `weights` f32 without `model.`."""
    out = gguf.GGUFWriter(path, arch)
    out.add_name(path.stem)
    out.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    out.add_quantization_version(gguf.GGML_QUANT_VERSION)
    out.add_block_count(config.num_hidden_layers)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_key_length(config.head_dim)
    out.add_value_length(config.head_dim)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if arch == "llama":
        out.add_rope_dimension_count(config.head_dim)
        out.add_vocab_size(config.vocab_size)
    if arch == "qwen3moe":
        out.add_expert_count(config.num_experts)
        out.add_expert_used_count(config.num_experts_per_tok)
        out.add_expert_feed_forward_length(config.moe_intermediate_size)
    vocabulary(out, tokenizer_kind, tokenizer)
    if arch == "llama":
        out.add_tensor("rope_freqs.weight", rope_factors(config).numpy())
    heads = {"attn_q.weight": config.num_attention_heads, "attn_k.weight": config.num_key_value_heads}
    meant = {}
    for name, w, hf_name in names(weights, getattr(config, "num_experts", 0)):
        permuted = heads.get(name.rsplit(".", 2)[-2] + ".weight") if arch == "llama" else None
        data, kind, value = stored(name, llama_rows(w, permuted) if permuted else w, floats)
        out.add_tensor(name, data, raw_dtype=kind)
        if permuted:
            d = w.shape[0] // permuted
            value = value.reshape(permuted, d // 2, 2, -1).transpose(1, 2).reshape(w.shape)
        meant[hf_name] = torch.cat([meant[hf_name], value], 1) if hf_name in meant else value
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return meant


def vocabulary(out, kind, tokenizer):
    tokens, types, merges = model_tokenizer.gguf_vocabulary(tokenizer)
    special = model_tokenizer.SPECIAL[kind]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre(kind)
    out.add_token_list(tokens)
    out.add_token_types(types)
    out.add_token_merges(merges)
    if kind == "llama-bpe":
        out.add_bos_token_id(tokens.index(special[0]))
        out.add_eos_token_id(tokens.index(special[1]))
        out.add_add_bos_token(True)
    else:
        out.add_bos_token_id(tokens.index(special[0]))
        out.add_eos_token_id(tokens.index(special[2]))
        out.add_add_bos_token(False)
