#!/usr/bin/env python3
"""Writes headers.txt: what stands at the top of every file of the kernels, which the tour answers questions from and
`samebits site` makes pages of. And the reading order into kernels/README.md, from where it is kept: lib.rs.

    python3 src/assets/book/make.py

A form feed and a path begin each file's part; its lines are those of the file, so that places in it are places there.
"""

import re
from pathlib import Path

root = Path(__file__).resolve().parents[3]
parts = []
for path in sorted((root / "kernels/src").rglob("*.rs"), key=lambda path: path.relative_to(root).as_posix()):
    header = []
    for line in path.read_text().splitlines():
        if not line.startswith("//!"):
            break
        header.append(line[3:].removeprefix(" "))
    if header:
        parts.append("\f" + path.relative_to(root).as_posix() + "\n" + "\n".join(header) + "\n")
(root / "src/assets/book/headers.txt").write_text("".join(parts))


def reading_order(text):
    """Where the list of that section begins and ends."""
    begin = text.index("\n1. ", text.index("# Reading order\n")) + 1
    return begin, text.index("\n\n", begin)


law = next(part for part in parts if part.startswith("\fkernels/src/lib.rs\n"))
order = law[slice(*reading_order(law))]
order = re.sub(r"\[`(?:mod@)?([^`]+)`\]", r"`\1`", order)
readme = root / "kernels/README.md"
text = readme.read_text()
begin, end = reading_order(text)
readme.write_text(text[:begin] + order + text[end:])
