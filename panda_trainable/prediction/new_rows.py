"""New rows of a task, with or without labels, checked as its own rows are. Imports no torch."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panda_trainable.config.origin import Note, Row
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.templates import fields_of
from panda_trainable.data.classes import listed_problems
from panda_trainable.data.labels import is_empty
from panda_trainable.data.prepare import LABELLED_BY, PREPARE, text_of
from panda_trainable.data.rows import (
    Example,
    Findings,
    checked_row,
    fields_of_files,
    problem_of_missing,
    without_padding,
    words_in,
)
from panda_trainable.origins.documents import windows
from panda_trainable.origins.fields import length_inside
from panda_trainable.origins.texts import numbered

Fields = dict[str, Any]


@dataclass(frozen=True)
class NewRow:
    """A checked row that is to be answered.

    Attributes:
        number: of the row among those that were given, from 1; a row may be several questions.
        id: of its field that is called so by the task; None where it has none.
        example: the row; its label means nothing where it has none.
        is_labelled: whether it has a label.
    """

    number: int
    id: Any
    example: Example
    is_labelled: bool


def new_rows(task: TaskSpec, rows: Iterable[tuple[str, Row]]) -> list[NewRow]:
    """Rows of a task, checked.

    Args:
        task: whose rows they are.
        rows: (place, row, what is worth knowing of it, or what is wrong with it).

    Raises:
        ValueError: with all that is wrong, each with its place; or if there is no row.
    """
    found: list[NewRow] = []
    problems: list[str] = []
    number, fields = 0, fields_of_files(task)
    for place, row in rows:
        if isinstance(row, Note):
            continue
        number += 1
        if isinstance(row, str):
            problems.append(f"{place}: {row}")
            continue
        try:
            whole = fields.of(row)
            for one in _cut(task, whole):
                for example, labelled in _examples(task, one):
                    found.append(NewRow(number, whole.get(task.id) if task.id else None, example, labelled))
        except ValueError as error:
            problems.append(f"{place}: {error}")
    if problems:
        raise ValueError(listed_problems(problems))
    if not found:
        raise ValueError("there are no rows to answer; give at least one")
    return found


def questions_of(task: TaskSpec, rows: Iterable[NewRow]) -> NDArray[np.int64]:
    """[N] rows with the same number answer one question."""
    names = [row.example.question for row in rows]
    return numbered(names) if task.question else np.arange(len(names))


def _cut(task: TaskSpec, row: Fields) -> Iterator[Fields]:
    """A row; of texts that are cut into windows, and have no label, each window, as those it was trained on."""
    text = row.get(task.text[0]) if task.window else None
    if task.window and task.label not in row and isinstance(text, str):
        yield from ({**row, task.text[0]: read, task.label: said} for read, said in windows(text, task.window))
    else:
        yield row


def _examples(task: TaskSpec, row: Fields) -> Iterator[tuple[Example, bool]]:
    """What a row asks, each with whether it has a label."""
    if task.choices_in and (length := length_inside(row, task.choices_in)) not in (None, len(task.choices)):
        raise ValueError(f"{task.choices_in} must list {len(task.choices)} choices, got {length}")
    field = LABELLED_BY.get(task.prepare, task.label)
    labelled = not is_empty(row.get(field))
    if labelled and task.kind == "tagging":
        row = without_padding(task, row, Findings())
    for prepared in _prepared(task, row if labelled else {**row, field: _PLACEHOLDERS[task.rows_kind](task, row)}):
        if missing := [name for name in task.fields if name not in prepared]:
            raise ValueError(problem_of_missing(missing, row, "`text`"))
        example = checked_row(task, prepared)
        if example is None:  # it says that it has no label, as -1 does, or is of a class that was left out
            example = checked_row(task, {**prepared, task.label: _PLACEHOLDERS[task.rows_kind](task, prepared)})
            assert example is not None, "a row with a label is an example"
            yield example, False
        else:
            yield example, labelled


def _prepared(task: TaskSpec, row: Fields) -> Iterable[Fields]:
    return PREPARE[task.prepare](row) if task.prepare else (row,)


def _class(task: TaskSpec, _row: Fields) -> Any:
    """A class that is not left out; of rows that name their answers, as ReCoRD's do, none of them."""
    if LABELLED_BY.get(task.prepare):
        return []
    return next(name for name in (task.labels.filed or task.classes) if name in task.classes)


def _tags(task: TaskSpec, row: Fields) -> list[str]:
    return [task.classes[0]] * len(words_in(row.get(task.text[0])) or ())


def _answer(task: TaskSpec, row: Fields) -> Any:
    """The first character of the passage that is no space."""
    text = task.text[1]
    there = all(isinstance(row.get(name), str) for name in fields_of(text))
    passage = text_of(row, text, may_be_empty=True) if there else ""
    if not passage.strip():
        return {"text": ["-"], "answer_start": [0]}  # the check of the passage's text tells what is wrong
    start = len(passage) - len(passage.lstrip())
    return {"text": [passage[start]], "answer_start": [start]}


_PLACEHOLDERS: Mapping[str, Callable[[TaskSpec, Fields], Any]] = MappingProxyType(
    {
        "classification": _class,
        "regression": lambda _task, _row: 0.0,
        "multiple_choice": lambda task, _row: task.labels.first,
        "tagging": _tags,
        "extractive_qa": _answer,
        "generation": lambda _task, _row: "-",
    }
)
"""Kind of rows -> a label that any row may have, in the place of one that is not there: nothing reads it."""
