"""Whatever stands in a task's files: a located task, or a refusal that begins with a place; never another exception."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow.parquet import write_table

from panda_trainable.config.task import TaskSpec
from panda_trainable.data.locate import located
from panda_trainable.data.task_table import TASKS
from panda_trainable.origins.folder import READERS

SPEC = TaskSpec("t", "classification", ("a",), "label", ("no", "yes"), ("accuracy",))
TAGS = replace(TASKS["conll03"], name="t")
QUESTIONS = replace(TASKS["multirc"], name="t")
PLACE = re.compile(r"((task )?t: |t/(train|validation|test)(: |\.[a-z]+(:[1-9]\d*|, row [1-9]\d*)?: ))")
ROWS: Mapping[str, dict[str, Any]] = {
    "cola": {"sentence": "w1", "label": 0, "id": "x"},
    "stsb": {"sentence1": "w1", "sentence2": "w2", "label": 0.5},
    "copa": {"premise": "w", "choice1": "w", "choice2": "w", "question": "cause", "label": 0},
    "wic": {
        "word": "w",
        "sentence1": "a w",
        "sentence2": "w",
        "start1": 2,
        "end1": 3,
        "start2": 0,
        "end2": 1,
        "label": 0,
    },
    "wsc": {"text": "w1 w2", "span1_text": "w1", "span2_text": "w2", "span1_index": 0, "span2_index": 1, "label": 0},
    "multirc": {"paragraph": "w", "question": "w", "answer": "w", "label": 0},
    "record": {"passage": "w", "query": "@placeholder w", "entities": ["a", "b"], "answers": ["a"]},
    "squad": {"question": "w", "context": "w1 w2", "answers": {"text": ["w2"], "answer_start": [3]}},
    "conll03": {"words": ["w1", "w2"], "tags": ["O", "B-PER"]},
}
"""Task -> a row of it."""

deterministic = settings(deadline=None, derandomize=True, database=None)
scalars = st.one_of(
    st.sampled_from([None, True, False, 10**400, -(10**400), 2**63, 1e308, float("inf")]),
    st.integers(-3, 12),
    st.floats(),
    st.text(max_size=8),
    st.text("0123456789-+.e ", max_size=5),
    st.sampled_from(["cause", "effect", "@placeholder", "yes", "acceptable", "O", "B-PER", "w1", "\ud800", "\0"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["text", "answer_start", "a"]), inner, max_size=3),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """A data folder with the task `t`."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "t").mkdir()
        yield Path(folder)


def refusals(spec: TaskSpec, data: Path) -> list[str]:
    """Nothing where the task is located; else the lines of its refusal, which begin with places."""
    try:
        assert {split for split, _ in located(spec, data).fingerprints} == {"train", "validation"}
    except ValueError as error:
        said = str(error).replace(f"{data}/", "")
        assert type(error) is ValueError, repr(error)
        lines = said.splitlines()
        assert [line for line in lines if not PLACE.match(line)] == []
        return lines
    return []


