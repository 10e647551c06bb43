"""The kernels of the page `browser.html`: src/assets/browser/kernels.wasm, from tests/browser.

    python3 src/assets/browser/make.py KIT            compiles with the cross kit (`.ci/kit KIT`), writes the module
    python3 src/assets/browser/make.py check KIT PAGE whether the module committed, that of PAGE (browser.html of
                                                      `samebits site`) and one compiled now compute the same hashes, and
                                                      these are those that PAGE expects
"""
import base64
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(os.path.join(HERE, "../../.."))
ASSET = os.path.join(HERE, "kernels.wasm")
CRATE = os.path.join(ROOT, "tests/browser")
TARGET = "wasm32-unknown-unknown"


def compiled(kit):
    """The module as it is compiled now; no path of this machine is in it."""
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target/browser"))
    flags = f"-Ctarget-feature=+simd128 --remap-path-prefix={ROOT}=samebits"
    subprocess.run(["cargo", "--config", os.path.join(os.path.abspath(kit), "cargo.toml"), "build", "--release", "--target",
                    TARGET], cwd=CRATE, check=True, env={**os.environ, "RUSTFLAGS": flags, "CARGO_TARGET_DIR": target})
    return os.path.join(target, TARGET, "release/browser.wasm")


def hashes(module):
    """(case, tier): hash."""
    printed = subprocess.run(["node", os.path.join(CRATE, "hashes.mjs"), module], check=True, capture_output=True, text=True)
    rows = [line.rsplit(" ", 2) for line in printed.stdout.splitlines()]
    return {(case, tier): hash for case, tier, hash in rows}


def check(kit, page):
    text = open(page, encoding="utf-8").read()
    expected = json.loads(re.search(r"^const EXPECTED = (\{.*\});$", text, re.M).group(1))
    with tempfile.NamedTemporaryFile(suffix=".wasm") as inside:
        inside.write(base64.b64decode(re.search(r'^const MODULE = "(.*)";$', text, re.M).group(1)))
        inside.flush()
        now, there, shown = hashes(compiled(kit)), hashes(ASSET), hashes(inside.name)
    assert now == there == shown, f"kernels.wasm is stale: {now} now, {there} there, {shown} in the page"
    wrong = {key: hash for key, hash in now.items() if hash != expected[key[0]]}
    assert now and not wrong, f"other hashes than the golden ones: {wrong}"
    print(f"{len(now)} hashes of kernels.wasm are the golden ones, and those of the module compiled now")


def nameless(module, kit):
    """Without the place of the kit, which its own `core` names where it panics; as long as before."""
    place = os.path.realpath(kit).encode()
    return module.replace(place, b"kit".rjust(len(place), b"/"))


def write(kit):
    with open(compiled(kit), "rb") as made, open(ASSET, "wb") as asset:
        asset.write(nameless(made.read(), kit))
    for (case, tier), hash in hashes(ASSET).items():
        print(f"{case:24} {tier:8} {hash}")
    print(os.path.getsize(ASSET), "bytes")


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "check":
        check(*sys.argv[2:])
    elif len(sys.argv) == 2:
        write(sys.argv[1])
    else:
        sys.exit(__doc__)
