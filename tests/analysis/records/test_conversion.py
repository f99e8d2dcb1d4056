"""Records to MLflow and back: every field survives, under the names that users' charts know."""

import math
from dataclasses import MISSING, fields, replace
from typing import Any

import pytest

from analysis.records import names
from analysis.records.conversion import estimate_metrics, study_of_run, study_run, trial_of_run, trial_run
from analysis.records.studies import Estimate, Outcome, StudyRecord, TrialRecord, Winner
from analysis.statistics.speedups import Speedups

FULL = {"n": 2, "low": -0.1, "high": 0.3, "p": 0.04, "by_seed": {9: 0.1, 11: 0.2}}
FIRST = Outcome(
    score=Estimate(0.61, 0.01, **FULL), gain=Estimate(0.12, 0.02, **FULL), relative_performance=1.1, error_reduction=0.13, early=0.41,
    speedups=Speedups(1.5, None),
)  # fmt: skip
WINNER = Winner(
    score=Estimate(0.71, 0.03, **FULL), gain=Estimate(0.22, 0.04, **FULL), relative_performance=1.2, error_reduction=0.23, early=0.51,
    speedups=Speedups(2.5, 3.5), selection=Estimate(0.81, 0.05, **FULL), twin=Estimate(0.62, 0.02, **FULL), chosen_by={9: 0.7, 11: 0.72}, majority=0.52, partners=("b", "c"), teacher=0.9,
    gap_closed=0.35, steps=60, teacher_steps=15, seconds=7.5, truncated={"train": 0.25, "report": 0.5}, run="w1",
)  # fmt: skip
STUDY = StudyRecord(
    target="t", source="a", method="panda", plm="bert", key="k", run_id="r1", state="confirmed", reference="start",
    similarity_in_loss="off", similarities={"c_mean": 0.3, "on": 0.4}, signal=False, protocol="paper", constructed=True, overlap=3,
    source_at_majority=True, settings={"weigh_by": "none"}, winner=WINNER, first=FIRST, repeat=2, runs={"e": 40},
)  # fmt: skip
TRIAL = TrialRecord(
    "t",
    "a",
    "panda",
    "bert",
    "k",
    4,
    {"lambda": 0.5, "fusion": "late"},
    0.6,
    20,
    3.5,
    "failed",
    "out of memory",
    {0: 0.5, 1: 0.7},
    42.0,
    {"a1": 30, "b2": 12},
)


def again(study: StudyRecord) -> StudyRecord:
    run = study_run(study)
    return study_of_run(run.metrics, run.tags, run.params, study.run_id)


OF_SEVERAL_RUNS = ("repeats",)
"""Fields that no single run holds."""


@pytest.mark.parametrize("value", [STUDY, WINNER, FIRST, WINNER.score, TRIAL], ids=lambda value: type(value).__name__)
def test_the_examples_fill_every_field(value: Any) -> None:
    for field in (one for one in fields(value) if one.compare and one.name not in OF_SEVERAL_RUNS):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        assert getattr(value, field.name) != default, (
            f"{field.name} has its default: the round trip would not show a loss"
        )


@pytest.mark.parametrize(
    "study",
    [
        STUDY,
        replace(STUDY, winner=None, first=None, signal=None, state=""),
        replace(
            STUDY, source=None, winner=replace(WINNER, partners=(), speedups=Speedups(math.inf, None)), similarities={}
        ),
        replace(STUDY, first=replace(FIRST, speedups=Speedups(math.inf, math.inf), gain=None)),
        StudyRecord(target="t", source=None, method="m", plm="p"),
    ],
    ids=["every field", "no winner", "never", "infinite", "bare"],
)
def test_what_a_run_holds_is_read_back(study: StudyRecord) -> None:
    assert again(study) == study
    assert all(map(math.isfinite, study_run(study).metrics.values()))


def test_a_trial_is_read_back() -> None:
    run = trial_run(TRIAL)
    texts = {name: str(value) for name, value in run.params.items()}
    assert trial_of_run(run.metrics, run.tags, texts, dict.fromkeys(run.metrics, TRIAL.step)) == TRIAL


def test_the_names_that_documents_and_charts_use_stay() -> None:
    run = study_run(STUDY)
    expected = {
        "score/report": 0.71, "score/report/std": 0.03, "score/report/seed/9": 0.1, "score/selection": 0.81, "gain": 0.22, "gain/low": -0.1,
        "gain/seed/11": 0.2, "score/chosen_by/seed/9": 0.7, "twin/seed/11": 0.2, "similarity/on": 0.4, "twin": 0.62, "majority": 0.52, "speedup/comparable": 3.5, "first/speedup/convergence": 1.5,
        "first/score": 0.61, "first/gain": 0.12, "truncated/report": 0.5, "relative_performance": 1.2, "teacher_steps": 15.0,
    }  # fmt: skip
    assert {name: run.metrics[name] for name in expected} == expected
    tags = {
        "stage": "study", "target": "t", "signal": "false", "partners": "b,c", "never_comparable": "false",
        "first_never_comparable": "true", "source_at_majority": "true", "overlap": "3",
    }  # fmt: skip
    assert {name: run.tags[name] for name in tags} == tags


def test_what_is_no_number_is_not_known() -> None:
    run = study_run(STUDY)
    read = study_of_run({**run.metrics, "gain": math.nan, "twin": math.nan, "similarity/on": math.nan}, run.tags)
    assert (read.gain, read.confirmed.twin, read.similarities) == (None, None, {"c_mean": 0.3})
    assert study_of_run({**run.metrics, "score/report": math.nan}, run.tags).winner is None
    half = {name: value for name, value in run.metrics.items() if name != "gain/low"}
    assert study_of_run(half, run.tags).confirmed.gain == replace(WINNER.gain, low=None, high=None)


def test_seeds_ascend_by_number() -> None:
    metrics = estimate_metrics("score/report", Estimate(0.5, by_seed={11: 0.2, 9: 0.1}))
    read = study_of_run({**metrics, "score/selection": 0.5}, study_run(STUDY).tags)
    assert list(read.confirmed.score.by_seed) == [9, 11]


@pytest.mark.parametrize(
    "wrong", [{"mean": math.nan}, {"std": -0.1}, {"n": -1}, {"p": 1.1}, {"low": 0.2}, {"low": 0.2, "high": 0.1}],
)  # fmt: skip
def test_an_estimate_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="an estimate must satisfy"):
        Estimate(**{"mean": 0.5, **wrong})


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ValueError, match="reference must be baseline, start or empty, .* got 'spot' and 'off'"):
        replace(STUDY, reference="spot")
    with pytest.raises(ValueError, match=f"state must be one of {', '.join(names.TRIAL_STATES)}, got 'lost'"):
        replace(TRIAL, state="lost")
