#!/usr/bin/env python3
"""What `samebits convert` and `samebits quantize` write, read by the programs that it is written for.

    pip install gguf torch transformers bitsandbytes accelerate safetensors
    python3 tests/reference/convert.py SAMEBITS tests/data/models

For every decoder of tests/data/models (as far as GGUF holds it):
  1. the `gguf` package reads the GGUF file: each tensor is the original's, its rows permuted by the code of llama.cpp's
     converter where that permutes, 1 added to Gemma's gains, GPT-2's matrices transposed; metadata as the converter's;
  2. transformers opens the folder made from that file: logits equal to those of the original folder;
  3. transformers with bitsandbytes opens the folder in NF4 (plain and double): logits within 1e-6 of those of the
     decoded folder that `samebits convert --type f32` makes of it.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

HELD = ["llama", "llama_linear", "llama_dynamic", "llama_yarn", "llama_llama3", "mistral", "qwen2", "qwen3", "gemma", "gemma2",
        "phi3_short", "phi3_long", "gpt2"]
ARCHITECTURE = {"mistral": "llama", "phi3": "phi3"}
IDS = torch.arange(31).mul(7).add(2).remainder(53).view(1, -1)


def permute(weights, n_head):
    """LlamaModel.permute of convert_hf_to_gguf.py."""
    return (weights.reshape(n_head, 2, weights.shape[0] // n_head // 2, *weights.shape[1:])
            .swapaxes(1, 2).reshape(weights.shape))


def logits(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    # Nothing is dropped in these models; and for inference bitsandbytes repacks weights in bf16, of whole tiles only.
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        return model(IDS).logits[0]


def check_gguf(path, folder, config):
    reader = gguf.GGUFReader(path)
    field = {name: f.contents() for name, f in reader.fields.items()}
    kind = config["model_type"]
    arch = field["general.architecture"]
    assert arch == ARCHITECTURE.get(kind, kind), arch
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[{"llama": "LLAMA"}.get(arch, arch.upper())], 2)
    got = {t.name: t for t in reader.tensors}
    heads = config.get("num_attention_heads", config.get("n_head"))
    seen = set()
    for name, want in load_file(folder / "model.safetensors").items():
        own = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert own, f"gguf has no name for {name}"
        want = want.numpy()
        if arch == "llama" and ".q_proj." in name:
            want = permute(want, heads)
        if arch == "llama" and ".k_proj." in name:
            want = permute(want, config["num_key_value_heads"])
        if kind.startswith("gemma") and name.endswith("norm.weight"):
            want = want + np.float32(1)
        if kind == "gpt2" and any(s in name for s in ("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            want = want.T
        tensor = got[own]
        assert list(tensor.shape) == list(reversed(want.shape)), name
        assert np.array_equal(np.asarray(tensor.data).reshape(want.shape), want), name
        seen.add(own)
    extra = set(got) - seen
    assert extra <= {"rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"}, extra
    if "rope_freqs.weight" in extra:
        check_llama3(np.asarray(got["rope_freqs.weight"].data), config)
    assert field[f"{arch}.block_count"] == 2 and field[f"{arch}.attention.head_count"] == heads
    return len(got)


def check_llama3(got, config):
    """generate_extra_tensors of convert_hf_to_gguf.py."""
    rope = config["rope_parameters"]
    dim, old = config["head_dim"], rope["original_max_position_embeddings"]
    freqs = 1.0 / (rope["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim))
    low, high, want = rope["low_freq_factor"], rope["high_freq_factor"], []
    for wavelen in 2 * np.pi / freqs:
        if wavelen < old / high:
            want.append(1)
        elif wavelen > old / low:
            want.append(rope["factor"])
        else:
            smooth = (old / wavelen - low) / (high - low)
            want.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    assert np.allclose(got, np.array(want, dtype=np.float32), rtol=1e-6), (got, want)


def main():
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} SAMEBITS MODELS")
    program, models = sys.argv[1], pathlib.Path(sys.argv[2])
    run = lambda *args: subprocess.run([program, *map(str, args)], check=True, stdout=subprocess.DEVNULL)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        for name in HELD:
            folder = scratch / f"{name}-in"
            shutil.copytree(models / name, folder)
            config = json.loads((folder / "config.json").read_text())
            if name == "gemma2":  # llama.cpp takes head_dim
                config["query_pre_attn_scalar"] = config["head_dim"]
                (folder / "config.json").write_text(json.dumps(config))
            file, back = scratch / f"{name}.gguf", scratch / f"{name}-back"
            run("convert", folder, file, "--no-tokenizer")
            tensors = check_gguf(file, folder, config)
            run("convert", file, back)
            far = (logits(back) - logits(folder)).abs().max().item()
            assert far <= (1e-5 if "gemma" in name else 1e-6), (name, far)
            line = f"{name}: {tensors} tensors as the gguf package has them; folder and back {far:.1e}"
            for flags in ([], ["--double-quant"]) if name in ("llama", "qwen2", "mistral", "gpt2") else ():
                nf4, plain = scratch / f"{name}-nf4{len(flags)}", scratch / f"{name}-nf4{len(flags)}-f32"
                run("quantize", folder, nf4, "--nf4", *flags)
                run("convert", nf4, plain, "--type", "f32")
                far = (logits(nf4) - logits(plain)).abs().max().item()
                assert far <= 1e-6, (name, far)
                line += f"; NF4 {' '.join(flags)} {far:.1e}"
            print(line)
    print("gguf, transformers", __import__("transformers").__version__, "bitsandbytes",
          __import__("bitsandbytes").__version__)


main()
