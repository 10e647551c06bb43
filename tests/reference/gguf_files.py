#!/usr/bin/env python3
"""Cross-check with the Python package `gguf` (pip install gguf numpy).

    python3 tests/reference/gguf_files.py write        # makes tests/data/gguf/*.gguf
    python3 tests/reference/gguf_files.py read FILE…   # reads files that samebits wrote, and compares

`write` made the committed fixtures with gguf 0.19.0. tests/gguf reads them and writes the same pairs and tensors
again. With SAMEBITS_WRITE=FOLDER set, that test leaves what it wrote in FOLDER, for `read`.
"""
import pathlib
import sys

import gguf
import numpy as np

OUT = pathlib.Path(__file__).resolve().parents[1] / "data" / "gguf"


def write():
    OUT.mkdir(parents=True, exist_ok=True)
    w = gguf.GGUFWriter(OUT / "package.gguf", "llama")
    w.add_uint8("a.u8", 200)
    w.add_int8("a.i8", -100)
    w.add_uint16("a.u16", 60_000)
    w.add_int16("a.i16", -30_000)
    w.add_uint32("a.u32", 4_000_000_000)
    w.add_int32("a.i32", -2_000_000_000)
    w.add_float32("a.f32", 1e-5)
    w.add_bool("a.bool", True)
    w.add_string("a.string", "héllo\n")
    w.add_uint64("a.u64", 1 << 63)
    w.add_int64("a.i64", -(1 << 62))
    w.add_float64("a.f64", 0.1)
    w.add_array("a.strings", ["<unk>", "", "▁the", "日本"])
    w.add_array("a.floats", [0.5, -1.5])
    w.add_array("a.ints", [1, -2, 3])
    w.add_array("a.bools", [True, False])
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 64)).astype(np.float32)
    w.add_tensor("f32", x)
    w.add_tensor("f16", x.astype(np.float16).reshape(2, 3, 32))
    w.add_tensor("i32", np.arange(5, dtype=np.int32))
    for kind in ("Q4_0", "Q8_0", "BF16"):
        kind = gguf.GGMLQuantizationType[kind]
        w.add_tensor(kind.name.lower(), gguf.quants.quantize(x, kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def contents(path):
    reader = gguf.GGUFReader(path)
    # What begins with GGUF. is the reader's own: counts and version.
    pairs = {k: (f.types, f.contents()) for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    tensors = [(t.name, t.tensor_type.name, list(t.shape), t.data.tobytes()) for t in reader.tensors]
    return pairs, tensors


def read(paths):
    for path in paths:
        theirs = OUT / pathlib.Path(path).name
        assert contents(path) == contents(theirs), f"{path} differs from {theirs}"
        print(path, "ok")


if __name__ == "__main__":
    write() if sys.argv[1:] == ["write"] else read(sys.argv[2:])
