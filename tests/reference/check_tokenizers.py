#!/usr/bin/env python3
"""Tokenizers on their way into a GGUF file and out again, read by the packages that they are written for.

    pip install tokenizers transformers sentencepiece safetensors numpy
    python3 tests/reference/check_tokenizers.py target/release/samebits [GGUF…]

For every byte-pair tokenizer of tests/data/tokenizers a GPT-2 of one layer is made that has so many tokens; `samebits
convert` makes a GGUF file of it and a folder of that. `tokenizers` and transformers' AutoTokenizer must give the ids that
the original gives, for every text of texts.json. Of the GGUF files that are named, which were made by others, ids must be
those of `samebits tokenize`.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy
import sentencepiece
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer

program, *files = sys.argv[1:]
DATA = pathlib.Path(__file__).parent.parent / "data" / "tokenizers"
TEXTS = json.loads((DATA / "texts.json").read_text())["texts"]
NAMES = ["gpt2.json", "llama3.json", "qwen2.json", "o200k.json", "falcon.json", "llama2.json", "spm_bpe.model",
         "spm_bpe_plain.model"]


def run(*args, text=""):
    done = subprocess.run([program, *map(str, args)], capture_output=True, input=text.encode())
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def model(folder, vocab):
    config = dict(model_type="gpt2", architectures=["GPT2LMHeadModel"], vocab_size=vocab, n_embd=8, n_head=2, n_layer=1,
                  n_positions=16, layer_norm_epsilon=1e-5, activation_function="gelu_new", tie_word_embeddings=True,
                  bos_token_id=None, eos_token_id=None)
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {"wte.weight": (vocab, 8), "wpe.weight": (16, 8), "ln_f.weight": (8,), "ln_f.bias": (8,)}
    for name, (i, o) in {"attn.c_attn": (8, 24), "attn.c_proj": (8, 8), "mlp.c_fc": (8, 32), "mlp.c_proj": (32, 8)}.items():
        shapes |= {f"h.0.{name}.weight": (i, o), f"h.0.{name}.bias": (o,)}
    for name in ["ln_1", "ln_2"]:
        shapes |= {f"h.0.{name}.weight": (8,), f"h.0.{name}.bias": (8,)}
    save_file({f"transformer.{n}": numpy.zeros(s, numpy.float32) for n, s in shapes.items()}, folder / "model.safetensors")


def compare(name, back, want):
    own, auto = Tokenizer.from_file(str(back / "tokenizer.json")), AutoTokenizer.from_pretrained(back)
    wrong = 0
    for text in TEXTS:
        if (ids := want(text)) is None:
            continue
        for kind, got in [("tokenizers", own.encode(text).ids), ("transformers", auto(text)["input_ids"])]:
            if got != ids:
                wrong += 1
                print(f"  {name}, {kind}: {text!r}\n    {got}\n    {ids}")
    print(f"{name}: {len(TEXTS)} texts, {wrong} differ")
    return wrong


with tempfile.TemporaryDirectory() as scratch:
    scratch, wrong = pathlib.Path(scratch), 0
    for file in NAMES:
        name, kind = file.split(".")
        folder, gguf, back = scratch / name, scratch / f"{name}.gguf", scratch / f"{name}-back"
        folder.mkdir()
        shutil.copy(DATA / file, folder / f"tokenizer.{kind}")
        if kind == "json":
            original = Tokenizer.from_file(str(DATA / file))
            size, want = original.get_vocab_size(), lambda text: original.encode(text).ids
        else:
            spm = sentencepiece.SentencePieceProcessor(model_file=str(DATA / file))
            # samebits puts what begins a text before it, as models that use SentencePiece do.
            size = spm.get_piece_size()
            # Tokens within a text are cut out otherwise: SentencePiece finds no control tokens, and puts no space behind.
            special = [spm.id_to_piece(i) for i in range(size) if spm.is_control(i) or i in (3, 4)]
            want = lambda text: None if any(t in text for t in special) else [spm.bos_id()] + spm.encode(text)
        model(folder, size)
        run("convert", folder, gguf)
        note = run("convert", gguf, back)
        if not (back / "tokenizer.json").exists():
            print(f"{name}: {note.splitlines()[-1]}")
            continue
        wrong += compare(name, back, want)
    for file in files:
        back = scratch / "named"
        run("convert", file, back)
        tokens = lambda text: [int(i) for i in run("tokenize", "--model", file, "--ids", "-", text=text).split()]
        own = Tokenizer.from_file(str(back / "tokenizer.json"))
        bad = [text for text in TEXTS if own.encode(text).ids != tokens(text)]
        print(f"{pathlib.Path(file).name}: {len(TEXTS)} texts, {len(bad)} differ {bad[:3]}")
        wrong += len(bad)
        shutil.rmtree(back)
assert wrong == 0
