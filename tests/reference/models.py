#!/usr/bin/env python3
"""Tiny random models of every architecture, and what transformers computes with them.

    pip install torch transformers safetensors tokenizers
    python3 tests/reference/models.py tests/data/models

Each folder gets config.json and model.safetensors as transformers saves them, and expected.safetensors with
`ids` (prompt), `logits` (prompt, vocab), `greedy` (64 tokens after the prompt), `margin` (the logit of each
greedy token less that of the runner-up), all in f32 on one thread. Sizes are odd on purpose: grouped heads,
head_dim that is not hidden / heads, tied and untied embeddings, biases, every RoPE scaling.
"""

import pathlib
import sys

import torch
import transformers as t
from safetensors.torch import save_file

VOCAB, PROMPT, STEPS = 53, 37, 64
SMALL = dict(
    vocab_size=VOCAB, hidden_size=20, intermediate_size=28, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=None, pad_token_id=None,
    initializer_range=0.25,
)


def llama(**more):
    return t.LlamaConfig(**{**SMALL, "head_dim": 6, **more})


def rope(kind, **more):
    return llama(rope_parameters={"rope_type": kind, "rope_theta": 10000.0, **more})


DECODERS = {
    "llama": llama(tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
    "llama_linear": rope("linear", factor=2.5),
    "llama_dynamic": t.LlamaConfig(**{
        **SMALL, "head_dim": 6, "max_position_embeddings": 32,
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 3.0}}),
    "llama_yarn": rope("yarn", factor=4.0, original_max_position_embeddings=64),
    "llama_llama3": rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                         original_max_position_embeddings=64),
    "mistral": t.MistralConfig(**{**SMALL, "head_dim": 6, "sliding_window": 11}),
    "qwen2": t.Qwen2Config(**{**SMALL, "hidden_size": 24, "use_sliding_window": False}),
    "qwen3": t.Qwen3Config(**{**SMALL, "head_dim": 10, "tie_word_embeddings": True}),
    "gemma": t.GemmaConfig(**{**SMALL, "head_dim": 6, "num_key_value_heads": 1}),
    "gemma2": t.Gemma2Config(**{**SMALL, "head_dim": 6, "sliding_window": 9, "query_pre_attn_scalar": 7}),
    "phi3_short": t.Phi3Config(**{
        **SMALL, "hidden_size": 24, "original_max_position_embeddings": 128, "max_position_embeddings": 256,
        "rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0, "factor": 2.0,
                            "short_factor": [1.0, 1.25, 1.5], "long_factor": [2.0, 3.0, 4.0],
                            "original_max_position_embeddings": 128}}),
    "phi3_long": t.Phi3Config(**{
        **SMALL, "hidden_size": 24, "original_max_position_embeddings": 16, "max_position_embeddings": 256,
        "rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0, "factor": 16.0,
                            "short_factor": [1.0, 1.25, 1.5], "long_factor": [2.0, 3.0, 4.0],
                            "original_max_position_embeddings": 16}}),
    "gpt2": t.GPT2Config(vocab_size=VOCAB, n_embd=20, n_head=4, n_layer=2, n_inner=28, n_positions=128,
                         bos_token_id=1, eos_token_id=None, initializer_range=0.25),
}
ENCODERS = {
    "bert": t.BertConfig(vocab_size=VOCAB, hidden_size=20, intermediate_size=28, num_hidden_layers=2,
                         num_attention_heads=4, max_position_embeddings=64, type_vocab_size=2,
                         initializer_range=0.25),
    "roberta": t.RobertaConfig(vocab_size=VOCAB, hidden_size=20, intermediate_size=28, num_hidden_layers=2,
                               num_attention_heads=2, max_position_embeddings=66, type_vocab_size=1,
                               pad_token_id=1, initializer_range=0.25),
}


def randomise(model, generator):
    """Norm weights and biases too: transformers starts them at ones and zeros, which hides mistakes."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.add_(0.3 * torch.randn(p.shape, generator=generator))


def tokenizers(root):
    """Tokenizers of 53 tokens for two of the models, so that the commands have whole folders to open."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    letters = "abcdefghijklmnoprstuvwxy"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + c for c in letters)]
    bert = Tokenizer(models.WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="[UNK]"))
    bert.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    bert.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    bert.decoder = decoders.WordPiece()
    bert.save(str(root / "bert" / "tokenizer.json"))
    words = ["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(50))]
    llama = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    llama.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    llama.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    llama.save(str(root / "llama" / "tokenizer.json"))


def decoder(name, config, folder, generator):
    config._attn_implementation = "eager"
    model = t.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    randomise(model, generator)
    ids = torch.randint(0, VOCAB, (1, PROMPT), generator=generator)
    with torch.no_grad():
        logits = model(ids).logits[0]
        all_ids, margins = ids, []
        for _ in range(STEPS):
            top = model(all_ids).logits[0, -1].topk(2)
            margins.append(top.values[0] - top.values[1])
            all_ids = torch.cat([all_ids, top.indices[:1].view(1, 1)], dim=1)
    model.save_pretrained(folder)
    save_file({
        "ids": ids[0].to(torch.int32), "logits": logits.contiguous(),
        "greedy": all_ids[0, PROMPT:].to(torch.int32).contiguous(), "margin": torch.stack(margins),
    }, folder / "expected.safetensors")


def encoder(name, config, folder, generator):
    config._attn_implementation = "eager"
    model = t.AutoModel.from_config(config, dtype=torch.float32).eval()
    randomise(model, generator)
    low = 4 if name == "roberta" else 0
    ids = torch.randint(low, VOCAB, (1, PROMPT), generator=generator)
    segments = torch.zeros_like(ids)
    if config.type_vocab_size > 1:
        segments[0, PROMPT // 2:] = 1
    with torch.no_grad():
        hidden = model(ids, token_type_ids=segments).last_hidden_state[0]
    model.save_pretrained(folder)
    save_file({"ids": ids[0].to(torch.int32), "segments": segments[0].to(torch.int32),
               "hidden": hidden.contiguous()}, folder / "expected.safetensors")


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FOLDER")
    torch.set_num_threads(1)
    root = pathlib.Path(sys.argv[1])
    for kinds, make in [(DECODERS, decoder), (ENCODERS, encoder)]:
        for name, config in kinds.items():
            torch.manual_seed(sum(name.encode()))
            folder = root / name
            folder.mkdir(parents=True, exist_ok=True)
            make(name, config, folder, torch.Generator().manual_seed(len(name)))
            (folder / "generation_config.json").unlink(missing_ok=True)
            print(name, sum(f.stat().st_size for f in folder.iterdir()), "bytes")
    tokenizers(root)
    print("torch", torch.__version__, "transformers", t.__version__)


main()
