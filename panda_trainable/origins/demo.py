"""Four small text tasks made for this project, so that it can be tried without a download.

CONSTRUCTED TEXT: every sentence is drawn from the grammars below, which were written by hand for
this purpose. A score on these tasks says whether the machinery works; it says nothing about real
tasks, and nothing about how well a method transfers between them.

Two tasks are sources (many rows) and two are their targets (few rows, another domain and a partly
different vocabulary):

    demo_reviews    sentiment of household goods   -> demo_meals     sentiment of restaurants
    demo_questions  kind of thing a question asks  -> demo_requests  the same, of indirect requests

A grammar maps a symbol to its wordings; a wording may name symbols in braces. `{same.verdict}` is
a verdict of the row's own label, `{other.verdict}` one of another label. The label follows the
main clause: "The lid is flimsy, but I would buy it again." is positive.
"""

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from random import Random
from types import MappingProxyType
from typing import Literal

from panda_trainable.config.origin import Row

Grammar = Mapping[str, tuple[str, ...]]
SLOT = r"\{([a-z.]+)\}"


def _grammar(text: str) -> Grammar:
    """Reads `symbol: wording | wording | ...`; an indented line continues the one above."""
    one_rule_a_line = re.sub(r"\n\s+", " ", text.strip()).splitlines()
    rules = (rule.split(": ", 1) for rule in one_rule_a_line)
    return MappingProxyType({symbol: tuple(wordings.split(" | ")) for symbol, wordings in rules})


@dataclass(frozen=True)
class Demo:
    """One constructed classification task.

    Attributes:
        role: whether the task is meant to give a prompt or to receive one.
        labels: names of the classes; a row's label is the position here.
        grammar: wordings per symbol; a row is an expansion of the symbol `sentence`.
        sizes: number of rows per split, each a multiple of the number of classes.
    """

    role: Literal["source", "target"]
    labels: tuple[str, ...]
    grammar: Grammar
    sizes: Mapping[str, int]


SOURCE_SIZES = MappingProxyType({"train": 2000, "validation": 300})
TARGET_SIZES = MappingProxyType({"train": 96, "validation": 300})
SENTIMENTS = ("negative", "positive")
KINDS = ("person", "place", "time", "quantity")

REVIEWS = _grammar("""
sentence: the {part} is {other.quality}, but {same.verdict}. |
  although the {part} of this {thing} is {other.quality}, {same.verdict}. |
  {same.verdict}, even though the {part} is {other.quality}. |
  {aside}, and the {part} is {denial} {other.quality}. |
  this {thing} is {denial} {other.quality}. | {aside}; all in all, {same.verdict}. |
  after {span} of use this {thing} is still {same.quality}. |
  people told me this {thing} was {other.quality}, yet I find it {same.quality}. |
  my old {thing} was {other.quality}; this one is {same.quality}, and {same.verdict}. |
  {aside}. The {part} is {same.quality}, and {same.verdict}.
thing: kettle | toaster | vacuum cleaner | hair dryer | blender | steam iron | torch |
  coffee grinder | kitchen scale | wireless mouse | alarm clock | sewing machine
part: lid | handle | switch | hinge | casing | stand | cable | motor | filter
span: a week | a month | half a year | two winters | a few days
denial: not | anything but | by no means | far from | hardly
aside: it came in a brown box on a Tuesday | my sister ordered the same {thing} for her caravan |
  I use it next to the {thing} in the garage | it replaces the {thing} of my aunt
positive.quality: sturdy | reliable | quiet | well made | handy | easy to clean | excellent |
  cleverly designed | pleasant | better than expected | lovely | perfect
negative.quality: flimsy | unreliable | noisy | badly made | awkward | hard to clean | dreadful |
  poorly designed | unpleasant | worse than expected | disappointing | awful
positive.verdict: I would buy it again | it was worth every penny | I am keeping it | I loved it |
  I recommend it to everyone | it has earned its place on the shelf | I have no regrets
negative.verdict: I would not buy it again | it was a waste of money | I am sending it back |
  I cannot recommend it to anyone | it has gone straight into the bin | I regret it | I hated it
""")

