#!/usr/bin/env python3
"""Makes tests/data/tokenizers/: small tokenizers trained on our own text by the real packages, one a model
kind, and what those packages make of hard texts.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3
    python3 tests/reference/tokenizer_ids.py               # the small tokenizers
    python3 tests/reference/tokenizer_ids.py FOLDER        # also the ids of the published ones in FOLDER

texts.json       the texts
NAME.json        a tokenizer (NAME.model: SentencePiece)
NAME.out.json    for each text ids, offsets in characters, and the decoded text; for pairs of texts ids and
                 segments; for batches cut and filled ids, attention and special mask
real/NAME.json   ids of a published tokenizer, for each text
"""

import json
import os
import pathlib
import sys
import tempfile

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).parent.parent.parent
OUT = ROOT / "tests" / "data" / "tokenizers"

TEXTS = [
    "",
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    "\n\n\n",
    "a",
    "Hello, world!",
    " Hello",
    "Hello ",
    "  Hello   world  ",
    "line one\nline two\r\nline three\r\r\n\n  indented\n\tTab\n",
    "The same bits on every instruction set, for any number of threads and any batch size.",
    "I've been told he's there, you're sure? 'M not; I'LL make it, We'Ve a'lL, it'ſ 'tis 'SIMD'",
    "don't do not can't ' s ''s '' '''ll",
    "camelCase HTTPServer XMLHttpRequest snake_case kebab-case SCREAMING_SNAKE iPhone McDonald",
    "0 1 12 123 1234 12345 123456 1,234,567.89 3.14e-10 0xFF 1/2 ½ ² ³ Ⅷ ٣ ৩ 一二三 ①②",
    "v1.2.3-rc4+build.5 192.168.0.1 2024-02-29T23:59:60Z +1 (555) 010-9999",
    "naïve café résumé Ångström Übermut Łódź Đorđe Straße ŒUVRE ﬁne ﬂow ﬃ",
    "cafe\u0301 re\u0301sume\u0301 A\u030angstro\u0308m o\u0323\u0302 o\u0302\u0323 \u0041\u0300\u0301\u0302\u0303",
    "\u0301 leading mark, e\u0301\u0301\u0301\u0301\u0301\u0301 many, x\u0488y, q\u0307\u0323 reordered",
    "İstanbul ıI ǅ ΌΔΟΣ ὈΔΥΣΣΕΎΣ ẞ ß ﬀ Ǆ",
    "机器学习很有趣。我想在apple工作1314151天～",
    "日本語のテキストと、カタカナ・ひらがな。「引用」ﾊﾝｶｸ ﾊﾟ",
    "한국어 텍스트 각 가\u11a8 \u1112\u1161\u11ab 힣",
    "ภาษาไทยไม่มีช่องว่าง กำ ที่",
    "नमस्ते दुनिया क्षि க்ஷ ঢ় ক়",
    "مرحبا بالعالم ٠١٢٣ لا ﷺ السَّلَامُ",
    "שלום עולם שָׁלוֹם",
    "Привет, мир! Ёлка й и\u0306 ЁЖ",
    "Γειά σου Κόσμε ς σ Σ",
    "Cửa Việt Nam phở Đà Nẵng",
    "🚀 😀😃 👩‍👩‍👧‍👦 👍🏽 🇩🇪🇫🇷 ✈️ 😶‍🌫️ 1️⃣ ❤️‍🔥 🏴󠁧󠁢󠁳󠁣󠁴󠁿",
    "a😀b 😀 c",
    "𝕳𝖊𝖑𝖑𝖔 𝟙𝟚 𐍈 𠀀𪛖 Ａｂｃ １２３　全角",
    "\u00a0nbsp\u00a0 \u2003em\u2003 \u200bzw\u200b \u3000ideographic \u2028ls\u2029ps \u202fn \u1680o \u0085nel",
    "\x00nul\x01\x02 bell\x07 esc\x1b[0m del\x7f \x0b\x0c vt ff \ufeffbom \u00ad soft \ufffd",
    "\u200e\u202ebidi\u202c \u2066x\u2069 \u200dzwj\u200c \ue000private \U000f0000",
    "<s> </s> <unk> <pad> [CLS] [SEP] [MASK] [UNK] <|endoftext|> <mask>",
    "x<mask>y [MASK]z  <mask>  w <extra> token tokens <0x41> <0xE4>",
    "a b  c   d    e     f      g       h        i         j",
    "tab\there\t\tand\t\t\tthere \t mixed \t ",
    "!!!!!! ???? ...... ,,,, ;;;; :::: ---- ____ ==== #### $$$$ %%%% &&&& **** ((())) [[[]]] {{{}}}",
    "def f(x):\n    if x > 0:\n        return x ** 2  # square\n    return -x\n\n\nclass A:\n\tpass\n",
    "<html><body class=\"x\">&amp; &#39; <!-- c --></body></html>",
    "https://example.com/a/b?c=d&e=f#g user@example.com C:\\dir\\file.txt ~/.bashrc",
    "| a | b |\n|---|---|\n| 1 | 2 |\n",
    "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β → γ ≤ √2 ± ∞ × ÷ €£¥¢",
    "“curly” ‘quotes’ «guillemets» „low“ – en — em … ellipsis • bullet",
    "a" * 70,
    "the" * 24,
    "ab" * 30 + " " + "xyz" * 20,
    " " * 60 + "end",
    "\n" * 30 + "end" + "\n" * 9,
    "Antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "▁ literal ▁▁ underline ▁x x▁ Ġ Ċ Ġword ## ##ing",
    "un##able #a ##b c## 'a' \"b\" `c` ´d´ ¨e¨",
    "kernel" + "\u0301" * 20 + "s",
    "文" * 20,
    "😀" * 14,
    "\t \n \r x \n\n y\r\n\r\n z   \n",
    "The quick brown fox jumps over the lazy dog. " * 3,
]

