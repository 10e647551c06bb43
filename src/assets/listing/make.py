"""The inner loops of some kernels as they are compiled, for `samebits explain`: src/assets/listing/TIER/KERNEL.txt.

    python3 src/assets/listing/make.py write [--kit DIR]          compiles the kernels with lines, writes the listings;
                                                                  with the cross kit those of NEON, else those of x86
    python3 src/assets/listing/make.py check FILE TIER… [--kit DIR]
                                                                  whether the built FILE has these very loops
    python3 src/assets/listing/make.py lines                      numbers of lines anew, where lines have moved

A listing begins with `# compiler`, then has an instruction a line: its text and, where that of the line before is not its
own, a tab and the line of kernels/src that it comes from. Behind them stands each of these lines once, after `@`. Addresses
are left out; only jumps keep their distance, counted in instructions.
"""
import argparse
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "../../..")
FMA = "vfmadd|fmla"
DOTS = "({vex} )?vpdpbusd|sdot"
# kernel: the function of each tier that has such a loop (what stands behind outline::enter, or all of its name), and which of
# its innermost loops is meant (of each tier, where they differ): the one with most instructions of a kind, the shortest with
# so many of a kind (FMA unless said), or the one that most of a file went into.
KERNELS = {
    "gemm": ({"avx512": "gemm::many::Band<8, 3, true>", "avx2": "gemm::many::Band<6, 1, false>",
              "neon": "gemm::many::Band<6, 1, false>"},
             ("most", FMA)),
    "gemm_bf16": ({"avx512": "bf16::Tile<6, 2>", "avx2": "bf16::Tile<2, 1>", "neon": "bf16::Tile<2, 1>"}, ("most", FMA)),
    "gemm_bf16_amx": ({"avx512": "bf16::tiles::OnTiles<simd::tiles::amx::Amx>"}, ("most", "tdpbf16ps|vaddps")),
    "gemm_i8": ({"avx512": "<simd::quads::vnni::Vnni as simd::quads::Quads<simd::avx512::Avx512>>::outline::enter"
                           "::<int8::exact::Tile<4, 2>>",
                 "avx2": "<simd::quads::vnni::VnniShort as simd::quads::Quads<simd::avx2::Avx2>>::outline::enter"
                         "::<int8::exact::Tile<4, 1>>",
                 "neon": "<simd::quads::neon::DotProd as simd::quads::Quads<simd::neon::Neon>>::outline::enter"
                         "::<int8::exact::Tile<4, 1>>"}, ("most", DOTS)),
    "gemv": ("gemm::Whole<gemm::weights::PackedMatrix>", ("shortest", 30)),
    "softmax": ("rows::Rows<softmax::Softmax>", ("shortest", 8)),
    "rms_norm": ("rows::Rows<norm::Rms>", ("shortest", 4, r"v(mul|add)pd|f(mul|add) .*\.2d")),
    "attention": ({"avx512": "attention::prefill::Work<attention::class::F32, 8, 3>",
                   "avx2": "attention::prefill::Work<attention::class::F32, 5, 1>",
                   "neon": "attention::prefill::Work<attention::class::F32, 5, 1>"}, ("shortest", 10)),
    "attention_decode": ({"avx512": "attention::decode::values::Values<attention::class::F32, f32, 1, 8>",
                          "avx2": "attention::decode::values::Values<attention::class::F32, f32, 1, 4>",
                          "neon": "attention::decode::values::Values<attention::class::F32, f32, 1, 4>"},
                         {"avx512": ("most", FMA), "avx2": ("shortest", 2, "vfmadd213"), "neon": ("shortest", 4, "stp|ldr x")}),
    "nf4": ("gemm::many::Fill<nf4::pack::PackedNf4>", ("file", "nf4/product.rs")),
    "nf4_gemv": ("gemm::Whole<nf4::pack::PackedNf4>",
                 {"avx512": ("shortest", 64, FMA + "|vpermd"), "avx2": ("shortest", 16), "neon": ("shortest", 32)}),
    "dot": ("dot::Dot", ("most", FMA)),
    "search": ("search::floats::Dots<f32>",
               {"avx512": ("most", FMA), "avx2": ("shortest", 16, FMA + "|vmovups"), "neon": ("most", FMA)}),
    "topk": ("topk::Offer", ("most", r"vcmp\w+ps|fcmg")),
    "f32_to_bf16": ("half::Narrow<half::Bf16>", ("file", "half.rs")),
}
TYPES = {"avx2": "simd::avx2::Avx2", "avx512": "simd::avx512::Avx512", "neon": "simd::neon::Neon"}
INSTRUCTION = re.compile(r"^\s+([0-9a-f]+):\t(.*)$")
JUMP = re.compile(r"^(j\w+|b|b\.\w+|cbn?z|tbn?z)$")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def functions(objdump, file):
    """The functions of v0 names: what a person reads, and the section."""
    names = re.findall(r" \.text\.(_R\w+)", run(objdump, "-h", "-w", file))
    readable = subprocess.run(["c++filt"], input="\n".join(names), check=True, capture_output=True, text=True).stdout
    for name, text in zip(names, readable.splitlines()):
        text = re.sub(r"\[[0-9a-f]+\]|samebits_kernels::|: (usize|bool)", "", text.replace("samebits_kernels[", "samebits_kernels["))
        yield text.replace("samebits_kernels::", ""), name


