#!/usr/bin/env python3
"""Whole models in NF4, both ways: a folder that transformers saved with bitsandbytes opens in samebits, and one of
`samebits quantize` in transformers; either way both compute the same perplexity, and decode to the same bits.

    pip install torch transformers bitsandbytes safetensors
    python3 tests/reference/check_bnb_folder.py target/release/samebits tests/data/models/llama
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import torch
import transformers as t

TEXT = " ".join(f"w{(i * i * 5 + i * 3) % 50}" for i in range(200))


def theirs(folder):
    """Perplexity of the text by transformers, every token but the first foretold once."""
    model = t.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    tokenizer = t.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    # With gradients: without them bitsandbytes takes a kernel for the CPU that wants rows in multiples of 32.
    logits = model(ids).logits[0, :-1].detach()
    return float(torch.nn.functional.cross_entropy(logits, ids[0, 1:]).exp()), model


def ours(binary, folder, text):
    out = subprocess.run([binary, "perplexity", "--model", folder, "--text", text, "--json"], check=True, capture_output=True)
    return json.loads(out.stdout)["perplexity"]


def main():
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} SAMEBITS MODEL")
    binary, source = sys.argv[1], pathlib.Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        text = folder / "text.txt"
        text.write_text(TEXT)
        for nested in (False, True):
            config = t.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=nested,
                                          bnb_4bit_compute_dtype=torch.float32)
            model = t.AutoModelForCausalLM.from_pretrained(source, quantization_config=config, dtype=torch.float32)
            saved, made = folder / f"theirs-{nested}", folder / f"ours-{nested}"
            model.save_pretrained(saved)
            shutil.copy(source / "tokenizer.json", saved)
            subprocess.run([binary, "quantize", source, made, "--nf4", *(["--double-quant"] if nested else [])],
                           check=True, capture_output=True)
            for what, path in (("saved by transformers", saved), ("of samebits quantize", made)):
                a, b = theirs(path)[0], ours(binary, path, text)
                assert abs(a - b) <= 1e-4 * a, f"{what}, nested {nested}: {a} there, {b} here"
                print(f"{what}, nested {nested}: perplexity {a:.5f} in transformers, {b:.5f} here")


main()
