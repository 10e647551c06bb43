#!/usr/bin/env python3
"""Twenty steps of LoRA, rsLoRA, DoRA, IA3 and prefix tuning on a tiny Llama, by peft and PyTorch in f64: the loss before each.

    pip install torch transformers peft safetensors
    python3 tests/reference/lora_training.py tests/data/models tests/data/lora_training

Every method gets a folder: the adapter as peft begins it, and losses.json; learned/ in it: the adapter after the steps, and
logits.safetensors, what the model says with it to the first batch. The steps are those of training.py, without clipping, at
a constant rate; nothing is dropped. A prefix that is projected begins with the numbers in projection.safetensors.
"""

import json
import pathlib
import shutil
import sys

import numpy as np
import peft
import safetensors.torch
import torch
import transformers as t

STEPS, LENGTHS = 20, (23, 14)
LORA = dict(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
METHODS = {
    "lora": peft.LoraConfig(**LORA),
    "rslora": peft.LoraConfig(use_rslora=True, **LORA),
    "dora": peft.LoraConfig(use_dora=True, **LORA),
    "ia3": peft.IA3Config(task_type="CAUSAL_LM"),
    "prefix": peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5),
    "projected": peft.PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=5, prefix_projection=True, encoder_hidden_size=7),
}


def save(model, folder, models):
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    text = (folder / "adapter_config.json").read_text()
    (folder / "adapter_config.json").write_text(text.replace(str(models / "llama"), "llama"))


def main():
    models, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    torch.set_num_threads(1)
    for method, config in METHODS.items():
        torch.manual_seed(3)
        base = t.AutoModelForCausalLM.from_pretrained(models / "llama", attn_implementation="eager")
        model = peft.get_peft_model(base, config)
        folder = out / method
        shutil.rmtree(folder, ignore_errors=True)
        save(model, folder, models)
        if method == "projected":
            encoder = model.prompt_encoder["default"].state_dict()
            safetensors.torch.save_file(encoder, folder / "projection.safetensors")
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
        first = torch.tensor([ids[0][: LENGTHS[0]]])
        logits = model(first).logits[0].detach()
        save(model.float(), folder / "learned", models)
        safetensors.torch.save_file({"logits": logits.float()}, folder / "learned" / "logits.safetensors")
        print(method, losses[0], losses[-1])


main()
