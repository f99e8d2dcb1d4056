"""What MLflow is told of sources, studies, trials and winners."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from analysis.records import names as records
from analysis.records.connection import client, runs
from analysis.records.reader import winner_config
from panda_trainable.config.methods import KNOBS, TRAITS
from panda_trainable.library import PromptLibrary
from panda_trainable.result import TrialResult
from tests.kits.small import UNUSUAL, WITH_HEADS, every_method, put_confirmed, recorded, studies_of
from tuning.engine.journal import Journal
from tuning.planning.jobs import Job, source_jobs
from tuning.planning.plan import Plan, Study
from tuning.planning.results import twin
from tuning.tracking.study_runs import of_plan
from tuning.tracking.tracker import Tracker
from tuning.tracking.trial_runs import of_trial
from tuning.tracking.updates import FAILED, FINISHED, RUNNING
from tuning.tracking.winner_runs import _knobs, of_unconfirmed, of_winner

Plms = Callable[[str], Path]
Planned = Callable[..., Plan]
SCORES = {"t · prompt_tuning": ([0.6, 0.6], [0.8, 0.85]), "t ← s1 · spot": ([0.7, 0.8], [0.9, 0.95])}


@pytest.fixture
def study(planned: Planned) -> Study:
    return studies_of(planned())["t ← s1 · panda"]


def ended(
    study: Study, results: Sequence[TrialResult], state: TrialState, failure: TrialResult | None = None
) -> FrozenTrial:
    """The trial of the published setting as the study's journal holds it."""
    ghost = FixedTrial(study.space.first())
    study.space(ghost)
    first = create_trial(state=TrialState.RUNNING, params=ghost.params, distributions=ghost.distributions)
    with TemporaryDirectory() as folder:
        journal = Journal(study.key, Path(folder) / "journal")
        journal.add(first)
        for found in results:
            journal.record(0, found)
        if state != TrialState.RUNNING:
            journal.end(0, failure or results[-1], stopped=state == TrialState.PRUNED)
        (trial,) = journal.trials
    assert trial.state == state
    return trial


def evaluation(step: int) -> TrialResult:
    scores = {"accuracy": {0: step / 10, 1: step / 20}, "f1": {0: 0.9, 1: 0.8}}
    return TrialResult(step, step / 2, f"host/{step}", scores, {0: 1.0, 1: 2.0 / step}, 0.25, 0.4, step == 8)


@pytest.mark.parametrize(
    ("steps", "optuna_state", "state", "status"),
    [
        ((2,), TrialState.RUNNING, "running", RUNNING),
        ((2, 4), TrialState.PRUNED, "stopped early", FINISHED),
        ((2, 4, 6, 8), TrialState.COMPLETE, "complete", FINISHED),
    ],
)
def test_a_trials_run_has_every_evaluation_of_its_journal_and_how_it_ended(
    study: Study, steps: tuple[int, ...], optuna_state: TrialState, state: str, status: str
) -> None:
    trial = ended(study, [evaluation(step) for step in steps], optuna_state)
    update = of_trial(study, trial)
    assert (update.id, update.parent, update.status) == (f"trial:{study.key}/0", f"study:{study.key}", status)
    assert (update.tags["state"], update.tags["node"]) == (state, f"host/{steps[-1]}")
    assert update.params == study.space(FixedTrial(trial.params))
    assert tuple(update.history) == steps
    assert update.history[2] == {
        "score": pytest.approx(0.15), "score_std": pytest.approx(0.1 / math.sqrt(2)), "score/seed/0": 0.2,
        "score/seed/1": 0.1, "loss": 1.0, "seconds": 1.0, "evaluation_share": 0.25, "lambda_effective": 0.4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("results", "failure"),
    [
        ([], TrialResult.failed("loss of seed 1 is not finite at step 4", 4)),
        ([evaluation(2)], TrialResult.failed("loss of seed 1 is not finite at step 4", 4, node="host/4")),
        ([evaluation(2)], TrialResult.from_ray(None)),
    ],
)
def test_a_failed_trial_has_its_reason_and_the_evaluations_before(
    study: Study, results: list[TrialResult], failure: TrialResult
) -> None:
    update = of_trial(study, ended(study, results, TrialState.FAIL, failure))
    assert (update.status, update.tags["state"], update.tags["failure"]) == (FAILED, "failed", failure.failure)
    assert tuple(update.history) == tuple(found.step for found in results)
    assert failure.failure in ("its process was lost", "loss of seed 1 is not finite at step 4")


