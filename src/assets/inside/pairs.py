#!/usr/bin/env python3
"""Pairs that the model inside can learn from: who has what.

    python3 src/assets/inside/pairs.py src/assets/inside       # writes pairs.jsonl and held-out.jsonl there

"Tom has a red ball. Lily has a blue kite. Lily gives Tom the kite. Who has the kite?" "Tom has the blue kite." What the
answer needs stands in the prompt: one has to find it. No answer of the held-out pairs is one of the others'.
"""

import json
import sys
from pathlib import Path

from text import COLOURS, NAMES, THINGS, Dice

FORMS = [
    ("{a} has a {x}. {b} has a {y}. Who has the {t}?", "{a} has the {x}."),
    ("{b} has a {y}. {a} has a {x}. Who has the {t}?", "{a} has the {x}."),
    ("{b} had a {x}. {b} gave the {x} to {a}. Who has the {t} now?", "{a} has the {x}."),
    ("{b} found a {x} in the park. {a} took the {x} home. Who has the {t} now?", "{a} has the {x}."),
]


def pair(dice):
    a, b = dice.shuffled(NAMES)[:2]
    t, other = dice.shuffled(THINGS)[:2]
    colour, another = dice.shuffled(COLOURS)[:2]
    prompt, answer = dice.of(FORMS)
    parts = dict(a=a, b=b, x=f"{colour} {t}", y=f"{another} {other}", t=t)
    return {"prompt": prompt.format(**parts), "completion": " " + answer.format(**parts)}


def main(out):
    dice, pairs, answers = Dice(2), [], set()
    while len(pairs) < 1240:
        new = pair(dice)
        if new["completion"] not in answers:
            answers.add(new["completion"])
            pairs.append(new)
    for name, part in [("pairs.jsonl", pairs[:1000]), ("held-out.jsonl", pairs[1000:])]:
        (Path(out) / name).write_text("".join(json.dumps(p) + "\n" for p in part), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
