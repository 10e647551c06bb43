#!/usr/bin/env python3
"""What SentencePiece makes of long texts in one piece: tests/data/tokenizers/long/, or a comparison.

    pip install sentencepiece==0.2.3 protobuf
    python3 tests/reference/sentencepiece_long.py                       # close.model, ids.txt
    python3 tests/reference/sentencepiece_long.py PROGRAM MODEL TEXT…   # samebits' ids beside SentencePiece's

close.model has eight letters and their pairs, each about as good as its letters one by one, so that rounding decides
often. A line of ids.txt: length of a text in bytes, number of ids, FNV-1a of the ids (four bytes each, little-endian).
The text is drawn here as tests/tokenizer_stream.rs draws it.
"""

import pathlib
import subprocess
import sys

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

OUT = pathlib.Path(__file__).parent.parent / "data" / "tokenizers" / "long"
LETTERS = "aeinorst"


def draws():
    state = 1
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield state >> 33


def drawn(size):
    return "".join(LETTERS[(draw >> 8) % 8] for draw, _ in zip(draws(), range(size)))


def close():
    model, draw = sentencepiece_model_pb2.ModelProto(), draws()
    model.trainer_spec.model_type = 1
    model.trainer_spec.vocab_size = 3 + 8 + 64
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = False
    model.normalizer_spec.remove_extra_whitespaces = False
    for piece, kind in [("<unk>", 2), ("<s>", 3), ("</s>", 3)]:
        model.pieces.add(piece=piece, score=0.0, type=kind)
    scores = {letter: -2.0 - next(draw) / 2**31 for letter in LETTERS}
    for a in LETTERS:
        model.pieces.add(piece=a, score=scores[a], type=1)
    for a in LETTERS:
        for b in LETTERS:
            model.pieces.add(piece=a + b, score=scores[a] + scores[b] + (next(draw) / 2**31 - 0.5) / 50, type=1)
    return model.SerializeToString()


def fnv(ids):
    h = 0xCBF29CE484222325
    for byte in b"".join(i.to_bytes(4, "little") for i in ids):
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return h


if len(sys.argv) > 1:
    program, path, *texts = sys.argv[1:]
    model = sentencepiece.SentencePieceProcessor(model_file=path)
    for name in texts:
        with open(name, encoding="utf-8", newline="") as file:
            want = model.encode(file.read())
        with open(name, "rb") as file:
            command = [program, "tokenize", "--model", path, "--ids", "--plain", "-"]
            got = [int(i) for i in subprocess.run(command, stdin=file, capture_output=True, check=True).stdout.split()]
        print(f"{name}: {len(want)} ids, {'equal' if got == want else 'NOT EQUAL'}", flush=True)
        assert got == want
    sys.exit()

OUT.mkdir(exist_ok=True)
(OUT / "close.model").write_bytes(close())
model = sentencepiece.SentencePieceProcessor(model_file=str(OUT / "close.model"))
lines = []
for size in [1000, 400_000]:
    ids = model.encode(drawn(size))
    lines.append(f"{size} {len(ids)} {fnv(ids):016x}\n")
(OUT / "ids.txt").write_text("".join(lines))
print("".join(lines))
