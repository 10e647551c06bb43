"""Bits a byte of the model inside, and of another, on the stories that were held out from it, each story alone.

    python3 src/assets/inside/text.py SAMEBITS_DATA OUT
    python3 tests/reference/check_inside.py target/release/samebits OUT/held-out.txt [MODEL …]

MODEL is what `samebits perplexity --model` takes. Needs nothing but Python.
"""

import json
import math
import subprocess
import sys
import tempfile

binary, held_out, *models = sys.argv[1:]
stories = [s.strip() for s in open(held_out, encoding="utf-8").read().split("<|endoftext|>") if s.strip()]
for model in [None, *models]:
    bits = size = 0
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        for story in stories:
            file.seek(0)
            file.truncate()
            file.write(story)
            file.flush()
            ask = [binary, "perplexity", "--text", file.name, "--json", "--threads", "1"] + (["--model", model] if model else [])
            said = json.loads(subprocess.run(ask, check=True, capture_output=True, text=True).stdout)
            bits += said["loss"] * said["tokens"] / math.log(2)
            size += len(story.encode())
    print(f"{model or 'the model inside'}: {bits / size:.4f} bits a byte, {len(stories)} stories of {size} bytes")
