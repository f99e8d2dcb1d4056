"""Readers: every format gives the same rows, and what cannot be read is told with its place and never loaded whole."""

import csv
import gzip
import json
import os
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from pyarrow.parquet import write_table

from panda_trainable.config.origin import ClassValue, Note, Row, Unlocated
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.locate import located
from panda_trainable.origins.folder import READERS, FolderFiles
from panda_trainable.origins.lines import LINE_MIB, PLAIN, Reading
from panda_trainable.origins.tables import CALLED, csv_table

NOBODY = 65534
SPEC = TaskSpec("t", "classification", ("a",), "label", ("no", "yes"), ("accuracy",))
ROWS = [
    {"a": "plain", "b": "1"},
    {"a": "one, two", "b": ' she said "no" '},
    {"a": "two\nlines", "b": "three\r\nwhole\n\nlines"},
    {"a": "\ttab", "b": "naïve \u2028 🐼 \ufeff"},
    {"a": "", "b": "-DOCSTART-"},
]
SENTENCES = [
    {"words": ["EU", "rejects", '"'], "tags": ["B-ORG", "O", "O"]},
    {"words": ["Zoë"], "tags": ["B-PER"]},
]

Made = Callable[[str, str | bytes], Path]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Makes a file: made("train.csv", "a,b")."""

    def make(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


def read(path: Path) -> list[tuple[str, Row]]:
    """What its reader gives: (place, row) with the place's folder left out."""
    rows = READERS[path.suffix[1:]](path, PLAIN)
    return [(place.removeprefix(f"{path.parent}/"), row) for place, row in rows]


def said(path: Path) -> list[str]:
    """The problems of a file, with their places."""
    return [f"{place}: {row}" for place, row in read(path) if isinstance(row, str)]


