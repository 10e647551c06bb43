#!/usr/bin/env python3
"""Folders of `samebits distill` in model2vec and sentence-transformers: their vectors beside ours.

    pip install 'model2vec[distill]==0.10' sentence-transformers
    python3 tests/reference/check_distilled.py target/release/samebits MODEL_FOLDER

Fails where a vector of a folder in f32 or f16 differs from what samebits makes of it, or the table from that which model2vec
distils itself.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from model2vec import StaticModel
from model2vec.distill import distill
from sentence_transformers import SentenceTransformer

program, folder = sys.argv[1:3]
TEXTS = ["hello world", "The quick brown fox!", "mitochondria are the powerhouse of the cell", "naïve café 42", "x" * 40]


def cosine(a, b):
    return ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min()


with tempfile.TemporaryDirectory() as temporary:
    temporary = pathlib.Path(temporary)
    (temporary / "texts").write_text("\n".join(TEXTS) + "\n")
    for kind, most in [("f32", 1e-6), ("f16", 2e-3)]:
        out = str(temporary / kind)
        subprocess.run([program, "distill", folder, "--out", out, "--dim", "64", "--type", kind], check=True)
        embed = [program, "embed", "--model", out, "--format", "npy", "--output", f"{out}.npy", temporary / "texts"]
        subprocess.run(embed, check=True)
        ours = np.load(f"{out}.npy")
        for name, theirs in [("model2vec", StaticModel.from_pretrained(out).encode(TEXTS)),
                             ("sentence-transformers", SentenceTransformer(out, device="cpu").encode(TEXTS))]:
            difference = np.abs(ours - theirs.astype(np.float32)).max()
            print(f"{kind} in {name}: vectors differ by at most {difference:.1e}")
            assert difference <= most
    own = distill(folder, pca_dims=64, quantize_to="float32", device="cpu")
    mine = StaticModel.from_pretrained(temporary / "f32")
    assert own.tokens == mine.tokens, "other tokens"
    print(f"tables: {own.embedding.shape}, largest difference {np.abs(own.embedding - mine.embedding).max():.1e}, "
          f"of {np.abs(own.embedding).max():.2f}; least cosine of texts {cosine(own.encode(TEXTS), mine.encode(TEXTS)):.7f}")
    assert cosine(own.encode(TEXTS), mine.encode(TEXTS)) > 0.99999
