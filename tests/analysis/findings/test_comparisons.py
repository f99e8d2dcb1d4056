"""Methods and what they are compared with, worked by hand."""

import pytest

from analysis.findings.comparisons import REFERENCES, MethodComparison, comparisons, minimum_detectable_effect
from analysis.records.evidence import Evidence
from analysis.records.studies import StudyRecord
from tests.kits.worlds import World, evidence, record


def study(
    target: str, report: float, method: str = "panda", source: str | None = "a", twin: float | None = None,
    gain: float | None = None, signal: bool = True,
) -> StudyRecord:  # fmt: skip
    return record(method, source, target, score=report, twin=twin, gain=gain, signal=signal)


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


def test_the_minimum_detectable_effect_is_two_quantiles_of_t_times_the_standard_error() -> None:
    """t(0.975, 2) + t(0.8, 2) = 4.302653 + 1.060660."""
    assert minimum_detectable_effect([0.05, 0.1, -0.2]) == pytest.approx((4.302653 + 1.060660) * 0.0927961, abs=1e-6)
    assert minimum_detectable_effect([0.05, 0.1]) is None


def test_two_targets_have_a_mean_but_no_interval() -> None:
    panda = found_in(*TWINS[:3])["panda", "twin"]
    assert panda.mean == pytest.approx(0.075)
    assert (panda.interval, panda.minimum_detectable_effect, panda.is_significant) == (None, None, False)


def test_where_no_target_carries_a_signal_there_is_no_mean() -> None:
    silent = found_in(TWINS[-1])["panda", "twin"]
    assert (silent.mean, silent.above_zero, silent.n) == (None, None, 0)
    assert silent.differences["w"] == pytest.approx((0.8,))


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
