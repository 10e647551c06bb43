#!/usr/bin/env python3
"""Chunks that LangChain makes of fifty texts, for tests/chunk.rs.

    pip install langchain-text-splitters==1.1.3
    python3 tests/reference/chunks.py > tests/data/langchain_chunks.json
"""

import json
import random

from langchain_text_splitters import RecursiveCharacterTextSplitter

WORDS = """the of and a to in is you that it he was for on are as with his they I at be this have from or one had by
word but not what all were we when your can said there use an each which she do how their if will up other about out
many then them these so some her would make like him into time has look two more write go see number no way could
people my than first water been call who oil its now find long down day did get come made may part""".split()
FOREIGN = ["Žluťoučký", "kůň", "日本語", "の文", "Привет,", "мир!", "नमस्ते", "👩‍👩‍👧‍👦", "e\u0301té", "a\u00a0b", "\x1f", "🇫🇷", "한국어", "كتاب"]


def text(draw):
    out = []
    for _ in range(draw.randint(3, 60)):
        kind = draw.random()
        word = draw.choice(FOREIGN) if kind < 0.15 else draw.choice(WORDS) * (draw.randint(1, 12) if kind < 0.2 else 1)
        out.append(word + draw.choice([" ", " ", " ", " ", ", ", ". ", "\n", "\n\n", "\r\n", "  ", "\n\n\n", "", "\t"]))
    return "".join(out)


cases = []
for seed in range(50):
    draw = random.Random(seed)
    size = draw.choice([4, 10, 25, 40, 100])
    overlap = draw.choice([0, 0, size // 4, size // 2, size - 1])
    separators = draw.choice([["\n\n", "\n", " ", ""]] * 3 + [["\n\n", "\n", ". ", " "], ["\n", ""], [", "]])
    source = text(draw)
    splitter = RecursiveCharacterTextSplitter(separators=separators, chunk_size=size, chunk_overlap=overlap)
    chunks = splitter.split_text(source)
    cases.append({"text": source, "separators": separators, "size": size, "overlap": overlap, "chunks": chunks})
print(json.dumps(cases, ensure_ascii=True, separators=(",", ":")))
