#!/usr/bin/env python3
"""Searching vectors: samebits beside faiss, NumPy, simsimd, PyTorch, hnswlib and usearch, on drawn clusters.

    cargo build --release
    pip install numpy faiss-cpu simsimd torch hnswlib usearch
    python3 benches/peers/search.py target/release/samebits DIR            # exact, 1,000,000 x 384
    python3 benches/peers/search.py target/release/samebits DIR --graph    # graphs, 100,000 x 384

DIR keeps the vectors: 1,000 centres, deviation 0.6 about them, unit length; 1,000 queries from the same clusters. One
thread, on one core, the ten closest. Rounds of ours and of each peer take turns; a figure is the median of all turns
(smallest to largest), a ratio that of the rounds' medians (ours first where it is faster: above 1 is our advantage).
faiss has `distance_compute_blas_threshold = 20`. Graphs: M 16, efConstruction 200; queries a second at the first ef that gives
recall@10 >= 0.95, ours one by one, the peers' in one call.
"""

import argparse
import json
import os
import statistics
import subprocess
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("program")
parser.add_argument("dir")
parser.add_argument("--graph", action="store_true")
parser.add_argument("--rows", type=int)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--turns", type=int, default=3, help="of a round")
parser.add_argument("--types", default="f32,f16,int8,nf4,binary")
parser.add_argument("--core", type=int, default=0)
parser.add_argument("--candidates", default="", help="nf4=20, say; else what the type says")
args = parser.parse_args()
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
os.sched_setaffinity(0, {args.core})

import numpy as np  # noqa: E402  (after the number of threads is set)

DIM, K, QUERIES, MANY = 384, 10, 1000, 64
ROWS = args.rows or (100_000 if args.graph else 1_000_000)


def vectors():
    path = os.path.join(args.dir, f"clusters-{ROWS}.f32")
    if not os.path.exists(path):
        os.makedirs(args.dir, exist_ok=True)
        draw = np.random.default_rng(2)
        centres = draw.standard_normal((1000, DIM), dtype=np.float32)
        with open(path, "wb") as file:
            for start in range(0, ROWS + QUERIES, 10_000):
                n = min(10_000, ROWS + QUERIES - start)
                x = centres[draw.integers(0, 1000, n)] + 0.6 * draw.standard_normal((n, DIM), dtype=np.float32)
                file.write((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32).tobytes())
    x = np.fromfile(path, dtype=np.float32).reshape(-1, DIM)
    return path, x[:ROWS], x[ROWS:]


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ours(path, *flags):
    command = [args.program, "bench", "--search", path, "--json", "--turns", str(args.turns), *flags]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def row(name, one, many, extra=""):
    def spread(x, digits):
        return f"{statistics.median(x):.{digits}f} ({min(x):.{digits}f}–{max(x):.{digits}f})" if x else ""
    print(f"| {name} | {spread(one, 1)} | {spread(many, 1)} | {extra} |", flush=True)


def best_k(scores):
    """Of each row of scores the ten largest."""
    part = np.argpartition(-scores, K, axis=-1)[..., :K]
    return np.take_along_axis(part, np.argsort(-np.take_along_axis(scores, part, -1), -1), -1)


def exact_peers(x):
    import faiss
    import simsimd
    import torch
    faiss.omp_set_num_threads(1)
    faiss.cvar.distance_compute_blas_threshold = 20
    flat = faiss.IndexFlatIP(DIM)
    flat.add(x)
    torch.set_num_threads(1)
    tensor = torch.from_numpy(x)
    return {
        "faiss": lambda q: flat.search(q, K),
        "NumPy": lambda q: best_k(q @ x.T),
        "simsimd": lambda q: best_k(-np.asarray(simsimd.cdist(q, x, "dot")).reshape(len(q), -1)),
        "PyTorch": lambda q: torch.topk(torch.from_numpy(q) @ tensor.T, K),
    }


