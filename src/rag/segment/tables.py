#!/usr/bin/env python3
"""Writes tables.rs: break properties of the Unicode Character Database 16.0.0, as the package regex carries them.

    pip install regex==2024.11.6
    python3 src/rag/segment/tables.py > src/rag/segment/tables.rs && cargo fmt
"""

import regex

# Garay came with 16.0, Beria Erfe with 17.0.
assert regex.match(r"\p{Lu}", "\U00010d50") and not regex.match(r"\p{Lu}", "\U00016ea0"), "not Unicode 16.0"
WIDTH = 108
GRAPHEME = [
    ("Cr", r"\p{GCB=CR}"), ("Lf", r"\p{GCB=LF}"), ("Control", r"\p{GCB=Control}"), ("Zwj", r"\p{GCB=ZWJ}"),
    ("Linker", r"\p{InCB=Linker}"), ("Joiner", r"(?=\p{InCB=Extend})\p{GCB=Extend}"), ("Extend", r"\p{GCB=Extend}"),
    ("Flag", r"\p{GCB=Regional_Indicator}"), ("Prepend", r"\p{GCB=Prepend}"), ("Spacing", r"\p{GCB=SpacingMark}"),
    ("L", r"\p{GCB=L}"), ("V", r"\p{GCB=V}"), ("T", r"\p{GCB=T}"), ("Lv", r"[\p{GCB=LV}\p{GCB=LVT}]"),
    ("Picture", r"\p{Extended_Pictographic}"), ("Consonant", r"\p{InCB=Consonant}"),
]
WORD = [
    ("Cr", r"\p{WB=CR}"), ("Lf", r"\p{WB=LF}"), ("Newline", r"\p{WB=Newline}"), ("Extend", r"\p{WB=Extend}"),
    ("Zwj", r"\p{WB=ZWJ}"), ("Format", r"\p{WB=Format}"), ("Katakana", r"\p{WB=Katakana}"),
    ("Hebrew", r"\p{WB=Hebrew_Letter}"), ("LetterPicture", r"(?=\p{Extended_Pictographic})\p{WB=ALetter}"),
    ("Letter", r"\p{WB=ALetter}"), ("Single", r"\p{WB=Single_Quote}"), ("Double", r"\p{WB=Double_Quote}"),
    ("MidNumLet", r"\p{WB=MidNumLet}"), ("MidLetter", r"\p{WB=MidLetter}"), ("MidNum", r"\p{WB=MidNum}"),
    ("Numeric", r"\p{WB=Numeric}"), ("Connector", r"\p{WB=ExtendNumLet}"), ("Space", r"\p{WB=WSegSpace}"),
    ("Flag", r"\p{WB=Regional_Indicator}"), ("Picture", r"\p{Extended_Pictographic}"),
]
SENTENCE = [
    ("Cr", r"\p{SB=CR}"), ("Lf", r"\p{SB=LF}"), ("Separator", r"\p{SB=Sep}"), ("Extend", r"\p{SB=Extend}"),
    ("Format", r"\p{SB=Format}"), ("Space", r"\p{SB=Sp}"), ("Lower", r"\p{SB=Lower}"), ("Upper", r"\p{SB=Upper}"),
    ("Letter", r"\p{SB=OLetter}"), ("Numeric", r"\p{SB=Numeric}"), ("Stop", r"\p{SB=ATerm}"),
    ("Continue", r"\p{SB=SContinue}"), ("Terminal", r"\p{SB=STerm}"), ("Close", r"\p{SB=Close}"),
]


def write(name, doc, classes):
    patterns = [(i + 1, regex.compile(pattern)) for i, (_, pattern) in enumerate(classes)]
    runs, now = [], None
    for code in range(0x110000):
        found = 0
        if not 0xD800 <= code <= 0xDFFF:
            found = next((i for i, pattern in patterns if pattern.match(chr(code))), 0)
        if found != now:
            runs.append(f"{code << 5 | found:#x}")
            now = found
    print(f"/// {doc}: where a class begins, with its number: `code << 5 | class`.")
    print(f"pub(super) const {name}: &[u32] = &[")
    line = "   "
    for item in runs:
        if len(line) + len(item) + 2 > WIDTH:
            print(line)
            line = "   "
        line += f" {item},"
    print(f"{line}\n];\n")


print("//! Break properties, written by tables.py from the Unicode Character Database 16.0.0. Do not edit.\n")
write("GRAPHEME", "Grapheme_Cluster_Break, with Extended_Pictographic and Indic_Conjunct_Break", GRAPHEME)
write("WORD", "Word_Break, with Extended_Pictographic", WORD)
write("SENTENCE", "Sentence_Break", SENTENCE)
