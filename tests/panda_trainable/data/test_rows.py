"""Rows: each task's template by hand, what is refused and where it stands, and what a fingerprint knows."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from panda_trainable.config.origin import ClassValue, Unlocated
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.classes import SHOWN
from panda_trainable.data.locate import located
from panda_trainable.data.prepare import PREPARE
from panda_trainable.data.rows import Example, Findings, checked_row, examples, imbalance
from panda_trainable.data.task_table import TASKS
from panda_trainable.origins.folder import FolderFiles
from tests.kits.tasks import rows_of, write_task

SPEC = TaskSpec("t", "classification", ("a",), "label", ("no", "yes"), ("accuracy",))
REGRESSION = replace(SPEC, kind="regression", classes=(), metrics=("pearson",))
CHOICE = TaskSpec("t", "multiple_choice", ("a",), "label", (), ("accuracy",), choices=("b", "c"))
GOOD: list[dict[str, Any]] = [{"a": "w1 w2", "label": 0}, {"a": "w3", "label": 1}]

WIC = {"word": "place", "sentence1": "Come to my place.", "sentence2": "No place for it.", "label": 0}
WIC_SPANS = {"start1": 11, "end1": 16, "start2": 3, "end2": 8}
WSC = {"text": "Mark told Pete lies . He lied .", "span1_text": "Mark", "span2_text": "He", "label": 1}
COPA = {"premise": "It rained.", "choice1": "I got wet.", "choice2": "It was dry.", "question": "effect", "label": 0}
MULTIRC = {"paragraph": "Ann ate.", "question": "Who ate?", "answer": "Ann", "label": 1}
BOOLQ = {"question": "is it so", "passage": "It is so.", "label": 1}
RECORD = {
    "passage": "Ann met Bob in Rome.",
    "query": "@placeholder is a town; @placeholder is old.",
    "entities": ["Ann", "Rome"],
    "answers": ["Rome"],
}
SQUAD = {"question": "Who?", "context": "Ann and Bob.", "answers": {"text": ["Ann", "Bob"], "answer_start": [0, 8]}}
GOOD_RTE = [{"premise": f"w{i}", "hypothesis": "w", "label": i} for i in range(2)]
CONLL = {"words": ["EU", "rejects"], "tags": ["B-ORG", "O"]}

Folder = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Makes the data folder of a task whose train rows are these lines: folder(*lines, of=SPEC, validation=())."""

    def make(*lines: object, of: TaskSpec = SPEC, validation: Sequence[object] = GOOD) -> Path:
        (tmp_path / of.name).mkdir(exist_ok=True)
        for split, given in (("train", lines), ("validation", validation)):
            texts = [line if isinstance(line, str) else json.dumps(line) for line in given]
            (tmp_path / of.name / f"{split}.jsonl").write_text("\n".join([*texts, ""]), encoding="utf-8")
        return tmp_path

    return make


@pytest.fixture
def refusal(folder: Folder) -> Callable[..., str]:
    """The refusal of a task with these train rows, without the data folder."""

    def told(*lines: object, of: TaskSpec = SPEC, validation: Sequence[object] = GOOD) -> str:
        data = folder(*lines, of=of, validation=validation)
        with pytest.raises(ValueError, match=of.name) as refused:
            located(of, data)
        return str(refused.value).replace(f"{data}/", "")

    return told


@pytest.fixture
def prepared(folder: Folder) -> Callable[..., list[Example]]:
    """The examples of a row of a task of the table; its problems fail the test."""

    def make(name: str, row: dict[str, Any]) -> list[Example]:
        data, problems = folder(row, of=TASKS[name]), []
        made = list(examples(replace(TASKS[name], origin=FolderFiles(data / name)), "train", problems))
        assert problems == []
        return made

    return make


