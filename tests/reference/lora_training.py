#!/usr/bin/env python3
"""Twenty steps of LoRA, rsLoRA and DoRA on a tiny Llama, by peft and PyTorch in f64: the loss before each step.

    pip install torch transformers peft safetensors
    python3 tests/reference/lora_training.py tests/data/models tests/data/lora_training

Every method gets a folder: the adapter as peft begins it, and losses.json. The steps are those of training.py, without
clipping, at a constant rate; nothing is dropped.
"""

import json
import pathlib
import shutil
import sys

import numpy as np
import peft
import torch
import transformers as t

STEPS, LENGTHS = 20, (23, 14)
METHODS = {"lora": {}, "rslora": {"use_rslora": True}, "dora": {"use_dora": True}}


def main():
    models, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    torch.set_num_threads(1)
    for method, more in METHODS.items():
        torch.manual_seed(3)
        base = t.AutoModelForCausalLM.from_pretrained(models / "llama", attn_implementation="eager")
        config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", **more)
        model = peft.get_peft_model(base, config)
        folder = out / method
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
        text = (folder / "adapter_config.json").read_text()
        (folder / "adapter_config.json").write_text(text.replace(str(models / "llama"), "llama"))
        model = model.double().eval()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
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
            optimizer.step()
        (folder / "losses.json").write_text(json.dumps({"llama": {"ids": ids, "losses": losses}}) + "\n")
        print(method, losses[0], losses[-1])


main()
