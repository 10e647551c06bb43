#!/usr/bin/env python3
"""Text to vector: samebits beside sentence-transformers (PyTorch) and ONNX Runtime, in turns, tokenising included.

    cargo build --release
    pip install sentence-transformers onnxruntime onnx
    python3 tests/reference/fetch_minilm.py /tmp/minilm
    python3 benches/peers/models.py target/release/samebits /tmp/minilm --threads 1,2

samebits runs as a filter that is fed a batch and read back; the pipe is part of its time. Medians of the turns;
`best peer ÷ ours` is the median of the ratios within a turn.
"""

import argparse
import pathlib
import random
import statistics
import subprocess
import tempfile
import time

import numpy as np
import onnxruntime
import torch
from sentence_transformers import SentenceTransformer

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("program")
parser.add_argument("model")
parser.add_argument("--threads", default="1,2")
parser.add_argument("--turns", type=int, default=15)
args = parser.parse_args()
WORDS = "the of and to in is that for it as was with be by on not he his but at are this have from or had an".split()


def text(rng, tokens):
    """Every word is one token; two more are put around them."""
    return " ".join(rng.choice(WORDS) for _ in range(tokens - 2))


class Ours:
    def __init__(self, threads, batch):
        command = [args.program, "embed", "--model", args.model, "--batch", str(batch), "--format", "f32",
                   "--threads", str(threads)]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, texts):
        self.child.stdin.write("".join(t + "\n" for t in texts).encode())
        self.child.stdin.flush()
        bytes = self.child.stdout.read(len(texts) * 384 * 4)
        return np.frombuffer(bytes, dtype=np.float32).reshape(len(texts), 384)

    def close(self):
        self.child.stdin.close()
        self.child.wait()


class Plain(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, mask, segments):
        return self.model(input_ids=ids, attention_mask=mask, token_type_ids=segments).last_hidden_state


class Onnx:
    """The same layers, exported; pooling and length as sentence-transformers' modules do them."""

    def __init__(self, st, threads, folder):
        path = pathlib.Path(folder) / "model.onnx"
        if not path.exists():
            ids = torch.ones(2, 8, dtype=torch.int64)
            axes = {0: "batch", 1: "tokens"}
            names = ["input_ids", "attention_mask", "token_type_ids"]
            torch.onnx.export(Plain(st[0].auto_model), (ids, ids, ids), str(path), input_names=names,
                              output_names=["hidden"], dynamic_axes={n: axes for n in names}, dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.tokenizer = st.tokenizer
        self.normalize = any(type(module).__name__ == "Normalize" for module in st)

    def __call__(self, texts):
        x = self.tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="np")
        names = {i.name for i in self.session.get_inputs()}
        hidden = self.session.run(None, {k: v for k, v in x.items() if k in names})[0]
        mask = x["attention_mask"][:, :, None]
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True) if self.normalize else mean


def main():
    print("| texts × tokens | threads | samebits texts/s | best peer ÷ ours | sentence-transformers | ONNX Runtime |")
    print("|---|---|---|---|---|---|")
    st = SentenceTransformer(args.model, device="cpu")
    st.max_seq_length = 256
    with tempfile.TemporaryDirectory() as folder:
        for threads in map(int, args.threads.split(",")):
            torch.set_num_threads(threads)
            onnx = Onnx(st, threads, folder)
            for batch in (1, 8, 32):
                for tokens in (16, 128):
                    row(st, onnx, threads, batch, tokens)


def row(st, onnx, threads, batch, tokens):
    rng, ours = random.Random(1), Ours(threads, batch)
    runners = [ours, lambda t: st.encode(t, batch_size=batch, convert_to_numpy=True), onnx]
    texts = [text(rng, tokens) for _ in range(batch)]
    mine, one, two = (run(texts) for run in runners)
    near = [float(np.abs(mine - x).max()) for x in (one, two)]
    assert max(near) < 1e-5, near
    times = [[], [], []]
    for _ in range(args.turns):
        for run, t in zip(runners, times):
            calls = max(1, 256 // (batch * tokens))
            time.sleep(0.05)  # threads of the runner before spin for a while
            start = time.perf_counter()
            for _ in range(calls):
                run(texts)
            t.append((time.perf_counter() - start) / calls)
    ours.close()
    best = [statistics.median(p / o for p, o in zip(t, times[0])) for t in times[1:]]
    rate = batch / statistics.median(times[0])
    print(f"| {batch} × {tokens} | {threads} | {rate:.0f} | {min(best):.2f} | {best[0]:.2f} | {best[1]:.2f} |", flush=True)


main()
