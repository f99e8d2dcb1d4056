"""What is derived of scores: excess, relative performance, error reduction; and the correction for many targets."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics.gains import (
    NONE,
    Gain,
    excess,
    gap_closed,
    holm,
    relative_error_reduction,
    relative_performance,
    spread,
)


def test_an_excess_is_corrected_for_the_configurations_of_which_it_is_the_best() -> None:
    found = excess(0.1, [0.03, 0.05], np.array([0.1, 0.1]), seeds=2, tried=1)
    error = math.sqrt((0.03**2 + 0.05**2) / 2 / 2)  # over rows, of the mean of two seeds
    assert (found.mean, found.n) == (0.1, 2)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * error)
    assert found.p == pytest.approx(2 * stats.norm.sf(0.1 / error))
    best_of_ten = excess(0.1, [0.03, 0.05], np.array([0.1, 0.1]), seeds=2, tried=10)
    assert best_of_ten.p == pytest.approx(10 * found.p)
    assert (best_of_ten.high - best_of_ten.low) / 2 == pytest.approx(stats.norm.isf(0.025 / 10) * error)


def test_the_deviation_over_seeds_counts_where_it_is_more_than_rows_explain() -> None:
    steady, shaky = (excess(0.1, [0.01, 0.01], np.array(d), 1, 1) for d in ([0.1, 0.11], [0.0, 0.2]))
    assert steady.high - steady.low == pytest.approx(2 * 1.959964 * 0.01)
    assert shaky.high - shaky.low == pytest.approx(2 * 1.959964 * math.sqrt(0.02))


def test_the_gain_of_the_baseline_over_itself_is_no_test() -> None:
    assert Gain(mean=0.0, std=0.0, low=0.0, high=0.0, p=1.0, n=0) == NONE


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04], [0.02, 0.04]),
        ([0.04, 0.01], [0.04, 0.02]),  # in the order given
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 3 × 0.01, then 2 × 0.03, then max(0.06, 0.04)
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.2, 0.6, 0.001], [0.4, 0.6, 0.003]),
        # Holm's own case of four: 0.005·4, 0.01·3, 0.03·2 and, below its forerunner, 0.04 stays at 0.06.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
    ],
)
def test_holms_correction_steps_down_and_never_falls(p_values: list[float], corrected: list[float]) -> None:
    assert holm(p_values) == pytest.approx(corrected)


def rejected(p_values: list[float], level: float) -> set[int]:
    """Holm (1979) as he wrote it: as long as the smallest p left is at most level / number left, it is rejected."""
    left, found = dict(enumerate(p_values)), set()
    while left:
        smallest = min(left, key=lambda i: (left[i], i))
        if left[smallest] > level / len(left):
            break
        found.add(smallest)
        del left[smallest]
    return found


@given(st.lists(st.integers(0, 40).map(lambda n: n / 40), max_size=7), st.sampled_from([0.011, 0.051, 0.201]))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_what_is_below_the_level_after_correction_is_what_holm_rejects(p_values: list[float], level: float) -> None:
    corrected = holm(p_values)
    assert {i for i, p in enumerate(corrected) if p <= level} == rejected(p_values, level)
    assert all(before <= after <= 1 for before, after in zip(p_values, corrected, strict=True))


def test_holm_does_not_ask_for_the_order() -> None:
    p_values = [0.01, 0.02, 0.02, 0.3]
    for order in itertools.permutations(range(4)):
        again = holm([p_values[i] for i in order])
        assert again == pytest.approx([holm(p_values)[i] for i in order])


def test_the_spread_of_a_sample_is_its_standard_deviation() -> None:
    assert spread([1.0, 2.0, 4.0]) == pytest.approx(math.sqrt(7 / 3))
    assert spread([3.0]) == 0.0


@pytest.mark.parametrize(
    ("ours", "theirs", "times"),
    [(0.6, 0.8, 0.75), (0.8, 0.8, 1.0), (0.9, 0.6, 1.5), (-0.2, 0.4, -0.5), (0.0, 0.4, 0.0), (0.3, 0.0, None), (0.3, -0.1, None)],
)  # fmt: skip
def test_relative_performance_is_a_multiple_of_a_score_above_zero(ours: float, theirs: float, times: float) -> None:
    assert relative_performance(ours, theirs) == (None if times is None else pytest.approx(times))


@pytest.mark.parametrize(
    ("ours", "theirs", "share"),
    [
        (0.85, 0.8, 0.25),  # 5 of 20 points of error
        (1.0, 0.8, 1.0),
        (0.8, 0.8, 0.0),
        (0.7, 0.8, -0.5),
        (0.2, -0.6, 0.5),  # a correlation's error runs to 2
        (0.9, 1.0, None),
        (1.0, 1.0, None),
        (0.9, 1.5, None),
    ],
)
def test_relative_error_reduction_is_the_share_of_the_baselines_error(
    ours: float, theirs: float, share: float | None
) -> None:
    assert relative_error_reduction(ours, theirs) == (None if share is None else pytest.approx(share))


@pytest.mark.parametrize(
    ("student", "ours", "teacher", "share"),
    [
        (0.6, 0.7, 0.8, 0.5),
        (0.6, 0.6, 0.8, 0.0),
        (0.6, 0.8, 0.8, 1.0),
        (0.6, 0.9, 0.8, 1.5),  # sometimes above the teacher, as Yuan & Lang say
        (0.6, 0.5, 0.8, -0.5),
        (0.8, 0.9, 0.8, None),
        (0.8, 0.7, 0.6, None),
        (0.3, 0.9, 0.1 + 0.2, None),  # no better but for rounding
    ],
)
def test_the_gap_closed_is_the_share_of_the_way_to_a_better_teacher(
    student: float, ours: float, teacher: float, share: float | None
) -> None:
    assert gap_closed(student, ours, teacher) == (None if share is None else pytest.approx(share))
