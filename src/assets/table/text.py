#!/usr/bin/env python3
"""The sentences to which the table inside is fitted: some 30,000, a line each.

    python3 src/assets/table/text.py SAMEBITS_DATA > sentences.txt

From novels (public domain), instructions (Apache-2.0), questions of customers (Banking77, CC BY 4.0), captions, headlines and
posts (the training part of STS benchmark, CC BY-SA 4.0) and Wikipedia (CC BY-SA 4.0). Nothing of SciFact and Cranfield, by
which the table is judged.
"""

import csv
import json
import pathlib
import random
import re
import sys

data = pathlib.Path(sys.argv[1])
random.seed(1)


def sentences(path):
    text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))
    return [s for s in re.split(r"(?<=[.!?])\s", text) if 30 < len(s) < 400]


def some(texts, most):
    return random.sample(texts, min(most, len(texts)))


def lines(path, read):
    return [text for line in path.read_text(encoding="utf-8").splitlines() for text in read(json.loads(line))]


found = []
for novel in sorted((data / "text/gutenberg").glob("*.txt")):
    found += some(sentences(novel), 1500)
with open(data / "retrieval/stsb/stsb-en-train.csv", encoding="utf-8") as file:
    found += [text for row in csv.reader(file) for text in row[:2]]
folder = data / "text/instructions"
for row in json.loads((folder / "rasbt-instruction-data.json").read_text()):
    found += [row["instruction"], row["output"]]
found += [row["output"] for row in json.loads((folder / "instruction-data-with-preference.json").read_text())]
found += lines(folder / "self-instruct-seed_tasks.jsonl", lambda row: [row["instruction"], *(i["output"][:400] for i in row["instances"])])
with open(data / "text/classify-banking77/train.csv", encoding="utf-8") as file:
    found += [row[0] for row in csv.reader(file)][:3000]
found += sentences(data / "text/multilingual/english.txt")
unique = dict.fromkeys(re.sub(r"\s+", " ", text).strip() for text in found)
sys.stdout.reconfigure(encoding="utf-8")
for text in unique:
    if text:
        print(text)
