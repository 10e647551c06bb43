#!/usr/bin/env python3
"""Adapters on tables, heads and projections that files keep fused, and LoRA+: what peft and PyTorch make of them.

    pip install torch transformers peft safetensors
    python3 tests/reference/lora_models.py tests/data/models tests/data/lora_models

Every case gets a folder: the adapter as peft saves it, with numbers drawn everywhere; expected.safetensors with `ids`,
`logits` (tokens, vocab) under the adapter and `merged` those after merge_and_unload, all in f32; losses.json with the
loss before each of twenty steps, in f64 (those of lora_training.py). Nothing is dropped.
"""

import json
import pathlib
import shutil
import sys

import numpy as np
import peft
import torch
import transformers as t
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import save_file

STEPS, LENGTHS, RATIO = 20, (23, 14), 16.0
PHI, GPT = ["qkv_proj", "gate_up_proj", "o_proj", "down_proj"], ["c_attn", "c_proj", "c_fc"]
CASES = {  # name: (model, settings)
    "table": ("llama_linear", dict(target_modules=["embed_tokens", "lm_head", "q_proj", "down_proj"])),
    "tied_table": ("gemma2", dict(target_modules=["embed_tokens", "v_proj"])),
    "tied_head": ("qwen3", dict(target_modules=["lm_head", "up_proj"])),
    "phi3": ("phi3_short", dict(target_modules=PHI)),
    "phi3_dora": ("phi3_short", dict(target_modules=PHI, use_dora=True)),
    "gpt2": ("gpt2", dict(target_modules=GPT + ["wte"], fan_in_fan_out=True)),
    "gpt2_dora": ("gpt2", dict(target_modules=GPT, fan_in_fan_out=True, use_dora=True)),
    "patterns": ("llama", dict(target_modules="all-linear", rank_pattern={"q_proj": 5, "layers.1.mlp.up_proj": 2},
                               alpha_pattern={"k_proj": 9})),
    "plus": ("llama", dict(target_modules="all-linear")),
    "plus_dora": ("llama", dict(target_modules="all-linear", use_dora=True)),
}


def opened(models, name):
    return t.AutoModelForCausalLM.from_pretrained(models / name, attn_implementation="eager").eval()


def logits(model, ids):
    with torch.no_grad():
        return model(ids[None]).logits[0].contiguous()


def losses(model, name):
    """Twenty steps of AdamW; under LoRA+ the rates are peft's."""
    model = model.double().eval()
    if name.startswith("plus"):
        optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=2e-3, loraplus_lr_ratio=RATIO,
                                              loraplus_weight_decay=0.0, weight_decay=0.0)
    else:
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    rng, all_losses, all_ids = np.random.default_rng(9), [], []
    for _ in range(STEPS):
        step = [rng.integers(0, 53, n) for n in LENGTHS]
        all_ids.append([int(i) for s in step for i in s])
        loss = sum(torch.nn.functional.cross_entropy(model(torch.tensor(s[None])).logits[0, :-1],
                                                     torch.tensor(s[1:]), reduction="sum") for s in step)
        loss = loss / (sum(LENGTHS) - len(LENGTHS))
        all_losses.append(float(loss))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {"ids": all_ids, "losses": all_losses}


def main():
    models, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    torch.set_num_threads(1)
    for name, (base, settings) in CASES.items():
        torch.manual_seed(3)
        config = peft.LoraConfig(r=3, lora_alpha=5, task_type="CAUSAL_LM", **settings)
        model = peft.get_peft_model(opened(models, base), config)
        with torch.no_grad():
            for key, p in model.named_parameters():
                if "lora_B" in key or "lora_embedding" in key:
                    p.copy_(0.1 * torch.randn(p.shape))
                elif "magnitude" in key:
                    p.mul_(1 + 0.2 * torch.randn(p.shape))
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
        text = (folder / "adapter_config.json").read_text()
        (folder / "adapter_config.json").write_text(text.replace(str(models / base), base))
        ids = torch.randint(0, 53, (37,))
        expected = {"ids": ids.to(torch.int32), "logits": logits(model, ids)}
        merged = peft.PeftModel.from_pretrained(opened(models, base), folder).merge_and_unload(safe_merge=True)
        expected["merged"] = logits(merged, ids)
        save_file(expected, folder / "expected.safetensors")
        record = losses(model, name)
        (folder / "losses.json").write_text(json.dumps({"base": base, **record}) + "\n")
        print(name, record["losses"][0], record["losses"][-1],
              float((expected["logits"] - expected["merged"]).abs().max()))


main()
