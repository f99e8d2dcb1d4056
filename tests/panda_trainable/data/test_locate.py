"""Tasks as users have them: splits, labels and classes are found where they are plain, and what was found is told."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from panda_trainable.config.task import Original, SplitSettings, TaskSpec
from panda_trainable.config.task_section import TaskSection
from panda_trainable.data.locate import fingerprinted, located
from panda_trainable.data.rows import Findings, examples, words_in
from panda_trainable.data.task_table import TASKS
from panda_trainable.origins.folder import FolderFiles

SECTION: dict[str, Any] = {"text": ("a",), "label": "label"}
FOUR = [{"a": f"w{i}", "label": ("neg", "pos")[i % 2]} for i in range(4)]
MORE = [{"a": f"v{i}", "label": ("neg", "pos")[i % 2]} for i in range(4)]

Located = Callable[..., TaskSpec]


def write(path: Path, rows: Sequence[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def of(tmp_path: Path) -> Located:
    """Locates a task `t` of these rows: of(train, validation, test=None, **section)."""

    def make(train: Sequence[Any], validation: Sequence[Any] | None = MORE, test: Sequence[Any] | None = None, **section: Any) -> TaskSpec:  # fmt: skip
        for split, rows in (("train", train), ("validation", validation), ("test", test)):
            if rows is not None:
                write(tmp_path / "t" / f"{split}.jsonl", rows)
        return located(TaskSection(**{**SECTION, **section}).spec("t"), tmp_path)

    return make


def labels(task: TaskSpec, split: str = "train") -> list[Any]:
    return [example.label for example in examples(task, split, Findings())]


def told(task: TaskSpec, part: str) -> bool:
    return any(part in note for note in task.notes)


# splits


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("dev.jsonl", "validation"), ("val.jsonl", "validation"), ("valid.jsonl", "validation"), ("Validation.JSONL", "validation"),
        ("development.jsonl", "validation"), ("TEST.jsonl", "test"), ("validation.ndjson", "validation"),
        ("dev-00000-of-00001.jsonl", "validation"), ("dev-00000-of-00001-3f7ab2.jsonl", "validation"), ("dev/part.jsonl", "validation"),
    ],
)  # fmt: skip
def test_a_split_may_be_called_as_people_call_it(tmp_path: Path, name: str, split: str) -> None:
    write(tmp_path / "t" / "Train.jsonl", FOUR)
    write(tmp_path / "t" / name, MORE)
    task = located(TaskSection(**SECTION).spec("t"), tmp_path)
    assert [found for found, _ in task.fingerprints] == ["train", split]
    assert labels(task, split) == [0, 1, 0, 1]


def test_shards_are_one_split_in_their_order_and_none_may_be_missing(tmp_path: Path) -> None:
    for number in (1, 0, 2):
        write(
            tmp_path / "t" / "data" / f"train-{number:05}-of-00003.jsonl", [{"a": f"w{number}", "label": f"c{number}"}]
        )
    write(tmp_path / "t" / "data" / "test-00000-of-00001.jsonl", [{"a": f"v{i}", "label": f"c{i}"} for i in range(3)])
    assert labels(located(TaskSection(**SECTION).spec("t"), tmp_path)) == [0, 1, 2]
    (tmp_path / "t" / "data" / "train-00001-of-00003.jsonl").unlink()
    with pytest.raises(ValueError, match="shards of a split must be all there, each once, got train-00000-of-00003"):
        located(TaskSection(**SECTION).spec("t"), tmp_path)


def test_two_names_of_one_split_are_refused(tmp_path: Path) -> None:
    for name in ("train", "dev", "validation"):
        write(tmp_path / "t" / f"{name}.jsonl", FOUR)
    with pytest.raises(ValueError, match="validation must be one file, got dev.jsonl, validation.jsonl"):
        located(TaskSection(**SECTION).spec("t"), tmp_path)


@pytest.mark.parametrize(
    "rows",
    [
        [{"a": "w"}, {"a": "v"}], [{"a": "w", "label": None}], [{"a": "w", "label": ""}], [{"a": "w", "label": -1}],
        [{"a": "w", "label": "-1"}], [{"a": "w", "label": "?"}],
    ],
)  # fmt: skip
def test_a_test_split_without_labels_is_left_out_and_told(of: Located, rows: list[dict[str, Any]]) -> None:
    task = of(FOUR, MORE, rows)
    assert task.report_split == "validation"
    assert "t: test has no labels and is left out" in task.notes


def test_a_split_in_which_one_row_has_a_label_is_labelled(of: Located) -> None:
    with pytest.raises(ValueError, match=r"test.jsonl:1: needs the field label"):
        of(FOUR, MORE, [{"a": "w"}, {"a": "v", "label": "pos"}])


def test_rows_without_a_label_among_others_are_left_out_and_counted(of: Located) -> None:
    many = [{"a": f"w{i}", "label": ("neg", "pos")[i % 2]} for i in range(40)]
    marked = [{"a": f"x{i}", "label": mark} for i, mark in enumerate((-1, "-1", "nan", "-"))]
    task = of([*many, *marked], classes=("neg", "pos"))
    assert len(labels(task)) == 40
    assert "t: 4 train rows without a label (-1, nan, ? or -) left out" in task.notes
    assert of([*many, *marked]).classes == ("neg", "pos")


@pytest.mark.parametrize("classes", [(), ("neg", "neu", "pos"), ("neg", "pos")])
def test_labels_from_minus_one_are_no_missing_labels_and_are_refused_with_what_to_write(
    of: Located, classes: tuple[str, ...]
) -> None:
    rows = [{"a": f"w{i}", "label": i % 3 - 1} for i in range(30)]
    with pytest.raises(ValueError, match=r"10 of 30 train rows is -1.*classes: \['-1', '0', '1'\], if it is a class"):
        of(rows, rows, classes=classes)
    more = [{**row, "a": f"{row['a']} x"} for row in rows]
    assert labels(of(rows, more, classes=("-1", "0", "1")))[:3] == [0, 1, 2]


@pytest.mark.parametrize("numbers", [(1, 2, 3), (1, 2)])
def test_numbers_that_never_are_the_first_class_are_refused(of: Located, numbers: tuple[int, ...]) -> None:
    rows = [{"a": f"w{i}", "label": numbers[i % len(numbers)]} for i in range(12)]
    with pytest.raises(ValueError, match="no row has the first of 4 classes or choices, which is 0: where the numbers"):
        of(rows, rows, classes=("a", "b", "c", "d"))


def named(folder: Path, split: str, names: list[str], numbers: list[int], words: str = "w") -> None:
    features = Features({"a": Value("string"), "label": ClassLabel(names=names)})
    (folder / "t").mkdir(exist_ok=True)
    made = Dataset.from_dict({"a": [f"{words}{i}" for i in range(len(numbers))], "label": numbers}).cast(features)
    made.to_parquet(folder / "t" / f"{split}.parquet")


def test_values_that_have_names_are_read_by_them_whatever_their_numbers(tmp_path: Path) -> None:
    named(tmp_path, "train", ["a", "b", "c"], [0, 1, 2, 0])
    named(tmp_path, "validation", ["b", "c"], [0, 1, 0], "v")
    task = located(TaskSection(**SECTION).spec("t"), tmp_path)
    assert (task.classes, labels(task, "validation")) == (("a", "b", "c"), [1, 2, 1])
    more = located(TaskSection(**SECTION, classes=("c", "b", "a", "d")).spec("t"), tmp_path)
    assert labels(more) == [2, 1, 0, 2]
    named(tmp_path, "validation", ["x", "b"], [0, 1, 0], "v")
    with pytest.raises(ValueError, match="label must be .*, got 'x'"):
        located(TaskSection(**SECTION, classes=("a", "b", "c")).spec("t"), tmp_path)


def test_values_of_a_regression_that_have_names_are_these(tmp_path: Path) -> None:
    for split, words in (("train", "w"), ("validation", "v")):
        named(tmp_path, split, ["5", "4.5", "1"], [0, 1, 2], words)
    assert labels(located(TaskSection(**SECTION, kind="regression").spec("t"), tmp_path)) == [5, 4.5, 1]
    named(tmp_path, "train", ["good", "bad", "so"], [0, 1, 2])
    with pytest.raises(ValueError, match="label must be a number"):
        located(TaskSection(**SECTION, kind="regression").spec("t"), tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("train.csv", "a,sentiment\nw,1\n", "train.csv:2: needs the field label; it has a, sentiment"),
        (
            "train.csv",
            "good,1\nbad,0\n",
            "the first line seems to be a row, not the names of the columns: write `columns: [...]` in the task, a name for each of 2 columns",
        ),
        ("train.csv", "a,label\nw,1,2\n", "train.csv:2: has 3 fields where the header has 2"),
        ("train.jsonl", "{'a': 'w'}\n", "train.jsonl:1: a line must be one JSON object"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_where_classes_are_to_be_found_in_it(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    write(tmp_path / "t" / "validation.jsonl", MORE)
    (tmp_path / "t" / name).write_text(content)
    with pytest.raises(ValueError, match="t/train") as refused:
        located(TaskSection(**SECTION).spec("t"), tmp_path)
    assert said in str(refused.value)


def test_files_that_belong_to_no_split_are_named_where_train_stands_alone(tmp_path: Path) -> None:
    for name in ("train", "dev_matched", "eval"):
        write(
            tmp_path / "t" / f"{name}.jsonl", [{**row, "a": f"{row['a']} {name} {i}"} for i in range(5) for row in FOUR]
        )
    assert told(located(TaskSection(**SECTION).spec("t"), tmp_path), "not read: dev_matched.jsonl, eval.jsonl")


def test_too_few_rows_to_draw_validation_rows_from_are_told_so(of: Located) -> None:
    with pytest.raises(ValueError, match="no validation rows can be drawn|the validation rows drawn from it need"):
        of(FOUR[:2], None)


def test_nested_fields_are_divided_as_others_are(of: Located) -> None:
    rows = [{"x": {"a": f"w{i // 2}", "label": ("neg", "pos")[i // 2 % 2]}} for i in range(80)]
    assert of(rows, None, text=("x.a",), label="x.label").leaked == 0


@pytest.mark.parametrize("text", ["['EU', 'rejects']", '["EU", "rejects"]', "EU rejects"])
def test_words_in_csv_may_be_a_printed_list(text: str) -> None:
    assert words_in(text) == ["EU", "rejects"]


@pytest.mark.parametrize("text", ["['EU' 'rejects']", "[EU, rejects]"])
def test_a_printed_list_that_is_none_is_no_list_of_words(text: str) -> None:
    assert words_in(text) is None


@pytest.mark.parametrize("seed", range(3))
def test_train_rows_alone_are_divided_by_class_and_seed_and_told(of: Located, seed: int) -> None:
    rows = [{"a": f"w{i}", "label": "pos" if i % 4 else "neg"} for i in range(80)]
    task = of(rows, None, split=SplitSettings(0.25, seed))
    train, validation = (
        [e.texts[0][0] for e in examples(task, split, Findings())] for split in ("train", "validation")
    )
    assert (len(train), len(validation)) == (60, 20)
    assert set(train) | set(validation) == {row["a"] for row in rows}
    assert labels(task, "validation").count(0) == 5
    assert told(task, f"has train rows alone, so 25% of them, drawn by seed {seed}, are its validation rows")
    assert of(rows, None, split=SplitSettings(0.25, seed)).fingerprints == task.fingerprints
    assert of(rows, None, split=SplitSettings(0.25, seed + 9)).fingerprints != task.fingerprints


def test_rows_that_share_a_text_are_divided_together(of: Located) -> None:
    rows = [{"a": f"W{i // 2}" + "." * (i % 2), "label": ("neg", "pos")[i // 2 % 2]} for i in range(80)]
    task = of(rows, None)
    folded = [
        {e.texts[0][0].strip(".") for e in examples(task, split, Findings())} for split in ("train", "validation")
    ]
    assert not folded[0] & folded[1]
    assert task.leaked == 0


def test_a_split_that_has_nothing_to_divide_is_refused(of: Located) -> None:
    with pytest.raises(
        ValueError, match="split divides train rows where there are no others, but .* has validation; remove"
    ):
        of(FOUR, split=SplitSettings(0.5, 0))


# overlap within a task


@pytest.mark.parametrize("change", [str, str.upper, lambda text: f"{text}!", lambda text: f"  {text}. "])
def test_report_rows_that_are_train_rows_are_counted_and_told(of: Located, change: Callable[[str], str]) -> None:
    leaked = [{**row, "a": change(row["a"])} for row in FOUR[:3]]
    task = of(FOUR, [*MORE, *leaked])
    assert task.leaked == 3
    assert told(task, "3 of 7 validation rows, on which it is reported, stand in its own train rows")
    assert of(FOUR, MORE).leaked == 0
    assert not told(of(FOUR, MORE), "report")


def test_of_pairs_both_texts_must_stand_together(of: Located) -> None:
    train = [{"a": "w", "b": f"v{i}", "label": i % 2} for i in range(4)]
    report = [{"a": "w", "b": "new", "label": 0}, {"a": "w", "b": "v1", "label": 1}]
    assert of(train, report, text=("a", "b"), classes=("no", "yes")).leaked == 1


def test_repeated_rows_of_a_split_are_told(of: Located) -> None:
    assert told(of([*FOUR, FOUR[0], {**FOUR[1], "a": "W1."}]), "2 of 6 train rows repeat the texts of another")


@pytest.mark.parametrize(
    ("section", "rows", "constant"),
    [
        ({}, FOUR, "pos"),
        ({"classes": ("neg", "pos")}, FOUR, 0),
        ({"kind": "regression"}, [{"a": f"w{i}", "label": i + 0.5} for i in range(4)], 0.0),
        ({"kind": "multiple_choice", "text": (), "choices": ("a", "b")}, [{"a": f"w{i}", "b": f"v{i}", "label": i % 2} for i in range(4)], 0),
        ({"kind": "tagging"}, [{"a": ["w", f"v{i}"], "label": ["O", ("B-X", "B-Y")[i % 2]]} for i in range(4)], ["O", "O"]),
        ({"rare_classes": "drop"}, FOUR, "neg"),
    ],
)  # fmt: skip
def test_a_test_split_whose_rows_have_one_label_is_left_out_and_told(
    of: Located, section: dict[str, Any], rows: list[dict[str, Any]], constant: Any
) -> None:
    more = [{**row, "label": rows[i - 1]["label"]} for i, row in enumerate(rows)]
    task = of(rows, more, [{**row, "label": constant} for row in rows], **section)
    assert [split for split, _ in task.fingerprints] == ["train", "validation"]
    assert told(task, "t: test has one label for all its rows (")
    assert told(task, "), which stands for none, and is left out")
    assert of(rows, more, more, **section).report_split == "test"


@pytest.mark.parametrize("empty", ["", " ", None, []])
@pytest.mark.parametrize(
    ("section", "rows"),
    [
        ({}, FOUR),
        ({"classes": ("neg", "pos")}, FOUR),
        ({"kind": "regression"}, [{"a": f"w{i}", "label": i + 0.5} for i in range(4)]),
        ({"kind": "multiple_choice", "text": (), "choices": ("a", "b")}, [{"a": f"w{i}", "b": f"v{i}", "label": i % 2} for i in range(4)]),
    ],
)  # fmt: skip
def test_rows_with_an_empty_label_are_left_out_and_counted(of: Located, section: dict[str, Any], rows: list[dict[str, Any]], empty: Any) -> None:  # fmt: skip
    task = of([*rows, {**rows[0], "a": "u", "label": empty}], rows, **section)
    assert len(labels(task)) == len(rows)
    assert "t: 1 train row with an empty label left out" in task.notes


def test_a_split_of_rows_that_are_all_left_out_is_refused_with_why(of: Located) -> None:
    with pytest.raises(ValueError, match="train.jsonl: has no rows but those that are left out: 4 with an empty label"):
        of([{**row, "label": ""} for row in FOUR], classes=("neg", "pos"))


@pytest.mark.parametrize("metrics", [("f1",), ("accuracy_f1",), ("accuracy", "f1")])
@pytest.mark.parametrize("classes", [(), ("neg", "pos", "rare")])
def test_f1_is_of_the_two_classes_that_are_left_of_three(of: Located, metrics: tuple[str, ...], classes: tuple[str, ...]) -> None:  # fmt: skip
    rows = [*FOUR, {"a": "u", "label": "rare"}]
    task = of(rows, MORE, metrics=metrics, classes=classes, rare_classes="drop")
    assert (task.classes, task.metrics) == (("neg", "pos"), metrics)
    assert told(task, "t: f1 is of its class pos") == (not classes)
    with pytest.raises(ValueError, match="f1 is of two classes, and there are 3: use macro_f1"):
        of([*rows, {"a": "v", "label": "rare"}], MORE, metrics=metrics, classes=classes, rare_classes="drop")


def test_classes_of_train_labels_cost_one_more_reading_of_the_rows(of: Located) -> None:
    readings = []

    class Counted(FolderFiles):
        def rows(self, split: str) -> Any:
            readings.append(split)
            return super().rows(split)

    given, taken = (of(FOUR, classes=classes) for classes in (("neg", "pos"), ()))
    for task in (given, taken):
        fresh = replace(task, origin=Counted(Path(task.origin.place())), classes=given.classes if task is given else (), fingerprints=(), counts=())  # fmt: skip
        readings.append("next")
        fingerprinted(fresh)
    first, second = " ".join(readings).split("next")[1:]
    assert second.count("train") == first.count("train") + 1


# choices that are one list

LISTS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "HellaSwag": ({"text": ("ctx",), "choices": ("endings",)}, [{"ctx": f"w{i}", "endings": ["a", "b", "c", "d"], "label": str(i % 4)} for i in range(8)]),
    "ARC": (
        {"text": ("question",), "choices": ("choices.text",), "label": "answerKey"},
        [{"question": f"w{i}", "choices": {"text": ["a", "b", "c", "d"], "label": list("1234" if i % 2 else "ABCD")}, "answerKey": ("1234" if i % 2 else "ABCD")[i % 4]} for i in range(8)],
    ),
    "CommonsenseQA": (
        {"text": ("question.stem",), "choices": ("question.choices.text",), "label": "answerKey"},
        [{"question": {"stem": f"w{i}", "choices": [{"label": name, "text": name.lower()} for name in "ABCD"]}, "answerKey": "ABCD"[i % 4]} for i in range(8)],
    ),
    "OpenBookQA": (
        {"text": ("question_stem",), "choices": ("choices.text",), "label": "answerKey"},
        [{"question_stem": f"w{i}", "choices": {"text": ["a", "b", "c", "d"], "label": ["A", "B", "C", "D"]}, "answerKey": "ABCD"[i % 4]} for i in range(8)],
    ),
    "RACE": (
        {"text": ("{article} {question}",), "choices": ("options",), "label": "answer"},
        [{"article": f"w{i}", "question": "so?", "options": ["a", "b", "c", "d"], "answer": "ABCD"[i % 4]} for i in range(8)],
    ),
    "numbers from 1": ({"text": ("q",), "choices": ("list",)}, [{"q": f"w{i}", "list": ["a", "b", "c", "d"], "label": i % 4 + 1} for i in range(8)]),
    "no stem": ({"text": (), "choices": ("list",)}, [{"list": [f"{name}{i}" for name in "abcd"], "label": i % 4} for i in range(8)]),
    "a printed list": ({"text": ("q",), "choices": ("list",)}, [{"q": f"w{i}", "list": "['a', 'b', 'c', 'd']", "label": i % 4} for i in range(8)]),
    "numbers that choices are called": (
        {"text": ("q",), "choices": ("c.text",)},
        [{"q": f"w{i}", "c": {"text": ["a", "b", "c", "d"], "label": ["1", "2", "3", "4"]}, "label": i % 4 + 1} for i in range(8)],
    ),
    "in another order": (
        {"text": ("q",), "choices": ("c.text",)},
        [{"q": f"w{i}", "c": {"text": ["a", "b", "c", "d"], "label": ["D", "C", "B", "A"]}, "label": "DCBA"[i % 4]} for i in range(8)],
    ),
    "flat, as pandas writes it": (
        {"text": ("q",), "choices": ("c.text",)},
        [{"q": f"w{i}", "c.text": "['a', 'b', 'c', 'd']", "c.label": "['A', 'B', 'C', 'D']", "label": "ABCD"[i % 4]} for i in range(8)],
    ),
    "each by its place": ({"text": ("q",), "choices": tuple(f"list.{i}" for i in range(4))}, [{"q": f"w{i}", "list": ["a", "b", "c", "d"], "label": i % 4} for i in range(8)]),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_choices_may_be_one_list(of: Located, name: str) -> None:
    section, rows = LISTS[name]
    task = of(rows, rows, kind="multiple_choice", **section)
    assert (len(task.choices), labels(task)) == (4, [0, 1, 2, 3, 0, 1, 2, 3])
    texts = [[sequence[-1][0] for sequence in row.texts] for row in examples(task, "train", Findings())]
    assert texts == [["a", "b", "c", "d"]] * 8
    assert name == "each by its place" or told(task, "t: its 4 choices are those that ")


@pytest.mark.parametrize("label", ["E", 0, "0", "e", "text a"])
def test_a_label_that_no_choice_is_called_is_refused(of: Located, label: Any) -> None:
    rows = [{"q": f"w{i}", "c": {"text": ["a", "b"], "label": ["1", "2"]}, "label": str(i % 2 + 1)} for i in range(4)]
    with pytest.raises(ValueError, match=f"t/train.jsonl:5: .*{label}, which is none of 1, 2"):
        of([*rows, {**rows[0], "label": label}], rows, kind="multiple_choice", text=("q",), choices=("c.text",))


def test_rows_with_another_number_of_choices_are_left_out_and_counted(of: Located) -> None:
    rows = [{"a": f"w{i}", "list": ["a", "b", "c"], "label": i % 3} for i in range(30)]
    odd = [{"a": "u", "list": ["a", "b"], "label": 0}, {"a": "v", "list": ["a", "b", "c", "d"], "label": 3}]
    task = of([*rows, *odd], rows, kind="multiple_choice", choices=("list",))
    assert len(labels(task)) == 30
    assert "t: 2 train rows with another number of choices than 3 left out" in task.notes


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ([["a", "b"], ["a", "b", "c"]], "list must list the same number of choices, at least 2, in nearly all rows; train has rows 1 of 2, 1 of 3"),
        ([["a"], ["b"]], "list must list the same number of choices, at least 2"),
        (["a", "b"], "and list of its train rows holds none; their fields are a, list, label"),
        ([None, None], "and list of its train rows holds none"),
        ([{"text": ["a", "b"]}] * 2, "and list of its train rows holds none"),
    ],
)  # fmt: skip
def test_lists_that_are_no_choices_are_refused(of: Located, lists: list[Any], said: str) -> None:
    rows = [{"a": f"w{i}", "list": each, "label": i} for i, each in enumerate(lists)]
    with pytest.raises(ValueError, match=said):
        of(rows, rows, kind="multiple_choice", choices=("list",))


def test_rows_are_divided_by_class_whatever_the_files_call_the_label(tmp_path: Path) -> None:
    rows = [{"review": f"w{i}", "stars": "few" if i < 5 else "many"} for i in range(50)]
    write(tmp_path / "t" / "train.jsonl", rows)
    original = Original(fields={"a": ("review",), "label": ("sentiment", "stars")}, classes={"few": "neg", "many": "pos"})  # fmt: skip
    task = located(TaskSection(**SECTION, original=original).spec("t"), tmp_path)
    assert (task.classes, dict(task.counts)) == (("neg", "pos"), {"train": (4, 36), "validation": (1, 9)})


# texts that are a file each


def documents(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = folder / "t" / (name.replace("__", "/") + ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("classes", [(), ("neg", "pos"), ("pos", "neg")])
@pytest.mark.parametrize("splits", [("train", "test"), ("train", "dev"), ("Train", "valid"), ("train", "validation"), ("training", "testing")])  # fmt: skip
def test_a_folder_per_class_is_read_with_the_folder_as_label(tmp_path: Path, splits: tuple[str, str], classes: tuple[str, ...]) -> None:  # fmt: skip
    for split in splits:
        documents(tmp_path, **{f"{split}__{name}__{i}": f"{split} {name}\n{i}\n" for name in ("neg", "pos") for i in range(2)})  # fmt: skip
    task = located(TaskSection(text=("text",), classes=classes).spec("t"), tmp_path)
    found = list(examples(task, "train", Findings()))
    assert [row.texts[0][0] for row in found] == [f"{splits[0]} {name}\n{i}" for name in ("neg", "pos") for i in range(2)]  # fmt: skip
    assert [task.classes[int(row.label)] for row in found] == ["neg", "neg", "pos", "pos"]


def test_train_folders_alone_are_divided_and_texts_without_a_class_are_left_out(tmp_path: Path) -> None:
    documents(tmp_path, **{f"train__{name}__{i}": f"{name} {i}" for name in ("neg", "pos", "unsup") for i in range(10)})
    task = located(TaskSection(text=("text",)).spec("t"), tmp_path)
    assert (task.classes, dict(task.counts)) == (("neg", "pos"), {"train": (8, 8), "validation": (2, 2)})
    assert told(task, "unsup: its texts have no class and are left out")


def test_folders_of_classes_that_are_not_divided_are_train_rows(tmp_path: Path) -> None:
    documents(tmp_path, **{f"{name}__{i}": f"{name} {i}" for name in ("neg", "pos") for i in range(10)})
    task = located(TaskSection(text=("text",), split=SplitSettings(0.5)).spec("t"), tmp_path)
    assert dict(task.counts) == {"train": (5, 5), "validation": (5, 5)}


def test_a_text_that_cannot_be_read_is_told_with_its_file(tmp_path: Path) -> None:
    documents(tmp_path, **{f"{split}__{name}__0": "w" for split in ("train", "test") for name in ("neg", "pos")})
    (tmp_path / "t" / "train" / "neg" / "1.txt").write_bytes(b"caf\xe9")
    (tmp_path / "t" / "train" / "pos" / "1.txt").write_bytes(b"")
    with pytest.raises(ValueError, match="must be UTF-8, got byte 0xe9 at 4; save the file as UTF-8") as refused:
        located(TaskSection(text=("text",)).spec("t"), tmp_path)
    assert "train/neg/1.txt: " in str(refused.value)
    (tmp_path / "t" / "train" / "neg" / "1.txt").unlink()
    with pytest.raises(ValueError, match=r"train/pos/1.txt: text must be a text that is not empty, got ''"):
        located(TaskSection(text=("text",)).spec("t"), tmp_path)


# labels and classes


def test_classes_are_those_of_the_train_labels_sorted_and_told(of: Located) -> None:
    task = of(FOUR[::-1])
    assert task.classes == ("neg", "pos")
    assert task.metrics == ("accuracy", "macro_f1")
    assert "t: classes are those of its train labels: neg, pos" in task.notes


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([3, 1, 10, 2], ("1", "2", "3", "10")), ([True, False], ("false", "true")), ([1.0, 0.0], ("0", "1")),
        (["b", "a", "B"], ("B", "a", "b")), (["10", "9"], ("9", "10")),
    ],
)  # fmt: skip
def test_numbers_are_classes_in_their_order(of: Located, values: list[Any], classes: tuple[str, ...]) -> None:
    rows = [{"a": f"w{i}", "label": value} for i, value in enumerate(values)]
    assert of(rows, [{**row, "a": row["a"] + " x"} for row in rows]).classes == classes


def test_a_column_that_knows_its_classes_says_them_in_its_order(tmp_path: Path) -> None:
    features = Features({"a": Value("string"), "label": ClassLabel(names=["yes", "no"])})
    for split, words in (("train", ["w", "v", "u"]), ("test", ["x", "y", "z"])):
        made = Dataset.from_dict({"a": words, "label": [0, 1, 0]}).cast(features)
        (tmp_path / "t").mkdir(exist_ok=True)
        made.to_parquet(tmp_path / "t" / f"{split}.parquet")
    task = located(TaskSection(**SECTION).spec("t"), tmp_path)
    assert (task.classes, labels(task)) == (("yes", "no"), [0, 1, 0])
    given = located(TaskSection(**SECTION, classes=("no", "yes")).spec("t"), tmp_path)
    assert (given.classes, labels(given)) == (("no", "yes"), [1, 0, 1])


def test_labels_that_are_no_classes_are_refused_with_what_to_do(of: Located) -> None:
    rows = [{"a": f"w{i}", "label": f"text number {i}"} for i in range(40)]
    with pytest.raises(
        ValueError, match="label has 40 different values in 40 rows, which are no classes, e.g. text number 0"
    ):
        of(rows)
    with pytest.raises(ValueError, match="needs at least two classes, and label of its train rows has pos"):
        of([FOUR[1], FOUR[3]])


@pytest.mark.parametrize("numbers", [(1, 2, 3), ("1", "2", "3"), (1.0, 2.0, 3.0)])
def test_labels_that_count_from_one_are_found_and_told(of: Located, numbers: tuple[Any, ...]) -> None:
    rows = [{"a": f"w{i}", "label": numbers[i % 3]} for i in range(6)]
    task = of(rows, [{**row, "a": f"{row['a']} x"} for row in rows], classes=("a", "b", "c"))
    assert labels(task) == [0, 1, 2, 0, 1, 2]
    assert "t: its labels count from 1" in task.notes


def test_labels_beyond_the_classes_do_not_count_from_one(of: Located) -> None:
    rows = [{"a": f"w{i}", "label": i} for i in range(4)]
    with pytest.raises(ValueError, match="label must be 0 to 2 or one of a, b, c, got 3"):
        of(rows, rows, classes=("a", "b", "c"))


@pytest.mark.parametrize("names", ["ABC", "abc", (1, 2, 3), ("1", "2", "3"), (0, 1, 2)])
def test_choices_may_be_letters_or_numbers_from_zero_or_one(of: Located, names: Sequence[Any]) -> None:
    rows = [{"x": f"x{i}", "y": f"y{i}", "z": f"z{i}", "a": f"w{i}", "label": names[i % 3]} for i in range(6)]
    more = [{**row, "a": f"{row['a']} again"} for row in rows]
    task = of(rows, more, kind="multiple_choice", choices=("x", "y", "z"))
    assert labels(task) == [0, 1, 2, 0, 1, 2]


RARE = [*[{"a": f"w{i}", "label": ("neg", "pos", "meh")[i % 3]} for i in range(9)], {"a": "x", "label": "rare"}]


def test_rare_classes_are_dropped_or_made_one_where_that_is_asked_for(of: Located) -> None:
    report = [*MORE, {"a": "v8", "label": "new"}]
    classes = ("neg", "rare", "pos", "new", "meh")
    dropped = of(RARE, report, classes=classes, rare_classes="drop")
    assert (dropped.classes, len(labels(dropped)), labels(dropped, "validation")) == (
        ("neg", "pos", "meh"),
        9,
        [0, 1, 0, 1],
    )
    assert told(dropped, "classes with fewer than 2 train rows are dropped: rare, new")
    assert told(dropped, "1 train row of rare classes left out")
    other = of([*RARE, {"a": "y", "label": "new"}], report, classes=classes, rare_classes="other")
    assert other.classes == ("neg", "pos", "meh", "other")
    assert labels(other)[-2:] == [3, 3]
    assert labels(other, "validation") == [0, 1, 0, 1, 3]
    numbered = of(
        [{**row, "label": classes.index(row["label"])} for row in RARE], report, classes=classes, rare_classes="drop"
    )
    assert labels(numbered) == [0, 1, 2] * 3  # numbers are those of the classes that were given


def test_a_class_without_train_rows_is_refused_with_what_helps(of: Located) -> None:
    with pytest.raises(
        ValueError, match=r"train has no row of a class .*: new \(validation\); bring some, or say rare_classes"
    ):
        of(RARE, [*MORE, {"a": "v8", "label": "new"}], classes=("neg", "pos", "meh", "rare", "new"))


# tags

WORDS = ["w1", "w2", "w3"]


@pytest.mark.parametrize(
    ("tags", "metrics", "note"),
    [
        (["B-X", "I-X", "O"], ("entity_f1", "word_accuracy"), "its tags mark entities by BIO"),
        (["I-X", "B-X", "O"], ("entity_f1", "word_accuracy"), "its tags mark entities by BIO"),
        (["B-X", "E-X", "S-X"], ("entity_f1", "word_accuracy"), "its tags mark entities by BIOES"),
        (["B-X", "L-X", "U-X"], ("entity_f1", "word_accuracy"), "its tags mark entities by BILOU"),
        (["DET", "NOUN", "VERB"], ("word_accuracy",), "its tags mark no entities (BIO, BIOES, BILOU, BMES, BMEWO); the score is word_accuracy"),
        (["B", "I", "X-Y"], ("word_accuracy",), "its tags mark no entities"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("given", [True, False])
def test_the_scheme_of_tags_is_found_and_the_metric_follows(
    of: Located, given: bool, tags: list[str], metrics: tuple[str, ...], note: str
) -> None:
    rows = [{"words": WORDS, "tags": tags}, {"words": WORDS[::-1], "tags": tags[::-1]}]
    named = {"classes": tuple(dict.fromkeys(tags))} if given else {}
    task = of(rows, rows[:1], kind="tagging", text=("words",), label="tags", **named)
    assert set(task.classes) == set(tags)
    assert task.metrics == metrics
    assert told(task, note)


def test_entities_of_tags_that_mark_none_are_refused(of: Located) -> None:
    rows = [{"words": WORDS, "tags": ["DET", "NOUN", "VERB"]}]
    with pytest.raises(ValueError, match="entity_f1 reads tags O and <prefix>-<type>"):
        of(rows, rows, kind="tagging", text=("words",), label="tags", metrics=("entity_f1",))


# fields


def test_fields_may_lie_inside_of_others(of: Located) -> None:
    def row(i: int, mark: str) -> dict[str, Any]:
        return {"meta": {"body": f"{mark}{i}", "head": "h"}, "gold": {"answer": {"label": ("neg", "pos")[i % 2]}}}

    rows, more = ([row(i, mark) for i in range(4)] for mark in "wv")
    task = of(rows, more, text=("meta.body", "{meta.head}: {meta.body}"), label="gold.answer.label")
    found = list(examples(task, "train", Findings()))
    assert found[1].texts == (("w1", "h: w1"),)
    assert [example.label for example in found] == [0, 1, 0, 1]
    with pytest.raises(ValueError, match="needs the field meta.title; it has meta, gold"):
        of(rows, more, text=("meta.title",), label="gold.answer.label")


@pytest.mark.parametrize("empty", ["", None, " "])
def test_one_text_of_a_pair_may_be_empty(of: Located, empty: str | None) -> None:
    pairs = [{"a": f"w{i}", "b": empty if i else "v", "label": i % 2} for i in range(4)]
    task = of(pairs, [{**row, "a": row["a"] + " x"} for row in pairs], text=("a", "b"), classes=("no", "yes"))
    assert [example.texts[0][1].strip() for example in examples(task, "train", Findings())] == ["v", "", "", ""]
    with pytest.raises(ValueError, match="a must be a text that is not empty"):
        of([*pairs, {"a": "", "b": "", "label": 0}], pairs, text=("a", "b"), classes=("no", "yes"))


def test_a_constant_stem_is_no_text_that_rows_share(of: Located) -> None:
    rows = [{"stem": "Which is better?", "x": f"x{i}", "y": f"y{i}", "label": i % 2} for i in range(8)]
    task = of(
        rows,
        [{**row, "x": f"{row['x']} x"} for row in rows],
        kind="multiple_choice",
        text=("stem",),
        choices=("x", "y"),
    )
    assert task.compared_fields == ("x", "y")
    assert replace(task, compared=()).compared_fields == ("stem",)


def test_notes_of_files_have_their_place(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    for split, mark in (("train", "w"), ("validation", "v")):
        lines = "".join(f"{i};{mark}{i};{('neg', 'pos')[i % 2]}\n" for i in range(4))
        (tmp_path / "t" / f"{split}.csv").write_text(f";a;label\n{lines}")
    notes = located(TaskSection(**SECTION).spec("t"), tmp_path).notes
    assert f"{tmp_path}/t/train.csv: its columns are divided by semicolons" in notes
    assert f"{tmp_path}/t/train.csv:1: column 1 has no name and is left out" in notes


def test_files_of_a_known_task_may_have_the_columns_of_the_hub(tmp_path: Path) -> None:
    rows = [{"sentence1": f"w{i}", "sentence2": "v", "label": i % 2} for i in range(4)]
    for split, mark in (("train", "w"), ("validation", "v")):
        write(tmp_path / "rte" / f"{split}.jsonl", [{**row, "sentence1": f"{mark} {row['sentence1']}"} for row in rows])
    assert list(examples(located(TASKS["rte"], tmp_path), "train", Findings()))[1].texts == (("w w1", "v"),)


def test_what_is_odd_about_classes_and_sentences_is_told(of: Located) -> None:
    rows = [{"a": f"w{i}", "label": ("Neg", "neg", "Pos")[i % 3]} for i in range(9)]
    assert "t: some of its classes differ in case alone: Neg, neg" in of(rows, rows[:3]).notes
    two = of(FOUR, MORE, metrics=("f1",))
    assert "t: f1 is of its class pos" in two.notes
    words = [{"words": f"w{i}", "tags": ("B-X", "O")[i % 2]} for i in range(6)]
    tagged = of(words, words, kind="tagging", text=("words",), label="tags")
    assert told(tagged, "each of its train sentences has one word")
