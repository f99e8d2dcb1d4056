"""Guess and TaskDraft: what was guessed of a task, why, and what else it might be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuning.experiment.questions import OPEN


@dataclass(frozen=True)
class Guess:
    """A value of the file.

    Attributes:
        value: as the file has it; OPEN where a user must say it.
        reason: why it was guessed, and what else it might be; or the question.
    """

    value: Any
    reason: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it is a question."""
        return bool(self.value == OPEN)


Guesses = Mapping[str, Guess]
"""Key of a task in the experiment file -> what was guessed."""


@dataclass(frozen=True)
class TaskDraft:
    """A task of the folder.

    Attributes:
        name: as the file calls it.
        kind: of task; empty where it is open.
        texts: that a row has.
        rows: to train on.
        words: of the longest texts but for the last twentieth.
        guesses: its keys; none of a task that is known by name.
        told: what to know of it, in a sentence.
        problem: why it cannot be used; empty: it can.
    """

    name: str
    kind: str = ""
    texts: int = 1
    rows: int = 0
    words: int = 0
    guesses: Guesses = field(default_factory=dict)
    told: str = ""
    problem: str = ""

    @property
    def is_known(self) -> bool:
        """Whether it is known by name."""
        return not self.guesses

    @property
    def is_open(self) -> bool:
        """Whether something of it must still be said."""
        return any(guess.is_open for guess in self.guesses.values())
