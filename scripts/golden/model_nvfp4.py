"""NVFP4 checkpoints, as NVIDIA ModelOpt and as compressed-tensors (llm-compressor) publish them, by the formulae of docs/numerics.md;
scripts/golden/nvfp4.py holds the packages themselves to those."""

import torch

VALUES = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
MIDDLES = (VALUES[1:] + VALUES[:-1]) / 2
BLOCK = 16


def packed(x):
    """e2m1 codes of x, two a byte, even columns in the low nibble."""
    codes = torch.bucketize(x.abs(), MIDDLES).to(torch.uint8) | (x < 0).to(torch.uint8) << 3
    return codes[:, 0::2] | codes[:, 1::2] << 4


def unpacked(codes):
    both = torch.stack([codes & 15, codes >> 4], -1).flatten(1).long()
    return VALUES[both & 7] * torch.where(both >= 8, -1.0, 1.0)


def modelopt(w, largest):
    """The tensors of one weight [n][k], and what they mean; `largest` is the largest magnitude of all that share the tensor scale."""
    n, k = w.shape
    blocks = w.reshape(n, k // BLOCK, BLOCK)
    s = largest / 2688
    v = blocks.abs().amax(-1) / (6 * s)
    scale = torch.where(v == 0, 1.0, v).clamp(2.0**-9, 448).to(torch.float8_e4m3fn)
    codes = packed((blocks / (scale.float() * s)[..., None]).reshape(n, k))
    meant = (unpacked(codes).reshape(blocks.shape) * scale.float()[..., None]).reshape(n, k) * s
    return {"weight": codes, "weight_scale": scale, "weight_scale_2": s, "input_scale": torch.tensor(0.0125)}, meant


def compressed_tensors(w, largest):
    n, k = w.shape
    blocks = w.reshape(n, k // BLOCK, BLOCK)
    s = ((1 / largest).to(torch.bfloat16) * 2688).to(torch.bfloat16).float()
    v = s * (blocks.abs().amax(-1) / 6).to(torch.bfloat16).float()
    scale = v.clamp(max=448).to(torch.float8_e4m3fn)
    scale = torch.where(scale.float() == 0, torch.tensor(0.125).to(torch.float8_e4m3fn).float(), scale.float()).to(torch.float8_e4m3fn)
    codes = packed((blocks / (scale.float() / s)[..., None]).reshape(n, k))
    meant = (unpacked(codes).reshape(blocks.shape) * scale.float()[..., None]).reshape(n, k) / s
    tensors = {"weight_packed": codes, "weight_scale": scale, "weight_global_scale": s.reshape(1), "input_global_scale": torch.tensor([80.0])}
    return tensors, meant


def group(name, groups):
    """Which weights share a tensor scale: those whose names differ only in the parts that one of `groups` lists."""
    at, part = name.rsplit(".", 1)
    for parts in groups:
        if part in parts:
            return f"{at}.{'|'.join(parts)}"
    return name


def quantise(tensors, convention, groups, ignored):
    """The checkpoint's tensors with every linear weight but the ignored in NVFP4; and the f32 weights that they mean, by name."""
    linear = {
        name.removesuffix(".weight"): w.float()
        for name, w in tensors.items()
        if name.endswith("_proj.weight") and name.removesuffix(".weight") not in ignored
    }
    largest = {}
    for name, w in linear.items():
        key = group(name, groups)
        largest[key] = torch.maximum(largest.get(key, torch.tensor(0.0)), w.abs().max())
    written = {name: w for name, w in tensors.items() if name.removesuffix(".weight") not in linear}
    meant = {}
    for name, w in linear.items():
        parts, meant[f"{name}.weight"] = convention(w, largest[group(name, groups)])
        written |= {f"{name}.{part}": value for part, value in parts.items()}
    return dict(sorted(written.items())), meant


def modelopt_configs(ignored):
    """`quantization_config` of config.json, and hf_quant_config.json. ModelOpt's checkpoints quantise the KV cache to FP8 as well,
    and carry its scales; a runtime with a cache of bf16 leaves them."""
    producer = {"name": "modelopt", "version": "0.37.0"}
    four = {"dynamic": False, "group_size": BLOCK, "num_bits": 4, "type": "float"}
    config = {
        "config_groups": {"group_0": {"input_activations": four, "weights": four, "targets": ["Linear"]}},
        "ignore": ignored,
        "kv_cache_scheme": {"dynamic": False, "num_bits": 8, "type": "float"},
        "producer": producer,
        "quant_algo": "NVFP4",
        "quant_method": "modelopt",
    }
    algorithm = {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "group_size": BLOCK, "exclude_modules": ignored}
    return config, {"producer": producer, "quantization": algorithm}


def compressed_tensors_config(ignored):
    weights = {
        "dynamic": False,
        "group_size": BLOCK,
        "num_bits": 4,
        "observer": "minmax",
        "strategy": "tensor_group",
        "symmetric": True,
        "type": "float",
    }
    group_0 = {
        "format": "nvfp4-pack-quantized",
        "input_activations": weights | {"dynamic": "local"},
        "output_activations": None,
        "targets": ["Linear"],
        "weights": weights,
    }
    return {
        "config_groups": {"group_0": group_0},
        "format": "nvfp4-pack-quantized",
        "global_compression_ratio": None,
        "ignore": ignored,
        "kv_cache_scheme": None,
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
    }
