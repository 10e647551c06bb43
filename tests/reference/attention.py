#!/usr/bin/env python3
"""What PyTorch makes of twelve small attentions (pip install torch safetensors).

    python3 tests/reference/attention.py     # makes tests/data/attention.safetensors

Every problem is computed by the plain formula in float64. Where PyTorch's own scaled_dot_product_attention can say
the same (no softcap, sinks or biases of its own), the formula is held against it. Tensors of a problem are called
NAME/q and so on; an option that a problem has not got has no tensor. Of the results: `out`, `lse` and `size`,
the sum of p |v|, which with `gain`, the largest sum of absolute terms of a score, makes the bound.
"""
import math
import pathlib

import torch
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parents[1] / "data" / "attention.safetensors"
F64 = torch.float64


def formula(q, k, v, scale, first, window=None, causal=False, keep=None, additive=None, softcap=None, slopes=None, sinks=None):
    """(batch, heads, queries, dim) in float64; `first` is the position of the first query among the keys."""
    group = q.shape[1] // k.shape[1]
    q, k, v = q.to(F64), k.to(F64).repeat_interleave(group, 1), v.to(F64).repeat_interleave(group, 1)
    scores, gain = q @ k.mT * scale, q.abs() @ k.abs().mT * scale
    distance = torch.arange(k.shape[2])[None, :] - first - torch.arange(q.shape[2])[:, None]
    seen = torch.ones_like(scores, dtype=torch.bool)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if slopes is not None:
        bias = slopes.to(F64)[:, None, None] * distance
        scores, gain = scores + bias, gain + bias.abs()
    if additive is not None:
        seen = seen & (additive != -math.inf)
        bias = torch.where(additive == -math.inf, 0.0, additive).to(F64)
        scores, gain = scores + bias, gain + bias.abs()
    if causal or window:
        seen = seen & (distance <= 0)
    if window:
        seen = seen & (distance > -window)
    if keep is not None:
        seen = seen & (keep != 0)
    scores = scores.masked_fill(~seen, -math.inf)
    every = scores if sinks is None else torch.cat((scores, sinks.to(F64)[None, :, None, None].expand(*scores.shape[:3], 1)), -1)
    lse = every.logsumexp(-1)
    p = torch.where(seen.any(-1, keepdim=True), (scores - lse[..., None]).exp(), 0.0)
    gain = gain.masked_fill(~seen, 0.0).amax(-1)
    if softcap is None and sinks is None:
        bias = torch.where(seen, scores - q @ k.mT * scale, -math.inf)
        theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
        rows = seen.any(-1)
        torch.testing.assert_close((p @ v)[rows], theirs[rows], rtol=1e-12, atol=1e-12)
    return {"out": p @ v, "lse": lse, "size": (p @ v.abs()).float(), "gain": gain.float()}


def problem(seed, b, h, kv, lq, lk, d, v_dim, first=None, spread=1.0, **options):
    """Tensors of a problem and of its result. `first` None: the last query stands at the last key."""
    torch.manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape)
    q, k, v = spread * normal(b, h, lq, d), normal(b, kv, lk, d), normal(b, kv, lk, v_dim)
    scale = torch.tensor([1 / math.sqrt(d)], dtype=torch.float32)
    options = {name: make(h, lq, lk) if callable(make) else make for name, make in options.items()}
    first = lk - lq if first is None else first
    tensors = {"q": q, "k": k, "v": v, "scale": scale, **formula(q, k, v, scale.item(), first, **options)}
    pattern = [2, options.pop("window")] if "window" in options else [int(options.pop("causal", False)), 0]
    tensors["pattern"] = torch.tensor([*pattern, first], dtype=torch.int32)
    for name, x in options.items():
        tensors[name] = x if isinstance(x, torch.Tensor) else torch.tensor([x])
    return tensors


def some(h, lq, lk):
    """A mask that keeps three keys of four, and none for the second query."""
    keep = (torch.rand(1, h, lq, lk) < 0.75).to(torch.uint8)
    keep[:, :, 1] = 0
    return keep


def biases(h, lq, lk):
    bias = torch.randn(1, h, lq, lk)
    return bias.masked_fill(bias > 1.2, -math.inf)


PROBLEMS = {
    "heads": problem(1, 2, 3, 3, 5, 70, 16, 16),
    "groups": problem(2, 1, 6, 2, 9, 66, 12, 12, causal=True),
    "causal from the first key": problem(3, 1, 2, 2, 20, 20, 16, 16, first=0, causal=True),
    "causal from the fifth key": problem(4, 1, 2, 1, 17, 90, 8, 8, first=4, causal=True),
    "keep": problem(5, 1, 2, 2, 7, 80, 16, 16, keep=some),
    "additive": problem(6, 1, 2, 1, 6, 75, 16, 16, additive=biases),
    "window": problem(7, 1, 2, 2, 12, 140, 8, 8, window=33),
    "ALiBi": problem(8, 1, 4, 4, 6, 100, 8, 8, causal=True, slopes=lambda h, lq, lk: 2.0 ** -(torch.arange(h) + 1.0)),
    "softcap": problem(9, 1, 2, 1, 5, 70, 16, 16, spread=8.0, causal=True, softcap=5.0),
    "sinks": problem(10, 1, 3, 1, 5, 70, 8, 8, causal=True, sinks=lambda h, lq, lk: torch.linspace(-1, 3, h)),
    "narrow values": problem(11, 1, 2, 2, 6, 67, 24, 5),
    "decode": problem(12, 2, 4, 2, 1, 150, 16, 20, causal=True),
    "everything": problem(
        13, 1, 4, 2, 8, 130, 8, 12, window=100, keep=some, additive=biases, softcap=3.0,
        slopes=lambda h, lq, lk: torch.linspace(0.01, 0.1, h), sinks=lambda h, lq, lk: torch.linspace(-1, 1, h)),
}

if __name__ == "__main__":
    save_file({f"{name}/{part}": x.contiguous() for name, parts in PROBLEMS.items() for part, x in parts.items()}, OUT)
    print(OUT, OUT.stat().st_size, "bytes,", len(PROBLEMS), "problems")
