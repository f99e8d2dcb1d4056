"""The best configuration per target, from a real MLflow store, without torch and without Ray."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.findings.best import best, corrected, over_plms, row, winners
from analysis.records import names as records
from analysis.records.connection import NoRecords, client
from analysis.records.reader import confirmed_studies
from analysis.records.studies import Estimate
from panda_trainable.library import PromptLibrary
from tests.kits.small import new_store, plan_of, recorded, study_entry, told
from tests.kits.worlds import record

SCORES = {
    "t · prompt_tuning": ([0.6, 0.6], [0.9, 0.95]),
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


def test_the_winner_of_a_target_is_chosen_by_selection_score() -> None:
    poor, good = record("spot", "s1", selection=0.8, score=0.1), record("spot", "s2", selection=0.7, score=0.9)
    assert winners([good, poor]) == [poor]


def test_among_equals_the_baseline_comes_first_then_names() -> None:
    plain, spot, panda = (
        record("prompt_tuning", None, selection=0.7),
        record("spot", "a", selection=0.7),
        record("panda", "b", selection=0.7),
    )
    assert winners([spot, panda, plain]) == [plain]
    assert winners([spot, panda]) == [panda]


def test_every_target_and_plm_has_a_winner_of_its_own() -> None:
    each = [record("spot", "s", selection=0.5, target=t, plm=p) for t in ("t", "u") for p in ("bert", "roberta")]
    assert winners(each) == each


def test_the_baseline_wins_ties_within_each_target_and_plm() -> None:
    each = [
        record(method, source, selection=0.7, target=target, plm=plm)
        for target in ("t", "u")
        for plm in ("bert", "roberta")
        for method, source in (("panda", "a"), ("prompt_tuning_longer", None), ("prompt_tuning", None))
    ]
    assert [found.method for found in winners(each)] == ["prompt_tuning"] * 4


def gain_of(p: float, n: int = 2) -> Estimate:
    return Estimate(0.1, n=n, p=p)


def test_the_correction_is_over_the_tests_and_a_baseline_is_none() -> None:
    tested = [
        record("spot", "s", selection=0.5, gain=gain_of(p), target=t)
        for t, p in (("a", 0.01), ("b", 0.04), ("c", 0.03))
    ]
    baseline = record("prompt_tuning", None, selection=0.5, gain=gain_of(1.0, n=0), target="d")
    found = corrected([tested[0], baseline, *tested[1:]])
    # Holm over three: 3 × 0.01, 2 × 0.03, and 0.04 stays where its forerunner is.
    assert found == pytest.approx({tested[0].run_id: 0.03, tested[1].run_id: 0.06, tested[2].run_id: 0.06})
    assert corrected([baseline]) == {}
    assert corrected([]) == {}


def test_the_best_plm_of_a_target_is_that_of_its_best_winner() -> None:
    each = [
        record("prompt_tuning", None, selection=0.5, plm="bert"),
        record("spot", "s", selection=0.8, score=0.1, plm="bert"),
        record("prompt_tuning", None, selection=0.7, score=0.9, plm="roberta"),
        record("prompt_tuning", None, selection=0.6, target="u", plm="bert"),
        record("prompt_tuning", None, selection=0.6, target="u", plm="roberta"),
    ]
    assert over_plms(each) == {"t": "bert", "u": "bert"}
    assert over_plms(each[2:]) == {"t": "roberta", "u": "bert"}


@pytest.mark.parametrize(("p_holm", "significant"), [(None, False), (0.0499, True), (0.0501, False), (1.0, False)])
def test_a_gain_is_significant_below_five_percent_after_correction_alone(
    p_holm: float | None, significant: bool
) -> None:
    said = row(record("spot", "s", selection=0.5, gain=gain_of(0.001)), p_holm)
    assert (said["gain"]["p"], said["gain"]["p_holm"], said["significant"]) == (0.001, p_holm, significant)


def test_the_best_is_the_winner_with_its_scores_gain_and_file(stored: str) -> None:
    (row,) = best(stored, "small")
    assert (row["target"], row["method"], row["source"], row["selection_score"]) == ("t", "spot", "s1", 0.7)
    assert row["score"] == {"mean": 0.5, "std": 0.0, "n": 2}
    assert row["gain"]["mean"] == pytest.approx(0.5 - 0.925)
    assert row["gain"]["interval"][0] <= row["gain"]["mean"] <= row["gain"]["interval"][1]
    assert row["gain"]["n"] == 2
    assert 0 < row["gain"]["p"] == row["gain"]["p_holm"] < 0.05  # one target: nothing to correct
    assert row["significant"] is True
    assert (row["twin"], row["majority"], row["signal"], row["steps"]) == (None, 0.5, True, 8)
    assert (row["teacher_steps"], row["overlap"], row["source_at_majority"]) == (None, 0, False)
    assert (row["truncated"], row["best_plm"]) == ({"train": 0.0, "report": 0.0}, True)
    assert (row["config"]["targets"], row["config"]["methods"]) == (["t"], ["spot"])
    assert client(stored).get_run(row["run_id"]).data.tags["stage"] == "confirm"
    json.dumps(row)


def test_only_the_target_that_is_asked_for_is_told(stored: str) -> None:
    assert len(best(stored, "small", "t")) == 1
    with pytest.raises(
        NoRecords, match="target 'another' of experiment 'small' has no confirmed study yet: no study of"
    ):
        best(stored, "small", "another")


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store whose studies were written by hand: three targets, two PLMs, p-values as they are wanted."""
    folder = tmp_path_factory.mktemp("by_hand")
    uri = new_store(folder)
    poor = {records.POOR_SOURCE: "true"}
    studies = [
        study_entry("a", "prompt_tuning", 0.60),
        study_entry("a", "spot", 0.70, metrics={"gain/p": 0.012}, overlap="3"),
        study_entry("a", "prompt_tuning", 0.65, plm="roberta"),
        study_entry("a", "spot", 0.60, plm="roberta", metrics={"gain/p": 0.001}),  # no winner: its p must not count
        study_entry("b", "prompt_tuning", 0.50),
        study_entry("b", "spot", 0.60, metrics={"gain/p": 0.02}, **poor),
        study_entry("c", "prompt_tuning", 0.50),
        study_entry("c", "spot", 0.55, metrics={"gain/p": 0.03, "teacher_steps": 4.0}),
    ]
    told(uri, "hand", folder, studies)
    return uri


