"""Measures of winners and of first trials, from records alone; and how gains spread."""

import math
from dataclasses import replace

import pytest

from analysis.records.evidence import with_first_seeds
from analysis.records.measures import MEASURES, SCOPES, has_gain, share_above, spreads, value
from analysis.records.reader import StudyRecord, TrialRecord, by_seed
from tests.kits.worlds import World, made


def study(source: str | None = "a", method: str = "spot", target: str = "t", **metrics: float) -> StudyRecord:
    named = {name.replace("__", "/"): number for name, number in metrics.items()}
    return StudyRecord(target, source, method, "bert", f"{method} {source}", "w", {"gain/n": 2.0, **named}, {})


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_is_read_of_winners_and_of_first_trials(measure: str, scope: str) -> None:
    pair = next(one for one in made(World(trials=1))[0] if one.source)
    metric = getattr(MEASURES[measure], scope)
    if metric not in pair.metrics:
        assert metric == "first/" + MEASURES[measure].winner
        assert value(pair, measure, scope) is None
        pair.metrics[metric] = 0.25
    assert value(pair, measure, scope) == pair.metrics[metric]


def test_the_first_trial_is_measured_by_its_own_metrics() -> None:
    pair = study(gain=0.1, first__gain=0.3, score__report=0.8, first__score=0.7)
    assert (value(pair, "gain"), value(pair, "gain", "first")) == (0.1, 0.3)
    assert (value(pair, "score"), value(pair, "score", "first")) == (0.8, 0.7)


def test_a_score_that_was_never_reached_is_a_speed_up_of_zero_and_not_a_gap() -> None:
    never = replace(study(), tags={"never_comparable": "true", "first_never_comparable": "false"})
    assert value(never, "comparable") == 0.0
    assert value(never, "comparable", "first") is None
    assert value(replace(never, tags={"first_never_comparable": "true"}), "comparable", "first") == 0.0
    assert value(never, "convergence") is None


def test_what_is_no_number_is_unknown() -> None:
    assert value(study(gain=math.nan), "gain") is None
    assert value(study(), "gain") is None


def test_an_unknown_measure_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"measure must be one of gain, score, .* got 'gian' and 'winner'"):
        value(study(), "gian")
    with pytest.raises(ValueError, match=r"scope one of winner, first, got 'gain' and 'last'"):
        value(study(), "gain", "last")


def test_values_of_seeds_come_in_the_order_of_the_seeds() -> None:
    pair = study(gain__seed__11=0.2, gain__seed__9=0.1, score__report__seed__9=0.9)
    assert list(by_seed(pair.metrics, "gain").items()) == [(9, 0.1), (11, 0.2)]
    assert by_seed(pair.metrics, "early") == {}


def test_gains_spread_over_sources_and_over_seeds_by_hand() -> None:
    pairs = [
        study("a", gain=0.02, gain__std=0.03, gain__low=0.01),
        study("b", gain=0.04, gain__std=0.01, gain__low=-0.01),
        study("c", gain=-0.03, gain__std=0.02, gain__low=-0.05),
    ]
    (found,) = spreads(pairs)
    assert (found.method, found.target, found.plm, found.n) == ("spot", "t", "bert", 3)
    assert found.mean == pytest.approx(0.01)
    assert found.over_sources == pytest.approx(math.sqrt((0.01**2 + 0.03**2 + 0.04**2) / 2))
    assert found.over_seeds == pytest.approx(math.sqrt((0.03**2 + 0.01**2 + 0.02**2) / 3))
    assert (found.beat, found.beat_clearly) == (pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_gains_of_first_trials_spread_too_and_have_no_intervals() -> None:
    seeds = {"first__gain__seed__0": 0.01, "first__gain__seed__1": 0.05}
    pairs = [study("a", gain=0.1, first__gain=0.03, **seeds), study("b", gain=0.2, first__gain=-0.01)]
    winner, first = spreads(pairs)
    assert (winner.scope, winner.mean, winner.over_seeds) == ("winner", pytest.approx(0.15), None)
    assert (first.scope, first.mean, first.beat, first.beat_clearly) == ("first", pytest.approx(0.01), 0.5, None)
    assert first.over_sources == pytest.approx(0.04 / math.sqrt(2))
    assert first.over_seeds == pytest.approx(0.04 / math.sqrt(2))


def test_first_trials_are_compared_with_the_baselines_seed_by_seed() -> None:
    own = study("a", first__gain=0.0)
    base = study(None, "prompt_tuning")
    own, base = (replace(one, run_id=name, tags={"study": name}) for one, name in ((own, "own"), (base, "base")))

    def tried(key: str, scores: dict[int, float], number: int = 0, state: str = "complete") -> TrialRecord:
        return TrialRecord("t", "a", "spot", "bert", key, number, {}, 0.5, 60, 1.0, state, "", scores)

    trials = [tried("own", {0: 0.5, 1: 0.9}), tried("base", {0: 0.6, 2: 0.7}), tried("own", {0: 0.1}, number=1)]
    compared, alone = with_first_seeds([own, base], trials)
    assert by_seed(compared.metrics, "first/gain") == {0: pytest.approx(-0.1)}
    assert by_seed(compared.metrics, "first/score") == {0: 0.5, 1: 0.9}
    assert by_seed(alone.metrics, "first/gain") == {0: 0.0, 2: 0.0}
    stopped = [tried("own", {0: 0.5}, state="stopped early"), trials[1]]
    assert by_seed(with_first_seeds([own, base], stopped)[0].metrics, "first/gain") == {}


def test_one_source_and_one_seed_have_no_spread() -> None:
    (found,) = spreads([study(gain=0.02, gain__std=0.0, gain__n=1.0)])
    assert (found.over_sources, found.over_seeds, found.beat_clearly) == (None, None, None)


def test_the_baseline_has_no_gain_and_methods_targets_and_plms_stay_apart() -> None:
    baseline = study(None, "prompt_tuning", gain=0.0, gain__n=0.0)
    others = [study(gain=0.1), study(gain=0.1, target="u"), study(gain=0.1, method="panda")]
    assert not has_gain(baseline)
    assert [(s.method, s.target) for s in spreads([baseline, *others])] == [
        ("panda", "t"),
        ("spot", "t"),
        ("spot", "u"),
    ]


def test_a_gain_of_rounding_alone_beats_nothing() -> None:
    assert share_above([0.0, 1e-12, -0.1, 0.1]) == 0.25
