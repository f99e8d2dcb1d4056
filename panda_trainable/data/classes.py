"""Classes of a task as its files have them: found in train labels, counted from 1, rare, or missing. Imports no torch."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from panda_trainable.config.kinds import CLASSES, tag_schemes, usual_metrics
from panda_trainable.config.task import OTHER, TaskSpec
from panda_trainable.data.labels import classes_of, is_unlabelled, whole_number
from panda_trainable.data.rows import with_fields, words_in
from panda_trainable.origins.lines import listed
from panda_trainable.origins.part import PartOfTrain

SHOWN = 8
"""Problems of a task's rows that are told; of the others their number."""

RARE = 2
"""Train rows that a class needs: one to train and one to select on."""

_PLACED = re.compile(r"(?P<file>.+?)(:\d+|, row \d+): (?P<said>.*)", re.DOTALL)


def split_is_unlabelled(task: TaskSpec, split: str) -> bool:
    """Whether no row of a split has a label."""
    labels = (label_of(task, row) for _, row in task.origin.rows(split) if isinstance(row, dict))
    if task.prepare or (first := next(labels, _NONE)) is _NONE:
        return False
    return is_unlabelled(first) and all(map(is_unlabelled, labels))


_NONE = object()


def label_of(task: TaskSpec, row: dict[str, Any]) -> Any:
    """The label of a raw row; None where it has none."""
    return with_fields(task, row).get(task.label)


def train_labels(task: TaskSpec, splits: Sequence[str] = ("train",)) -> Iterator[Any]:
    """The labels of rows as the files have them; of tags that are one text each."""
    for split in splits:
        for _, row in task.origin.rows(split):
            if isinstance(row, dict):
                label = label_of(task, row)
                yield (words_in(label) or []) if task.kind == "tagging" and isinstance(label, str) else label


def with_classes(task: TaskSpec, notes: list[str]) -> TaskSpec:
    """The task with its classes and metrics: where they are not given, those of its train labels.

    Raises:
        ValueError: if the labels are no classes.
    """
    if not CLASSES[task.kind]:
        return task
    classes = task.classes
    if not classes:
        _refuse_unread(task)
        try:
            classes = classes_of(task.label, train_labels(task))
        except ValueError as error:
            raise ValueError(f"task {task.name}: {error}") from error
        if len(classes) < 2:
            raise ValueError(
                f"task {task.name}: a {task.kind} needs at least two classes, and {task.label} of its train rows has "
                f"{listed(classes)}; name the field of the label with `label`"
            )
        of_f1 = f" (f1 is of {classes[1]})" if {"f1", "accuracy_f1"} & set(task.metrics) else ""
        notes.append(f"{task.name}: classes are those of its train labels: {listed(classes)}{of_f1}")
        variants = [name for name in classes if sum(name.lower() == other.lower() for other in classes) > 1]
        if variants:
            notes.append(f"{task.name}: some of its classes differ in case alone: {listed(variants)}")
    metrics = task.metrics or usual_metrics(task.kind, classes)
    if task.kind == "tagging":
        schemes = tag_schemes(classes)
        if schemes:
            alike = ", and IOB1, which is read alike" if "BIO" in schemes else ""
            notes.append(f"{task.name}: its tags mark entities by {' or '.join(schemes)}{alike}")
        else:
            notes.append(f"{task.name}: its tags mark no entities (BIO, BIOES, BILOU); the score is {metrics[0]}")
    return replace(task, classes=classes, metrics=metrics)


def _refuse_unread(task: TaskSpec) -> None:
    """Refuses train rows that cannot be read or lack the label, before classes are looked for in them.

    Raises:
        ValueError: with the problems of the files.
    """
    problems = []
    for place, row in task.origin.rows("train"):
        if isinstance(row, str):
            problems.append(f"{place}: {row}")
        elif isinstance(row, dict) and label_of(task, row) is None and task.label not in row:
            problems.append(
                f"{place}: needs the field {task.label}; it has {listed(row)}: rename the field, or name the right one "
                "in `label` of the task; if the first line of the file is data, put a line with the names above it"
            )
    if problems:
        raise ValueError(listed_problems(problems))


