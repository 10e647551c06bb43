"""Llamas of drawn weights, with a tokenizer of as many tokens."""

import pathlib
import string


def llama(folder, dim, layers, heads, hidden, vocab):
    """A folder of transformers, made once."""
    folder = pathlib.Path(folder)
    if (folder / "tokenizer.json").exists():
        return folder
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(
        hidden_size=dim, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=heads,
        intermediate_size=hidden, vocab_size=vocab, max_position_embeddings=2048, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=1)).save_pretrained(folder)
    tokenizer(vocab).save(str(folder / "tokenizer.json"))
    return folder


def tokenizer(vocab):
    """Bytes, and pairs of letters, and longer words, until there are enough."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens, merges, letters = list(alphabet), [], string.ascii_letters + string.digits
    for depth in range(2, 5):  # every pair of letters, then every third letter behind a pair …
        for left in [t for t in tokens if len(t) == depth - 1 and all(c in letters for c in t)]:
            for right in letters:
                if len(tokens) < vocab - 2:
                    tokens.append(left + right)
                    merges.append((left, right))
    assert len(tokens) == vocab - 2
    bpe = models.BPE(vocab={t: i for i, t in enumerate(["<s>", "</s>"] + tokens)}, merges=merges)
    made = Tokenizer(bpe)
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<s>", "</s>"])
    return made
