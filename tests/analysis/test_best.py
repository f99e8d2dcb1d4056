"""The best configuration per target, from a real MLflow store, without torch and without Ray."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.best import best, winners
from analysis.records import NoRecords, StudyRecord, client, confirmed_studies
from panda_trainable.library import PromptLibrary
from tests.tuning.small import new_store, plan_of, recorded

SCORES = {
    "t · prompt_tuning": ([0.6, 0.6], [0.6, 0.7]),
    "t ← s1 · spot": ([0.7, 0.7], [0.5, 0.5]),  # the best on selection rows, the worst on report rows
    "t ← s2 · spot": ([0.65, 0.65], [0.9, 0.95]),
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, plms: Callable[[str], Path]) -> str:
    """The address of a store with a finished search named small."""
    folder = tmp_path_factory.mktemp("stored")
    uri = new_store(folder)
    recorded(plan_of(folder, plms("bert")), PromptLibrary(folder / "library"), uri, SCORES)
    return uri


def record(method: str, source: str | None, selection: float, report: float = 0.5, **names: str) -> StudyRecord:
    metrics = {"score/selection": selection, "score/report": report}
    return StudyRecord(names.get("target", "t"), source, method, names.get("plm", "bert"), "run", "winner", metrics, {})


def test_the_winner_of_a_target_is_chosen_by_selection_score() -> None:
    poor, good = record("spot", "s1", 0.8, report=0.1), record("spot", "s2", 0.7, report=0.9)
    assert winners([good, poor]) == [poor]


def test_among_equals_the_baseline_comes_first_then_names() -> None:
    plain, spot, panda = record("prompt_tuning", None, 0.7), record("spot", "a", 0.7), record("panda", "b", 0.7)
    assert winners([spot, panda, plain]) == [plain]
    assert winners([spot, panda]) == [panda]


def test_every_target_and_plm_has_a_winner_of_its_own() -> None:
    records = [record("spot", "s", 0.5, target=t, plm=p) for t in ("t", "u") for p in ("bert", "roberta")]
    assert winners(records) == records


def test_the_best_is_the_winner_with_its_scores_gain_and_file(stored: str) -> None:
    (row,) = best(stored, "small")
    assert (row["target"], row["method"], row["source"], row["selection_score"]) == ("t", "spot", "s1", 0.7)
    assert row["score"] == {"mean": 0.5, "std": 0.0, "n": 2}
    assert row["gain"]["mean"] == pytest.approx(-0.15)
    assert row["gain"]["interval"][0] <= row["gain"]["mean"] <= row["gain"]["interval"][1]
    assert (row["twin"], row["majority"], row["signal"], row["steps"]) == (None, 0.5, True, 8)
    assert (row["config"]["targets"], row["config"]["methods"]) == (["t"], ["spot"])
    assert client(stored).get_run(row["run_id"]).data.tags["stage"] == "confirm"
    json.dumps(row)


def test_only_the_target_that_is_asked_for_is_told(stored: str) -> None:
    assert len(best(stored, "small", "t")) == 1
    assert best(stored, "small", "another") == []


def test_studies_of_an_earlier_plan_are_not_counted(tmp_path: Path, plms: Callable[[str], Path]) -> None:
    uri = new_store(tmp_path)
    library = PromptLibrary(tmp_path / "library")
    recorded(plan_of(tmp_path, plms("bert")), library, uri, SCORES)
    longer = {"steps": 10, "batch_size": 4, "max_length": 16, "eval_every": 2, "seeds": [0, 1]}
    plain = {"t · prompt_tuning": ([0.5, 0.5], [0.5, 0.5])}
    recorded(plan_of(tmp_path, plms("bert"), train=longer, methods=[]), library, uri, plain)
    assert [(r.method, r.metrics["steps"]) for r in confirmed_studies(uri, "small")] == [("prompt_tuning", 10)]


def test_an_experiment_that_is_not_there_says_what_to_do(stored: str) -> None:
    with pytest.raises(NoRecords, match=r"no experiment 'other' yet: run `panda-tune search` on its file first"):
        best(stored, "other")


def test_an_experiment_without_a_confirmed_study_says_what_to_do(tmp_path: Path) -> None:
    uri = new_store(tmp_path)
    client(uri).create_experiment("small")
    with pytest.raises(NoRecords, match=r"'small' has no confirmed study yet: run `panda-tune search` to its end"):
        best(uri, "small")


WITHOUT = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "ray", "transformers", "optuna", "panda_trainable", "tuning", "search_spaces"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
import analysis.gains, analysis.records
from analysis.best import best
print(json.dumps(best(*sys.argv[1:])))
"""


def test_the_best_is_read_without_torch_ray_and_our_other_packages(stored: str) -> None:
    command = [sys.executable, "-c", WITHOUT, stored, "small"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows: list[Any] = json.loads(done.stdout)
    assert rows == best(stored, "small")
