"""The whole search over methods that need more than source prompts: heads, mixtures, models, other PLMs; real Ray."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.records.reader import reader as records
from tests.kits.command import experiment_file, panda_tune

pytestmark = pytest.mark.slow

STUDIES = {
    ("prompt_tuning", ""), ("spot", "s1"), ("spot", "pool"), ("spot_mixture", "s1"), ("spot_mixture", "pool"),
    ("zero_shot", "s1"), ("zero_shot", "pool"), ("multitask_model_tuning", ""), ("distill", ""), ("tpt_model", ""),
}  # fmt: skip
Searched = tuple[Path, Path, str]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, plms: Callable[[str], Path]) -> Searched:
    """A finished search of one trial each, with a mixture among the sources: its folder, file, and what it printed."""
    folder = tmp_path_factory.mktemp("methods")
    methods = ["spot", "spot_mixture", "zero_shot", "multitask_model_tuning", "distill", "tpt_model"]
    file = experiment_file(
        folder, plms("bert"), methods=methods, mixtures={"pool": ["s1", "s2"]}, sources=["s1", "pool"],
        teacher_plm={"from": str(plms("distilbert"))}, source_plm={"from": str(plms("roberta"))},
        train={"steps": 4, "batch_size": 4, "max_length": 16, "eval_every": 2, "seeds": [0]},
        source_train={"steps": 4, "early_step": 2}, projector={"steps": 3}, search={"trials": 1},
        similarities=["task_embedding", "c_mean", "on"],
    )  # fmt: skip
    return folder, file, panda_tune("search", file).stdout


def runs(folder: Path, stage: str) -> dict[tuple[str, str], Any]:
    """(method, source) -> run of a stage, the last of each."""
    store = records.client(f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    found = records.runs(store, "small", f"tags.stage = '{stage}'")
    return {(run.data.tags["method"], run.data.tags.get("source", "")): run for run in found}


def artefacts(folder: Path) -> dict[Path, float]:
    return {path: path.stat().st_mtime for path in (folder / "runs" / "library").glob("*/*/card.json")}


def test_every_study_of_every_method_has_a_winner(searched: Searched) -> None:
    folder, _, printed = searched
    assert "Best configuration per target" in printed
    studies = runs(folder, "study")
    assert studies.keys() == runs(folder, "trial").keys() == STUDIES
    for run in studies.values():
        assert (run.info.status, run.data.tags["state"]) == ("FINISHED", "confirmed")
        assert run.data.metrics["score/report/n"] == 2
        assert run.data.tags["winner_run"]


def test_what_a_method_brings_beside_its_score_is_recorded(searched: Searched) -> None:
    folder, _, _ = searched
    studies = runs(folder, "study")
    assert {key for key, run in studies.items() if "teacher" in run.data.metrics} == {("distill", "")}
    assert {key for key, run in studies.items() if "twin" in run.data.metrics} == {
        ("distill", ""), ("zero_shot", "s1"), ("zero_shot", "pool"),
    }  # fmt: skip
    assert {key for key, run in studies.items() if "similarity/on" in run.data.metrics} == {
        key for key in STUDIES if key[1]
    }
    assert studies["tpt_model", ""].data.params["projector_tasks"] == "['s1']"
    kinds = {path.parts[-3] for path in artefacts(folder)}
    assert {"prompts", "models", "projectors", "teachers", "embeddings", "neurons", "confirmed"} <= kinds


def test_a_model_of_all_sources_was_tuned_on_all_of_them(searched: Searched) -> None:
    folder, _, _ = searched
    cards = [json.loads(path.read_text()) for path in artefacts(folder) if path.parts[-3] == "models"]
    assert {card["task"] for card in cards} == {"s1+s2"}
    assert {card["seed"] for card in cards} == {0, 10, 11}


def test_the_same_file_again_computes_nothing(searched: Searched) -> None:
    folder, file, printed = searched
    before = artefacts(folder)
    again = panda_tune("search", file)
    assert "nothing was computed" in again.stderr
    assert again.stdout == printed
    assert artefacts(folder) == before


@pytest.mark.parametrize("method", ["zero_shot", "multitask_model_tuning", "distill", "tpt_model"])
def test_the_configuration_that_is_printed_is_trained_to_its_score(
    searched: Searched, tmp_path: Path, method: str
) -> None:
    folder, _, _ = searched
    run = next(run for (name, _), run in runs(folder, "study").items() if name == method)
    pinned = tmp_path / "pinned.yaml"
    config = records.winner_config(f"sqlite:///{folder / 'runs' / 'mlflow.db'}", run.info.run_id)
    pinned.write_text(json.dumps(config), encoding="utf-8")
    trained = json.loads(panda_tune("train", pinned).stdout)
    assert trained["report"]["accuracy"]["mean"] == run.data.metrics["score/report"]
