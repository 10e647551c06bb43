#!/usr/bin/env python3
"""samebits beside PyTorch (MKL), NumPy (OpenBLAS), bitsandbytes and Rust crates, in one interleaved run.

    cargo build --release && python3 peers.py [NAME …] [--threads 1,2] [--seconds 1] [--list]

Every case has contenders that do the same work on the same buffers. In each round every contender is timed
once, in a new order; a ratio is taken within a round, so that a noisy machine slows both sides of it. Reported: the
median over the rounds, and the least and the greatest. Results are compared before anything is timed.
The limits (multiply-adds from registers, bytes read or copied over a buffer of the same size) are one more
contender of the same rounds. Each number of threads gets a process of its own: some peers read theirs once.

`--cap avx2` or `avx512` is a lesser machine: ours held to that tier (AVX-512 with VNNI, without AMX and BF16), MKL, oneDNN,
PyTorch's own kernels and OpenBLAS by the switches that they have. Peers without one (the crates, bitsandbytes) stay away.
"""
import argparse, ctypes, glob, logging, os, random, statistics, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = {}
CLOCK = time.perf_counter
CAPS = {
    "avx512": {"SAMEBITS_TIER": "avx512,-amx,-bf16", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI",
               "MKL_ENABLE_INSTRUCTIONS": "AVX512", "ATEN_CPU_CAPABILITY": "avx512", "OPENBLAS_CORETYPE": "SkylakeX"},
    "avx2": {"SAMEBITS_TIER": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
             "ATEN_CPU_CAPABILITY": "avx2", "OPENBLAS_CORETYPE": "Haswell"},
}
CAPPED = ("samebits", "ours", "MKL", "OpenBLAS", "torch")


def case(*names):
    """Registers a function that makes the case of each of these names."""
    def register(make):
        CASES.update((name, make) for name in names)
        return make
    return register


# ------------------------------------------------------------------------------------------------ the rig

class Shape(ctypes.Structure):
    _fields_ = [(field, ctypes.c_size_t) for field in ("m", "n", "k")]


class Native:
    """A job of the Rust library; it keeps the tensors that it works on."""
    def __init__(self, make, *arguments):
        self.arguments = arguments
        self.job = ctypes.c_void_p(make(*map(native, arguments)))
        self.present = bool(self.job)

    def seconds(self, repeat):
        begin = CLOCK()
        LIB.peers_run(self.job, repeat)
        return CLOCK() - begin

    def __del__(self):
        if self.present:
            LIB.peers_drop(self.job)


class Call:
    """A call through Python, for work that takes a good part of a millisecond."""
    present = True

    def __init__(self, call):
        self.call = call

    def seconds(self, repeat):
        call, begin = self.call, CLOCK()
        for _ in range(repeat):
            call()
        return CLOCK() - begin


def ours(name, *arguments):
    make = getattr(LIB, "peers_" + name)
    make.restype = ctypes.c_void_p
    return Native(make, *arguments)


def native(argument):
    """Integers become `usize`, tensors their addresses."""
    if type(argument) is int:
        return ctypes.c_size_t(argument)
    return ctypes.c_void_p(argument.data_ptr()) if isinstance(argument, torch.Tensor) else argument


