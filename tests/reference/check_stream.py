#!/usr/bin/env python3
"""A stream of texts through `samebits embed`: how much memory it takes.

    python3 tests/reference/check_stream.py target/release/samebits tests/data/models/bert [MIB] [LINE_BYTES]

Lines of drawn words, MIB of them (1,024 unless said), go in by a pipe, vectors of 32-bit floats come out by another.
The resident memory is looked at while they do; the check fails where the second half of the stream ever takes 8 MiB
more than the first did at most, or where a vector is missing.
"""

import random
import subprocess
import sys
import threading
import time

program, model = sys.argv[1:3]
mib = int(sys.argv[3]) if len(sys.argv) > 3 else 1024
length = int(sys.argv[4]) if len(sys.argv) > 4 else 1000

draw = random.Random(1)
words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(1, 9))) for _ in range(5000)]
block, lines = [], 0
while sum(map(len, block)) < 1 << 20:
    line = ""
    while len(line) < draw.randint(length // 2, length + length // 2):
        line += draw.choice(words) + " "
    block.append(line + "\n")
    lines += 1
block = "".join(block).encode()

command = [program, "embed", "--model", model, "--format", "f32", "-"]
child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
got = 0


def drain():
    global got
    while data := child.stdout.read1(1 << 20):
        got += len(data)


def resident(key):
    for line in open(f"/proc/{child.pid}/status"):
        if line.startswith(key):
            return int(line.split()[1])
    return 0


thread = threading.Thread(target=drain)
thread.start()
start, samples = time.time(), []
turns = max(2, mib * (1 << 20) // len(block))
for turn in range(turns):
    child.stdin.write(block)
    samples.append(resident("VmRSS:"))
    if turn % 64 == 0:
        print(f"{turn * len(block) >> 20} MiB in, {samples[-1] / 1024:.1f} MiB resident", flush=True)
peak = resident("VmHWM:")
child.stdin.close()
thread.join()
assert child.wait() == 0
seconds, half = time.time() - start, len(samples) // 2
first, second = max(samples[:half]), max(samples[half:])
texts = turns * lines
print(f"{turns * len(block) / 2**30:.2f} GiB, {texts} texts in {seconds:.0f} s; resident at most {first / 1024:.1f} MiB in the first "
      f"half, {second / 1024:.1f} MiB in the second; peak {peak / 1024:.1f} MiB")
assert got % texts == 0 and got > 0, f"{got} bytes of vectors for {texts} texts"
assert second <= first + 8 * 1024
