"""What samebits.py gives, against NumPy and, where it is installed, PyTorch.

    SAMEBITS_LIBRARY=target/release/libsamebits.so python3 tests/ffi/python/check.py
"""
import os
import tempfile

import numpy as np

import samebits
from samebits import Embedder, Engine, Error, Index, Model

random = np.random.default_rng(7)
draw = lambda *shape: random.standard_normal(shape, np.float32)
engines = []
for tier in ["scalar", "avx2", "avx512", "neon"]:
    try:
        engines += [Engine(tier, 1), Engine(tier, 2)]
    except Error as error:
        assert error.status == 4, error
best = engines[-1]


def same(f):
    """What `f` gives with the best engine; every other must give these bits."""
    expected = f(best)
    for engine in engines:
        assert np.array_equal(f(engine).view(np.uint32), expected.view(np.uint32)), (f, engine.tier)
    return expected


def near(got, expected, relative, what):
    error = np.abs(got.astype(np.float64) - expected).max() / max(np.abs(expected).max(), 1e-30)
    assert error <= relative, f"{what}: {error:.2e}, at most {relative:.0e}"
    print(f"{what}: within {error:.1e}")


def refused(status, words, f):
    try:
        f()
    except Error as error:
        assert error.status == status and words in str(error), (error.status, error)
    else:
        raise AssertionError(f"not refused: {words}")


def products():
    a, b = draw(65, 300), draw(300, 129)
    near(same(lambda e: e.gemm(a, b)), a.astype(np.float64) @ b, 2e-6, "gemm, against NumPy in f64")
    views = {"transposed": b.T.copy().T, "reversed": b[::-1, ::-1], "every second": draw(600, 258)[::2, ::2]}
    for name, view in views.items():
        near(same(lambda e: e.gemm(a, view)), a.astype(np.float64) @ view, 2e-6, f"gemm of a view, {name}")
    out = np.zeros((65, 200), np.float32)
    part = out[:, 10:139]
    assert best.gemm(a, b, part) is part and np.array_equal(part, best.gemm(a, b))
    assert not out[:, :10].any() and not out[:, 139:].any(), "written past the view"
    twice = best.gemm(a, b, best.gemm(a, b), accumulate=True)
    near(twice, 2 * (a.astype(np.float64) @ b), 2e-6, "gemm, accumulated")
    refused(1, "times B", lambda: best.gemm(a, a))
    refused(1, "overlaps", lambda: best.gemm(a[:, :65], a[:65, :65], a[:, :65]))


def rows():
    x = 5 * draw(50, 333)
    e = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    near(same(lambda engine: engine.softmax(x)), e / e.sum(1, keepdims=True), 2e-6, "softmax, against NumPy in f64")
    copy = x.copy()
    assert best.softmax(copy, copy) is copy and np.array_equal(copy, best.softmax(x))


def attend(q, k, v, causal):
    """The definition, in f64."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat(group, 1), v.repeat(group, 1)
    scores = q @ k.swapaxes(2, 3) / np.sqrt(q.shape[3])
    if causal:
        i, j = np.indices(scores.shape[2:])
        scores = np.where(j <= i + scores.shape[3] - scores.shape[2], scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True) @ v


def attention():
    q, k, v = draw(2, 6, 70, 32), draw(2, 3, 70, 32), draw(2, 3, 70, 24)
    by_token = np.ascontiguousarray(k.swapaxes(1, 2)).swapaxes(1, 2)
    for causal in (False, True):
        out = same(lambda e: e.attention(q, k, v, causal))
        near(out, attend(q, k, v, causal), 2e-6, f"attention, causal {causal}, against NumPy in f64")
        assert np.array_equal(out, best.attention(q, by_token, v, causal)), "strides changed a bit"
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed: not compared")
        return
    t = [torch.from_numpy(x) for x in (q, k.repeat(2, 1), v.repeat(2, 1))]
    theirs = torch.nn.functional.scaled_dot_product_attention(*t, is_causal=True).numpy()
    near(best.attention(q, k, v, True), theirs, 2e-6, "attention, against PyTorch")
    near(best.softmax(q[0, 0]), torch.softmax(t[0][0, 0], -1).numpy(), 1e-6, "softmax, against PyTorch")
    near(best.gemm(q[0, 0], k[0, 0].T), (t[0][0, 0] @ t[1][0, 0].T).numpy(), 2e-6, "gemm, against PyTorch")


def nf4():
    w, a = draw(100, 192), draw(9, 192)
    weight = best.quantize(w)
    decoded = same(lambda e: e.dequantize(weight))
    assert (np.abs(decoded - w) <= 0.1521 * weight.absmax.repeat(64).reshape(w.shape)).all()
    packed = weight.pack()
    back = packed.unpack()
    assert np.array_equal(back.codes, weight.codes) and np.array_equal(back.absmax, weight.absmax)
    product = same(lambda e: e.gemm_nf4(a, packed))
    assert np.array_equal(product, best.gemm(a, decoded.T)), "packed and decoded differ"
    near(product, a.astype(np.float64) @ decoded.T, 2e-6, "NF4 product, against NumPy in f64")
    refused(3, "is NaN", lambda: best.quantize(np.full((1, 64), np.nan)))


def models():
    model = Model(best)
    ids = model.tokenize("Once upon a time")
    assert model.detokenize(ids) == "Once upon a time"
    logits = same(lambda e: Model(e).logits(ids))
    assert logits.shape == (len(ids), model.vocab) and np.isfinite(logits).all()
    text = model.generate("Once upon a time", max_tokens=30)
    assert all(Model(e).generate("Once upon a time", max_tokens=30) == text for e in engines)
    likeliest = int(logits[-1].argmax())
    assert text.startswith(model.detokenize([*ids, likeliest])[len("Once upon a time"):])
    sampled = [model.generate("The dog", max_tokens=20, temperature=0.8, top_k=40, seed=seed) for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]
    refused(2, "nothing-here", lambda: Model(best, "nothing-here"))
    print("model:", repr(text))


def search():
    embedder = Embedder(best)
    vectors = same(lambda e: Embedder(e).embed(["a cat on a mat", "a kitten on a rug", "the price of oil"]))
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    documents = [("a.txt", "Ships leave the harbour at night."), ("b.txt", "Bread needs flour, water, salt and time.")]
    index = Index.build(best, documents, embedder)
    found = index.search(best, "boats on the sea", embedder=embedder)
    assert found[0][1] == "a.txt" and found[0][3] == documents[0][1], found
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "index.sbi")
        index.save(path)
        assert Index(path).search(best, "boats on the sea", embedder=embedder) == found
    assert index.search(best, "bread", mode="lexical", filter="id = b.txt")[0][1] == "b.txt"


for test in (products, rows, attention, nf4, models, search):
    test()
print(f"samebits {samebits.version}: {len(engines)} engines, the same bits")
