"""The whole search over every method, none of its settings at a default: from the file to MLflow; real Ray."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.records import reader as records
from panda_trainable.config.methods import KNOBS, TRAITS
from tests.kits.command import experiment_file, panda_tune_here
from tests.kits.small import UNUSUAL, WITH_HEADS, every_method
from tuning.experiment.loading import load
from tuning.run.train import train

pytestmark = pytest.mark.slow

SOURCES = ("s1", "pool")
STUDIES = {
    (method, source) for method in WITH_HEADS for source in (SOURCES if TRAITS[method].sources == "pair" else [""])
}
TWINS = {
    (method, source)
    for method, source in STUDIES
    if "lambda" in KNOBS[method] or (TRAITS[method].shares_head and method != "random_prompt")
}
Searched = tuple[Path, Path, str]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, plms: Callable[[str], Path], ray_address: str) -> Searched:
    """A finished search of all methods, one trial each, a mixture among the sources: folder, file, what it printed."""
    folder = tmp_path_factory.mktemp("methods")
    file = experiment_file(
        folder, plms("bert"), **every_method(plms, **UNUSUAL), pairs={"t": list(SOURCES)}, weigh_by="none",
        train={"steps": 4, "batch_size": 4, "max_length": 16, "eval_every": 2, "seeds": [0]},
        source_train={"steps": 4, "early_step": 2}, search={"trials": 1},
        similarities=["task_embedding", "c_mean", "on", "c_mean_change", "logme", "leep"],
    )  # fmt: skip
    return folder, file, panda_tune_here("search", file, "--address", ray_address).stdout


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
    assert {key for key, run in studies.items() if "teacher" in run.data.metrics} == {
        key for key in STUDIES if TRAITS[key[0]].another == "teacher_plm"
    }
    assert {key for key, run in studies.items() if "twin" in run.data.metrics} == TWINS
    assert {key for key, run in studies.items() if "similarity/on" in run.data.metrics} == {
        key for key in STUDIES if key[1]
    }
    assert (
        {key for key, run in studies.items() if "similarity/logme" in run.data.metrics}
        == {key for key, run in studies.items() if "similarity/source_size" in run.data.metrics}
        == {key for key in STUDIES if key[1]}
    )
    assert {key[1] for key, run in studies.items() if "similarity/leep" in run.data.metrics} == set(SOURCES) - {"pool"}
    assert studies["tpt_model", ""].data.params["projector.tasks"] == "['s2', 's1']"
    kinds = {path.parts[-3] for path in artefacts(folder)}
    assert {
        "prompts",
        "models",
        "projectors",
        "teachers",
        "embeddings",
        "neurons",
        "changes",
        "scores",
        "confirmed",
    } <= kinds


def test_a_model_of_all_sources_was_tuned_on_all_of_them(searched: Searched) -> None:
    folder, _, _ = searched
    cards = [json.loads(path.read_text()) for path in artefacts(folder) if path.parts[-3] == "models"]
    assert {card["task"] for card in cards} == {"s1+s2", "t"}  # the larger PLM that teaches is tuned on the target
    assert {card["seed"] for card in cards} == {0, 10, 11}


def test_the_same_file_again_computes_nothing(searched: Searched) -> None:
    folder, file, printed = searched
    before = artefacts(folder)
    again = panda_tune_here("search", file)
    assert "nothing was computed" in again.stderr
    assert again.stdout == printed
    assert artefacts(folder) == before


@pytest.mark.parametrize("method", WITH_HEADS)
def test_the_winner_of_any_method_trained_again_has_the_very_same_scores(
    searched: Searched, tmp_path: Path, method: str
) -> None:
    folder, _, _ = searched
    run = runs(folder, "study")[method, "pool" if TRAITS[method].sources == "pair" else ""]
    pinned = tmp_path / "pinned.yaml"
    config = records.winner_config(f"sqlite:///{folder / 'runs' / 'mlflow.db'}", run.info.run_id)
    pinned.write_text(json.dumps(config), encoding="utf-8")
    trained = train(load(pinned), tmp_path / "prompts")
    assert trained["report"]["accuracy"]["mean"] == run.data.metrics["score/report"]
    assert trained["selection"]["accuracy"]["mean"] == run.data.metrics["score/selection"]
    assert len(trained["prompts"]) == (0 if TRAITS[method].trains in ("head", "model") else 2)
