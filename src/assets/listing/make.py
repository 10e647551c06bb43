"""The inner loops of some kernels as they are compiled, for `samebits explain`: src/assets/listing/TIER/KERNEL.txt.

    python3 src/assets/listing/make.py write [--kit DIR] [--only KERNEL…]
                                                                  compiles the kernels with lines, writes the listings
                                                                  (of these kernels); with the cross kit those of NEON,
                                                                  else those of x86
    python3 src/assets/listing/make.py check FILE TIER… [--kit DIR]
                                                                  whether the built FILE has these very loops
    python3 src/assets/listing/make.py lines                      numbers of lines anew, where lines have moved

A listing begins with `# compiler`, then has an instruction a line: its text and, where that of the line before is not its
own, a tab and the line of kernels/src that it comes from. Behind them stands each of these lines once, after `@`. Addresses
are left out; only jumps keep their distance, counted in instructions. Of some loops only a path is listed, what a whole
line takes: a jump by +1 then is one over what was left out.
"""
import argparse
import collections
import functools
import heapq
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "../../..")
FMA = "vfmadd|fmla"
DOTS = "({vex} )?vpdpbusd|sdot"
# What a whole line does on its way: a row is found, a line written, known to be whole or not; an absmax read.
ROW = "^i?mul "
WRITTEN = r"^vmovups [YZ]MMWORD PTR \[r(?!sp)\w+(\+r\w+\*4)?\],[yz]|^str q\d+, \[x"
STORED = r"@Some\(line\) => s\.store"
ABSMAX = r"^(vmov(ss|d) xmm\d+,DWORD PTR|ldr s\d+).*@(let mut line|if self\.left >= LANES)"


def quads(kernel, tiers=("avx512", "avx2", "neon")):
    """A function of the tiers' own words over quads."""
    words = {"avx512": ("vnni::Vnni", "avx512::Avx512"), "avx2": ("vnni::VnniShort", "avx2::Avx2"),
             "neon": ("neon::DotProd", "neon::Neon")}
    return {tier: f"<simd::quads::{of} as simd::quads::Quads<simd::{simd}>>::outline::enter::<{kernel}>"
            for tier, (of, simd) in words.items() if tier in tiers}


def of_each(kind, words, **counts):
    """A rule that counts to another number on each tier."""
    return {tier: (kind, count, words) for tier, count in counts.items()}