def test_the_correction_is_over_the_winners_of_all_targets_and_plms(by_hand: str) -> None:
    rows = {(row["target"], row["plm"]): row for row in best(by_hand, "hand")}
    # Three tests: 0.012 × 3, 0.02 × 2, and 0.03 no lower than its forerunner. Roberta's winner is the baseline.
    assert {key: row["gain"]["p_holm"] for key, row in rows.items()} == {
        ("a", "bert"): pytest.approx(0.036),
        ("a", "roberta"): None,
        ("b", "bert"): pytest.approx(0.04),
        ("c", "bert"): pytest.approx(0.04),
    }
    assert {key for key, row in rows.items() if not row["significant"]} == {("a", "roberta")}
    assert {key: row["gain"]["n"] for key, row in rows.items() if row["gain"]["n"] != 2} == {("a", "roberta"): 0}
    assert {key for key, row in rows.items() if row["best_plm"]} == {("a", "bert"), ("b", "bert"), ("c", "bert")}


def test_for_one_target_the_correction_still_is_over_all(by_hand: str) -> None:
    (row,) = best(by_hand, "hand", "c")
    assert (row["gain"]["p"], row["gain"]["p_holm"]) == (0.03, pytest.approx(0.04))
    assert {found["plm"]: found["best_plm"] for found in best(by_hand, "hand", "a")} == {"bert": True, "roberta": False}


def test_what_a_study_says_of_itself_is_in_its_row(by_hand: str) -> None:
    rows = {(row["target"], row["plm"]): row for row in best(by_hand, "hand")}
    assert [rows[key]["overlap"] for key in (("a", "bert"), ("a", "roberta"))] == [3, 0]
    assert [rows[target, "bert"]["source_at_majority"] for target in "abc"] == [False, True, False]
    assert [rows[target, "bert"]["teacher_steps"] for target in "abc"] == [None, None, 4]
    assert rows["a", "bert"]["truncated"] == {"train": 0.25, "report": 0.5}
    assert rows["a", "bert"]["gain"]["interval"] == [0.05, 0.2]
    assert rows["a", "bert"]["config"] == {"name": "x"}


def test_studies_of_an_earlier_version_are_shown_without_what_it_did_not_say(tmp_path: Path) -> None:
    """Version 0.1 had no p-values: `best` on its store must tell what there is."""
    entry = study_entry("t", "spot", 0.7)
    new = {"gain/p", "truncated/train", "truncated/report", "teacher_steps"}
    old = {name: value for name, value in entry.metrics.items() if name not in new}
    tags = {name: value for name, value in entry.tags.items() if name not in (records.OVERLAP, records.POOR_SOURCE)}
    told(new_store(tmp_path), "old", tmp_path, [replace(entry, metrics=old, tags=tags)])
    (row,) = best(f"sqlite:///{tmp_path}/mlflow.db", "old")
    assert (row["gain"]["mean"], row["gain"]["p"], row["gain"]["p_holm"], row["significant"]) == (
        0.1,
        None,
        None,
        False,
    )
    assert (row["overlap"], row["source_at_majority"], row["teacher_steps"]) == (0, False, None)
    assert row["truncated"] == {"train": None, "report": None}


def test_studies_of_an_earlier_plan_are_not_counted(tmp_path: Path, plms: Callable[[str], Path]) -> None:
    uri = new_store(tmp_path)
    library = PromptLibrary(tmp_path / "library")
    recorded(plan_of(tmp_path, plms("bert")), library, uri, SCORES)
    longer = {"steps": 10, "batch_size": 4, "max_length": 16, "eval_every": 2, "seeds": [0, 1]}
    plain = {"t · prompt_tuning": ([0.5, 0.5], [0.5, 0.5])}
    recorded(plan_of(tmp_path, plms("bert"), train=longer, methods=[]), library, uri, plain)
    assert [(r.method, r.confirmed.steps) for r in confirmed_studies(uri, "small")] == [("prompt_tuning", 10)]


def test_an_experiment_that_is_not_there_says_what_to_do(stored: str) -> None:
    with pytest.raises(NoRecords, match=r"no experiment 'other' yet: run `panda-tune search` on its file first"):
        best(stored, "other")


def test_an_experiment_without_a_confirmed_study_says_what_to_do(tmp_path: Path) -> None:
    uri = new_store(tmp_path)
    client(uri).create_experiment("small")
    with pytest.raises(NoRecords, match=r"no study of it is recorded; run `panda-tune search` to its end"):
        best(uri, "small")


WITHOUT = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "ray", "transformers", "optuna", "panda_trainable", "tuning", "search_spaces"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
import analysis.statistics.gains, analysis.records
from analysis.findings.best import best
print(json.dumps(best(*sys.argv[1:])))
"""


def test_the_best_is_read_without_torch_ray_and_our_other_packages(stored: str) -> None:
    command = [sys.executable, "-c", WITHOUT, stored, "small"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows: list[Any] = json.loads(done.stdout)
    assert rows == best(stored, "small")
