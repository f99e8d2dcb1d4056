"""Repeats of a search: studies beside the first ones that differ from them in the seed of the search alone."""

from collections.abc import Callable

import pytest

from analysis.records import names as records
from tests.kits.small import studies_of
from tuning.planning.partners import record_study
from tuning.planning.plan import Plan, Study
from tuning.tracking.study_runs import of_plan

Planned = Callable[..., Plan]


def searched(planned: Planned, **search: int) -> dict[str, Study]:
    return studies_of(planned(search={"trials": 2, **search}))


def test_repeats_leave_the_first_searches_as_they_are(planned: Planned) -> None:
    once, thrice = searched(planned), searched(planned, repeats=3)
    assert once == {name: study for name, study in thrice.items() if study.repeat == 0}
    assert list(thrice)[: len(once)] == list(once)
    assert len(thrice) == 3 * len(once)
    assert len({study.key for study in thrice.values()}) == len(thrice)


@pytest.mark.parametrize("repeat", [1, 2])
def test_a_repeat_is_the_study_of_a_file_with_that_seed(planned: Planned, repeat: int) -> None:
    """So that what such a file has searched is not searched again."""
    with_seed, repeated = searched(planned, seed=5 + repeat), searched(planned, seed=5, repeats=3)
    assert {f"{name} · repeat {repeat}": study.key for name, study in with_seed.items()} == {
        name: study.key for name, study in repeated.items() if study.repeat == repeat
    }


def test_repeats_go_on_with_the_partners_of_the_first_search(planned: Planned) -> None:
    """A source more would else give only the repeats another space, and their spread would not be the search's alone."""
    before = planned()
    for study in studies_of(before).values():
        record_study(before, study)
    more = planned(sources=["s1", "s2", "t"], self_pairs="include", search={"trials": 2, "repeats": 2})
    for study in (study for study in studies_of(more).values() if study.repeat):
        first = studies_of(more)[study.pair.name]
        assert (study.base, study.space, study.budget) == (first.base, first.space, first.budget)
    assert [s.task.name for s in studies_of(more)["t ← s1 · spot · repeat 1"].base.sources] == ["s1", "s2"]


def test_mlflow_is_told_the_repeat_and_the_seed_of_its_search(planned: Planned) -> None:
    plan = planned(methods=[], sources=[], search={"trials": 2, "seed": 4, "repeats": 2})
    told = list(of_plan(plan, [], list(studies_of(plan).values()), lambda _: []))
    assert [(run.name, run.tags[records.REPEAT], run.params["search_seed"]) for run in told] == [
        ("t · prompt_tuning", "0", 4), ("t · prompt_tuning · repeat 1", "1", 5),
    ]  # fmt: skip
