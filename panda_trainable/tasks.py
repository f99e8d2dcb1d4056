"""What a task is, and the table of those we know. Imports no torch."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from panda_trainable import demo

KINDS = ("classification", "regression")
METRIC_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "classification": ("accuracy", "f1", "macro_f1", "macro_recall", "matthews"),
        "regression": ("pearson_spearman", "pearson", "spearman"),
    }
)
"""Kind -> the metrics that fit it."""

SPLITS = ("train", "validation", "test")
DEMO = "demo:"
SHOWN = 8
"""Problems of a task's rows that are told; of the others their number."""


@dataclass(frozen=True)
class TaskSpec:
    """A task: what its rows hold and how it is scored.

    Attributes:
        name: as the experiment file calls it.
        kind: `classification` or `regression`.
        text: one field, or two that are read as a pair.
        label: the field of the label: a class number or name, or a float.
        classes: C, class names in the order of their numbers; empty for regression.
        metrics: the first is the score.
        path: folder of `<split>.jsonl`, or `demo:<name>`; empty until the task is located.
        fingerprints: (split, hash of its file) of the splits there are: the data's identity.
    """

    name: str = field(metadata={"keyed": False})
    kind: str
    text: tuple[str, ...]
    label: str
    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    path: str = field(default="", metadata={"keyed": False})
    fingerprints: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        fitting = METRIC_NAMES.get(self.kind, ())
        rules = {
            f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}": self.kind in KINDS,
            f"text must name one or two fields, got {self.text}": len(self.text) in (1, 2),
            f"metrics of a {self.kind} must be of {', '.join(fitting)}, got {list(self.metrics)}": bool(self.metrics)
            and set(self.metrics) <= set(fitting),
            f"f1 is of two classes, and there are {len(self.classes)}: use macro_f1": "f1" not in self.metrics
            or len(self.classes) == 2,
            f"classes must be different, got {self.classes}": len(set(self.classes)) == len(self.classes),
            f"a classification needs at least two classes and a regression none, got {self.classes}": (
                self.kind == "regression"
            )
            == (not self.classes)
            and len(self.classes) != 1,
        }
        broken = [rule for rule, holds in rules.items() if not holds]
        if broken:
            raise ValueError(f"task {self.name}: " + "; ".join(broken))

    @property
    def outputs(self) -> int:
        """C: logits per example; 1 for regression."""
        return len(self.classes) or 1

    def file(self, split: str) -> Path:
        """The file of a split."""
        return Path(self.path) / f"{split}.jsonl"

    @property
    def report_split(self) -> str:
        """The labelled test split where there is one, else validation."""
        return "test" if "test" in dict(self.fingerprints) else "validation"


def _classification(text: str, classes: str, metrics: str = "accuracy") -> TaskSpec:
    return TaskSpec("", "classification", tuple(text.split()), "label", tuple(classes.split()), tuple(metrics.split()))


_NLI = "premise hypothesis"
_PAIR = "sentence1 sentence2"

TASKS: Mapping[str, TaskSpec] = MappingProxyType(
    {
        name: replace(spec, name=name)
        for name, spec in {
            "cb": _classification(_NLI, "entailment contradiction neutral", "accuracy macro_f1"),
            "rte": _classification(_NLI, "entailment not_entailment"),
            "xnli_en": _classification(_NLI, "entailment neutral contradiction"),
            "qnli": _classification("question sentence", "entailment not_entailment"),
            "mrpc": _classification(_PAIR, "different equivalent", "accuracy f1"),
            "stsb": TaskSpec(
                "", "regression", tuple(_PAIR.split()), "label", (), ("pearson_spearman", "pearson", "spearman")
            ),
            "sst2": _classification("sentence", "negative positive"),
            "cr": _classification("sentence", "negative positive"),
            "trec": _classification("sentence", "abbreviation entity description human location number"),
            "cola": _classification("sentence", "unacceptable acceptable", "matthews accuracy"),
            "demo_reviews": _classification("sentence", "negative positive"),
            "demo_meals": _classification("sentence", "negative positive"),
            "demo_questions": _classification("sentence", "person place time quantity"),
            "demo_requests": _classification("sentence", "person place time quantity"),
        }.items()
    }
)
"""Name -> the tasks known by name; `demo_*` are constructed and need no files."""


