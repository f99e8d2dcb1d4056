"""Fields: what a task's fields are called in its files, in other fields, or in a list."""

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from panda_trainable.config.origin import ClassValue


@dataclass(frozen=True)
class Fields:
    """How a raw row gets the fields of its task.

    Attributes:
        names: (field, what else it may be called) where files may call it something else.
        nested: fields that may lie inside of others: `a.b`, or `a.0` inside of a list.
        label: the field of the label.
        classes: (label of the files, class) where the files call classes something else.
        choices: the field of a list of choices, beside which their own labels may stand: `choices.text` and `choices.label`.
    """

    names: tuple[tuple[str, tuple[str, ...]], ...] = ()
    nested: tuple[str, ...] = ()
    label: str = ""
    classes: tuple[tuple[str, str], ...] = ()
    choices: str = ""

    def of(self, row: dict[str, Any]) -> dict[str, Any]:
        """A raw row with the task's fields; the same row where nothing has to be found."""
        found: dict[str, Any] = {}
        if self.choices and isinstance(listed := inside(row, self.choices), str):
            row = _with(row, self.choices, printed_list(listed))
        for field, others in self.names:
            if field not in row and (value := _first(row, others)) is not _ABSENT:
                found[field] = value
        for name in self.nested:
            if name not in row and (value := inside(row, name)) is not _ABSENT:
                found[name] = value
        label = found.get(self.label, row.get(self.label))
        if self.choices and isinstance(label, str) and label in (named := self._choice_names(row)):
            found[self.label] = named.index(label)
        if isinstance(label, str | ClassValue):
            called = dict(self.classes).get(label.name if isinstance(label, ClassValue) else label.strip())
            found |= {self.label: called} if called is not None else {}
        return {**row, **found} if found else row

    def _choice_names(self, row: Mapping[str, Any]) -> list[Any]:
        """The labels of a row's choices, where they stand beside the choices."""
        above, dot, _ = self.choices.rpartition(".")
        names = inside(row, f"{above}.label") if dot else _ABSENT
        return names if isinstance(names, list) and len(set(map(str, names))) == len(names) else []


_ABSENT: Any = object()


def _first(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((value for name in names if (value := inside(row, name)) is not _ABSENT), _ABSENT)


def inside(row: Mapping[str, Any], name: str) -> Any:
    """What a name with dots means in a row: a field of a field, an element of a list, or a field of each of its elements.

    Returns:
        `_ABSENT` where there is nothing of this name.
    """
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if isinstance(value, Mapping):
            value = value.get(part, _ABSENT)
        elif isinstance(value, list) and part.isdecimal():
            value = value[int(part)] if int(part) < len(value) else _ABSENT
        elif isinstance(value, list) and value and all(isinstance(each, Mapping) and part in each for each in value):
            value = [each[part] for each in value]
        else:
            return _ABSENT
    return value


def length_inside(row: Mapping[str, Any], name: str) -> int | None:
    """Elements of the list of this name in a row; None: there is no such list."""
    value = inside(row, name)
    value = printed_list(value) if isinstance(value, str) else value
    return len(value) if isinstance(value, list) else None


def _with(row: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    return {**row, name: value} if name in row else row


def printed_list(text: str) -> list[Any] | None:
    """The list that a text prints, as pandas writes lists into CSV; None: it is none."""
    value = printed(text)
    return value if isinstance(value, list) else None


def printed(text: str) -> Any:
    """The list or mapping that a text prints; None: it is none."""
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    joined = re.search(r"""['"]\s+['"]""", text)  # as NumPy prints arrays: Python would join the words
    return value if isinstance(value, list | dict) and not joined else None


def renamed(columns: Mapping[str, str], others: Mapping[str, Sequence[str]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What a task's fields may be called: on the hub, and as a task was first published."""
    names = {field: (name,) for field, name in columns.items()}
    for field, more in others.items():
        names[field] = (*names.get(field, ()), *more)
    return tuple(names.items())
