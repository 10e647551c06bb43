#!/usr/bin/env python3
"""Rotary frequencies, cos and sin as transformers computes them, and sinusoidal positions by their formula.

    pip install transformers torch mpmath
    python3 tests/reference/rope.py        # makes tests/data/rope/{rotary,sinusoidal}.json

transformers computes in float32. `frequencies` is the same code run with float64 in the place of float32, cos and
sin are mpmath's of position × frequency; `float32` holds what transformers itself gives, its own type kept.
"""
import json
import pathlib
from unittest import mock

import mpmath
import torch
from transformers import LlamaConfig, Phi3Config, modeling_rope_utils
from transformers.models.llama import modeling_llama
from transformers.models.phi3 import modeling_phi3

OUT = pathlib.Path(__file__).resolve().parents[1] / "data" / "rope"
POSITIONS = [0, 1, 17, 4095, 131071]
mpmath.mp.prec = 200


class Double:
    """torch, but float32 is float64."""
    float = float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


def longrope(short, long, n, **more):
    return {"type": "longrope", "short_factor": [short + i / 8 for i in range(n)],
            "long_factor": [long + i * i / 4 for i in range(n)], **more}


# name: (keys of config.json, length)
CASES = {
    "default": ({"head_dim": 32, "rope_theta": 10000.0}, 64),
    "default, new keys": ({"head_dim": 32, "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}, 64),
    "linear": ({"head_dim": 32, "rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 2.5}}, 64),
    "linear, partial": ({"head_dim": 32, "partial_rotary_factor": 0.75,
                         "rope_parameters": {"rope_type": "linear", "factor": 4, "rope_theta": 10000.0}}, 64),
    "linear, partial and odd": ({"head_dim": 30, "partial_rotary_factor": 0.5,
                                 "rope_parameters": {"rope_type": "linear", "factor": 1.0, "rope_theta": 10000.0}}, 64),
    "dynamic, short": ({"head_dim": 32, "max_position_embeddings": 64, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, 9),
    "dynamic, long": ({"head_dim": 32, "max_position_embeddings": 64, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, 200),
    "yarn": ({"head_dim": 64, "rope_theta": 1e6, "max_position_embeddings": 131072, "rope_scaling":
              {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}}, 64),
    "yarn, mscale": ({"head_dim": 64, "rope_theta": 10000.0, "max_position_embeddings": 163840, "rope_scaling":
                      {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1,
                       "mscale": 1.0, "mscale_all_dim": 0.707}}, 64),
    "yarn, attention_factor": ({"head_dim": 32, "rope_theta": 10000.0, "max_position_embeddings": 8192, "rope_scaling":
                                {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 4096,
                                 "attention_factor": 0.75, "beta_fast": 16, "beta_slow": 2, "mscale": 0}}, 64),
    "yarn, not truncated": ({"head_dim": 64, "max_position_embeddings": 131072, "rope_parameters":
                             {"rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "truncate": False,
                              "original_max_position_embeddings": 4096}}, 64),
    "yarn, ends clamped": ({"head_dim": 16, "rope_theta": 100.0, "max_position_embeddings": 2048, "rope_scaling":
                            {"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 256, "beta_slow": 0.001}}, 64),
    "longrope, short": ({"head_dim": 32, "rope_theta": 10000.0, "max_position_embeddings": 131072,
                         "rope_scaling": longrope(1.0, 1.5, 16, original_max_position_embeddings=4096)}, 4096),
    "longrope, long": ({"head_dim": 32, "rope_theta": 10000.0, "max_position_embeddings": 131072,
                        "rope_scaling": longrope(1.0, 1.5, 16, original_max_position_embeddings=4096)}, 4097),
    "longrope, factor": ({"head_dim": 32, "max_position_embeddings": 8192, "rope_scaling":
                          longrope(1.0, 1.5, 16, original_max_position_embeddings=4096, factor=16.0)}, 5000),
    "longrope, attention_factor": ({"head_dim": 32, "max_position_embeddings": 8192, "rope_scaling":
                                    longrope(1.0, 1.5, 16, original_max_position_embeddings=4096, attention_factor=1.25)}, 5000),
    "phi3": ({"model_type": "phi3", "hidden_size": 128, "num_attention_heads": 4, "max_position_embeddings": 131072,
                  "original_max_position_embeddings": 4096, "partial_rotary_factor": 0.5,
                  "rope_scaling": longrope(1.0, 1.5, 8)}, 5000),
    "llama3": ({"head_dim": 64, "rope_theta": 500000.0, "max_position_embeddings": 131072, "rope_scaling":
                {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                 "original_max_position_embeddings": 8192}}, 64),
    "llama3, 32": ({"head_dim": 32, "max_position_embeddings": 131072, "rope_parameters":
                    {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0,
                     "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}, 64),
}


def config_of(keys):
    keys = json.loads(json.dumps(keys))
    phi3 = keys.pop("model_type", None) == "phi3"
    head_dim = keys.get("head_dim") or keys["hidden_size"] // keys["num_attention_heads"]
    config = (Phi3Config if phi3 else LlamaConfig)(**({"pad_token_id": 0} | keys))
    return config, head_dim, modeling_phi3.Phi3RotaryEmbedding if phi3 else modeling_llama.LlamaRotaryEmbedding


def frequencies(config, embedding, length):
    kind = config.rope_parameters["rope_type"]
    init = modeling_rope_utils.ROPE_INIT_FUNCTIONS.get(kind, embedding.compute_default_rope_parameters)
    double = Double()
    with mock.patch.object(modeling_rope_utils, "torch", double), mock.patch.object(modeling_llama, "torch", double), \
            mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
        f, factor = init(config, seq_len=length)
    assert f.dtype == torch.float64
    return f.tolist(), factor


def floats(values):
    """The nearest float32 of each, as eight hexadecimal digits of its bits."""
    import numpy as np
    return " ".join(f"{int(np.float32(float(v)).view(np.uint32)):08x}" for v in values)


def case(keys, length):
    config, head_dim, embedding = config_of(keys)
    f, factor = frequencies(config, embedding, length)
    out = {"config": keys, "head_dim": head_dim, "length": length, "frequencies": f, "attention_factor": factor, "table": []}
    for p in POSITIONS:
        phases = [p * mpmath.mpf(x) for x in f]
        out["table"].append({"position": p, "cos": floats(factor * mpmath.cos(x) for x in phases),
                             "sin": floats(factor * mpmath.sin(x) for x in phases)})
    rotary = embedding(config)
    # The last position given to transformers selects the length.
    positions = torch.tensor([[0, 1, 17, length - 1]])
    cos, sin = rotary(torch.zeros(1), positions)
    n = len(f)
    out["float32"] = [{"position": int(p), "cos": floats(c[:n].tolist()), "sin": floats(s[:n].tolist())}
                      for p, c, s in zip(positions[0], cos[0], sin[0])]
    return out


def sinusoidal():
    out = []
    for dim in [1, 2, 7, 16, 33]:
        for p in [0, 1, 17, 4095, 131071, 2**24 - 1, 2**24]:
            phases = [p / mpmath.mpf(10000) ** (mpmath.mpf(2 * (i // 2)) / dim) for i in range(dim)]
            row = [float((mpmath.cos if i % 2 else mpmath.sin)(x)) for i, x in enumerate(phases)]
            out.append({"dim": dim, "position": p, "row": row})
    return out


def write(name, cases):
    lines = ",\n".join(json.dumps(c) for c in cases)
    (OUT / name).write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    write("rotary.json", [{"name": name} | case(*of) for name, of in CASES.items()])
    write("sinusoidal.json", sinusoidal())
