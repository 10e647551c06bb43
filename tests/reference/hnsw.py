#!/usr/bin/env python3
"""What hnswlib finds among uniform vectors: the floor of a test in tests/hnsw.rs.

    pip install hnswlib numpy
    python3 tests/reference/hnsw.py

10,000 x 128 in [-1, 1), squared Euclidean distance, M 16, efConstruction 200, ef 64, recall@10 of 200 queries.
hnswlib 0.8.0: 0.7225.
"""

import hnswlib
import numpy as np

rng = np.random.default_rng(1)
x = rng.random((10200, 128), dtype=np.float32) * 2 - 1
x, queries = x[:10000], x[10000:]
distances = (queries**2).sum(1)[:, None] + (x**2).sum(1)[None] - 2 * queries @ x.T
truth = np.argsort(distances, 1)[:, :10]
index = hnswlib.Index("l2", 128)
index.init_index(len(x), M=16, ef_construction=200)
index.set_num_threads(1)
index.add_items(x)
index.set_ef(64)
found, _ = index.knn_query(queries, 10)
print(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, truth)]))
