#!/usr/bin/env python3
"""Reads a file of `samebits quantize` with bitsandbytes itself and compares every bit.

    pip install torch bitsandbytes safetensors
    samebits quantize IN.safetensors OUT.safetensors --nf4 [--double-quant]
    python3 tests/reference/check_bitsandbytes.py IN.safetensors OUT.safetensors

For each weight in NF4:
  1. `QuantState.from_dict` and `dequantize_4bit` give, bit for bit, what the format's definition gives:
     level x absmax, each operation rounded once, nested absmax as round(round(map x a2) + offset);
  2. bitsandbytes' own `quantize_4bit` of the original gives the same codes and absmax. A code may differ
     where bitsandbytes divides by absmax (its last, ragged block): such are counted.
Tensors that are not in NF4 must be those of IN.
"""

import sys

import bitsandbytes.functional as bnb
import torch
from safetensors import safe_open

STATE = ".quant_state.bitsandbytes__nf4"


def load(path):
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def decode(codes, state, absmax):
    """The definition, in single precision, without bitsandbytes."""
    pairs = torch.stack([codes.flatten() >> 4, codes.flatten() & 15], dim=1).flatten()
    n = state.shape.numel()
    levels = state.code[pairs[:n].long()]
    scales = absmax.repeat_interleave(state.blocksize)[:n]
    return (levels * scales).reshape(state.shape).to(state.dtype)


def decode_absmax(state):
    if not state.nested:
        return state.absmax
    a2 = state.state2.absmax.repeat_interleave(state.state2.blocksize)[: state.absmax.numel()]
    return state.state2.code[state.absmax.long()] * a2 + state.offset


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(
        a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8)
    )


def main():
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} IN.safetensors OUT.safetensors")
    original, quantised = load(sys.argv[1]), load(sys.argv[2])
    weights = [name.removesuffix(STATE) for name in quantised if name.endswith(STATE)]
    other_codes, seen = 0, set()
    for name in weights:
        parts = {key: value for key, value in quantised.items() if key.startswith(name + ".")}
        seen.update(parts, [name])
        state = bnb.QuantState.from_dict(
            {key.removeprefix(name + "."): value for key, value in parts.items()}, torch.device("cpu")
        )
        codes = quantised[name]
        absmax = decode_absmax(state)
        theirs = bnb.dequantize_4bit(codes, state)
        assert same(theirs, decode(codes, state, absmax)), f"{name}: decodes to other bits"
        their_codes, their_state = bnb.quantize_4bit(
            original[name], blocksize=state.blocksize, quant_type="nf4", compress_statistics=False
        )
        if not state.nested:
            assert same(their_state.absmax, state.absmax), f"{name}: other absmax"
        other_codes += int((their_codes.flatten() != codes.flatten()).sum())
    copied = set(quantised) - seen
    for name in copied:
        assert same(original[name], quantised[name]), f"{name}: copied wrongly"
    assert copied | set(weights) == set(original), "a tensor is missing"
    print(
        f"{len(weights)} weights decode to the same bits in bitsandbytes; {other_codes} of its code bytes "
        f"differ from ours; {len(copied)} tensors are copies"
    )


if __name__ == "__main__":
    main()
