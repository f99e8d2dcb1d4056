"""A user's mistakes as values, the exception that carries them, and likely names for misspelt ones."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.records.address import cleaned
from tuning.experiment.names import printable


@dataclass(frozen=True)
class Problem:
    """One mistake of a user, told as `place: rule, got value; remedy`.

    Attributes:
        place: where it is: `file:line: key`, `-o key=value`, a row of data, a task, a PLM or a key.
        rule: what must hold, or what is wrong.
        value: what there is instead, where the rule does not say it.
        remedy: what to do, where the rule does not say it.
    """

    place: str
    rule: str
    value: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        """The problem in one line, whatever stands in its parts; passwords of addresses are hidden."""
        got = f", got {self.value}" if self.value else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        place = f"{self.place}: " if self.place else ""
        return printable(cleaned(" ".join(f"{place}{self.rule}{got}{remedy}".splitlines())))


def problems_of(error: Exception, place: str = "") -> list[Problem]:
    """The problems that an error of another package tells, a line each.

    Args:
        error: a ValueError with a message for users.
        place: where it is; empty: each line begins with its own place and a colon.
    """
    lines = str(error).splitlines()
    if place:
        return [Problem(place, line.removeprefix(f"{place}: ")) for line in lines]
    return [Problem(*line.split(": ", 1)) if ": " in line else Problem("", line) for line in lines]


class Misuse(Exception):
    """A user's mistakes, each told once: one message, exit code 2, no traceback.

    Attributes:
        problems: what is wrong.
    """

    def __init__(self, *problems: Problem):
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(map(str, self.problems)))


def check_known(names: list[str], known: Sequence[str], what: str) -> list[str]:
    """The names, if all are known and each is there once.

    Raises:
        ValueError: with the unknown ones, and what was probably meant.
    """
    unknown = [f"{name!r}{near(name, known)}" for name in names if name not in known]
    if unknown:
        raise ValueError(f"unknown {what} {', '.join(unknown)}; there are {', '.join(known) or 'none'}")
    if len(set(names)) != len(names):
        raise ValueError(f"each {what} once, got {names}")
    return names


def check_target(target: str, targets: Sequence[str]) -> None:
    """Refuses a target that is none of an experiment's.

    Raises:
        Misuse: with what was probably meant.
    """
    if target not in targets:
        rule = f"is no target of the experiment{near(target, targets)}"
        raise Misuse(Problem(f"--target {target}", rule, remedy=f"there are {', '.join(targets)}"))


def near(name: str, known: Sequence[str]) -> str:
    """What was probably meant, in words; empty where nothing is close."""
    close = difflib.get_close_matches(str(name), known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
