#!/usr/bin/env python3
"""The table that model2vec makes of the tiny BERT, for tests/distill.rs.

    pip install 'model2vec[distill]==0.10' transformers
    python3 tests/reference/distill.py > tests/data/embed/distilled.json

Its own functions, in f64 where they take it: means of [CLS] token [SEP], components, weights by place and by counts.
"""

import json
import pathlib

import numpy as np
import torch
from model2vec.distill.inference import apply_pca, compute_weights, create_embeddings
from transformers import AutoModel

DIM = 8
model = AutoModel.from_pretrained("tests/data/models/bert", dtype=torch.float64).eval()
tokens = model.config.vocab_size
rows = create_embeddings(model, [[2, t, 3] for t in range(tokens)], "cpu", 0).astype(np.float64)
scores = apply_pca(rows, DIM)
counts = [t * t % 17 for t in range(tokens)]
often = (np.array(counts) + 0.5) / (np.array(counts) + 0.5).sum()
tables = {"plain": scores, "zipf": scores * compute_weights(tokens, 1e-3)[:, None], "counted": scores * (1e-2 / (1e-2 + often))[:, None]}
tables = {name: [[round(float(x), 7) for x in row] for row in table] for name, table in tables.items()}
print(json.dumps({"dim": DIM, "counts": counts, **tables}, separators=(",", ":")))
