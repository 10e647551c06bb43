"""Writes tests/data/optimizers.safetensors: what PyTorch's optimizers, bitsandbytes' Lion and 8-bit AdamW, and
bitsandbytes' FP4 make of small inputs; and tests/data/schedules.json: the rates of transformers' schedules.

    python3 tests/reference/optimizers.py

Needs torch, bitsandbytes, transformers, safetensors.
"""

import json
from pathlib import Path

import bitsandbytes  # noqa: F401  (registers its operators)
import bitsandbytes.functional as bnb
import torch
import transformers
from safetensors.torch import save_file

DATA = Path(__file__).parent.parent / "data"
N, STEPS = 37, 5
out = {}


def gradients(n, steps):
    """Sixteenths of small integers: a formula that the test repeats exactly."""
    return [torch.tensor([((7 * i + 13 * t + i * t) % 31 - 15) / 16 for i in range(n)]) for t in range(steps)]


def weights(n):
    return torch.tensor([((11 * i) % 29 - 14) / 8 for i in range(n)])


def run(name, make, steps=STEPS, dtype=torch.float32, keep_all=True):
    p = torch.nn.Parameter(weights(N).to(dtype))
    optimizer = make([p])
    seen = []
    for g in gradients(N, steps):
        p.grad = g.to(dtype)
        optimizer.step()
        seen.append(p.detach().clone())
    out[name] = torch.stack(seen) if keep_all else seen[-1]


# foreach=False: the plain loops, an operation at a time
plain = dict(foreach=False)
run("sgd", lambda p: torch.optim.SGD(p, lr=0.1, **plain))
run("sgd_decay", lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.05, **plain))
run("momentum", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.05, **plain))
run("nesterov", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, **plain))
run("adamw", lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, **plain))
many = lambda p: torch.optim.AdamW(p, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, **plain)
run("adamw_1000", many, steps=1000, keep_all=False)
run("adamw_1000_double", many, steps=1000, dtype=torch.float64, keep_all=False)

# Lion: bitsandbytes' operator on the CPU
p, m = weights(N), torch.zeros(N)
seen = []
for t, g in enumerate(gradients(N, STEPS)):
    torch.ops.bitsandbytes.optimizer_update_32bit(
        "lion", g, p, m, None, None, 0.0, 0.0, 0.9, 0.99, 0.0, 0.0, 0.0, 0.1, t + 1, 0.01, 1.0, False
    )
    seen.append(p.clone())
out["lion"] = torch.stack(seen)

# 8-bit AdamW: one whole block and a part; the state before and after each step
n = 300
torch.manual_seed(0)
signed, unsigned = bnb.create_dynamic_map(True), bnb.create_dynamic_map(False)
out["map_unsigned"] = unsigned
p = torch.randn(n)
m, v = torch.full((n,), 127, dtype=torch.uint8), torch.zeros(n, dtype=torch.uint8)
am, av = torch.zeros(2), torch.zeros(2)
for t in range(3):
    g = torch.randn(n) * torch.logspace(-3, 0, n)
    for name, x in dict(p=p, g=g, m=m, v=v, am=am, av=av).items():
        out[f"eight/{t}/{name}"] = x.clone()
    torch.ops.bitsandbytes.optimizer_update_8bit_blockwise(
        "adam", g, p, m, v, 0.9, 0.999, 0.0, 0.0, 1e-8, t + 1, 0.01, signed, unsigned, am, av, 0.1, 1.0, False
    )
for name, x in dict(p=p, m=m, v=v, am=am, av=av).items():
    out[f"eight/3/{name}"] = x.clone()

# FP4
for n, blocksize in [(64, 64), (200, 64), (333, 128)]:
    x = torch.randn(n)
    x[5] = 0.0
    codes, state = bnb.quantize_4bit(x, blocksize=blocksize, quant_type="fp4")
    back = torch.ops.bitsandbytes.dequantize_4bit(codes, state.absmax, blocksize, "fp4", [n], torch.float32)
    name = f"fp4/{blocksize}/{n}"
    out[f"{name}/x"], out[f"{name}/codes"], out[f"{name}/absmax"] = x, codes.flatten(), state.absmax
    out[f"{name}/back"] = back.flatten()

save_file({k: x.contiguous() for k, x in out.items()}, DATA / "optimizers.safetensors")

# schedules: the factor of the rate at each of 25 steps
cases = {
    "constant": lambda o: transformers.get_constant_schedule_with_warmup(o, 4),
    "linear": lambda o: transformers.get_linear_schedule_with_warmup(o, 4, 20),
    "cosine": lambda o: transformers.get_cosine_schedule_with_warmup(o, 4, 20),
    "cosine_min": lambda o: transformers.get_cosine_with_min_lr_schedule_with_warmup(o, 4, 20, min_lr_rate=0.1),
    "wsd": lambda o: transformers.get_wsd_schedule(o, 4, 5, num_training_steps=20, decay_type="1-sqrt"),
    "wsd_min": lambda o: transformers.get_wsd_schedule(
        o, 4, 5, num_training_steps=20, decay_type="linear", min_lr_ratio=0.1
    ),
    "wsd_cosine": lambda o: transformers.get_wsd_schedule(o, 0, 6, num_training_steps=20),
}
rates = {}
for name, make in cases.items():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make(optimizer)
    rates[name] = []
    for _ in range(25):
        rates[name].append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
(DATA / "schedules.json").write_text(json.dumps(rates) + "\n")
