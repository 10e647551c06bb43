#!/usr/bin/env python3
"""What sentence-transformers makes of 200 varied texts with all-MiniLM-L6-v2, in f32 on one thread.

    pip install sentence-transformers
    python3 tests/reference/fetch_minilm.py /tmp/minilm
    python3 tests/reference/minilm.py /tmp/minilm tests/data/minilm

Writes texts.jsonl (text, ids) and embeddings.npy (200, 384). The texts are made here: accents, emoji, Chinese and
other scripts, nothing, more than 512 tokens, odd spaces, control characters, digits, code.
"""

import json
import pathlib
import random
import sys

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

WORDS = """the quick brown fox jumps over lazy dog river mountain quantum entropy tokenizer embedding
vector naïve café résumé Zürich Ångström façade coöperate smörgåsbord jalapeño Dvořák Łódź İstanbul straße
Ελλάδα Москва Київ ירושלים القاهرة मुंबई กรุงเทพ 서울 東京 北京 上海市 日本語 中文 漢字 カタカナ ひらがな
12345 3.14159 2024-11-24 10:30 $99.99 50% C++ Rust fn main() {} [MASK] [CLS] <s> e-mail user@example.com
https://example.org/path?q=1#x don't can't it's O'Neill state-of-the-art U.S.A. Ph.D. 😀 🎉 👩‍👩‍👧‍👦 🇩🇪 ❤️ ½ ² ™ … — “quoted” «guillemets»
supercalifragilisticexpialidocious antidisestablishmentarianism aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa""".split()
SPECIAL = [
    "", " ", "\n", "\t\t", "a", "é", "e\u0301", "中", "😀", "\u200b", "\ufeffbom", "\u00a0nbsp\u00a0", "\u3000wide",
    "x\x00y", "a\x07b\x1bc", "\u202eright to left", "A" * 150, "word " * 700, "长" * 600, "💥" * 300, "1" * 120,
    "no.space.between.dots", "MiXeD CaSe TeXT", "ﬁ ligature ﬀ", "ⅷ Ⅷ ①②③", "ＦＵＬＬ ｗｉｄｔｈ", "i̇stanbul İI ıi",
    "ß ẞ SS", "Å Å A\u030a", "\ud7ff\ue000\U0010fffd", "##ing ##ed [UNK] [PAD] [SEP]", "tab\tand\r\nlines",
]


def texts():
    rng = random.Random(7)
    made = list(SPECIAL)
    while len(made) < 200:
        n = rng.choice([1, 2, 3, 5, 8, 13, 21, 40, 80, 160])
        glue = rng.choice([" ", " ", " ", "  ", ", ", ". ", "-", "\n", "\u00a0", "/"])
        made.append(glue.join(rng.choice(WORDS) for _ in range(n)))
    return made


def main():
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} MODEL_FOLDER OUTPUT_FOLDER")
    torch.set_num_threads(1)
    model = SentenceTransformer(sys.argv[1], device="cpu")
    model.max_seq_length = 256  # as the model's own configuration says; the tokenizer's file carries 128
    folder = pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    all_texts = texts()
    with open(folder / "texts.jsonl", "w", encoding="utf-8") as file:
        for text in all_texts:
            ids = model.tokenize([text])["input_ids"][0].tolist()
            file.write(json.dumps({"text": text, "ids": ids}) + "\n")
    vectors = [model.encode([t], batch_size=1, convert_to_numpy=True)[0] for t in all_texts]
    np.save(folder / "embeddings.npy", np.array(vectors, dtype=np.float32))
    print(len(all_texts), "texts, longest", max(map(len, all_texts)), "characters")


main()
