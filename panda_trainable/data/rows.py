"""Rows of a task: read, prepared, checked with their places, counted and fingerprinted. Imports no torch."""

import difflib
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from panda_trainable.config.origin import Origin, Unlocated
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.prepare import PREPARE, is_unicode, is_whole, text_of
from panda_trainable.data.readers import READERS, FolderFiles, listed, shown

SHOWN = 8
"""Problems of a task's rows that are told; of the others their number."""

_PLACED = re.compile(r"(?P<file>.+?)(:\d+|, row \d+): (?P<said>.*)", re.DOTALL)

IMBALANCED = 10
"""Times that the largest class may be the smallest before it is named."""


@dataclass(frozen=True)
class Example:
    """A checked row.

    Attributes:
        texts: the texts of each sequence that the PLM reads: one sequence of one or two texts, or one
            per choice; for tagging the words.
        label: class or choice number, value, tag numbers, or the answers as (start, text).
        compared: texts that tell whether rows share one.
        question: what rows of one question have in common; empty where it does not matter.
    """

    texts: tuple[tuple[str, ...], ...]
    label: Any
    compared: tuple[str, ...]
    question: str = ""


def examples(task: TaskSpec, split: str, problems: list[str]) -> Iterator[Example]:
    """The checked rows of a split; what is wrong with others is added to the problems, with its place."""
    seen: dict[Any, str] = {}
    for place, row in task.origin.rows(split):
        if isinstance(row, str):
            problems.append(f"{place}: {row}")
            continue
        try:
            _check_id(task, place, row, seen)
            for prepared in PREPARE[task.prepare](row) if task.prepare else (row,):
                yield checked_row(task, prepared)
        except ValueError as error:
            problems.append(f"{place}: {error}")


def _check_id(task: TaskSpec, place: str, row: Mapping[str, Any], seen: dict[Any, str]) -> None:
    value = row.get(task.id) if task.id else None
    if value is None or value == "" or isinstance(value, list | dict):
        return
    if value in seen:
        raise ValueError(
            f"{task.id} {shown(value)} stands at {seen[value]} too; ids must differ: remove a row, or name another field with `id:`"
        )
    seen[value] = place


def checked_row(task: TaskSpec, row: Mapping[str, Any]) -> Example:
    """A row as an example.

    Raises:
        ValueError: if a field is missing, a text is empty or no text, or the label is not the task's.
    """
    missing = [name for name in task.fields if name not in row]
    if missing:
        raise ValueError(
            f"needs the field {', '.join(missing)}; it has {listed(row)}: rename the field, or name the "
            "right one in `text` or `label` of the task"
        )
    if task.kind == "tagging":
        return _tagged(task, row)
    texts = tuple(text_of(row, text) for text in task.text)
    sequences = tuple((*texts, text_of(row, choice)) for choice in task.choices) or (texts,)
    label = _answers(row, task) if task.kind == "extractive_qa" else _label(task, row[task.label])
    question = json.dumps([row[name] for name in task.question], default=str) if task.question else ""
    return Example(sequences, label, tuple(str(row[name]) for name in task.compared_fields), question)


def _tagged(task: TaskSpec, row: Mapping[str, Any]) -> Example:
    words, tags = (_listed(row[name]) for name in (task.text[0], task.label))
    if not words or not all(isinstance(word, str) and word.strip() and is_unicode(word) for word in words):
        raise ValueError(f"{task.text[0]} must be a list of words that are not empty, got {shown(row[task.text[0]])}")
    if tags is None or len(tags) != len(words):
        raise ValueError(
            f"each word needs its tag, got {len(words)} words and {shown(row[task.label])} as {task.label}"
        )
    numbers_ = tuple(int(_class_number(task, tag)) for tag in tags)
    return Example((tuple(words),), numbers_, (" ".join(words),))


def _listed(value: Any) -> list[Any] | None:
    """A list as it is; a text (from CSV) at its spaces."""
    if isinstance(value, str):
        return [word for word in re.split(r"[ \t\r\n]+", value) if word]
    return value if isinstance(value, list) else None


def _answers(row: Mapping[str, Any], task: TaskSpec) -> tuple[tuple[int, str], ...]:
    said, passage = row[task.label], row[task.text[1]] if task.text[1] in row else text_of(row, task.text[1])
    rule = f'{task.label} must be {{"text": [...], "answer_start": [...]}} with at least one answer'
    if not isinstance(said, Mapping) or not all(isinstance(said.get(k), list) for k in ("text", "answer_start")):
        raise ValueError(f"{rule}, got {shown(said)}")
    pairs = list(zip(said["answer_start"], said["text"], strict=False))
    if not pairs or len(said["text"]) != len(said["answer_start"]):
        raise ValueError(f"{rule}, got {len(said['text'])} texts and {len(said['answer_start'])} starts")
    for start, text in pairs:
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"an answer must be a text that is not empty, got {shown(text)}")
        if not is_whole(start) or int(start) < 0 or passage[int(start) : int(start) + len(text)] != text:
            raise ValueError(
                f"an answer must stand in {task.text[1]} where answer_start says, but {shown(text)} is not at {shown(start)} of its {len(passage)} characters"
            )
    return tuple((int(start), text) for start, text in pairs)


def _label(task: TaskSpec, label: Any) -> float:
    if task.kind == "regression":
        return _value(task, label)
    return _class_number(task, label)


