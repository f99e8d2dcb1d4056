"""Gold answers of the kinds whose labels are no single number."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MASKED = -1e4
"""Logit of what cannot be an answer (a token of the question, padding): no softmax sees it."""


@dataclass(frozen=True)
class TagGold:
    """A sentence's tags.

    Attributes:
        names: [C] tag names.
        tags: the number of every word's tag.
        slots: -1 for words the PLM did not see: they count as outside.
    """

    names: tuple[str, ...]
    tags: tuple[int, ...]
    slots: tuple[int, ...]


@dataclass(frozen=True)
class AnswerGold:
    """A passage, its right answers, and where [T, 2] its tokens stand in it."""

    passage: str
    answers: tuple[str, ...]
    offsets: NDArray[np.int32]


@dataclass(frozen=True)
class TextGold:
    """The texts that are right, where a language model writes."""

    answers: tuple[str, ...]


UNWRITTEN = "\x18"
"""What stands for the text of a row of which some logit was not finite: a control character that no tokenizer writes."""

IGNORED = -100
"""Label of what is not asked: padding, words behind the cut."""
