#!/usr/bin/env python3
"""The text that the model inside learns from, and the text that it is judged by.

    python3 src/assets/inside/text.py SAMEBITS_DATA OUT_FOLDER      # writes OUT_FOLDER/text.txt and held-out.txt

Stories: the two samples of TinyStories (Eldan and Li 2023, arXiv:2305.07759; CDLA-Sharing-1.0) in SAMEBITS_DATA. One is
as published; the other is all in small letters, begins with the same stories, and gets capitals here, by rule. Each
story stands once. Every twentieth story of the first sample is held out, in both samples; no other text is.

Besides: small scenes made by rule below, a tenth of the text, in which somebody has a thing and gives it to somebody.
They teach a model of this size to keep names and things apart. No question stands in any of them.
"""

import re
import sys
from pathlib import Path

BREAK = "\n<|endoftext|>\n"


class Dice:
    """Numbers that are the same in every version of Python: the generator of Knuth's MMIX."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self.state >> 33) % n

    def of(self, things):
        return things[self.below(len(things))]

    def shuffled(self, things):
        things = list(things)
        for i in range(len(things) - 1, 0, -1):
            j = self.below(i + 1)
            things[i], things[j] = things[j], things[i]
        return things


def key(story):
    """Two stories with the same letters and figures are the same."""
    return re.sub(r"[^a-z0-9]", "", story.lower())


def plain(text):
    """Quotation marks and dashes of typewriters; also where UTF-8 was taken for Windows-1252."""
    for wrong, right in [("â€œ", '"'), ("â€™", "'"), ("â€˜", "'"), ("â€¦", "..."), ("â€“", "-"), ("â€”", "-"), ("â€\x9d", '"'),
                         ("â€", '"'), ("“", '"'), ("”", '"'), ("’", "'"), ("‘", "'"), ("…", "..."), ("–", "-"), ("—", "-")]:
        text = text.replace(wrong, right)
    lines = [re.sub(r"[ \t]+", " ", line).strip() for line in text.splitlines()]
    return "\n".join(line for line in lines if line)


def stories_of_lower_case(text, known):
    """Those after the last that is known; one begins where a line begins as stories do."""
    parts = re.split(r"(?<!\n)\n(?!\n)", text)
    last = max(i for i, part in enumerate(parts) if key(part) in known)
    begins = "once upon a time|once there w|there once w|one day, a |one day, there |once, there |there was once "
    return re.split(rf"\n(?={begins})", "\n".join(parts[last + 1:]))


def proper_names(stories):
    """Words that stand with a capital within sentences more often than without."""
    upper, lower = {}, {}
    for word in re.findall(r"(?<=[a-z,] )[A-Za-z]+", "\n".join(stories)):
        count = upper if word[0].isupper() else lower
        count[word.lower()] = count.get(word.lower(), 0) + 1
    return {w for w, n in upper.items() if n > 2 * lower.get(w, 0)}


def with_capitals(story, names):
    proper = lambda m: m[0].capitalize() if m[0].split("'")[0] in names else m[0]
    story = re.sub(r"[a-z]+('[a-z]+)?", proper, story)
    story = re.sub(r"\bi\b", "I", story)
    # The beginning of a line, of a sentence, of what is said.
    return re.sub(r'(^"?|\n"?|[.!?]"? "?| ")([a-z])', lambda m: m[1] + m[2].upper(), story)


NAMES = """Lily Tom Ben Mia Sam Anna Max Lucy Tim Sara Jack Emma Leo Amy Bob Jane Mark Molly Fred Rose Billy Sue Joe Ella
Sally Dan Kate Alex Nick Daisy""".split()
COLOURS = "red blue green yellow pink purple white black brown orange".split()
SIZES = "big small old new soft shiny pretty little round nice".split()
THINGS = """ball hat book kite car cup doll box flower bag toy drum boat shoe apple cake key bell ring scarf coat spoon
plate lamp rope brush stick leaf shell stone""".split()
PLACES = "park garden house school beach kitchen forest farm shop yard".split()
SCENES = [
    '{a} had a {x}. {b} had a {y}. {a} gave the {x} to {b}. Now {b} has the {x} and the {y}. {b} said, "Thank you, {a}!"',
    '{a} and {b} were in the {p}. {a} found a {x}. "Look, {b}!" said {a}. "I found a {x}." {b} wanted to see the {x} too.',
    '{b} lost a {x} in the {p}. {b} was sad. {a} helped {b} look for the {x}. {a} found the {x} and {b} was happy again.',
    '{a} has a {x}. {b} has a {y}. {a} likes the {y} and {b} likes the {x}. So {a} and {b} trade. Now {a} has the {y} and '
    '{b} has the {x}.',
    'One day, {a} went to the {p} with {b}. {a} took a {x} and {b} took a {y}. They played with the {x} first. Then they '
    'played with the {y}. {a} and {b} had fun.',
    '"May I have your {x}?" asked {a}. "Yes," said {b}, "but please give me the {y}." {a} gave {b} the {y}. {b} gave {a} '
    'the {x}. They were good friends.',
    '{a} put the {x} in the {p}. {b} put the {y} in the {q}. Later {a} looked for the {x}. The {x} was still in the {p}.',
    'There was a {x} and a {y} in the {p}. {a} took the {x}. {b} took the {y}. "I like my {x}," said {a}. "I like my {y}," '
    'said {b}.',
    '{a} saw a {x}. {b} saw a {y}. {c} saw a {z}. {c} showed the {z} to {a}. {a} showed the {x} to {b}. {b} smiled.',
    '{a} made a {x} for {b}. {b} loved the {x}. {b} took the {x} to the {p} and showed it to {c}. "{a} made this {x} for '
    'me," said {b}.',
]


def scene(dice):
    a, b, c = dice.shuffled(NAMES)[:3]
    p, q = dice.shuffled(PLACES)[:2]
    x, y, z = ((dice.of(COLOURS) if dice.below(3) else dice.of(SIZES)) + " " + t for t in dice.shuffled(THINGS)[:3])
    return dice.of(SCENES).format(a=a, b=b, c=c, p=p, q=q, x=x, y=y, z=z)


def main(data, out):
    folder = Path(data) / "text/tinystories-sample"
    # The last of each sample is cut off.
    cased = [plain(s) for s in (folder / "tinystories-2MiB.txt").read_text("utf-8").split("<|endoftext|>")][:-1]
    held_out = cased[::20]
    known = {key(s) for s in held_out}
    names = proper_names(cased)
    lower = (folder / "tinystories-4MB.txt").read_text("utf-8")
    lower = stories_of_lower_case(lower, {key(s) for s in cased})[:-1]
    stories = []
    for story in cased + [with_capitals(plain(s), names) for s in lower]:
        fits = 200 <= len(story) <= 2400 and story.isascii()
        if fits and key(story) not in known:
            known.add(key(story))
            stories.append(story)
    overlap = [s for s in stories if any(h[:60].lower() in s.lower() and h[-60:].lower() in s.lower() for h in held_out)]
    assert not overlap, overlap[:2]
    dice = Dice(1)
    scenes, room = [], sum(map(len, stories)) // 9
    while room > 0:
        scenes.append("\n".join(scene(dice) for _ in range(1 + dice.below(3))))
        room -= len(scenes[-1])
    texts = dice.shuffled(stories + scenes)
    Path(out).mkdir(parents=True, exist_ok=True)
    (Path(out) / "text.txt").write_text(BREAK.join(texts) + BREAK, "utf-8")
    (Path(out) / "held-out.txt").write_text(BREAK.join(held_out) + BREAK, "utf-8")
    print(f"{len(stories)} stories, {len(scenes)} scenes, {sum(map(len, texts))} characters; held out: {len(held_out)} stories, "
          f"{sum(map(len, held_out))} characters")


if __name__ == "__main__":
    main(*sys.argv[1:])
