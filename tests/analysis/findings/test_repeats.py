"""The luck of the search, by hand: means and deviations over searches, none of which is chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import sqrt

import pytest

from analysis.findings.best import winners
from analysis.findings.repeats import OverSearches, of_study, of_targets
from analysis.records.studies import Estimate, StudyRecord, with_repeats
from tests.kits.worlds import record, unconfirmed


def searches(method: str, source: str | None, *numbers: Mapping[str, float | None]) -> list[StudyRecord]:
    """A study and its repeats with these numbers, told apart by their keys."""
    return [
        replace(record(method, source, **values), repeat=repeat, key=f"{method} {repeat}", run_id=f"{method} {repeat}")
        for repeat, values in enumerate(numbers)
    ]


BASE = searches(
    "prompt_tuning", None, {"score": 0.5, "selection": 0.60}, {"score": 0.6, "selection": 0.62}, {"score": 0.55, "selection": 0.70}
)  # fmt: skip
SPOT = searches(
    "spot", "a", {"score": 0.7, "selection": 0.65, "gain": 0.2}, {"score": 0.7, "selection": 0.66, "gain": 0.1},
    {"score": 0.4, "selection": 0.61, "gain": -0.15},
)  # fmt: skip


def over_targets(*studies: StudyRecord) -> OverSearches | None:
    confirmed = [study for study in with_repeats(studies) if study.is_confirmed]
    return of_targets(confirmed, winners).get(("t", "bert"))


def same(estimate: Estimate | None, values: Sequence[float]) -> None:
    mean = sum(values) / len(values)
    assert estimate is not None
    assert (estimate.mean, estimate.n) == (pytest.approx(mean), len(values))
    assert estimate.std == pytest.approx(sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1)))


def test_a_study_over_its_searches_is_their_mean_and_deviation() -> None:
    (spot,) = with_repeats(SPOT)
    found = of_study(spot)
    assert found is not None
    same(found.score, [0.7, 0.7, 0.4])
    same(found.gain, [0.2, 0.1, -0.15])


def test_the_baseline_has_a_score_over_searches_and_no_gain() -> None:
    (base,) = with_repeats(BASE)
    found = of_study(base)
    assert found is not None
    same(found.score, [0.5, 0.6, 0.55])
    assert found.gain is None


def test_a_target_over_searches_has_the_winner_of_each_and_a_baseline_that_wins_gains_nothing() -> None:
    found = over_targets(*BASE, *SPOT)
    assert found is not None
    assert found.winners == ("spot ← a", "spot ← a", "prompt_tuning")
    same(found.score, [0.7, 0.7, 0.55])
    same(found.gain, [0.2, 0.1, 0.0])


def test_a_repeat_in_which_a_study_has_no_winner_is_not_counted_of_the_target() -> None:
    """Its winner is that of fewer studies, which is another question."""
    found = over_targets(*BASE, *SPOT[:2], unconfirmed(SPOT[2]))
    assert found is not None
    same(found.score, [0.7, 0.7])
    (spot,) = with_repeats([*SPOT[:2], unconfirmed(SPOT[2])])
    one = of_study(spot)
    assert one is not None
    assert one.n == 2


def test_one_search_has_no_spread() -> None:
    assert over_targets(BASE[0], SPOT[0]) is None
    assert of_study(SPOT[0]) is None
    assert over_targets(BASE[0], unconfirmed(BASE[1]), SPOT[0], unconfirmed(SPOT[1])) is None


def test_only_first_searches_are_studies_of_their_own_whatever_the_order() -> None:
    found = with_repeats([SPOT[2], BASE[1], SPOT[0], BASE[0], SPOT[1]])
    assert [(study.method, [one.repeat for one in study.searches]) for study in found] == [
        ("spot", [0, 1, 2]), ("prompt_tuning", [0, 1]),
    ]  # fmt: skip
    assert [study.key for study in with_repeats([SPOT[0], replace(SPOT[0], key="other")])] == ["spot 0", "other"]