@pytest.mark.parametrize(
    ("name", "row", "texts", "label", "compared"),
    [
        ("boolq", BOOLQ, [("is it so", "It is so.")], 1, ("is it so", "It is so.")),
        ("multirc", MULTIRC, [("Ann ate.", "Who ate? Ann")], 1, ("Ann ate.",)),
        ("multirc", {**MULTIRC, "answer": ""}, [("Ann ate.", "Who ate? ")], 1, ("Ann ate.",)),
        (
            "wic",
            {**WIC, **WIC_SPANS},
            [("Come to my place. No place for it. Does place have the same meaning in both sentences?",)],
            0,
            ("Come to my place.", "No place for it."),
        ),
        (
            "wsc",
            {**WSC, "span1_index": 0, "span2_index": 5},
            [("He: Mark told Pete lies . He lied .", "Mark")],
            1,
            ("Mark told Pete lies . He lied .",),
        ),
        ("copa", COPA, [("It rained. so", "I got wet."), ("It rained. so", "It was dry.")], 0, ("It rained.",)),
        (
            "copa",
            {**COPA, "question": "cause", "label": 1},
            [("It rained. because", "I got wet."), ("It rained. because", "It was dry.")],
            1,
            ("It rained.",),
        ),
        ("squad", SQUAD, [("Who?", "Ann and Bob.")], ((0, "Ann"), (8, "Bob")), ("Ann and Bob.",)),
        ("conll03", CONLL, [("EU", "rejects")], (3, 0), ("EU rejects",)),
        ("conll03", {"words": "EU rejects", "tags": "B-ORG O"}, [("EU", "rejects")], (3, 0), ("EU rejects",)),
        ("conll03", {"words": ["EU", "rejects"], "tags": [3, 0]}, [("EU", "rejects")], (3, 0), ("EU rejects",)),
    ],
)
def test_a_row_reads_as_its_template_says(
    prepared: Callable[..., list[Example]],
    name: str,
    row: dict[str, Any],
    texts: list[tuple[str, ...]],
    label: Any,
    compared: tuple[str, ...],
) -> None:
    (example,) = prepared(name, row)
    assert (list(example.texts), example.label, example.compared) == (texts, label, compared)


def test_record_has_a_row_for_each_entity_in_every_placeholder(prepared: Callable[..., list[Example]]) -> None:
    passage = RECORD["passage"]
    assert [(example.texts, example.label) for example in prepared("record", RECORD)] == [
        (((passage, "Ann is a town; Ann is old."),), 0),
        (((passage, "Rome is a town; Rome is old."),), 1),
    ]


def test_rows_of_multirc_with_one_paragraph_and_question_are_one_question(
    prepared: Callable[..., list[Example]],
) -> None:
    changes = ({}, {"answer": "Bob", "label": 0}, {"question": "Who slept?"}, {"paragraph": "Bob ate."})
    first, *others = (prepared("multirc", {**MULTIRC, **change})[0].question for change in changes)
    assert [other == first for other in others] == [True, False, False]
    assert prepared("boolq", BOOLQ)[0].question == ""


def test_braces_in_a_text_are_text() -> None:
    spec = replace(SPEC, text=("{a} of {b}", "{{{c}}}"))
    row = {"a": "{b}", "b": "{}", "c": "{c!r}", "label": 0}
    assert checked_row(spec, row).texts == (("{b} of {}", "{{c!r}}"),)


