"""Methods and what they are compared with, worked by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from analysis.findings.comparisons import REFERENCES, MethodComparison, comparisons
from analysis.records.evidence import Evidence
from analysis.records.studies import Estimate, StudyRecord
from analysis.statistics.gains import holm
from analysis.statistics.power import minimum_detectable_effect
from tests.kits.worlds import World, evidence, record


def study(
    target: str, report: float, method: str = "panda", source: str | None = "a", twin: float | None = None,
    gain: float | None = None, signal: bool = True,
) -> StudyRecord:  # fmt: skip
    return record(
        method, source, target, score=report, twin=None if twin is None else Estimate(twin), gain=gain, signal=signal
    )


def found_in(*studies: StudyRecord) -> dict[tuple[str, str], MethodComparison]:
    return {(one.method, one.reference): one for one in comparisons(Evidence("x", studies))}


TWINS = (
    study("t", 0.6, twin=0.5),
    study("t", 0.5, source="b", twin=0.5),
    study("u", 0.7, twin=0.6),
    study("v", 0.4, twin=0.6),
    study("w", 0.9, twin=0.1, signal=False),
)


def test_winners_are_compared_target_by_target_and_targets_without_signal_are_not_in_the_mean() -> None:
    """Means of targets 0.05, 0.1, -0.2: deviation 0.160728, standard error 0.0927961, t(0.975, 2) = 4.302653."""
    panda = found_in(*TWINS)["panda", "twin"]
    assert panda.differences["t"] == pytest.approx((0.1, 0.0))
    assert panda.without_signal == ("w",)
    assert (panda.n, list(panda.with_signal)) == (4, ["t", "u", "v"])
    assert panda.mean == pytest.approx((0.05 + 0.1 - 0.2) / 3)
    assert panda.interval == pytest.approx((-0.0166667 - 0.3992695, -0.0166667 + 0.3992695), abs=1e-6)
    assert panda.above_zero == pytest.approx(2 / 4)
    assert not panda.is_significant


def test_the_detectable_difference_has_its_power_on_average_over_what_the_deviation_may_be() -> None:
    """One experiment tells the size, from its own deviation; another of the same kind must see it in 80 % of cases."""
    generator = np.random.default_rng(0)
    for targets in (5, 12):
        sizes = [minimum_detectable_effect(values).size for values in generator.normal(size=(3000, targets))]
        seen = stats.ttest_1samp(generator.normal(size=(3000, targets)) + np.array(sizes)[:, None], 0, axis=1).pvalue
        assert np.mean(seen < 0.05) == pytest.approx(0.8, abs=0.025)


def test_the_detectable_difference_of_many_targets_is_blooms_and_its_own_interval_that_of_the_deviation() -> None:
    values = np.random.default_rng(1).normal(size=400)
    found = minimum_detectable_effect(values)
    error = values.std(ddof=1) / math.sqrt(400)
    assert found.size == pytest.approx((1.959964 + 0.841621) * error, rel=0.01)
    assert (found.low, found.high) == pytest.approx(
        tuple(found.size * math.sqrt(399 / stats.chi2.ppf(share, 399)) for share in (0.975, 0.025))
    )


def test_of_few_targets_the_detectable_difference_cannot_be_said() -> None:
    assert minimum_detectable_effect([0.05, 0.1, -0.2, 0.3]) is None
    assert found_in(*TWINS)["panda", "twin"].detectable is None


def test_two_targets_have_a_mean_but_no_interval() -> None:
    panda = found_in(*TWINS[:3])["panda", "twin"]
    assert panda.mean == pytest.approx(0.075)
    assert (panda.interval, panda.detectable, panda.is_significant) == (None, None, False)


def test_where_no_target_carries_a_signal_there_is_no_mean() -> None:
    silent = found_in(TWINS[-1])["panda", "twin"]
    assert (silent.mean, silent.above_zero, silent.n) == (None, None, 0)
    assert silent.differences["w"] == pytest.approx((0.8,))


def test_a_p_value_is_corrected_over_the_methods_with_the_same_reference() -> None:
    gains = {"a": (0.1, 0.11, 0.13), "b": (0.1, 0.02, 0.06), "c": (0.0, 0.1, -0.1)}
    studies = [study(t, 0.6, method, gain=g) for method, own in gains.items() for t, g in zip("tuv", own, strict=True)]
    found = found_in(*studies, *(study(t, 0.6, "a", source="z", twin=0.1) for t in "tuv"))
    plain = [float(stats.ttest_1samp(own, 0).pvalue) for own in gains.values()]
    assert [found[m, "baseline"].p for m in "abc"] == pytest.approx(holm(plain))
    assert [found[m, "baseline"].is_significant for m in "abc"] == [True, False, False]
    assert found["a", "twin"].p == pytest.approx(found["a", "twin"].found.p)  # another reference is another family


def test_a_difference_that_every_target_shows_is_significant() -> None:
    found = found_in(*(study(name, 0.5 + place / 1000, twin=0.4) for place, name in enumerate("tuv")))
    assert found["panda", "twin"].is_significant


def test_spot_is_the_same_source_as_a_start_and_never_compared_with_itself() -> None:
    found = found_in(
        study("t", 0.6), study("t", 0.5, "spot"), study("t", 0.9, "spot", "b"), study("u", 0.7), study("t", 0.8, "model_tuning", None)
    )  # fmt: skip
    assert found["panda", "spot"].differences == {"t": pytest.approx((0.1,))}
    assert ("spot", "spot") not in found
    assert ("model_tuning", "spot") not in found


def test_the_baseline_is_what_the_gain_is_over() -> None:
    found = found_in(study("t", 0.6, gain=0.2), study("t", 0.4, "prompt_tuning", None))
    assert found["panda", "prompt_tuning"].differences == {"t": pytest.approx((0.2,))}
    assert {reference for _, reference in found} == {"prompt_tuning"}


def test_every_reference_is_found_in_a_whole_experiment() -> None:
    found = comparisons(evidence(World()))
    assert {one.reference for one in found} == {"prompt_tuning", "spot", "twin"}
    assert set(REFERENCES) == {"baseline", "start", "twin"}
    assert [one.method for one in found] == sorted(one.method for one in found)
