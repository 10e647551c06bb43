#!/usr/bin/env python3
"""Prompts and tokens a second: samebits beside llama.cpp, in turns, on Llamas of drawn weights.

    cargo build --release
    pip install torch transformers tokenizers
    # llama-bench: `cmake -B build -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON && cmake --build build -t llama-bench`
    # in vendor/llama.cpp of the source package of llama-cpp-python. With GCC 12, whose `_tile_loadconfig` says that it reads
    # eight bytes, it dies of SIGILL on a processor with AMX, until `asm volatile("" : : "r"(&tc) : "memory");` stands
    # before that call in ggml/src/ggml-cpu/amx/mmq.cpp
    python3 benches/peers/llama.py target/release/samebits build/bin/llama-bench DIR --threads 1,2

DIR keeps the models: 34 M parameters (512 × 8, the vocabulary 8,192) and 303 M (1,024 × 20, 24,576), as folders of
transformers and as GGUF files of the same weights in F32, BF16, Q8_0 and Q4_0; NF4, which llama.cpp has not, with the
head too, is set against our own F32. `q8_0:int8` computes in that class (--compute; f32 without), as llama.cpp does with
Q8_0 and Q4_0. Each turn runs every program once; ratios are medians of those within a turn.
"""

import argparse
import json
import pathlib
import statistics
import subprocess

import drawn

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("program")
parser.add_argument("llama_bench")
parser.add_argument("dir", type=pathlib.Path)
parser.add_argument("--threads", default="1,2")
parser.add_argument("--turns", type=int, default=5)
parser.add_argument("--prompts", default="256,512")
parser.add_argument("--tokens", type=int, default=64)
parser.add_argument("--models", default="34M,303M")
parser.add_argument("--types", default="f32,bf16,bf16:bf16,q8_0:int8,q4_0:int8,nf4")
args = parser.parse_args()
SIZES = {"34M": (512, 8, 8, 1376, 8192), "303M": (1024, 20, 16, 2816, 24576)}


def draw(name):
    return drawn.llama(args.dir / name, *SIZES[name])


def made(name, kind):
    """The model with its matrices as `kind`, made once."""
    source, out = draw(name), args.dir / (f"{name}-nf4" if kind == "nf4" else f"{name}-{kind}.gguf")
    if not out.exists():
        command = {
            "nf4": ["quantize", source, out, "--nf4", "--include", "lm_head"],
        }.get(kind, ["convert", source, out, "--type", kind])
        subprocess.run([args.program, *map(str, command)], check=True, stdout=subprocess.DEVNULL)
    return out


def ours(model, threads, compute="f32"):
    command = [args.program, "bench", "--model", str(model), "--threads", str(threads), "--json", "--turns", "1",
               "--compute", compute,
               "--tokens", str(args.tokens), *(w for p in args.prompts.split(",") for w in ("--prompt", p))]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["rows"]
    return {r["test"]: (r["rate"]["median"], r["of_peak"]["median"]) for r in rows if r["unit"] == "tokens/s"}


def theirs(model, threads):
    command = [args.llama_bench, "-m", str(model), "-t", str(threads), "-r", "1", "-o", "json",
               "-p", args.prompts, "-n", str(args.tokens)]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    name = lambda r: f"pp{r['n_prompt']}" if r["n_prompt"] else f"tg{r['n_gen']}"
    return {name(r): r["avg_ts"] for r in rows}


def main():
    print("| model | weights | threads | test | samebits tokens/s (min–max) | of the limit | ÷ llama.cpp (min–max) |")
    print("|---|---|---|---|---|---|---|")
    for name in args.models.split(","):
        for threads in map(int, args.threads.split(",")):
            for kind in args.types.split(","):
                row(name, kind, threads)


def row(name, label, threads):
    kind, _, compute = label.partition(":")
    model = made(name, kind)
    peer = made(name, "f32") if kind == "nf4" else model
    mine, other = [], []
    for _ in range(args.turns):
        mine.append(ours(model, threads, compute or "f32"))
        other.append({t: r[0] for t, r in ours(peer, threads).items()} if kind == "nf4" else theirs(peer, threads))
    for test in mine[0]:
        rates, shares = ([m[test][i] for m in mine] for i in (0, 1))
        ratios = [m[test][0] / o[test] for m, o in zip(mine, other)]
        mid = statistics.median
        print(f"| {name} | {label} | {threads} | {test} | {mid(rates):.0f} ({min(rates):.0f}–{max(rates):.0f}) | "
              f"{100 * mid(shares):.0f} % | {mid(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
              f"{' of our f32' if kind == 'nf4' else ''} |", flush=True)


main()
