#!/usr/bin/env python3
"""Twenty steps of training of tiny decoders, by PyTorch in f64: the loss before each step.

    pip install torch transformers safetensors
    python3 tests/reference/training.py tests/data/models tests/data/training.json

Every step has two sequences of drawn tokens; AdamW with weight decay, gradients clipped, warm-up and linear decay.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import transformers as t

STEPS, LENGTHS = 20, (23, 14)


def main():
    models, out = pathlib.Path(sys.argv[1]), {}
    torch.set_num_threads(1)
    for kind in ["llama", "qwen3", "gpt2"]:
        model = t.AutoModelForCausalLM.from_pretrained(models / kind, attn_implementation="eager").double()
        model.eval()  # no dropout
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.1)
        schedule = t.get_linear_schedule_with_warmup(optimizer, 4, STEPS)
        rng, losses, ids = np.random.default_rng(9), [], []
        for _ in range(STEPS):
            step = [rng.integers(0, 53, n) for n in LENGTHS]
            ids.append([int(i) for s in step for i in s])
            loss = sum(torch.nn.functional.cross_entropy(model(torch.tensor(s[None])).logits[0, :-1],
                                                         torch.tensor(s[1:]), reduction="sum") for s in step)
            loss = loss / (sum(LENGTHS) - len(LENGTHS))
            losses.append(float(loss))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        out[kind] = {"ids": ids, "losses": losses}
    pathlib.Path(sys.argv[2]).write_text(json.dumps(out) + "\n")


main()
