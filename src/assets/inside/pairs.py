#!/usr/bin/env python3
"""Pairs that the model inside can learn from: who has what.

    python3 src/assets/inside/pairs.py src/assets/inside       # writes pairs.jsonl and held-out.jsonl there

"Tom had a red ball. Tom gave the red ball to Mia. Who has the ball now?" "Mia has the red ball." All that the answer needs
stands in the prompt, and the verb says who it is. No answer of the held-out pairs is one of the others'.
"""

import json
import sys
from pathlib import Path

from text import COLOURS, NAMES, THINGS, Dice

FORMS = [
    "{b} had a {x}. {b} gave the {x} to {a}. Who has the {t} now?",
    "{b} found a {x} in the park. {a} took the {x} home. Who has the {t} now?",
    "{a} got a {x} from {b}. {b} was happy. Who has the {t} now?",
    "{b} made a {x} for {a}. {a} liked it. Who has the {t} now?",
    "{a} and {b} saw a {x}. {a} picked it up. Who has the {t} now?",
]


def pair(dice):
    a, b = dice.shuffled(NAMES)[:2]
    thing, colour = dice.of(THINGS), dice.of([c for c in COLOURS if c != "orange"])
    prompt = dice.of(FORMS).format(a=a, b=b, x=f"{colour} {thing}", t=thing)
    return {"prompt": prompt, "completion": f" {a} has the {colour} {thing}."}


def main(out):
    dice, pairs, answers = Dice(2), [], set()
    while len(pairs) < 840:
        new = pair(dice)
        if new["completion"] not in answers:
            answers.add(new["completion"])
            pairs.append(new)
    for name, part in [("pairs.jsonl", pairs[:640]), ("held-out.jsonl", pairs[640:])]:
        (Path(out) / name).write_text("".join(json.dumps(p) + "\n" for p in part), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
