"""Questions that a file still asks: values written as `???`, each with the comment behind it. Imports no torch."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tuning.experiment.problems import Problem
from tuning.experiment.yaml_file import KeyPath

OPEN = "???"
"""Stands where a user has still to say something, as in the files that `panda-tune new` writes."""

NAMES = ("classes", "words")
"""Keys of names, of which one may be called so."""


def questions(
    values: Any, places: Mapping[KeyPath, str], lines: Mapping[KeyPath, int], text: Sequence[str], path: KeyPath = ()
) -> Iterator[Problem]:
    """What is still to be said, with what the file says of it.

    Args:
        values: of the file, or of a part of it.
        places: where keys stand, for people.
        lines: number of each key's line, where it stands in the file.
        text: the lines of the file; none where there is no file.
        path: of the part.
    """
    inside: list[tuple[Any, Any]] = []
    if isinstance(values, Mapping):
        inside = list(values.items())
    elif isinstance(values, list):
        inside = list(enumerate(values))
    for key, value in inside:
        here = (*path, key)
        if isinstance(value, str) and value == OPEN:
            place = ": ".join(filter(None, (places.get(here, ""), ".".join(map(str, here)))))
            asked = _comment(text[lines[here] - 1]) if here in lines and lines[here] <= len(text) else ""
            yield Problem(place, f"is still to be said: {OPEN}", remedy=asked or "write what is meant in its place")
        elif key not in NAMES:
            yield from questions(value, places, lines, text, here)


def _comment(line: str) -> str:
    """The comment behind an open value."""
    found = re.search(rf"{re.escape(OPEN)}['\"]?\s+#\s*(.+)$", line)
    return found[1].strip() if found else ""