# kernel: the function of each tier that has such a loop (what stands behind outline::enter, or all of its name), and which of
# its innermost loops is meant (of each tier, where they differ): the one with most instructions of a kind, the shortest or the
# last with so many of a kind (FMA unless said), or the one that most of a file went into; or, where the loop has ways for tails,
# strides and the like, the shortest path without a call that comes back to where it began and passes these on its way, each
# what an instruction says or, behind @, the line of the source that it comes from.
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
    "gemv": ("gemm::Whole<gemm::weights::PackedMatrix>",
             {"avx512": ("shortest", 30), "avx2": ("shortest", 30), "neon": ("most", FMA + "|ldp q")}),
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
    "gemm_each": ({"avx512": "gemm::small::Tile<12>"}, ("most", FMA)),
    "gemv_bf16": ("gemm::Whole<gemm::weights::PackedMatrix<gemm::weights::Bf16>>",
                  {"avx512": ("most", "vpslld"), "avx2": ("most", "vpslld"), "neon": ("shortest", 32, "shl|fmla")}),
    "gemv_f16": ("gemm::Whole<gemm::weights::PackedMatrix<gemm::weights::F16>>", ("most", "vcvtph2ps|bsl")),
    "gemv_rows": ("gemm::rows::Sixteens<1>", ("file", "gemm/rows.rs")),
    "attention_products_bf16": ({"avx512": "attention::prefill::Work<attention::class::Bf16, 4, 3>",
                                 "avx2": "attention::prefill::Work<attention::class::Bf16, 3, 1>",
                                 "neon": "attention::prefill::Work<attention::class::Bf16, 3, 1>"},
                                of_each("shortest", FMA, avx512=24, avx2=12, neon=24)),
    "attention_backward": ({"avx512": "attention::backward::Product<8, 3>", "avx2": "attention::backward::Product<5, 1>",
                            "neon": "attention::backward::Product<5, 1>"}, ("most", FMA)),
    "attention_decode_bf16": ("attention::decode::values::Values<attention::class::F32, u16, 1, 4>", ("most", FMA)),
    "attention_decode_products_bf16": ("attention::decode::values::Values<attention::class::Bf16, u16, 1, 2>",
                                       ("file", "bf16.rs")),
    "attention_decode_int8": ("attention::decode::values::Values<attention::class::F32, i8, 1, 4>", ("most", "vpmovsxbd|sxtl")),
    "nf4_quantize": ("nf4::quantize::Quantize<nf4::Single>", ("path", [ABSMAX, ABSMAX])),
    "nf4_dequantize": ("nf4::dequantize::Stream", ("path", [ABSMAX, r"@s\.stream\(a", ABSMAX, r"@s\.stream\(b"])),
    "layer_norm": ("rows::Rows<norm::Layer>",
                   of_each("last", "v(sub|add)pd|f(sub|add) ", avx512=4, avx2=8, neon=16)),
    "log_softmax": ("rows::Rows<softmax::LogSoftmax>",
                    {"avx512": ("last", 8), "avx2": ("shortest", 19, "vfn?m|test"), "neon": ("last", 8)}),
    "gelu_erf": ("rows::Rows<map::Map<activation::Only<2>>>", ("last", 6)),
    "silu": ("rows::Rows<map::Map<activation::Only<5>>>", ("last", 6)),
    "exp": ("rows::Rows<map::Map<math::exp::Exp>>", ("last", 6)),
    "rope": ("rope::Rotate", {"avx512": ("shortest", 1, "vfnmadd"), "avx2": ("path", [ROW, r"^vfmadd.*s\.fma\(a, sin"]),
                              "neon": ("path", [ROW, "^fmls", STORED, STORED])}),
    "rope_interleaved": ("rope::Rotate", {"avx512": ("shortest", 1, "vshufps"), "avx2": ("path", [ROW, r"^vfmadd.*s\.swap"]),
                                          "neon": ("path", [ROW, r"^fmla.*s\.swap"])}),
    "dot_rows": ("dot::DotRows", ("most", FMA)),
    "sum": ("reduce::Reduce<reduce::Sums<reduce::Plain>>",
            of_each("shortest", "vcvtps2pd|fcvtl", avx512=8, avx2=4, neon=8)),
    "max": ("reduce::Reduce<reduce::Extreme<reduce::Largest>>",
            of_each("shortest", "vmaxps|fcmgt", avx512=4, avx2=2, neon=4)),
    "search_int8": (quads("search::codes::Products<search::forms::Int8>"), of_each("shortest", DOTS, avx512=2, avx2=4, neon=4)),
    "search_nf4": (quads("search::codes::Products<search::forms::Nf4>"), of_each("shortest", DOTS, avx512=2, avx2=4, neon=8)),
    "search_binary": (quads("search::codes::Products<search::forms::Binary>"), of_each("shortest", DOTS, avx512=2, avx2=2, neon=4)),
    "f16_to_f32": ("half::Widen<half::F16>", ("file", "half.rs")),
    "bf16_to_f32": ("half::Widen<half::Bf16>", ("file", "half.rs")),
    "f32_to_f16": ("half::Narrow<half::F16>", ("file", "half.rs")),
    "gemm_q8_0": (quads("int8::scaled::Tile<int8::forms::Eight, 4, 1>", ["avx512", "avx2"]), ("most", DOTS)),
    "gemv_q8_0": (quads("int8::scaled::Tile<int8::forms::Eight, 1, 1>"), ("most", DOTS)),
    "gemv_q4_0": (quads("int8::scaled::Tile<int8::forms::Nibbles, 1, 1>"), ("most", DOTS)),
    "gemv_q4_k": (quads("int8::scaled::Tile<int8::k_forms::Q4K, 1, 1>"), ("most", DOTS)),
    "gemv_q6_k": (quads("int8::scaled::Tile<int8::k_forms::Q6K, 1, 1>"), ("most", DOTS)),
    "layer_norm_backward": ("norm::backward::Backward",
                            ("path", [r"@Some\(w\) => s\.load", ROW, ROW, "^(vsubpd|fsub).*if self.centred", "^(vcvtpd2ps|fcvtn )",
                                      ROW, WRITTEN])),
    "swiglu_backward": ("map::Each<activation::backward::GatedSlope, 3, 2>",
                        ("path", [ROW, ROW, ROW, r"@over_one_plus_exp\(s, x, s\.neg", ROW, WRITTEN, ROW, WRITTEN])),
    "column_sum": ("column_sum::Sums<column_sum::Plain>", ("path", [ROW, r"@\*chain = s\.add\(\*chain, s\.load", "@self.strip::<S, STRIP>"])),
    "cross_entropy": ("cross_entropy::Rows", ("path", [ROW, "^(vfmadd|fmla)", ROW, WRITTEN, "^(vcvtps2pd|fcvtl)"])),
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
            source = re.search(r"kernels/src/(\S+?\.rs:[1-9]\d*)", line)
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


