"""Winners in MLflow's registry: versions and the champion, loaded by MLflow and by `predict`; and a server that has none."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.records.connection import client
from panda_trainable.data.task_table import TASKS
from panda_trainable.library import PromptLibrary
from panda_trainable.prediction.folder import write_winner
from panda_trainable.prediction.predictor import Predictor
from panda_trainable.transfer.methods import open_trainer
from tests.kits.command import panda_tune_here
from tests.kits.small import recorded
from tests.kits.tasks import SPECS
from tuning.planning.plan import Plan
from tuning.planning.results import Winner, confirm_key, kept_winner, winner_key
from tuning.run.confirm import confirm_trial, make_winner
from tuning.tracking.registry import CHAMPION, Registry, model_name
from tuning.tracking.served import input_example, signature

Planned = Callable[..., Plan]
GOOD, BETTER, POOR = ([0.8, 0.8], [0.75, 0.75]), ([0.9, 0.9], [0.5, 0.5]), ([0.7, 0.7], [0.95, 0.95])
SPOT, PLAIN = "t ← s1 · spot", "t · prompt_tuning"


@pytest.fixture
def tracking(uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty store, which is MLflow's own, too."""
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    yield uri
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


@pytest.fixture
def folder(planned: Planned, library: PromptLibrary, tmp_path: Path) -> Path:
    """A winner's folder of the plan's target."""
    plan = planned()
    found = next(iter(recorded_plain(plan, library, tmp_path).values()))
    trainer = open_trainer(library, found.confirmed.config)
    write_winner(tmp_path / "winner", found.confirmed.config, trainer, {})
    return tmp_path / "winner"


def recorded_plain(plan: Plan, library: PromptLibrary, folder: Path) -> dict[str, Winner]:
    from tests.kits.small import new_store

    return recorded(plan, library, new_store(folder / "aside"), {PLAIN: GOOD})


def registered(uri: str, winners: dict[str, Winner], folder: Path) -> list[str]:
    """Registers what is not there yet; what was told."""
    told: list[str] = []
    registry = Registry(uri, "small", told.append)
    for winner in registry.missing(list(winners.values())):
        registry.register(winner, folder)
    return told


def champion(uri: str) -> Any:
    return client(uri).get_model_version_by_alias("small.t", CHAMPION)


def test_a_winner_is_loaded_by_mlflow_and_by_the_command(
    planned: Planned, library: PromptLibrary, tracking: str, folder: Path, tmp_path: Path
) -> None:
    import mlflow

    winners = recorded(planned(), PromptLibrary(tmp_path / "other"), tracking, {PLAIN: GOOD, SPOT: BETTER})
    told = registered(tracking, winners, folder)
    assert told == ["models:/small.t@champion is t ← s1 · spot (version 1)"]
    version = champion(tracking)
    assert version.tags == {
        "confirmed": confirm_key(winners[SPOT].confirmed.config), "selection": "0.9", "metric": "accuracy", "method": "spot",
        "source": "s1", "plm": winners[SPOT].study.base.setting.plm.label,
    }  # fmt: skip
    rows = [{"a": "w1 w2 w3"}, {"a": "w9 w20"}]
    said = Predictor.load(folder).predict(rows).rows()
    loaded = mlflow.pyfunc.load_model("models:/small.t@champion")
    answers = loaded.predict(pd.DataFrame(rows))
    assert answers["prediction"].tolist() == [row["prediction"] for row in said]
    assert answers["probabilities"].tolist() == [row["probabilities"] for row in said]
    assert loaded.metadata.get_input_schema().input_names() == ["a"]
    assert loaded.predict(loaded.input_example)["row"].tolist() == [1]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for where in ("models:/small.t@champion", "models:/small.t/1"):
        done = panda_tune_here("predict", where, tmp_path / "rows.jsonl")
        assert [json.loads(line) for line in done.stdout.splitlines()] == said
    for where, problem in (
        ("models:/small.t@winner", "small.t has no alias winner; it has champion"),
        ("models:/small.t/7", "small.t has no version 7; it has 1"),
        ("models:/other@champion", "there is no such model; there are small.t"),
    ):
        assert problem in panda_tune_here("predict", where, tmp_path / "rows.jsonl", code=2).stderr


