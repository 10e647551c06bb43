#!/usr/bin/env python3
"""Twenty steps of bottleneck adapters on a tiny Llama and a tiny GPT-2, by the `adapters` package and PyTorch in f64.

    python3 -m venv --system-site-packages ENV && ENV/bin/pip install adapters      # it needs an older transformers
    ENV/bin/python tests/reference/bottleneck_training.py tests/data/models tests/data/bottleneck_training

Every kind gets a folder: the adapter as the package saves it, drawn, so that no part of it is zero; losses.json, the loss
before each step; logits.safetensors, what the adapted model says to the first batch. The steps are those of lora_training.py.
"""

import json
import pathlib
import shutil
import sys

import adapters
import numpy as np
import safetensors.torch
import torch
import transformers as t

STEPS, LENGTHS = 20, (23, 14)
KINDS = {
    "houlsby": ("llama", adapters.DoubleSeqBnConfig(reduction_factor=4)),
    "pfeiffer": ("llama", adapters.SeqBnConfig(reduction_factor=3)),
    "parallel": ("llama", adapters.ParBnConfig()),
    "gpt2": ("gpt2", adapters.SeqBnConfig(reduction_factor=5, non_linearity="gelu_new", leave_out=[0], mh_adapter=True)),
}


def main():
    models, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    torch.set_num_threads(1)
    for kind, (name, config) in KINDS.items():
        torch.manual_seed(3)
        model = t.AutoModelForCausalLM.from_pretrained(models / name, attn_implementation="eager")
        adapters.init(model)
        model.add_adapter("ours", config=config)
        model.train_adapter("ours")
        trained = [p for p in model.parameters() if p.requires_grad]
        with torch.no_grad():
            for p in trained:
                p.add_(0.1 * torch.randn_like(p))
        folder = out / kind
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        model.save_adapter(str(folder), "ours", with_head=False, use_safetensors=True)
        path = folder / "adapter_config.json"
        path.write_text(path.read_text().replace(str(models / name), name))
        model = model.double().eval()
        optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0)
        rng, losses, ids, logits = np.random.default_rng(9), [], [], None
        for _ in range(STEPS):
            step = [rng.integers(0, 53, n) for n in LENGTHS]
            ids.append([int(i) for s in step for i in s])
            said = [model(torch.tensor(s[None])).logits[0] for s in step]
            logits = torch.cat(said).detach() if logits is None else logits
            loss = sum(torch.nn.functional.cross_entropy(y[:-1], torch.tensor(s[1:]), reduction="sum")
                       for y, s in zip(said, step))
            loss = loss / (sum(LENGTHS) - len(LENGTHS))
            losses.append(float(loss))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        (folder / "losses.json").write_text(json.dumps({"model": name, "ids": ids, "losses": losses}) + "\n")
        safetensors.torch.save_file({"logits": logits.float()}, folder / "logits.safetensors")
        print(kind, losses[0], losses[-1])


main()
