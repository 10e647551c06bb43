"""Loads adapters that samebits wrote in peft, and compares outputs.

    python3 tests/reference/check_peft.py        # runs `cargo test --release --test peft written_for_peft`

Needs torch, peft, safetensors.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from peft import PeftModel
from peft_folders import INPUTS, model
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
with tempfile.TemporaryDirectory() as out:
    test = ["cargo", "test", "--release", "--test", "peft", "written_for_peft"]
    subprocess.run(test, cwd=ROOT, env={**os.environ, "SAMEBITS_PEFT_OUT": out}, check=True, capture_output=True)
    worst = 0.0
    for folder in sorted(Path(out).iterdir()):
        net = PeftModel.from_pretrained(model(), folder).eval()
        for name, ours in load_file(folder / "outputs.safetensors").items():
            module = name.removeprefix("output/")
            with torch.no_grad():
                theirs = net.base_model.model.get_submodule(module)(INPUTS[module])
            difference = ((ours.reshape(theirs.shape) - theirs).abs().max() / theirs.abs().max()).item()
            worst = max(worst, difference)
            print(f"{folder.name:8} {module:24} {difference:.1e}")
sys.exit(f"outputs differ by {worst:.1e}" if not worst <= 1e-5 else None)
