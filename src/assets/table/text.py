#!/usr/bin/env python3
"""The texts to which the table inside is fitted, a line each.

    python3 src/assets/table/text.py SAMEBITS_DATA CHECKOUTS > sentences.txt

CHECKOUTS has the repositories that README.md names, at the commits it names. From all of them come whole paragraphs, and
sentences of others: a query is as short as these, a document as long as those. No document of which a sentence is in
SciFact or Cranfield, by which the table is judged, gives anything.
"""

import csv
import json
import pathlib
import random
import re
import sys
import xml.etree.ElementTree as xml
import zipfile

data, checkouts = map(pathlib.Path, sys.argv[1:3])
random.seed(1)

# Commercial use and works made of it are allowed by these alone; a text's own words say which it has.
FREE = re.compile(r"creativecommons\.org/(?:licenses/by/|publicdomain/zero/)")
BOUND = re.compile(r"creativecommons\.org/licenses/by-n|by-nc|noncommercial|non-commercial", re.I)
# What stands in a paragraph, and is no part of its sentences.
ASIDE = {"math", "table", "table-wrap", "fig", "figure", "note", "list", "exercise", "disp-formula", "inline-formula", "code"}


def plain(text):
    text = re.sub(r"\s*\[\s*\d+(?:\s*[-–,]\s*\d+)*\s*\]|\(\s*\)", "", text)
    return re.sub(r"\s+", " ", text).strip()


def sentences(text):
    return [s for s in re.split(r"(?<=[.!?])\s+(?=[A-Z0-9\"“(])", plain(text)) if 30 < len(s) < 600]


def some(texts, most):
    return random.sample(texts, min(most, len(texts)))


def lines(path, read):
    return [text for line in path.read_text(encoding="utf-8").splitlines() for text in read(json.loads(line))]


def key(text):
    return re.sub(r"[\W_]+", " ", text.lower()).strip()


def judged():
    """Sentences of the collections by which the table is judged."""
    found = set()
    for name in ("scifact", "cranfield"):
        for file in ("corpus.jsonl", "queries.jsonl"):
            for line in (data / "retrieval" / name / "beir" / file).read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                for text in (row.get("title", ""), row["text"]):
                    found.update(key(s) for s in [text, *re.split(r"(?<=[.!?])\s+", text)])
    return {text for text in found if len(text) > 40}


def words(element):
    """An element's text without what is set apart in it."""
    name = element.tag.rsplit("}")[-1]
    inside = "" if name in ASIDE else (element.text or "") + "".join(words(child) for child in element)
    return inside + (element.tail or "")


def paragraphs(root, names):
    found = (element for element in root.iter() if element.tag.rsplit("}")[-1] in names)
    texts = (plain(words(element).removesuffix(element.tail or "")) for element in found)
    return [text for text in texts if len(text) > 30]


def textbooks():
    for path in sorted(checkouts.glob("osbooks-*/modules/*/index.cnxml")):
        yield paragraphs(xml.parse(path).getroot(), {"title", "para"})


def articles():
    for path in sorted(checkouts.glob("evidence-inference/annotations/xml_files/*.nxml")) + sorted(
        checkouts.glob("allofplos/allofplos/starter_corpus/*.xml")
    ):
        text = path.read_text(encoding="utf-8")
        if FREE.search(text) and not BOUND.search(text):
            root = xml.fromstring(text)
            for part in root.findall(".//back"):
                part.clear()
            # The abstract is one paragraph, as it is in a collection of abstracts.
            abstracts = [" ".join(paragraphs(part, {"p"})) for part in root.iter("abstract")]
            body = [text for part in root.iter("body") for text in paragraphs(part, {"p"})]
            yield paragraphs(root.find(".//article-meta"), {"article-title"}) + abstracts + body


def mice():
    for path in sorted(checkouts.glob("CRAFT/articles/txt/*.txt")):
        yield path.read_text(encoding="utf-8").splitlines()


def definitions():
    for name in ("CL/CL/CL", "SO/SO/SO", "UBERON/UBERON/UBERON"):
        with zipfile.ZipFile(checkouts / f"CRAFT/concept-annotation/{name}.obo.zip") as archive:
            for inner in archive.namelist():
                if inner.endswith(".obo"):
                    text = archive.read(inner).decode("utf-8")
                    for term in re.findall(r'^name: (.*)(?:\n.*?)*?\ndef: "((?:[^"\\]|\\.)*)"', text, re.M):
                        yield [": ".join(term)]


