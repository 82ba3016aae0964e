#!/usr/bin/env python3
"""Writes the GGUF fixtures of host/tests/fixtures with the `gguf` Python package.

    python3 -m venv venv && venv/bin/pip install gguf numpy
    venv/bin/python scripts/make_gguf_fixture.py

For each NAME.gguf there is a NAME.json: what the package's own reader finds in the file (metadata, tensors, the table of
types) and a NAME.f32: every tensor's values as the package dequantises them, little-endian f32, one tensor after another.
The tests compare what host::gguf reads with these, so neither side is checked against itself.
"""

import json
import struct
from importlib.metadata import version
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFReader, GGUFValueType as V, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize

READ = (T.F32, T.F16, T.BF16, T.Q8_0)
OUT = Path(__file__).resolve().parent.parent / "host" / "tests" / "fixtures"


def bits(kind, value):
    """A value as JSON can hold it exactly: floats as their bits."""
    if kind == V.FLOAT32:
        return struct.unpack("<I", struct.pack("<f", value))[0]
    if kind == V.FLOAT64:
        return struct.unpack("<Q", struct.pack("<d", value))[0]
    return value


def one_entry_a_line(found):
    """JSON that a person and a diff can read: a line for each key, tensor and type."""
    parts = []
    for key, value in found.items():
        pair = None
        if isinstance(value, dict):
            pair = "{}", [json.dumps(k) + ": " + json.dumps(v, ensure_ascii=False) for k, v in value.items()]
        elif isinstance(value, list):
            pair = "[]", [json.dumps(v, ensure_ascii=False) for v in value]
        text = json.dumps(value) if pair is None else f"{pair[0][0]}\n  " + ",\n  ".join(pair[1]) + f"\n {pair[0][1]}"
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


class Fixture:
    """One file in the making: what goes into the writer is noted for the JSON."""

    def __init__(self, name):
        self.name = name
        self.writer = GGUFWriter(OUT / f"{name}.gguf", "lockstep-fixture")
        self.metadata = {"general.architecture": ("STRING", None, "lockstep-fixture")}

    def key(self, key, value, kind, sub=None):
        self.writer.add_key_value(key, value, kind, sub)
        values = [bits(sub, v) for v in value] if kind == V.ARRAY else bits(kind, value)
        self.metadata[key] = (kind.name, None if sub is None else sub.name, values)

    def tensor(self, name, values, kind):
        """Adds f32 values as a tensor of a type, quantised by the package."""
        if kind == T.F32:
            self.writer.add_tensor(name, values.astype(np.float32))
        elif kind == T.F16:
            self.writer.add_tensor(name, values.astype(np.float16))
        else:
            self.writer.add_tensor(name, quantize(values.astype(np.float32), kind), raw_dtype=kind)

    def close(self):
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()
        reader = GGUFReader(OUT / f"{self.name}.gguf")
        tensors, values = [], b""
        for t in reader.tensors:
            flat = b""  # of types that are refused there is nothing to compare
            if t.tensor_type in READ:
                flat = dequantize(t.data, t.tensor_type).astype("<f4").tobytes()
            tensors.append(
                {
                    "name": t.name,
                    "type": t.tensor_type.name,
                    "ne": [int(n) for n in t.shape],
                    "offset": int(t.data_offset),
                    "bytes": int(t.n_bytes),
                    "f32_at": len(values),
                    "f32_len": len(flat),
                }
            )
            values += flat
        found = {
            "version": int(reader.fields["GGUF.version"].parts[-1][0]),
            "alignment": int(reader.alignment),
            "data_start": int(reader.data_offset),
            "metadata": self.metadata,
            "tensors": tensors,
            "types": {t.name: [int(t), *GGML_QUANT_SIZES[t]] for t in T},
        }
        (OUT / f"{self.name}.json").write_text(one_entry_a_line(found))
        (OUT / f"{self.name}.f32").write_bytes(values)
        print(self.name, (OUT / f"{self.name}.gguf").stat().st_size, "bytes,", len(tensors), "tensors")


def every_type():
    """Every metadata type alone and in an array; every tensor type that is read, and two that are not."""
    rng = np.random.default_rng(20261121)
    f = Fixture("every-type")
    scalars = {
        V.UINT8: [0, 255],
        V.INT8: [-128, 127],
        V.UINT16: [0, 65535],
        V.INT16: [-32768, 32767],
        V.UINT32: [0, 2**32 - 1],
        V.INT32: [-(2**31), 2**31 - 1],
        V.UINT64: [0, 2**64 - 1],
        V.INT64: [-(2**63), 2**63 - 1],
        V.FLOAT32: [-0.0, 3.4028234663852886e38],
        V.FLOAT64: [0.1, 5e-324],
        V.BOOL: [True, False],
        V.STRING: ["", "Größe \U0001f980 \"quoted\""],
    }
    for kind, values in scalars.items():
        for i, value in enumerate(values):
            f.key(f"test.{kind.name.lower()}.{i}", value, kind)
        f.key(f"test.array.{kind.name.lower()}", values * 2, V.ARRAY, kind)

    def normal(*shape):
        return rng.standard_normal(shape)

    f.tensor("q8.31_blocks", normal(3, 31 * 32), T.Q8_0)
    f.tensor("q8.33_blocks", normal(2, 33 * 32), T.Q8_0)
    f.tensor("q8.1_block", normal(32), T.Q8_0)
    f.tensor("q8.3d", normal(2, 3, 64), T.Q8_0)
    # Scales: zero, subnormal, the largest that f16 has.
    f.tensor("q8.scales", normal(4, 32) * np.array([[0.0], [1e-5], [1e-3], [2.5e6]]), T.Q8_0)
    # Blocks no quantiser makes: random bytes, values down to -128, negative and zero scales of both signs.
    raw = rng.integers(0, 256, (2, 3 * 34), dtype=np.uint8)
    for block, scale in enumerate([1.0, -1.0, 0.0, -0.0, 65504.0, 5.9604645e-08]):
        row, at = divmod(block, 3)
        raw[row, at * 34 : at * 34 + 2] = np.frombuffer(np.float16(scale).tobytes(), dtype=np.uint8)
    f.writer.add_tensor("q8.raw", raw, raw_dtype=T.Q8_0)
    f.tensor("f16.matrix", normal(7, 5), T.F16)
    f.tensor("f16.special", np.array([0.0, -0.0, 6e-8, 65504.0, np.inf, -np.inf]), T.F16)
    f.tensor("bf16.matrix", normal(4, 6), T.BF16)
    f.tensor("f32.vector", normal(11), T.F32)
    f.tensor("f32.4d", normal(2, 1, 3, 5), T.F32)
    f.tensor("refused.q4_0", normal(2, 64), T.Q4_0)
    f.writer.add_tensor("refused.i32", np.arange(5, dtype=np.int32))
    f.close()


def aligned():
    """Another alignment than the default."""
    f = Fixture("aligned-128")
    f.writer.add_custom_alignment(128)
    f.metadata["general.alignment"] = ("UINT32", None, 128)
    f.tensor("a", np.arange(3), T.F32)
    f.tensor("b", np.arange(32), T.Q8_0)
    f.close()


if __name__ == "__main__":
    print("gguf", version("gguf"))
    every_type()
    aligned()