def table(path: Path, rows: Sequence[dict[str, str]], delimiter: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """The rows in the format of the path's ending."""
    if path.suffix == ".parquet":
        write_table(pa.Table.from_pylist(list(rows)), path)
    elif path.suffix == ".arrow":
        with (
            pa.OSFile(str(path), "wb") as file,
            pa.ipc.new_stream(file, pa.Table.from_pylist(list(rows)).schema) as out,
        ):
            out.write_table(pa.Table.from_pylist(list(rows)))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        table(path, rows, ",")


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet", "arrow"])
def test_a_format_gives_the_rows_that_were_written(tmp_path: Path, ending: str) -> None:
    write(tmp_path / f"train.{ending}", ROWS)
    assert [row for _, row in read(tmp_path / f"train.{ending}")] == ROWS


QUOTES = ['"Good', 'so "good"', '"quoted"', 'ends"', '"', '""', "it's", '"a "b" c"', ' " ', '"x", y']


@pytest.mark.parametrize(
    "around",
    [
        {"data": ROWS}, {"data": ROWS, "classes": ["no", "yes"]}, {"version": "1", "rows": ROWS, "tags": []}, {"n": 2, "d": ROWS, "x": {}},
        {"d": ROWS, "numbers": [1, 2]},
    ],
)  # fmt: skip
@pytest.mark.parametrize("indent", [None, 1])
def test_the_one_array_of_objects_in_an_object_is_its_rows(made: Made, around: object, indent: int | None) -> None:
    rows = [row for _, row in read(made("x.json", json.dumps(around, indent=indent)))]
    assert isinstance(rows[0], Note)
    assert rows[1:] == ROWS


def test_quotes_in_tsv_are_text_and_swallow_no_row(made: Made) -> None:
    """GLUE and SemEval write their TSV without quoting: a cell that begins with a quote is a text like any other."""
    lines = "".join(f"{text}\t{number}\n" for number, text in enumerate(QUOTES))
    path = made("x.tsv", "a\tb\n" + lines)
    assert [row for _, row in read(path)] == [{"a": text, "b": str(number)} for number, text in enumerate(QUOTES)]


def test_tsv_whose_header_is_quoted_is_a_quoted_table_and_says_so(made: Made) -> None:
    rows = read(made("x.tsv", '"a"\t"b"\n"one\ttwo\nthree ""four"""\t"1"\n'))
    assert [row for _, row in rows] == [
        Note("its header is quoted, so quotes around its cells are none of the text"),
        {"a": 'one\ttwo\nthree "four"', "b": "1"},
    ]


def test_tsv_that_was_written_with_doubled_quotes_is_read_as_it_stands_and_told(made: Made) -> None:
    rows = read(made("x.tsv", 'a\tb\n"he said ""no"""\t1\nw\t2\n'))
    assert rows[0] == ("x.tsv:2", {"a": '"he said ""no"""', "b": "1"})
    assert rows[-1] == ("x.tsv:2", Note("quotes are read as parts of the text, since columns are divided by tabs"))


def test_a_tsv_cell_over_two_lines_is_refused_with_what_to_do(made: Made) -> None:
    told = said(made("x.tsv", 'a\tb\n"one\ntwo"\t1\n'))
    assert told == [
        "x.tsv:2: has 1 fields where the header has 2: a, b; a text that holds a tab or a line break belongs into a CSV or JSON lines file"
    ]


def test_a_csv_cell_that_swallows_rows_is_told(made: Made) -> None:
    rows = read(made("x.csv", 'a,b\n"Good,1\nbad,0\nso it goes",1\nw,0\n'))
    assert rows[-1][1] == Note(
        "a quoted cell holds lines that look like rows of their own: is its quote part of the text?"
    )
    assert not [row for _, row in read(made("x.csv", 'a,b\n"Dear all\nthank you, all\nbye",1\n'))[1:] if row == ROWS]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_the_delimiter_is_found_in_the_header_and_told_where_it_is_another(made: Made, ending: str, mark: str) -> None:
    rows = read(made(f"x.{ending}", mark.join("ab") + "\n" + mark.join(("w 1", "2")) + "\n"))
    assert rows[-1][1] == {"a": "w 1", "b": "2"}
    notes = [row.text for _, row in rows if isinstance(row, Note)]
    usual = {"csv": ",", "tsv": "\t"}[ending] == mark
    assert notes == ([] if usual else [f"its columns are divided by {CALLED[mark]}"])


def test_a_delimiter_that_is_given_is_taken(made: Made) -> None:
    path = made("x.csv", "a, or b;label\nw, w;1\n")
    assert [row for _, row in csv_table(path, Reading(";"))] == [{"a, or b": "w, w", "label": "1"}]


def test_an_index_column_without_a_name_and_trailing_delimiters_are_left_out_and_told(made: Made) -> None:
    assert [row for _, row in read(made("x.csv", ",a,b\n0,w,1\n"))] == [
        Note("column 1 has no name and is left out"), {"a": "w", "b": "1"},
    ]  # fmt: skip
    assert [row for _, row in read(made("x.csv", "a,b,,\nw,1,,\nv,2\n"))][1] == {"a": "w", "b": "1"}
    assert [row for _, row in read(made("x.csv", "a,b\nw,1,,\n,,\n\n"))] == [{"a": "w", "b": "1"}]


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.csv.gz", "x.tsv.gz", "x.conll.gz", "x.json.gz"])
def test_a_compressed_file_has_the_rows_of_the_file(tmp_path: Path, name: str) -> None:
    plain = {
        "jsonl": '{"a": "é"}\n', "csv": "a\né\n", "tsv": "a\né\n", "conll": "é O\n", "json": '[{"a": "é"}]',
    }[name.split(".")[1]]  # fmt: skip
    (tmp_path / name).write_bytes(gzip.compress(plain.encode()))
    reader = READERS[name.split(".")[1]]
    (tmp_path / name.removesuffix(".gz")).write_text(plain, encoding="utf-8")
    assert [row for _, row in reader(tmp_path / name, PLAIN)] == [
        row for _, row in reader(tmp_path / name.removesuffix(".gz"), PLAIN)
    ]
    (tmp_path / name).write_bytes(gzip.compress(plain.encode() * 500)[:-12])
    told = [row for _, row in reader(tmp_path / name, PLAIN) if isinstance(row, str)]
    assert told
    assert "gzip" in told[-1]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
        ('\ufeff [\n{"a":\n1}]', [{"a": 1}]),
        ('{"a": 1}\n{"a": 2}\n\n', [{"a": 1}, {"a": 2}]),
        (
            '{"version": "1", "data": [{"a": 1}, {"a": 2}]}\n',
            [Note("its rows are the array 'data'"), {"a": 1}, {"a": 2}],
        ),
        ('{"a": 1, "label": [0]}\n', [{"a": 1, "label": [0]}]),
        ('{\n"version": "1", "data": [{"a": 1}]}', [Note("its rows are the array 'data'"), {"a": 1}]),
        ("[3]", ["an element of the array must be a JSON object, got 3"]),
        ("", []),
    ],
)
def test_json_is_an_array_or_lines(made: Made, text: str, rows: list[Row]) -> None:
    assert [row for _, row in read(made("x.json", text))] == rows