@pytest.mark.parametrize(
    ("name", "row", "told"),
    [
        ("copa", {**COPA, "question": "why"}, "question must be cause or effect, got 'why'"),
        ("copa", {**COPA, "question": ["cause"]}, "question must be cause or effect, got ['cause']"),
        ("copa", {**COPA, "premise": ""}, "premise must be a text that is not empty, got ''"),
        ("copa", {**COPA, "choice2": " "}, "choice2 must be a text that is not empty, got ' '"),
        ("copa", {**COPA, "label": 2}, "label must be one of 0, 1, got 2"),
        ("copa", {k: v for k, v in COPA.items() if k != "question"}, "question must be cause or effect, got None"),
        ("wic", {**WIC, **WIC_SPANS, "end2": 99}, "start2 and end2 must lie in sentence2 of 16 characters, got 3 to 99"),
        ("wic", {**WIC, **WIC_SPANS, "start1": -1}, "start1 and end1 must lie in sentence1 of 17 characters, got -1 to 16"),
        ("wic", {**WIC, **WIC_SPANS, "start1": 16}, "start1 and end1 must lie in sentence1"),
        ("wic", {**WIC, **WIC_SPANS, "start1": 1.5}, "start1 and end1 must lie in sentence1"),
        ("wic", {**WIC, **WIC_SPANS, "start1": "--1"}, "start1 and end1 must lie in sentence1"),
        ("wic", {**WIC, **WIC_SPANS, "end2": [8]}, "start2 and end2 must lie in sentence2"),
        ("wic", {**WIC, "word": None}, "word must be a text that is not empty, got None"),
        ("wsc", {**WSC, "span2_index": 8}, "span2_index must place 'He' within the 8 words of text, got 8"),
        ("wsc", {**WSC, "span1_text": "told Pete", "span1_index": 7}, "span1_index must place 'told Pete' within the 8 words"),
        ("wsc", {**WSC, "span1_index": -1}, "span1_index must place 'Mark' within the 8 words of text, got -1"),
        ("wsc", {**WSC, "span1_index": "first"}, "span1_index must place 'Mark' within the 8 words of text, got 'first'"),
        ("record", {**RECORD, "query": "no blank"}, "query must be a text with @placeholder, got 'no blank'"),
        ("record", {**RECORD, "entities": []}, "entities and answers must be lists of texts, with at least one entity"),
        ("record", {**RECORD, "answers": "Rome"}, "entities and answers must be lists of texts"),
        ("record", {**RECORD, "entities": ["Ann", None]}, "entities and answers must be lists of texts"),
        ("squad", {**SQUAD, "answers": "Ann"}, 'answers must be {"text": [...], "answer_start": [...]}'),
        ("squad", {**SQUAD, "answers": {"text": ["Ann"]}}, 'answers must be {"text": [...], "answer_start": [...]}'),
        ("squad", {**SQUAD, "answers": {"text": ["Ann"], "answer_start": [0, 8]}}, "got 1 texts and 2 starts"),
        ("squad", {**SQUAD, "answers": {"text": [""], "answer_start": [0]}}, "an answer must be a text that is not empty, got ''"),
        (
            "squad",
            {**SQUAD, "answers": {"text": ["Bob"], "answer_start": [7]}},
            "an answer must stand in context where answer_start says, but 'Bob' is not at 7 of its 12 characters",
        ),
        ("squad", {**SQUAD, "answers": {"text": ["Bob."], "answer_start": [-4]}}, "'Bob.' is not at -4 of its 12 characters"),
        ("squad", {**SQUAD, "answers": {"text": ["Ann"], "answer_start": [999]}}, "'Ann' is not at 999 of its 12 characters"),
        ("squad", {**SQUAD, "answers": {"text": ["Ann"], "answer_start": ["--0"]}}, "'Ann' is not at '--0' of its 12"),
        ("conll03", {**CONLL, "tags": ["O"]}, "each word needs its tag, got 2 words and ['O'] as tags"),
        ("conll03", {**CONLL, "tags": None}, "each word needs its tag, got 2 words and None as tags"),
        ("conll03", {**CONLL, "words": ["EU", " "]}, "words must be a list of words that are not empty, got ['EU', ' ']"),
        ("conll03", {**CONLL, "words": []}, "words must be a list of words that are not empty, got []"),
        ("conll03", {**CONLL, "words": {"EU": "rejects"}}, "words must be a list of words that are not empty"),
        ("conll03", {**CONLL, "tags": ["B-Org", "O"]}, ", I-MISC, got 'B-Org' (did you mean B-ORG?)"),
        ("conll03", {**CONLL, "tags": [9, 0]}, "tags must be 0 to 8 or one of O, B-PER, "),
    ],
)  # fmt: skip
def test_a_row_that_is_not_its_task_s_is_refused_with_its_line(
    refusal: Callable[..., str], name: str, row: dict[str, Any], told: str
) -> None:
    said = refusal(row, of=TASKS[name], validation=[row]).splitlines()[0]
    assert said.startswith(f"{name}/train.jsonl:1: ")
    assert told in said


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"a": "w1"', "a line must be one JSON object"),
        ('["w1", 0]', "a line must be one JSON object, got '[\"w1\", 0]'"),
        ({"a": "w1"}, "needs the field label; it has a"),
        ({"b": "w1"}, "needs the field a, label; it has b"),
        ({}, "needs the field a, label; it has none"),
        ({"first\nname": "w1", "label": 1}, "needs the field a; it has "),
        ({"a": " ", "label": 1}, "a must be a text that is not empty, got ' '"),
        ({"a": "", "label": 1}, "a must be a text that is not empty, got ''"),
        ({"a": None, "label": 1}, "a must be a text that is not empty, got None"),
        ({"a": 3, "label": 1}, "a must be a text that is not empty, got 3"),
        ({"a": ["w1"], "label": 1}, "a must be a text that is not empty, got ['w1']"),
        ({"a": "w1", "label": 2}, "label must be 0 to 1 or one of no, yes, got 2"),
        ({"a": "w1", "label": -2}, "label must be 0 to 1 or one of no, yes, got -2"),
        ({"a": "w1", "label": "--1"}, "label must be 0 to 1 or one of no, yes, got '--1'"),
        ({"a": "w1", "label": "1" + "0" * 5000}, "label must be 0 to 1 or one of no, yes, got '1000"),
        ({"a": "w1", "label": 10**400}, "label must be 0 to 1 or one of no, yes, got 1000"),
        ({"a": "w1", "label": 1e308}, "label must be 0 to 1 or one of no, yes, got 1e+308"),
        ({"a": "w1", "label": "²"}, "label must be 0 to 1 or one of no, yes, got '²'"),
        ({"a": "w1", "label": "maybe"}, "label must be 0 to 1 or one of no, yes, got 'maybe'"),
        ({"a": "w1", "label": "Yes"}, "label must be 0 to 1 or one of no, yes, got 'Yes' (did you mean yes?)"),
        ({"a": "w1", "label": "it was good to see"}, "(that looks like a text: is label the field of the label?)"),
        ({"a": "w1", "label": 0.5}, "label must be 0 to 1 or one of no, yes, got 0.5"),
        ({"a": "w1", "label": [1]}, "label must be 0 to 1 or one of no, yes, got [1]"),
        ('{"a": "w1", "label": Infinity}', "label must be 0 to 1 or one of no, yes, got inf"),
        ('{"a": "half \\ud83d of a pair", "label": 1}', "a must be a text"),
    ],
)
def test_a_bad_row_is_refused_with_file_and_line(refusal: Callable[..., str], line: object, told: str) -> None:
    (said,) = refusal(GOOD[0], line, GOOD[1]).splitlines()
    assert said.startswith("t/train.jsonl:2: ")
    assert told in said


