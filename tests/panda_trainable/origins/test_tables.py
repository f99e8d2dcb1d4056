"""Tables without a header line, by the names that a task gives; cells in quotes behind a space."""

import json
from pathlib import Path
from typing import Any

import pytest

from panda_trainable.config.origin import Note, Reading, Row
from panda_trainable.config.task_section import TaskSection
from panda_trainable.data.locate import located
from panda_trainable.data.rows import Findings, examples
from panda_trainable.origins.tables import csv_table, looks_like_row, tsv_table
from tests.kits.tasks import write_task

COLUMNS = ("label", "id", "text")
ROWS = [{"label": "1", "id": "7", "text": "so it is"}, {"label": "0", "id": "8", "text": "w"}]


def read(path: Path, content: str, reading: Reading = Reading(columns=COLUMNS)) -> list[Row]:  # noqa: B008  a value
    path.write_text(content, encoding="utf-8")
    return [row for _, row in (tsv_table if path.suffix == ".tsv" else csv_table)(path, reading)]


@pytest.mark.parametrize(
    ("name", "content", "notes"),
    [
        ("x.tsv", "1\t7\tso it is\n0\t8\tw\n", []),
        ("x.csv", "1,7,so it is\n0,8,w\n", []),
        ("x.csv", "1;7;so it is\n0;8;w\n", ["its columns are divided by semicolons"]),
        ("x.csv", "\n1,7,so it is\n\n0,8,w\n\n", []),
        ("x.csv", '1,7,"so it is"\n0,8,"w"\n', []),
        ("x.csv", "Label,ID,text\n1,7,so it is\n0,8,w\n", ["its first line names columns and is no row; they are called as `columns` says"]),
        ("x.csv", "ID,text,label\n7,so it is,1\n8,w,0\n", ["its first line names its columns, which are not as `columns` says; they are read as the file has them"]),
        ("x.csv", "label,number,text\n1,7,so it is\n0,8,w\n", ["its first line names columns and is no row; they are called as `columns` says"]),
    ],
)  # fmt: skip
def test_columns_that_a_task_names_are_those_of_a_table(tmp_path: Path, name: str, content: str, notes: list[str]) -> None:  # fmt: skip
    found = read(tmp_path / name, content)
    assert [note.text for note in found if isinstance(note, Note)] == notes
    assert [row for row in found if isinstance(row, dict)] == ROWS


def test_a_header_of_other_columns_is_read_and_told(tmp_path: Path) -> None:
    """As GLUE's CoLA, whose test file alone has a header."""
    assert read(tmp_path / "x.tsv", "index\ttext\n3\tw\n") == [
        Note("its first line names its columns, which are not as `columns` says; they are read as the file has them"), {"index": "3", "text": "w"},
    ]  # fmt: skip


def test_a_row_of_another_number_of_columns_is_refused(tmp_path: Path) -> None:
    assert read(tmp_path / "x.csv", "1,7\n0,8,w\n") == ["has 2 fields where `columns` has 3: label, id, text", ROWS[1]]
    unread = Reading(columns=("label", "", "text"))
    assert read(tmp_path / "x.csv", "0,8,w\n", unread) == [{"label": "0", "text": "w"}]


@pytest.mark.parametrize(
    ("content", "seems"),
    [
        ("1,so it is\n0,w\n", True),
        ("0.5,w\n1.5,v\n", True),
        ("good,this is a text of six words\nbad,w\n", True),
        ("good," + "w" * 70 + "\nbad,w\n", True),
        ("-1,w\n1,v\n", True),
        ("sentiment,review\ngood,w\n", False),
        ("good,so it is\nbad,so it was\n", False),
    ],
)
@pytest.mark.parametrize("classes", [(), ("0", "1")])
def test_a_file_without_a_header_is_refused_with_what_to_write(
    tmp_path: Path, content: str, seems: bool, classes: tuple[str, ...]
) -> None:
    (tmp_path / "t").mkdir()
    for split in ("train", "dev"):
        (tmp_path / "t" / f"{split}.csv").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="needs the field ") as refused:
        located(TaskSection(text=("text",), classes=classes).spec("t"), tmp_path)
    what = "write `columns: [...]` in the task, a name for each of 2 columns, '' for one that is not read"
    sure = "the first line seems to be a row"
    assert what in str(refused.value)
    assert (sure in str(refused.value)) == seems == looks_like_row(content.split("\n", maxsplit=1)[0].split(","))


