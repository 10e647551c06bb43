#!/usr/bin/env python3
"""Scores that bm25s gives to every document of a small corpus, for tests/lexical.rs.

    pip install bm25s==0.3.16
    python3 tests/reference/bm25.py > tests/data/bm25.json

Its rank order is not asked for, only the scores, in f64; the words are plain, so that both sides split them alike.
"""

import json
import random

import bm25s

WORDS = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu".split()
draw = random.Random(1)
corpus = [" ".join(draw.choices(WORDS, weights=range(12, 0, -1), k=draw.randint(1, 30))) for _ in range(20)]
queries = ["alpha", "mu lambda", "zeta zeta eta", "alpha beta gamma delta epsilon", "kappa unknown"]
variants = []
for method in ["lucene", "robertson", "atire", "bm25l", "bm25+"]:
    for k1, b, delta in [(1.2, 0.75, 0.5), (0.9, 0.4, 1.0), (2.0, 1.0, 0.25)]:
        index = bm25s.BM25(method=method, k1=k1, b=b, delta=delta, dtype="float64")
        index.index([text.split() for text in corpus], show_progress=False)
        known = set(index.vocab_dict)
        # A word twice in a query counts twice.
        scores = [sum(index.get_scores([w]) for w in q.split() if w in known).tolist() for q in queries]
        variants.append({"method": method, "k1": k1, "b": b, "delta": delta, "scores": scores})
print(json.dumps({"corpus": corpus, "queries": queries, "variants": variants}, separators=(",", ":")))