@pytest.mark.parametrize("text", ["3", '{"a": 1', '[{"a": 1}', '{"a": [1], "b": [2]', "x"])
def test_json_that_holds_no_rows_is_refused(made: Made, text: str) -> None:
    (told,) = said(made("x.json", text))
    assert told.startswith("x.json")
    assert "JSON" in told


def test_a_class_column_gives_the_names_of_its_classes(tmp_path: Path) -> None:
    """`datasets` writes which names the numbers have: [yes, no] makes 0 a yes, whatever a task's order is."""
    made = Dataset.from_dict({"a": ["w", "v"], "label": [0, 1], "tags": [[1], [0, 1]]}).cast(
        Features(
            {"a": Value("string"), "label": ClassLabel(names=["yes", "no"]), "tags": List(ClassLabel(names=["O", "B"]))}
        )
    )
    made.to_parquet(tmp_path / "train.parquet")
    made.save_to_disk(tmp_path / "saved")
    DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "both")
    yes, no = (ClassValue(number, ("yes", "no")) for number in (0, 1))
    o, b = (ClassValue(number, ("O", "B")) for number in (0, 1))
    expected = [{"a": "w", "label": yes, "tags": [b]}, {"a": "v", "label": no, "tags": [o, b]}]
    for folder in (tmp_path, tmp_path / "saved", tmp_path / "both"):
        assert [row for _, row in FolderFiles(folder).rows("train")] == expected
    assert FolderFiles(tmp_path / "both").splits() == ("train", "test")
    assert yes.name == "yes"


def test_conll_gives_the_sentences_that_json_lines_and_parquet_give(tmp_path: Path) -> None:
    lines = ["-DOCSTART- -X- O", "", "EU NNP B-ORG", "rejects\tVBZ\tO", '" O', "", "Zoë NNP B-PER", ""]
    (tmp_path / "train.conll").write_text("\n".join(lines), encoding="utf-8")
    assert [row for _, row in read(tmp_path / "train.conll")] == SENTENCES
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in SENTENCES), encoding="utf-8")
    write_table(pa.Table.from_pylist(SENTENCES), tmp_path / "train.parquet")
    for ending in ("jsonl", "parquet"):
        assert [row for _, row in read(tmp_path / f"train.{ending}")] == SENTENCES


@pytest.mark.parametrize(
    ("name", "text", "places"),
    [
        ("x.jsonl", '{"a": 1}\n{"a": 2}', ["x.jsonl:1", "x.jsonl:2"]),
        ("x.csv", "a,b\n1,2\n\n3,4\n", ["x.csv:2", "x.csv:4"]),
        ("x.csv", 'a,b\n"1\n1",2\n3,4\n', ["x.csv:2", "x.csv:4"]),
        ("x.conll", "\n\na O\nb O\n\n\nc O\n-DOCSTART- O\nd O", ["x.conll:3", "x.conll:7", "x.conll:9"]),
    ],
)
def test_a_row_has_the_place_of_a_line_of_its_file(made: Made, name: str, text: str, places: list[str]) -> None:
    assert [place for place, _ in read(made(name, text))] == places


def test_a_row_of_parquet_has_its_number_as_its_place(tmp_path: Path) -> None:
    write_table(pa.table({"a": [str(i) for i in range(2500)]}), tmp_path / "x.parquet", row_group_size=700)
    rows = read(tmp_path / "x.parquet")
    assert (len(rows), rows[0], rows[-1]) == (
        2500,
        ("x.parquet, row 1", {"a": "0"}),
        ("x.parquet, row 2500", {"a": "2499"}),
    )


