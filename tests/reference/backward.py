#!/usr/bin/env python3
"""What PyTorch's autograd makes of small gradients (pip install torch safetensors).

    python3 tests/reference/backward.py      # makes tests/data/backward.safetensors

Inputs are float32; everything is computed from them in float64 by PyTorch's own functions, where it has them. A case's
tensors are called CASE/x and so on; for each gradient CASE/dx there is CASE/dx_gauge, the sum of the absolute terms
that it is made of, which with the kernels' 64 u makes the bound.
"""
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from attention import formula

OUT = pathlib.Path(__file__).resolve().parents[1] / "data" / "backward.safetensors"
tensors = {}


def keep(case, **values):
    for name, value in values.items():
        tensors[f"{case}/{name}"] = value.detach().contiguous().clone()


def backward(case, f, inputs, gauges, seed=1, **constants):
    """f of float64 leaves; dy is drawn; `gauges(dy, y, **inputs)` gives one for each input, in order."""
    torch.manual_seed(seed)
    leaves = {name: value.double().requires_grad_() for name, value in inputs.items()}
    y = f(**leaves)
    dy = torch.randn(y.shape)
    y.backward(dy.double())
    with torch.no_grad():
        sizes = gauges(dy.double().abs(), y, **{name: leaf.detach() for name, leaf in leaves.items()})
    keep(case, dy=dy, y=y.float(), **inputs, **constants)
    for (name, leaf), size in zip(leaves.items(), sizes):
        keep(case, **{f"d{name}": leaf.grad, f"d{name}_gauge": size.float()})


def slope(f, x):
    """Sum of absolute terms of the slope of an activation."""
    x = x.clone().requires_grad_()
    f(x).sum().backward()
    return x.grad.abs() + 2 * torch.sigmoid(-x.detach().abs()) * (1 + x.detach().abs()) + (x.detach() > 0)


def linear():
    backward(
        "linear", lambda x, w, b: F.linear(x, w, b),
        {"x": torch.randn(37, 33), "w": torch.randn(21, 33), "b": torch.randn(21)},
        lambda dy, y, x, w, b: (dy @ w.abs(), dy.mT @ x.abs(), dy.sum(0)))


def softmaxes():
    def softmax_gauge(dy, y, x):
        return (y * (dy + (y * dy).sum(-1, keepdim=True)),)

    backward("softmax", lambda x: F.softmax(x, -1), {"x": 3 * torch.randn(5, 37)}, softmax_gauge)
    backward("log_softmax", lambda x: F.log_softmax(x, -1), {"x": 3 * torch.randn(5, 37)},
             lambda dy, y, x: (dy + y.exp() * dy.sum(-1, keepdim=True),))


def norms():
    def gauges(centred, one):
        def gauge(dy, y, x, w, b=None):
            mean = x.mean(-1, keepdim=True) if centred else 0.0
            r = (((x - mean) ** 2).mean(-1, keepdim=True) + 1e-5).rsqrt()
            unit, g = ((x - mean) * r).abs(), dy * (w + one).abs()
            dx = r * (g + (g.mean(-1, keepdim=True) if centred else 0.0) + unit * (g * unit).mean(-1, keepdim=True))
            return (dx, (dy * unit).sum(0), dy.sum(0))[: 2 if b is None else 3]
        return gauge

    x, w, b = torch.randn(11, 29) + 0.5, torch.randn(29), torch.randn(29)
    backward("layer_norm", lambda x, w, b: F.layer_norm(x, (29,), w, b, 1e-5), {"x": x, "w": w, "b": b}, gauges(True, 0.0))
    backward("rms_norm", lambda x, w: F.rms_norm(x, (29,), w, 1e-5), {"x": x, "w": w}, gauges(False, 0.0))
    backward("rms_norm_one_plus", lambda x, w: F.rms_norm(x, (29,), 1 + w, 1e-5), {"x": x, "w": w}, gauges(False, 1.0))


ACTIVATIONS = {
    "relu": F.relu, "gelu_erf": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_quick": lambda x: x * torch.sigmoid(1.702 * x), "silu": F.silu,
}


def activations():
    for name, f in ACTIVATIONS.items():
        with_slope = lambda dy, y, x: (dy * slope(f, x),)
        backward(name, lambda x: f(x), {"x": 3 * torch.randn(3, 41)}, lambda *a, **k: torch.enable_grad()(with_slope)(*a, **k))
        gate, up = 2 * torch.randn(3, 41), torch.randn(3, 41)
        both = lambda dy, y, gate, up: (dy * up.abs() * slope(f, gate), dy * gate.abs())
        backward(f"gated_{name}", lambda gate, up: f(gate) * up, {"gate": gate, "up": up},
                 lambda *a, **k: torch.enable_grad()(both)(*a, **k))


