"""Tasks of a few learnable rows, of every kind."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from panda_trainable.config.kinds import KINDS
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.locate import located
from panda_trainable.training.heads import HEADS

SHARED = Path(__file__).parent.parent.parent.parent / "shared"
WORDS = [f"w{i}" for i in range(40)]

needs_real_data = pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="shared/data is not here")


SPECS = {
    "classification": TaskSpec("", "classification", ("a",), "label", ("no", "yes"), ("accuracy",)),
    "regression": TaskSpec("", "regression", ("a",), "label", (), ("pearson",)),
    "multiple_choice": TaskSpec(
        "", "multiple_choice", ("a",), "label", (), ("accuracy",), choices=("c0", "c1", "c2")
    ),
    "tagging": TaskSpec("", "tagging", ("words",), "tags", ("O", "B-X", "I-X", "B-Y"), ("entity_f1", "word_accuracy")),
    "extractive_qa": TaskSpec(
        "", "extractive_qa", ("question", "passage"), "answers", (), ("answer_f1", "exact_match")
    ),
    "generation": TaskSpec(
        "", "generation", ("a",), "summary", (), ("rouge_l", "exact_match", "answer_f1")
    ),
}  # fmt: skip
"""Kind -> a task of a few rows, which `kind_rows` makes."""

HEADED = tuple(kind for kind in KINDS if kind in HEADS)
"""Kinds that a trained head answers: all but those that a language model writes."""


def rows_of(
    n: int, classes: int = 2, pair: bool = False, seed: int = 0, kind: str = "classification"
) -> list[dict[str, Any]]:
    """Learnable rows: the class decides which third of the words is frequent."""
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        label = i % classes
        words = [
            *generator.choice(WORDS[label * 8 : label * 8 + 8], 3),
            *generator.choice(WORDS[24:], int(generator.integers(1, 6))),
        ]
        text = " ".join(generator.permutation(words))
        row = {
            "a": f"{text} {WORDS[24 + i % 16]} x{i}",
            "label": label if kind == "classification" else float(label) + 0.01 * i,
        }
        rows.append({**row, "b": f"y{i} " + text[::-1]} if pair else row)
    return rows


def kind_rows(kind: str, n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Learnable rows of a kind: single words decide class, value, choice, tags and answer."""
    if kind in ("classification", "regression"):
        return rows_of(n, seed=seed, kind=kind)
    generator = np.random.default_rng(seed)
    return [_ROW[kind](generator, i) for i in range(n)]


def _words(generator: np.random.Generator, first: int, last: int, most: int) -> list[str]:
    return [str(word) for word in generator.choice(WORDS[first:last], int(generator.integers(1, most + 1)))]


def _choice_row(generator: np.random.Generator, i: int) -> dict[str, Any]:
    """The right choice has words of the first eight, the wrong ones of the next."""
    label = i % 3
    choices = [_words(generator, *((0, 8) if choice == label else (8, 16)), 3) for choice in range(3)]
    texts = {f"c{number}": " ".join([*words, *_words(generator, 24, 40, 2)]) for number, words in enumerate(choices)}
    return {"a": f"x{i} {WORDS[24 + i % 16]}", **texts, "label": label}


def _tag_row(generator: np.random.Generator, i: int) -> dict[str, Any]:
    """`w0` to `w7` begin an X, `w8` to `w15` go on with it, `w16` to `w23` are a Y."""
    words, tags = [f"x{i}"], ["O"]
    for _ in range(int(generator.integers(1, 4))):
        words += _words(generator, 24, 40, 2)
        tags += ["O"] * (len(words) - len(tags))
        if generator.random() < 0.5:
            words += [WORDS[int(generator.integers(8))], WORDS[8 + int(generator.integers(8))]]
            tags += ["B-X", "I-X"]
        else:
            words += [WORDS[16 + int(generator.integers(8))]]
            tags += ["B-Y"]
    return {"words": words, "tags": tags}


def _answer_row(generator: np.random.Generator, i: int) -> dict[str, Any]:
    """The answer is the one word of the first eight, or two of them."""
    before, after = (" ".join(_words(generator, 24, 40, 4)) for _ in range(2))
    answer = " ".join(_words(generator, 0, 8, 2))
    passage = f"x{i} {before} {answer} {after}"
    found = {"text": [answer], "answer_start": [len(f"x{i} {before} ")]}
    return {"question": f"w20 y{i}", "passage": passage, "answers": found}


def _text_row(generator: np.random.Generator, i: int) -> dict[str, Any]:
    """What is to be written are the words of the first eight, alone right or in one text."""
    before, after = (" ".join(_words(generator, 24, 40, 4)) for _ in range(2))
    first, second = (WORDS[int(number)] for number in generator.integers(8, size=2))
    text = f"{WORDS[8 + i % 16]} {before} {first} {after} {second}"
    return {"a": text, "summary": [f"{first} {second}", first] if i % 3 else first}


_ROW = {
    "multiple_choice": _choice_row, "tagging": _tag_row, "extractive_qa": _answer_row, "generation": _text_row,
}  # fmt: skip


def write_task(folder: Path, train: list[dict[str, Any]], validation: list[dict[str, Any]]) -> Path:
    """A task's files."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in (("train", train), ("validation", validation)):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def own_task(
    folder: Path, spec: TaskSpec, train: Sequence[dict[str, Any]], validation: Sequence[dict[str, Any]] = ()
) -> TaskSpec:
    """A located task of these rows; validation is train where it is not given."""
    write_task(folder / spec.name, list(train), list(validation or train))
    return located(spec, folder)


@lru_cache(maxsize=256)
def _files(kind: str, classes: int, n: int, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Train and validation rows, which nobody changes."""
    if kind in _ROW:
        return kind_rows(kind, n, seed), kind_rows(kind, 24, seed + 99)
    return rows_of(n, classes, seed=seed, kind=kind), rows_of(24, classes, seed=seed + 99, kind=kind)


def small_task(
    folder: Path, name: str, classes: int = 2, n: int = 60, seed: int = 0, kind: str = "classification", **changes: Any
) -> TaskSpec:
    """A located task of learnable rows, its files made anew."""
    write_task(folder / name, *_files(kind, classes, n, seed))
    names = tuple(f"c{i}" for i in range(classes)) if kind == "classification" else ()
    metric = "accuracy" if kind == "classification" else "pearson"
    return located(replace(TaskSpec(name, kind, ("a",), "label", names, (metric,)), **changes), folder)


def task_of_kind(folder: Path, kind: str, name: str = "k", n: int = 60, seed: int = 0, **changes: Any) -> TaskSpec:
    """A located task of learnable rows of a kind, its files made anew."""
    write_task(folder / name, *_files(kind, 2, n, seed))
    return located(replace(SPECS[kind], name=name, **changes), folder)