PAIRS = [("Hello world", "the second text"), ("", "b"), ("a", ""), ("A longer first text, café.", "2"), ("é", "日本 語")]

CORPUS = [
    "The same bits on every instruction set, for any number of threads and any batch size.",
    "A kernel is written once and dispatched to the tier that the machine has: scalar, AVX2, AVX-512, NEON.",
    "Tokens are cut, joined and counted; the token of a word is the token that the vocabulary has for the word.",
    "She said that he had not been there, and that it wasn't theirs; they'll see, we've seen, I'm sure.",
    "1234567890 12 123 2024 3.14 100 200 300 1000",
    "def f(x):\n    return x ** 2\n\n\nfor i in range(10):\n    print(i)\n",
    "café naïve résumé über straße el niño São Paulo Łódź",
    "机器学习 日本語 テキスト 한국어 ภาษาไทย नमस्ते Привет мир Γειά σου مرحبا שלום Việt Nam",
    "hello world hello there world where the other and then they them these those this that",
]

CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = CL100K.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = (
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)


def split(expression):
    return pre_tokenizers.Split(Regex(expression), "isolated")


def byte_level(splits, normalizer=None, special=("<|endoftext|>",), vocab=430, prefix=False, regex=False, **options):
    """A byte-level BPE whose words `splits` cut."""
    tokenizer = Tokenizer(models.BPE(**options))
    if normalizer:
        tokenizer.normalizer = normalizer
    last = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, last]) if splits else last
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def wordpiece(lowercase):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=430, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def make_wordpiece():
    tokenizer = wordpiece(True)
    tokenizer.enable_truncation(48)
    tokenizer.enable_padding(pad_to_multiple_of=8)
    return tokenizer


