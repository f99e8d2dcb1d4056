"""What MLflow is told of sources, studies, trials and winners."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from analysis import records
from panda_trainable.library import PromptLibrary
from tests.tuning.small import recorded, studies_of
from tuning import entries
from tuning.plan import Plan, Study
from tuning.stages import Job, source_jobs
from tuning.tracking import FAILED, FINISHED, RUNNING, Tracker

Planned = Callable[..., Plan]
SCORES = {"t · prompt_tuning": ([0.6, 0.6], [0.8, 0.85]), "t ← s1 · spot": ([0.7, 0.8], [0.9, 0.95])}


@pytest.fixture
def study(planned: Planned) -> Study:
    return studies_of(planned())["t ← s1 · panda"]


def result(step: int, **changes: Any) -> dict[str, Any]:
    return {
        "score": 0.5,
        "score_std": 0.1,
        "loss": 0.7,
        "step": step,
        "seconds": 1.0,
        "lambda_effective": 0.4,
        "failure": "",
        **changes,
    }


@pytest.mark.parametrize(
    ("step", "status", "state"), [(2, RUNNING, "running"), (2, FINISHED, "stopped early"), (8, FINISHED, "complete")]
)
def test_a_trial_says_how_far_it_came(study: Study, step: int, status: str, state: str) -> None:
    entry = entries.of_trial(study, 3, {"lambda": 0.5}, result(step), status)
    assert (entry.id, entry.parent, entry.step, entry.status) == (
        f"trial:{study.key}/3",
        f"study:{study.key}",
        step,
        status,
    )
    assert (entry.tags["state"], entry.tags["trial"], entry.params) == (state, f"{study.key}/3", {"lambda": 0.5})
    assert entry.metrics["score"] == 0.5
    assert entry.metrics["lambda_effective"] == 0.4


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            result(4, score=float("nan"), failure="loss of seed 1 is not finite at step 4"),
            "loss of seed 1 is not finite at step 4",
        ),
        (None, "its process was lost"),
    ],
)
def test_a_failed_trial_has_its_reason_and_no_score(study: Study, said: dict[str, Any] | None, reason: str) -> None:
    entry = entries.of_trial(study, 0, {}, said, FINISHED)
    assert (entry.status, entry.tags["state"], entry.tags["failure"]) == (FAILED, "failed", reason)
    assert entry.metrics == {}


def by_id(uri: str) -> dict[str, Any]:
    return {run.data.tags[records.ID]: run for run in records.runs(records.client(uri), "small")}


def test_a_finished_search_is_in_mlflow_with_scores_gains_similarities_and_configurations(
    planned: Planned, library: PromptLibrary, uri: str
) -> None:
    plan = planned()
    winner = recorded(plan, library, uri, SCORES)["t ← s1 · spot"]
    runs = by_id(uri)
    run = runs[f"study:{winner.study.key}"]
    tags, metrics = run.data.tags, run.data.metrics
    assert (tags["target"], tags["source"], tags["method"], tags["current"]) == ("t", "s1", "spot", "true")
    assert (tags["signal"], tags["constructed"], tags["protocol"]) == ("true", "false", "held_out")
    assert metrics["score/selection"] == 0.75
    assert metrics["score/report"] == pytest.approx(0.925)
    assert metrics["gain"] == pytest.approx(np.mean([0.9, 0.95]) - np.mean([0.8, 0.85]))
    assert metrics["gain/low"] <= metrics["gain"] <= metrics["gain/high"]
    assert 0 < metrics["gain/p"] <= 1
    assert (metrics["gain/n"], metrics["majority"], metrics["teacher_steps"]) == (2, 0.5, 0)
    assert (tags["overlap"], tags["source_at_majority"]) == ("0", "false")
    assert (metrics["similarity/task_embedding"], metrics["similarity/c_pair"]) == (0.8, -0.8)
    confirmed = runs[f"confirm:{winner.study.key}/{winner.confirmed.folder.name}"]
    assert tags["winner_run"] == confirmed.info.run_id
    assert confirmed.data.tags[records.PARENT] == run.info.run_id
    config = records.winner_config(uri, run.info.run_id)
    assert config["methods"] == ["spot"]
    assert config["space"]["spot"] == {"learning_rate": 0.01, "partners": 0}


def test_a_target_whose_baseline_does_not_beat_the_majority_has_no_signal(
    planned: Planned, library: PromptLibrary, uri: str
) -> None:
    recorded(planned(), library, uri, {**SCORES, "t · prompt_tuning": ([0.9, 0.9], [0.4, 0.6])})
    assert {run.data.tags["signal"] for run in by_id(uri).values() if run.data.tags["stage"] == "study"} == {"false"}


def test_another_similarity_to_weigh_by_does_not_hold_up_what_is_told(
    planned: Planned, library: PromptLibrary, uri: str
) -> None:
    """The baseline's study is the same one then: it has no source to weigh."""
    recorded(planned(), library, uri, SCORES)
    found = recorded(planned(weigh_by="none"), library, uri, SCORES)
    assert f"study:{found['t ← s1 · spot'].study.key}" in by_id(uri)


