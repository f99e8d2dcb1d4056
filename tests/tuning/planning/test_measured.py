"""Which similarities the pairs of a plan have: what is not defined is told, and refused where it is to weigh."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from panda_trainable.library import PromptLibrary
from tests.kits.small import OWN, like
from tests.kits.tasks import rows_of, write_task
from tuning.experiment.problems import Misuse, Problem
from tuning.planning.jobs import score_jobs
from tuning.planning.plan import Plan
from tuning.planning.preflight import check_plan
from tuning.planning.studies import make_studies
from tuning.run.jobs import is_scored, measure, score
from tuning.run.retrieve import retrieve

Planned = Callable[..., Plan]
OTHER_NAMES = {**OWN, "classes": ["bad", "good"]}
APART = (
    "their prompts do not start as one (prompt.init labels), so that what training changed of them cannot be compared"
)


def of_class_names(**changes: Any) -> dict[str, Any]:
    """Prompts that start from class names, which s2 has others of."""
    return {
        "prompt": {"length": 3, "init": "labels"}, "tasks": {"s1": OWN, "s2": OTHER_NAMES, "t": OWN},
        "similarities": ["c_mean", "c_mean_change"], "weigh_by": "c_mean", **changes,
    }  # fmt: skip


def test_a_pair_without_a_similarity_is_told_before_anything_starts(planned: Planned, library: PromptLibrary) -> None:
    assert check_plan(library, planned(**of_class_names())) == [f"c_mean_change is not measured for t ← s2: {APART}"]
    assert check_plan(library, planned(**of_class_names(sources=["s1"]))) == []


def test_what_weighs_sources_must_be_defined_for_all_of_them(planned: Planned, library: PromptLibrary) -> None:
    (problem,) = check_plan(library, planned(**of_class_names(weigh_by="c_mean_change")))
    assert isinstance(problem, Problem)
    assert str(problem) == (
        f"weigh_by: c_mean_change is to weigh the sources of spot, panda, and is not defined for t ← s2: {APART}; "
        "name another similarity, or none"
    )
    unweighed = planned(**of_class_names(weigh_by="c_mean_change", methods=[]))
    assert [type(finding) for finding in check_plan(library, unweighed)] == [str]


def test_a_target_whose_sources_all_lack_the_similarity_is_not_ranked(planned: Planned) -> None:
    plan = planned(**of_class_names(sources=["s2"]))
    with pytest.raises(Misuse) as refused:
        retrieve(plan.experiment, "t", "c_mean_change")
    assert str(refused.value) == f"--by c_mean_change: is defined for no source of t: {APART}; name another similarity"
    assert not list((plan.experiment.storage_path / "library").glob("prompts/*"))


def test_many_pairs_are_told_by_some(planned: Planned, library: PromptLibrary, tmp_path: Path) -> None:
    names = ["s2", "s3", "s4", "s5"]
    for number, name in enumerate(names[1:]):
        write_task(tmp_path / "data" / name, rows_of(60, 2, seed=number + 7), rows_of(24, 2, seed=number + 8))
    tasks = {"t": OWN, **dict.fromkeys(names, OTHER_NAMES)}
    (note,) = check_plan(library, planned(**of_class_names(sources=names, tasks=tasks)))
    assert str(note).startswith("c_mean_change is not measured for t ← s2, t ← s3, t ← s4 and 1 more: ")


def test_partners_without_the_similarity_that_orders_them_come_last(planned: Planned, tmp_path: Path) -> None:
    write_task(tmp_path / "data/s3", rows_of(60, 2, seed=7), rows_of(24, 2, seed=8))
    three = {"tasks": dict.fromkeys(("s1", "s2", "s3", "t"), OWN), "sources": ["s1", "s2", "s3"]}
    plan = planned(**three, weigh_by="none", methods=["spot"], similarities=["c_pair"])  # of like(): at most -0.5
    measured = {("s1", "t"): like(0.5), ("s2", "t"): {}, ("s3", "t"): like(0.9)}
    partners = {s.pair.source: [p.task.name for p in s.base.sources[1:]] for s in make_studies(plan, measured)[0]}
    assert partners["s1"] == ["s3", "s2"]


def test_scores_are_told_where_the_target_has_not_one_label_a_row(planned: Planned, library: PromptLibrary) -> None:
    tasks = {"s1": OWN, "s2": OWN, "t": {"kind": "regression", "text": "a"}}
    plan = planned(tasks=tasks, methods=["spot"], similarities=["task_embedding", "logme", "leep"])
    why = "it is defined for a target that is a classification, and t is a regression"
    assert check_plan(library, plan) == [f"leep is not measured for t ← s1, t ← s2: {why}"]
    assert [job.name for job in score_jobs(plan)] == ["t ← s1", "t ← s2"]
    assert score_jobs(planned(tasks=tasks, methods=["spot"], similarities=["task_embedding", "leep"])) == []
    assert score_jobs(planned()) == []


def test_the_trivial_baselines_are_measured_always(planned: Planned, library: PromptLibrary) -> None:
    plan = planned(similarities=["c_mean"], weigh_by="c_mean")
    found = measure(library, plan)
    assert {pair: set(values) for pair, values in found.items()} == {
        pair: {"c_mean", "source_size", "label_entropy"} for pair in plan.measured
    }
    assert found["s1", "t"]["source_size"] == round(math.log(48), 6)


@pytest.mark.own_library
def test_scores_that_are_kept_are_those_that_are_measured(planned: Planned, library: PromptLibrary) -> None:
    plan = planned(sources=["s1"], similarities=["c_mean", "logme", "leep"], weigh_by="c_mean")
    (job,) = score_jobs(plan)
    assert not is_scored(library, job)
    score(library, job)
    assert is_scored(library, job)
    before = sorted(library.root.glob("scores/*"))
    assert {"logme", "leep"} <= set(measure(library, plan)["s1", "t"])
    assert sorted(library.root.glob("scores/*")) == before