def make_gpt2():
    tokenizer = byte_level([], regex=True)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def make_roberta():
    tokenizer = byte_level([], special=("<s>", "<pad>", "</s>", "<unk>"), prefix=True, regex=True)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    tokenizer.add_tokens([AddedToken("tokens", single_word=True), AddedToken("<extra>", rstrip=True)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.enable_truncation(40, direction="left")
    tokenizer.enable_padding(length=24, pad_id=1, pad_token="<pad>", direction="left")
    return tokenizer


def make_llama3():
    tokenizer = byte_level([split(CL100K)], special=("<|begin_of_text|>", "<|end_of_text|>"), ignore_merges=True)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A",
                pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
                special_tokens=[("<|begin_of_text|>", 0)],
            ),
        ]
    )
    return tokenizer


def make_falcon():
    tokenizer = byte_level([])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Punctuation("contiguous"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            pre_tokenizers.Digits(False),
            split("[0-9][0-9][0-9]"),
        ]
    )
    return tokenizer


def make_deepseek():
    return byte_level([split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK)])


def make_llama2():
    """As transformers converts SentencePiece BPE: the whole text is one word."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=560, special_tokens=special, show_progress=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.train_from_iterator(CORPUS, trainer)
    data = json.loads(tokenizer.to_str())
    data["pre_tokenizer"] = None
    data["added_tokens"] = data["added_tokens"][:3]
    data["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }
    data["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "<s>", "type_id": 1}},
            {"Sequence": {"id": "B", "type_id": 1}},
        ],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    return Tokenizer.from_str(json.dumps(data))


def make_gemma():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_previous")
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<pad>", "<eos>", "<bos>", "<unk>"], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def make_clip():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.decoder = decoders.BPEDecoder("</w>")
    return tokenizer


def unigram(scheme, normalizer):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return tokenizer


def make_unigram():
    tokenizer = unigram("first", normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]))
    tokenizer.post_processor = processors.BertProcessing(("</s>", 1), ("<pad>", 0))
    tokenizer.enable_truncation(30, strategy="only_first")
    return tokenizer


def make_unigram_bytes():
    tokenizer = unigram("always", normalizers.Sequence([normalizers.Strip(), normalizers.NFKD()]))
    data = json.loads(tokenizer.to_str())
    data["model"]["vocab"] += [[f"<0x{i:02X}>", 0.0] for i in range(256)]
    data["model"]["byte_fallback"] = True
    data["decoder"] = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, data["decoder"]]}
    return Tokenizer.from_str(json.dumps(data))


def make_wordlevel():
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Digits(True),
            pre_tokenizers.Split("q", "removed"),
            pre_tokenizers.Split("th", "merged_with_previous"),
        ]
    )
    trainer = trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


MAKERS = {
    "wordpiece": make_wordpiece,
    "wordpiece_cased": lambda: wordpiece(False),
    "gpt2": make_gpt2,
    "roberta": make_roberta,
    "llama3": make_llama3,
    "qwen2": lambda: byte_level([split(QWEN2)], normalizers.NFC()),
    "o200k": lambda: byte_level([split(O200K)]),
    "falcon": make_falcon,
    "deepseek": make_deepseek,
    "llama2": make_llama2,
    "gemma": make_gemma,
    "clip": make_clip,
    "unigram": make_unigram,
    "unigram_bytes": make_unigram_bytes,
    "wordlevel": make_wordlevel,
}


def dump(path, value):
    path.write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")


def one(encoding):
    return {"ids": encoding.ids, "offsets": [place for pair in encoding.offsets for place in pair]}


def expected(tokenizer):
    """What the tokenizer itself makes of everything."""
    limits, padding = tokenizer.truncation, tokenizer.padding
    batch = [
        {"ids": e.ids, "types": e.type_ids, "attention": e.attention_mask, "special": e.special_tokens_mask}
        for e in tokenizer.encode_batch(TEXTS[8:20])
    ]
    tokenizer.no_truncation()
    tokenizer.no_padding()
    plain = [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]
    whole = [tokenizer.encode(text) for text in TEXTS]
    pairs = [tokenizer.encode(*pair) for pair in PAIRS]
    return {
        "plain": [one(encoding) for encoding in plain],
        "whole": [encoding.ids for encoding in whole],
        "decoded": [tokenizer.decode(e.ids, skip_special_tokens=True) for e in whole],
        "pairs": [{"ids": e.ids, "types": e.type_ids, "special": e.special_tokens_mask} for e in pairs],
        "batch": batch,
        "limits": [limits is not None, padding is not None],
    }


def sentencepieces():
    """SentencePiece models, small ones: their normalisation is our own table."""
    rules = [("\u2126", "\u03a9"), ("\ufb01", "fi"), ("e\u0301", "\u00e9"), ("\u3000", " "), ("\t", " "), ("\u00ad", "")]
    common = dict(hard_vocab_limit=False, num_threads=1, minloglevel=2, character_coverage=1.0)
    with tempfile.TemporaryDirectory() as folder:
        corpus, table = f"{folder}/corpus.txt", f"{folder}/rules.tsv"
        pathlib.Path(corpus).write_text("\n".join(CORPUS * 3))
        hexed = lambda text: " ".join(f"{ord(c):X}" for c in text)
        pathlib.Path(table).write_text("".join(f"{hexed(a)}\t{hexed(b)}\n" for a, b in rules))
        kinds = {
            "spm_bpe": dict(
                model_type="bpe", vocab_size=520, byte_fallback=True, normalization_rule_name="identity",
                remove_extra_whitespaces=False, user_defined_symbols=["<extra>", "==="],
            ),
            "spm_bpe_plain": dict(model_type="bpe", vocab_size=300, normalization_rule_tsv=table),
            "spm_unigram": dict(
                model_type="unigram", vocab_size=260, normalization_rule_tsv=table,
                user_defined_symbols=["<extra>", "==="], pad_id=3,
            ),
            "spm_unigram_bytes": dict(
                model_type="unigram", vocab_size=480, byte_fallback=True, normalization_rule_name="identity",
                add_dummy_prefix=False,
            ),
        }
        for name, options in kinds.items():
            sentencepiece.SentencePieceTrainer.train(input=corpus, model_prefix=f"{folder}/{name}", **common, **options)
            data = pathlib.Path(f"{folder}/{name}.model").read_bytes()
            (OUT / f"{name}.model").write_bytes(data)
            dump(OUT / f"{name}.out.json", spm_expected(sentencepiece.SentencePieceProcessor(model_proto=data)))


def spm_expected(model):
    plain = []
    for text in TEXTS:
        pieces = model.encode(text, return_type="proto").pieces
        plain.append({"ids": [p.id for p in pieces], "offsets": [place for p in pieces for place in (p.begin, p.end)]})
    return {"plain": plain, "decoded": [model.decode(p["ids"]) for p in plain]}


def published(folder):
    """Ids that published tokenizers give; they are not ours to commit, their ids for our texts are."""
    (OUT / "real").mkdir(exist_ok=True)
    for path in sorted(pathlib.Path(folder).glob("**/tokenizer.json")):
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
        dump(OUT / "real" / f"{path.parent.name}.json", {"file": str(path.relative_to(folder)), "ids": ids})
    for path in sorted(pathlib.Path(folder).glob("**/*.model*")):
        model = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
        ids = [model.encode(text) for text in TEXTS]
        dump(OUT / "real" / f"{path.name}.json", {"file": str(path.relative_to(folder)), "ids": ids})


def main():
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    OUT.mkdir(parents=True, exist_ok=True)
    dump(OUT / "texts.json", {"texts": TEXTS, "pairs": PAIRS})
    for name, make in MAKERS.items():
        tokenizer = make()
        (OUT / f"{name}.json").write_text(tokenizer.to_str() + "\n")
        dump(OUT / f"{name}.out.json", expected(tokenizer))
        # The vocabulary as BERT's own format has it.
        if name.startswith("wordpiece"):
            tokens = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
            (OUT / f"{name}.vocab.txt").write_text("".join(f"{token}\n" for token, _ in tokens))
    sentencepieces()
    if len(sys.argv) > 1:
        published(sys.argv[1])


if __name__ == "__main__":
    main()
