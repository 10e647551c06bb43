"""Writes tests/data/nf4_bitsandbytes.txt: what bitsandbytes makes of small tensors.

    pip install bitsandbytes==0.50.2 torch
    python tests/reference/nf4_bitsandbytes.py > tests/data/nf4_bitsandbytes.txt

One line a value: `case.field hex hex …`, each word the bits of an element (u8, u16 or u32).
"""

import sys

import bitsandbytes as bnb
import bitsandbytes.functional as F
import torch

BITS = {torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16, torch.uint8: torch.uint8}


def put(name, t):
    width = 2 * t.element_size()
    bits = t.detach().contiguous().reshape(-1).view(BITS[t.dtype]).tolist()
    print(name, " ".join(f"{b & (1 << 4 * width) - 1:0{width}x}" for b in bits))


def case(name, x, blocksize):
    codes, state = F.quantize_4bit(x, blocksize=blocksize, quant_type="nf4")
    put(f"{name}.x", x)
    print(f"{name}.blocksize {blocksize:08x}")
    put(f"{name}.codes", codes)
    put(f"{name}.absmax", state.absmax)
    put(f"{name}.decoded", F.dequantize_4bit(codes, state))


def nested(name, n):
    x = torch.randn(n * 64, generator=rng) * (0.5 + torch.rand(n, generator=rng)).repeat_interleave(64)
    _, plain = F.quantize_4bit(x, blocksize=64, quant_type="nf4")
    _, state = F.quantize_4bit(x, blocksize=64, quant_type="nf4", compress_statistics=True)
    put(f"{name}.absmax", plain.absmax)
    put(f"{name}.codes", state.absmax)
    put(f"{name}.absmax2", state.state2.absmax)
    put(f"{name}.offset", state.offset.reshape(1))
    decoded = F.dequantize_blockwise(state.absmax, state.state2)
    decoded += state.offset
    put(f"{name}.decoded", decoded)


assert bnb.__version__ == "0.50.2", bnb.__version__
rng = torch.Generator().manual_seed(20230523)
normal = lambda n: torch.randn(n, generator=rng)

put("table.levels", F.get_4bit_type("nf4", device="cpu"))
put("table.map", F.create_dynamic_map())
case("whole", normal(512), 64)
case("ragged", normal(300), 32)
case("odd", normal(77), 32)
case("long", normal(4100), 4096)
case("f16", normal(256).half(), 64)
case("bf16", normal(256).bfloat16(), 64)
case("zeros", torch.cat([torch.zeros(64), normal(64), -torch.zeros(64)]), 64)
case("scales", (normal(16 * 64).view(16, 64) * torch.logspace(-37, 37, 16)[:, None]).reshape(-1), 64)
nested("nested", 600)
print("written with torch", torch.__version__, file=sys.stderr)
