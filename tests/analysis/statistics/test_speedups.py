"""Speed-ups of Su et al. from curves whose steps are counted by hand."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.statistics.speedups import TOLERANCE, Speedups, converged, speedups

RISING = {0: 0.50, 50: 0.60, 100: 0.70, 150: 0.797, 200: 0.80}

points = st.integers(-1000, 1000)  # thousandths: scores have rounding errors, these have none
curves = st.dictionaries(st.integers(0, 12).map(lambda n: 50 * n), points, min_size=1)


def scores(curve: dict[int, int]) -> dict[int, float]:
    return {step: value / 1000 for step, value in curve.items()}


@pytest.mark.parametrize(
    ("curve", "step"),
    [
        (RISING, 150),  # 0.3 points below the best
        ({**RISING, 200: 0.803}, 200),  # now 0.6 points below
        ({50: 0.7, 100: 0.705, 150: 0.71}, 100),  # exactly the tolerance below; 50 is twice that
        ({50: 0.8, 100: 0.6, 150: 0.7}, 50),  # what is lost later does not matter
        ({50: 0.8, 100: 0.6, 150: 0.81}, 150),  # within a point is not within half a point
        ({0: 0.5, 50: 0.5}, 0),  # never better than its start
        ({50: -0.3, 100: -0.1}, 100),  # Matthews' correlation
        ({50: 0.6}, 50),
    ],
)
def test_a_curve_has_converged_where_it_is_first_within_half_a_point_of_its_best(
    curve: dict[int, float], step: int
) -> None:
    assert converged(curve) == step


def test_the_order_in_which_a_curve_was_recorded_does_not_matter() -> None:
    backwards = dict(reversed(RISING.items()))
    assert converged(backwards) == 150
    assert speedups(backwards, backwards) == speedups(RISING, RISING)


def test_a_wider_tolerance_converges_sooner() -> None:
    assert [converged(RISING, tolerance) for tolerance in (0, 0.005, 0.1, 0.2, 1)] == [200, 150, 100, 50, 0]


@given(curves, st.sampled_from([0, 5, 50]))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_the_first_step_near_the_best_is_the_first_near_it_without_a_later_improvement(
    curve: dict[int, int], tolerance: int
) -> None:
    """The rule in both its halves, in whole thousandths."""
    best = max(curve.values())
    settled = [
        step
        for step in sorted(curve)
        if curve[step] >= best - tolerance
        and all(curve[later] - curve[step] <= tolerance for later in curve if later > step)
    ]
    assert converged(scores(curve), tolerance / 1000) == settled[0]


@pytest.mark.parametrize(("curve", "tolerance"), [({}, 0.005), (RISING, -0.1), (RISING, math.nan)])
def test_nothing_converges_without_an_evaluation_or_below_no_tolerance(
    curve: dict[int, float], tolerance: float
) -> None:
    with pytest.raises(ValueError, match=rf"a tolerance of 0 or more to converge, got {len(curve)} and {tolerance}"):
        converged(curve, tolerance)


def test_speedups_are_ratios_of_the_baselines_steps_to_ours() -> None:
    """The baseline converges at 150 and ends at 0.80, which ours passes at 50 and converges at 100."""
    assert speedups(RISING, {0: 0.6, 50: 0.81, 100: 0.85, 150: 0.85}) == Speedups(150 / 100, 150 / 50)


def test_a_slower_transfer_has_speedups_below_one() -> None:
    assert speedups({50: 0.8, 100: 0.8}, {50: 0.5, 100: 0.6, 150: 0.7, 200: 0.8}) == Speedups(0.25, 0.25)


def test_a_transfer_that_ends_lower_converges_but_never_compares() -> None:
    assert speedups(RISING, {50: 0.79, 100: 0.799}) == Speedups(convergence=1.5, comparable=None)


def test_the_score_to_reach_is_that_of_the_last_evaluation_not_the_best() -> None:
    fallen = {50: 0.7, 100: 0.9, 150: 0.75}
    assert speedups(fallen, {50: 0.76, 100: 0.8}) == Speedups(convergence=1.0, comparable=2.0)


def test_to_reach_a_score_is_to_equal_it() -> None:
    found = speedups({100: 0.7}, {50: 0.7 - 1e-6, 100: 0.7})
    assert found
    assert found.comparable == 1.0
    rounded = speedups({100: (0.1 + 0.2 + 0.3) / 3}, {50: (0.3 + 0.2 + 0.1) / 3})
    assert rounded == Speedups(2.0, 2.0)


def test_a_curve_against_itself_is_as_fast_but_may_reach_its_own_last_score_later() -> None:
    assert speedups(RISING, RISING) == Speedups(convergence=1.0, comparable=150 / 200)


def test_a_zero_shot_start_that_is_already_there_is_infinitely_faster() -> None:
    assert speedups(RISING, {0: 0.9, 50: 0.9}) == Speedups(math.inf, math.inf)
    assert speedups(RISING, {0: 0.81, 50: 0.9}) == Speedups(3.0, math.inf)


def test_nothing_is_faster_than_a_baseline_that_needs_no_step() -> None:
    flat = {0: 0.5, 50: 0.5}
    assert speedups(flat, flat) == Speedups(1.0, 1.0)
    assert speedups(flat, {0: 0.4, 50: 0.6}) == Speedups(0.0, 0.0)


def test_without_a_curve_there_is_no_speedup() -> None:
    assert speedups({}, RISING) is None
    assert speedups(RISING, {}) is None


def test_the_tolerance_holds_for_both_curves() -> None:
    ours = {50: 0.7, 100: 0.81}
    assert speedups(RISING, ours) == Speedups(1.5, 1.5)
    assert speedups(RISING, ours, tolerance=0.2) == Speedups(1.0, 0.5)


@given(curves, curves, points)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_speedups_do_not_ask_for_the_level_of_the_scores_or_the_unit_of_the_steps(
    baseline: dict[int, int], ours: dict[int, int], lift: int
) -> None:
    def moved(curve: dict[int, int]) -> dict[int, float]:
        return scores({3 * step: value + lift for step, value in curve.items()})

    assert speedups(scores(baseline), scores(ours)) == speedups(moved(baseline), moved(ours))


def test_half_a_point_is_the_tolerance_of_scores_up_to_one() -> None:
    assert TOLERANCE == 0.005