@functools.cache
def lines_of(file):
    return open(os.path.join(ROOT, "kernels/src", file)).read().splitlines()


def source(place):
    """The line of the source."""
    file, number = place.split(":")
    return lines_of(file)[int(number) - 1].strip()


def path(code, marks):
    """The shortest way round without a call that passes a block for each mark, in their order; from its lowest address."""
    index = {address: i for i, (address, _, _) in enumerate(code)}
    targets = {i: index.get(int(to[1], 16)) for i, (_, text, _) in enumerate(code)
               if JUMP.match(text.split()[0]) and (to := re.search(r"\b([0-9a-f]+) <", text))}
    over = re.compile(r"(jmp|b|ret|br|ud2|brk)\b(?!\.)")
    starts = {0, *targets.values(), *(i + 1 for i, (_, text, _) in enumerate(code) if i in targets or over.match(text))}
    starts = sorted(starts - {None, len(code)})
    blocks = {a: range(a, b) for a, b in zip(starts, [*starts[1:], len(code)])}
    def has(a, mark):
        return any(re.search(mark, f"{text} @{source(place) if place else ''}") for _, text, place in (code[i] for i in blocks[a]))
    leads = {a: [targets.get(b[-1]), None if over.match(code[b[-1]][1]) else b.stop] for a, b in blocks.items()}
    # A jump through a table leads to every block that nothing else leads to.
    known = {0, *(to for tos in leads.values() for to in tos)}
    for a, block in blocks.items():
        if re.match(r"jmp r|jmp QWORD|br ", code[block[-1]][1]):
            leads[a] = [b for b in blocks if b not in known]
    avoided = {a for a in blocks if has(a, r"^(call|bl|blr) ")}
    marked = [{a for a in blocks if has(a, mark)} - avoided for mark in marks]
    found = []
    for first in marked[0]:
        ways, seen = [(len(blocks[first]), (first,), 1)], set()
        while ways:
            length, way, passed = heapq.heappop(ways)
            if len(way) > 1 and passed < len(marks) and way[-1] in marked[passed]:
                passed += 1
            if passed == len(marks) and first in leads[way[-1]]:
                found.append((length, way))
                break
            if (way[-1], passed) not in seen:
                seen.add((way[-1], passed))
                for to in leads[way[-1]]:
                    if to in blocks and to not in avoided and to not in way:
                        heapq.heappush(ways, (length + len(blocks[to]), (*way, to), passed))
    _, way = min(found)
    head = way.index(min(way))
    return [i for a in way[head:] + way[:head] for i in blocks[a]]


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
        return (min(count, wanted) if kind in ("shortest", "last") else count, loop[0] if kind == "last" else -len(part))
    if kind == "path":
        taken = path(code, wanted)
    else:
        first, last = max(loops(code), key=score)
        taken = range(first, last + 1)
    index = {code[i][0]: n for n, i in enumerate(taken)}
    lines = []
    for i, (_, text, place) in enumerate(code[i] for i in taken):
        target = re.search(r"\b([0-9a-f]+) <.*", text)
        if target:
            to = index.get(int(target[1], 16))
            away = "out" if to is None else f"{to - i:+}"
            text = text[:target.start()].replace("0x", "") + away
        text = re.sub(r"\[rip\+0x[0-9a-f]+\]( <.*>)?", "[rip]", text)
        lines.append((text, place or "-"))
    return lines


def listing(tier, kernel):
    return os.path.join(HERE, tier, kernel + ".txt")


def write(tier, kernel, compiler, lines):
    os.makedirs(os.path.dirname(listing(tier, kernel)), exist_ok=True)
    with open(listing(tier, kernel), "w") as out:
        out.write(f"# {compiler}\n")
        before = None
        for text, place in lines:
            out.write(f"{text}\n" if place == before else f"{text}\t{place}\n")
            before = place
        for place in sorted({place for _, place in lines if place != "-"}, key=lambda p: (p.split(":")[0], int(p.split(":")[1]))):
            out.write(f"@{place}\t{source(place)}\n")


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