def rope():
    """Hugging Face's rotate_half and the paper's neighbours, by a table of 7 positions; (tokens, heads, dim)."""
    positions, cos, sin = torch.tensor([3, 0, 6, 6, 1], dtype=torch.int32), torch.rand(7, 5), torch.rand(7, 5)

    def turn(x, pairs):
        c, s = (t.double()[positions.long()][:, None, :] for t in (cos, sin))
        a, b = pairs(x)
        return a * c - b * s, b * c + a * s

    def half(x):
        return torch.cat((*turn(x, lambda x: (x[..., :5], x[..., 5:10])), x[..., 10:]), -1)

    def neighbours(x):
        turned = torch.stack(turn(x, lambda x: (x[..., 0:10:2], x[..., 1:10:2])), -1)
        return torch.cat((turned.flatten(-2), x[..., 10:]), -1)

    for name, f in (("rope_half", half), ("rope_interleaved", neighbours)):
        backward(name, f, {"x": torch.randn(5, 2, 12)}, lambda dy, y, x: (2 * dy + dy.amax(-1, keepdim=True),),
                 positions=positions, cos=cos, sin=sin)


def embedding():
    ids = torch.randint(0, 9, (40,))
    backward("embedding", lambda w: F.embedding(ids, w), {"w": torch.randn(9, 6)},
             lambda dy, y, w: (torch.zeros(9, 6).double().index_add(0, ids, dy),), ids=ids.int())


def cross_entropy():
    """Mean over the targets that count; the smoothing is a float32."""
    torch.manual_seed(3)
    x, targets = 4 * torch.randn(9, 37), torch.randint(0, 37, (9,))
    targets[2] = targets[7] = -100
    for name, smoothing in (("plain", 0.0), ("smoothed", 0.125)):
        leaf = x.double().requires_grad_()
        loss = F.cross_entropy(leaf, targets, label_smoothing=smoothing)
        loss.backward()
        q = F.one_hot(targets.clamp(min=0), 37) + smoothing / 37
        gauge = (leaf.detach().softmax(-1) + q) / 7
        keep(f"cross_entropy_{name}", x=x, targets=targets.int(), loss=loss, dx=leaf.grad, dx_gauge=gauge.float(),
             smoothing=torch.tensor([smoothing]))


def attention(case, shape, seed, first, **options):
    """By the formula of attention.py, which is held against scaled_dot_product_attention there."""
    torch.manual_seed(seed)
    b, h, kv, lq, lk, d, v_dim = shape
    inputs = {"q": torch.randn(b, h, lq, d), "k": torch.randn(b, kv, lk, d), "v": torch.randn(b, kv, lk, v_dim)}
    if "sinks" in options:
        inputs["sinks"] = options.pop("sinks")
    scale = 0.375

    def f(q, k, v, sinks=None):
        return formula(q, k, v, scale, first, sinks=sinks, **options)["out"]

    def gauge(dy, y, q, k, v, sinks=None):
        every = formula(q, k, v, scale, first, sinks=sinks, **options)
        repeat = lambda x: x.repeat_interleave(h // kv, 1)
        # The weights: what each key's one-hot value comes out as.
        eye = torch.eye(lk).double().expand(b, kv, lk, lk)
        p = formula(q, k, eye, scale, first, sinks=sinks, **options)["out"]
        gain = 1 + every["gain"].double()[..., None]
        ds = p * (dy @ repeat(v.abs()).mT + (dy * y.abs()).sum(-1, keepdim=True)) * scale * gain
        group = lambda x: x.unflatten(1, (kv, h // kv)).sum(2)
        sizes = [ds @ repeat(k.abs()), group(ds.mT @ q.abs()), group((p * gain).mT @ dy)]
        if sinks is not None:
            p_sink = (sinks[None, :, None] - every["lse"]).exp()
            sizes.append((p_sink * (dy * y.abs()).sum(-1) * gain[..., 0]).sum((0, 2)))
        return sizes

    constants = {"place": torch.tensor([first, options.get("window") or (-1 if options.get("causal") else 0)], dtype=torch.int32)}
    for name in ("keep", "additive", "slopes"):
        if options.get(name) is not None:
            constants[name] = options[name]
    if options.get("softcap"):
        constants["softcap"] = torch.tensor([options["softcap"]])
    backward(case, f, inputs, gauge, seed, **constants)


def main():
    torch.manual_seed(0)
    for make in (linear, softmaxes, norms, activations, rope, embedding, cross_entropy):
        make()
    attention("attention_causal", (1, 4, 2, 19, 70, 8, 5), 5, 51, causal=True)
    torch.manual_seed(9)
    bias = torch.randn(1, 2, 9, 13)
    bias[0, :, 2:5, 3:6] = -torch.inf
    attention("attention_biased", (1, 2, 2, 9, 13, 6, 7), 6, 4, additive=bias, softcap=1.5, slopes=torch.tensor([0.25, 0.125]))
    kept = (torch.rand(2, 2, 67, 66) < 0.8).to(torch.uint8)
    attention("attention_masked", (2, 2, 1, 67, 66, 4, 4), 7, 0, window=40, keep=kept, sinks=torch.tensor([0.5, -1.0]))
    save_file(tensors, OUT)
    print(OUT, len(tensors), OUT.stat().st_size)


if __name__ == "__main__":
    main()
