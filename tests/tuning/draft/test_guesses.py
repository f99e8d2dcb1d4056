"""What `panda-tune new` guesses of files as people have them; what it asks, and what it refuses."""

import gzip
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.kits.tasks import kind_rows, rows_of
from tuning.draft.draft import new
from tuning.experiment.loading import from_values, load
from tuning.experiment.problems import Misuse
from tuning.experiment.yaml_file import parse_yaml
from tuning.planning.resolve import resolve

Write = Callable[[Path], None]
REVIEWS = [{"text": f"a film about {n} days at sea", "label": ("good", "bad")[n % 2]} for n in range(40)]


def drafted(folder: Path, plm: Path | str = "nobody/knows", **options: Any) -> dict[str, Any]:
    """The values of the file that is written for a folder."""
    text = new(folder, folder.parent, plm=str(plm), online=False, **options)
    values = parse_yaml(text)
    assert isinstance(values, dict)
    return values


def table(rows: Sequence[Mapping[str, Any]], mark: str = ",") -> str:
    """Rows as a table without quotes."""
    return "\n".join([mark.join(rows[0]), *(mark.join(map(str, row.values())) for row in rows), ""])


def lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def text_file(name: str, content: str) -> Write:
    return lambda folder: (folder / name).write_text(content, encoding="utf-8") and None  # type: ignore[func-returns-value]


def packed(content: str) -> Write:
    return lambda folder: (folder / "train.jsonl.gz").write_bytes(gzip.compress(content.encode())) and None  # type: ignore[func-returns-value]


def parquet(rows: Sequence[Mapping[str, Any]]) -> Write:
    return lambda folder: pd.DataFrame(rows).to_parquet(folder / "train.parquet")


def class_folders(folder: Path) -> None:
    for row, name in zip(REVIEWS, range(40), strict=True):
        (folder / "train" / row["label"]).mkdir(parents=True, exist_ok=True)
        (folder / "train" / row["label"] / f"{name}.txt").write_text(row["text"], encoding="utf-8")


def conll(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join("".join(f"{w} {t}\n" for w, t in zip(row["words"], row["tags"], strict=True)) + "\n" for row in rows)


def squad(rows: Iterable[Mapping[str, Any]]) -> str:
    paragraphs = [
        {
            "context": row["passage"],
            "qas": [{"id": f"q{n}", "question": f"{row['question']} of {n}?", "answers": [{"text": row["answers"]["text"][0], "answer_start": row["answers"]["answer_start"][0]}]}],
        }
        for n, row in enumerate(rows)
    ]  # fmt: skip
    return json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]})


PAIRS = [{"premise": f"{n} men walk", "hypothesis": f"{n} men sit", "gold_label": ("yes", "no", "maybe")[n % 3]} for n in range(60)]  # fmt: skip
TICKETS = [{"id": n, "priority": ("high", "low")[n % 2], "subject": f"no {n} water", "body": f"since day {n} there is none here", "queue": ("a", "b", "c")[n % 3]} for n in range(60)]  # fmt: skip
STARS = [{"review": f"it took {n} days to get here", "stars": n % 5 + 1} for n in range(60)]
SCORES = [{"sentence1": f"a dog runs {n}", "sentence2": f"a cat sits {n}", "score": n / 7} for n in range(40)]
CHOICES = [{"ctx": f"in the year {n} he", "endings": [f"ran {n} miles", "sat", f"ate {n}"], "label": n % 3} for n in range(30)]  # fmt: skip
LETTERS = [{"stem": f"what is {n} here", "A": f"{n} men", "B": f"{n} cats", "answer": "AB"[n % 2]} for n in range(30)]
SUMMARIES = [{"document": f"on day {n} a long rain fell here", "summary": f"rain on day {n}"} for n in range(30)]
WORDS = kind_rows("tagging", 30)

