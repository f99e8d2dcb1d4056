"""Tasks located: their files found, their labels understood, their rows checked, counted and fingerprinted. Imports no torch."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from panda_trainable.config.kinds import CLASSES
from panda_trainable.config.origin import Origin, Unlocated
from panda_trainable.config.task import SPLITS, SplitSettings, TaskSpec
from panda_trainable.config.templates import fields_of
from panda_trainable.data.classes import (
    counts_from_one,
    listed_problems,
    problems_of_classes,
    rare_classes,
    why_unlabelled,
    with_choices,
    with_classes,
    without_rare,
)
from panda_trainable.data.labels import MOST_UNLABELLED, PADDING, too_many_unlabelled
from panda_trainable.data.rows import UNLABELLED, Example, Findings, examples, fields_of_files, fingerprint
from panda_trainable.origins.documents import Windows
from panda_trainable.origins.folder import READERS, FolderFiles, format_of
from panda_trainable.origins.lines import listed
from panda_trainable.origins.part import PartOfTrain
from panda_trainable.origins.texts import normalised


@dataclass
class SplitRows:
    """What is counted of a split's rows.

    Attributes:
        digest: hash of texts and labels: the split's identity.
        counts: rows of each class, choice or value.
        texts: hashes of rows by their normalised texts, and how often each is there.
        longest: texts, or words of a tagging, of the longest row.
    """

    digest: str = ""
    counts: Counter[float] = field(default_factory=Counter)
    texts: Counter[bytes] = field(default_factory=Counter)
    longest: int = 0


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
    return not isinstance(task.origin, Unlocated) or _folder(task, task.origin, data).is_dir()


def _found(task: TaskSpec, data: Path, fetch: Callable[[TaskSpec], Path] | None) -> Origin:
    """A task's origin once it is looked for."""
    origin = _files_of(task, data, fetch)
    if not task.window or not origin.has_rows:
        return origin
    return Windows(origin, task.text[0], task.label, task.window, fields_of_files(task))


def _files_of(task: TaskSpec, data: Path, fetch: Callable[[TaskSpec], Path] | None) -> Origin:
    """Where its rows come from, texts as they are."""
    if not isinstance(task.origin, Unlocated):
        return task.origin
    if task.hub and fetch and not is_here(task, data):
        return FolderFiles(fetch(task))
    files = tuple(task.original.files.items()) if task.original else ()
    drops = task.original is not None and task.original.drop_broken
    reading = replace(task.origin.reading, words=task.kind == "tagging", drops_broken=drops)
    return FolderFiles(_folder(task, task.origin, data), reading, files)


def _folder(task: TaskSpec, origin: Unlocated, data: Path) -> Path:
    """Where a task's files are: in its own folder, or in one that is called as it was published."""
    own = origin.folder_in(data, task.name)
    if not task.original or not task.original.folder or own.is_dir():
        return own
    published = data / task.original.folder
    return published if published.is_dir() else own


def fingerprinted(task: TaskSpec) -> TaskSpec:
    """A located task with the fingerprints of its rows and the sizes of its classes, its rows checked.

    Classes that are not given are those of the train labels; rare ones are treated as the task says; a task
    of train rows alone is divided. What was not plain from the files is among its notes.

    Raises:
        ValueError: if a split is missing or a row is wrong; all problems of the task at once.
    """
    notes: list[str] = [*_unused_columns(task)]
    task, splits = _with_splits(task, notes)
    classes_are_given = bool(task.classes)
    task = with_classes(with_choices(task, notes), notes)
    found, findings = _read(task, splits)
    if task.choices and task.text and not task.compared and len(found["train"].texts) == 1:
        task = replace(task, compared=tuple(dict.fromkeys(name for text in task.choices for name in fields_of(text))))
        found, findings = _read(task, splits)
    if findings.problems and task.labels.first == 0 and counts_from_one(task, splits):
        task = replace(task, labels=replace(task.labels, first=1))
        found, findings = _read(task, splits)
        notes.append(f"{task.name}: its labels count from 1")
    if not findings.problems and (rare := rare_classes(task, counts_of(found))) and task.labels.rare != "refuse":
        task = without_rare(task, rare, notes)
        found, findings = _read(task, splits)
    if not classes_are_given and {"f1", "accuracy_f1"} & set(task.metrics):
        notes.append(f"{task.name}: f1 is of its class {task.classes[1]}")
    problems = findings.problems or [*problems_of_classes(task, counts_of(found))]
    if problems:
        raise ValueError(listed_problems(problems))
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
    unlabelled = {split: why for split in splits if split != "train" and (why := why_unlabelled(task, split))}
    notes += [f"{task.name}: {split} {why} and is left out" for split, why in unlabelled.items()]
    splits = tuple(split for split in splits if split not in unlabelled)
    if splits == ("train",) and task.origin.has_rows:
        how = task.split or SplitSettings()
        stratum = task.label if (CLASSES[task.kind] and task.kind != "tagging") or task.choices else ""
        origin = PartOfTrain(
            task.origin, stratum, task.compared_fields, how.validation, how.seed, fields_of_files(task)
        )
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


