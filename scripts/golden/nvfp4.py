#!/usr/bin/env python3
"""NVFP4 weights as the two checkpoint writers make them: NVIDIA ModelOpt and compressed-tensors.

    scripts/golden/README.md says how to install; then: python scripts/golden/nvfp4.py

Writes nvfp4.safetensors. weight bf16 [n][k]. Per writer, as its checkpoints name them: packed u8 [n][k/2] (low nibble: even k), scales
f8_e4m3 [n][k/16], the tensor scale f32 [1], and the writer's own dequantised weights in f32. compressed-tensors computes in
the dtype of the weights it is given: ct_bf16 is what it makes of bf16 weights, ct_f32 of the same weights as f32.
"""

import torch
from compressed_tensors.compressors.nvfp4.base import NVFP4PackedCompressor
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.quantization import preset_name_to_scheme
from compressed_tensors.quantization.lifecycle.forward import dequantize
from compressed_tensors.quantization.utils import compute_dynamic_scales_and_zp, generate_gparam
from modelopt.torch.quantization.qtensor import NVFP4QTensor

from common import generator, normal, write

N, K, BLOCK = 24, 208, 16


def weights():
    """Rows of several sizes, blocks of zeros, tiny blocks (block scales near and below E4M3's smallest), values on the
    edges between two E2M1 values."""
    gen = generator(31)
    w = normal(gen, N, K).float() * torch.logspace(-3, 0, N)[:, None]
    w[3, 16:32] = 0
    w[4, 32:48] *= 1e-5
    w[5, 48:64] = w[5, 48:64].abs().clamp(1e-9) * 1e-4
    # A block whose largest is 6 units: every halfway point of E2M1, both signs, and the two zeros.
    edges = torch.tensor([6, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, -0.25, -0.75, -1.25, -1.75, -2.5, -3.5, -5, -0.0])
    w[6, :16], w[7, :16] = edges / 64, -edges / 64
    w[0, 0] = 3.0  # the largest of all
    return w.to(torch.bfloat16)


def modelopt(w):
    packed, scale, scale_2 = NVFP4QTensor.quantize(w.clone(), BLOCK)
    back = packed.dequantize(torch.float32, scale=scale, double_scale=scale_2, block_sizes={-1: BLOCK})
    return {
        "weight": packed._quantized_data,
        "weight_scale": scale,
        "weight_scale_2": scale_2.reshape(1).float(),
        "dequantised": back,
    }


def compressed_tensors(w):
    scheme = preset_name_to_scheme("NVFP4A16", targets=["Linear"])
    args = scheme.weights
    global_scale = generate_gparam(w.amin(), w.amax())
    scale, _ = compute_dynamic_scales_and_zp(w, args, torch.nn.Identity(), global_scale)
    state = {"weight": w, "weight_scale": scale, "weight_global_scale": global_scale}
    state = NVFP4PackedCompressor.compress(state, scheme)
    # What its decompress() does, without the last rounding to bf16.
    codes = unpack_fp4_from_uint8(state["weight_packed"], N, K, torch.float32)
    back = dequantize(codes, state["weight_scale"].float(), args=args, dtype=torch.float32, global_scale=global_scale)
    return {name: state[name] for name in ("weight_packed", "weight_scale", "weight_global_scale")} | {"dequantised": back}


def main():
    w = weights()
    tensors = {"weight": w}
    for writer, made in (
        ("modelopt", modelopt(w)),
        ("ct_bf16", compressed_tensors(w)),
        ("ct_f32", compressed_tensors(w.float())),
    ):
        print(writer, {name: (tuple(value.shape), value.dtype) for name, value in made.items()})
        tensors |= {f"{writer}.{name}": value for name, value in made.items()}
    write("nvfp4", "nvfp4.py", ["nvidia-modelopt", "compressed-tensors"], tensors)


if __name__ == "__main__":
    main()
