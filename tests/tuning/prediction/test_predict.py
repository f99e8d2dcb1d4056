"""`panda-tune predict` and `api.predict`: answers of folders and pinned files, as JSON lines or CSV; and what is refused."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from panda_trainable.prediction.winner import read_winner
from tests.kits.command import experiment_file, panda_tune_here
from tests.kits.tasks import rows_of
from tuning import api
from tuning.experiment.problems import Misuse
from tuning.prediction.output import as_csv, scores_text, write

KNOB = {"prompt_tuning": {"learning_rate": 0.02}}


@pytest.fixture(scope="module")
def pinned(tmp_path_factory: pytest.TempPathFactory, plms: Callable[[str], Path]) -> Path:
    """A pinned file whose winner was trained."""
    folder = tmp_path_factory.mktemp("pinned")
    file = experiment_file(folder, plms("bert"), sources=[], methods=[], space=KNOB)
    panda_tune_here("train", file)
    return file


@pytest.fixture
def winner(pinned: Path) -> Path:
    return pinned.parent / "runs" / "trained" / "small"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"a": row["a"], "id": f"={i}"}) + "\n" for i, row in enumerate(rows_of(5))))
    return file


def answers(*arguments: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in panda_tune_here("predict", *arguments).stdout.splitlines()]


def test_a_folder_and_its_pinned_file_answer_the_same(pinned: Path, winner: Path, rows: Path) -> None:
    said = answers(winner, rows)
    assert said == answers(pinned, rows)
    assert [row["row"] for row in said] == [1, 2, 3, 4, 5]
    assert {row["prediction"] for row in said} <= {"no", "yes"}
    assert all(sum(row["probabilities"].values()) == pytest.approx(1) for row in said)


def test_a_pinned_file_is_trained_where_its_winner_is_not_there(
    tmp_path: Path, plms: Callable[[str], Path], rows: Path
) -> None:
    (tmp_path / "new").mkdir()
    file = experiment_file(tmp_path / "new", plms("bert"), sources=[], methods=[], space=KNOB, name="other")
    assert len(answers(file, rows)) == 5
    assert read_winner(tmp_path / "new" / "runs" / "trained" / "other").method == "prompt_tuning"


def test_labelled_rows_are_scored_on_stderr(pinned: Path, winner: Path) -> None:
    done = panda_tune_here("predict", winner, pinned.parent / "data" / "t" / "validation.jsonl")
    first, *others = done.stderr.splitlines()
    assert first.startswith("24 labelled rows: accuracy 0.")
    assert [line.split(":")[0] for line in others] == ["replica 0", "replica 1"]
    scores = read_winner(winner).scores["report"]["accuracy"].by_seed
    assert [line.split()[-1] for line in others] == [f"{score:.4f}" for score in scores if score is not None]


def test_csv_has_a_column_for_each_probability_and_no_formula(winner: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "said.csv"
    done = panda_tune_here("predict", winner, rows, "--format", "csv", "--out", out, "--batch", 2, "--replica", 1)
    table = list(csv.DictReader(out.read_text().splitlines()))
    assert done.stdout == ""
    assert list(table[0]) == ["row", "id", "prediction", "probability", "probabilities.no", "probabilities.yes"]
    assert table[0]["id"] == "'=0"
    said = answers(winner, rows, "--replica", 1)
    assert [float(row["probability"]) for row in table] == [pytest.approx(row["probability"], abs=1e-6) for row in said]


def test_texts_that_look_like_formulas_are_guarded_and_numbers_are_not() -> None:
    said = as_csv([{"row": 1, "prediction": text} for text in ("=1+1", "+x", "-x", "@x", "x=1", -0.5)])
    assert said.splitlines()[1:] == ["1,'=1+1", "1,'+x", "1,'-x", "1,'@x", "1,x=1", "1,-0.5"]
    assert as_csv([{"prediction": ["O", "B-X"]}]).splitlines()[1] == '"[""O"", ""B-X""]"'


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"--out .*cannot be written"):
        write("x", tmp_path / "nowhere" / "x.csv")
    (tmp_path / "taken").mkdir()
    with pytest.raises(Misuse, match="cannot be written"):
        write("x", tmp_path / "taken")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]


def test_scores_of_one_replica_are_one_line() -> None:
    assert scores_text({"accuracy": 0.5}, {3: {"accuracy": 0.5}}, 4) == "4 labelled rows: accuracy 0.5000"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere", "ROWS"], "nowhere: is not there; give a folder that panda-tune train wrote"),
        (["ROWS", "ROWS"], "is a file; give a folder"),
        (["WINNER", "none.csv"], "none.csv: is not there; give a file of rows"),
        (["WINNER", "/dev/null"], "/dev/null: is a pipe, and rows are read more than once"),
        (["WINNER", "BAD"], "bad.jsonl:1: needs the field a; it has b"),
        (["WINNER", "ROWS", "--replica", "7"], "replica 7: the winner has those of seeds 0, 1; name one"),
        (["WINNER", "ROWS", "--plm", "OTHER"], "are not those of the winner, whose hash is"),
        (["WINNER", "ROWS", "--out", "nowhere/x.jsonl"], "--out nowhere/x.jsonl: cannot be written"),
        (["models:/x", "ROWS"], "models:/x: names no version of a model; write models:/<name>@champion"),
        (["models:/x@champion", "ROWS", "--tracking", "sqlite:///none.db"], "nothing recorded yet"),
    ],
)
def test_mistakes_are_one_message(
    winner: Path, rows: Path, tmp_path: Path, plms: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], told: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/there.db")
    (tmp_path / "there.db").touch()
    (tmp_path / "bad.jsonl").write_text('{"b": "w1"}\n')
    names = {"WINNER": winner, "ROWS": rows, "BAD": tmp_path / "bad.jsonl", "OTHER": plms("roberta")}
    done = panda_tune_here("predict", *(names.get(word, word) for word in arguments), code=2)
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_python_takes_rows_themselves(winner: Path, rows: Path) -> None:
    given = [json.loads(line) for line in rows.read_text().splitlines()]
    table = api.predict(winner, given).to_pandas()
    assert table["prediction"].tolist() == [row["prediction"] for row in answers(winner, rows)]
    assert "probabilities.yes" in table
    assert api.predict(winner, rows, replica=0).predictions.seeds == (0,)
    with pytest.raises(Misuse, match="rows, row 1: needs the field a"):
        api.predict(winner, [{"b": "x"}])
