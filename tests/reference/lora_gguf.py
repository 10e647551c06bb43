"""Writes tests/data/peft/llama: a LoRA that peft saved for a small Llama, the model's config.json, and adapter.gguf, the same as
llama.cpp's convert_lora_to_gguf.py writes it (alpha · √r for rsLoRA, which that script forgets).

    pip install torch peft transformers gguf safetensors
    python3 tests/reference/lora_gguf.py
"""

import shutil
from pathlib import Path

import gguf
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

OUT = Path(__file__).resolve().parents[1] / "data" / "peft" / "llama"
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "mlp.down_proj": "ffn_down"}
HEADS, KV_HEADS = 4, 2
config = LlamaConfig(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS,
    vocab_size=11, max_position_embeddings=32, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
torch.manual_seed(3)
targets = [name.split(".")[1] for name in NAMES]
lora = LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=targets, init_lora_weights=False)
net = get_peft_model(LlamaForCausalLM(config), lora)
shutil.rmtree(OUT, ignore_errors=True)
net.save_pretrained(OUT)
(OUT / "README.md").unlink(missing_ok=True)
config.save_pretrained(OUT)


def permute(rows, heads):
    """LlamaModel.permute of llama.cpp's converter."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)


writer = gguf.GGUFWriter(OUT / "adapter.gguf", "llama")
writer.add_type("adapter")
writer.add_string("adapter.type", "lora")
writer.add_float32("adapter.lora.alpha", 6 * 4**0.5)
for key, tensor in sorted(load_file(OUT / "adapter_model.safetensors").items()):
    _, layer, rest = key.removeprefix("base_model.model.model.").split(".", 2)
    module, _, side = rest.removesuffix(".weight").rpartition(".")
    if side == "lora_B" and module.endswith(("q_proj", "k_proj")):
        tensor = permute(tensor, HEADS if module.endswith("q_proj") else KV_HEADS)
    writer.add_tensor(f"blk.{layer}.{NAMES[module]}.weight.{side.lower()}", tensor.contiguous().numpy())
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
