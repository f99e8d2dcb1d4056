"""Tasks located: their files found, their labels understood, their rows checked, counted and fingerprinted. Imports no torch."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from panda_trainable.config.origin import Origin, Unlocated
from panda_trainable.config.task import CLASSES, OTHER, SplitSettings, TaskSpec, fields_of, tag_schemes, usual_metrics
from panda_trainable.data.labels import MOST_UNLABELLED, classes_of, is_unlabelled, too_many_unlabelled, whole_number
from panda_trainable.data.rows import UNLABELLED, Example, Findings, examples, fingerprint, words_in
from panda_trainable.origins.folder import READERS, FolderFiles
from panda_trainable.origins.lines import listed, with_nested
from panda_trainable.origins.part import PartOfTrain
from panda_trainable.origins.texts import normalised

SHOWN = 8
"""Problems of a task's rows that are told; of the others their number."""

RARE = 2
"""Train rows that a class needs: one to train and one to select on."""

_PLACED = re.compile(r"(?P<file>.+?)(:\d+|, row \d+): (?P<said>.*)", re.DOTALL)


@dataclass
class SplitRows:
    """What is counted of a split's rows.

    Attributes:
        digest: hash of texts and labels: the split's identity.
        counts: rows of each class, choice or value.
        texts: hashes of rows by their normalised texts, and how often each is there.
    """

    digest: str = ""
    counts: Counter[float] = field(default_factory=Counter)
    texts: Counter[bytes] = field(default_factory=Counter)


def located(task: TaskSpec, data: Path, fetch: Callable[[TaskSpec], Path] | None = None) -> TaskSpec:
    """The task with its origin found and its rows read, as `fingerprinted` does.

    Args:
        task: a row of TASKS or a task of the experiment file.
        data: the folder that holds `<task>/<split>.<ending>`.
        fetch: gives a folder with the files of a task that is not in `data` (from the hub); None: nobody does.

    Raises:
        ValueError: if a split is missing or a row is wrong; all problems of the task at once.
    """
    return fingerprinted(replace(task, origin=_found(task, data, fetch)))


def is_here(task: TaskSpec, data: Path) -> bool:
    """Whether a task needs no fetching: a demonstration, or a task with a folder in `data`."""
    return not isinstance(task.origin, Unlocated) or task.origin.folder_in(data, task.name).is_dir()


def _found(task: TaskSpec, data: Path, fetch: Callable[[TaskSpec], Path] | None) -> Origin:
    """A task's origin once it is looked for."""
    if not isinstance(task.origin, Unlocated):
        return task.origin
    if task.hub and fetch and not is_here(task, data):
        return FolderFiles(fetch(task))
    return FolderFiles(task.origin.folder_in(data, task.name), task.origin.delimiter)


def fingerprinted(task: TaskSpec) -> TaskSpec:
    """A located task with the fingerprints of its rows and the sizes of its classes, its rows checked.

    Classes that are not given are those of the train labels; rare ones are treated as the task says; a task
    of train rows alone is divided. What was not plain from the files is among its notes.

    Raises:
        ValueError: if a split is missing or a row is wrong; all problems of the task at once.
    """
    notes: list[str] = []
    task, splits = _with_splits(task, notes)
    task = _with_classes(task, notes)
    found, findings = _read(task, splits)
    if task.choices and task.text and not task.compared and len(found["train"].texts) == 1:
        task = replace(task, compared=tuple(dict.fromkeys(name for text in task.choices for name in fields_of(text))))
        found, findings = _read(task, splits)
    if findings.problems and task.labels.first == 0 and _counts_from_one(task, splits):
        task = replace(task, labels=replace(task.labels, first=1))
        found, findings = _read(task, splits)
        notes.append(f"{task.name}: its labels count from 1")
    if not findings.problems and (rare := _rare(task, found)) and task.labels.rare != "refuse":
        task = _without_rare(task, rare, notes)
        found, findings = _read(task, splits)
    problems = findings.problems or [*_problems_of_classes(task, found)]
    if problems:
        grouped = _grouped(problems)
        more = f" (and {len(grouped) - SHOWN} other problems)" if len(grouped) > SHOWN else ""
        raise ValueError("\n".join(grouped[:SHOWN]) + more)
    counts = [(split, tuple(rows.counts[float(i)] for i in range(len(task.strata)))) for split, rows in found.items()]
    located_task = replace(
        task, fingerprints=tuple((split, rows.digest) for split, rows in found.items()),
        counts=tuple(counts) if task.strata else (),
    )  # fmt: skip
    report = found[located_task.report_split].texts
    leaked = sum(count for text, count in report.items() if text in found["train"].texts)
    notes += [*_notes(located_task, found, findings), *_overlap_note(located_task, leaked, report.total())]
    return replace(located_task, leaked=leaked, notes=tuple(dict.fromkeys(notes)))


