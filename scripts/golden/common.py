"""What the witness scripts share: seeded draws, float64 runs of code that asks for float32, and the files."""

import json
import struct
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from safetensors.torch import save

OUT = Path(__file__).resolve().parents[2] / "host" / "tests" / "data" / "golden"
LIMIT = 300_000  # bytes a file; all files together stay below 2 MB


def generator(seed):
    """Draws that do not depend on what was drawn before elsewhere."""
    return torch.Generator().manual_seed(seed)


def normal(gen, *shape, scale=1.0):
    """Standard normal times `scale`, rounded to bf16: an input that both sides hold exactly."""
    return (torch.randn(*shape, generator=gen, dtype=torch.float32) * scale).to(torch.bfloat16)


def uniform(gen, *shape, low=0.0, high=1.0):
    """Uniform in low..high, float32."""
    return torch.rand(*shape, generator=gen, dtype=torch.float32) * (high - low) + low


class _Float64Torch:
    """The module `torch`, with float32 read as float64."""

    float32 = torch.float64
    float = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


def in_float64(module):
    """Makes a module's functions compute in float64 where they ask torch for float32, so that the witness's own rounding
    is out of the picture (what they write as `x.float()` stays float32; the scripts say where that matters)."""
    module.torch = _Float64Torch()


def write(name, script, packages, tensors, **facts):
    """Writes host/tests/data/golden/NAME.safetensors: tensors, and as metadata the script, versions and facts as text."""
    metadata = {"script": f"scripts/golden/{script}", "torch": torch.__version__}
    for package in packages:
        try:
            metadata[package] = version(package)
        except PackageNotFoundError:
            metadata[package] = "not installed"
    metadata |= {key: repr(value) if isinstance(value, float) else str(value) for key, value in facts.items()}
    data = _sorted_header(save({key: value.detach().contiguous() for key, value in tensors.items()}, metadata))
    if len(data) > LIMIT:
        raise SystemExit(f"{name}: {len(data)} bytes; a golden file has at most {LIMIT}")
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.safetensors").write_bytes(data)
    print(f"{name}: {len(data)} bytes")


def _sorted_header(data):
    """The header with its metadata in order: the package writes it in a hash map's, and a file should be the same each time."""
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + size :]
