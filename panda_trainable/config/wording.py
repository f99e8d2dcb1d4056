"""Wording: how a task's row is asked of a language model, and the words that answer for its classes. Imports no torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from string import Formatter

from panda_trainable.config.templates import as_template

SLOT = "answer"
"""The name of the slot in a template; every other name is a field of the task, or the number of one of its texts."""

TEXT_TO_TEXT = "t5"
"""What stands for T5's text-to-text form in the place of a template."""

QUESTION = "question: {1} context: {2} {answer}"
"""T5's text-to-text form of question and passage. Source: Raffel et al. (arXiv:1910.10683), appendix D, SQuAD."""


@dataclass(frozen=True)
class Wording:
    """How a row is asked, and what answers.

    Attributes:
        template: text with fields in braces, and `{answer}` where the answer stands; `{1}` and `{2}` are the task's
            texts as a whole.
        words: the label words of each class, in the order of the classes: a class is as likely as its words together.
            Of a multiple choice those of each choice, of a regression numbers. Empty: the names of the classes, the choices' own texts, or
            nothing where the answer is written.
    """

    template: str
    words: tuple[tuple[str, ...], ...] = ()

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """(text, name of the field or slot behind it) in order; the last name is empty where text ends the template."""
        return tuple((text, name or "") for text, name, _, _ in Formatter().parse(self.template))

    @property
    def names(self) -> tuple[str, ...]:
        """The fields and numbers of texts that it is filled with, in order, as often as they stand there."""
        return tuple(name for _, name in self.parts if name not in ("", SLOT))

    def around_slot(self, values: Sequence[str]) -> tuple[str, str]:
        """The filled template before the slot and behind it.

        Args:
            values: of `names`, in their order.
        """
        left, sides = iter(values), ["", ""]
        behind = 0
        for text, name in self.parts:
            sides[behind] += text
            if name == SLOT:
                behind = 1
            elif name:
                sides[behind] += next(left)
        return sides[0], sides[1]

    @property
    def before_slot(self) -> str:
        """The text directly before the slot: from the last field before it on."""
        return next(text for text, name in self.parts if name == SLOT)

    @property
    def ends_with_slot(self) -> bool:
        """Whether no field stands behind the slot: a model that reads left to right would not see it."""
        names = [name for _, name in self.parts if name]
        return names[-1:] == [SLOT]

    @property
    def values(self) -> tuple[float, ...]:
        """The numbers that the words of a regression are."""
        return tuple(float(word) for (word,) in self.words)

    def with_words(self, classes: Sequence[str]) -> "Wording":
        """The same with the names of classes as words where it has none."""
        return self if self.words else Wording(self.template, tuple((name.replace("_", " "),) for name in classes))


def usual_wording(kind: str, texts: int) -> Wording | None:
    """How a task is asked that has no template, where its answer is a text: its texts and then the answer; None: nobody says.

    Args:
        kind: of the task.
        texts: number of its texts.
    """
    if kind == "extractive_qa":
        return Wording(f"{{2}} Question: {{1}} Answer: {{{SLOT}}}")
    if kind in ("generation", "multiple_choice") and texts:
        return Wording(" ".join([*(f"{{{number}}}" for number in range(1, texts + 1)), f"{{{SLOT}}}"]))
    return None


def text_to_text(name: str, texts: Sequence[str], classes: Sequence[str], choices: Sequence[str] = ()) -> Wording:
    """T5's text-to-text form of a task that has none of its own: `<name> <field>: <its text>`, the class names answer.

    Of choices, `choice1: <its text>` and so on stand before the texts, and `choice1` and so on answer.

    Args:
        name: of the task.
        texts: each a field, or a template of fields.
        classes: names; empty where they are not known yet.
        choices: each a field, or a template of fields.

    Source: Raffel et al. (arXiv:1910.10683), appendix D.
    """
    called = [f"text{number}" if "{" in text else text for number, text in enumerate(texts, 1)]
    parts = (f"{field}: {{{number}}}" for number, field in enumerate(called, 1))
    named = [f"choice{number}" for number in range(1, len(choices) + 1)]
    offered = (f"{each}: {as_template(text)}" for each, text in zip(named, choices, strict=True))
    return Wording(" ".join([name, *offered, *parts, f"{{{SLOT}}}"]), tuple((each,) for each in classes or named))


def wording_problems(
    wording: Wording, fields: Sequence[str], texts: int, classes: Sequence[str], choices: bool = False
) -> Iterator[str]:
    """Why a row cannot be asked so, whatever the language model.

    Args:
        wording: template and words.
        fields: that the task's texts are made of.
        texts: number of the task's texts.
        classes: of the task, or its choices; empty where the labels of its rows will tell them.
        choices: whether rows have choices, which alone may tell one from another.
    """
    template = wording.template
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        yield f"template {template!r} cannot be read ({error}); write fields in braces"
        return
    if any(spec or conversion for _, _, spec, conversion in parts):
        yield f"template {template!r}: braces hold a name alone, as in '{{sentence}} It was {{{SLOT}}}.'"
    names = [name for _, name, _, _ in parts if name is not None]
    if names.count(SLOT) != 1:
        rule = "needs the slot" if SLOT not in names else "has one slot only"
        yield f"template {template!r} {rule}: {{{SLOT}}} stands once, where the answer does"
    known = [*fields, *map(str, range(1, texts + 1))]
    if unknown := [name for name in names if name != SLOT and name not in known]:
        yield f"template {template!r}: unknown field {', '.join(unknown)}; there are {', '.join(known)} and the slot {SLOT}"
    elif not [name for name in names if name in known] and (wording.words or not choices or template == f"{{{SLOT}}}"):
        yield f"template {template!r} asks every row the same: it needs a field, one of {', '.join(known)}"
    yield from _word_problems(wording.words, classes)


def _word_problems(words: Sequence[Sequence[str]], classes: Sequence[str]) -> Iterator[str]:
    if not words:
        return
    if not classes:
        yield "words need `classes`: they are those of the classes in their order"
    elif len(words) != len(classes):
        yield f"words must be of each of {len(classes)} classes ({', '.join(classes)}), got {len(words)}"
    if any(not of_class or not all(word.strip() for word in of_class) for of_class in words):
        yield f"each class needs a word that is not empty, got {[list(of_class) for of_class in words]}"
    seen: dict[str, int] = {}
    for number, of_class in enumerate(words):
        for word in of_class:
            if word.strip() in seen:
                both = sorted({_called(classes, seen[word.strip()]), _called(classes, number)})
                yield f"a word answers for one class, once, but {word.strip()!r} is a word of {' and '.join(both)}"
            seen[word.strip()] = number


def number_problems(words: Sequence[Sequence[str]]) -> Iterator[str]:
    """Why words are not the numbers between which a regression lies."""
    values = [_number(word) for of_value in words for word in of_value]
    if words and (len(values) != len(words) or None in values or len(set(values)) < max(len(values), 2)):
        yield f"words of a regression are two or more different numbers, as ['0', '1', '2'], got {[list(each) for each in words]}"


def _number(word: str) -> float | None:
    try:
        return value if isfinite(value := float(word)) else None
    except ValueError:
        return None


def _called(classes: Sequence[str], number: int) -> str:
    return classes[number] if number < len(classes) else f"class {number}"
