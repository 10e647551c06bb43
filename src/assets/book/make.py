#!/usr/bin/env python3
"""Writes headers.txt: what stands at the top of every file of the kernels, which the tour answers questions from.

    python3 src/assets/book/make.py

A form feed and a path begin each file's part; its lines are those of the file, so that places in it are places there.
"""

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