def raw_rows(task: TaskSpec, split: str) -> Iterator[tuple[str, str | dict[str, Any]]]:
    """The rows of a split with their places `file:line`: lines as they stand, or constructed rows."""
    if task.path.startswith(DEMO):
        for number, row in enumerate(demo.rows(task.path.removeprefix(DEMO), split), 1):
            yield f"{task.path}/{split}:{number}", row
        return
    with task.file(split).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            yield f"{task.file(split)}:{number}", line


def checked_row(task: TaskSpec, place: str, row: str | dict[str, Any]) -> tuple[tuple[str, ...], float]:
    """Texts and label (class number or value) of one row.

    Raises:
        ValueError: if it is no JSON object, a field is missing, a text is empty or no text, or the
            label is not the task's.
    """
    values = _parsed(place, row) if isinstance(row, str) else row
    missing = [name for name in (*task.text, task.label) if name not in values]
    if missing:
        raise ValueError(f"{place}: needs the field {', '.join(missing)}; it has {', '.join(values)}")
    texts = tuple(values[name] for name in task.text)
    for name, text in zip(task.text, texts, strict=True):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{place}: {name} must be a text that is not empty, got {text!r}")
    return texts, _label(task, place, values[task.label])


def _parsed(place: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: a line must be one JSON object ({error})") from error
    if not isinstance(row, dict):
        raise ValueError(f"{place}: a line must be one JSON object, got {line.strip()[:40]!r}")
    return row


def _label(task: TaskSpec, place: str, label: Any) -> float:
    if task.kind == "regression":
        if not isinstance(label, int | float) or isinstance(label, bool) or not math.isfinite(label):
            raise ValueError(f"{place}: {task.label} must be a number, got {label!r}")
        return float(label)
    if isinstance(label, str) and label in task.classes:
        return float(task.classes.index(label))
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(task.classes):
        return float(label)
    raise ValueError(
        f"{place}: {task.label} must be 0 to {len(task.classes) - 1} or one of {', '.join(task.classes)}, got {label!r}"
    )


def located(task: TaskSpec, data: Path) -> TaskSpec:
    """The task with its folder and the fingerprints of its files, its rows checked.

    Args:
        task: a row of TASKS or a task of the experiment file.
        data: the folder that holds `<task>/<split>.jsonl`.

    Raises:
        ValueError: if a split is missing or a row is wrong; all problems of the task at once.
    """
    path = DEMO + task.name if task.name in demo.DEMO and not task.path else str(data / (task.path or task.name))
    task = replace(task, path=path)
    if path.startswith(DEMO):
        splits = [split for split in SPLITS if split != "test"]
    else:
        splits = [split for split in SPLITS if task.file(split).is_file()]
    missing = [split for split in ("train",) if split not in splits]
    missing += [] if {"validation", "test"} & set(splits) else ["validation or test"]
    if missing:
        raise ValueError(
            f"task {task.name}: {' and '.join(missing)} not found in {path}: it must hold train.jsonl "
            "and validation.jsonl or test.jsonl"
        )
    problems: list[str] = []
    fingerprints = tuple((split, fingerprint(task, split, problems)) for split in splits)
    if problems:
        more = f" (and {len(problems) - SHOWN} more)" if len(problems) > SHOWN else ""
        raise ValueError("\n".join(problems[:SHOWN]) + more)
    return replace(task, fingerprints=fingerprints)


def fingerprint(task: TaskSpec, split: str, problems: list[str]) -> str:
    """Hash of a split's texts and labels; what is wrong with its rows is added to the problems."""
    digest, labels, wrong = hashlib.sha256(), set(), len(problems)
    try:
        for place, row in raw_rows(task, split):
            try:
                texts, label = checked_row(task, place, row)
            except ValueError as error:
                problems.append(str(error))
                continue
            labels.add(label)
            digest.update(json.dumps([texts, label]).encode())
    except UnicodeDecodeError as error:
        problems.append(f"{task.file(split)}: must be UTF-8 ({error})")
    if len(problems) == wrong and len(labels) < 2:
        problems.append(f"{task.path}/{split}: needs rows of at least two labels, has {len(labels)}")
    return digest.hexdigest()[:20]