def put(data: Path, ending: str, content: bytes, validation: bytes) -> None:
    """Leaves these two files and no other."""
    for path in (data / "t").iterdir():
        path.unlink()
    (data / "t" / f"train.{ending}").write_bytes(content)
    (data / "t" / f"validation.{ending}").write_bytes(validation)


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_json(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(rows, indent=1).encode()


def as_tsv(rows: list[dict[str, Any]]) -> bytes:
    """As GLUE writes it: no quotes, so that no cell holds a tab or a line break."""
    lines = [list(rows[0]), *([row[name] for name in rows[0]] for row in rows)]
    cells = [[" ".join(cell) if isinstance(cell, list) else str(cell) for cell in line] for line in lines]
    return "".join("\t".join(" ".join(re.split("[\t\r\n]", cell)) for cell in line) + "\n" for line in cells).encode()


def as_table(delimiter: str) -> Callable[[list[dict[str, Any]]], bytes]:
    def made(rows: list[dict[str, Any]]) -> bytes:
        file = io.StringIO(newline="")
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        cells = [{k: " ".join(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows]
        writer.writerows(cells)
        return file.getvalue().encode()

    return made


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def as_arrow(rows: list[dict[str, Any]]) -> bytes:
    file, table = io.BytesIO(), pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    return file.getvalue()


def as_conll(rows: list[dict[str, Any]]) -> bytes:
    sentences = ["".join(f"{w} _ {t}\n" for w, t in zip(row["words"], row["tags"], strict=True)) for row in rows]
    return "\n".join(sentences).encode()


WRITERS: Mapping[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "jsonl": as_jsonl,
    "csv": as_table(","),
    "tsv": as_tsv,
    "json": as_json,
    "arrow": as_arrow,
    "parquet": as_parquet,
    "conll": as_conll,
    "txt": as_tsv,
}
GOOD = [{"a": 'w1, "w2"\nw3', "label": "no"}, {"a": "é\tw", "label": "yes"}]
SENTENCES = [{"words": ["EU", "é"], "tags": ["B-ORG", "O"]}, {"words": ["w1"], "tags": ["O"]}]


def test_every_format_is_tested() -> None:
    assert set(WRITERS) == set(READERS)


def _good(ending: str) -> tuple[TaskSpec, bytes]:
    """A task and a good file of it."""
    return (TAGS, as_conll(SENTENCES)) if ending == "conll" else (SPEC, WRITERS[ending](GOOD))


@pytest.mark.parametrize("ending", READERS)
@settings(deterministic, max_examples=100)
@given(content=st.binary(max_size=120))
def test_any_bytes_are_rows_or_a_refusal_that_names_the_file(data: Path, ending: str, content: bytes) -> None:
    spec, good = _good(ending)
    put(data, ending, content, good)
    assert all(f"t/train.{ending}" in line or line.startswith("t/train: ") for line in refusals(spec, data))


@pytest.mark.parametrize("ending", READERS)
@settings(deterministic, max_examples=120)
@given(st.data())
def test_a_good_file_with_some_bytes_changed_is_rows_or_a_refusal(
    data: Path, ending: str, drawn: st.DataObject
) -> None:
    spec, good = _good(ending)
    at = drawn.draw(st.integers(0, len(good)))
    left_out = drawn.draw(st.integers(0, 3))
    marks = st.sampled_from([b'"', b"\n", b"\r", b"\0", b",", b"\t", b"{", b"[", b"\xff", b"\xef\xbb\xbf", b" "])
    content = good[:at] + b"".join(drawn.draw(st.lists(marks, max_size=3))) + good[at + left_out :]
    put(data, ending, content, good)
    refusals(spec, data)


@pytest.mark.parametrize("name", ROWS)
@settings(deterministic, max_examples=120)
@given(st.data())
def test_a_row_with_anything_in_its_fields_is_read_or_refused_with_its_line(
    data: Path, name: str, drawn: st.DataObject
) -> None:
    changes = drawn.draw(st.dictionaries(st.sampled_from([*ROWS[name], "other"]), values, max_size=2))
    row = {**ROWS[name], **changes}
    for left_out in drawn.draw(st.lists(st.sampled_from(list(ROWS[name])), max_size=1)):
        row.pop(left_out)
    put(data, "jsonl", as_jsonl([ROWS[name], row]), as_jsonl([ROWS[name]]))
    said = refusals(replace(TASKS[name], name="t"), data)
    assert all(
        line.startswith(("t/train.jsonl:2: ", "t/train.jsonl: ", "t/validation.jsonl: ", "t: ")) for line in said
    )


@pytest.mark.parametrize("name", ["cola", "conll03", "squad"])
@settings(deterministic, max_examples=50)
@given(st.data())
def test_a_row_of_parquet_with_anything_in_its_fields_is_read_or_refused(
    data: Path, name: str, drawn: st.DataObject
) -> None:
    columns = [
        pa.array([["w"], ["w", None]]),
        pa.array([b"w", b"\xff"]),
        pa.array([1, None], pa.date32()),
        pa.array([0, 1], pa.decimal128(3)),
        pa.array([0, 1], pa.float16()),
        pa.array([1, 2**60], pa.timestamp("us")),
        pa.array([None, None]),
        pa.array(["w1", "O"]).dictionary_encode(),
        pa.array([[("text", 1)], None], pa.map_(pa.string(), pa.int64())),
        pa.array([{"text": ["w2"], "answer_start": [3]}, {"text": None, "answer_start": [1]}]),
    ]
    table = pa.Table.from_pylist([ROWS[name], ROWS[name]])
    field = drawn.draw(st.sampled_from([*ROWS[name], "other"]))
    table = table.drop_columns([field] if field in ROWS[name] else [])
    table = table.append_column(field, drawn.draw(st.sampled_from(columns)))
    file = io.BytesIO()
    write_table(table, file)
    put(data, "parquet", file.getvalue(), as_parquet([ROWS[name]]))
    refusals(replace(TASKS[name], name="t"), data)


words = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=6)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20).filter(str.strip)
labelled = st.fixed_dictionaries({"a": texts, "label": st.sampled_from(["no", "yes"])})
tagged = st.lists(st.tuples(words, st.sampled_from(TAGS.classes)), min_size=1, max_size=5).map(
    lambda pairs: {"words": [word for word, _ in pairs], "tags": [tag for _, tag in pairs]}
)


def _identities(spec: TaskSpec, data: Path, rows: list[dict[str, Any]], endings: list[str]) -> set[str]:
    found = set()
    for ending in endings:
        put(data, ending, WRITERS[ending](rows), WRITERS[ending](rows))
        found |= {digest for _, digest in located(spec, data).fingerprints}
    return found


@settings(deterministic, max_examples=100)
@given(rows=st.lists(labelled, max_size=5))
def test_rows_have_one_fingerprint_in_every_format(data: Path, rows: list[dict[str, Any]]) -> None:
    both = [*rows, {"a": "w", "label": "no"}, {"a": "w", "label": "yes"}]
    unquoted = ["tsv"] if not any(set(row["a"]) & set("\t\r\n") for row in rows) else []
    assert len(_identities(SPEC, data, both, ["jsonl", "json", "csv", "parquet", "arrow", *unquoted])) == 1


@settings(deterministic, max_examples=50)
@given(rows=st.lists(tagged, min_size=1, max_size=4))
def test_tagged_words_have_one_fingerprint_in_every_format(data: Path, rows: list[dict[str, Any]]) -> None:
    assert len(_identities(TAGS, data, rows, [ending for ending in READERS if ending != "txt"])) == 1


@settings(deterministic, max_examples=100)
@given(rows=st.lists(labelled, min_size=2, max_size=5), other=labelled, at=st.integers(0, 4))
def test_two_tasks_have_one_fingerprint_only_where_their_rows_are_the_same(
    data: Path, rows: list[dict[str, Any]], other: dict[str, Any], at: int
) -> None:
    ends = [{"a": "w", "label": "no"}, {"a": "w", "label": "yes"}]
    changed = [*rows[: at % len(rows)], other, *rows[at % len(rows) + 1 :]]
    one, two = (_identities(SPEC, data, [*each, *ends], ["jsonl"]) for each in (rows, changed))
    assert (one == two) == (rows == changed)
