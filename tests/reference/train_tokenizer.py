"""Writes tests/data/tokenizers/trained.json: what the `tokenizers` package trains from a text, the licence of this repository.

    pip install tokenizers
    python3 tests/reference/train_tokenizer.py
"""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

ROOT = Path(__file__).resolve().parents[2]
# Runs of one letter and many ties besides prose: what the order of merges hangs on.
EXTRA = "aaaa aaaaa aa abab ababab ba cabc abcabc é è été çà 日本語 日本 \n\n  \t x1 y22 z333 don't we'll\n" * 3
text = (ROOT / "LICENSE-APACHE").read_text() + EXTRA
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(
    vocab_size=700,
    min_frequency=2,
    special_tokens=["<|endoftext|>", "<|pad|>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
)
tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
(ROOT / "tests/data/tokenizers/trained.json").write_text(tokenizer.to_str() + "\n")