MEALS = _grammar("""
sentence: the {dish} was {other.taste}, but {same.verdict}. |
  although the {staff} was {other.manner}, {same.verdict}. |
  {same.verdict}, even though the {dish} was {other.taste}. |
  {aside}, and the {dish} was {denial} {other.taste}. | {aside}; all in all, {same.verdict}. |
  the guide calls the {dish} {other.taste}, yet ours was {same.taste}. |
  the {staff} was {same.manner} and the {dish} {same.taste}. |
  {aside}. The {dish} was {same.taste}, and {same.verdict}.
dish: soup | risotto | grilled trout | lentil stew | apple tart | dumpling plate | roast lamb |
  mushroom pie | noodle bowl | cheese board | fish curry | house salad
staff: waiter | head waiter | barman | young woman at the counter | cook | owner
denial: not | anything but | by no means | far from | hardly
aside: we sat by the window with two colleagues | it rained, so the terrace was closed |
  my uncle had chosen the {dish} | a party of twelve had ordered the {dish}
positive.taste: tender | crisp | fragrant | fresh | excellent | delicious | lovely | perfect
negative.taste: bland | soggy | greasy | stale | dreadful | tasteless | disappointing | awful
positive.manner: friendly | attentive | pleasant | patient
negative.manner: rude | forgetful | unpleasant | impatient
positive.verdict: we shall be back | it was worth every penny | I asked for a second helping |
  I recommend the place to everyone | we loved it | I have already booked another table
negative.verdict: we shall not be back | it was a waste of money | I left half of it |
  I cannot recommend the place to anyone | we hated it | I have cancelled the next table
""")

QUESTIONS = _grammar("""
sentence: {same.ask}? | {scene}; {same.ask}? | {same.ask}, now that we know {other.fact}? |
  everybody knows {other.fact}, but {same.ask}? | {scene}; can anybody say {same.fact}? |
  {other.fact} is on record, but not {same.fact}: can you tell? |
  {same.fact} is what I ask, not {other.fact}. | never mind {other.fact}; {same.ask}? |
  the book gives {other.fact} and leaves out {same.fact}: what is missing?
work: the {maker} bridge | the old {town} lighthouse | the copper clock | the glass organ |
  the {town} canal | the {town} fountain | the silver compass | the {maker} telescope
maker: Harvik | Delmore | Ostrander | Quill | Tamsin Vale | Brannoch
town: Borlen | Easterwick | Port Salda | Nimmer | Lower Cray | Tolvik
made: built | designed | repaired | sold | painted | restored
scene: two sisters from {town} heard of it in {year} | {maker} told nine guests in {town} |
  {maker} moved to {town} in {year} | the mayor of {town} wrote of it in {year}
year: 1688 | 1743 | 1790 | 1822 | 1861 | 1904
person.ask: who {made} {work} | what is the name of the woman that {made} {work} |
  by whom was {work} {made} | which engineer {made} {work} | whose idea was {work}
person.fact: who {made} {work} | the name of the woman that {made} {work} |
  by whom {work} was {made} | which engineer {made} {work} | whose idea {work} was
place.ask: where was {work} {made} | in which town was {work} {made} |
  what is the name of the harbour where {work} was {made} | what country did {work} come from
place.fact: where {work} was {made} | in which town {work} was {made} |
  the name of the harbour where {work} was {made} | what country {work} came from
time.ask: when was {work} {made} | what year was {work} {made} | how long ago was {work} {made} |
  in which month was {work} {made} | what is the date on which {work} was {made}
time.fact: when {work} was {made} | what year {work} was {made} | how long ago {work} was {made} |
  in which month {work} was {made} | the date on which {work} was {made}
quantity.ask: how many people {made} {work} | at what price was {work} {made} |
  what is the number of women that {made} {work} | how heavy was {work} | what did {work} cost
quantity.fact: how many people {made} {work} | at what price {work} was {made} |
  the number of women that {made} {work} | how heavy {work} was | what {work} cost
""")

