#!/usr/bin/env python3
"""all-MiniLM-L6-v2 on STS benchmark and SciFact: samebits beside sentence-transformers.

    pip install sentence-transformers scipy
    python3 tests/reference/check_retrieval.py target/release/samebits MODEL_FOLDER SAMEBITS_DATA [--sts-only]

Prints Spearman of cosines with the test scores (STS), nDCG@10 by cosine over all documents (SciFact: title, a
space, text), and how far the vectors are apart. Fails where a figure differs in the third digit.
"""

import csv
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

program, folder, data = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
model = SentenceTransformer(folder, device="cpu")
model.max_seq_length = 256


def ours(texts):
    with tempfile.TemporaryDirectory() as temporary:
        lines = pathlib.Path(temporary) / "texts.jsonl"
        lines.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
        npy = pathlib.Path(temporary) / "vectors.npy"
        command = [program, "embed", "--model", folder, "--jsonl", "--format", "npy", "--output", npy, lines]
        subprocess.run(command, check=True)
        return np.load(npy)


def theirs(texts):
    return model.encode(texts, batch_size=32, convert_to_numpy=True)


def unit(x):
    return x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)


def sts(embed):
    rows = list(csv.reader(open(data / "retrieval/stsb/stsb-en-test.csv", encoding="utf-8")))
    a, b = embed([r[0] for r in rows]), embed([r[1] for r in rows])
    return spearmanr((unit(a) * unit(b)).sum(1), [float(r[2]) for r in rows]).statistic, a


def scifact(embed):
    beir = data / "retrieval/scifact/beir"
    corpus = [json.loads(line) for line in open(beir / "corpus.jsonl", encoding="utf-8")]
    queries = [json.loads(line) for line in open(beir / "queries.jsonl", encoding="utf-8")]
    relevant = {}
    for row in list(csv.reader(open(beir / "qrels/test.tsv"), delimiter="\t"))[1:]:
        relevant.setdefault(row[0], {})[row[1]] = int(row[2])
    queries = [q for q in queries if q["_id"] in relevant]
    documents = unit(embed([f"{d['title']} {d['text']}" for d in corpus]))
    scores = unit(embed([q["text"] for q in queries])) @ documents.T
    total = 0.0
    for q, row in zip(queries, scores):
        gains = relevant[q["_id"]]
        best = np.argsort(-row, kind="stable")[:10]
        dcg = sum(gains.get(corpus[i]["_id"], 0) / math.log2(r + 2) for r, i in enumerate(best))
        ideal = sum(g / math.log2(r + 2) for r, g in enumerate(sorted(gains.values(), reverse=True)[:10]))
        total += dcg / ideal
    return total / len(queries), documents


for name, figure in [("STS-B test, Spearman", sts), ("SciFact test, nDCG@10", scifact)][: 1 if "--sts-only" in sys.argv else 2]:
    (mine, x), (other, y) = figure(ours), figure(theirs)
    print(f"{name}: samebits {mine:.5f}, sentence-transformers {other:.5f}; vectors differ by at most {np.abs(x - y).max():.1e}", flush=True)
    assert round(mine, 3) == round(other, 3)
