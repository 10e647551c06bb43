#!/usr/bin/env python3
"""Beam search and prompt lookup of transformers (pip install transformers torch).

    python3 tests/reference/decoding.py        # makes tests/data/{beam,lookup}.json

The model is a table: the logits after a token at a place, so that no two texts have the same score by having the
same steps. The file begins with three of them, as bits of float32, (place, token, next).
"""
import json
import pathlib

import numpy as np
import torch
from transformers import GPT2Config, PreTrainedModel
from transformers.generation import GenerationMixin
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator
from transformers.modeling_outputs import CausalLMOutputWithPast

OUT = pathlib.Path(__file__).resolve().parents[1] / "data"
VOCABULARY = 7
LENGTH = 13


class Table(PreTrainedModel, GenerationMixin):
    config_class = GPT2Config

    def __init__(self, table):
        super().__init__(GPT2Config(vocab_size=VOCABULARY, n_layer=1, n_embd=4, n_head=1))
        self.table = torch.nn.Parameter(torch.tensor(table))

    def forward(self, input_ids, **_):
        return CausalLMOutputWithPast(logits=self.table[torch.arange(input_ids.shape[1])[None], input_ids])


def beam(rng):
    tables, cases = [], []
    for t in range(3):
        table = (rng.standard_normal((LENGTH, VOCABULARY, VOCABULARY)) * (1 + t)).astype(np.float32)
        tables.append(" ".join(f"{x:08x}" for x in table.view(np.uint32).ravel()))
        model = Table(table)
        for beams in [2, 3, 5]:
            for penalty in [-1.0, 0.0, 1.0, 2.0]:
                for early in [False, True, "never"]:
                    for ends in [[1], [1, 4]]:
                        out = model.generate(
                            torch.tensor([[3, 2]]), attention_mask=torch.ones(1, 2, dtype=torch.long), num_beams=beams,
                            num_return_sequences=beams, length_penalty=penalty, early_stopping=early, eos_token_id=ends,
                            pad_token_id=0, max_new_tokens=6 + beams, do_sample=False, use_cache=False,
                            return_dict_in_generate=True, output_scores=True)
                        texts = []
                        for row in out.sequences[:, 2:].tolist():
                            cut = next((i + 1 for i, x in enumerate(row) if x in ends), len(row))
                            texts.append(row[:cut])
                        cases.append({"table": t, "beams": beams, "penalty": penalty, "early": str(early), "ends": ends,
                                      "max": 6 + beams, "texts": texts,
                                      "scores": [round(x, 6) for x in out.sequences_scores.tolist()]})
    return {"tables": tables, "cases": cases}


def lookup(rng):
    cases = []
    for n in [1, 2, 3, 5, 9, 20, 60]:
        for size, draft in [(1, 3), (2, 10), (3, 4), (5, 100)]:
            text = rng.integers(0, 5, n).tolist()
            for ends in [[], [2]]:
                proposer = PromptLookupCandidateGenerator(
                    eos_token_id=torch.tensor(ends) if ends else None, num_output_tokens=draft,
                    max_matching_ngram_size=size, max_length=10**6)
                got = proposer.get_candidates(torch.tensor([text]))[0][0].tolist()[n:]
                cases.append({"text": text, "size": size, "draft": draft, "ends": ends, "proposed": got})
    return cases


def write(name, rows):
    (OUT / name).write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")


if __name__ == "__main__":
    rng = np.random.default_rng(11)
    found = beam(rng)
    write("beam.json", found["tables"] + found["cases"])
    write("lookup.json", lookup(rng))