REQUESTS = _grammar("""
sentence: {opening} {same.fact}. | {scene}, so {opening} {same.fact}. |
  I know {other.fact}, but {opening} {same.fact}. | {scene}; {opening} {same.fact}. |
  {opening} {same.fact}, as my manager asked. | {opening} {same.fact}, if you have a moment.
opening: could you tell me | I would like to know | please let me know |
  would you kindly find out | nobody on my floor could say | I have been trying to learn
matter: a lost badge | the new printer | my travel claim | the shared calendar | a broken headset |
  the guest network | an expired password | the spare laptop | a parking permit | the backup drive
scene: I called twice on Monday about {matter} | our team of six moved to the third floor in May |
  Ms Arden from the Leeds office wrote to me about {matter} |
  two colleagues next door asked for {matter} last week
person.fact: whom I should ask about {matter} | who looks after {matter} |
  the name of the colleague responsible for {matter} | which of your staff deals with {matter} |
  whose signature is needed for {matter}
place.fact: where to go with {matter} | which room I should visit about {matter} |
  the address to which I should send {matter} | on what floor you deal with {matter} |
  which building to go to for {matter}
time.fact: when I should ask about {matter} | by what date {matter} will be ready |
  the deadline for {matter} | on which weekday you deal with {matter} |
  until what hour I can call about {matter}
quantity.fact: how many forms are needed for {matter} | what the fee for {matter} is |
  the number of people waiting for {matter} | how much I should pay for {matter} |
  what {matter} costs
""")

DEMO: Mapping[str, Demo] = MappingProxyType(
    {
        "demo_reviews": Demo("source", SENTIMENTS, REVIEWS, SOURCE_SIZES),
        "demo_meals": Demo("target", SENTIMENTS, MEALS, TARGET_SIZES),
        "demo_questions": Demo("source", KINDS, QUESTIONS, SOURCE_SIZES),
        "demo_requests": Demo("target", KINDS, REQUESTS, TARGET_SIZES),
    }
)
"""Name -> the constructed tasks; `rows` gives their text."""


def rows(name: str, split: str) -> list[dict[str, object]]:
    """The rows of one split: always the same ones, balanced, none in both splits.

    Args:
        name: a key of `DEMO`.
        split: "train" or "validation".

    Returns:
        Rows `{"sentence": str, "label": int}`, in a shuffled order.

    Raises:
        ValueError: if there is no such task or no such split.
    """
    if name not in DEMO:
        raise ValueError(f"a demonstration task must be one of {sorted(DEMO)}, got {name!r}")
    demo = DEMO[name]
    if split not in demo.sizes:
        raise ValueError(f"a split of {name} must be one of {sorted(demo.sizes)}, got {split!r}")
    generator = Random(zlib.crc32(name.encode()))  # noqa: S311  draws text, keeps no secret
    distinct = _distinct_rows(demo, generator)
    splits = {each: list(islice(distinct, size)) for each, size in demo.sizes.items()}
    generator.shuffle(splits[split])
    return splits[split]


@dataclass(frozen=True)
class Demonstration:
    """An origin: a constructed task.

    Attributes:
        name: a key of `DEMO`.
    """

    name: str
    has_rows = True

    def splits(self) -> tuple[str, ...]:
        """The generated splits: train and validation."""
        return tuple(DEMO[self.name].sizes)

    def rows(self, split: str) -> Iterator[tuple[str, Row]]:
        """Pairs (place, row) of a split, generated from the grammar."""
        for number, row in enumerate(rows(self.name, split), 1):
            yield f"{self.place(split)}:{number}", row

    def place(self, split: str = "") -> str:
        """`name/split` instead of a path, since there is no file."""
        return f"{self.name}/{split}" if split else self.name

    def contents(self) -> str:
        """The available splits, in words."""
        return f"it has {' and '.join(self.splits())}"


def _distinct_rows(demo: Demo, generator: Random) -> Iterator[dict[str, object]]:
    """Endless rows with the labels in turn; no sentence comes twice."""
    seen: set[str] = set()
    for label in cycle(range(len(demo.labels))):
        sentence = _sentence(demo, label, generator)
        while sentence in seen:
            sentence = _sentence(demo, label, generator)
        seen.add(sentence)
        yield {"sentence": sentence, "label": label}


def _sentence(demo: Demo, label: int, generator: Random) -> str:
    """One random expansion of the grammar's `sentence` for this label."""
    own = demo.labels[label]
    others = [each for each in demo.labels if each != own]

    def expand(slot: re.Match[str]) -> str:
        symbol = slot[1].replace("same", own).replace("other", generator.choice(others))
        return re.sub(SLOT, expand, generator.choice(demo.grammar[symbol]))

    text = re.sub(SLOT, expand, "{sentence}")
    return text[0].upper() + text[1:]
