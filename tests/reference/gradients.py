#!/usr/bin/env python3
"""Losses and gradients of the tiny decoders, by PyTorch in f64.

    pip install torch transformers safetensors
    python3 tests/reference/gradients.py tests/data/models tests/data/gradients.safetensors

Two sequences, the mean over their targets, some of which are ignored. Parameters have the names that samebits gives
their gradients, whatever the files call them: fused projections are cut, GPT-2's matrices turned.
"""

import pathlib
import re
import sys

import numpy as np
import torch
import transformers as t
from safetensors.torch import save_file

MODELS = ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi3_short", "gpt2"]
LENGTHS = (23, 14)
BLOCK = {
    "self_attn.q_proj": "attention.q", "self_attn.k_proj": "attention.k", "self_attn.v_proj": "attention.v",
    "self_attn.o_proj": "attention.o", "self_attn.q_norm": "attention.q_norm", "self_attn.k_norm": "attention.k_norm",
    "mlp.gate_proj": "network.gate", "mlp.up_proj": "network.up", "mlp.down_proj": "network.down",
    "input_layernorm": "attention_norm", "post_attention_layernorm": "network_norm",
    "attn.c_proj": "attention.o", "mlp.c_fc": "network.up", "mlp.c_proj": "network.down", "ln_1": "attention_norm",
    "ln_2": "network_norm",
}
GEMMA2 = {"post_attention_layernorm": "attention_after", "pre_feedforward_layernorm": "network_norm",
          "post_feedforward_layernorm": "network_after"}
WHOLE = {"model.embed_tokens": "embedding", "model.norm": "norm", "lm_head": "head", "transformer.wte": "embedding",
         "transformer.wpe": "positions", "transformer.ln_f": "norm"}


def named(kind, config, name, g):
    """The gradient under our names: (name, tensor) once or more."""
    stem, last = name.rsplit(".", 1)
    if stem in WHOLE:
        return [(f"{WHOLE[stem]}.{last}", g)]
    i, part = re.fullmatch(r"(?:model\.layers|transformer\.h)\.(\d+)\.(.*)", stem).groups()
    at = f"blocks.{i}."
    if kind == "gpt2" and part.split(".")[0] in ("attn", "mlp") and last == "weight":
        g = g.t()
    cuts = {
        "attn.c_attn": [("attention.q", 20), ("attention.k", 20), ("attention.v", 20)],
        "self_attn.qkv_proj": [("attention.q", 24), ("attention.k", 12), ("attention.v", 12)],
        "mlp.gate_up_proj": [("network.gate", 28), ("network.up", 28)],
    }.get(part)
    if cuts:
        pieces = g.split([n for _, n in cuts])
        return [(f"{at}{to}.{last}", piece) for (to, _), piece in zip(cuts, pieces)]
    table = {**BLOCK, **(GEMMA2 if kind == "gemma2" else {})}
    return [(f"{at}{table[part]}.{last}", g)]


def main():
    models, out = pathlib.Path(sys.argv[1]), {}
    torch.set_num_threads(1)
    for kind in MODELS:
        model = t.AutoModelForCausalLM.from_pretrained(models / kind, attn_implementation="eager").double()
        model.eval()  # no dropout
        rng = np.random.default_rng(5)
        ids = rng.integers(0, 53, sum(LENGTHS))
        targets = np.concatenate([np.append(s[1:], -100) for s in np.split(ids, [LENGTHS[0]])])
        targets[rng.random(len(targets)) < 0.2] = -100
        loss, at = 0, 0
        for n in LENGTHS:
            logits = model(torch.tensor(ids[None, at : at + n])).logits[0]
            loss = loss + torch.nn.functional.cross_entropy(
                logits, torch.tensor(targets[at : at + n]), ignore_index=-100, reduction="sum")
            at += n
        loss = loss / int((targets != -100).sum())
        loss.backward()
        out[f"{kind}/ids"] = torch.tensor(ids, dtype=torch.int32)
        out[f"{kind}/targets"] = torch.tensor(targets, dtype=torch.int32)
        out[f"{kind}/loss"] = loss.detach().float().reshape(1)
        for name, p in model.named_parameters():
            for to, g in named(kind, model.config, name, p.grad):
                out[f"{kind}/gradient/{to}"] = g.float().contiguous()
        print(kind, float(loss))
    save_file(out, sys.argv[2])


main()