def by_id(uri: str) -> dict[str, Any]:
    return {run.data.tags[records.ID]: run for run in runs(client(uri), "small")}


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
    config = winner_config(uri, run.info.run_id)
    assert config["methods"] == ["spot"]
    assert config["space"]["spot"] == {"learning_rate": 0.01, "partners": 0}


def test_a_target_whose_baseline_does_not_beat_the_best_constant_in_the_search_has_no_signal(
    planned: Planned, library: PromptLibrary, uri: str
) -> None:
    recorded(planned(), library, uri, SCORES, searched=0.5)
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
    for entry in [*of_plan(plan, [], studies, lambda job: []), *map(of_unconfirmed, studies)]:
        tracker.write(entry)
    assert {(run.info.status, run.data.tags["state"]) for run in by_id(uri).values()} == {(FAILED, "unconfirmed")}
    recorded(plan, library, uri, SCORES)
    ended = [run for run in by_id(uri).values() if run.data.tags["stage"] == "study"]
    assert {run.info.status for run in ended} == {FINISHED}
    assert "unconfirmed" not in {run.data.tags.get("state") for run in ended}


def cards(plan: Plan, job: Job) -> Iterator[dict[str, Any]]:
    """Cards of a source's prompts: those of s1 are no better than its best constant answer with one of two seeds."""
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
    said = list(of_plan(plan, source_jobs(plan), studies, lambda job: list(cards(plan, job))))
    assert [entry.name for entry in said[:4]] == ["s1 · seed 0", "s1 · seed 1", "s2 · seed 0", "s2 · seed 1"]
    assert [entry.tags["at_majority"] for entry in said[:4]] == ["false", "true", "false", "false"]
    assert [entry.metrics[records.SELECTION] for entry in said[:4]] == [0.9, 0.5, 0.9, 0.7]
    flagged = {entry.name for entry in said[4:] if entry.tags["source_at_majority"] == "true"}
    assert flagged == {"t ← s1 · spot", "t ← s1 · panda"}


TAUGHT = {"t · prompt_tuning": ([0.6, 0.6], [0.6, 0.7]), "t · distill": ([0.7, 0.7], [0.75, 0.8])}


def run_of(uri: str, name: str, study: Study) -> Any:
    return by_id(uri)[f"{name}:{study.key}"]


def test_a_study_with_a_larger_plm_says_how_much_of_its_lead_was_closed(
    planned: Planned, plms: Plms, library: PromptLibrary, uri: str
) -> None:
    plan = planned(**every_method(plms, methods=["distill"]))
    found = recorded(plan, library, uri, TAUGHT, teacher=[0.85, 0.9])
    assert found["t · distill"].confirmed.teacher == [0.85, 0.9]
    metrics = run_of(uri, "study", found["t · distill"].study).data.metrics
    assert metrics["teacher"] == pytest.approx(0.875)
    assert metrics["gap_closed"] == pytest.approx((0.775 - 0.65) / (0.875 - 0.65))
    assert metrics["relative_performance"] == pytest.approx(0.775 / 0.65)
    assert metrics["error_reduction"] == pytest.approx((0.775 - 0.65) / (1 - 0.65))
    baseline = run_of(uri, "study", found["t · prompt_tuning"].study).data.metrics
    assert (baseline["relative_performance"], baseline["error_reduction"]) == (1, 0)
    assert not {"teacher", "gap_closed"} & baseline.keys()


def test_a_larger_plm_that_is_no_better_than_prompt_tuning_leaves_no_gap_to_close(
    planned: Planned, plms: Plms, library: PromptLibrary, uri: str
) -> None:
    plan = planned(**every_method(plms, methods=["distill"]))
    found = recorded(plan, library, uri, TAUGHT, teacher=[0.65, 0.65])
    metrics = run_of(uri, "study", found["t · distill"].study).data.metrics
    assert metrics["teacher"] == pytest.approx(0.65)
    assert "gap_closed" not in metrics


