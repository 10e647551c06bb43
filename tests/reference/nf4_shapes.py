#!/usr/bin/env python3
"""Writes tests/data/nf4_shapes.json: what bitsandbytes makes of tensors of twenty shapes, as hashes.

    pip install bitsandbytes==0.50.2 torch
    python3 tests/reference/nf4_shapes.py tests/data/nf4_shapes.json

The numbers are drawn by a hash that tests/nf4_shapes.rs has too, so that none has to be stored; every seventh block of 32
is zero. Hashes are FNV-1a over bytes. For each shape: `codes` and `absmax` of quantize_4bit; with compress_statistics
`offset` (its bits), `nested_absmax`, and `nested`: the codes by bitsandbytes' own definition, the nearest entry of
create_dynamic_map for (absmax - offset) / nested_absmax, the lower one of two that are as near.

Where its code for the CPU does not follow its definition, the definition counts, and how many differ is stored:
  * the last block of a tensor, where it is not whole, is divided by its absmax; all others (and all on a GPU) are
    multiplied with the reciprocal: `ragged_codes` of the codes differ, and `codes` is that of the multiplication;
  * where that block is zero its absmax is 1e-38, and not 0 as that of every other block of zeros: `tiny` of them;
  * nested codes come from a table of 65,536 bins and not from comparing: `binned` of them differ;
  * where all 256 are the offset, 0 is divided by 0 and the code is 0: by definition it is that of 0. Both decode alike.
"""

import json
import sys

import bitsandbytes as bnb
import bitsandbytes.functional as F
import numpy as np
import torch

SHAPES = [  # (shape, blocksize)
    ((1, 1), 32), ((1, 31), 32), ((3, 33), 32), ((7, 9), 64), ((16, 64), 64), ((13, 77), 64), ((5, 129), 128),
    ((31, 31), 128), ((64, 48), 256), ((11, 101), 256), ((9, 513), 512), ((40, 40), 512), ((17, 255), 1024),
    ((33, 97), 1024), ((64, 96), 2048), ((3, 2049), 2048), ((8, 4096), 4096), ((1, 8191), 4096), ((300, 257), 32),
    ((256, 512), 64),
]


def drawn(n):
    """A number of each place: 24 bits of a hash, scaled by a power of two for each 32 places; zero in every seventh."""
    i = np.arange(n, dtype=np.uint64)
    h = (i * np.uint64(0x9E3779B97F4A7C15)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    h ^= h >> np.uint64(29)
    h = (h * np.uint64(0xBF58476D1CE4E5B9)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    h ^= h >> np.uint64(32)
    block = i // np.uint64(32)
    x = ((h & np.uint64(0xFFFFFF)).astype(np.float64) / 2.0**24 - 0.5) * 2.0 ** ((block % np.uint64(5)).astype(np.float64) - 2)
    x[(block % np.uint64(7)) == 3] = 0.0
    return torch.from_numpy(x.astype(np.float32))


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in bytes(data):
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def raw(t):
    return t.detach().contiguous().reshape(-1).numpy().tobytes()


def by_definition(x, absmax, blocksize):
    """Codes with the reciprocal everywhere: x * (1 / absmax), the number of thresholds that it exceeds."""
    levels = F.get_4bit_type("nf4", device="cpu")
    thresholds = ((levels[1:].double() + levels[:-1].double()) / 2).float()
    scales = torch.where(absmax > 0, 1.0 / absmax, torch.zeros(())).repeat_interleave(blocksize)[: x.numel()]
    codes = (((x * scales)[:, None]) > thresholds[None]).sum(1).to(torch.uint8)
    if x.numel() % 2:
        codes = torch.cat([codes, torch.tensor([7], dtype=torch.uint8)])
    return codes[0::2] << 4 | codes[1::2]


def nested(absmax, offset, a2):
    """The nearest entry of the map, the lower of two."""
    table = F.create_dynamic_map().float()
    middle = (table[1:] + table[:-1]) / 2
    scale = torch.where(a2 > 0, 1 / a2, torch.zeros(())).repeat_interleave(256)[: absmax.numel()]
    r = (absmax - offset) * scale
    return (r[:, None] > middle[None]).sum(1).to(torch.uint8)


def main():
    assert bnb.__version__ == "0.50.2", bnb.__version__
    all_cases = []
    for shape, blocksize in SHAPES:
        x = drawn(shape[0] * shape[1])
        codes, state = F.quantize_4bit(x.reshape(shape), blocksize=blocksize, quant_type="nf4")
        tiny = (state.absmax > 0) & (state.absmax <= 1e-38)
        state.absmax[tiny] = 0.0
        ours = by_definition(x, state.absmax, blocksize)
        _, double = F.quantize_4bit(x.reshape(shape), blocksize=blocksize, quant_type="nf4", compress_statistics=True)
        offset, a2 = double.offset.reshape(()), double.state2.absmax
        definition = nested(state.absmax, offset, a2)
        all_cases.append({
            "shape": shape, "blocksize": blocksize,
            "codes": fnv(raw(ours)), "absmax": fnv(raw(state.absmax)),
            "tiny": int(tiny.sum()), "ragged_codes": int((ours != codes.reshape(-1)).sum()),
            "offset": f"{offset.view(torch.int32).item() & 0xFFFFFFFF:08x}",
            "nested_absmax": fnv(raw(a2)), "nested": fnv(raw(definition)),
            "binned": int(((definition != double.absmax.reshape(-1)) & (a2 > 0).repeat_interleave(256)[: definition.numel()]).sum()),
        })
        print(all_cases[-1])
    with open(sys.argv[1], "w") as out:
        json.dump(all_cases, out, indent=0)
        out.write("\n")


main()
