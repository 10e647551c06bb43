#!/usr/bin/env python3
"""Stems that Snowball makes of English words, for tests/lexical.rs: a word and its stem a line.

    pip install snowballstemmer==3.1.1
    python3 tests/reference/stems.py > tests/data/english_stems.txt
    python3 tests/reference/stems.py TEXT… | program      # of every word of these texts

Every ending with every region before it, and the words that are exceptions.
"""

import re
import sys

import snowballstemmer

FRONTS = """a be ag cr hop add egg run past gener commun inter univers organ arsen emerg later succ proc exc even inn out
herr earr cann d l t y sy bay say boy enjoy relat operat activ sens form conform electr hope use color fanc hesit
analog decis sensib""".split()
ENDS = """e s es ed ing ies ied y ly li al ational tional ence ance izer ization ation ator alism aliti iveness fulness
ousness iviti biliti bli ogi ogist fulli lessli entli ousli icate ative alize iciti ical ful ness ment ement ent ant
ance ible able er ic ate ive ize iti ism ion sion tion ous sses ss us eed eedly edly ingly 's ' 's' est th ll lle yed
ying ys""".split() + [""]
WORDS = """andes atlas bias cosmos early gently howe idly news only singly skies skis sky ugly dying lying tying dyed
yes yellow sayed youth boys evening evenings outing inning canning herring earring proceed exceed succeed proceeded
's ' it's don't o'clock 'tis caresses ponies ties cats gaps kiwis this gas luxuriated hopped hoped falling""".split()

stemmer = snowballstemmer.stemmer("english")
if len(sys.argv) > 1:
    words = {w for path in sys.argv[1:] for w in re.findall(r"[a-z']+", open(path, encoding="utf-8").read().lower())}
else:
    words = {front + end for front in FRONTS for end in ENDS} | set(WORDS)
for word in sorted(words):
    print(word, stemmer.stemWord(word))