@pytest.mark.parametrize(
    ("name", "text", "row"),
    [
        ("x.jsonl", '{"a": "w", "b": "1"}\n', {"a": "w", "b": "1"}),
        ("x.csv", "a,b\nw,1\n", {"a": "w", "b": "1"}),
        ("x.csv", '"a",b\nw,1\n', {"a": "w", "b": "1"}),
        ("x.tsv", "a\tb\nw\t1\n", {"a": "w", "b": "1"}),
        ("x.conll", "w O\n", {"words": ["w"], "tags": ["O"]}),
    ],
)
def test_neither_a_byte_order_mark_nor_line_ends_of_windows_belong_to_a_row(
    made: Made, name: str, text: str, row: Row
) -> None:
    for content in (text, "\ufeff" + text, text.replace("\n", "\r\n"), text.rstrip("\n")):
        assert [each for _, each in read(made(name, content))] == [row]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("x.csv", "a,b\n1,2\n3\n5,6\n", "x.csv:3: has 1 fields where the header has 2: a, b"),
        ("x.csv", "a,b\n1,2,3\n", "x.csv:2: has 3 fields where the header has 2: a, b"),
        ("x.tsv", "a\tb\n1,2\n", "x.tsv:2: has 1 fields where the header has 2: a, b"),
        ("x.csv", "a,b,a\n1,2,3\n", "x.csv:1: the first line must name every column once, got ['a', 'b', 'a']"),
        ("x.csv", "a, a\n1,2\n", "x.csv:1: the first line must name every column once, got ['a', 'a']"),
        ("x.csv", ",\n0,0\n", "x.csv:2: the first line must name every column once, got ['0', '0']"),
        ("x.csv", 'a,b\n1,"2" 3\n5,6\n', "x.csv:2: is not a table of columns divided by ',' ("),
        ("x.csv", "a,b\r1,2\r", "x.csv:1: is not a table of columns divided by ',' ("),
        ("x.jsonl", '[{"a": 1}]', "x.jsonl:1: a line must be one JSON object, got '[{\"a\": 1}]'"),
        ("x.jsonl", "3\n", "x.jsonl:1: a line must be one JSON object, got '3'"),
        ("x.jsonl", "null", "x.jsonl:1: a line must be one JSON object, got 'null'"),
        ("x.jsonl", '{"a": 1', "x.jsonl:1: a line must be one JSON object ("),
        ("x.jsonl", '{"a": 1} {"a": 2}', "x.jsonl:1: a line must be one JSON object (Extra data"),
        ("x.jsonl", '{"a": 1%s}' % ("0" * 5000), "x.jsonl:1: a line must be one JSON object ("),
        ("x.conll", "EU B-ORG\nrejects\nb O\n", "x.conll:2: a line must hold a word and its tag, got 'rejects'"),
        ("x.conll", "a O\n\nEU\n\nb O", "x.conll:3: a line must hold a word and its tag, got 'EU'"),
        ("x.conll", "a O\nEU", "x.conll:2: a line must hold a word and its tag, got 'EU'"),
    ],
)
def test_what_is_no_row_is_told_with_its_line(made: Made, name: str, text: str, problem: str) -> None:
    (told,) = said(made(name, text))
    assert told.startswith(problem)


@pytest.mark.parametrize("brackets", ["[]", ("{" + '"a":', "}")])
@pytest.mark.parametrize("depth", [500, 5_000, 200_000])
def test_json_however_deep_is_a_row_or_told_with_its_line(made: Made, brackets: str, depth: int) -> None:
    text = '{"a": %s%s}' % (brackets[0] * depth + "1" * (brackets[1] == "}"), brackets[1] * depth)
    ((place, row),) = read(made("x.jsonl", text + "\n"))
    assert place == "x.jsonl:1"
    assert isinstance(row, dict) or row.startswith("a line must be one JSON object (")


def test_a_sentence_with_two_wrong_lines_is_told_at_the_first(made: Made) -> None:
    (told,) = said(made("x.conll", "EU\nrejects\nGerman O\n"))
    assert told == "x.conll:1: a line must hold a word and its tag, got 'EU'"


@pytest.mark.parametrize("comment", ["# id = 3", "# newdoc id = x y", "#12", "#begin document (a); part 0", "# a b c"])
def test_a_comment_before_a_sentence_is_none_of_its_words(made: Made, comment: str) -> None:
    rows = [row for _, row in read(made("x.conll", f"{comment}\nEU B-ORG\n\n# O\n# B-X\n"))]
    assert rows == [{"words": ["EU"], "tags": ["B-ORG"]}, {"words": ["#", "#"], "tags": ["O", "B-X"]}]


def test_columns_of_conll_are_divided_by_spaces_and_tabs_only(made: Made) -> None:
    """A no-break space stands inside a word: `10 000` is one number."""
    assert read(made("x.conll", "10\u00a0000 O\nyen O\n")) == [
        ("x.conll:1", {"words": ["10\u00a0000", "yen"], "tags": ["O", "O"]})
    ]


def test_a_quote_that_is_not_closed_is_told_where_it_was_opened(made: Made) -> None:
    (told,) = said(made("x.csv", 'a,b\n1,2\n"3,4\n' + "5,6\n" * 50))
    assert told.startswith("x.csv:3: is not a table of columns divided by ','")