def _unused_columns(task: TaskSpec) -> Iterator[str]:
    """That `columns` name those of no file, where the files are no tables; of a task of a user's."""
    origin = task.origin
    if isinstance(origin, FolderFiles) and origin.reading.columns and not task.original:
        formats = {format_of(path) for split in SPLITS for path in origin.files(split)}
        if formats and not formats & {"csv", "tsv", "txt"}:
            yield f"{task.name}: `columns` is of tables without a header line and not used: its files have names of their own"


def _unread(origin: Origin) -> str:
    names = origin.unread() if isinstance(origin, FolderFiles) else ()
    return f"; not read: {listed(names)}" if names else ""


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
            rows.longest = max(rows.longest, *map(len, example.texts))
            if any(example.compared):
                folded = "\0".join(map(normalised, example.compared))
                rows.texts[hashlib.blake2b(folded.encode(), digest_size=8).digest()] += 1
            yield example

    rows.digest = fingerprint(counted())
    if findings.padding:
        findings.notes.append(
            f"{task.name}: {findings.padding} words of {split} with the tag {PADDING} are left out; pieces that begin with "
            "## are joined with the word before"
        )
        findings.padding = 0
    for reason, count in (findings.left_out - before).items():
        if reason == UNLABELLED and split == "train" and count > MOST_UNLABELLED * (count + rows.counts.total()):
            told = too_many_unlabelled(task.label, count, count + rows.counts.total())
            findings.problems.append(f"{task.origin.place(split)}: {told}")
        findings.notes.append(f"{task.name}: {count} {split} {'row' if count == 1 else 'rows'} {reason} left out")
    if len(findings.problems) == wrong and not rows.counts:
        left_out = [f"{count} {reason}" for reason, count in (findings.left_out - before).items()]
        but = f" but those that are left out: {', '.join(left_out)}" if left_out else ""
        drawn = isinstance(task.origin, PartOfTrain) and split == "validation"
        none = "no validation rows can be drawn: there are too few, or they share texts; bring a validation file"
        findings.problems.append(f"{task.origin.place(split)}: {none if drawn else f'has no rows{but}'}")
    elif len(findings.problems) == wrong and task.kind == "regression" and len(rows.counts) < 2:
        findings.problems.append(
            f"{task.origin.place(split)}: needs rows of at least two values, has {len(rows.counts)}"
        )
    return rows


def counts_of(found: Mapping[str, SplitRows]) -> dict[str, Counter[float]]:
    """Split -> rows of each class, choice or value."""
    return {split: rows.counts for split, rows in found.items()}


def _notes(task: TaskSpec, found: Mapping[str, SplitRows], findings: Findings) -> Iterator[str]:
    """What was found by the way, and rows that stand more than once in a split."""
    yield from findings.notes
    if task.kind == "tagging" and found["train"].longest == 1:
        yield f"{task.name}: each of its train sentences has one word; a row must be a sentence, with its words and tags as lists"
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
