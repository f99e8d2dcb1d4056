"""Answers as JSON lines or CSV; a file is written whole or not at all."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from analysis.wording import guarded
from tuning.experiment.problems import Misuse, Problem

Answers = Sequence[Mapping[str, Any]]


def as_json_lines(rows: Answers) -> str:
    """A line of JSON for each row."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_csv(rows: Answers) -> str:
    """A table with a header; a column for each probability; lists are cells of JSON, and no cell is a formula."""
    flat = [{name: _cell(value) for name, value in _flattened(row)} for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _flattened(row: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", each) for key, each in value.items())
        else:
            yield name, value


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else guarded(value)


WRITERS: Mapping[str, Callable[[Answers], str]] = MappingProxyType({"jsonl": as_json_lines, "csv": as_csv})
"""Format -> the text of answers."""


def write(text: str, file: Path) -> None:
    """Writes a file under another name, then renames it.

    Raises:
        Misuse: if it cannot be written; then nothing of it is there.
    """
    draft = file.with_name(f".{file.name}-{uuid4().hex[:8]}")
    try:
        draft.write_text(text, encoding="utf-8", newline="")
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        rule = f"cannot be written ({error.strerror or error})"
        raise Misuse(Problem(f"--out {file}", rule, remedy="name another file")) from error


def scores_text(scores: Mapping[str, float], by_seed: Mapping[int, Mapping[str, float]], labelled: int) -> str:
    """The scores of labelled rows in a line each: of the answers, and where they are the mean of several, of each replica."""
    lines = [f"{labelled} labelled rows: {_named(scores)}"]
    lines += [f"replica {seed}: {_named(own)}" for seed, own in by_seed.items() if len(by_seed) > 1]
    return "\n".join(lines)


def _named(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
