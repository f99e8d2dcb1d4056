"""Tasks: the table is valid, rows are checked with their place, and fingerprints know the data."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from panda_trainable.metrics import METRICS, constant_logits
from panda_trainable.tasks import KINDS, METRIC_NAMES, TASKS, TaskSpec, checked_row, located, raw_rows
from tests.conftest import SHARED, needs_real_data, rows_of, write_task

SPEC = TaskSpec("t", "classification", ("a",), "label", ("no", "yes"), ("accuracy",))
REGRESSION = replace(SPEC, kind="regression", classes=(), metrics=("pearson",))
GOOD = {"a": "w1 w2", "label": 0}


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes the data folder of task `t` whose train rows are these lines."""

    def make(*lines: object, validation: tuple[object, ...] = ()) -> Path:
        write_task(tmp_path / "t", [], rows_of(4))
        for split, given in (("train", lines), ("validation", validation)):
            text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in given)
            if text:
                (tmp_path / "t" / f"{split}.jsonl").write_text(text, encoding="utf-8")
        return tmp_path

    return make


@pytest.mark.parametrize("name", TASKS)
def test_a_task_of_the_table_can_be_scored_by_its_metrics(name: str) -> None:
    spec = TASKS[name]
    assert spec.name == name
    assert spec.outputs == (len(spec.classes) if spec.kind == "classification" else 1)
    labels = np.arange(12) % spec.outputs if spec.classes else np.arange(12.0)
    perfect = np.eye(spec.outputs)[labels] if spec.classes else labels[:, None]
    for metric in spec.metrics:
        assert METRICS[metric](perfect, labels) == pytest.approx(1)
        assert METRICS[metric](constant_logits(labels, spec.outputs, 12), labels) < 1


@pytest.mark.parametrize("name", [name for name in TASKS if name.startswith("demo_")])
def test_a_demonstration_task_is_located_without_a_file(name: str, tmp_path: Path) -> None:
    found = located(TASKS[name], tmp_path)
    assert [split for split, _ in found.fingerprints] == ["train", "validation"]
    assert found.report_split == "validation"


@needs_real_data
@pytest.mark.parametrize("name", [name for name in TASKS if (SHARED / "data" / name).is_dir()])
def test_the_real_rows_of_a_task_of_the_table_are_its_rows(name: str) -> None:
    spec = replace(TASKS[name], path=str(SHARED / "data" / name))
    splits = [split for split in ("train", "validation", "test") if spec.file(split).is_file()]
    seen = {checked_row(spec, *each)[1] for split in splits for each in islice(raw_rows(spec, split), 400)}
    assert len(seen) == len(spec.classes) or spec.kind == "regression"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"a": "w1"', "train.jsonl:2: a line must be one JSON object"),
        ("", "train.jsonl:2: a line must be one JSON object"),
        ('["w1", 0]', r"train.jsonl:2: a line must be one JSON object, got '\[\"w1\", 0\]'"),
        ({"a": "w1"}, "train.jsonl:2: needs the field label; it has a"),
        ({"b": "w1"}, "train.jsonl:2: needs the field a, label; it has b"),
        ({"a": " ", "label": 1}, "train.jsonl:2: a must be a text that is not empty, got ' '"),
        ({"a": None, "label": 1}, "train.jsonl:2: a must be a text that is not empty, got None"),
        ({"a": "w1", "label": 2}, "train.jsonl:2: label must be 0 to 1 or one of no, yes, got 2"),
        ({"a": "w1", "label": -1}, "train.jsonl:2: label must be 0 to 1 .* got -1"),
        ({"a": "w1", "label": "maybe"}, "train.jsonl:2: label must be 0 to 1 .* got 'maybe'"),
        ({"a": "w1", "label": True}, "train.jsonl:2: label must be 0 to 1 .* got True"),
        ({"a": "w1", "label": 0.5}, "train.jsonl:2: label must be 0 to 1 .* got 0.5"),
    ],
)
def test_a_bad_row_is_refused_with_file_and_line(folder: Callable[..., Path], line: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        located(SPEC, folder(GOOD, line, {**GOOD, "label": 1}))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "true", '"high"', "null"])
def test_a_value_that_no_regression_can_learn_is_refused(folder: Callable[..., Path], value: str) -> None:
    with pytest.raises(ValueError, match="train.jsonl:2: label must be a number, got"):
        located(REGRESSION, folder(GOOD, '{"a": "w1", "label": %s}' % value, {**GOOD, "label": 1}))


