#!/usr/bin/env python3
"""What the classes of arithmetic cost in precision: the table in README, against f32.

    pip install numpy scipy
    python3 tests/reference/check_compute.py target/release/samebits SAMEBITS_DATA [MINILM_FOLDER]

Perplexity of stories260K (512 tokens a window) over the first 64 KiB of TinyStories, and of the model inside; with
MiniLM's folder (tests/reference/fetch_minilm.py) Spearman on the STS benchmark, nDCG@10 by vectors on SciFact, and how far
a vector is turned: 1 − cosine with f32's. Fails where a class is worse than said in LIMITS. Logits of models:
`SAMEBITS_DATA=DIR SAMEBITS_LLAMA=FOLDER cargo test --release --test model far_the_logits -- --nocapture`.
"""

import csv
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from scipy.stats import spearmanr

program, data, minilm = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None
# --compute and --attention.
CLASSES = {
    "f32": ("f32", "f32"),
    "bf16": ("bf16", "f32"),
    "int8": ("int8", "f32"),
    "attention bf16": ("f32", "bf16"),
    "bf16, both": ("bf16", "bf16"),
}
# How much worse than f32: perplexities relatively, figures of retrieval absolutely, and 1 − cosine.
ROUNDED = (0.005, 0.003, 1e-3)
LIMITS = {"bf16": ROUNDED, "int8": (0.02, 0.01, 1e-2), "attention bf16": ROUNDED, "bf16, both": ROUNDED}


def run(*command):
    return subprocess.run([program, *map(str, command)], check=True, capture_output=True, text=True).stdout


def flags_of(name):
    compute, attention = CLASSES[name]
    return "--compute", compute, "--attention", attention


def perplexity(model, text, name, cache="f32"):
    flags = ["--model", model] if model else []
    said = json.loads(run("perplexity", *flags, "--text", text, "--cache", cache, *flags_of(name), "--json"))
    assert (said["compute"], said["attention"]) == CLASSES[name]
    return said["perplexity"]


def embed(texts, name, folder):
    lines, npy = folder / "texts.jsonl", folder / "vectors.npy"
    lines.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    run("embed", "--model", minilm, "--jsonl", "--format", "npy", "--output", npy, *flags_of(name), lines)
    return np.load(npy).astype(np.float64)


def row(name, figures, shown):
    print(f"| {name} | " + " | ".join(shown.format(x) for x in figures) + " |", flush=True)


def main(folder):
    print("| | " + " | ".join(CLASSES) + " |\n|" + "---|" * (1 + len(CLASSES)), flush=True)
    text = folder / "text.txt"
    text.write_bytes((data / "text/tinystories-sample/tinystories-2MiB.txt").read_bytes()[: 64 << 10].rsplit(b"\n", 1)[0])
    for name, model in [("stories260K, perplexity", data / "models/stories260K/stories260K-f32.gguf"), ("model inside, perplexity", None)]:
        figures = [perplexity(model, text, c) for c in CLASSES]
        row(name, figures, "{:.4f}")
        for c, x in list(zip(CLASSES, figures))[1:]:
            assert abs(x / figures[0] - 1) <= LIMITS[c][0], (name, c)
        # What is rounded as it is kept and as it is read is rounded once.
        assert perplexity(model, text, "attention bf16", "bf16") == figures[list(CLASSES).index("attention bf16")]
    if not minilm:
        return
    pairs = list(csv.reader(open(data / "retrieval/stsb/stsb-en-test.csv", encoding="utf-8")))
    sides = {c: [embed([p[i] for p in pairs], c, folder) for i in (0, 1)] for c in CLASSES}
    scores = [float(p[2]) for p in pairs]
    sts = [spearmanr((a * b).sum(1), scores).statistic for a, b in sides.values()]
    row("MiniLM, STS benchmark, Spearman", sts, "{:.4f}")
    turned = [1 - (sides[c][0] * sides["f32"][0]).sum(1) for c in CLASSES]
    row("MiniLM, largest 1 − cosine with f32's vector", [max(t.max(), 0) for t in turned], "{:.1e}")
    beir = data / "retrieval/scifact/beir"
    flags = ("--model", minilm, "--mode", "dense", "--json")
    ndcg = [json.loads(run("eval", beir, *flags, *flags_of(c)))["modes"]["dense"]["ndcg@10"] for c in CLASSES]
    row("MiniLM, SciFact, nDCG@10", ndcg, "{:.4f}")
    for i, c in list(enumerate(CLASSES))[1:]:
        _, worse, angle = LIMITS[c]
        assert sts[0] - sts[i] <= worse and ndcg[0] - ndcg[i] <= worse and turned[i].max() <= angle, c


with tempfile.TemporaryDirectory() as temporary:
    main(pathlib.Path(temporary))