def _with_splits(task: TaskSpec, notes: list[str]) -> tuple[TaskSpec, tuple[str, ...]]:
    """The task and its splits: those with labels, or parts of train where there is no other.

    Raises:
        ValueError: if a split is missing.
    """
    splits = task.origin.splits()
    unlabelled = [split for split in splits if split != "train" and _is_unlabelled(task, split)]
    notes += [f"{task.name}: {split} has no labels and is left out" for split in unlabelled]
    splits = tuple(split for split in splits if split not in unlabelled)
    if splits == ("train",) and task.origin.has_rows:
        how = task.split or SplitSettings()
        stratum = task.label if (CLASSES[task.kind] and task.kind != "tagging") or task.choices else ""
        origin = PartOfTrain(task.origin, stratum, task.compared_fields, how.validation, how.seed)
        notes.append(
            f"{task.name}: has train rows alone, so {how.validation:.0%} of them, drawn by seed {how.seed}, are its "
            "validation rows (see `split:`)" + _unread(task.origin)
        )
        return replace(task, origin=origin), origin.splits()
    missing = [split for split in ("train",) if split not in splits]
    missing += [] if {"validation", "test"} & set(splits) else ["validation or test"]
    if missing:
        endings = ", ".join(f".{ending}" for ending in READERS)
        raise ValueError(
            f"task {task.name}: {' and '.join(missing)} not found in {task.origin.place()}: {task.origin.contents()}, but "
            f"must hold train, and may hold validation and test, each one file ending in {endings}"
        )
    if task.split is not None:
        raise ValueError(
            f"task {task.name}: split divides train rows where there are no others, but {task.origin.place()} has "
            f"{' and '.join(split for split in splits if split != 'train')}; remove `split`"
        )
    return task, splits


def _unread(origin: Origin) -> str:
    names = origin.unread() if isinstance(origin, FolderFiles) else ()
    return f"; not read: {listed(names)}" if names else ""


def _is_unlabelled(task: TaskSpec, split: str) -> bool:
    """Whether no row of a split has a label."""
    labels = (_label_of(task, row) for _, row in task.origin.rows(split) if isinstance(row, dict))
    if task.prepare or (first := next(labels, _NONE)) is _NONE:
        return False
    return is_unlabelled(first) and all(map(is_unlabelled, labels))


_NONE = object()


def _label_of(task: TaskSpec, row: dict[str, Any]) -> Any:
    return (with_nested(row, task.nested) if task.nested else row).get(task.label)


def _train_labels(task: TaskSpec, splits: Sequence[str] = ("train",)) -> Iterator[Any]:
    """The labels of rows as the files have them; of tags that are one text each."""
    for split in splits:
        for _, row in task.origin.rows(split):
            if isinstance(row, dict):
                label = _label_of(task, row)
                yield (words_in(label) or []) if task.kind == "tagging" and isinstance(label, str) else label


def _with_classes(task: TaskSpec, notes: list[str]) -> TaskSpec:
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
            classes = classes_of(task.label, _train_labels(task))
        except ValueError as error:
            raise ValueError(f"task {task.name}: {error}") from error
        if len(classes) < 2:
            raise ValueError(
                f"task {task.name}: a {task.kind} needs at least two classes, and {task.label} of its train rows has "
                f"{listed(classes)}; name the field of the label with `label`"
            )
        notes.append(f"{task.name}: classes are those of its train labels: {listed(classes)}")
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
        elif isinstance(row, dict) and _label_of(task, row) is None and task.label not in row:
            problems.append(
                f"{place}: needs the field {task.label}; it has {listed(row)}: rename the field, or name the right one "
                "in `label` of the task; if the first line of the file is data, put a line with the names above it"
            )
    if problems:
        raise ValueError("\n".join(_grouped(problems)[:SHOWN]))


def _read(task: TaskSpec, splits: Sequence[str]) -> tuple[dict[str, SplitRows], Findings]:
    """All splits of a task read, and what was found by the way."""
    findings = Findings()
    return {split: _of_split(task, split, findings) for split in splits}, findings


