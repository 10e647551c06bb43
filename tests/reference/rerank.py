#!/usr/bin/env python3
"""Scores of tiny random cross-encoders by transformers, and of late interaction by its formula, for tests/rerank.rs.

    python3 tests/reference/rerank.py tests/data/rerank

Writes bert and roberta (config.json, model.safetensors, tokenizer.json), colbert (a BERT with linear.weight and
artifact.metadata), and scores.json. Pairs are cut by the fast tokenizer's own longest_first.
"""

import json
import pathlib
import sys

import torch
import transformers as t
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

out = pathlib.Path(sys.argv[1])
QUESTION = "abc def"
TEXTS = ["abc", "", "def abc xyx", "the fox " * 30, "a, b. c!", "xyz qqq"]
LONG = "fed cba " * 20
letters = "abcdefghijklmnoprstuvwxy"
special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]", ",", ".", "!"]
tokens = [*special, *letters, *("##" + c for c in letters)]


def randomise(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.25 * torch.randn(p.shape, generator=generator))
            if p.dim() == 1:
                p.add_(0.5)


def tokenizer(folder, roberta):
    made = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    pair = "[CLS] $A [SEP] [SEP] $B [SEP]" if roberta else "[CLS] $A [SEP] $B:1 [SEP]:1"
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair=pair, special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    made.save(str(folder / "tokenizer.json"))
    return made


scores = {"question": QUESTION, "long": LONG, "texts": TEXTS}
for name in ["bert", "roberta"]:
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    roberta = name == "roberta"
    kind, config = (t.RobertaForSequenceClassification, t.RobertaConfig) if roberta else (t.BertForSequenceClassification, t.BertConfig)
    extra = {"pad_token_id": 0, "type_vocab_size": 1, "max_position_embeddings": 49} if roberta else {"type_vocab_size": 2, "max_position_embeddings": 48}
    model = kind(config(vocab_size=len(tokens), hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
                        num_labels=1, attn_implementation="eager", **extra)).eval()
    randomise(model, len(name))
    model.save_pretrained(folder)
    made = tokenizer(folder, roberta)
    made.enable_truncation(48, strategy="longest_first")
    for key, question in [("scores", QUESTION), ("long_scores", LONG)]:
        found = []
        for text in TEXTS:
            pair = made.encode(question, text)
            ids, types = torch.tensor([pair.ids]), torch.tensor([[0] * len(pair.ids) if roberta else pair.type_ids])
            with torch.no_grad():
                found.append(model.double()(ids, attention_mask=torch.ones_like(ids), token_type_ids=types).logits[0, 0].sigmoid().item())
        scores[f"{name}_{key}"] = found

folder = out / "colbert"
folder.mkdir(parents=True, exist_ok=True)
model = t.BertModel(t.BertConfig(vocab_size=len(tokens), hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
                                 max_position_embeddings=48, attn_implementation="eager"), add_pooling_layer=False).eval()
randomise(model, 5)
linear = torch.randn(8, 16, generator=torch.Generator().manual_seed(6))
model.config.save_pretrained(folder)
save_file({**{f"bert.{k}": v.contiguous() for k, v in model.state_dict().items()}, "linear.weight": linear}, folder / "model.safetensors")
made = tokenizer(folder, False)
metadata = {"query_token_id": "[unused0]", "doc_token_id": "[unused1]", "query_maxlen": 16, "doc_maxlen": 20, "attend_to_mask_tokens": True, "mask_punctuation": True}
(folder / "artifact.metadata").write_text(json.dumps(metadata))


def rows(ids):
    with torch.no_grad():
        hidden = model.double()(torch.tensor([ids])).last_hidden_state[0] @ linear.double().T
    return torch.nn.functional.normalize(hidden, dim=1)


def plain(text):
    return made.encode(text, add_special_tokens=False).ids


def late(question, text):
    q = [2, 5, *plain(question)[:13], 3]
    q = rows(q + [4] * (16 - len(q)))
    ids = [2, 6, *plain(text)[:17], 3]
    d = rows(ids)[[i for i, token in enumerate(ids) if token not in (7, 8, 9)]]
    return (q @ d.T).max(1).values.sum().item()


scores["colbert_scores"] = [late(QUESTION, text) for text in TEXTS]
scores["colbert_long_scores"] = [late(LONG, text) for text in TEXTS]
(out / "scores.json").write_text(json.dumps(scores, separators=(",", ":")))
