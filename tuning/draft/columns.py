"""Columns of raw rows: what their values look like. Imports no torch."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from panda_trainable.config.origin import ClassValue
from panda_trainable.data.labels import is_unlabelled, whole_number
from panda_trainable.origins.fields import printed
from panda_trainable.origins.lines import listed

Columns = Mapping[str, "Column"]

ID_NAME = re.compile(r"(.*[-_ ])?(id|idx|index|uid|uuid|guid|url|link|date|time|timestamp)|unnamed: \d+", re.IGNORECASE)
"""Names of columns that are neither text nor label."""

ENDS = 0.95
"""Share of texts that are no longer than what is said of their length."""

FEW = 50
"""Different values that a column of classes has at most, where nothing but its values speaks for it."""

SHORT = 5
"""Words of a class's name on average at most."""

SHOWN = 3
"""Values of a column that a question shows."""


@dataclass(frozen=True)
class Column:
    """A field of the rows.

    Attributes:
        name: with dots where it lies inside of another.
        values: of the rows that have one, lists and mappings as such where a table prints them.
    """

    name: str
    values: tuple[Any, ...]

    @cached_property
    def counts(self) -> Counter[str]:
        """Value, as a class would be called -> rows."""
        return Counter(map(_said, self.values))

    @property
    def distinct(self) -> int:
        """Different values."""
        return len(self.counts)

    @cached_property
    def lists(self) -> tuple[list[Any], ...]:
        """The values that are lists."""
        return tuple(value for value in self.values if isinstance(value, list))

    @property
    def is_listed(self) -> bool:
        """Whether all values are lists of single values."""
        flat = all(not isinstance(each, list | Mapping) for value in self.lists for each in value)
        return bool(self.values) and len(self.lists) == len(self.values) and flat

    @cached_property
    def numbers(self) -> tuple[float, ...]:
        """The values as numbers; none where some are no numbers."""
        try:
            found = [float(v) for v in self.values if not isinstance(v, bool | list | Mapping | ClassValue)]
        except (ValueError, TypeError):
            return ()
        return tuple(found) if len(found) == len(self.values) and all(map(math.isfinite, found)) else ()

    @property
    def has_decimals(self) -> bool:
        """Whether it holds numbers that are not all whole."""
        return any(not number.is_integer() for number in self.numbers)

    @cached_property
    def words(self) -> float:
        """Words of its texts on average; 0 where it holds none."""
        texts = [value for value in self.values if isinstance(value, str)]
        return fmean(len(text.split()) for text in texts) if texts and not self.numbers else 0.0

    @property
    def is_text(self) -> bool:
        """Whether it may be what is read: texts, and not the same few again and again."""
        is_class = self.distinct <= FEW and 4 * self.distinct <= len(self.values) and self.words < SHORT
        return self.words > 0 and not ID_NAME.fullmatch(self.name) and not is_class

    @property
    def may_be_classes(self) -> bool:
        """Whether it may be the label of a classification: few short values that come again and again."""
        scalar = not any(isinstance(value, list | Mapping) for value in self.values)
        repeats = 2 <= self.distinct <= FEW and 2 * self.distinct <= len(self.values)
        return scalar and repeats and self.words <= SHORT and not self.has_decimals and not ID_NAME.fullmatch(self.name)

    @property
    def told(self) -> str:
        """Its name and what it holds, in a few words."""
        if self.numbers and self.distinct > SHORT:
            return f"{self.name} (numbers, {min(self.numbers):g} to {max(self.numbers):g})"
        if self.is_listed:
            return f"{self.name} (lists)"
        if self.is_text:
            return f"{self.name} ({self.words:.0f} words)"
        first = ", ".join(name[:20] for name, _ in self.counts.most_common(SHOWN))
        return f"{self.name} ({self.distinct} {'value' if self.distinct == 1 else 'values'}: {first}{', …' if self.distinct > SHOWN else ''})"


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    """The columns of rows by name, in the order of the first rows; mappings are opened by one level."""
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in _opened(row):
            column = values.setdefault(name, [])
            if not is_unlabelled(value):
                column.append(value)
    return {name: Column(name, tuple(column)) for name, column in values.items()}


def _opened(row: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, raw in row.items():
        value = printed(raw) if isinstance(raw, str) and raw.lstrip()[:1] in ("[", "{") else raw
        value = raw if value is None else value
        if isinstance(value, Mapping) and not is_answer(value):
            found += [(f"{name}.{inner}", each) for inner, each in value.items()]
        else:
            found.append((name, value))
    return found


def is_answer(value: Any) -> bool:
    """Whether a value holds answers of an extractive QA, in one of its two forms."""
    if isinstance(value, list):
        return bool(value) and all(
            isinstance(each, Mapping) and {"text", "answer_start"} <= set(each) for each in value
        )
    return isinstance(value, Mapping) and {"text", "answer_start"} <= set(value)


def _said(value: Any) -> str:
    """A value as the name of a class."""
    if isinstance(value, ClassValue):
        return value.name
    if isinstance(value, bool):
        return str(value).lower()
    number = whole_number(value)
    return str(value).strip() if number is None else str(number)


def told_columns(columns: Sequence[Column]) -> str:
    """Columns in words, for a question."""
    return listed(column.told for column in columns)
