#!/usr/bin/env python3
"""A step of training: samebits beside PyTorch, peft and bitsandbytes, in turns, on a Llama of drawn weights.

    cargo build --release
    pip install torch transformers peft bitsandbytes tokenizers
    python3 benches/peers/training.py target/release/samebits DIR --threads 1,2

The Llama has hidden size 512, 8 layers, 8 heads, intermediate size 1,376, vocabulary 8,192; a step is 4 sequences of 256
tokens forward, back and through AdamW: LoRA (r = 8, all linear layers of the blocks), QLoRA (the same over NF4), and full
fine-tuning. DIR keeps the model. In each turn both take a step, warm; ratios are medians of those within a turn, above 1
is our advantage. Memory is the most that each process had resident (VmHWM). One thread is kept on one core.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("program")
parser.add_argument("dir")
parser.add_argument("--threads", default="1,2")
parser.add_argument("--turns", type=int, default=7)
parser.add_argument("--methods", default="lora,qlora,full")
parser.add_argument("--cores", default="0,1", help="those of one thread, of two …")
parser.add_argument("--peer", help="what a process of this script that is the peer trains")
args = parser.parse_args()
SIZE = {"dim": 512, "layers": 8, "heads": 8, "hidden": 1376, "vocab": 8192}
BATCH, LENGTH = 4, 256


def pinned(command, threads):
    cores = ",".join(args.cores.split(",")[:threads])
    return ["taskset", "-c", cores, *command]


def ours(method, threads):
    command = [args.program, "bench", "--train", args.dir, "--method", method, "--threads", str(threads), "--json",
               "--turns", "1", "--batch", str(BATCH), "--seq-len", str(LENGTH)]
    return json.loads(subprocess.run(pinned(command, threads), check=True, capture_output=True, text=True).stdout)


class Peer:
    """A process of its own, so that its memory is that of one method."""

    def __init__(self, method, threads):
        command = [sys.executable, __file__, args.program, args.dir, "--peer", method, "--threads", str(threads)]
        self.child = subprocess.Popen(pinned(command, threads), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL, text=True)

    def step(self):
        self.child.stdin.write("step\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())

    def close(self):
        self.child.stdin.close()
        self.child.wait()


def peer(method, threads):
    """Takes a step for each line of its input."""
    import torch
    from transformers import BitsAndBytesConfig, LlamaForCausalLM

    out, sys.stdout = sys.stdout, sys.stderr
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    how = {}
    if method == "qlora":
        how["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    model = LlamaForCausalLM.from_pretrained(args.dir, dtype=torch.float32, device_map="cpu", **how)
    if method != "full":
        from peft import LoraConfig, get_peft_model
        config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, config)
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    ids = torch.randint(0, SIZE["vocab"], (BATCH, LENGTH))

    def step():
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()

    step()
    step()
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        seconds = time.perf_counter() - start
        status = open("/proc/self/status").read()
        peak = 1024 * int(status.split("VmHWM:")[1].split()[0])
        print(json.dumps({"ms": 1e3 * seconds, "peak_bytes": peak}), file=out, flush=True)


def row(method, threads):
    other, mine, theirs = Peer(method, threads), [], []
    other.step()
    for _ in range(args.turns):
        theirs.append(other.step())
        mine.append(ours(method, threads))
    other.close()
    mid = statistics.median
    times = [m["step"]["ms"]["median"] for m in mine]
    ratios = [t["ms"] / m for t, m in zip(theirs, times)]
    of_peak = 100 * mid(m["step"]["of_peak"]["median"] for m in mine)
    products = 100 * mid(m["share_of_products"]["median"] for m in mine)
    rate = 100 * mid(m["products"]["of_peak"]["median"] for m in mine)
    memory = [max(m["peak_bytes"] for m in all) for all in (mine, theirs)]
    print(f"| {method} | {threads} | {mid(times):.0f} ({min(times):.0f}–{max(times):.0f}) | {of_peak:.0f} % | "
          f"{products:.0f} %, at {rate:.0f} % | {mid(t['ms'] for t in theirs):.0f} | "
          f"{mid(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) | {memory[0] / 2**20:.0f} | "
          f"{memory[1] / 2**20:.0f} | {100 * memory[0] / memory[1]:.0f} % |", flush=True)


def main():
    if args.peer:
        return peer(args.peer, int(args.threads))
    import drawn
    drawn.llama(args.dir, **SIZE)
    print("| method | threads | samebits: ms a step | of fma | products: of the time, of fma | PyTorch: ms | ÷ ours | "
          "memory, MiB | PyTorch | share |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for method in args.methods.split(","):
        for threads in map(int, args.threads.split(",")):
            row(method, threads)


main()
