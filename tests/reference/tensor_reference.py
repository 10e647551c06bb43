#!/usr/bin/env python3
"""What NumPy 2.4 prints and computes, for tests/tensor (pip install numpy torch safetensors).

    python3 tests/reference/tensor_reference.py     # makes tests/data/tensor/*

display.safetensors holds arrays, display.json what `str` of each is. ops.safetensors holds arrays of small
integers, for which every order of summation gives the same result, and what NumPy and PyTorch make of them;
the names of results are the calls.
"""
import json
import pathlib

import numpy as np
import torch
from safetensors.numpy import save_file

OUT = pathlib.Path(__file__).resolve().parents[1] / "data" / "tensor"


def display():
    rng = np.random.default_rng(2)
    f4 = lambda *x: np.array(x, np.float32)
    half = rng.integers(0, 1 << 16, 60).astype(np.uint16).view(np.float16)
    bits = rng.integers(0, 1 << 32, 60).astype(np.uint32).view(np.float32)
    return {
        "scalar": np.array(7.5, np.float32), "scalar int": np.array(-7, np.int32), "scalar third": np.array(1 / 3, np.float32),
        "scalar one": np.array(1, np.float32), "scalar small": np.array(1e-5, np.float32), "scalar edge": np.array(1e-4, np.float32),
        "scalar large": np.array(1e16, np.float32), "scalar below": np.array(123456789, np.float32),
        "scalar half": np.array(0.1, np.float16), "scalar nan": np.array(np.nan, np.float32), "scalar zero": np.array(-0.0, np.float32),
        "empty": np.zeros((0, 5), np.float32), "one": f4(1), "ones": np.ones((2, 3), np.float32),
        "thirds": np.arange(6, dtype=np.float32).reshape(2, 3) / 3, "negative": -np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
        "mixed": f4(1.5, -22.25, 333.125, 0.0), "zeros": f4(0, -0.0), "ratio 1000": f4(1, 1000), "ratio 1001": f4(1, 1001),
        "below 1e-4": f4(0.00009, 0.05), "at 1e-4": f4(0.0001, 0.05), "cut": f4(0.00012345678, 0.1, 0.12345678),
        "999999": f4(999999, 1000), "1e6": f4(1e6, 1000.5), "1e10": f4(1e10), "large": f4(1e38, -1e-38, 1.17549435e-38, 1e-45),
        "nan": f4(1, np.nan), "nan only": f4(np.nan, np.nan), "inf": f4(np.inf, 1.25, -np.inf), "-inf only": f4(-np.inf, np.inf),
        "inf exp": f4(np.inf, 1e-10, -np.inf, np.nan), "nan wide": f4(np.nan, 123456.0),
        "bits": bits.reshape(6, 10), "normal": rng.standard_normal((3, 20)).astype(np.float32),
        "uniform": rng.random(40).astype(np.float32), "half": half.reshape(10, 6), "half normal": rng.standard_normal((4, 5)).astype(np.float16),
        "half 999": np.array([999, 1], np.float16), "half 1000": np.array([1000, 1], np.float16), "half small": np.array([1e-4, 0.0999], np.float16),
        "half ratio": np.array([0.001, 1.0], np.float16),
        "i32": np.array([[1, -20, 300], [4, 5, 2147483647]], np.int32), "u8": np.arange(60, dtype=np.uint8).reshape(3, 20),
        "u8 wraps": np.arange(200, 256, dtype=np.uint8), "deep": np.arange(24, dtype=np.int32).reshape(2, 1, 3, 2, 2),
        "1000": np.arange(1000, dtype=np.int32), "1001": np.arange(1001, dtype=np.int32), "1001 floats": np.arange(1001, dtype=np.float32),
        "summary": (np.arange(1200, dtype=np.int32) % 256).astype(np.uint8).reshape(2, 3, 8, 5, 5),
        "summary wide": (np.arange(1008) % 250).astype(np.uint8).reshape(6, 168), "summary tall": (np.arange(1008) % 250).astype(np.uint8).reshape(168, 6),
        "summary 3d": (np.arange(1008) % 250).astype(np.uint8).reshape(7, 9, 16),
        "powers of two": np.array([260046848, 1795162112, 1820327936], np.uint32).view(np.float32),
        "power of two": np.array([260046848], np.uint32).view(np.float32), "tie": f4(1 / 512, 3 / 512, 5 / 512, 1),
        "half 2^-6": np.array([0.015625, -0.015625], np.float16), "scalar 2^-6": np.array(0.015625, np.float16),
    }


def ops():
    rng = np.random.default_rng(3)
    ints = lambda *shape: rng.integers(-9, 10, shape).astype(np.float32)
    x, y, row, col = ints(2, 3, 4), ints(2, 3, 4), ints(4), ints(3, 1)
    y[y == 0] = 8
    out = {"x": x, "y": y, "row": row, "col": col}
    out |= {"x + y": x + y, "x - row": x - row, "x * col": x * col, "x / y": x / y, "col - row": col - row}
    for axes in [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2), ()]:
        name = ",".join(map(str, axes))
        out[f"sum {name}"] = x.sum(axes)
        out[f"max {name}"] = x.max(axes)
        out[f"min {name}"] = x.min(axes, keepdims=True)
        out[f"mean {name}"] = x.sum(axes, dtype=np.float64, keepdims=True).astype(np.float64)
        out[f"mean {name}"] = (out[f"mean {name}"] / np.prod([x.shape[a] for a in axes])).astype(np.float32)
    for axis in range(3):
        out[f"argmax {axis}"] = x.argmax(axis).astype(np.int32)
        out[f"argmin {axis}"] = x.argmin(axis).astype(np.int32)
        out[f"concat {axis}"] = np.concatenate([x, y], axis)
        out[f"stack {axis}"] = np.stack([x, y], axis)
        out[f"take {axis}"] = np.take(x, [1, 0, 1], axis)
        index = rng.integers(0, x.shape[axis], (2, 2, 4)).astype(np.int64)
        out[f"index {axis}"] = index.astype(np.int32)
        out[f"gather {axis}"] = torch.gather(torch.from_numpy(x), axis, torch.from_numpy(index)).numpy()
    a, b = ints(3, 1, 4, 5), ints(2, 5, 6)
    out |= {"a": a, "b": b, "a @ b": a @ b, "a[0,0] @ b": a[0, 0] @ b, "a @ b[0]": a @ b[0], "a @ v": a @ b[0, :, 0],
            "v @ b": a[0, 0, 0] @ b, "v @ v": np.array(a[0, 0, 0] @ b[0, :, 0])}
    return {name: np.asarray(v, order="C") for name, v in out.items()}


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    arrays = display()
    save_file(arrays, OUT / "display.safetensors")
    (OUT / "display.json").write_text(json.dumps({name: str(a) for name, a in arrays.items()}, indent=0) + "\n")
    save_file(ops(), OUT / "ops.safetensors")
    for path in OUT.iterdir():
        path.chmod(0o644)
