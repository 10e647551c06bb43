"""Writes tests/data/peft/bottleneck.json: bottleneck adapters of the `adapters` package with drawn weights, and what they give.

    pip install adapters            # in an environment of its own: it needs an older transformers
    python3 tests/reference/bottleneck.py
"""

import json
from pathlib import Path

import torch
from adapters import DoubleSeqBnConfig, ParBnConfig, SeqBnConfig
from adapters.methods.modeling import Adapter, ParallelAdapter

FEATURES, ROWS = 32, 3
out = {}
for name, config, make in [
    ("houlsby", DoubleSeqBnConfig(), Adapter),
    ("pfeiffer", SeqBnConfig(), Adapter),
    ("parallel", ParBnConfig(), ParallelAdapter),
]:
    torch.manual_seed(len(name))
    factor = config["reduction_factor"]
    layer = make(name, input_size=FEATURES, down_sample=int(FEATURES / factor), config=config)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn_like(p) * 0.5)
        x, residual = torch.randn(ROWS, FEATURES), torch.randn(ROWS, FEATURES)
        y = layer(x, residual, output_gating=False)[0]
        if name == "parallel":
            y = y + residual  # which its post_forward adds
    down = layer.adapter_down[0]
    parts = dict(
        down=down.weight, down_bias=down.bias, up=layer.adapter_up.weight, up_bias=layer.adapter_up.bias, x=x,
        residual=residual, y=y,
    )
    out[name] = {k: [float(f"{v:.9g}") for v in t.detach().flatten().tolist()] for k, t in parts.items()}
path = Path(__file__).resolve().parents[1] / "data" / "peft" / "bottleneck.json"
path.write_text(json.dumps(out) + "\n")