def test_the_champion_changes_for_a_better_selection_score_alone(
    planned: Planned, tracking: str, folder: Path, tmp_path: Path
) -> None:
    plan = planned()
    first = recorded(plan, PromptLibrary(tmp_path / "a"), tracking, {PLAIN: GOOD})
    registered(tracking, first, folder)
    assert registered(tracking, first, folder) == []  # the same again
    worse = recorded(
        replace(plan, setting=replace(plan.setting, shots=9)), PromptLibrary(tmp_path / "b"), tracking, {PLAIN: POOR}
    )
    assert registered(tracking, worse, folder) == []
    assert (champion(tracking).version, champion(tracking).tags["selection"]) in {(1, "0.8"), ("1", "0.8")}
    better = recorded(plan, PromptLibrary(tmp_path / "c"), tracking, {PLAIN: GOOD, SPOT: BETTER})
    assert len(registered(tracking, better, folder)) == 1
    versions = client(tracking).search_model_versions("name='small.t'")
    assert {str(version.version): version.tags["selection"] for version in versions} == {
        "1": "0.8",
        "2": "0.7",
        "3": "0.9",
    }
    assert str(champion(tracking).version) == "3"


def test_a_store_that_takes_no_models_is_told_once(
    planned: Planned, tracking: str, folder: Path, tmp_path: Path
) -> None:
    winners = recorded(planned(), PromptLibrary(tmp_path / "a"), tracking, {PLAIN: GOOD})
    told: list[str] = []
    registry = Registry(tracking, "small", told.append)
    (winner,) = registry.missing(list(winners.values()))
    for _ in range(2):
        registry.register(winner, tmp_path / "nowhere")
    (line,) = told
    assert "registers no models (" in line
    assert "tracking.register: false leaves it out" in line


def test_names_of_models_lack_what_mlflow_refuses() -> None:
    assert model_name("a/b: 'c'", "t") == "a-b- -c-.t"


def test_what_confirmation_keeps_is_a_winners_folder_and_all_weights_are_made_when_they_are_asked_for(
    planned: Planned, library: PromptLibrary, tmp_path: Path
) -> None:
    winners = recorded_plain(planned(), PromptLibrary(tmp_path / "a"), tmp_path)
    config = replace(winners[PLAIN].confirmed.config, learning_rate=0.011)
    confirm_trial(library, config)
    assert kept_winner(library, config) == library.path("confirmed", confirm_key(config))
    whole = replace(config, method="model_tuning", learning_rate=1e-4)
    confirm_trial(library, whole)
    assert kept_winner(library, whole) is None
    make_winner(library, whole)
    assert kept_winner(library, whole) == library.path("winners", winner_key(whole))
    said = Predictor.load(library.path("winners", winner_key(whole))).winner
    scores = json.loads((library.path("confirmed", confirm_key(whole)) / "scores.json").read_text())
    assert list(said.scores["report"]["accuracy"].by_seed) == scores["report"]["accuracy"]


@pytest.mark.parametrize(
    ("task", "example"),
    [
        (SPECS["tagging"], {"words": ["Each", "word"]}),
        (TASKS["copa"], {"premise": "A text for premise.", "question": "cause"}),
        (TASKS["record"], {"query": "Where is @placeholder?", "entities": ["Each", "word"]}),
        (SPECS["extractive_qa"], {"question": "A text for question."}),
    ],
)
def test_examples_have_the_fields_that_rows_have(task: Any, example: dict[str, Any]) -> None:
    said = input_example(task)
    assert {name: said[name] for name in example} == example
    assert signature(task).inputs.input_names() == list(said)