def test_a_template_with_all_fields_empty_is_refused_and_with_one_it_is_not() -> None:
    spec = replace(SPEC, text=("{a} {b}",))
    assert checked_row(spec, {"a": "", "b": "w1", "label": 0}).texts == ((" w1",),)
    with pytest.raises(ValueError, match="a must be a text that is not empty, got ''"):
        checked_row(spec, {"a": "", "b": " ", "label": 0})


@pytest.mark.parametrize(
    ("classes", "label", "number"),
    [
        (("no", "yes"), "yes", 1),
        (("no", "yes"), " yes ", 1),
        (("no", "yes"), 1, 1),
        (("no", "yes"), "1", 1),
        (("no", "yes"), 1.0, 1),
        (("no", "yes"), "1.0", 1),
        (("no", "yes"), True, 1),
        (("no", "yes"), False, 0),
        (("no", "yes"), "TRUE", 1),
        (("no", "yes"), "False", 0),
        (("no", "yes"), ClassValue(0, ("yes", "no")), 1),
        (("no", "yes"), ClassValue(0, ("YES", "NO")), 1),
        (("no", "yes"), ClassValue(0, ("negative", "positive")), 0),
        (("1", "2", "0"), "1.0", 0),
        (("false", "true"), True, 1),
        (("false", "true"), "true", 1),
        (("true", "false"), True, 0),
        (("true", "false"), 0, 0),
        (("1", "2", "0"), 1, 0),
        (("1", "2", "0"), "1", 0),
        (("1", "2", "0"), 2.0, 1),
        (("1", "2", "0"), 0, 2),
        (("-1", "1"), -1, 0),
    ],
)
def test_a_class_is_known_by_its_name_or_else_by_its_number(
    classes: tuple[str, ...], label: object, number: int
) -> None:
    assert checked_row(replace(SPEC, classes=classes), {"a": "w1", "label": label}).label == number


@pytest.mark.parametrize("label", [0, 3, "3", 0.5, "no"])
def test_where_classes_are_named_like_numbers_only_names_are_classes(label: object) -> None:
    with pytest.raises(ValueError, match="^label must be one of 1, 2, got "):
        checked_row(replace(SPEC, classes=("1", "2")), {"a": "w1", "label": label})


@pytest.mark.parametrize(("label", "number"), [(0, 0), ("1", 1), (1.0, 1), ("A", 0), ("b", 1), ("1.0", 1)])
def test_a_choice_is_known_by_its_number(label: object, number: int) -> None:
    assert checked_row(CHOICE, {"a": "w1", "b": "w2", "c": "w3", "label": label}).label == number