def _value(task: TaskSpec, label: Any) -> float:
    try:
        value = float(label) if isinstance(label, str | int | float) and not isinstance(label, bool) else math.nan
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{task.label} must be a number, got {shown(label)}")
    return value


def _class_number(task: TaskSpec, label: Any) -> float:
    """The number of a class that is given by name or number; a class that is named like a number wins."""
    names = task.classes or tuple(str(number) for number in range(len(task.choices)))
    named = str(label).lower() if isinstance(label, bool) else label
    if is_whole(named) and not isinstance(named, str):
        named = str(int(named))
    if isinstance(named, str) and named.strip() in names:
        return float(names.index(named.strip()))
    numbered = not any(is_whole(name) for name in names)
    if numbered and not isinstance(label, bool) and is_whole(named) and 0 <= int(named) < len(names):
        return float(named)
    close = difflib.get_close_matches(str(label), names, n=1)
    either = f"0 to {len(names) - 1} or one of " if numbered else "one of "
    near = f" (did you mean {close[0]}?)" if close else ""
    raise ValueError(f"{task.label} must be {either}{', '.join(names)}, got {shown(label)}{near}")


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
    return FolderFiles(task.origin.folder_in(data, task.name))


def fingerprinted(task: TaskSpec) -> TaskSpec:
    """A located task with the fingerprints of its rows and the sizes of its classes, its rows checked.

    Raises:
        ValueError: if a split is missing or a row is wrong; all problems of the task at once.
    """
    splits = task.origin.splits()
    missing = [split for split in ("train",) if split not in splits]
    missing += [] if {"validation", "test"} & set(splits) else ["validation or test"]
    if missing:
        endings = ", ".join(f".{ending}" for ending in READERS)
        raise ValueError(
            f"task {task.name}: {' and '.join(missing)} not found in {task.origin.place()}: {task.origin.contents()}, but "
            f"must hold train and validation or test, each one file ending in {endings}"
        )
    problems: list[str] = []
    found = [(split, *_read(task, split, problems)) for split in splits]
    if not problems:
        problems += _problems_of_classes(task, {split: counts for split, _, counts in found})
    if problems:
        grouped = _grouped(problems)
        more = f" (and {len(grouped) - SHOWN} other problems)" if len(grouped) > SHOWN else ""
        raise ValueError("\n".join(grouped[:SHOWN]) + more)
    fingerprints = tuple((split, digest) for split, digest, _ in found)
    counts = [(split, tuple(counts[float(i)] for i in range(len(task.strata)))) for split, _, counts in found]
    return replace(task, fingerprints=fingerprints, counts=tuple(counts) if task.strata else ())


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


def _read(task: TaskSpec, split: str, problems: list[str]) -> tuple[str, Counter[float]]:
    """Hash of a split's texts and labels, and how often each label is there."""
    counts, wrong = Counter[float](), len(problems)

    def counted() -> Iterator[Example]:
        for example in examples(task, split, problems):
            counts[example.label if isinstance(example.label, float) else 0.0] += 1
            yield example

    digest = fingerprint(counted())
    if len(problems) == wrong and not counts:
        problems.append(f"{task.origin.place(split)}: has no rows")
    elif len(problems) == wrong and task.kind == "regression" and len(counts) < 2:
        problems.append(f"{task.origin.place(split)}: needs rows of at least two values, has {len(counts)}")
    return digest, counts


def fingerprint(found: Iterable[Example]) -> str:
    """Hash of rows in their order, texts, labels and what ties them: the data's identity, whatever its file."""
    digest = hashlib.sha256()
    for example in found:
        single = example.texts[0] if len(example.texts) == 1 else example.texts
        tied = [] if example.compared == single and not example.question else [example.compared, example.question]
        digest.update(json.dumps([single, example.label, *tied]).encode())
    return digest.hexdigest()[:20]


def _problems_of_classes(task: TaskSpec, counts: Mapping[str, Counter[float]]) -> list[str]:
    """Splits of one class only, and classes of which there is nothing to learn."""
    if not task.strata:
        return []
    problems = []
    for split, there in counts.items():
        if len(there) < 2:
            only = task.strata[int(next(iter(there)))]
            problems.append(f"{task.origin.place(split)}: needs rows of at least two classes, has only {only}")
    names = [name for number, name in enumerate(task.strata) if not counts["train"][float(number)]]
    unlearnt = [
        f"{name} ({', '.join(split for split in counts if counts[split][float(task.strata.index(name))])})"
        for name in names
        if any(counts[split][float(task.strata.index(name))] for split in counts)
    ]
    if unlearnt:
        problems.append(
            f"{task.origin.place()}: train has no row of a class that other splits have: {', '.join(unlearnt)}"
        )
    return problems


def imbalance(task: TaskSpec) -> str:
    """Says which classes of train are far apart in size; empty where none are."""
    counts: Sequence[int] = dict(task.counts).get("train", ())
    if not counts or max(counts) < IMBALANCED * min(counts):
        return ""
    large, small = (task.strata[counts.index(choose(counts))] for choose in (max, min))
    return (
        f"{task.name} is imbalanced: {max(counts)} train rows of {large} and {min(counts)} of {small}; "
        "read macro_f1 beside accuracy"
    )
