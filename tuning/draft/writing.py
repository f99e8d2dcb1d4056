"""The experiment file as text: a key a line, its comment behind it. Imports no torch."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tuning.draft.values import TaskDraft
from tuning.experiment.questions import OPEN
from tuning.experiment.yaml_file import parse_yaml

PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
WIDE = 160
"""Characters of a line beyond which its comment stands above it."""


def flow(value: Any) -> str:
    """A value on one line, as the experiment file reads it back."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, str):
        return value if value == OPEN or (PLAIN.fullmatch(value) and _is_itself(value)) else _quoted(value)
    return json.dumps(value)


def _is_itself(text: str) -> bool:
    """Whether YAML reads a text as the text, and no word such as true or null."""
    return bool(parse_yaml(text) == text)


def _quoted(text: str) -> str:
    """A text in quotes."""
    plain = text.isprintable() and "'" not in text
    return f"'{text}'" if plain else json.dumps(text)


def line(key: str, value: Any, comment: str = "", depth: int = 0) -> list[str]:
    """The line of a key, with its comment behind it, or above it where that would be too wide.

    Args:
        key: of the file.
        value: in flow style.
        comment: empty: there is none.
        depth: sections that it is inside of.
    """
    space = "  " * depth
    said, comment = f"{space}{key}: {flow(value)}", _on_one_line(comment)
    if not comment:
        return [said]
    if value != OPEN and len(said) + len(comment) + 4 > WIDE:
        return [*comments(comment, depth), said]
    return [f"{said}  # {comment}"]  # a question stands behind what it asks for: the refusal repeats it


def comments(text: str, depth: int = 0) -> list[str]:
    """A sentence as lines of comments."""
    space, found = f"{'  ' * depth}# ", [""]
    for word in _on_one_line(text).split(" "):
        if len(space) + len(found[-1]) + len(word) >= WIDE:
            found.append("")
        found[-1] = f"{found[-1]} {word}".strip()
    return [f"{space}{each}" for each in found]


def _on_one_line(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def task_lines(drafted: TaskDraft) -> Iterator[str]:
    """A task of one's own below `tasks:`."""
    yield f"  {drafted.name}:"
    if drafted.told:
        yield from comments(drafted.told, 2)
    for key, guess in drafted.guesses.items():
        section, dot, inner = key.partition(".")
        if dot:
            yield f"    {section}:"
            yield from line(inner, guess.value, guess.reason, 3)
        else:
            yield from line(key, guess.value, guess.reason, 2)