@pytest.mark.parametrize(("label", "value"), [(2, 2), (2.5, 2.5), ("2.5", 2.5), (" -1e3 ", -1000), (0, 0)])
def test_a_value_may_be_a_number_or_its_text(label: object, value: float) -> None:
    assert checked_row(REGRESSION, {"a": "w1", "label": label}).label == value


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "true", '"high"', '"nan"', "[1]", "1" + "0" * 400])
def test_a_value_that_no_regression_can_learn_is_refused(refusal: Callable[..., str], value: str) -> None:
    said = refusal(GOOD[0], '{"a": "w1", "label": %s}' % value, GOOD[1], of=REGRESSION)
    assert said.startswith("t/train.jsonl:2: label must be a number, got ")


def test_an_id_that_stands_twice_is_refused_with_both_places(refusal: Callable[..., str]) -> None:
    rows = [{**row, "id": name} for row, name in zip([*GOOD, *GOOD], ["q1", "q2", "q3", "q1"], strict=True)]
    said = refusal(*rows)
    assert said.startswith("t/train.jsonl:4: id 'q1' stands at ")
    assert "t/train.jsonl:1 too; ids must differ: remove a row, or name another field with `id:`" in said


def test_the_field_of_ids_may_be_another_or_none(folder: Folder) -> None:
    rows = [{**row, "id": "same", "key": str(number)} for number, row in enumerate(GOOD)]
    data = folder(*rows)
    assert located(replace(SPEC, id=""), data).counts == located(replace(SPEC, id="key"), data).counts
    with pytest.raises(ValueError, match="key '0' stands at"):
        located(replace(SPEC, id="key"), folder(*rows, rows[0]))


def test_rows_without_an_id_have_none_and_splits_may_share_them(folder: Folder) -> None:
    rows = [{**row, "id": number} for number, row in enumerate(GOOD)]
    found = located(SPEC, folder(*rows, *GOOD, *({**row, "id": None} for row in GOOD), validation=rows))
    assert dict(found.counts) == {"train": (3, 3), "validation": (1, 1)}


def test_an_empty_cell_is_no_id(tmp_path: Path) -> None:
    write_task(tmp_path / "t", [], GOOD)
    (tmp_path / "t" / "train.jsonl").unlink()
    (tmp_path / "t" / "train.csv").write_text("id,a,label\n,w1,0\n,w2,1\n")
    assert dict(located(SPEC, tmp_path).counts)["train"] == (1, 1)


def test_classes_and_choices_are_counted_and_values_tags_and_answers_are_not(folder: Folder) -> None:
    assert located(SPEC, folder(*GOOD, GOOD[1])).counts == (("train", (1, 2)), ("validation", (1, 1)))
    choices = [{"a": "w1", "b": "w2", "c": "w3", "label": label} for label in (0, 1, 1)]
    assert dict(located(CHOICE, folder(*choices, validation=choices)).counts)["train"] == (1, 2)
    assert located(REGRESSION, folder(*GOOD)).counts == ()
    for name, row in (("conll03", CONLL), ("squad", SQUAD)):
        assert located(TASKS[name], folder(row, of=TASKS[name], validation=[row])).counts == ()


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_of_one_class_is_refused(refusal: Callable[..., str], split: str) -> None:
    splits: dict[str, Sequence[object]] = {"train": GOOD, "validation": GOOD, split: [GOOD[1]] * 3}
    said = refusal(*splits["train"], validation=splits["validation"])
    assert said.startswith(f"t/{split}.jsonl: needs rows of at least two classes, has only yes")


def test_values_that_are_all_the_same_are_refused(refusal: Callable[..., str]) -> None:
    said = refusal(GOOD[0], GOOD[0], of=REGRESSION)
    assert said == "t/train.jsonl: needs rows of at least two values, has 1"


def test_a_class_that_only_the_report_split_has_is_refused_by_name(refusal: Callable[..., str]) -> None:
    three = replace(SPEC, classes=("no", "yes", "maybe"))
    said = refusal(*GOOD, of=three, validation=[*GOOD, {"a": "w1", "label": 2}])
    assert said == (
        "t: train has no row of a class that other splits have: maybe (validation); bring some, or say rare_classes: drop or other"
    )


