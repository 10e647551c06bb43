"""Loads a folder that `samebits train` wrote in transformers, and compares tokens and logits.

    python3 tests/reference/check_train.py        # runs `cargo test --release --test train written_for_transformers`

Needs torch, transformers, safetensors.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parents[2]
TEXT = "Tom had a ball. Sam has it now."
with tempfile.TemporaryDirectory() as out:
    folder = Path(out) / "model"
    test = ["cargo", "test", "--release", "--test", "train", "written_for_transformers"]
    subprocess.run(test, cwd=ROOT, env={**os.environ, "SAMEBITS_TRAIN_OUT": str(folder)}, check=True, capture_output=True)
    said = load_file(folder / "logits.safetensors")
    (folder / "logits.safetensors").unlink()
    tokens = AutoTokenizer.from_pretrained(folder)(TEXT)["input_ids"]
    assert tokens == said["tokens"].tolist(), (tokens, said["tokens"])
    model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not any(report.values()), report
    assert model.generation_config.eos_token_id == tokens[0]
    with torch.no_grad():
        theirs = model(torch.tensor([tokens])).logits[0]
    difference = ((said["logits"] - theirs).abs().max() / theirs.abs().max()).item()
    print(f"{len(tokens)} tokens, logits within {difference:.1e} of the largest")
sys.exit(None if difference <= 1e-5 else "logits differ")
