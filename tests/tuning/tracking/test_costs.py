"""What MLflow is told of costs, by hand: eight steps of two seeds, sources of eight steps with a snapshot after four."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from optuna.trial import TrialState

from analysis.records import names as records
from panda_trainable.result import TrialResult
from tests.kits.small import studies_of
from tests.tuning.tracking.test_entries import ended, evaluation
from tuning.planning.plan import Plan
from tuning.tracking.costs import study_runs
from tuning.tracking.study_runs import of_plan
from tuning.tracking.trial_runs import of_trial
from tuning.tracking.updates import RunUpdate

Planned = Callable[..., Plan]
ALONE = {"panda": {"partners": 0}, "spot": {"partners": 0}}
"""No trial has partners, whatever is suggested."""


def runs(update: RunUpdate) -> dict[str, int]:
    found: dict[str, int] = json.loads(update.tags[records.RUNS])
    return found


@pytest.mark.parametrize(
    ("steps", "state", "failure", "spent"),
    [
        ((2, 4, 6, 8), TrialState.COMPLETE, None, 16),
        ((2,), TrialState.PRUNED, None, 4),
        ((2,), TrialState.FAIL, TrialResult.failed("not finite", 5), 10),
        ((2,), TrialState.FAIL, TrialResult.from_ray(None), 4),
        ((), TrialState.FAIL, TrialResult.failed("out of memory"), 0),
    ],
)
def test_a_trial_that_has_ended_tells_the_steps_of_all_its_seeds(
    planned: Planned, steps: tuple[int, ...], state: TrialState, failure: TrialResult | None, spent: int
) -> None:
    study = studies_of(planned(space=ALONE))["t ← s1 · panda"]
    update = of_trial(study, ended(study, [evaluation(step) for step in steps], state, failure))
    assert update.metrics == {"replica_steps": spent}
    assert sorted(runs(update).values()) == [8, 16]  # a teacher of four steps at most; the source


def test_a_trial_that_still_runs_tells_no_cost(planned: Planned) -> None:
    study = studies_of(planned())["t ← s1 · panda"]
    update = of_trial(study, ended(study, [evaluation(2)], TrialState.RUNNING))
    assert update.metrics == {}
    assert records.RUNS not in update.tags


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, [8, 8, 8]),  # the target's embedding, and two sources up to their snapshot
        ({"space": {"spot": {"partners": 0}}}, [8, 8]),  # no other source is ordered
        ({"weigh_by": "none"}, [8, 8, 8]),  # partners are ordered all the same
        ({"weigh_by": "none", "space": {"spot": {"partners": 0}}}, []),
        ({"weigh_by": {"t": {"s1": 0.5, "s2": 0.4}}}, []),
    ],
)
def test_a_study_tells_the_runs_behind_the_similarities_that_it_uses(
    planned: Planned, changes: dict[str, Any], steps: list[int]
) -> None:
    plan = planned(methods=["spot"], **changes)
    studies = studies_of(plan)
    told = dict(zip(studies, of_plan(plan, [], list(studies.values()), lambda _: []), strict=True))
    assert sorted(runs(told["t ← s1 · spot"]).values()) == steps
    assert runs(told["t · prompt_tuning"]) == {}


def test_the_snapshot_of_a_source_is_part_of_the_run_that_its_trials_start_from(planned: Planned) -> None:
    """So that it is paid once."""
    study = studies_of(planned(methods=["spot"], space={"spot": ALONE["spot"]}))["t ← s1 · spot"]
    plan = planned(methods=["spot"])
    of_source = runs(of_trial(study, ended(study, [evaluation(8)], TrialState.COMPLETE)))
    assert list(of_source.values()) == [16]
    assert of_source.keys() < study_runs(plan, studies_of(plan)["t ← s1 · spot"]).keys()