def counts_from_one(task: TaskSpec, splits: Sequence[str]) -> bool:
    """Whether the labels of a task are the numbers from 1 to that of its last class or choice."""
    number = len(task.strata)
    if not number or any(whole_number(name) is not None for name in task.classes):
        return False
    labels = {whole_number(label) for label in train_labels(task, splits) if not is_unlabelled(label)}
    return None not in labels and {1, number} <= labels <= set(range(1, number + 1))


def rare_classes(task: TaskSpec, found: Mapping[str, Counter[float]]) -> list[str]:
    """Classes of which there are rows, but too few to train and select on."""
    if task.kind != "classification":
        return []
    totals = sum(found.values(), Counter[float]())
    train = found["train"]
    return [name for i, name in enumerate(task.classes) if totals[float(i)] and train[float(i)] < RARE]


def without_rare(task: TaskSpec, rare: Sequence[str], notes: list[str]) -> TaskSpec:
    """The task whose rare classes are dropped, or made one."""
    kept = tuple(name for name in task.classes if name not in rare)
    if task.labels.rare == "other" and OTHER not in kept:
        kept = (*kept, OTHER)
    done = "dropped" if task.labels.rare == "drop" else f"made one class, {OTHER}"
    notes.append(f"{task.name}: classes with fewer than {RARE} train rows are {done}: {listed(rare)}")
    if len(kept) < 2:
        raise ValueError(
            f"task {task.name}: without its rare classes {listed(rare)} it has fewer than two; bring more rows of them"
        )
    return replace(task, classes=kept, labels=replace(task.labels, filed=task.classes))


def problems_of_classes(task: TaskSpec, found: Mapping[str, Counter[float]]) -> Iterator[str]:
    """Splits of one class only, and classes of which there is nothing to learn."""
    if not task.strata:
        return
    for split, rows in found.items():
        if len(rows) < 2:
            only = task.strata[int(next(iter(rows)))]
            drawn = isinstance(task.origin, PartOfTrain) and split == "validation"
            which = "the validation rows drawn from it need" if drawn else "needs rows of"
            yield f"{task.origin.place(split)}: {which} at least two classes, {'have' if drawn else 'has'} only {only}"
    if not found["train"][0.0] and task.labels.first == 0 and _is_numbered(task):
        yield (
            f"{task.origin.place('train')}: no row has the first of {len(task.strata)} classes or choices, which is 0: where the "
            "numbers of the file count from 1, write them from 0, write names, or list them, such as classes: ['1', '2', '3']"
        )
    unlearnt = [
        f"{name} ({', '.join(split for split, rows in found.items() if rows[float(number)])})"
        for number, name in enumerate(task.strata)
        if not found["train"][float(number)] and any(rows[float(number)] for rows in found.values())
    ]
    if unlearnt:
        refused = task.kind == "classification" and task.labels.rare == "refuse"
        remedy = "; bring some, or say rare_classes: drop or other" if refused else ""
        yield (
            f"{task.origin.place()}: train has no row of a class that other splits have: {', '.join(unlearnt)}{remedy}"
        )


def _is_numbered(task: TaskSpec) -> bool:
    """Whether train rows give classes or choices by numbers that are none of their names."""
    labels = (label for label in train_labels(task) if not is_unlabelled(label))
    named = any(whole_number(name) is not None for name in task.classes)
    return not named and all(whole_number(label) is not None for label in labels)


def _grouped(problems: Sequence[str]) -> list[str]:
    """Problems of many rows told once, at the first, with the number of the others."""
    rows: dict[tuple[str, str], list[str]] = {}
    for problem in problems:
        found = _PLACED.match(problem)
        rows.setdefault((found["file"], found["said"]) if found else ("", problem), []).append(problem)
    return [
        places[0]
        + (f" ({len(places) - 1} more {'row' if len(places) == 2 else 'rows'} like this)" if places[1:] else "")
        for places in rows.values()
    ]


def listed_problems(problems: Sequence[str]) -> str:
    """The first problems, a line each, and how many others there are."""
    told = _grouped(problems)
    more = f" (and {len(told) - SHOWN} other problems)" if len(told) > SHOWN else ""
    return "\n".join(told[:SHOWN]) + more
