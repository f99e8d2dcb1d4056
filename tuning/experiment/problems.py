"""A user's mistakes: how they are reported, and likely names for misspelt ones."""

import difflib
from collections.abc import Sequence
from typing import Any


class Misuse(Exception):
    """A user's mistake: one message with everything that is wrong. Exit code 2, no traceback.

    Attributes:
        partial: what of the experiment is right, so that more of it can be checked; None if nothing is.
        doubtful: keys of the file that are wrong or missing: what hangs on them is not checked.
        plans: what of its plans is right.
    """

    partial: Any = None
    doubtful: frozenset[str] = frozenset()
    plans: tuple[Any, ...] = ()


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


def near(name: str, known: Sequence[str]) -> str:
    """What was probably meant, in words; empty where nothing is close."""
    close = difflib.get_close_matches(str(name), known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