def test_a_split_of_one_class_is_refused(folder: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="t/train: needs rows of at least two labels, has 1"):
        located(SPEC, folder(GOOD, GOOD))


def test_all_bad_rows_of_a_task_are_told_at_once(folder: Callable[..., Path]) -> None:
    bad = [{"a": "w1"}, "no json", {"a": "", "label": 0}]
    with pytest.raises(ValueError, match="train.jsonl:1") as refusal:
        located(SPEC, folder(*bad, validation=({"a": "w1", "label": 7}, GOOD)))
    places = ("train.jsonl:1: ", "train.jsonl:2: ", "train.jsonl:3: ", "validation.jsonl:1: ")
    assert [place for place in places if place not in str(refusal.value)] == []


def test_of_many_bad_rows_eight_are_shown_and_the_rest_is_counted(folder: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"train.jsonl:8: .*\(and 1 more\)"):
        located(SPEC, folder(*[{"a": "w1"}] * 9))


def test_missing_splits_are_refused_with_their_names(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="task t: train and validation or test not found in"):
        located(SPEC, tmp_path)


def test_a_class_may_be_given_by_name_or_number() -> None:
    assert checked_row(SPEC, "", {"a": "w1", "label": "yes"}) == checked_row(SPEC, "", {"a": "w1", "label": 1})


def test_a_fingerprint_knows_text_label_and_order_but_neither_name_path_nor_other_fields(
    folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    def fingerprint(rows: list[dict[str, object]], name: str = "t") -> str:
        root = tmp_path_factory.mktemp("data")
        write_task(root / name, rows, rows_of(4))
        return dict(located(replace(SPEC, name=name), root).fingerprints)["train"]

    rows = rows_of(6)
    known = fingerprint(rows)
    assert known == fingerprint([{**row, "note": i} for i, row in enumerate(rows)], name="u")
    assert known != fingerprint(rows[::-1])
    assert known != fingerprint([{**rows[0], "label": 1 - rows[0]["label"]}, *rows[1:]])
    assert known != fingerprint([{**rows[0], "a": rows[0]["a"] + "."}, *rows[1:]])


def test_a_task_with_a_test_split_is_reported_on_it(tmp_path: Path) -> None:
    write_task(tmp_path / "t", rows_of(4), rows_of(4))
    assert located(SPEC, tmp_path).report_split == "validation"
    (tmp_path / "t" / "validation.jsonl").rename(tmp_path / "t" / "test.jsonl")
    assert located(SPEC, tmp_path).report_split == "test"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "ranking"}, "task t: kind must be one of classification, regression, got 'ranking'"),
        ({"text": ("a", "b", "c")}, r"text must name one or two fields, got \('a', 'b', 'c'\)"),
        ({"metrics": ()}, r"metrics .* must be of accuracy, .* got \[\]"),
        ({"metrics": ("bleu",)}, r"metrics .* must be of accuracy, .* got \['bleu'\]"),
        ({"classes": ("no", "no")}, "classes must be different"),
        ({"classes": ("no",)}, "a classification needs at least two classes"),
        ({"kind": "regression"}, "and a regression none, got"),
        ({"metrics": ("pearson",)}, "task t: .*metrics.* got .*pearson"),
        ({"kind": "regression", "classes": (), "metrics": ("accuracy",)}, "task t: .*metrics.* got .*accuracy"),
        ({"classes": ("a", "b", "c"), "metrics": ("f1",)}, "task t: .*f1"),
    ],
)
def test_a_wrong_task_is_refused_with_its_rule(changes: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(SPEC, **changes)


def test_the_metric_names_are_those_of_the_table() -> None:
    assert set(METRIC_NAMES) == set(KINDS)
    assert {name for names in METRIC_NAMES.values() for name in names} == set(METRICS)
