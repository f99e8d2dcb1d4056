"""Rows of a task: read, prepared, and checked with their places. Imports no torch."""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from panda_trainable.config.origin import ClassValue, Note
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.labels import class_number, is_empty, is_padding, is_unlabelled
from panda_trainable.data.prepare import PREPARE, is_unicode, is_whole, text_of
from panda_trainable.origins.fields import Fields, length_inside, printed, printed_list, renamed
from panda_trainable.origins.lines import listed, shown
from panda_trainable.origins.tables import looks_like_row, proposed

IMBALANCED = 10
"""Times that the largest class may be the smallest before it is named."""


ReadLabel = Callable[[TaskSpec, Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Example:
    """A checked row.

    Attributes:
        texts: the texts of each sequence that the PLM reads: one sequence of one or two texts, or one
            per choice; for tagging the words.
        label: class or choice number, value, tag numbers, the answers as (start, text), or the texts that are right.
        compared: texts that tell whether rows share one.
        question: what rows of one question have in common; empty where it does not matter.
        values: what a language model's template is filled with, where the task is asked so.
    """

    texts: tuple[tuple[str, ...], ...]
    label: Any
    compared: tuple[str, ...]
    question: str = ""
    values: tuple[str, ...] = ()


@dataclass
class Findings:
    """What reading rows finds beside the rows.

    Attributes:
        problems: what is wrong, each with its place.
        notes: what is worth knowing.
        left_out: rows that are left out, by reason.
        padding: words that are left out for their tag, -100.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    padding: int = 0


def examples(task: TaskSpec, split: str, findings: Findings) -> Iterator[Example]:
    """The checked rows of a split; what is wrong with others is added to the findings, with its place."""
    seen: dict[Any, str] = {}
    fields = fields_of_files(task)
    for place, row in task.origin.rows(split):
        if isinstance(row, Note):
            findings.notes.append(f"{place}: {row.text}")
            continue
        if isinstance(row, str):
            findings.problems.append(f"{place}: {row}")
            continue
        try:
            whole = fields.of(row)
            whole = without_padding(task, whole, findings) if task.kind == "tagging" else whole
            _check_id(task, place, whole, seen)
            for prepared in PREPARE[task.prepare](whole) if task.prepare else (whole,):
                example = checked_row(task, prepared)
                if example is None:
                    findings.left_out[_why_left_out(task, prepared)] += 1
                else:
                    yield example
        except ValueError as error:
            findings.problems.append(f"{place}: {error}")


def fields_of_files(task: TaskSpec) -> Fields:
    """What the task's fields are called in its files, on the hub and as it was first published."""
    columns = task.hub.columns if task.hub else {}
    others = task.original.fields if task.original else {}
    classes = tuple(task.original.classes.items()) if task.original else ()
    return Fields(renamed(columns, others), task.nested, task.label, classes, task.choices_in)


def _why_left_out(task: TaskSpec, row: Mapping[str, Any]) -> str:
    if task.choices_in and length_inside(row, task.choices_in) != len(task.choices):
        return f"with another number of choices than {len(task.choices)}"
    if task.rows_kind == "extractive_qa":
        return UNANSWERED
    if is_empty(row.get(task.label)):
        return "with an empty label"
    return UNLABELLED if is_unlabelled(row.get(task.label)) else "of rare classes"


UNLABELLED = "without a label (-1, nan, ? or -)"
UNANSWERED = "without an answer (is_impossible)"
"""Why rows are left out."""


def _check_id(task: TaskSpec, place: str, row: Mapping[str, Any], seen: dict[Any, str]) -> None:
    value = row.get(task.id) if task.id else None
    if value is None or value == "" or isinstance(value, list | dict):
        return
    if value in seen:
        raise ValueError(
            f"{task.id} {shown(value)} stands at {seen[value]} too; ids must differ: remove a row, or name another field with `id:`"
        )
    seen[value] = place


def checked_row(task: TaskSpec, row: Mapping[str, Any]) -> Example | None:
    """A row as an example; None: it has no label, or one of a class that is dropped.

    Raises:
        ValueError: if a field is missing, a text is empty or no text, or the label is not the task's.
    """
    if task.choices_in and length_inside(row, task.choices_in) not in (None, len(task.choices)):
        return None
    if missing := [name for name in task.fields if name not in row]:
        raise ValueError(problem_of_missing(missing, row, "`text` or `label`"))
    if task.kind == "tagging":
        return _tagged(task, row)
    texts = _texts(task, row)
    sequences = tuple((*texts, text_of(row, choice)) for choice in task.choices) or (texts,)
    read: ReadLabel = _LABELS.get(task.rows_kind, _label)
    label = read(task, row)
    if label is None:
        return None
    question = json.dumps([row[name] for name in task.question], default=str) if task.question else ""
    compared = tuple("" if row[name] is None else str(row[name]) for name in task.compared_fields)
    return Example(sequences, label, compared, question, _values(task, row, texts))


def _values(task: TaskSpec, row: Mapping[str, Any], texts: Sequence[str]) -> tuple[str, ...]:
    """What the template of a task that is asked so is filled with: fields, or whole texts by their numbers."""
    names = task.asked.names if task.asked else ()
    return tuple(texts[int(name) - 1] if name.isdecimal() else text_of(row, name, may_be_empty=True) for name in names)


def problem_of_missing(missing: Sequence[str], row: Mapping[str, Any], keys: str) -> str:
    """What to do about fields that a row has not: name others, or the columns of a file without a header line."""
    if len(row) == 1 and " " in next(iter(row)):
        remedy = "if something divides its columns, name it by `delimiter` of the task"
    elif looks_like_row(row):
        remedy = f"the first line seems to be a row, not the names of the columns: write {proposed(len(row))}"
    else:
        remedy = f"rename the field, or name the right one in {keys} of the task"
        if all(isinstance(value, str) for value in row.values()):  # as those of tables are
            remedy += f"; if the first line of the file is a row, write {proposed(len(row))}"
    return f"needs the field {', '.join(missing)}; it has {listed(row)}: {remedy}"


def _texts(task: TaskSpec, row: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts of a row; of a pair that is no question about a passage one may be empty."""
    pair = len(task.text) == 2 and task.rows_kind != "extractive_qa"
    texts = tuple(text_of(row, text, may_be_empty=pair) for text in task.text)
    if pair and not any(text.strip() for text in texts):
        text_of(row, task.text[0])  # which refuses it
    return texts


def _tagged(task: TaskSpec, row: Mapping[str, Any]) -> Example:
    words, tags = (words_in(row[name]) for name in (task.text[0], task.label))
    if not words or not all(isinstance(word, str) and word.strip() and is_unicode(word) for word in words):
        raise ValueError(f"{task.text[0]} must be a list of words that are not empty, got {shown(row[task.text[0]])}")
    if tags is None or len(tags) != len(words):
        raise ValueError(
            f"each word needs its tag, got {len(words)} words and {shown(row[task.label])} as {task.label}"
        )
    numbers = [class_number(task, tag) for tag in tags]
    if None in numbers:
        raise ValueError(f"{task.label} must be tags, got {shown(row[task.label])}")
    return Example((tuple(words),), tuple(numbers), (" ".join(words),))


def words_in(value: Any) -> list[Any] | None:
    """A list as it is; of a text (from CSV) the list that it prints, or else its words."""
    if isinstance(value, str) and value.strip().startswith("[") and value.strip().endswith("]"):
        return printed_list(value)
    if isinstance(value, str):
        return [word for word in re.split(r"[ \t\r\n]+", value) if word]
    return value if isinstance(value, list) else None


def without_padding(task: TaskSpec, row: dict[str, Any], findings: Findings) -> dict[str, Any]:
    """A row of tags without the words that are tagged -100: padding, special tokens and the later pieces of words.

    A piece that begins with ## is joined with the word before.
    """
    words, tags = (words_in(row.get(name)) for name in (task.text[0], task.label))
    if not words or not tags or len(words) != len(tags) or not any(map(is_padding, tags)):
        return row
    kept: list[tuple[Any, Any]] = []
    for word, tag in zip(words, tags, strict=True):
        if not is_padding(tag):
            kept.append((word, tag))
        elif kept and isinstance(word, str) and word.startswith("##"):
            kept[-1] = (f"{kept[-1][0]}{word[2:]}", kept[-1][1])
    findings.padding += len(words) - len(kept)
    return {**row, task.text[0]: [word for word, _ in kept], task.label: [tag for _, tag in kept]}


def _answers(task: TaskSpec, row: Mapping[str, Any]) -> tuple[tuple[int, str], ...] | None:
    """The answers of a row, each with its start; None: the question has none."""
    said, passage = row[task.label], row[task.text[1]] if task.text[1] in row else text_of(row, task.text[1])
    said = printed(said) or said if isinstance(said, str) else said  # as pandas writes it into CSV
    if isinstance(said, list) and all(isinstance(each, Mapping) for each in said):
        said = {key: [each.get(key) for each in said] for key in ("text", "answer_start")}
    rule = f'{task.label} must be {{"text": [...], "answer_start": [...]}} with at least one answer'
    if not isinstance(said, Mapping) or not all(isinstance(said.get(k), list) for k in ("text", "answer_start")):
        raise ValueError(f"{rule}, got {shown(said)}")
    if not said["text"] and not said["answer_start"]:
        return None
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


def _texts_to_write(task: TaskSpec, row: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The texts that are right, the first of which is learnt; None: there is none."""
    said = row[task.label]
    said = printed(said) or said if isinstance(said, str) else said  # as pandas writes lists into CSV
    said = said.get("text") if isinstance(said, Mapping) else said
    if is_empty(said):
        return None
    texts = [
        text.name if isinstance(text, ClassValue) else text for text in (said if isinstance(said, list) else [said])
    ]
    if not all(isinstance(text, str) and text.strip() and is_unicode(text) for text in texts):
        raise ValueError(
            f"{task.label} must be a text, or a list of texts that are all right, none of them empty, got {shown(row[task.label])}"
        )
    return tuple(str(text).strip() for text in texts)


def _label(task: TaskSpec, row: Mapping[str, Any]) -> float | None:
    number = class_number(task, row[task.label])
    return None if number is None else float(number)


def _value(task: TaskSpec, row: Mapping[str, Any]) -> float | None:
    label = row[task.label]
    if is_empty(label):  # -1 is a value like any other
        return None
    try:
        label = label.name if isinstance(label, ClassValue) else label
        value = float(label) if isinstance(label, str | int | float) and not isinstance(label, bool) else math.nan
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{task.label} must be a number, got {shown(label)}")
    return value


_LABELS: Mapping[str, ReadLabel] = MappingProxyType(
    {"regression": _value, "extractive_qa": _answers, "generation": _texts_to_write}
)
"""Kind -> what reads a row's label; of others the number of a class or choice. None: the row has no label."""


def fingerprint(found: Iterable[Example]) -> str:
    """Hash of rows in their order, texts, labels and what ties them: the data's identity, whatever its file."""
    digest = hashlib.sha256()
    for example in found:
        single = example.texts[0] if len(example.texts) == 1 else example.texts
        tied = [] if example.compared == single and not example.question else [example.compared, example.question]
        digest.update(json.dumps([single, example.label, *tied]).encode())
    return digest.hexdigest()[:20]


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
