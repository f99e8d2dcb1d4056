"""Gains: paired by seed and row, with an interval and a p-value from the same draws, corrected for many targets."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.statistics.gains import (
    NONE,
    RESAMPLES,
    Gain,
    gap_closed,
    holm,
    paired_gain,
    relative_error_reduction,
    relative_performance,
    spread,
)

ROWS = 8
LEAST_P = 2 / (RESAMPLES + 1)
"""The p-value where no draw lies on the other side of zero: twice (0 + 1) of R + 1."""


def mean(rows: np.ndarray) -> float:
    return float(rows[:, 0].mean())


def right(*counts: int) -> np.ndarray:
    """[K, N, 1] one for the first so many rows: what accuracy makes of them."""
    return (np.arange(ROWS) < np.array(counts)[:, None]).astype(float)[..., None]


def gain(ours: tuple[int, ...], theirs: tuple[int, ...], seed: int = 0) -> Gain:
    return paired_gain(right(*ours), right(*theirs), mean, seed)


def test_a_gain_is_the_mean_of_the_differences_of_the_same_seeds() -> None:
    found = gain((6, 7, 8), (5, 5, 3))  # differences 1/8, 2/8, 5/8
    assert found.mean == pytest.approx(8 / 24)
    assert found.std == pytest.approx(
        math.sqrt(((1 / 8 - 1 / 3) ** 2 + (1 / 4 - 1 / 3) ** 2 + (5 / 8 - 1 / 3) ** 2) / 2)
    )
    assert found.n == 3


def test_pairing_takes_out_what_seeds_share() -> None:
    together, crossed = gain((2, 8), (1, 7)), gain((2, 8), (7, 1))
    assert together.mean == crossed.mean == pytest.approx(1 / 8)
    assert together.std == pytest.approx(0)
    assert crossed.std > 0.5
    assert together.high - together.low < crossed.high - crossed.low
    assert together.p < crossed.p


def test_pairing_takes_out_what_rows_share() -> None:
    """A row more than the other's, once on the same rows and once on others: only the latter is doubtful."""
    theirs = right(4)
    nested, apart = right(6), np.roll(right(6), 4, axis=1)
    assert paired_gain(nested, theirs, mean).mean == paired_gain(apart, theirs, mean).mean == 0.25
    assert paired_gain(nested, theirs, mean).low >= 0
    assert paired_gain(apart, theirs, mean).low < 0


def test_the_interval_depends_on_the_seed_and_on_nothing_else() -> None:
    ours, theirs = np.random.default_rng(0).normal(size=(2, 2, ROWS, 1))
    first = paired_gain(ours, theirs, mean)
    np.random.seed(1)  # nobody draws from there
    assert paired_gain(ours, theirs, mean) == first
    other = paired_gain(ours, theirs, mean, seed=1)
    assert (other.mean, other.std, other.n) == (first.mean, first.std, first.n)
    assert (other.low, other.high, other.p) != (first.low, first.high, first.p)


def test_a_draw_takes_rows_first_and_then_seeds_and_weighs_each_seed_as_often_as_it_was_drawn() -> None:
    """The bootstrap as it is described, written out: a draw of rows and of seeds, the same for both sides."""
    ours, theirs = np.random.default_rng(3).normal(size=(2, 3, ROWS, 1))
    generator, drawn = np.random.default_rng(5), []
    for _ in range(RESAMPLES):
        rows, seeds = generator.integers(ROWS, size=ROWS), generator.integers(3, size=3)
        drawn.append(np.mean([mean(ours[k][rows]) - mean(theirs[k][rows]) for k in seeds]))
    found = paired_gain(ours, theirs, mean, seed=5)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=1e-12)
    smaller = min(np.mean(np.array(drawn) <= 0), np.mean(np.array(drawn) >= 0)) * RESAMPLES
    assert found.p == pytest.approx(min(1.0, 2 * (smaller + 1) / (RESAMPLES + 1)))


def test_an_interval_holds_the_gain_and_grows_with_the_doubt() -> None:
    found = gain((6, 7, 6, 7), (4, 5, 4, 5))
    assert found.low <= found.mean <= found.high
    assert (gain((8, 8), (0, 0)).low, gain((8, 8), (0, 0)).high) == (1.0, 1.0)
    assert (gain((5, 5), (5, 5)).low, gain((5, 5), (5, 5)).high) == (0.0, 0.0)


def test_the_p_value_is_the_least_there_is_where_every_draw_gains_or_every_draw_loses() -> None:
    assert gain((8, 8), (0, 0)).p == pytest.approx(LEAST_P)
    assert gain((0, 0), (8, 8)).p == pytest.approx(LEAST_P)
    assert pytest.approx(2 / 2001) == LEAST_P


def test_the_p_value_is_one_where_the_sides_are_the_same() -> None:
    assert gain((5, 3), (5, 3)).p == 1.0


def test_the_p_value_of_one_better_row_of_eight_is_the_chance_to_draw_none_of_it() -> None:
    """A draw of 8 of 8 rows misses the one row that differs with (7/8)^8 = 0.344; then its gain is 0."""
    found = gain((5,), (4,))
    assert found.p == pytest.approx(2 * (7 / 8) ** 8, abs=0.05)
    assert found.p == gain((4,), (5,)).p  # two-sided
    assert (found.low, found.mean) == (0.0, 0.125)


def test_a_single_seed_has_no_spread_but_an_interval_over_rows() -> None:
    found = gain((6,), (4,))
    assert (found.mean, found.std, found.n) == (pytest.approx(0.25), 0.0, 1)
    assert found.low < found.mean < found.high


def test_a_score_that_is_no_mean_of_rows_is_resampled_as_such() -> None:
    """The best row decides: drawn from eight, the row that is 1 is missed as often as chance has it."""
    ours, theirs = right(1), right(0)
    found = paired_gain(ours, theirs, lambda rows: float(rows.max()))
    assert (found.mean, found.low, found.high) == (1.0, 0.0, 1.0)
    assert found.p == pytest.approx(2 * (7 / 8) ** 8, abs=0.05)


def test_a_score_that_is_undefined_on_a_draw_is_left_out_of_the_interval() -> None:
    def undefined(rows: np.ndarray) -> float:
        return mean(rows) if rows[0, 0] else math.nan

    found = paired_gain(right(6), right(4), undefined)
    assert math.isfinite(found.low)
    assert math.isfinite(found.high)


def test_the_sides_may_say_different_things_of_a_row_but_must_have_the_same_rows_and_seeds() -> None:
    wide = np.concatenate([right(4, 4), right(4, 4)], axis=2)
    assert paired_gain(wide, right(4, 4), mean).mean == 0.0
    with pytest.raises(ValueError, match=r"paired by seed and row, but one side has \[2, 8\] and the other \[1, 8\]"):
        paired_gain(right(4, 4), right(4), mean)
    with pytest.raises(ValueError, match=r"one side has \[1, 8\] and the other \[1, 7\]"):
        paired_gain(right(4), right(4)[:, :7], mean)


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
