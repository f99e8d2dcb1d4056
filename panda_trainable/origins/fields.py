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
            row = {**row, self.choices: printed_list(listed)} if self.choices in row else row
        for field, others in self.names:
            if field not in row and (value := _first(row, others)) is not _ABSENT:
                found[field] = value
        for name in self.nested:
            if name not in row and (value := inside(row, name)) is not _ABSENT:
                found[name] = value
        label = found.get(self.label, row.get(self.label))
        if self.choices and (named := self._choice_names(row)):
            found |= {self.label: chosen} if (chosen := _chosen(named, label)) is not None else {}
        if self.classes and (called := dict(self.classes).get(_as_text(label))) is not None:
            found[self.label] = called
        return {**row, **found} if found else row

    def _choice_names(self, row: Mapping[str, Any]) -> list[Any]:
        """The labels of a row's choices, where they stand beside the choices."""
        above, dot, _ = self.choices.rpartition(".")
        names = inside(row, f"{above}.label") if dot else _ABSENT
        names = printed_list(names) if isinstance(names, str) else names
        return names if isinstance(names, list) and len(set(map(str, names))) == len(names) else []


_ABSENT: Any = object()


def _as_text(label: Any) -> str:
    """A label as the mapping of classes writes it."""
    if isinstance(label, bool):
        return str(label).lower()
    return label.name if isinstance(label, ClassValue) else str(label).strip()


def _chosen(names: Sequence[Any], label: Any) -> int | str | None:
    """The number of the choice that a label names; a text that no label is where it names none; None: it is a number itself."""
    if not isinstance(label, str | int) or isinstance(label, bool) or not str(label).strip():
        return None
    called = [str(name) for name in names]
    if str(label).strip() in called:
        return called.index(str(label).strip())
    may_be_number = str(label).strip().isdecimal() and not any(name.isdecimal() for name in called)
    unlabelled = str(label).strip() in ("-1", "?", "-")
    return None if may_be_number or unlabelled else f"{label}, which is none of {', '.join(called)}"


def _first(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((value for name in names if (value := inside(row, name)) is not _ABSENT), _ABSENT)


def inside(row: Mapping[str, Any], name: str) -> Any:
    """What a name with dots means in a row: a field of a field, an element of a list, or a field of each of its elements.

    Returns:
        `_ABSENT` where there is nothing of this name.
    """
    parts = name.split(".")
    head = next(
        (n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in row), 0
    )  # a field's own name may have dots
    if not head:
        return _ABSENT
    value: Any = row[".".join(parts[:head])]
    for part in parts[head:]:
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
