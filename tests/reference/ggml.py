#!/usr/bin/env python3
"""Blocks of every format and what they decode to, by the Python package `gguf` (pip install gguf numpy).

    python3 tests/reference/ggml.py    # makes tests/data/ggml/*.bin with gguf 0.19.0

FORMAT.bin holds blocks drawn at random: scales that are zero, negative, subnormal, the largest half, infinite; the
rest all bit patterns. FORMAT.f32 holds the floats that gguf.quants.dequantize makes of them; the package has no
decoder for Q8_K. q8_0.quantized and q4_0.quantized hold what gguf.quants.quantize makes of floats.f32.
"""
import pathlib

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T

OUT = pathlib.Path(__file__).resolve().parents[1] / "data" / "ggml"
# Where a block's halves stand.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "IQ4_NL": [0], "Q2_K": [80, 82],
          "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
EXTREMES = np.array([0x0000, 0x8000, 0x0001, 0x83ff, 0x7bff, 0xfbff, 0x7c00, 0x3c00, 0x0400], np.uint16)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    for name, places in HALVES.items():
        length, size = GGML_QUANT_SIZES[T[name]]
        count = 40 if length == 32 else 12
        blocks = rng.integers(0, 256, (count, size), np.uint8)
        for at in places:
            # Ordinary scales, and the extremes one after the other.
            halves = rng.standard_normal(count).astype(np.float16).view(np.uint16)
            halves[: len(EXTREMES)] = np.roll(EXTREMES, at // 2)
            blocks[:, at : at + 2] = halves.view(np.uint8).reshape(count, 2)
        with np.errstate(all="ignore"):
            floats = gguf.quants.dequantize(blocks.reshape(-1), T[name])
        blocks.tofile(OUT / f"{name.lower()}.bin")
        floats.astype("<f4").tofile(OUT / f"{name.lower()}.f32")

    x = rng.standard_normal((64, 32)).astype(np.float32)
    x[0] = 0
    x[1] *= 1e-6
    x[2] *= 1e4
    x[3] = np.arange(32) - 15.5
    x[3, 0] = 127  # halves: to be rounded away from zero
    x[4] = np.where(np.arange(32) % 2 == 0, -1, 1)  # the first of equal magnitudes decides
    x[5] = -x[4]
    x[6] = -0.0
    x[7, 5] = 100
    x.tofile(OUT / "floats.f32")
    for name in ("Q8_0", "Q4_0"):
        gguf.quants.quantize(x, T[name]).tofile(OUT / f"{name.lower()}.quantized")


if __name__ == "__main__":
    main()