class Case:
    """`work`: ("flops", n), ("read", bytes) or ("copy", bytes). `contenders`: name → Native or Call; the first name is
    ours. `check`: name → a function that gives its result as an array, and the error allowed."""
    def __init__(self, work, contenders, outputs=None, tolerance=1e-4, note=""):
        self.work, self.outputs, self.tolerance, self.note = work, outputs or {}, tolerance, note
        capped = "PEERS_CAP" in os.environ
        stays = lambda name: not capped or name.startswith(CAPPED)
        self.contenders = {k: v for k, v in contenders.items() if v.present and stays(k)}

    def agree(self):
        """Runs everyone once; an answer far from ours is not worth timing."""
        want = None
        for name, contender in self.contenders.items():
            output = self.outputs.get(name, self.outputs.get("*"))
            if hasattr(output, "zero_"):
                output.zero_()
            contender.seconds(1)
            if output is None:
                continue
            got = (output() if callable(output) else output).float().numpy().copy().ravel()
            if want is None:
                want = got
            worst = abs(got - want).max() / abs(want).max()
            if not worst <= self.tolerance:
                sys.exit(f"{name} differs from ours by {worst:.2e} of the largest value")

    def limit(self):
        kind, amount = self.work
        if kind == "flops":
            operations = ctypes.c_double()
            peak = ours("peak", ctypes.byref(operations))
            return peak, operations.value
        lines = max(4, int(amount) // 64)
        return ours("memory", torch.zeros(lines * 16), lines, kind == "copy"), lines * 64

    def run(self, seconds):
        self.agree()
        limit, limit_work = self.limit()
        everyone = dict(self.contenders, **{"": limit})
        repeats = {}
        for name, c in everyone.items():
            once = min(c.seconds(1), c.seconds(1))
            repeats[name] = max(1, int(min(seconds / 25, 0.02) / max(once, 1e-7)))
        spent = sum(c.seconds(repeats[name]) for name, c in everyone.items())
        rounds = max(5, min(41, int(seconds * len(everyone) / spent)))
        times = {name: [] for name in everyone}
        for _ in range(rounds):
            for name in random.sample(list(everyone), len(everyone)):
                times[name].append(everyone[name].seconds(repeats[name]) / repeats[name])
        return times, [limit_work / t for t in times[""]]


def span(values, form):
    low, mid, high = min(values), statistics.median(values), max(values)
    return f"{form(mid)} [{form(low)} … {form(high)}]"


def row(name, threads, made, seconds):
    """One line of the table."""
    times, limits = made.run(seconds)
    kind, amount = made.work
    mine, *peers = made.contenders
    rate = [amount / t for t in times[mine]]
    share = [r / l for r, l in zip(rate, limits)]
    giga = lambda x: f"{x / 1e9:.1f}"
    milli = lambda x: f"{x * 1e3:.3g}"
    ratios = {p: [a / b for a, b in zip(times[p], times[mine])] for p in peers}
    foreign = [p for p in peers if not p.startswith("ours")]
    best = min(foreign, key=lambda p: statistics.median(times[p]), default=None)
    lead = f"{best} {span(ratios[best], lambda x: f'{x:.2f}')}" if best else "–"
    others = ", ".join(f"{p} {milli(statistics.median(times[p]))} ({statistics.median(ratios[p]):.2f})" for p in peers)
    unit = "GFLOP/s" if kind == "flops" else "GB/s"
    cells = [name + made.note, threads, span(times[mine], milli), f"{giga(statistics.median(rate))} {unit}",
             f"{giga(statistics.median(limits))}", span(share, lambda x: f"{100 * x:.0f} %"), lead, others]
    print("| " + " | ".join(str(c) for c in cells) + " |", flush=True)


# ----------------------------------------------------- the buffers: PyTorch's, which begin at a cache line

def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


# ----------------------------------------------------------------------------------------------- the cases

GEMM = [(64,) * 3, (128,) * 3, (256,) * 3, (512,) * 3, (1024,) * 3, (2048,) * 3, (4096,) * 3, (128, 1536, 384),
        (128, 384, 1536), (512, 2048, 512), (64, 4096, 64), (4096, 64, 4096), (8, 4096, 4096)]


def multipliers(count, shape, a, b, c):
    """Everyone who multiplies f32 matrices that lie row after row."""
    arguments = (shape, a, b, c)
    many = (count, *arguments)
    crate = lambda which: ours("crate_gemm", which, *many)
    return {
        "MKL": ours("fortran_gemm", SGEMM, *many),
        "OpenBLAS": ours("cblas64_gemm", CBLAS, *many),
        "gemm": crate(0), "matrixmultiply": crate(1), "rten-gemm": crate(2),
    }


@case(*("gemm/" + "x".join(map(str, s)) for s in GEMM))
def gemm(name):
    m, n, k = map(int, name.split("/")[1].split("x"))
    a, b, c = normal(m, k), normal(k, n), torch.empty(m, n)
    shape = Shape(m, n, k)
    first = {"samebits": ours("ours_gemm", shape, a, b, c)}
    return Case(("flops", 2 * m * n * k), first | multipliers(1, shape, a, b, c), {"*": c})


CLASSES = [(512,) * 3, (1024,) * 3, (2048,) * 3, (4096,) * 3, (128, 1536, 384), (128, 384, 1536)]


@case(*("gemm_bf16/" + "x".join(map(str, s)) for s in CLASSES))
def gemm_bf16(name):
    """Both in bfloat16, and the result too, which is ours to the last bit that f32 gives when it is rounded."""
    m, n, k = map(int, name.split("/")[1].split("x"))
    half = lambda *shape: normal(*shape).bfloat16()
    a, b, c, out = half(m, k), half(n, k), half(m, n), half(m, n)
    contenders = {"samebits": ours("ours_gemm_bf16", Shape(m, n, k), a, b, c),
                  "torch": Call(lambda: torch.mm(a, b.t(), out=out))}
    return Case(("flops", 2 * m * n * k), contenders, {"samebits": c, "torch": out}, tolerance=1e-2)


@case(*("gemm_i8/" + "x".join(map(str, s)) for s in CLASSES))
def gemm_i8(name):
    m, n, k = map(int, name.split("/")[1].split("x"))
    codes = lambda *shape: (normal(*shape) * 40).clamp(-128, 127).to(torch.int8)
    a, b, c, out = codes(m, k), codes(n, k), torch.empty(m, n, dtype=torch.int32), torch.empty(m, n, dtype=torch.int32)
    contenders = {"samebits": ours("ours_gemm_i8", Shape(m, n, k), a, b, c),
                  "torch": Call(lambda: torch._int_mm(a, b.t(), out=out))}
    return Case(("flops", 2 * m * n * k), contenders, {"samebits": c, "torch": out}, tolerance=0)


@case("gemm_batch/1000x32x32x32")
def gemm_batch(name):
    count, m, n, k = map(int, name.split("/")[1].split("x"))
    a, b, c = normal(count, m, k), normal(count, k, n), torch.empty(count, m, n)
    shape = Shape(m, n, k)
    first = {"samebits": ours("ours_batch", count, shape, a, b, c)}
    peers = multipliers(count, shape, a, b, c) | {"torch.bmm": Call(lambda: torch.bmm(a, b, out=c))}
    return Case(("flops", 2 * count * m * n * k), first | peers, {"*": c})


@case("linear/8x4096x4096", "linear/128x4096x4096")
def linear(name):
    """y = x Wᵀ with W (n, k) as a layer stores it; ours and rten's packed before the clock starts."""
    m, n, k = map(int, name.split("/")[1].split("x"))
    x, w, y = normal(m, k), normal(n, k), torch.empty(m, n)
    arguments = (Shape(m, n, k), x, w, y)
    return Case(("flops", 2 * m * n * k), {
        "samebits": ours("ours_packed", *arguments), "ours, not packed": ours("ours_linear", *arguments),
        "torch": Call(lambda: torch.mm(x, w.t(), out=y)), "rten-gemm packed": ours("rten_packed", *arguments),
    }, {"*": y})


@case("gemv/4096x4096/f32", "gemv/4096x4096/bf16", "gemv/4096x4096/f16")
def gemv(name):
    _, size, kind = name.split("/")
    n, k = map(int, size.split("x"))
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[kind]
    x, w, y = normal(1, k), normal(n, k).to(dtype), torch.empty(1, n)
    xt, yt = x.to(dtype), torch.empty(1, n, dtype=dtype)
    arguments = (Shape(1, n, k), x, w, y)
    contenders = {}
    if kind == "f32":
        contenders["samebits"] = ours("ours_packed", *arguments)
        contenders["ours, not packed"] = ours("ours_linear", *arguments)
        contenders["rten-gemm packed"] = ours("rten_packed", *arguments)
    else:
        contenders["samebits"] = ours("ours_packed16", *arguments, kind == "f16")
    contenders["torch"] = Call(lambda: torch.mm(xt, w.t(), out=yt))
    tolerance = 1e-4 if kind == "f32" else 2e-2
    return Case(("read", n * k * w.element_size()), contenders, {"torch": yt, "*": y}, tolerance)


@case("nf4/1x4096x4096", "nf4/8x4096x4096", "nf4/128x4096x4096")
def nf4_product(name):
    """bitsandbytes as a layer (which rounds activations and absmax to bfloat16) and as `matmul_4bit` (f32)."""
    m, n, k = map(int, name.split("/")[1].split("x"))
    x, w, y = normal(m, k), normal(n, k), torch.empty(m, n)
    codes, state = FOUR_BIT.quantize_4bit(w, blocksize=64, quant_type="nf4")
    dense, y_dense = FOUR_BIT.dequantize_4bit(codes, state), torch.empty(m, n)
    layer = bitsandbytes.nn.Linear4bit(k, n, bias=False, quant_type="nf4", compute_dtype=torch.float32)
    layer.load_state_dict({"weight": w})
    layer = layer.to("cpu").eval()
    kept = {}
    keep = lambda who, f: Call(lambda: kept.__setitem__(who, f()))
    work = ("flops", 2 * m * n * k) if m > 8 else ("read", n * k // 2 + n * k // 16)
    return Case(work, {
        "samebits": ours("ours_nf4", Shape(m, n, k), 64, x, codes, state.absmax, y),
        "ours, f32": ours("ours_packed", Shape(m, n, k), x, dense, y_dense),
        "bitsandbytes layer": keep("layer", lambda: layer(x)),
        "bitsandbytes matmul_4bit": keep("call", lambda: bitsandbytes.matmul_4bit(x, codes.t(), state)),
    }, {"samebits": y, "ours, f32": y_dense, "bitsandbytes layer": lambda: kept["layer"],
        "bitsandbytes matmul_4bit": lambda: kept["call"]}, 1e-2)


@case("nf4_quantize/4096x4096")
def nf4_quantize(name):
    w = normal(4096, 4096)
    codes, absmax = torch.zeros(w.numel() // 2, dtype=torch.uint8), torch.zeros(w.numel() // 64)
    kept = []
    theirs = lambda: kept.__setitem__(slice(None), FOUR_BIT.quantize_4bit(w, blocksize=64, quant_type="nf4"))
    return Case(("read", 4 * w.numel()), {
        "samebits": ours("ours_quantize", w.numel(), 64, w, codes, absmax), "bitsandbytes": Call(theirs),
    }, {"samebits": codes, "bitsandbytes": lambda: kept[0]}, 0.0)


@case("nf4_dequantize/4096x4096")
def nf4_dequantize(name):
    w = normal(4096, 4096)
    codes, state = FOUR_BIT.quantize_4bit(w, blocksize=64, quant_type="nf4")
    back, kept = torch.empty(w.numel()), []
    theirs = lambda: kept.__setitem__(slice(None), [FOUR_BIT.dequantize_4bit(codes, state)])
    return Case(("copy", 4 * w.numel() + w.numel() // 2), {
        "samebits": ours("ours_dequantize", w.numel(), 64, codes, state.absmax, back), "bitsandbytes": Call(theirs),
    }, {"samebits": back, "bitsandbytes": lambda: kept[0]}, 0.0)


class AttentionShape(ctypes.Structure):
    _fields_ = [(field, ctypes.c_size_t) for field in ("batch", "heads", "lq", "lk", "dim", "causal", "halves")]


@case("attention/1x8x2048x64/full", "attention/1x8x2048x64/causal", "attention/1x32x1x128/4096_keys",
      "attention_bf16/1x8x2048x64/full", "attention_bf16/1x8x2048x64/causal")
def attention(name):
    """In bfloat16 PyTorch's tensors are of that type; ours are floats and are rounded on their way."""
    type_, size, kind = name.split("/")
    b, h, lq, d = map(int, size.split("x"))
    lk, causal = (4096 if kind == "4096_keys" else lq), kind == "causal"
    q, k, v, out = normal(b, h, lq, d), normal(b, h, lk, d), normal(b, h, lk, d), torch.empty(b, h, lq, d)
    kept, halves = [], type_ == "attention_bf16"
    if halves:
        q, k, v = (x.bfloat16().float() for x in (q, k, v))
    given = [x.bfloat16() for x in (q, k, v)] if halves else [q, k, v]
    attend = torch.nn.functional.scaled_dot_product_attention
    theirs = lambda: kept.__setitem__(slice(None), [attend(*given, is_causal=causal)])
    flops = 4 * b * h * lq * lk * d // (2 if causal else 1)
    work = ("flops", flops) if lq > 1 else ("read", 8 * b * h * lk * d)
    return Case(work, {
        "samebits": ours("ours_attention", AttentionShape(b, h, lq, lk, d, causal, halves), q, k, v, out),
        "torch": Call(theirs),
    }, {"samebits": out, "torch": lambda: kept[0].float()}, 2e-2 if halves else 1e-4)


@case("rope/4096x8x64")
def rope(name):
    """PyTorch has no such operation: the two lines that Hugging Face's models use."""
    tokens, heads, dim = map(int, name.split("/")[1].split("x"))
    x, y, kept = normal(tokens, heads, dim), torch.empty(tokens, heads, dim), []
    angle = torch.outer(torch.arange(tokens).double(), 10000.0 ** (-torch.arange(0, dim, 2).double() / dim))
    cos, sin = (torch.cat((f(angle), f(angle)), -1).float()[:, None] for f in (torch.cos, torch.sin))
    half = lambda x: torch.cat((-x[..., dim // 2:], x[..., :dim // 2]), -1)
    theirs = lambda: kept.__setitem__(slice(None), [x * cos + half(x) * sin])
    return Case(("copy", 8 * x.numel()), {
        "samebits": ours("ours_rope", tokens, heads, dim, x, y), "torch": Call(theirs),
    }, {"samebits": y, "torch": lambda: kept[0]}, 1e-5)


ROWS = {
    "exp": lambda x, w, b: torch.exp(x),
    "log_softmax": lambda x, w, b: torch.log_softmax(x, -1),
    "softmax": lambda x, w, b: torch.softmax(x, -1),
    "layer_norm": lambda x, w, b: torch.nn.functional.layer_norm(x, x.shape[-1:], w, b),
    "rms_norm": lambda x, w, b: torch.nn.functional.rms_norm(x, x.shape[-1:], w, 1e-5),
    "gelu_erf": lambda x, w, b: torch.nn.functional.gelu(x),
    "gelu_tanh": lambda x, w, b: torch.nn.functional.gelu(x, approximate="tanh"),
    "silu": lambda x, w, b: torch.nn.functional.silu(x),
}


@case(*(f"{f}/4096x1024" for f in ROWS))
def rows(name):
    """PyTorch allocates its result anew each time, as its users' calls do; its allocator keeps the memory."""
    f, size = name.split("/")
    r, n = map(int, size.split("x"))
    x, w, b, y = normal(r, n), normal(n), normal(n), torch.empty(r, n)
    kept = []
    theirs = lambda: kept.__setitem__(slice(None), [ROWS[f](x, w, b)])
    arguments = (f.encode(), r, n, x, w, b, y)
    return Case(("copy", 8 * r * n), {"samebits": ours("ours_rows", *arguments), "torch": Call(theirs)},
                {"samebits": y, "torch": lambda: kept[0]}, 1e-5)


# -------------------------------------------------------------------------------------------------- the run

def load(threads):
    """The libraries, held to `threads`. What reads the environment has it from the parent."""
    global torch, bitsandbytes, FOUR_BIT, LIB, SGEMM, CBLAS
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import numpy, torch as torch_
    torch = torch_
    logging.disable(logging.WARNING)  # bitsandbytes looks for a kernel of a hub
    import bitsandbytes, bitsandbytes.functional as FOUR_BIT
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    LIB = ctypes.CDLL(os.path.join(HERE, "target/release/libsamebits_peers.so"))
    LIB.peers_run.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    LIB.peers_drop.argtypes = [ctypes.c_void_p]
    LIB.peers_tier.restype = ctypes.c_char_p
    LIB.peers_threads(ctypes.c_size_t(threads))
    mkl = ctypes.CDLL(os.path.join(os.path.dirname(torch.__file__), "lib/libtorch_cpu.so"))
    SGEMM = ctypes.cast(mkl.SGEMM, ctypes.c_void_p)
    blas = glob.glob(os.path.join(os.path.dirname(numpy.__file__), "..", "numpy.libs", "*openblas64*"))[0]
    CBLAS = ctypes.cast(ctypes.CDLL(blas).scipy_cblas_sgemm64_, ctypes.c_void_p)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of case names; default: all")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=1.0, help="per contender")
    parser.add_argument("--cpu-time", action="store_true",
                        help="one thread: its processor time instead of elapsed time, for a machine with other work")
    parser.add_argument("--cap", choices=CAPS, help="as on a machine that has no more than this")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    chosen = [n for n in CASES if not options.names or any(n.startswith(p) for p in options.names)]
    if options.list:
        return print("\n".join(chosen))
    if options.child:
        if options.cpu_time and options.child == 1:
            global CLOCK
            CLOCK = time.thread_time
        load(options.child)
        for name in chosen:
            row(name, options.child, CASES[name](name), options.seconds)
        return
    print("| work | threads | samebits, ms | rate | limit | of the limit | time of the best peer ÷ ours | peers, ms (÷ ours) |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for threads in options.threads.split(","):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
        for variable in ("OMP", "MKL", "OPENBLAS", "MATMUL", "RAYON"):
            environment[variable + "_NUM_THREADS"] = threads
        if options.cap:
            environment.update(CAPS[options.cap], PEERS_CAP=options.cap)
        command = [sys.executable, os.path.abspath(__file__), "--child", threads, "--seconds", str(options.seconds)]
        command += ["--cpu-time"] * options.cpu_time + options.names
        if subprocess.run(command, env=environment).returncode:
            sys.exit(1)


if __name__ == "__main__":
    main()