def test_a_class_that_no_split_has_is_counted_as_none(folder: Folder) -> None:
    three = replace(SPEC, classes=("no", "maybe", "yes"))
    rows = [{**row, "label": name} for row, name in zip(GOOD, ("no", "yes"), strict=True)]
    assert located(three, folder(*rows, validation=rows)).counts == (("train", (1, 0, 1)), ("validation", (1, 0, 1)))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_without_rows_is_refused_with_its_file(folder: Folder, split: str) -> None:
    data = folder(*GOOD)
    (data / "t" / f"{split}.jsonl").write_bytes(b"")
    with pytest.raises(ValueError, match=rf"t/{split}.jsonl: has no rows$"):
        located(SPEC, data)


def test_missing_splits_are_refused_with_the_endings_that_are_looked_for(tmp_path: Path, folder: Folder) -> None:
    told = r"train and validation or test not found in .*t: .*\.jsonl, \.json, \.csv, \.tsv, \.parquet, \.conll, \.arrow, \.txt$"
    with pytest.raises(ValueError, match="^task t: " + told):
        located(SPEC, tmp_path)
    (folder(*GOOD) / "t" / "train.jsonl").rename(tmp_path / "t" / "train.xls")
    with pytest.raises(ValueError, match="^task t: train not found in .*train.xls"):
        located(SPEC, tmp_path)
    (tmp_path / "t" / "train.xls").rename(tmp_path / "t" / "train.jsonl")


@pytest.mark.parametrize("path", ["../t", "inside/../../t", "{absolute}", "$T_FOLDER", "${T_FOLDER}", "~/t"])
def test_a_task_may_lie_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    write_task(tmp_path / "t", rows_of(4), rows_of(4))
    (tmp_path / "data" / "inside").mkdir(parents=True)
    monkeypatch.setenv("T_FOLDER", str(tmp_path / "t"))
    monkeypatch.setenv("HOME", str(tmp_path))
    found = located(replace(SPEC, origin=Unlocated(path.replace("{absolute}", str(tmp_path / "t")))), tmp_path / "data")
    assert Path(found.origin.place("train")).resolve() == (tmp_path / "t" / "train.jsonl").resolve()


def test_a_variable_that_is_not_set_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"task t: path: '\$T_NOWHERE/t' names \$T_NOWHERE, which is not set"):
        located(replace(SPEC, origin=Unlocated("$T_NOWHERE/t")), tmp_path)


def test_a_task_may_lie_in_a_folder_of_another_name(tmp_path: Path) -> None:
    write_task(tmp_path / "deep" / "u", rows_of(4), rows_of(4))
    found = located(replace(SPEC, origin=Unlocated("deep/u")), tmp_path)
    assert found.origin.place("train") == str(tmp_path / "deep" / "u" / "train.jsonl")


def test_all_bad_rows_of_a_task_are_told_at_once_each_with_its_place(refusal: Callable[..., str]) -> None:
    bad = [{"a": "w1"}, "no json", {"a": "", "label": 0}]
    said = refusal(*bad, validation=[{"a": "w1", "label": 7}, GOOD[0]])
    places = [line.split(": ")[0] for line in said.splitlines()]
    assert places == ["t/train.jsonl:1", "t/train.jsonl:2", "t/train.jsonl:3", "t/validation.jsonl:1"]


def test_many_rows_with_the_same_fault_are_told_at_the_first(refusal: Callable[..., str]) -> None:
    (said,) = refusal(GOOD[0], *[{"a": "", "label": 1}] * 5).splitlines()
    assert said == "t/train.jsonl:2: a must be a text that is not empty, got '' (4 more rows like this)"


@pytest.mark.parametrize(
    "answers",
    [
        "{'text': ['Ann'], 'answer_start': [0]}", '{"text": ["Ann"], "answer_start": [0]}', [{"text": "Ann", "answer_start": 0}],
        "[{'text': 'Ann', 'answer_start': 0}]", {"text": ["Ann"], "answer_start": [0]}, {"text": ["Ann"], "answer_start": ["0"]},
    ],
)  # fmt: skip
def test_answers_may_be_lists_a_list_of_answers_or_either_as_it_is_printed(answers: Any) -> None:
    assert checked_row(TASKS["squad"], {**SQUAD, "answers": answers}).label == ((0, "Ann"),)


