"""Labels of files as class numbers: by name or number, as bool or letter; and the classes that they name. Imports no torch."""

import difflib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from panda_trainable.config.origin import ClassValue
from panda_trainable.config.task import OTHER, TaskSpec
from panda_trainable.origins.lines import listed, shown

MOST_CLASSES = 1000
"""Classes that labels may name; with more, or with one for every other row, the field is no label."""

MANY_ROWS = 20
"""Rows from which distinct labels for more than half of them are no classes."""

_WHOLE = re.compile(r"\s*(-?\d{1,18})(\.0+)?\s*", re.ASCII)


def whole_number(value: Any) -> int | None:
    """A value as a whole number: 3, 3.0, "3" and "3.0" are one; None: it is none."""
    if isinstance(value, str):
        found = _WHOLE.fullmatch(value)
        return int(found[1]) if found else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 10**18:
        return None
    return int(value) if float(value).is_integer() else None


def class_number(task: TaskSpec, label: Any) -> int | None:
    """The number of a class or choice that a file gives by name or number; a class that is named like a number wins.

    Returns:
        None for a row that is left out: it is unlabelled (empty, -1), or its class is rare and dropped.

    Raises:
        ValueError: if it is no class of the task, with what was probably meant.
    """
    names = task.labels.filed or task.classes or tuple(str(number) for number in range(len(task.choices)))
    number = _number(names, label, task.labels.first, lettered=bool(task.choices))
    if number is None:
        if is_unlabelled(label):
            return None
        raise ValueError(_problem(task, names, label))
    if not task.labels.filed or names[number] in task.classes:
        return task.classes.index(names[number]) if task.labels.filed else number
    return task.classes.index(OTHER) if task.labels.rare == "other" else None


def _number(names: Sequence[str], label: Any, first: int, *, lettered: bool) -> int | None:
    """The position of a label among names; None: it is not among them."""
    if isinstance(label, ClassValue):
        return _number_of_named(names, label, first, lettered=lettered)
    if isinstance(label, bool):
        named = str(label).lower()
    else:
        named = label.strip() if isinstance(label, str) else str(whole_number(label))
    if named in names and not (lettered and first):
        return names.index(named)
    number = whole_number(label)
    if number is not None:
        named_by_numbers = any(whole_number(name) is not None for name in names) and not lettered
        if named_by_numbers:
            return names.index(str(number)) if str(number) in names else None
        return number - first if 0 <= number - first < len(names) else None
    if len(names) == 2 and named.lower() in ("false", "true"):
        return int(named.lower() == "true")
    if lettered and len(named) == 1 and 0 <= (position := ord(named.upper()) - ord("A")) < len(names):
        return position
    return None


def _number_of_named(names: Sequence[str], label: ClassValue, first: int, *, lettered: bool) -> int | None:
    """The position of a value that has a name: by its name, unless the file calls all its classes something else."""
    folded = {name.lower(): number for number, name in enumerate(names)}
    if label.name.lower() in folded and not lettered:
        return folded[label.name.lower()]
    if lettered:
        known = any(_number(names, name, first, lettered=True) is not None for name in label.names)
        return _number(names, label.name, first, lettered=True) if known else label.number
    known = any(name.lower() in folded for name in label.names)
    return None if known or len(label.names) != len(names) else label.number


def _problem(task: TaskSpec, names: Sequence[str], label: Any) -> str:
    numbered = not any(whole_number(name) is not None for name in names)
    first, last = task.labels.first, len(names) - 1 + task.labels.first
    either = f"{first} to {last} or one of " if numbered else "one of "
    said = label.name if isinstance(label, ClassValue) else label
    close = difflib.get_close_matches(str(said), names, n=1)
    near = f" (did you mean {close[0]}?)" if close else ""
    if not near and isinstance(said, str) and len(said.split()) > 4:
        near = f" (that looks like a text: is {task.label} the field of the label?)"
    return f"{task.label} must be {either}{', '.join(names)}, got {shown(said)}{near}"


UNLABELLED = ("-1", "nan", "-")
"""Texts that mark a row as unlabelled where no class is called so."""

PADDING = -100
"""Tag of what is no word: padding, special tokens, later pieces of words. Source: PyTorch's losses ignore it."""


def is_padding(tag: Any) -> bool:
    """Whether a tag is that of no word."""
    return tag == PADDING or (isinstance(tag, str) and tag.strip() == str(PADDING))


MOST_UNLABELLED = 0.1
"""Share of train rows that may be left out as unlabelled; with more of them the marker may be a class."""


def is_marked_unlabelled(label: Any) -> bool:
    """Whether a label among others says that there is none: -1, nan, or a dash as in SNLI."""
    if isinstance(label, float) and math.isnan(label):
        return True
    return whole_number(label) == -1 or (isinstance(label, str) and label.strip().lower() in UNLABELLED)


def is_empty(label: Any) -> bool:
    """Whether there is no label at all: an empty cell, null, or an empty list."""
    return label is None or (isinstance(label, str | list) and not (label.strip() if isinstance(label, str) else label))


def is_unlabelled(label: Any) -> bool:
    """Whether a label says that there is none: nothing, -1, nan, ? or a dash, no tags, or an answer that is none."""
    if isinstance(label, Mapping):
        return not any(label.values())
    return is_empty(label) or label == "?" or is_marked_unlabelled(label)


def classes_of(field: str, labels: Iterable[Any]) -> tuple[str, ...]:
    """The classes that labels of train rows name: in the order of the file that names them, else sorted.

    Args:
        field: of the label, for messages.
        labels: single ones, or lists of tags.

    Raises:
        ValueError: if the labels are no classes.
    """
    counts: Counter[str] = Counter()
    marked = 0
    for label in labels:
        for each in _each(label):
            if isinstance(each, ClassValue):
                return each.names
            if name := _named(each):
                counts[name] += 1
            marked += is_unlabelled(each) and not is_empty(each)
    total = counts.total()
    if marked > MOST_UNLABELLED * (total + marked):
        raise ValueError(too_many_unlabelled(field, marked, total + marked))
    if len(counts) > MOST_CLASSES or (total >= MANY_ROWS and 2 * len(counts) > total):
        raise ValueError(
            f"{field} has {len(counts)} different values in {total} rows, which are no classes, e.g. "
            f"{listed(list(counts)[:2])}; name the field of the label, use kind: regression, or list `classes`"
        )
    if all(whole_number(name) is not None for name in counts):
        return tuple(sorted(counts, key=int))
    return tuple(sorted(counts))


def too_many_unlabelled(field: str, marked: int, total: int) -> str:
    """Why so many rows cannot be left out."""
    return (
        f"{field} of {marked} of {total} train rows is -1, nan, ? or -, which marks a row without a label, and so many cannot be "
        "left out; give them labels, or list all values, such as classes: ['-1', '0', '1'], if it is a class"
    )


def _each(label: Any) -> Iterable[Any]:
    return label if isinstance(label, list) else [label]


def _named(label: Any) -> str:
    """A label as the name of a class; empty where it is none."""
    if is_unlabelled(label) or isinstance(label, Mapping | list):
        return ""
    if isinstance(label, bool):
        return str(label).lower()
    number = whole_number(label)
    return str(label).strip() if number is None else str(number)
