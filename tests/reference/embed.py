#!/usr/bin/env python3
"""Vectors of model2vec and sentence-transformers for tests/embed.rs.

    pip install model2vec==0.10 sentence-transformers
    python3 tests/reference/embed.py SAMEBITS_DATA tests/data/embed

Writes: table, a little folder that model2vec saves (53 tokens, shared rows, weights, a limit); tables.json, the vectors of
texts by it and by the folders of SAMEBITS_DATA/models/model2vec-fixtures; prompted.json, those of tests/data/models/bert
with prompts, whole and cut to 8 components.
"""

import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
from model2vec import StaticModel
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

data, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
bert = pathlib.Path("tests/data/models/bert")

TEXTS = ["hello world", "", "The quick brown fox!", "naïve café, 漢字 and 😀", "[CLS] written by a stranger [UNK]", "a", "zz qq",
         " ".join(["hello"] * 700)]
TINY = ["abc def", "", "a", "abc qqq zzz é", "fox " * 40, "xy" * 30]


def vectors(rows):
    return [[round(float(x), 7) for x in row] for row in rows]


draw = np.random.default_rng(3)
tokenizer = Tokenizer.from_file(str(bert / "tokenizer.json"))
tokens = tokenizer.get_vocab_size()
table = StaticModel(draw.normal(size=(20, 12)).astype(np.float32), tokenizer, normalize=True, max_length=16,
                    weights=draw.uniform(0.1, 1.0, tokens), token_mapping=draw.integers(0, 20, tokens))
shutil.rmtree(out / "table", ignore_errors=True)
table.save_pretrained(out / "table", model_name="table")
(out / "table/README.md").unlink()

cases = [{"folder": "table", "texts": TINY, "vectors": vectors(StaticModel.from_pretrained(out / "table").encode(TINY))}]
for name in ["float32", "float16", "int8", "vocab-quantized"]:
    model = StaticModel.from_pretrained(data / f"models/model2vec-fixtures/test-model-{name}", max_length=None)
    cases.append({"folder": f"test-model-{name}", "texts": TEXTS, "vectors": vectors(model.encode(TEXTS))})
fixture = data / "models/model2vec-fixtures/test-model-float32"
# model2vec's tensor is renamed in the other layout, where the unknown token counts.
model = SentenceTransformer(str(fixture), device="cpu")
cases.append({"folder": "test-model-sentence-transformers", "texts": TEXTS, "vectors": vectors(model.encode(TEXTS))})
(out / "tables.json").write_text(json.dumps(cases, ensure_ascii=False, separators=(",", ":")))

with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary) / "bert"
    shutil.copytree(bert, folder)
    model = SentenceTransformer(str(folder), device="cpu")
    model.prompts = {"query": "ask abc: ", "passage": "def: "}
    (out / "prompts.json").write_text(json.dumps({"prompts": model.prompts, "default_prompt_name": None}))
    # transformers takes accents off whatever tokenizer.json says.
    texts = [text.replace("é", "e") for text in TINY if text]
    prompted = {"texts": texts}
    for kind, encode in [("query", model.encode_query), ("passage", model.encode_document)]:
        prompted[kind] = vectors(encode(texts))
        prompted[kind + "_8"] = vectors(encode(texts, truncate_dim=8, normalize_embeddings=True))
(out / "prompted.json").write_text(json.dumps(prompted, ensure_ascii=False, separators=(",", ":")))
