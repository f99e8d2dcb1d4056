"""Methods against what they are to beat, worked by hand."""

import pytest

from analysis.findings.comparisons import REFERENCES, Against, comparisons, detectable
from analysis.records.evidence import Evidence
from analysis.records.reader import StudyRecord
from tests.kits.worlds import World, evidence


def study(
    target: str, report: float, method: str = "panda", source: str | None = "a", twin: float | None = None, gain: float | None = None,
    signal: str = "true",
) -> StudyRecord:  # fmt: skip
    known = {"twin": twin, "gain": gain, "gain/n": None if gain is None else 2.0}
    metrics = {name: value for name, value in known.items() if value is not None}
    return StudyRecord(
        target, source, method, "bert", f"{target} {method} {source}", "w", {"score/report": report, **metrics}, {"signal": signal}
    )  # fmt: skip


def found_in(*studies: StudyRecord) -> dict[tuple[str, str], Against]:
    return {(one.method, one.reference): one for one in comparisons(Evidence("x", studies))}


TWINS = (
    study("t", 0.6, twin=0.5),
    study("t", 0.5, source="b", twin=0.5),
    study("u", 0.7, twin=0.6),
    study("v", 0.4, twin=0.6),
    study("w", 0.9, twin=0.1, signal="false"),
)


def test_winners_are_compared_target_by_target_and_targets_without_signal_are_not_in_the_mean() -> None:
    """Means of targets 0.05, 0.1, -0.2: deviation 0.160728, standard error 0.0927961, t(0.975, 2) = 4.302653."""
    panda = found_in(*TWINS)["panda", "twin"]
    assert panda.differences["t"] == pytest.approx((0.1, 0.0))
    assert panda.silent == ("w",)
    assert (panda.n, list(panda.heard)) == (4, ["t", "u", "v"])
    assert panda.mean == pytest.approx((0.05 + 0.1 - 0.2) / 3)
    assert panda.interval == pytest.approx((-0.0166667 - 0.3992695, -0.0166667 + 0.3992695), abs=1e-6)
    assert panda.better == pytest.approx(2 / 4)
    assert not panda.is_clear


def test_what_is_detectable_is_two_quantiles_of_t_times_the_standard_error() -> None:
    """t(0.975, 2) + t(0.8, 2) = 4.302653 + 1.060660."""
    assert detectable([0.05, 0.1, -0.2]) == pytest.approx((4.302653 + 1.060660) * 0.0927961, abs=1e-6)
    assert detectable([0.05, 0.1]) is None


def test_two_targets_have_a_mean_but_no_interval() -> None:
    panda = found_in(*TWINS[:3])["panda", "twin"]
    assert panda.mean == pytest.approx(0.075)
    assert (panda.interval, panda.detectable, panda.is_clear) == (None, None, False)


def test_where_no_target_carries_a_signal_there_is_no_mean() -> None:
    silent = found_in(TWINS[-1])["panda", "twin"]
    assert (silent.mean, silent.better, silent.n) == (None, None, 0)
    assert silent.differences["w"] == pytest.approx((0.8,))


def test_a_difference_that_every_target_shows_is_clear() -> None:
    found = found_in(*(study(name, 0.5 + place / 1000, twin=0.4) for place, name in enumerate("tuv")))
    assert found["panda", "twin"].is_clear


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
    assert {one.reference for one in found} == set(REFERENCES)
    assert [one.method for one in found] == sorted(one.method for one in found)