@pytest.mark.parametrize("method", WITH_HEADS)
def test_a_study_says_which_other_plm_it_uses_and_how_and_no_other_says_so(
    planned: Planned, plms: Plms, method: str
) -> None:
    plan = planned(**every_method(plms, **UNUSUAL))
    study = next(study for study in studies_of(plan).values() if study.pair.method == method)
    (said,) = of_plan(plan, [], [study], lambda job: [])
    read = {"pooling": "mean", "layers": None, "positions": "after_prompt", "head": None}
    expected: dict[str, Any] = {}
    if TRAITS[method].another == "teacher_plm":
        plm = {"from": str(plms("distilbert")), **read}
        expected |= {
            **{f"teacher_plm.{name}": value for name, value in plm.items()}, "teacher_train.trains": "model",
            "teacher_train.steps": 3, "teacher_train.learning_rate": 1e-4,
        }  # fmt: skip
    if TRAITS[method].another == "source_plm":
        plm = {"from": str(plms("roberta")), **read}
        expected |= {f"source_plm.{name}": value for name, value in plm.items()}
    if TRAITS[method].moves == "relative":
        expected |= {"relative.anchors": 11, "relative.steps": 9, "relative.learning_rate": 0.02}
    if TRAITS[method].moves == "projector":
        expected |= {
            "projector.form": "flat",
            "projector.objective": "distance", "projector.tasks": ["s2", "s1"], "projector.hidden": 5,
            "projector.steps": 7, "projector.learning_rate": 0.01,
        }  # fmt: skip
    others = ("teacher_plm.", "teacher_train.", "projector.", "relative.", "source_plm.")
    assert {name: value for name, value in said.params.items() if name.startswith(others)} == expected
    assert said.params["relation"] == ("gram" if "inter_instance" in KNOBS[method] else "inter_instance")
    assert said.tags["similarity_in_loss"] == ("yes" if method in ("panda", "panda_distill") else "no")
    assert said.tags["reference"] == {"prompt_tuning": "baseline", "spot": "start"}.get(method, "")
    assert said.params["kd"] == ("kl" if "lambda" in KNOBS[method] and not TRAITS[method].fixed_loss else "mse")
    assert json.loads(json.dumps(said.__dict__))["params"] == said.params


@pytest.mark.parametrize("method", WITH_HEADS)
def test_a_confirmed_configuration_has_the_knobs_of_their_method(planned: Planned, plms: Plms, method: str) -> None:
    study = next(study for study in studies_of(planned(**every_method(plms))).values() if study.pair.method == method)
    first = study.space(FixedTrial(study.space.first()))
    config = replace(study.base.with_knobs(first), seeds=(10, 11))
    told = _knobs(config)
    named = {"sources": [source.task.name for source in config.sources]} if config.sources else {}
    knobs = {name: value for name, value in study.space.first().items() if name != "partners"}
    assert told == {**knobs, "seeds": [10, 11], **named}


@pytest.mark.parametrize(("method", "other"), [("panda", "prompt_tuning"), ("zero_shot", "random_prompt")])
def test_the_twin_of_a_winner_is_told_under_its_study_by_that_name(
    planned: Planned, plms: Plms, library: PromptLibrary, uri: str, method: str, other: str
) -> None:
    plan = planned(**every_method(plms, methods=[method], sources=["s1"]))
    study = studies_of(plan)[f"t ← s1 · {method}"]
    without = twin(replace(study.base.with_knobs(study.space.first()), seeds=(10, 11)))
    assert without is not None
    assert without.method == other
    put_confirmed(library, without, [0.5, 0.5], [0.55, 0.65])
    scores = {"t · prompt_tuning": ([0.6, 0.6], [0.55, 0.65]), study.pair.name: ([0.7, 0.7], [0.75, 0.8])}
    winner = recorded(plan, library, uri, scores)[study.pair.name]
    assert [entry.name for entry in of_winner(winner)] == ["confirm 1", "twin"]
    run = run_of(uri, "study", winner.study)
    assert run.data.metrics["twin"] == pytest.approx(0.6)
    (told,) = (run for run in by_id(uri).values() if run.info.run_name == "twin")
    assert told.data.tags["study"] == winner.study.key
    assert told.data.metrics["score/report"] == pytest.approx(0.6)