def exact():
    path, x, queries = vectors()
    peers = exact_peers(x)
    few = {"simsimd"}  # it has no product of many: its time is that of as many single ones
    times = {name: ([], []) for name in peers}
    candidates = dict(pair.split("=") for pair in args.candidates.split(",") if pair)
    own = {kind: [] for kind in args.types.split(",")}
    for _ in range(args.rounds):
        for kind, runs in own.items():
            own_choice = ["--candidates", candidates[kind]] if kind in candidates else []
            runs.append(ours(path, "--type", kind, *own_choice))
        for name, search in peers.items():
            for turn in range(args.turns):
                times[name][0].append(1e3 * seconds(lambda: search(queries[turn:turn + 1])))
                if name not in few:
                    times[name][1].append(MANY / seconds(lambda: search(queries[:MANY])))
    print("| | one query, ms | 64 queries, queries/s | |\n|---|---|---|---|")
    mid = statistics.median
    plain = mid(run["one_ms"]["median"] for run in own["f32"])
    for kind, runs in own.items():
        one, many = [r["one_ms"]["median"] for r in runs], [r["many_qps"]["median"] for r in runs]
        share = mid(r["of_read"]["median"] for r in runs)
        fma = mid(r["of_fma"]["median"] for r in runs)
        extra = (f"{100 * share:.0f} % of read {mid(r['read_gbs']['median'] for r in runs):.1f} GB/s; "
                 f"{100 * fma:.0f} % of fma; recall {runs[0]['recall']:.4f}; {plain / mid(one):.2f} x f32")
        row(f"samebits {kind}", one, many, extra)
    best = max(mid(many) for _, many in times.values() if many)
    for name, (one, many) in times.items():
        row(name, one, many, f"one query: {mid(one) / plain:.2f} x ours")
    many = mid(run["many_qps"]["median"] for run in own["f32"])
    print(f"64 queries: {many / best:.2f} x the best of them")


def recall(found, truth):
    return np.mean([len(set(a) & set(b)) / K for a, b in zip(found, truth)])


def graphs():
    path, x, queries = vectors()
    import faiss
    import hnswlib
    from usearch.index import Index
    faiss.omp_set_num_threads(1)
    truth = best_k(queries @ x.T)

    def hnswlib_peer():
        index = hnswlib.Index("ip", DIM)
        index.init_index(len(x), M=16, ef_construction=200)
        index.set_num_threads(1)
        index.add_items(x)
        return index.set_ef, lambda q: index.knn_query(q, K, num_threads=1)[0]

    def faiss_peer():
        index = faiss.IndexHNSWFlat(DIM, 16, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 200
        index.add(x)
        return lambda ef: setattr(index.hnsw, "efSearch", ef), lambda q: index.search(q, K)[1]

    def usearch_peer():
        index = Index(ndim=DIM, metric="ip", dtype="f32", connectivity=16, expansion_add=200)
        index.add(np.arange(len(x)), x, threads=1)
        return lambda ef: setattr(index, "expansion_search", ef), lambda q: index.search(q, K, threads=1).keys.reshape(-1, K)

    efs = [10, 12, 14, 16, 20, 24, 32, 48, 64, 96, 128]

    def line(name, build, ef, share, rates):
        print(f"| {name} | {build:.1f} | {ef} | {share:.4f} | {statistics.median(rates):.0f} "
              f"({min(rates):.0f}–{max(rates):.0f}) |", flush=True)

    print("| | build, s | ef | recall@10 | queries/s |\n|---|---|---|---|---|")
    for name, make in [("hnswlib", hnswlib_peer), ("faiss", faiss_peer), ("usearch", usearch_peer)]:
        start = time.perf_counter()
        set_ef, search = make()
        build = time.perf_counter() - start
        for ef in efs:
            set_ef(ef)
            share = recall(search(queries), truth)
            if share >= 0.95:
                break
        line(name, build, ef, share, [QUERIES / seconds(lambda: search(queries)) for _ in range(args.turns)])
        mine = ours(path, *(flag for ef in efs[:7] for flag in ("--graph", str(ef))))
        walks = next(walks for walks in mine["walks"] if walks["recall"] >= 0.95)
        rate = walks["qps"]
        line("samebits", mine["build_s"], walks["ef"], walks["recall"], [rate["median"], rate["min"], rate["max"]])


graphs() if args.graph else exact()
