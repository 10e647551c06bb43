#!/usr/bin/env python3
"""Cross-check with the Python package `safetensors` (pip install safetensors numpy torch).

    python3 tests/reference/safetensors_fixtures.py write   # makes tests/data/safetensors/*.safetensors
    python3 tests/reference/safetensors_fixtures.py read FILE…   # reads files that samebits wrote

`write` made the committed fixtures with safetensors 0.8.0 and torch 2.15. tests/safetensors reads them,
and writes the same tensors back: the bytes must be the fixture's. With SAMEBITS_WRITE=FOLDER set, that test
leaves what it wrote in FOLDER, for `read`.
"""
import pathlib
import sys

import numpy as np
import safetensors
import safetensors.numpy
import safetensors.torch
import torch

OUT = pathlib.Path(__file__).resolve().parents[1] / "data" / "safetensors"


def every_dtype():
    """Four elements of each type that torch knows: the bytes 0, 1, 2, …"""
    names = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint64", "uint32",
             "uint16", "uint8", "bool", "complex64", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu",
             "float8_e4m3fnuz", "float8_e5m2fnuz"]
    out = {}
    for name in names:
        dtype = getattr(torch, name)
        raw = torch.arange(4 * dtype.itemsize, dtype=torch.uint8)
        raw = raw % 2 if name == "bool" else raw
        out[name] = raw.view(dtype).reshape(2, 2)
    return out


def write():
    OUT.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(every_dtype(), OUT / "every_dtype.safetensors")
    names = {
        "plain": np.arange(6, dtype=np.float32).reshape(2, 3),
        "scalar": np.array(7, np.float32),
        "empty": np.zeros((0, 5), np.float32),
        "quote\" back\\slash \u00e9\u6f22\U0001f600 tab\t nul\0": np.arange(3, dtype=np.uint8),
        "eight axes": np.arange(16, dtype=np.int32).reshape(1, 2, 1, 2, 1, 2, 1, 2),
    }
    safetensors.numpy.save_file(names, OUT / "names.safetensors", metadata={"format": "np"})
    safetensors.numpy.save_file({}, OUT / "none.safetensors")
    f4 = torch.tensor([[0x21, 0x43], [0x65, 0x07]], dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    safetensors.torch.save_file({"f4": f4, "u8": torch.ones(1, dtype=torch.uint8)}, OUT / "sub_byte.safetensors")
    for path in OUT.glob("*.safetensors"):
        path.chmod(0o644)


def read(paths):
    for path in paths:
        with safetensors.safe_open(path, "pt") as f:
            print(path, f.metadata())
            for name in f.keys():
                try:
                    t = f.get_tensor(name)
                    print(f"  {name!r}: {t.dtype} {tuple(t.shape)}")
                except Exception as e:  # what torch itself cannot hold
                    print(f"  {name!r}: {e}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        write()
    elif sys.argv[1:2] == ["read"]:
        read(sys.argv[2:])
    else:
        sys.exit(__doc__)