def parts(loop):
    """A loop as it lies in memory; a path in pieces, from one jump over what is left out to the next."""
    part = []
    for line in loop:
        part.append(line)
        if re.search(r" \+1$|^(jmp|br) [rx]", line):
            yield part
            part = []
    yield part


def listed(tier):
    """The kernels with a loop of that tier."""
    return [kernel for kernel, (function, _) in KERNELS.items() if isinstance(function, str) or tier in function]


def committed(tier, kernel):
    lines = open(listing(tier, kernel)).read().splitlines()
    return lines[0][2:], [line.split("\t")[0] for line in lines[1:] if not line.startswith("@")]


def work(lines):
    """The instructions of a loop that are arithmetic over lanes."""
    lanes = r"{vex} |v(?!mov|broadcast|pbroadcast|zero)|(?!mov|dup|fmov|ld|st)\w+ (v\d+\.|d\d+|q\d+)"
    return [re.split(r"[ \t]", text, maxsplit=1)[0] for text in lines if re.match(lanes, re.sub(r"\s+", " ", text))]


def works(part, built):
    """Whether that work is done anywhere in one piece, in whatever order."""
    missing, size = collections.Counter(work(part)), len(work(part))
    for i, name in enumerate(built):
        missing[name] -= 1
        if i >= size:
            missing[built[i - size]] += 1
        if not missing[name] and not any(missing.values()):
            return True
    return not size


def check(file, tiers, kit):
    objdump, compiler = tools(kit)
    texts = [at[2] for at in map(INSTRUCTION.match, disassembled(objdump, file)) if at]
    built, done = mnemonics(texts), work(texts)
    broken = 0
    for tier in tiers:
        for kernel in listed(tier):
            by, loop = committed(tier, kernel)
            if by != compiler:
                print(f"{tier}/{kernel}: the listing is of {by}, this is {compiler}: not compared")
            elif all(mnemonics(part) in built for part in parts(loop)):
                print(f"{tier}/{kernel}: {len(loop)} instructions, as built")
            elif all(mnemonics(part) in built or works(part, done) for part in parts(loop)):
                print(f"{tier}/{kernel}: {len(loop)} instructions, as built but for moves and their order")
            else:
                print(f"{tier}/{kernel}: {file} has no such loop any more: src/assets/listing/make.py writes it anew")
                broken += 1
    sys.exit(1 if broken else 0)


def renumber():
    """Finds each line by its text, the nearest to where it was."""
    for tier in sorted(TYPES):
        for kernel in listed(tier):
            text = open(listing(tier, kernel)).read()
            for place, source in re.findall(r"^@(\S+)\t(.*)$", text, re.M):
                file, number = place.split(":")
                found = [i for i, line in enumerate(lines_of(file), 1) if line.strip() == source]
                if not found:
                    sys.exit(f"{tier}/{kernel}: {place} is gone: {source}")
                to = min(found, key=lambda i: abs(i - int(number)))
                # Behind a mark, so that a number that is given is not taken for one that was.
                text = re.sub(rf"(^@|\t){re.escape(place)}(\t|$)", rf"\g<1>{file}:={to}\g<2>", text, flags=re.M)
            open(listing(tier, kernel), "w").write(text.replace(":=", ":"))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("what", choices=["write", "check", "lines"])
    arguments.add_argument("file", nargs="?")
    arguments.add_argument("tiers", nargs="*")
    arguments.add_argument("--kit")
    arguments.add_argument("--library", help="write: instead of compiling")
    arguments.add_argument("--only", nargs="+", metavar="KERNEL", help="write: these alone")
    given = arguments.parse_args()
    if given.what == "check":
        check(given.file, given.tiers, given.kit)
    if given.what == "lines":
        return renumber()
    library, objdump, compiler = (given.library, *tools(given.kit)) if given.library else compiled(given.kit)
    names = list(functions(objdump, library))
    for tier in ["neon"] if given.kit else ["avx2", "avx512"]:
        for kernel in listed(tier):
            if given.only and kernel not in given.only:
                continue
            function, rule = KERNELS[kernel]
            function = function if isinstance(function, str) else function[tier]
            enter = function if function[0] == "<" else f"<{TYPES[tier]} as simd::Simd>::outline::enter::<{function}>"
            symbol = next(symbol for text, symbol in names if text == enter)
            lines = inner(body(objdump, library, symbol), rule, tier)
            write(tier, kernel, compiler, lines)
            print(f"{tier}/{kernel}: {len(lines)} instructions")


main()
