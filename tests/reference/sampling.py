#!/usr/bin/env python3
"""What transformers' processors keep of logits, and with what probabilities (pip install transformers torch).

    python3 tests/reference/sampling.py        # makes tests/data/sampling.json

Logits are float32, given by their bits; the context holds repetitions. No two logits are equal, and no cut falls
where the rounding of a float32 sum would decide.
"""
import json
import pathlib

import numpy as np
import torch
from transformers import LogitsProcessorList
from transformers.generation import logits_process as lp

OUT = pathlib.Path(__file__).resolve().parents[1] / "data" / "sampling.json"
STAGES = {
    "temperature": lp.TemperatureLogitsWarper, "top_k": lp.TopKLogitsWarper, "top_p": lp.TopPLogitsWarper,
    "min_p": lp.MinPLogitsWarper, "typical": lp.TypicalLogitsWarper, "repetition": lp.RepetitionPenaltyLogitsProcessor,
}
CHAINS = [
    [("temperature", 0.7)], [("temperature", 1.9)], [("top_k", 1)], [("top_k", 7)], [("top_k", 1000)],
    [("top_p", 0.1)], [("top_p", 0.5)], [("top_p", 0.95)], [("min_p", 0.02)], [("min_p", 0.3)], [("min_p", 1.0)],
    [("typical", 0.2)], [("typical", 0.6)], [("typical", 0.95)], [("repetition", 1.3)], [("repetition", 0.8)],
    [("temperature", 0.8), ("top_k", 12), ("top_p", 0.8)],
    [("repetition", 1.2), ("temperature", 1.4), ("top_k", 20), ("top_p", 0.9), ("min_p", 0.05), ("typical", 0.9)],
    [("top_k", 20), ("typical", 0.9), ("top_p", 0.95), ("min_p", 0.05), ("temperature", 0.8)],
]

if __name__ == "__main__":
    rng = np.random.default_rng(5)
    lines = []
    for n, spread in [(40, 1.0), (40, 3.0), (90, 2.0)]:
        logits = (rng.standard_normal(n) * spread).astype(np.float32)
        context = rng.integers(0, n, 12).tolist() + [3, 3]
        for chain in CHAINS:
            stages = LogitsProcessorList(STAGES[name](value) for name, value in chain)
            scores = stages(torch.tensor([context]), torch.tensor(logits)[None])[0].double()
            p = scores.softmax(-1)
            kept = [i for i in torch.argsort(p, descending=True).tolist() if torch.isfinite(scores[i])]
            lines.append(json.dumps({
                "stages": [[name, value] for name, value in chain], "context": context, "kept": kept,
                "logits": " ".join(f"{int(x):08x}" for x in logits.view(np.uint32)),
                "probabilities": [round(float(p[i]), 9) for i in kept],
            }))
    OUT.write_text("[\n" + ",\n".join(lines) + "\n]\n")