def disassembled(objdump, file, *more):
    flags = [] if "aarch64" in objdump else ["-M", "intel"]
    return run(objdump, "-d", "--no-show-raw-insn", *flags, *more, file).splitlines()


def body(objdump, file, name):
    """(address, instruction, place) of a function, the place being the innermost of kernels/src outside simd/."""
    # What does not change from an instruction to the next is not said again: the innermost line, and where nothing was
    # inlined all of it. A function without a line behind it has none here.
    inner, outer, place, found = None, [], None, []
    for line in disassembled(objdump, file, "-l", "--inlines", "-j", ".text." + name):
        at = INSTRUCTION.match(line)
        if at:
            ours = [f for f in [inner, *outer] if f and not re.match(r"simd/|line|view|rows.rs|cpu", f)]
            place, outer = ours[0] if ours else None, []
            text = re.sub(r"\s+", " ", re.split(r"\s# |\s// ", at[2])[0]).strip()
            found.append((int(at[1], 16), text, place))
        else:
            source = re.search(r"kernels/src/(\S+?\.rs:\d+)", line)
            if line.startswith("inlined by "):
                outer += [source[1]] if source else []
            else:
                inner = source and source[1]
    return found


def loops(code):
    """The innermost loops: ranges of indices."""
    index = {address: i for i, (address, _, _) in enumerate(code)}
    found = []
    for i, (address, text, _) in enumerate(code):
        words = text.split()
        target = re.search(r"\b([0-9a-f]+) <", text)
        if JUMP.match(words[0]) and target and int(target[1], 16) in index and int(target[1], 16) <= address:
            found.append((index[int(target[1], 16)], i))
    return [l for l in found if not any(o != l and l[0] <= o[0] and o[1] <= l[1] for o in found)]


def inner(code, rule, tier):
    """The loop that a rule means; of equals the shorter one."""
    kind, wanted, words = (*(rule[tier] if isinstance(rule, dict) else rule), FMA)[:3]
    words = wanted if kind == "most" else words
    def score(loop):
        part = code[loop[0]:loop[1] + 1]
        if kind == "file":
            count = sum(1 for _, _, place in part if place and place.startswith(wanted))
        else:
            count = sum(1 for _, text, _ in part if re.match(words, text))
        return (min(count, wanted) if kind == "shortest" else count, -len(part))
    best = max(loops(code), key=score)
    part, start = code[best[0]:best[1] + 1], best[0]
    index = {address: i - start for i, (address, _, _) in enumerate(code)}
    lines = []
    for i, (_, text, place) in enumerate(part):
        target = re.search(r"\b([0-9a-f]+) <.*", text)
        if target:
            to = index.get(int(target[1], 16))
            away = "out" if to is None or not 0 <= to < len(part) else f"{to - i:+}"
            text = text[:target.start()].replace("0x", "") + away
        text = re.sub(r"\[rip\+0x[0-9a-f]+\]( <.*>)?", "[rip]", text)
        lines.append((text, place or "-"))
    return lines


def path(tier, kernel):
    return os.path.join(HERE, tier, kernel + ".txt")


def write(tier, kernel, compiler, lines):
    os.makedirs(os.path.dirname(path(tier, kernel)), exist_ok=True)
    with open(path(tier, kernel), "w") as out:
        out.write(f"# {compiler}\n")
        before = None
        for text, place in lines:
            out.write(f"{text}\n" if place == before else f"{text}\t{place}\n")
            before = place
        for place in sorted({place for _, place in lines if place != "-"}, key=lambda p: (p.split(":")[0], int(p.split(":")[1]))):
            file, number = place.split(":")
            source = open(os.path.join(ROOT, "kernels/src", file)).read().splitlines()[int(number) - 1].strip()
            out.write(f"@{place}\t{source}\n")