def test_of_many_faults_some_are_shown_and_the_others_counted(refusal: Callable[..., str]) -> None:
    said = refusal(*({f"b{i}": "w1", "label": 1} for i in range(SHOWN + 3)))
    assert len(said.splitlines()) == SHOWN
    assert said.startswith("t/train.jsonl:1: needs the field a; it has b0, label: ")
    assert said.endswith("of the task (and 3 other problems)")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            [{"a": i, "label": 1} for i in range(9)],
            "1: a must be a text that is not empty, got 0 (8 more rows like this, got 1; 2; 3; 4 and others)",
        ),
        ([{"a": 5, "label": 1}] * 3, "1: a must be a text that is not empty, got 5 (2 more rows like this)"),
        (
            [{"a": "w", "label": 7}, {"a": "w", "label": 8}],
            "1: label must be 0 to 1 or one of no, yes, got 7 (1 more row like this, got 8)",
        ),
        (
            [{"a": [], "label": 1}, {"a": {}, "label": 1}],
            "1: a must be a text that is not empty, got [] (1 more row like this, got {})",
        ),
        (
            [{"a": "", "label": 1}, {"a": "w", "label": 1}, {"a": None, "label": 1}],
            "1: a must be a text that is not empty, got '' (1 more row like this, got None)",
        ),
    ],
)
def test_rows_with_the_same_problem_are_told_once_with_what_some_of_them_have(
    refusal: Callable[..., str], rows: list[dict[str, Any]], told: str
) -> None:
    assert refusal(*rows) == f"t/train.jsonl:{told}"


@pytest.mark.parametrize(
    ("task", "row"),
    [
        (SPEC, {"a": "w " * 5000, "label": "x" * 10_000}),
        (SPEC, {"a": ["w"] * 10_000, "label": 0}),
        (SPEC, {f"field {i}": 0 for i in range(5000)}),
        (TASKS["copa"], {**COPA, "question": "w " * 5000}),
        (TASKS["record"], {**RECORD, "query": "w " * 5000}),
        (TASKS["wsc"], {**WSC, "span1_text": "w " * 5000, "span1_index": 0}),
        (TASKS["wic"], {**WIC, **WIC_SPANS, "start1": "w " * 5000}),
        (TASKS["squad"], {**SQUAD, "answers": {"text": ["w " * 5000], "answer_start": ["w " * 5000]}}),
        (TASKS["conll03"], {"words": ["w"] * 5000, "tags": ["w"] * 4000}),
    ],
    ids=["label", "list", "fields", "copa", "record", "wsc", "wic", "squad", "conll03"],
)
def test_a_refusal_is_short_however_long_the_row_is(
    refusal: Callable[..., str], task: TaskSpec, row: Mapping[str, Any]
) -> None:
    assert len(refusal(row, of=task, validation=[row]).splitlines()[0]) < 1000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.csv", ",".join(f"column {i}" for i in range(5000)) + "\n1,2\n"),
        ("train.csv", ",".join(["column"] * 5000) + "\n1,2\n"),
        ("train.conll", "w" * 20_000 + "\n"),
    ],
)
def test_a_refusal_is_short_however_long_the_line_is(tmp_path: Path, name: str, content: str) -> None:
    write_task(tmp_path / "t", [], GOOD)
    (tmp_path / "t" / "train.jsonl").unlink()
    (tmp_path / "t" / name).write_text(content)
    with pytest.raises(ValueError, match=f"t/{name}:") as refused:
        located(SPEC, tmp_path)
    assert len(str(refused.value)) < 1000


def test_rows_of_one_question_may_share_a_field_of_any_type(tmp_path: Path) -> None:
    """Parquet has dates, for one."""
    spec = replace(SPEC, question=("day",), metrics=("question_match",))
    rows = pa.table({"a": ["w1", "w2"], "label": [0, 1], "day": pa.array([1, 1], pa.date32())})
    (tmp_path / "t").mkdir()
    for split in ("train", "validation"):
        write_table(rows, tmp_path / "t" / f"{split}.parquet")
    found = list(examples(located(spec, tmp_path), "train", Findings()))
    assert found[0].question == found[1].question != ""