def named():
    """Abstracts in which names are marked, a token a line."""
    for name in ("BC5CDR", "NCBI-disease", "BC2GM", "AnatEM", "BioNLP13CG", "BioNLP11ID", "BioNLP09", "BioNLP13PC"):
        for part in ("train", "devel", "test"):
            path = checkouts / f"MTL-Bioinformatics-2016/data/{name}-IOB/{part}.tsv"
            if path.exists():
                for block in path.read_text(encoding="utf-8").split("\n\n"):
                    yield [" ".join(line.split("\t")[0] for line in block.splitlines())]


def answers():
    for path in sorted(checkouts.glob("MedQuAD/*/*.xml")):
        root = xml.parse(path).getroot()
        yield [plain(e.text or "") for pair in root.iter("QAPair") for e in pair if e.tag in ("Question", "Answer")]


def summaries():
    for part in ("train", "dev", "test"):
        for row in lines(checkouts / f"scitldr/SciTLDR-Data/SciTLDR-A/{part}.jsonl", lambda row: [row]):
            yield [" ".join(row["source"]), *row["target"]]


def encyclopedia():
    for article in json.loads((checkouts / "xquad/xquad.en.json").read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            yield [paragraph["context"], *(qa["question"] for qa in paragraph["qas"])]
    for part in ("tune", "validation", "test"):
        text = (checkouts / f"wiki-split/{part}.tsv").read_text(encoding="utf-8")
        for line in text.splitlines():
            yield [line.split("\t")[0].replace("``", '"').replace("''", '"')]


def everyday():
    for novel in sorted((data / "text/gutenberg").glob("*.txt")):
        yield from ([s] for s in some(sentences(novel.read_text(encoding="utf-8")), 1500))
    with open(data / "retrieval/stsb/stsb-en-train.csv", encoding="utf-8") as file:
        yield from ([text] for row in csv.reader(file) for text in row[:2])
    folder = data / "text/instructions"
    for row in json.loads((folder / "rasbt-instruction-data.json").read_text()):
        yield [row["instruction"], row["output"]]
    for row in json.loads((folder / "instruction-data-with-preference.json").read_text()):
        yield [row["output"]]
    seeds = folder / "self-instruct-seed_tasks.jsonl"
    yield from ([text] for text in lines(seeds, lambda row: [row["instruction"], *(i["output"] for i in row["instances"])]))
    with open(data / "text/classify-banking77/train.csv", encoding="utf-8") as file:
        yield from [[row[0]] for row in csv.reader(file)][:3000]
    yield from ([s] for s in sentences((data / "text/multilingual/english.txt").read_text(encoding="utf-8")))


# Of each: paragraphs that stay whole, and sentences of the others.
SOURCES = [
    (textbooks, 12_000, 27_000),
    (articles, 9_000, 27_000),
    (mice, 1_200, 3_000),
    (definitions, 5_000, 0),
    (named, 12_000, 0),
    (answers, 6_000, 6_000),
    (summaries, 3_000, 0),
    (encyclopedia, 6_000, 0),
    (everyday, 25_000, 0),
]


def texts(read, whole, parts, taken):
    documents = [[plain(p) for p in document] for document in read()]
    free = [d for d in documents if not any(key(s) in taken for p in d for s in [p, *re.split(r"(?<=[.!?])\s+", p)])]
    all_of_them = list(dict.fromkeys(p[:2500] for d in free for p in d if len(p) > 10))
    random.shuffle(all_of_them)
    split = [s for p in all_of_them[whole:] for s in sentences(p)]
    print(f"{read.__name__}: {len(documents)} documents, {len(documents) - len(free)} judged, "
          f"{len(all_of_them)} paragraphs, {len(split)} sentences left", file=sys.stderr)
    return all_of_them[:whole] + some(split, parts)


sys.stdout.reconfigure(encoding="utf-8")
taken = judged()
found = [text for read, whole, parts in SOURCES for text in texts(read, whole, parts, taken)]
for text in dict.fromkeys(found):
    print(text)