def test_a_problem_is_one_line_whatever_the_columns_are_called(made: Made) -> None:
    (told,) = said(made("x.csv", '"first\nname",b\n1,2\n3\n'))
    assert told.startswith("x.csv:4: has 1 fields where the header has 2: ")
    assert "\n" not in told


def test_good_rows_before_and_after_a_ragged_one_are_read(made: Made) -> None:
    rows = read(made("x.csv", "a,b\n1,2\n3\n5,6\n"))
    assert [row for _, row in rows if not isinstance(row, str)] == [{"a": "1", "b": "2"}, {"a": "5", "b": "6"}]


@pytest.mark.parametrize(
    ("name", "text", "line", "column"),
    [
        ("x.jsonl", '{"a": "w"}\n{"a": "café"}\n', 2, 11),
        ("x.csv", "a,b\nw,1\nw,café\nw,2\n", 3, 6),
        ("x.tsv", "é\tb\nw\t1\n", 1, 1),
        ("x.conll", "w O\n\nw O\né O\n", 4, 1),
    ],
)
def test_a_file_in_another_encoding_is_told_once_with_line_and_byte(
    made: Made, name: str, text: str, line: int, column: int
) -> None:
    (told,) = said(made(name, text.encode("latin-1")))
    assert f": must be UTF-8, got byte 0xe9 at column {column}; save the file as UTF-8" in told
    assert told.startswith(f"{name}:{line}: ")
    (wide,) = said(made(name, text.encode("utf-16")))
    assert wide == f"{name}:1: must be UTF-8, got byte 0xff at column 1; save the file as UTF-8"


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.tsv", "x.conll"])
def test_a_line_that_is_too_long_is_told_and_the_others_are_read(made: Made, name: str) -> None:
    first, good = {"x.jsonl": ('{"a": "w"}\n', '{"a": "v"}\n'), "x.conll": ("w O\n\n", "\nv O\n")}.get(
        name, ("a\nw\n", "v\n")
    )
    rows = read(made(name, first.encode() + b"x" * (17 * 2**20) + b"\n" + good.encode()))
    assert [row for _, row in rows if isinstance(row, str)] == [
        f"a line must be shorter than {LINE_MIB} MiB; split the file into lines"
    ]
    assert [place for place, row in rows if isinstance(row, str)] == [f"{name}:{first.count(chr(10)) + 1}"]
    assert [row for _, row in rows if isinstance(row, dict)] == (
        [{"words": ["w"], "tags": ["O"]}, {"words": ["v"], "tags": ["O"]}]
        if name == "x.conll"
        else [{"a": "w"}, {"a": "v"}]
    )


def test_a_file_that_is_one_huge_line_is_never_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    with path.open("wb") as file:
        file.truncate(256 * 2**20)  # NUL bytes that take no room on disk
    tracemalloc.start()
    try:
        assert said(path) == ["train.jsonl:1: a line must be shorter than 16 MiB; split the file into lines"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * LINE_MIB * 2**20


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no table", b"PAR1" + b"x" * 60 + b"PAR1", b"\0" * 5000])
def test_what_is_not_parquet_is_told_with_its_file(made: Made, content: bytes) -> None:
    (told,) = said(made("x.parquet", content))
    assert told.startswith("x.parquet: cannot be read as Parquet (")
    assert "\n" not in told


@pytest.mark.parametrize("cut", [1, 40, 400])
def test_a_parquet_file_that_was_cut_is_told_with_its_file(tmp_path: Path, cut: int) -> None:
    write_table(pa.table({"a": ["w"] * 500}), tmp_path / "x.parquet")
    content = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(content[:-cut])
    (told,) = said(tmp_path / "x.parquet")
    assert told.startswith("x.parquet: cannot be read as Parquet (")


@pytest.mark.parametrize(
    "values",
    [
        pa.array([2**62, 0], pa.timestamp("us")),
        pa.array([2**31 - 1, 0], pa.date32()),
        pa.array([2**62, 0], pa.duration("s")),
        pa.array([1, 0], pa.timestamp("us", "Nowhere/Atlantis")),
    ],
    ids=["timestamp", "date", "duration", "timezone"],
)
def test_a_parquet_value_that_python_has_no_type_for_is_told_with_its_file(tmp_path: Path, values: pa.Array) -> None:
    write_table(pa.table({"a": ["w1", "w2"], "when": values}), tmp_path / "x.parquet")
    (told,) = said(tmp_path / "x.parquet")
    assert told.startswith("x.parquet")
    assert "cannot be read" in told


def test_a_parquet_text_that_is_not_utf8_is_told_with_its_file(tmp_path: Path) -> None:
    offsets = b"".join(n.to_bytes(4, "little") for n in (0, 1, 2))
    texts = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(offsets), pa.py_buffer(b"w\xe9")])
    write_table(pa.table({"a": texts}), tmp_path / "x.parquet")
    (told,) = said(tmp_path / "x.parquet")
    assert told.startswith("x.parquet: cannot be read as Parquet (")


