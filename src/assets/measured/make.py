#!/usr/bin/env python3
"""What `samebits site` shows unless it is given something else: a record of `benches/record`, and the four ladders.

    python3 src/assets/measured/make.py record benches/record/intel-r-xeon-r-processor/2026-12-01.json
    python3 src/assets/measured/make.py ladders

`record` writes record.json: the record with four digits of each number and without what no page shows; a test holds the
one to the other. `ladders` measures: it builds the example `ladder`, climbs each on this machine and writes its picture,
which says where and when. Both speak of the machine that they were measured on, and want it quiet: of some runs take the one that others disturbed least.
"""

import datetime
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
ROW = ("kernel", "shape", "tier", "unit", "flops", "bytes", "bound", "hash")


def short(value):
    """A number of four digits: more than its noise leaves of it."""
    return float(f"{value:.4g}")


def summary(of, *parts):
    return {part: short(of[part]) for part in parts}


def row(of):
    kept = {key: of[key] for key in ROW} | {"spread": short(of["spread"])}
    kept |= {"flops": int(of["flops"]), "bytes": int(of["bytes"])}
    kept |= {key: summary(of[key], "median") for key in ("rate", "speedup")}
    return kept | {"of_peak": summary(of["of_peak"], "median", "min", "max")}


def run(of):
    ceilings = [{**c, "rate": summary(c["rate"], "median", "min", "max")} for c in of["ceilings"]]
    return {
        "schema": of["schema"],
        "git": of["git"],
        "machine": {"processor": of["machine"]["processor"]},
        "run": {key: of["run"][key] for key in ("threads", "cache")},
        "ceilings": ceilings,
        "rows": [row(one) for one in of["rows"]],
    }


def record(path):
    runs = [run(of) for of in json.loads(Path(path).read_text())["runs"]]
    place = Path(path).resolve().relative_to(ROOT).as_posix()
    whole = {"schema": "samebits-record/1", "from": place, "runs": runs}
    (HERE / "record.json").write_text(json.dumps(whole, separators=(",", ":")) + "\n")


def ladders():
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = names[0].split(":", 1)[1].strip().replace("(R)", "").replace("(TM)", "")
    compiler = " ".join(subprocess.check_output(["rustc", "--version"], text=True).split()[:2])
    note = f"{processor}, {datetime.date.today().isoformat()}, one thread, {compiler}"
    for name in ("gemm", "softmax", "attention", "nf4"):
        command = "cargo run --release -p samebits-kernels --example ladder --".split()
        picture = str(HERE / f"ladder-{name}.svg")
        subprocess.run([*command, name, "--svg", picture, "--note", note], check=True, cwd=ROOT)


match sys.argv[1:]:
    case ["record", path]:
        record(path)
    case ["ladders"]:
        ladders()
    case _:
        sys.exit(__doc__)
