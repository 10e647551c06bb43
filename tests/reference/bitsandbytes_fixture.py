#!/usr/bin/env python3
"""Makes tests/data/bitsandbytes_*.safetensors: weights that bitsandbytes itself quantised and stored.

    pip install torch bitsandbytes safetensors
    python3 tests/reference/bitsandbytes_fixture.py

Each file holds a weight in NF4 as `Params4bit` puts it into a state dict, and `decoded`: what
`dequantize_4bit` makes of it, in the weight's own type.
"""

import pathlib

import bitsandbytes.functional as bnb
import torch
from safetensors.torch import save_file

DATA = pathlib.Path(__file__).parent.parent / "data"

CASES = [
    ("f32", torch.float32, (12, 20), 64, False),
    ("f16_nested", torch.float16, (40, 32), 32, True),
    ("bf16_nested", torch.bfloat16, (3, 64), 64, True),
]


def main():
    torch.manual_seed(2)
    for name, dtype, shape, blocksize, nested in CASES:
        weight = torch.randn(shape, dtype=torch.float32).to(dtype)
        codes, state = bnb.quantize_4bit(
            weight, blocksize=blocksize, quant_type="nf4", compress_statistics=nested
        )
        tensors = {"layer.weight": codes, "decoded": bnb.dequantize_4bit(codes, state)}
        for key, value in state.as_dict(packed=True).items():
            tensors[f"layer.weight.{key}"] = value
        save_file({key: value.contiguous() for key, value in tensors.items()}, DATA / f"bitsandbytes_{name}.safetensors")


if __name__ == "__main__":
    main()
