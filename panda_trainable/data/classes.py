"""Classes of a task as its files have them: found in train labels, counted from 1, rare, or missing. Imports no torch."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from panda_trainable.config.kinds import CLASSES, TAG_SCHEMES, spelt_as, tag_schemes, usual_metrics
from panda_trainable.config.task import OTHER, TaskSpec
from panda_trainable.data.labels import MOST_UNLABELLED, classes_of, is_padding, is_unlabelled, whole_number
from panda_trainable.data.prepare import LABELLED_BY
from panda_trainable.data.rows import fields_of_files, problem_of_missing, words_in
from panda_trainable.origins.fields import length_inside
from panda_trainable.origins.lines import listed
from panda_trainable.origins.part import PartOfTrain

SHOWN = 8
"""Problems of a task's rows that are told; of the others their number."""

MOST_VALUES = 4
"""Values of rows with the same problem that are told beside the first."""

RARE = 2
"""Train rows that a class needs: one to train and one to select on."""

_PLACED = re.compile(r"(?P<file>.+?)(:\d+|, row \d+)(, (question|query) [^:]*)?: (?P<said>.*)", re.DOTALL)


def why_unlabelled(task: TaskSpec, split: str) -> str:
    """Why the labels of a split say nothing: there are none, or all rows of test have one; empty: they say something."""
    field = LABELLED_BY.get(task.prepare, task.label)
    distinct: set[str] = set()
    there = False
    unlabelled, told_apart = True, split == "test" and not _is_answered(task) and field == task.label
    for label in _labels(task, split, field):
        there, unlabelled = True, unlabelled and is_unlabelled(label)
        distinct |= {repr(each) for each in (label if isinstance(label, list) else [label])}
        if not unlabelled and (len(distinct) > 1 or not told_apart):
            return ""
    if unlabelled:
        return "has no labels" if there else ""
    return f"has one label for all its rows ({listed(distinct)}), which stands for none,"


def _is_answered(task: TaskSpec) -> bool:
    """Whether labels are texts, of which all rows may have one."""
    return task.kind in ("extractive_qa", "generation")


def _labels(task: TaskSpec, split: str, field: str) -> Iterator[Any]:
    """A field of a split's rows, of tags without those of padding."""
    fields = fields_of_files(task)
    values = (fields.of(row).get(field) for _, row in task.origin.rows(split) if isinstance(row, dict))
    return map(words_of_tags, values) if task.kind == "tagging" else values


def train_labels(task: TaskSpec, splits: Sequence[str] = ("train",)) -> Iterator[Any]:
    """The labels of rows as the files have them."""
    for split in splits:
        yield from _labels(task, split, task.label)


def words_of_tags(label: Any) -> Any:
    """The tags of a sentence that are those of words."""
    tags = words_in(label)
    return label if tags is None else [tag for tag in tags if not is_padding(tag)]


def with_classes(task: TaskSpec, notes: list[str]) -> TaskSpec:
    """The task with its classes and metrics: where they are not given, those of its train labels.

    Raises:
        ValueError: if the labels are no classes.
    """
    if not CLASSES[task.kind]:
        return task
    classes = task.classes
    if not classes:
        labels = _read_labels(task)
        try:
            classes = classes_of(task.label, labels)
        except ValueError as error:
            raise ValueError(f"task {task.name}: {error}") from error
        if len(classes) < 2:
            raise ValueError(
                f"task {task.name}: a {task.kind} needs at least two classes, and {task.label} of its train rows has "
                f"{listed(classes)}; name the field of the label with `label`"
            )
        notes.append(f"{task.name}: classes are those of its train labels: {listed(classes)}")
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
            notes.append(
                f"{task.name}: its tags mark no entities ({', '.join(TAG_SCHEMES)}); the score is {metrics[0]}"
                + (f"; if they should, spell {other}, and so on" if (other := spelt_as(classes)) else "")
            )
    return replace(task, classes=classes, metrics=metrics)


def with_choices(task: TaskSpec, notes: list[str]) -> TaskSpec:
    """The task with a field for each of its choices, where files have them as one list.

    Raises:
        ValueError: if no row has such a list, or too many have lists of another length.
    """
    if len(task.choices) != 1:
        return task
    (field,) = task.choices
    fields = fields_of_files(task)
    names: dict[str, None] = {}
    lengths: Counter[int] = Counter()
    for _, row in task.origin.rows("train"):
        if isinstance(row, dict):
            names |= dict.fromkeys(row)
            length = length_inside(fields.of(row), field)
            lengths.update(() if length is None else (length,))
    if not lengths:
        raise ValueError(
            f"task {task.name}: choices must be the fields of two or more choices, or one that holds lists, and {field} of its train rows holds none; "
            f"their fields are {listed(names)}"
        )
    size, count = lengths.most_common(1)[0]
    if size < 2 or lengths.total() - count > MOST_UNLABELLED * lengths.total():
        found = ", ".join(f"{rows} of {length}" for length, rows in sorted(lengths.items()))
        raise ValueError(
            f"task {task.name}: {field} must list the same number of choices, at least 2, in nearly all rows; train has rows {found}"
        )
    notes.append(f"{task.name}: its {size} choices are those that {field} lists")
    return replace(task, choices=tuple(f"{field}.{number}" for number in range(size)), choices_in=field)


def _read_labels(task: TaskSpec) -> list[Any]:
    """The labels of train rows, of a task whose classes they name.

    Raises:
        ValueError: with what cannot be read of the files, and the rows that lack the label.
    """
    problems, labels, fields = [], [], fields_of_files(task)
    for place, row in task.origin.rows("train"):
        if isinstance(row, str):
            problems.append(f"{place}: {row}")
        elif isinstance(row, dict):
            whole = fields.of(row)
            label = whole.get(task.label)
            labels.append(words_of_tags(label) if task.kind == "tagging" else label)
            if task.label not in whole:
                problems.append(f"{place}: {problem_of_missing([task.label], row, '`label`')}")
    if problems:
        raise ValueError(listed_problems(problems))
    return labels


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
    """Problems of many rows told once, at the first, with the number of the others and what some of them have."""
    rows: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for problem in problems:
        found = _PLACED.match(problem)
        file, said = (found["file"], found["said"]) if found else ("", problem)
        rule, _, value = said.partition(", got ")
        rows.setdefault((file, rule), []).append((problem, value))
    return [_told_once(alike) for alike in rows.values()]


def _told_once(alike: Sequence[tuple[str, str]]) -> str:
    """The first of problems that differ in place and value, and what of the others is worth knowing."""
    (first, value), others = alike[0], alike[1:]
    if not others:
        return first
    values = [other for other in dict.fromkeys(value for _, value in others) if other != value]
    had = f", got {'; '.join(values[:MOST_VALUES])}{' and others' if len(values) > MOST_VALUES else ''}"
    return f"{first} ({len(others)} more {'row' if len(others) == 1 else 'rows'} like this{had if values else ''})"


def listed_problems(problems: Sequence[str]) -> str:
    """The first problems, a line each, and how many others there are."""
    told = _grouped(problems)
    more = f" (and {len(told) - SHOWN} other problems)" if len(told) > SHOWN else ""
    return "\n".join(told[:SHOWN]) + more