def compiled(kit):
    """The kernels with lines and readable names: the library, its objdump, the compiler."""
    config = ["--config", kit + "/cargo.toml", ] if kit else []
    target = ["--target", "aarch64-unknown-linux-gnu"] if kit else []
    folder = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "listing")
    flags = ["-C", "debuginfo=1", "-C", "symbol-mangling-version=v0"]
    subprocess.run(["cargo", *config, "rustc", "--release", "-p", "samebits-kernels", "--lib", *target, "--", *flags],
                   check=True, cwd=ROOT, env={**os.environ, "CARGO_TARGET_DIR": folder})
    library = os.path.join(folder, *target[1:], "release/libsamebits_kernels.rlib")
    return library, *tools(kit)


def tools(kit):
    if not kit:
        return "objdump", run("rustc", "--version").strip()
    os.environ["LD_LIBRARY_PATH"] = kit + "/usr/lib/x86_64-linux-gnu"
    return kit + "/usr/bin/aarch64-linux-gnu-objdump", run(kit + "/rustc", "--version").strip()


def mnemonics(lines):
    return " " + " ".join(re.split(r"[ \t]", text, maxsplit=1)[0] for text in lines) + " "


def listed(tier):
    """The kernels with a loop of that tier."""
    return [kernel for kernel, (function, _) in KERNELS.items() if isinstance(function, str) or tier in function]


def committed(tier, kernel):
    lines = open(path(tier, kernel)).read().splitlines()
    return lines[0][2:], [line.split("\t")[0] for line in lines[1:] if not line.startswith("@")]


def check(file, tiers, kit):
    objdump, compiler = tools(kit)
    built = mnemonics(at[2] for at in map(INSTRUCTION.match, disassembled(objdump, file)) if at)
    broken = 0
    for tier in tiers:
        for kernel in listed(tier):
            by, loop = committed(tier, kernel)
            if by != compiler:
                print(f"{tier}/{kernel}: the listing is of {by}, this is {compiler}: not compared")
            elif mnemonics(loop) not in built:
                print(f"{tier}/{kernel}: {file} has no such loop any more: src/assets/listing/make.py writes it anew")
                broken += 1
            else:
                print(f"{tier}/{kernel}: {len(loop)} instructions, as built")
    sys.exit(1 if broken else 0)


def renumber():
    """Finds each line by its text, the nearest to where it was."""
    for tier in sorted(TYPES):
        for kernel in listed(tier):
            text = open(path(tier, kernel)).read()
            for place, source in re.findall(r"^@(\S+)\t(.*)$", text, re.M):
                file, number = place.split(":")
                now = open(os.path.join(ROOT, "kernels/src", file)).read().splitlines()
                found = [i for i, line in enumerate(now, 1) if line.strip() == source]
                if not found:
                    sys.exit(f"{tier}/{kernel}: {place} is gone: {source}")
                to = min(found, key=lambda i: abs(i - int(number)))
                # Behind a mark, so that a number that is given is not taken for one that was.
                text = re.sub(rf"(^@|\t){re.escape(place)}(\t|$)", rf"\g<1>{file}:={to}\g<2>", text, flags=re.M)
            open(path(tier, kernel), "w").write(text.replace(":=", ":"))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("what", choices=["write", "check", "lines"])
    arguments.add_argument("file", nargs="?")
    arguments.add_argument("tiers", nargs="*")
    arguments.add_argument("--kit")
    arguments.add_argument("--library", help="write: instead of compiling")
    given = arguments.parse_args()
    if given.what == "check":
        check(given.file, given.tiers, given.kit)
    if given.what == "lines":
        return renumber()
    library, objdump, compiler = (given.library, *tools(given.kit)) if given.library else compiled(given.kit)
    names = list(functions(objdump, library))
    for tier in ["neon"] if given.kit else ["avx2", "avx512"]:
        for kernel in listed(tier):
            function, rule = KERNELS[kernel]
            function = function if isinstance(function, str) else function[tier]
            enter = function if function[0] == "<" else f"<{TYPES[tier]} as simd::Simd>::outline::enter::<{function}>"
            symbol = next(symbol for text, symbol in names if text == enter)
            lines = inner(body(objdump, library, symbol), rule, tier)
            write(tier, kernel, compiler, lines)
            print(f"{tier}/{kernel}: {len(lines)} instructions")


main()