def test_a_line_that_nothing_divides_is_refused_with_what_to_write(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    for split in ("train", "dev"):
        (tmp_path / "t" / f"{split}.txt").write_text("__label__no so it is\n__label__yes w\n", encoding="utf-8")
    with pytest.raises(ValueError, match="if something divides its columns, name it by `delimiter` of the task"):
        located(TaskSection(text=("text",)).spec("t"), tmp_path)


def test_columns_of_files_that_are_no_tables_are_told(tmp_path: Path) -> None:
    rows = [{"text": "w", "label": "no"}, {"text": "v", "label": "yes"}]
    write_task(tmp_path / "t", rows, rows)
    task = located(TaskSection(text=("text",), columns=("label", "text")).spec("t"), tmp_path)
    assert any("`columns` is of tables without a header line and not used" in note for note in task.notes)


def test_columns_make_such_a_file_a_task(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    for split, words in (("train", "w"), ("dev", "v")):
        (tmp_path / "t" / f"{split}.csv").write_text(f'1,"so, {words}"\n0,not {words}\n', encoding="utf-8")
    task = located(TaskSection(text=("text",), columns=("label", "text")).spec("t"), tmp_path)
    assert [row.texts for row in examples(task, "train", Findings())] == [(("so, w",),), (("not w",),)]


SPACED: list[tuple[str, list[str]]] = [
    ('1, "b, c"', ["1", "b, c"]),
    ('1,  "b, ""c"""', ["1", 'b, "c"']),
    (' "1", "b, c"', ["1", "b, c"]),
    ('1, "two\nlines, of"', ["1", "two\nlines, of"]),
    ('1, "b"', ["1", "b"]),
    ('1, ""', ["1", ""]),
    ("1, b", ["1", " b"]),
    ('1,"b, c"', ["1", "b, c"]),
    ('1,"he said, ""no"""', ["1", 'he said, "no"']),
    ('1, "Good" she said', ["1", ' "Good" she said']),
    ('1, "open', ["1", ' "open']),
]


@pytest.mark.parametrize("header", ["n,b", '"n","b"', '"n", "b"'])
@pytest.mark.parametrize(("line", "cells"), SPACED)
def test_a_space_before_a_quote_does_not_make_it_a_part_of_the_text(tmp_path: Path, header: str, line: str, cells: list[str]) -> None:  # fmt: skip
    """The line between two others, which must be read as they are."""
    found = read(tmp_path / "x.csv", f"{header}\n0,w\n{line}\n2,v\n", Reading())
    assert found == [{"n": "0", "b": "w"}, dict(zip(("n", "b"), cells, strict=True)), {"n": "2", "b": "v"}]


def test_places_behind_a_spaced_quote_are_those_of_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('n,b\n1, "two\nlines"\n2, "Good" she said\n3,w,x\n', encoding="utf-8")
    assert [place.rpartition(":")[2] for place, _ in csv_table(path)] == ["2", "4", "5"]


WRITTEN = {
    "tab": "\t", "comma": ",", "semicolon": ";", "space": " ", "bar": "|", "Tabs": "\t", "\\t": "\t", "\t": "\t", ":": ":", "": "",
}  # fmt: skip


@pytest.mark.parametrize(("written", "mark"), WRITTEN.items())
def test_a_delimiter_may_be_named(tmp_path: Path, written: str, mark: str) -> None:
    from tuning.experiment.loading import from_values

    values: dict[str, Any] = {
        "name": "x", "plm": "x", "targets": "t", "tasks": {"t": {"text": "a", "delimiter": written, "columns": "a"}},
    }  # fmt: skip
    task = from_values(json.loads(json.dumps(values)), tmp_path).task("t")
    assert task.origin == type(task.origin)("", Reading(mark, ("a",)))
