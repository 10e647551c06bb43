#!/usr/bin/env python3
"""Writes tables.rs from the Unicode Character Database 16.0.0, as the package unicodedata2 carries it.

    pip install unicodedata2==16.0.0
    python3 src/io/tokenizer/unicode/tables.py > src/io/tokenizer/unicode/tables.rs && cargo fmt

Version 16.0 is what the regular expressions of `tokenizers` 0.23 (Oniguruma 6.9.10) are built with.
"""

import unicodedata2 as ucd

VERSION = "16.0.0"
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co Cn".split()
CODES = range(0x110000)
WIDTH = 108


def runs(value):
    """The places where `value` changes, with what it changes to."""
    found = []
    for code in CODES:
        now = value(code)
        if not found or found[-1][1] != now:
            found.append((code, now))
    return found


def rows(items):
    line = "   "
    for item in items:
        if len(line) + len(item) + 2 > WIDTH:
            yield line
            line = "   "
        line += f" {item},"
    yield line


def table(doc, name, kind, items):
    print(f"/// {doc}")
    print(f"pub(super) const {name}: &[{kind}] = &[")
    print("\n".join(rows(items)))
    print("];\n")


def literal(text):
    return "".join(f"\\u{{{ord(c):x}}}" if not c.isascii() or c in ' "\\' or not c.isprintable() else c for c in text)


def mappings(doc, name, of):
    """Code points whose `of` is another text: the code points, where their texts end, and all the texts."""
    pairs = [(code, of(chr(code))) for code in CODES if not 0xD800 <= code <= 0xDFFF and not 0xAC00 <= code <= 0xD7A3]
    pairs = [(code, text) for code, text in pairs if text != chr(code)]
    ends, total = [], 0
    for _, text in pairs:
        total += len(text.encode())
        ends.append(total)
    table(f"{doc}: the code points.", f"{name}_CODES", "u32", (f"{code:#x}" for code, _ in pairs))
    table(f"{doc}: where the text of each ends in [`{name}_TEXT`].", f"{name}_ENDS", "u16", map(str, ends))
    print(f"/// {doc}: the texts.\npub(super) const {name}_TEXT: &str = \"\\")
    line = ""
    for _, text in pairs:
        piece = literal(text)
        if len(line) + len(piece) > WIDTH:
            print(line + "\\")
            line = ""
        line += piece
    print(line + '";\n')


def lower(char):
    """The lower case of one character: the interpreter's (14.0 or later), and what 15.0 to 16.0 added."""
    code = ord(char)
    added = {0x1C89: 0x1C8A, 0xA7CB: 0x264, 0xA7CC: 0xA7CD, 0xA7DA: 0xA7DB, 0xA7DC: 0x19B}
    if 0x10D50 <= code <= 0x10D65:
        return chr(code + 0x20)
    return chr(added[code]) if code in added else char.lower() if ucd.category(char) != "Cn" else char


def compositions():
    """Pairs that NFC joins: the canonical decompositions into two that are not excluded from it."""
    for code in CODES:
        parts = ucd.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<") and ucd.normalize("NFC", chr(code)) == chr(code):
            yield int(parts[0], 16), int(parts[1], 16), code


def main():
    assert ucd.unidata_version == VERSION, ucd.unidata_version
    print("//! Unicode Character Database", VERSION + ", written by tables.py: not to be edited.\n")
    category = {name: i for i, name in enumerate(CATEGORIES)}
    table(
        "Where the general category changes: the code point shifted left by 5, with the new category.",
        "CATEGORY",
        "u32",
        (f"{code << 5 | value:#x}" for code, value in runs(lambda c: category[ucd.category(chr(c))])),
    )
    table(
        "Where the canonical combining class changes: the code point shifted left by 8, with the new class.",
        "COMBINING",
        "u32",
        (f"{code << 8 | value:#x}" for code, value in runs(lambda c: ucd.combining(chr(c)))),
    )
    canonical = lambda c: ucd.normalize("NFD", c)
    mappings("Canonical decompositions, complete, without Hangul", "CANONICAL", canonical)
    # Only where they differ from the canonical ones.
    compatible = lambda c: c if ucd.normalize("NFKD", c) == canonical(c) else ucd.normalize("NFKD", c)
    mappings("Compatibility decompositions that are not canonical, complete", "COMPATIBLE", compatible)
    mappings("Lower case of one character by itself", "LOWER", lower)
    table(
        "Compositions, sorted: first, second, composed.",
        "COMPOSITION",
        "(u32, u32, u32)",
        (f"({a:#x}, {b:#x}, {c:#x})" for a, b, c in sorted(compositions())),
    )


if __name__ == "__main__":
    main()