CASES: dict[str, tuple[Write, dict[str, Any]]] = {
    "csv": (text_file("train.csv", table(REVIEWS)), {"kind": "classification", "text": "text", "label": "label", "classes": ["bad", "good"]}),
    "tsv": (text_file("train.tsv", table(PAIRS, "\t")), {"kind": "classification", "text": ["premise", "hypothesis"], "label": "gold_label", "classes": ["maybe", "no", "yes"]}),
    "jsonl": (text_file("train.jsonl", lines(TICKETS)), {"kind": "classification", "text": ["subject", "body"], "label": "queue"}),
    "gz": (packed(lines(REVIEWS)), {"kind": "classification", "text": "text", "label": "label"}),
    "parquet": (parquet(STARS), {"kind": "classification", "text": "review", "label": "stars", "classes": ["1", "2", "3", "4", "5"]}),
    "folders of texts": (class_folders, {"kind": "classification", "text": "text", "label": "label", "classes": ["bad", "good"]}),
    "numbers with decimals": (text_file("train.csv", table(SCORES)), {"kind": "regression", "text": ["sentence1", "sentence2"], "label": "score"}),
    "conll": (text_file("train.conll", conll(WORDS)), {"kind": "tagging", "text": "words", "label": "tags"}),
    "words in txt": (text_file("train.txt", conll(WORDS)), {"kind": "tagging", "text": "words", "label": "tags"}),
    "lists of tags": (text_file("train.jsonl", lines(WORDS)), {"kind": "tagging", "text": "words", "label": "tags"}),
    "tags in csv": (text_file("train.csv", table([{k: " ".join(v) for k, v in row.items()} for row in WORDS])), {"kind": "tagging", "text": "words", "label": "tags"}),
    "squad": (text_file("train.json", squad(kind_rows("extractive_qa", 30))), {"kind": "extractive_qa", "text": ["question", "context"], "label": "answers"}),
    "choices in a list": (text_file("train.jsonl", lines(CHOICES)), {"kind": "multiple_choice", "text": ["ctx"], "choices": ["endings"], "label": "label"}),
    "choices in columns": (text_file("train.csv", table(LETTERS)), {"kind": "multiple_choice", "text": ["stem"], "choices": ["A", "B"], "label": "answer"}),
    "texts to write": (text_file("train.csv", table(SUMMARIES)), {"kind": "generation", "text": "document", "label": "summary"}),
    "another name": (text_file("all reviews.csv", table(REVIEWS)), {"kind": "classification", "original": {"files": {"train": "all reviews"}}}),
    "names with splits": (lambda folder: [(folder / f"x_{n}.csv").write_text(table(REVIEWS), encoding="utf-8") for n in ("train", "dev")] and None, {"original": {"files": {"train": "x_train", "validation": "x_dev"}}}),  # type: ignore[dict-item]
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_in_a_folder_is_guessed_and_can_be_read_so(tmp_path: Path, case: str) -> None:
    write, expected = CASES[case]
    folder = tmp_path / "data" / "own"
    folder.mkdir(parents=True)
    write(folder)
    values = drafted(tmp_path / "data")
    assert {key: values["tasks"]["own"].get(key) for key in expected} == expected
    experiment = from_values(values, tmp_path)
    resolved = resolve(experiment.changed(plm=()), fetches=False)
    assert resolved.problems == ()
    assert list(resolved.tasks) == ["own"]


QUESTIONS: dict[str, tuple[str, str, str]] = {
    "two columns of classes": (
        table([{"text": f"a film of {n} days", "mood": "ab"[n % 2], "place": "xyz"[n % 3]} for n in range(40)]),
        "tasks.own.label", "which column? there are: mood (2 values: a, b), place (3 values: x, y, z)",
    ),
    "no column of classes": (
        table([{"text": f"a film of {n} days"} for n in range(40)]), "tasks.own.label", "which column? there are: text (5 words)",
    ),
    "no header": (
        "".join(f"a film of {n} long days,{'ab'[n % 2]}\n" for n in range(40)),
        "tasks.own.columns", "name 2 columns, such as [text, label]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", QUESTIONS)
def test_what_cannot_be_guessed_is_asked_and_the_search_does_not_start_before(tmp_path: Path, case: str) -> None:
    content, key, question = QUESTIONS[case]
    (tmp_path / "data" / "own").mkdir(parents=True)
    (tmp_path / "data" / "own" / "train.csv").write_text(content, encoding="utf-8")
    file = tmp_path / "experiment.yaml"
    file.write_text(new(tmp_path / "data", tmp_path, plm="nobody/knows", online=False), encoding="utf-8")
    with pytest.raises(Misuse) as refused:
        load(file)
    (problem,) = refused.value.problems
    assert problem.place.endswith(f": {key}")
    assert problem.place.startswith(f"{file}:")
    assert problem.rule == "is still to be said: ???"
    assert question in problem.remedy


def test_an_answer_on_the_command_line_is_one(tmp_path: Path) -> None:
    (tmp_path / "data" / "own").mkdir(parents=True)
    (tmp_path / "data" / "own" / "train.csv").write_text(QUESTIONS["no header"][0], encoding="utf-8")
    file = tmp_path / "experiment.yaml"
    file.write_text(new(tmp_path / "data", tmp_path, plm="nobody/knows", online=False), encoding="utf-8")
    experiment = load(file, ["tasks.own.columns=[text, label]"])
    resolved = resolve(experiment.changed(plm=()), fetches=False)
    assert resolved.problems == ()
    assert resolved.tasks["own"].classes == ("a", "b")


REFUSED: dict[str, tuple[Write, str]] = {
    "one class": (text_file("train.csv", table([{**row, "label": "good"} for row in REVIEWS])), "needs at least two classes"),
    "empty": (text_file("train.csv", ""), "has no rows"),
    "binary": (lambda folder: (folder / "train.csv").write_bytes(bytes(range(256))) and None, "must be UTF-8"),  # type: ignore[func-returns-value]
    "no table": (text_file("notes.pdf", "x"), "holds no task"),
    "broken parquet": (text_file("train.parquet", "no parquet"), "cannot be read as Parquet"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_with_its_reason(tmp_path: Path, case: str) -> None:
    write, reason = REFUSED[case]
    folder = tmp_path / "data" / "own"
    folder.mkdir(parents=True)
    write(folder)
    with pytest.raises(Misuse, match=reason):
        drafted(tmp_path / "data")


def test_a_broken_task_beside_others_is_left_out_and_told(tmp_path: Path) -> None:
    for name, content in (("good", table(REVIEWS)), ("bad", "")):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "train.csv").write_text(content, encoding="utf-8")
    text = new(tmp_path / "data", tmp_path, plm="nobody/knows", online=False)
    assert list(parse_yaml(text)["tasks"]) == ["good"]
    assert "# bad is left out: " in text
    with pytest.raises(Misuse, match="has no rows"):
        drafted(tmp_path / "data", target="bad")


def test_the_smallest_own_task_is_the_target_and_the_others_are_sources(tmp_path: Path) -> None:
    for name, rows in (("large", rows_of(60)), ("small", rows_of(30)), ("sst2", REVIEWS), ("trec", REVIEWS)):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "train.jsonl").write_text(lines(rows), encoding="utf-8")
    sst2 = [{"sentence": f"{row['text']}", "label": n % 2} for n, row in enumerate(REVIEWS)]
    (tmp_path / "data" / "sst2" / "train.jsonl").write_text(lines(sst2), encoding="utf-8")
    values = drafted(tmp_path / "data")
    assert list(values["tasks"]) == ["large", "small", "trec"]  # the files of trec are others than it is known by
    assert (values["targets"], values["sources"]) == (["small"], ["large", "trec", "sst2"])
    assert values["methods"] == ["spot", "panda"]
    assert drafted(tmp_path / "data", target="trec")["targets"] == ["trec"]
    with pytest.raises(Misuse, match=r"--target larg: is no task of .* \(did you mean large\?\)"):
        drafted(tmp_path / "data", target="larg")


@pytest.mark.parametrize("online", [False, True])
def test_public_sources_of_a_like_kind_are_named_and_taken_where_the_hub_is_near(tmp_path: Path, online: bool) -> None:
    (tmp_path / "train.tsv").write_text(table(PAIRS, "\t"), encoding="utf-8")
    text = new(tmp_path, tmp_path.parent, plm="nobody/knows", online=online)
    values = parse_yaml(text)
    assert values["sources"] == (["mnli", "qnli", "qqp"] if online else [])
    assert ("# sources: [mnli, qnli, qqp]" in text) is not online
    assert values["methods"] == (["spot", "panda"] if online else [])


@pytest.mark.parametrize("given", ["folder", "file", "file of a split"])
def test_one_task_may_be_given_by_its_folder_or_its_file(tmp_path: Path, given: str) -> None:
    folder = tmp_path / "my data"
    folder.mkdir()
    name = "reviews" if given == "file" else "train"
    (folder / f"{name}.csv").write_text(table(REVIEWS), encoding="utf-8")
    text = new(folder if given == "folder" else folder / f"{name}.csv", tmp_path, plm="nobody/knows", online=False)
    values = parse_yaml(text)
    (task,) = values["tasks"]
    assert task == ("reviews" if given == "file" else "my_data")
    assert values["tasks"][task]["path"] == "."
    resolved = resolve(from_values(values, tmp_path).changed(plm=()), fetches=False)
    assert resolved.problems == ()