def test_a_parquet_file_that_names_a_column_twice_is_told(tmp_path: Path) -> None:
    write_table(pa.table([["w1", "w2"], [0, 1], [1, 0]], names=["a", "label", "label"]), tmp_path / "x.parquet")
    told = " ".join(said(tmp_path / "x.parquet"))
    assert told.startswith("x.parquet")
    assert "label" in told


@pytest.mark.parametrize("ending", READERS)
def test_an_empty_file_gives_no_row(made: Made, ending: str) -> None:
    path = made(f"x.{ending}", b"")
    assert [row for _, row in read(path) if isinstance(row, dict)] == []
    assert bool(said(path)) == (ending in ("parquet", "arrow"))


@pytest.mark.parametrize("text", ["\n\n", "a,b\n", "\ufeff"])
def test_a_table_of_a_header_or_nothing_gives_no_row(made: Made, text: str) -> None:
    assert read(made("x.csv", text)) == []


def test_the_file_of_a_split_is_found_by_its_ending(tmp_path: Path) -> None:
    assert FolderFiles(tmp_path).place("train") == str(tmp_path / "train.jsonl")
    for ending in READERS:
        folder = tmp_path / ending
        folder.mkdir()
        (folder / f"train.{ending}").touch()
        assert FolderFiles(folder).files("train") == (folder / f"train.{ending}",)


def test_two_files_of_one_split_are_refused_by_name(tmp_path: Path) -> None:
    for name in ("train.csv", "train.jsonl", "validation.csv"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"train must be one file, got train.csv, train.jsonl$"):
        FolderFiles(tmp_path).files("train")
    assert FolderFiles(tmp_path).files("validation") == (tmp_path / "validation.csv",)


def test_a_folder_with_the_name_of_a_file_is_not_the_file(tmp_path: Path) -> None:
    (tmp_path / "t" / "train.csv").mkdir(parents=True)
    (tmp_path / "t" / "train.jsonl").write_text('{"a": "w", "label": 0}\n')
    assert FolderFiles(tmp_path / "t").files("train") == (tmp_path / "t" / "train.jsonl",)
    (tmp_path / "t" / "train.jsonl").unlink()
    with pytest.raises(ValueError, match="task t: train and validation or test not found in"):
        located(SPEC, tmp_path)


@pytest.fixture
def forbidden() -> Iterator[Callable[..., Path]]:
    """Makes a data folder in which one path may not be opened; root opens all, so it is another user until the test ends."""
    with TemporaryDirectory() as name:
        data = Path(name)

        def make(ending: str, path: str) -> Path:
            (data / "t").mkdir()
            for split in ("train", "validation"):
                (data / "t" / f"{split}.{ending}").write_text("w O\n")
            (data / path).chmod(0)
            if os.geteuid() == 0:
                data.chmod(0o755)
                try:
                    os.seteuid(NOBODY)
                except OSError:
                    pytest.skip("root opens every file and cannot be another user here")
            return data

        try:
            yield make
        finally:
            os.seteuid(os.getuid())
            (data / "t").chmod(0o700)


@pytest.mark.parametrize("ending", READERS)
def test_a_file_that_may_not_be_read_is_refused_by_name(forbidden: Callable[..., Path], ending: str) -> None:
    with pytest.raises(ValueError, match=rf"t/train.{ending}: cannot be read.*[Pp]ermission denied"):
        located(SPEC, forbidden(ending, f"t/train.{ending}"))


def test_a_folder_that_may_not_be_entered_is_refused_by_name(forbidden: Callable[..., Path]) -> None:
    data = forbidden("jsonl", "t")
    with pytest.raises(ValueError, match=str(data / "t")):
        located(SPEC, data)


def test_a_folder_whose_name_is_too_long_for_a_file_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x" * 300):
        located(replace(SPEC, origin=Unlocated("x" * 300)), tmp_path)