def _of_split(task: TaskSpec, split: str, findings: Findings) -> SplitRows:
    rows, wrong = SplitRows(), len(findings.problems)
    before = findings.left_out.copy()

    def counted() -> Iterator[Example]:
        for example in examples(task, split, findings):
            rows.counts[example.label if isinstance(example.label, float) else 0.0] += 1
            if any(example.compared):
                folded = "\0".join(map(normalised, example.compared))
                rows.texts[hashlib.blake2b(folded.encode(), digest_size=8).digest()] += 1
            yield example

    rows.digest = fingerprint(counted())
    for reason, count in (findings.left_out - before).items():
        if reason == UNLABELLED and split == "train" and count > MOST_UNLABELLED * (count + rows.counts.total()):
            told = too_many_unlabelled(task.label, count, count + rows.counts.total())
            findings.problems.append(f"{task.origin.place(split)}: {told}")
        findings.notes.append(f"{task.name}: {count} {split} {'row' if count == 1 else 'rows'} {reason} left out")
    if len(findings.problems) == wrong and not rows.counts:
        drawn = isinstance(task.origin, PartOfTrain) and split == "validation"
        none = "no validation rows can be drawn: there are too few, or they share texts; bring a validation file"
        findings.problems.append(f"{task.origin.place(split)}: {none if drawn else 'has no rows'}")
    elif len(findings.problems) == wrong and task.kind == "regression" and len(rows.counts) < 2:
        findings.problems.append(
            f"{task.origin.place(split)}: needs rows of at least two values, has {len(rows.counts)}"
        )
    return rows


def _counts_from_one(task: TaskSpec, splits: Sequence[str]) -> bool:
    """Whether the labels of a task are the numbers from 1 to that of its last class or choice."""
    number = len(task.strata)
    if not number or any(whole_number(name) is not None for name in task.classes):
        return False
    labels = {whole_number(label) for label in _train_labels(task, splits) if not is_unlabelled(label)}
    return None not in labels and {1, number} <= labels <= set(range(1, number + 1))


def _rare(task: TaskSpec, found: Mapping[str, SplitRows]) -> list[str]:
    """Classes of which there are rows, but too few to train and select on."""
    if task.kind != "classification":
        return []
    totals = sum((rows.counts for rows in found.values()), Counter[float]())
    train = found["train"].counts
    return [name for i, name in enumerate(task.classes) if totals[float(i)] and train[float(i)] < RARE]


def _without_rare(task: TaskSpec, rare: Sequence[str], notes: list[str]) -> TaskSpec:
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


def _problems_of_classes(task: TaskSpec, found: Mapping[str, SplitRows]) -> Iterator[str]:
    """Splits of one class only, and classes of which there is nothing to learn."""
    if not task.strata:
        return
    for split, rows in found.items():
        if len(rows.counts) < 2:
            only = task.strata[int(next(iter(rows.counts)))]
            drawn = isinstance(task.origin, PartOfTrain) and split == "validation"
            which = "the validation rows drawn from it need" if drawn else "needs rows of"
            yield f"{task.origin.place(split)}: {which} at least two classes, {'have' if drawn else 'has'} only {only}"
    if not found["train"].counts[0.0] and task.labels.first == 0 and _is_numbered(task):
        yield (
            f"{task.origin.place('train')}: no row has the first of {len(task.strata)} classes or choices, which is 0: where the "
            "numbers of the file count from 1, write them from 0, write names, or list them, such as classes: ['1', '2', '3']"
        )
    unlearnt = [
        f"{name} ({', '.join(split for split, rows in found.items() if rows.counts[float(number)])})"
        for number, name in enumerate(task.strata)
        if not found["train"].counts[float(number)] and any(rows.counts[float(number)] for rows in found.values())
    ]
    if unlearnt:
        refused = task.kind == "classification" and task.labels.rare == "refuse"
        remedy = "; bring some, or say rare_classes: drop or other" if refused else ""
        yield (
            f"{task.origin.place()}: train has no row of a class that other splits have: {', '.join(unlearnt)}{remedy}"
        )


def _is_numbered(task: TaskSpec) -> bool:
    """Whether train rows give classes or choices by numbers that are none of their names."""
    labels = (label for label in _train_labels(task) if not is_unlabelled(label))
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


def _notes(task: TaskSpec, found: Mapping[str, SplitRows], findings: Findings) -> Iterator[str]:
    """What was found by the way, and rows that stand more than once in a split."""
    yield from findings.notes
    if task.question:  # one question has several rows
        return
    for split, rows in found.items():
        if repeated := rows.texts.total() - len(rows.texts):
            number = f"{repeated} of {rows.counts.total()} {split} rows"
            yield f"{task.name}: {number} repeat the texts of another (but for case and punctuation)"


def _overlap_note(task: TaskSpec, leaked: int, total: int) -> Iterator[str]:
    if leaked:
        yield (
            f"{task.name}: {leaked} of {total} {task.report_split} rows, on which it is reported, stand in its own train "
            "rows (but for case and punctuation), so that its scores count what it has learnt from"
        )
