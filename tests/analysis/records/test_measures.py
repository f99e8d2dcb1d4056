"""Measures of winners and of first trials, from records alone; and how gains spread."""

import math
from dataclasses import replace
from typing import Any

import pytest

from analysis.records.evidence import with_first_seeds
from analysis.records.measures import MEASURES, SCOPES, seed_values, share_above, spreads, value
from analysis.records.studies import Estimate, Outcome, StudyRecord, TrialRecord, Winner
from analysis.statistics.speedups import Speedups
from tests.kits.worlds import record


def study(
    source: str | None = "a", method: str = "spot", target: str = "t", gain: Estimate | None = None, first: Outcome | None = None,
    **winner: Any,
) -> StudyRecord:  # fmt: skip
    return record(method, source, target, gain=gain, first=first, **winner)


def first_gain(mean: float, **by_seed: float) -> Outcome:
    """A first trial with a gain; `s0=0.1` is that of seed 0."""
    seeds = {int(seed[1:]): value for seed, value in by_seed.items()}
    return Outcome(score=Estimate(0.5), gain=Estimate(mean, by_seed=seeds))


@pytest.mark.parametrize("scope", SCOPES)
def test_every_measure_is_read_of_winners_and_of_first_trials(scope: str) -> None:
    outcome = {
        "score": Estimate(0.1), "gain": Estimate(0.2), "relative_performance": 0.3, "error_reduction": 0.4, "early": 0.5,
        "speedups": Speedups(0.6, 0.7),
    }  # fmt: skip
    known = (
        {"winner": Winner(selection=Estimate(0.9), **outcome)} if scope == "winner" else {"first": Outcome(**outcome)}
    )
    found = StudyRecord(target="t", source="a", method="spot", plm="bert", **known)
    assert {measure: value(found, measure, scope) for measure in MEASURES} == {
        "score": 0.1, "gain": 0.2, "relative_performance": 0.3, "error_reduction": 0.4, "early": 0.5, "convergence": 0.6, "comparable": 0.7,
    }  # fmt: skip
    other = SCOPES[1 - SCOPES.index(scope)]
    assert {value(found, measure, other) for measure in MEASURES} == {None}


def test_a_score_that_was_never_reached_is_a_speed_up_of_zero_and_not_a_gap() -> None:
    never = study(speedups=Speedups(2.0, None), first=Outcome(score=Estimate(0.5)))
    assert (value(never, "comparable"), value(never, "convergence")) == (0.0, 2.0)
    assert value(never, "comparable", "first") is None
    assert value(study(speedups=Speedups(math.inf, math.inf)), "comparable") is None


def test_an_unknown_measure_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"measure must be one of gain, score, .* got 'gian' and 'winner'"):
        value(study(), "gian")
    with pytest.raises(ValueError, match=r"scope one of winner, first, got 'gain' and 'last'"):
        value(study(), "gain", "last")


def test_gains_spread_over_sources_and_over_seeds_by_hand() -> None:
    pairs = [
        study("a", gain=Estimate(0.02, 0.03, 2, 0.01, 0.1)),
        study("b", gain=Estimate(0.04, 0.01, 2, -0.01, 0.1)),
        study("c", gain=Estimate(-0.03, 0.02, 2, -0.05, 0.1)),
    ]
    (found,) = spreads(pairs)
    assert (found.method, found.target, found.plm, found.n) == ("spot", "t", "bert", 3)
    assert found.mean == pytest.approx(0.01)
    assert found.over_sources == pytest.approx(math.sqrt((0.01**2 + 0.03**2 + 0.04**2) / 2))
    assert found.over_seeds == pytest.approx(math.sqrt((0.03**2 + 0.01**2 + 0.02**2) / 3))
    assert (found.beat, found.beat_clearly) == (pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_gains_of_first_trials_spread_too_and_have_no_intervals() -> None:
    pairs = [
        study("a", gain=Estimate(0.1), first=first_gain(0.03, s0=0.01, s1=0.05)),
        study("b", gain=Estimate(0.2), first=first_gain(-0.01)),
    ]
    winner, first = spreads(pairs)
    assert (winner.scope, winner.mean, winner.over_seeds) == ("winner", pytest.approx(0.15), None)
    assert (first.scope, first.mean, first.beat, first.beat_clearly) == ("first", pytest.approx(0.01), 0.5, None)
    assert first.over_sources == pytest.approx(0.04 / math.sqrt(2))
    assert first.over_seeds == pytest.approx(0.04 / math.sqrt(2))


def test_first_trials_are_compared_with_the_baselines_seed_by_seed() -> None:
    own = replace(study("a", first=first_gain(0.0)), key="own")
    base = replace(study(None, "prompt_tuning", first=first_gain(0.0)), key="base")

    def tried(key: str, scores: dict[int, float], number: int = 0, state: str = "complete") -> TrialRecord:
        return TrialRecord("t", "a", "spot", "bert", key, number, {}, 0.5, 60, 1.0, state, "", scores)

    trials = [tried("own", {0: 0.5, 1: 0.9}), tried("base", {0: 0.6, 2: 0.7}), tried("own", {0: 0.1}, number=1)]
    compared, alone = with_first_seeds([own, base], trials)
    assert seed_values(compared, "gain", "first") == {0: pytest.approx(-0.1)}
    assert seed_values(compared, "score", "first") == {0: 0.5, 1: 0.9}
    assert seed_values(alone, "gain", "first") == {0: 0.0, 2: 0.0}
    stopped = [tried("own", {0: 0.5}, state="stopped early"), trials[1]]
    assert seed_values(with_first_seeds([own, base], stopped)[0], "gain", "first") == {}


def test_one_source_and_one_seed_have_no_spread() -> None:
    (found,) = spreads([study(gain=Estimate(0.02, 0.0, 1))])
    assert (found.over_sources, found.over_seeds, found.beat_clearly) == (None, None, None)


def test_the_baseline_has_no_gain_and_methods_targets_and_plms_stay_apart() -> None:
    baseline = study(None, "prompt_tuning", gain=Estimate(0.0, n=0))
    tenth = Estimate(0.1, n=2)
    others = [study(gain=tenth), study(gain=tenth, target="u"), study(gain=tenth, method="panda")]
    assert baseline.gain is None
    assert [(s.method, s.target) for s in spreads([baseline, *others])] == [
        ("panda", "t"),
        ("spot", "t"),
        ("spot", "u"),
    ]


def test_a_gain_of_rounding_alone_beats_nothing() -> None:
    assert share_above([0.0, 1e-12, -0.1, 0.1]) == 0.25
