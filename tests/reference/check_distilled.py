#!/usr/bin/env python3
"""Folders of `samebits distill` in model2vec and sentence-transformers: their vectors beside ours.

    pip install 'model2vec[distill]==0.10' sentence-transformers
    python3 tests/reference/check_distilled.py target/release/samebits MODEL_FOLDER

Fails where a vector of a folder in f32 or f16 differs from what samebits makes of it, or the table from that which model2vec's
functions make of the same tokens.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from model2vec import StaticModel
from model2vec.distill import distill
from model2vec.distill.inference import apply_pca, compute_weights, create_embeddings
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

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
    mine = StaticModel.from_pretrained(temporary / "f32")
    tokens = list(mine.tokens)
    # Its own functions on the same tokens.
    names, encoder = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    ids = names.convert_tokens_to_ids(tokens)
    assert names.unk_token_id not in [id for id, token in zip(ids, tokens) if token != names.unk_token]
    rows = create_embeddings(encoder, [[names.cls_token_id, id, names.sep_token_id] for id in ids], "cpu", 0)
    table = apply_pca(rows, 64) * compute_weights(len(tokens), 1e-4)[:, None]
    table *= np.sign((table * mine.embedding).sum(0))
    print(f"tables of {len(tokens)} tokens: largest difference {np.abs(table - mine.embedding).max():.1e} of "
          f"{np.abs(table).max():.2f}, least cosine of a row {cosine(table, mine.embedding):.7f}")
    assert cosine(table, mine.embedding) > 0.99999
    # Its whole: the tokens that stand around a text are left out there, so the others' places differ by three.
    own = distill(folder, pca_dims=64, quantize_to="float32", device="cpu")
    assert [token for token in tokens if token not in ("[CLS]", "[SEP]", "[MASK]")] == list(own.tokens), "other tokens"
    print(f"least cosine of texts in the table that model2vec distils: {cosine(own.encode(TEXTS), mine.encode(TEXTS)):.5f}")
    assert cosine(own.encode(TEXTS), mine.encode(TEXTS)) > 0.999
