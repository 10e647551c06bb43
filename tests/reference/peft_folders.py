"""Writes tests/data/peft: folders that peft saved, and what peft's layers give for them.

    pip install torch peft transformers safetensors
    python3 tests/reference/peft_folders.py

base.safetensors holds the layers of a small model, an input of each and the outputs without an adapter and with each of
the folders; combined.safetensors what add_weighted_adapter makes of two of them, and what PiSSA and OLoRA begin with.
"""

import shutil
from pathlib import Path

import torch
from peft import IA3Config, LoraConfig, PrefixTuningConfig, get_peft_model
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

OUT = Path(__file__).resolve().parents[1] / "data" / "peft"
WIDE, NARROW, ENTRIES = 20, 12, 15


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = torch.nn.Linear(NARROW, WIDE)
        self.v_proj = torch.nn.Linear(NARROW, WIDE, bias=False)
        self.down = torch.nn.Linear(WIDE, NARROW)


class Inner(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(ENTRIES, NARROW)
        self.layers = torch.nn.ModuleList([Block(), Block()])


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Inner()


def model():
    torch.manual_seed(1)
    return Model()


MODULES = ["model.embed"] + [f"model.layers.{i}.{n}" for i in range(2) for n in ("q_proj", "v_proj", "down")]
torch.manual_seed(2)
INPUTS = {m: torch.randn(5, WIDE if m.endswith("down") else NARROW) for m in MODULES}
INPUTS["model.embed"] = torch.tensor([3, 0, 14, 3, 7])
out = {f"input/{m}": x.to(torch.int32) if m == "model.embed" else x for m, x in INPUTS.items()}

def outputs(name, net):
    with torch.no_grad():
        for module in MODULES:
            out[f"{name}/{module}"] = net.get_submodule(module)(INPUTS[module])


def main():
    for name, weight in model().state_dict().items():
        out[f"base/{name}"] = weight
    outputs("none", model())
    CASES = {
        "lora": LoraConfig(
            r=3,
            lora_alpha=6,
            lora_dropout=0.1,
            target_modules=["q_proj", "down"],
            rank_pattern={r"layers.1.q_proj": 2},
            alpha_pattern={"down": 4},
        ),
        "rslora": LoraConfig(r=4, lora_alpha=5, use_rslora=True, target_modules=["q_proj", "v_proj"], layers_to_transform=[1]),
        "dora": LoraConfig(r=3, lora_alpha=6, use_dora=True, target_modules=r".*\.(q|v)_proj"),
        "table": LoraConfig(r=2, lora_alpha=3, target_modules=["embed", "v_proj"]),
        "ia3": IA3Config(target_modules=["v_proj", "down"], feedforward_modules=["down"]),
    }
    for i, (name, config) in enumerate(CASES.items()):
        net = get_peft_model(model(), config)
        torch.manual_seed(10 + i)
        with torch.no_grad():
            for key, p in net.named_parameters():
                if p.requires_grad:
                    p.add_(torch.randn_like(p) * 0.3)
        outputs(name, net.eval().base_model.model)
        folder = OUT / name
        shutil.rmtree(folder, ignore_errors=True)
        net.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)

    tiny = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=2, n_head=2, vocab_size=11, n_positions=16))
    net = get_peft_model(tiny, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    past = net.get_prompt(batch_size=1)
    for layer in range(2):
        for i, side in enumerate("kv"):
            # (1, heads, tokens, head_dim) → (tokens, dim)
            part = (past.layers[layer].keys, past.layers[layer].values)[i]
            out[f"prefix/{layer}/{side}"] = part[0].permute(1, 0, 2).reshape(3, 8).detach()
    folder = OUT / "prefix"
    shutil.rmtree(folder, ignore_errors=True)
    net.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    save_file({k: x.contiguous() for k, x in out.items()}, OUT / "base.safetensors")

    # Two adapters of one layer combined
    torch.manual_seed(30)
    combined = {}
    names, weights = ["a", "b"], [0.7, -0.4]
    make = lambda alpha: LoraConfig(r=3, lora_alpha=alpha, target_modules=["model.layers.0.q_proj"], init_lora_weights=False)
    net = get_peft_model(model(), make(6), adapter_name="a")
    net.add_adapter("b", make(3))
    layer = net.base_model.model.model.layers[0].q_proj
    for name in names:
        combined[f"{name}/a"] = layer.lora_A[name].weight.detach()
        combined[f"{name}/b"] = layer.lora_B[name].weight.detach()
    for how, extra in {"linear": {}, "cat": {}, "svd": {"svd_rank": 2}, "ties": {"density": 0.6}}.items():
        net.add_weighted_adapter(names, weights, how, combination_type=how, **extra)
        combined[f"{how}/a"] = layer.lora_A[how].weight.detach()
        combined[f"{how}/b"] = layer.lora_B[how].weight.detach()
        combined[f"{how}/scale"] = torch.tensor([layer.scaling[how]], dtype=torch.float32)

    # What they begin with: the product s B A and the base that is left
    for init in ["pissa", "olora"]:
        net = get_peft_model(model(), LoraConfig(r=3, lora_alpha=6, target_modules=["v_proj"], init_lora_weights=init))
        layer = net.base_model.model.model.layers[0].v_proj
        combined[f"{init}/delta"] = layer.get_delta_weight("default").detach()
        combined[f"{init}/base"] = layer.base_layer.weight.detach()
    save_file({k: x.contiguous() for k, x in combined.items()}, OUT / "combined.safetensors")


if __name__ == "__main__":
    main()