def test_a_study_that_is_confirmed_at_last_is_unconfirmed_no_more(
    planned: Planned, library: PromptLibrary, uri: str
) -> None:
    plan = planned()
    tracker = Tracker(uri, "small", plan.experiment.search_path)
    studies = [study for name, study in studies_of(plan).items() if name in SCORES]
    for entry in [*entries.of_plan(plan, [], studies, lambda job: []), *map(entries.of_unconfirmed, studies)]:
        tracker.write(entry)
    assert {(run.info.status, run.data.tags["state"]) for run in by_id(uri).values()} == {(FAILED, "unconfirmed")}
    recorded(plan, library, uri, SCORES)
    ended = [run for run in by_id(uri).values() if run.data.tags["stage"] == "study"]
    assert {run.info.status for run in ended} == {FINISHED}
    assert "unconfirmed" not in {run.data.tags.get("state") for run in ended}


def cards(plan: Plan, job: Job) -> Iterator[dict[str, Any]]:
    """Cards of a source's prompts: those of s1 are no better than its majority class with one of two seeds."""
    for seed, score in ((0, 0.9), (1, 0.5 if job.lineage.task.name == "s1" else 0.7)):
        yield {
            "key": f"k{seed}",
            "task": job.lineage.task.name,
            "seed": seed,
            "plm": plan.setting.plm.label,
            "steps": 8,
            "learning_rate": 0.01,
            "score": score,
            "majority": 0.5,
        }


def test_a_source_that_does_not_beat_its_majority_class_is_flagged(planned: Planned) -> None:
    plan = planned()
    studies = list(studies_of(plan).values())
    said = list(entries.of_plan(plan, source_jobs(plan), studies, lambda job: list(cards(plan, job))))
    assert [entry.name for entry in said[:4]] == ["s1 · seed 0", "s1 · seed 1", "s2 · seed 0", "s2 · seed 1"]
    assert [entry.tags["at_majority"] for entry in said[:4]] == ["false", "true", "false", "false"]
    assert [entry.metrics[records.SELECTION] for entry in said[:4]] == [0.9, 0.5, 0.9, 0.7]
    flagged = {entry.name for entry in said[4:] if entry.tags["source_at_majority"] == "true"}
    assert flagged == {"t ← s1 · spot", "t ← s1 · panda"}


def test_an_entry_can_wait_on_disk(planned: Planned, library: PromptLibrary, uri: str) -> None:
    plan = planned()
    winner = recorded(plan, library, uri, SCORES)["t ← s1 · spot"]
    for entry in [
        *entries.of_plan(plan, [], [winner.study], lambda job: []),
        *entries.of_winner(winner),
        entries.of_study_end(plan.experiment, winner),
    ]:
        assert json.loads(json.dumps(entry.__dict__))["id"] == entry.id


@pytest.mark.parametrize(
    ("trial_state", "steps", "state"),
    [(TrialState.COMPLETE, (2, 4, 8), "complete"), (TrialState.PRUNED, (2,), "stopped early")],
)
def test_a_trial_whose_driver_died_before_it_told_mlflow_is_told_from_its_journal(
    study: Study, trial_state: TrialState, steps: tuple[int, ...], state: str
) -> None:
    ghost = optuna.create_study()
    trial = ghost.ask(fixed_distributions=None)
    knobs = study.space(trial)
    curve = {step: step / 10 for step in steps}
    ended = optuna.create_trial(
        state=trial_state, value=curve[steps[-1]], params=trial.params, distributions=trial.distributions,
        intermediate_values=curve,
    )  # fmt: skip
    told = list(entries.of_journal(study, ended))
    assert {entry.step: entry.metrics["score"] for entry in told[:-1]} == curve
    assert (told[-1].status, told[-1].tags["state"], told[-1].params) == (FINISHED, state, knobs)