@pytest.fixture
def identity(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """The fingerprint of train rows in a folder of their own: identity(rows, name="t", ending="jsonl")."""

    def found(rows: list[dict[str, Any]], name: str = "t", ending: str = "jsonl", of: TaskSpec = SPEC) -> str:
        root = tmp_path_factory.mktemp("data")
        write_task(root / name, rows, rows)
        path = root / name / f"train.{ending}"
        if ending == "parquet":
            write_table(pa.Table.from_pylist(rows), path)
        elif ending != "jsonl":
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), delimiter="," if ending == "csv" else "\t")
                writer.writeheader()
                writer.writerows(rows)
        if ending != "jsonl":
            (root / name / "train.jsonl").unlink()
        return dict(located(replace(of, name=name), root).fingerprints)["train"]

    return found


def test_a_fingerprint_knows_text_label_and_order(identity: Callable[..., str]) -> None:
    rows = rows_of(6)
    known = identity(rows)
    assert known == identity(rows)
    others = [
        rows[::-1],
        rows[:-1],
        [{**rows[0], "label": 1 - rows[0]["label"]}, *rows[1:]],
        [{**rows[0], "a": rows[0]["a"] + "."}, *rows[1:]],
    ]
    assert len({known, *map(identity, others)}) == 5


def test_a_fingerprint_does_not_know_name_format_other_fields_or_how_a_label_is_written(
    identity: Callable[..., str],
) -> None:
    rows = [*rows_of(6), {"a": 'one, "two"\nlines\tand é', "label": 1}]
    same = {
        identity(rows, name="u"),
        *(identity(rows, ending=ending) for ending in ("csv", "parquet")),
        identity([{**row, "note": i} for i, row in enumerate(rows)]),
        identity([{**row, "label": SPEC.classes[row["label"]]} for row in rows]),
    }
    assert same == {identity(rows)}


def test_a_fingerprint_of_tags_and_answers_knows_them(identity: Callable[..., str]) -> None:
    other_tags = {**CONLL, "tags": ["B-LOC", "O"]}
    one_answer = {**SQUAD, "answers": {"text": ["Ann"], "answer_start": [0]}}
    tagged = [identity([row], "conll03", of=TASKS["conll03"]) for row in (CONLL, CONLL, other_tags)]
    answered = [identity([row], "squad", of=TASKS["squad"]) for row in (SQUAD, SQUAD, one_answer)]
    assert tagged[0] == tagged[1] != tagged[2]
    assert answered[0] == answered[1] != answered[2]


def test_a_task_with_a_test_split_is_reported_on_it(tmp_path: Path) -> None:
    write_task(tmp_path / "t", rows_of(4), rows_of(4))
    assert located(SPEC, tmp_path).report_split == "validation"
    (tmp_path / "t" / "validation.jsonl").rename(tmp_path / "t" / "test.jsonl")
    assert located(SPEC, tmp_path).report_split == "test"


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((9, 1), ""),
        ((11, 1), "t is imbalanced: 11 train rows of no and 1 of yes; read macro_f1 beside accuracy"),
        ((2, 30), "t is imbalanced: 30 train rows of yes and 2 of no; read macro_f1 beside accuracy"),
    ],
)
def test_classes_that_are_far_apart_in_size_are_named(folder: Folder, sizes: tuple[int, int], said: str) -> None:
    rows = [{"a": f"w{i}", "label": label} for label, size in enumerate(sizes) for i in range(size)]
    assert imbalance(located(SPEC, folder(*rows))) == said


def test_what_has_no_classes_is_not_imbalanced(folder: Folder) -> None:
    assert imbalance(located(REGRESSION, folder(*GOOD))) == ""
    assert imbalance(SPEC) == ""


def test_every_preparation_belongs_to_a_task_of_the_table() -> None:
    assert {spec.prepare for spec in TASKS.values()} - {""} == set(PREPARE)


def test_a_task_in_the_data_folder_is_not_fetched_and_another_is(tmp_path: Path) -> None:
    asked: list[str] = []

    def fetch(task: TaskSpec) -> Path:
        asked.append(task.name)
        return write_task(tmp_path / "store" / "rows", GOOD_RTE, GOOD_RTE)

    assert located(TASKS["rte"], tmp_path / "data", fetch).origin == FolderFiles(tmp_path / "store" / "rows")
    write_task(tmp_path / "data" / "rte", GOOD_RTE, GOOD_RTE)
    assert located(TASKS["rte"], tmp_path / "data", fetch).origin == FolderFiles(tmp_path / "data" / "rte")
    with pytest.raises(ValueError, match="task t: train and validation or test not found"):
        located(SPEC, tmp_path / "data", fetch)
    assert asked == ["rte"]
