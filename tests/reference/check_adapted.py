"""Loads adapters of whole models that samebits wrote in peft, or in the `adapters` package, and compares logits.

    python3 tests/reference/check_adapted.py            # LoRA, rsLoRA, DoRA, IA3, prefix: needs torch, transformers, peft
    ENV/bin/python tests/reference/check_adapted.py     # bottleneck adapters: where `adapters` is installed instead

It runs `cargo test --release --test peft_training written_for_others`, or takes the folder in SAMEBITS_ADAPTED_OUT as it is.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers as t
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
BOTTLENECKS = importlib.util.find_spec("adapters") is not None


def adapted(base, folder):
    if not BOTTLENECKS:
        import peft

        return peft.PeftModel.from_pretrained(base, folder)
    import adapters

    adapters.init(base)
    base.set_active_adapters(base.load_adapter(str(folder), use_safetensors=True))
    return base


def compare(out):
    worst, count = 0.0, 0
    for folder in sorted(Path(out).iterdir()):
        if (folder / "adapter.safetensors").exists() != BOTTLENECKS:
            continue
        name, count = folder.name.partition("-")[0], count + 1
        model = t.AutoModelForCausalLM.from_pretrained(ROOT / "tests/data/models" / name, attn_implementation="eager")
        model = adapted(model, folder).eval()
        ours = load_file(folder / "logits.safetensors")
        with torch.no_grad():
            theirs = model(ours["ids"][None].long()).logits[0]
        difference = ((ours["logits"] - theirs).abs().max() / theirs.abs().max()).item()
        worst = max(worst, difference)
        print(f"{folder.name:24} {difference:.1e}")
    if not count or not worst <= 1e-5:
        sys.exit(f"{count} adapters, logits differ by {worst:.1e}")


if "SAMEBITS_ADAPTED_OUT" in os.environ:
    compare(os.environ["SAMEBITS_ADAPTED_OUT"])
else:
    with tempfile.TemporaryDirectory() as out:
        test = ["cargo", "test", "--release", "--test", "peft_training", "written_for_others"]
        subprocess.run(test, cwd=ROOT, env={**os.environ, "SAMEBITS_ADAPTED_OUT": out}, check=True)
        compare(out)
