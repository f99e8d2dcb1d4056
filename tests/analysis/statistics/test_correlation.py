"""Correlation of similarity and measure: by hand, by invariants, by simulation."""

import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics.coefficients import exact_p, levels, shares
from analysis.statistics.correlation import Correlation, Point, correlations
from analysis.statistics.gains import Floats
from analysis.statistics.pair_effects import pair_effects, residuals, source_only
from analysis.statistics.reliability import noise_ceiling
from analysis.statistics.resampling import best_by_chance, mean_interval, permutations, pooled_interval, ranks, spearman

Values = Sequence[Sequence[float]]
NAMES = [f"s{i:02}" for i in range(30)]
ONES = {f"t{j}": 1.0 for j in range(9)}


def points(similarities: Values, values: Values) -> list[Point]:
    """Points of [S][T] tables; source i is s0i, target j is tj."""
    return [
        Point(NAMES[i], f"t{j}", x, y)
        for i, (xs, ys) in enumerate(zip(similarities, values, strict=True))
        for j, (x, y) in enumerate(zip(xs, ys, strict=True))
    ]


def column(similarities: Sequence[float], values: Sequence[float]) -> list[Point]:
    """Points of one target."""
    return points([[x] for x in similarities], [[y] for y in values])


def found(of: Sequence[Point], **how) -> Correlation:
    return correlations({"c_mean": of}, **{"measure": "gain", "method": "spot", **how})[0]


def permutation_p(x: Floats, y: Floats, seed: int) -> float:
    return permutations({"x": x}, y, seed)["x"].p


def drawn(sources: int, targets: int, seed: int = 0) -> tuple[Floats, Floats]:
    """[S, T] similarities and values that share something."""
    generator = np.random.default_rng(seed)
    similarities = generator.normal(size=(sources, targets))
    return similarities, similarities + generator.normal(size=(sources, targets))


def numbers(of: Correlation) -> list[float]:
    """Every number of a result."""
    tuples = [one for one in (of.mean_interval, of.pooled.spearman_interval) if one]
    parts = [
        *vars(of).values(),
        *vars(of.pooled).values(),
        *(vars(of.pair).values() if of.pair else ()),
        *(v for t in of.targets.values() for v in vars(t).values()),
    ]
    return [part for part in [*parts, *itertools.chain(*tuples)] if isinstance(part, float)]


# Values


def test_up_to_seven_sources_every_order_is_tried_and_more_are_left_to_scipy() -> None:
    """SciPy calls four values in perfect order certain: there are 24 orders, and two are as far out."""
    perfect = found(column([1, 2, 3, 4], [1, 2, 3, 4])).targets["t0"]
    assert perfect.spearman_p == pytest.approx(0, abs=1e-9)
    assert perfect.p == pytest.approx(2 / 24)
    assert exact_p(np.array([1.0, 2, 3, 4]), np.array([4.0, 3, 2, 1])) == pytest.approx(2 / 24)
    assert exact_p(np.array([1.0, 1, 2, 2]), np.array([1.0, 1, 2, 2])) == pytest.approx(2 * 4 / 24)  # ties
    many = found(column(list(range(8)), [1, 0, 2, 3, 4, 5, 7, 6])).targets["t0"]
    assert (many.spearman_exact, many.p) == (None, many.spearman_p)


def test_four_sources_by_hand() -> None:
    """Ranks 1 2 3 4 and 2 1 3 4: ρ = 1 − 6·2/(4·15) = 0.8; r = 4.5/√(5·4.75)."""
    of = found(column([0.1, 0.2, 0.3, 0.4], [2.0, 1.5, 3.0, 4.0])).targets["t0"]
    assert (of.spearman, of.n, of.note) == (pytest.approx(0.8), 4, "")
    x, y = np.array([-1.5, -0.5, 0.5, 1.5]), np.array([2, 1.5, 3, 4]) - 2.625
    assert of.pearson == pytest.approx((x * y).sum() / math.sqrt((x**2).sum() * (y**2).sum()))
    assert of.spearman_p == pytest.approx(0.2)  # with n = 4, r = 1 − p two-sided
    assert of.p == of.spearman_exact == pytest.approx(2 * 4 / 24)  # 4 of the 24 orders have 0.8 or more
    assert of.pearson_p == pytest.approx(1 - of.pearson)


def test_ties_share_their_ranks() -> None:
    """Ranks 1 2.5 2.5 4 against 1 2 3 4: ρ = 4.5/√(4.5·5)."""
    assert found(column([1, 2, 2, 3], [1, 2, 3, 4])).targets["t0"].spearman == pytest.approx(4.5 / math.sqrt(22.5))


def test_values_that_differ_by_rounding_are_ties() -> None:
    gains = [0.8 - 0.7, 0.5 - 0.4, 0.3, 0.2]  # the first two are 0.1
    assert gains[0] != gains[1]
    assert found(column([1, 2, 4, 3], gains)).targets["t0"].spearman == pytest.approx(
        stats.spearmanr([1, 2, 4, 3], [0.1, 0.1, 0.3, 0.2])[0]
    )
    assert list(levels(np.array([0.3, 0.1 + 0.2, math.nan, math.inf, -1.0]))) == pytest.approx(
        [1, 1, math.nan, 2, 0], nan_ok=True
    )


def test_the_mean_is_over_targets_that_have_a_coefficient() -> None:
    up, down, flat = [1, 2, 3, 4], [1, 3, 2, 4], [5, 5, 5, 5]
    of = found(points([[x, x, x] for x in up], list(zip(up, down, flat, strict=True))))
    assert [of.targets[t].spearman for t in ("t0", "t1", "t2")] == [pytest.approx(1), pytest.approx(0.8), None]
    assert (of.spearman_mean, of.pearson_mean) == (pytest.approx(0.9), pytest.approx(0.9))
    assert of.targets["t2"].note == "all values are the same"


def test_pooled_pairs_are_ranks_within_their_target_on_both_sides() -> None:
    """A hard and an easy target, near and far ones: raw numbers would follow the target, ranks follow the source."""
    similarities = [[0.1, 0.9], [0.2, 0.7], [0.3, 0.8], [0.4, 0.6]]
    scores = [[10, 91], [20, 93], [40, 92], [30, 94]]
    of = found(points(similarities, scores)).pooled
    share, near = [[1, 1], [3, 5], [7, 3], [5, 7]], [[1, 7], [3, 3], [5, 5], [7, 1]]  # eighths
    assert of.spearman == pytest.approx(stats.spearmanr(np.ravel(near), np.ravel(share))[0])
    assert of.pearson == pytest.approx(stats.pearsonr(np.ravel(near), np.ravel(share))[0])
    assert of.n == 8
    assert list(shares(np.array([10.0, 40.0, math.nan, 20.0, 20.0]))) == pytest.approx(
        [1 / 8, 7 / 8, math.nan, 4 / 8, 4 / 8], nan_ok=True
    )


def test_pooled_values_may_be_relative_to_a_reference() -> None:
    x, y = np.abs(drawn(6, 3)[0]), np.abs(drawn(6, 3, 1)[1])
    of = found(points(x, y), relative_to={"t0": 0.5, "t1": 2.0, "t2": 1.0}).pooled
    expected = np.ravel(y / [0.5, 2.0, 1.0])
    assert of.spearman == pytest.approx(stats.spearmanr(x.ravel(), expected)[0])
    assert of.pearson == pytest.approx(stats.pearsonr(x.ravel(), expected)[0])


def test_a_target_without_signal_stays_out_of_pooled_figures_alone() -> None:
    of = found(points(*drawn(6, 3)), pool=["t0", "t2"])
    assert (of.pooled.n, len(of.targets), of.pooled.note) == (12, 3, "t1 is left out: no signal")
    assert of.targets["t1"].spearman is not None


def test_a_target_without_a_usable_reference_stays_out_of_pooled_figures() -> None:
    of = found(points(*drawn(6, 4)), relative_to={"t0": 1.0, "t1": 0.0, "t3": -0.1})
    assert of.pooled.n == 6
    assert of.pooled.note == (
        "t1 is left out: values cannot be relative to 0; t2 is left out: nothing to be relative to; "
        "t3 is left out: values cannot be relative to -0.1"
    )


# What has no coefficient


@pytest.mark.parametrize(("count", "told"), [(1, "1 source"), (2, "2 sources"), (3, "3 sources")])
def test_fewer_than_four_sources_have_no_coefficient_and_it_says_so(count: int, told: str) -> None:
    of = found(points(*drawn(count, 3)))
    assert {t.note for t in of.targets.values()} == {f"{told}: at least 4 are needed"}
    assert {getattr(of.targets["t0"], n) for n in ("spearman", "spearman_p", "pearson", "pearson_p")} == {None}
    assert of.pooled.note == f"{told}: at least 4 are needed"  # though there are more pairs
    assert (of.pooled.n, of.pooled.spearman, of.pooled.spearman_interval, of.pooled.p_permutation) == (3 * count, None, None, None)  # fmt: skip
    assert (of.spearman_mean, of.pearson_mean, of.mean_interval, of.ceiling) == (None, None, None, None)


@pytest.mark.parametrize(
    ("x", "y", "told"),
    [
        ([1, 1, 1, 1], [1, 2, 3, 4], "all similarities are the same"),
        ([1, 2, 3, 4], [0.1, 0.1, 0.8 - 0.7, 0.1], "all values are the same"),
        ([0, 0, 0, 0], [0, 0, 0, 0], "all similarities and all values are the same"),
    ],
)
def test_what_does_not_vary_has_no_coefficient_and_it_says_so(x: list[float], y: list[float], told: str) -> None:
    of = found(column(x, y))
    assert (of.targets["t0"].spearman, of.targets["t0"].pearson, of.targets["t0"].note) == (None, None, told)
    assert (of.pooled.spearman, of.pooled.pearson, of.pooled.note) == (None, None, told)


def test_pairs_without_one_of_two_values_are_counted_and_left_out() -> None:
    x, y = drawn(6, 2)
    whole = points(x, y)
    holes = {("s00", "t0"): {"similarity": math.nan}, ("s03", "t1"): {"value": math.nan}, ("s05", "t0"): {"value": math.nan, "similarity": math.nan}}  # fmt: skip
    with_holes = [dataclasses.replace(p, **holes.get((p.source, p.target), {})) for p in whole]
    of = found(with_holes)
    assert (of.missing, of.targets["t0"].n, of.targets["t1"].n, of.pooled.n) == (3, 4, 5, 9)
    assert of.targets["t0"].spearman == pytest.approx(stats.spearmanr(x[1:5, 0], y[1:5, 0])[0])
    assert found([p for p in with_holes if p.is_known]).targets == of.targets


def test_a_target_of_which_nothing_is_known_is_there_with_its_reason() -> None:
    of = found([*column([1, 2, 3, 4], [1, 2, 4, 3]), Point("s00", "u", math.nan, 0.5)])
    assert (of.targets["u"].n, of.targets["u"].note) == (0, "0 sources: at least 4 are needed")
    assert of.spearman_mean == pytest.approx(0.8)


def test_no_points_give_no_numbers() -> None:
    of = found([])
    assert (of.targets, of.pooled.n, of.missing, numbers(of)) == ({}, 0, 0, [])


def test_an_infinite_speed_up_has_a_rank_and_no_pearson() -> None:
    of = found(column([1, 2, 3, 4], [1.0, 2.0, 1.5, math.inf]))
    assert (of.targets["t0"].spearman, of.targets["t0"].pearson) == (pytest.approx(0.8), None)
    assert of.pooled.pearson is not None  # of shares


def test_a_pair_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="a pair has one point under c_mean and gain, but some have several"):
        found([Point("a", "t", 1, 2), Point("a", "t", 1, 3)])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_nan_never_comes_out_as_a_number(data: st.DataObject) -> None:
    cell = st.sampled_from([0.0, 0.5, 0.5, 1.0, -1.0, math.nan])
    sources, targets = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 3))
    table = st.lists(st.lists(cell, min_size=targets, max_size=targets), min_size=sources, max_size=sources)
    of = found(points(data.draw(table), data.draw(table)), relative_to=data.draw(st.sampled_from([None, ONES])))
    assert all(map(math.isfinite, numbers(of)))
    assert all(-1 - 1e-9 <= v <= 1 + 1e-9 for v in numbers(of))


# Self-pairs


def test_self_pairs_are_counted_and_can_be_left_out() -> None:
    others = column([1, 2, 3, 4], [4, 3, 2, 1])
    both = [*others, Point("t0", "t0", 5, 5)]
    kept, left = found(both), found(both, exclude_self=True)
    assert (kept.self_pairs, kept.targets["t0"].n, kept.targets["t0"].spearman) == (1, 5, pytest.approx(0.0))
    assert (left.self_pairs, left.targets["t0"].n, left.targets["t0"].spearman) == (0, 4, pytest.approx(-1.0))
    assert left == found(others)


# Invariants


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=4, max_size=12),
    st.sampled_from([math.exp, lambda v: v**3, math.atan, lambda v: 3 * v - 7]),
)
def test_monotone_transforms_leave_spearman(pairs: list[tuple[int, int]], transform: Callable[[float], float]) -> None:
    plain = found(column([x / 10 for x, _ in pairs], [y / 10 for _, y in pairs]))
    bent = found(column([transform(x / 10) for x, _ in pairs], [transform(y / 10) for _, y in pairs]))
    assert bent.targets["t0"].spearman == plain.targets["t0"].spearman
    assert (bent.pooled.spearman, bent.mean_interval) == (plain.pooled.spearman, plain.mean_interval)
    assert bent.pooled.p_permutation == plain.pooled.p_permutation


def test_the_order_of_points_changes_nothing() -> None:
    whole = points(*drawn(8, 3))
    shuffled = random.Random(1).sample(whole, len(whole))
    assert found(shuffled) == found(whole)


def test_intervals_and_p_depend_on_the_seed_and_on_nothing_else() -> None:
    whole = points(*drawn(9, 3))
    one = found(whole, seed=1)
    np.random.seed(7)
    random.seed(7)
    assert found(whole, seed=1) == one
    other = found(whole, seed=2)
    assert other.mean_interval != one.mean_interval
    assert other.pooled.spearman_interval != one.pooled.spearman_interval
    assert other.pooled.p_permutation == pytest.approx(one.pooled.p_permutation, abs=0.05)
    assert (other.spearman_mean, other.pooled.spearman) == (one.spearman_mean, one.pooled.spearman)


# Bootstrap


def test_weighted_coefficients_are_those_of_repeated_rows() -> None:
    generator = np.random.default_rng(3)
    x, y = generator.integers(0, 6, (2, 20)).astype(float)
    weights = generator.integers(0, 4, (5, 20)).astype(float)
    repeated = [(np.repeat(x, w.astype(int)), np.repeat(y, w.astype(int))) for w in weights]
    assert spearman(x, y, weights) == pytest.approx([stats.spearmanr(a, b)[0] for a, b in repeated])
    assert ranks(np.array([5.0, 1.0, 1.0]), np.array([[2.0, 1.0, 3.0]])).tolist() == [[5.5, 2.5, 2.5]]


def test_an_interval_holds_its_coefficient_and_narrows_with_more_sources() -> None:
    few, many = (found(points(*drawn(sources, 6))) for sources in (6, 28))
    for of in (few, many):
        assert of.mean_interval[0] < of.spearman_mean < of.mean_interval[1]
        assert of.pooled.spearman_interval[0] < of.pooled.spearman < of.pooled.spearman_interval[1]
    assert np.diff(many.mean_interval) < np.diff(few.mean_interval)


def test_sources_are_drawn_together_for_all_targets() -> None:
    """Copies of a target add no knowledge of sources: the interval must not narrow as if they did."""
    x, y = drawn(10, 1, seed=5)
    one, copies = mean_interval(x, y, 0), mean_interval(np.tile(x, 8), np.tile(y, 8), 0)
    assert np.diff(copies) == pytest.approx(np.diff(one), rel=0.1)


def test_targets_are_drawn_too() -> None:
    """Two targets that disagree: the interval reaches from one to the other."""
    x = np.tile(np.arange(25.0)[:, None], 2)
    low, high = mean_interval(x, x * [1, -1], 0)
    assert (low, high) == (pytest.approx(-1), pytest.approx(1))
    low, high = pooled_interval(x, x * [1, -1], 0)
    assert (low, high) == (pytest.approx(-1), pytest.approx(1))


def test_an_interval_of_mostly_undefined_draws_is_none() -> None:
    x = np.array([[1.0], [1.0], [1.0], [1.0], [1.0], [1.0], [1.0], [2.0]])
    y = np.array([[1.0], [1.0], [1.0], [1.0], [1.0], [1.0], [2.0], [1.0]])
    assert pooled_interval(x, y, 0) is None


# Permutations


def test_p_is_exact_with_few_sources() -> None:
    """Of 4! orders one is as perfect: twice 1/24."""
    x = np.array([[1.0], [2.0], [3.0], [4.0]])
    assert permutation_p(x, x, 0) == permutation_p(x, x, 1) == pytest.approx(2 / 24)
    assert permutation_p(x, -x, 0) == pytest.approx(2 / 24)


def test_all_relabellings_by_hand() -> None:
    x, y = drawn(5, 3, seed=2)
    x[1, 1] = y[3, 0] = math.nan
    told = [
        stats.spearmanr(moved[both], y[both])[0]
        for order in itertools.permutations(range(5))
        for moved in [x[list(order)]]
        for both in [np.isfinite(moved) & np.isfinite(y)]
    ]
    tails = np.mean(np.array(told) >= told[0] - 1e-9), np.mean(np.array(told) <= told[0] + 1e-9)
    assert permutation_p(x, y, 0) == pytest.approx(min(1.0, 2 * min(tails)))


def test_a_relabelling_without_coefficient_counts_in_both_tails() -> None:
    """The one value that differs belongs to s00: who takes the missing similarity there leaves only equal values."""
    x, y = np.array([[1.0], [2.0], [3.0], [math.nan]]), np.array([[1.0], [0.0], [0.0], [0.0]])
    told = []
    for order in itertools.permutations(range(4)):
        moved = x[list(order), 0]
        both = np.isfinite(moved)
        told.append(stats.spearmanr(moved[both], y[both, 0])[0] if np.ptp(y[both]) else math.nan)
    undefined = np.isnan(told)
    assert undefined.sum() == 6
    tails = (undefined | (np.array(told) >= told[0] - 1e-9)).mean(), (undefined | (np.array(told) <= told[0] + 1e-9)).mean()  # fmt: skip
    assert permutation_p(x, y, 0) == pytest.approx(min(1.0, 2 * min(tails)))
    assert permutation_p(x, y, 0) > 2 * 6 / 24


def test_drawn_relabellings_come_near_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = drawn(6, 2, seed=4)
    exact = permutation_p(x, y, 0)
    monkeypatch.setattr("analysis.statistics.resampling.PERMUTATIONS", 700)
    estimates = [permutation_p(x, y, seed) for seed in range(5)]
    assert len(set(estimates)) > 1
    assert np.mean(estimates) == pytest.approx(exact, abs=0.03)


def test_p_is_uniform_where_sources_mean_nothing_though_their_pairs_go_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Good sources are good for all targets, and similar ones similar to all: Student's t takes 40 pairs for independent."""
    monkeypatch.setattr("analysis.statistics.resampling.PERMUTATIONS", 199)
    monkeypatch.setattr("analysis.statistics.resampling.RESAMPLES", 2)
    monkeypatch.setattr("analysis.statistics.pair_effects.DRAWS", 1)
    generator = np.random.default_rng(0)

    def of_sources() -> Floats:
        return generator.normal(size=(10, 1)) + 0.5 * generator.normal(size=(10, 4))

    worlds = [found(points(of_sources(), of_sources())).pooled for _ in range(300)]
    ours = np.array([w.p_permutation for w in worlds])
    naive = [2 * stats.t.sf(abs(w.spearman) * math.sqrt(38 / (1 - w.spearman**2)), 38) for w in worlds]
    assert stats.kstest(ours, "uniform").pvalue > 0.05
    assert np.mean(ours < 0.05) < 0.08
    assert np.mean(np.array(naive) < 0.05) > 0.2


def test_what_targets_differ_by_is_no_evidence_for_sources() -> None:
    """Similarity and score follow the target alone: pooled as they are they agree, and p says that no source matters."""
    generator = np.random.default_rng(1)
    targets = np.arange(9.0)
    x, y = (targets + 0.1 * generator.normal(size=(12, 9)) for _ in range(2))
    of = found(points(x, y), relative_to=ONES).pooled
    assert of.spearman > 0.95
    assert of.p_permutation > 0.05


def test_permutations_find_what_is_there() -> None:
    x, y = drawn(12, 4)
    assert found(points(x, y)).pooled.p_permutation < 0.01


# Several similarities


def test_a_p_is_corrected_for_the_similarities_by_the_smallest_of_each_relabelling() -> None:
    """By hand, of all 120 orders: how often the best of both similarities is as good as this one is."""
    (x, y), (other, _) = drawn(5, 3, seed=2), drawn(5, 3, seed=9)
    orders = [list(order) for order in itertools.permutations(range(5))]
    ps = []
    for one in (x, other):
        told = np.array([stats.spearmanr(one[order].ravel(), y.ravel())[0] for order in orders])
        tails = [(min((told >= t - 1e-9).sum(), (told <= t + 1e-9).sum())) for t in told]
        ps.append(np.minimum(1, 2 * np.array(tails) / 120))
    smallest = np.minimum(*ps)
    both = permutations({"x": x, "other": other}, y, 0)
    for name, own in zip(("x", "other"), ps, strict=True):
        assert both[name].p == pytest.approx(own[0])
        assert both[name].adjusted == pytest.approx(max(own[0], (smallest <= own[0] + 1e-9).mean()))
    assert permutations({"x": x, "same": x}, y, 0)["x"].adjusted == pytest.approx(both["x"].p)  # nothing is tried twice


def test_the_best_of_several_by_chance_by_hand() -> None:
    x, y = drawn(4, 2, seed=3)
    other = drawn(4, 2, seed=4)[0]

    def mean(of: Floats) -> float:
        return float(np.mean([stats.spearmanr(of[:, t], y[:, t])[0] for t in range(2)]))

    expected = [max(mean(one[list(order)]) for one in (x, other)) for order in itertools.permutations(range(4))]
    assert best_by_chance({"x": x, "other": other}, y, 0) == pytest.approx(np.mean(expected))
    assert best_by_chance({"x": x}, y, 0) == pytest.approx(0, abs=1e-12)
    assert best_by_chance({"x": np.ones((4, 2))}, y, 0) is None


def test_several_similarities_are_found_together_and_in_their_order() -> None:
    x, y = drawn(6, 3)
    both = correlations({"b": points(x, y), "a": points(-x, y)}, measure="gain", method="spot")
    assert [(one.similarity, one.measure, one.method) for one in both] == [("b", "gain", "spot"), ("a", "gain", "spot")]
    assert both[0].spearman_mean == pytest.approx(-both[1].spearman_mean)
    assert both[0].pair.coefficient == pytest.approx(-both[1].pair.coefficient)
    assert both[0].source_only == both[1].source_only
    assert (both[0].pooled.p_adjusted, both[0].by_chance) != (found(points(x, y)).pooled.p_adjusted, 0)


# What is known of the pair


def test_means_of_sources_and_targets_are_removed_from_ranks() -> None:
    ranked = np.array([[1, 1, 7], [3, 5, 3], [5, 3, 1], [7, 7, 5]]) / 8
    expected = ranked - ranked.mean(axis=0) - ranked.mean(axis=1, keepdims=True) + ranked.mean()
    assert residuals(np.exp(3 * ranked) + np.array([0, 50, -7])) == pytest.approx(expected)
    hole = np.where(np.eye(4, 3) > 0, np.nan, ranked)
    left = residuals(hole)
    assert np.isnan(left).sum() == 3
    assert np.nansum(left, axis=0) == pytest.approx(np.zeros(3), abs=1e-6)
    assert np.nansum(left, axis=1) == pytest.approx(np.zeros(4), abs=1e-6)


def test_what_sources_alone_do_is_no_knowledge_of_the_pair_and_is_told_beside() -> None:
    """Good sources are good everywhere and similar everywhere: a coefficient near 1, of which nothing is left."""
    generator = np.random.default_rng(0)
    source = np.arange(10.0)[:, None]
    x, y = (source + 0.7 * generator.normal(size=(10, 5)) for _ in range(2))
    of = found(points(x, y))
    assert of.spearman_mean > 0.85
    assert of.pooled.p_adjusted < 0.01
    assert abs(of.pair.coefficient) < 0.4
    assert of.pair.p > 0.05
    assert of.source_only > 0.85


def test_what_is_known_of_the_pair_is_found() -> None:
    x, y = drawn(10, 5, seed=1)
    of = found(points(x, y))
    assert (of.pair.coefficient > 0.5, of.pair.p < 0.01) == (True, True)
    assert abs(of.source_only) < 0.5
    alone = pair_effects({"x": x}, y)["x"]
    shared = pair_effects({"x": x, **{str(i): drawn(10, 5, seed=20 + i)[0] for i in range(6)}}, y)["x"]
    assert (shared.coefficient, shared.p >= alone.p) == (alone.coefficient, True)
    assert shared.chance > alone.chance


def test_the_p_of_a_pair_effect_is_uniform_where_sources_have_effects_and_pairs_have_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("analysis.statistics.pair_effects.DRAWS", 199)
    generator = np.random.default_rng(5)
    ps = []
    for _ in range(200):
        source = generator.normal(size=(7, 1))
        x, y = (source + 0.5 * generator.normal(size=(7, 4)) for _ in range(2))
        ps.append(pair_effects({"x": x}, y)["x"].p)
    assert stats.kstest(ps, "uniform").pvalue > 0.01
    assert np.mean(np.array(ps) < 0.05) < 0.1


@pytest.mark.parametrize("shape", [(2, 5), (6, 1), (0, 0)])
def test_of_too_few_sources_or_targets_nothing_can_be_said_of_the_pair(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=shape)
    assert pair_effects({"x": x}, x) == {}
    assert found(points(x.tolist(), x.tolist())).pair is None


def test_knowing_sources_alone_by_hand() -> None:
    """Ranks on the other targets: for t0 those of t1, for t1 those of t0; ρ of 1 2 3 4 and 1 3 2 4 is 0.8."""
    assert source_only(np.array([[1.0, 10], [2, 30], [3, 20], [4, 40]])) == pytest.approx(0.8)
    assert source_only(np.array([[1.0], [2], [3]])) is None
    assert source_only(np.ones((4, 3))) is None


# Ceiling


def seeded(targets: Sequence[str], table: Floats) -> list[tuple[str, Floats]]:
    """Values by seed, without rows."""
    return [(target, np.array(row, float)[:, None]) for target in targets for row in table]


def test_the_ceiling_of_two_seeds_by_hand() -> None:
    """One split, ρ = 0.8, lengthened to two seeds: 1.6/1.8."""
    table = np.array([[1, 2], [2, 1.5], [3, 3], [4, 4]])
    assert noise_ceiling(seeded(["t"], table), 4) == pytest.approx(1.6 / 1.8)


def test_the_ceiling_is_one_without_noise_and_none_without_a_second_seed() -> None:
    same = np.tile(np.arange(5.0)[:, None], 3)
    assert noise_ceiling(seeded(["t", "u"], same), 4) == pytest.approx(1.0)
    assert noise_ceiling(seeded(["t"], same[:, :1]), 4) is None
    assert noise_ceiling(seeded(["t"], same[:, :0]), 4) is None
    assert noise_ceiling(seeded(["t"], same[:3]), 4) is None
    assert noise_ceiling([], 4) is None


def test_seeds_that_contradict_one_another_have_a_ceiling_of_zero() -> None:
    table = np.array([[1, 4], [2, 3], [3, 2], [4, 1]])
    assert noise_ceiling(seeded(["t"], table), 4) == 0


def test_a_pair_that_lacks_a_seed_is_not_in_the_ceiling() -> None:
    table = np.array([[1, 2], [2, 1.5], [3, 3], [4, 4], [0, math.nan]])
    assert noise_ceiling([*seeded(["t"], table), ("t", np.ones((1, 1)))], 4) == pytest.approx(1.6 / 1.8)


@pytest.mark.parametrize("seeds", [2, 3, 4, 12])
def test_the_ceiling_is_what_a_second_measurement_reaches(seeds: int) -> None:
    generator = np.random.default_rng(seeds)
    truth = generator.normal(size=400)
    one, other = (truth[:, None] + 2 * generator.normal(size=(400, seeds)) for _ in range(2))
    reached = stats.spearmanr(one.mean(axis=1), other.mean(axis=1))[0]
    assert noise_ceiling(seeded(["t"], one), 4) == pytest.approx(reached, abs=0.09)


def test_seeds_that_share_their_report_rows_do_not_agree_by_the_luck_of_those() -> None:
    """No source is better; all seeds of one score the same lucky rows. By seeds alone they agree, by rows too they don't."""
    generator = np.random.default_rng(0)
    luck = generator.normal(size=(60, 1, 100))  # of a source on a row, the same for all its seeds
    table = luck + 0.3 * generator.normal(size=(60, 4, 100))
    by_seed = [("t", own.mean(axis=1, keepdims=True)) for own in table]
    assert noise_ceiling(by_seed, 4) > 0.9
    assert noise_ceiling([("t", own) for own in table], 4) < 0.25


@pytest.mark.parametrize("seeds", [2, 4])
def test_the_ceiling_over_rows_and_seeds_is_what_new_ones_reach(seeds: int) -> None:
    generator = np.random.default_rng(seeds)
    truth = 0.3 * generator.normal(size=(300, 1, 1))
    one, other = (
        truth + generator.normal(size=(300, 1, 40)) + 0.3 * generator.normal(size=(300, seeds, 1)) + generator.normal(size=(300, seeds, 40))
        for _ in range(2)
    )  # fmt: skip
    reached = stats.spearmanr(one.mean(axis=(1, 2)), other.mean(axis=(1, 2)))[0]
    assert noise_ceiling([("t", own) for own in one], 4) == pytest.approx(reached, abs=0.15)


def test_splits_are_drawn_by_the_seed() -> None:
    table = np.random.default_rng(0).normal(size=(6, 14)) + np.arange(6)[:, None]
    asked = seeded(["t"], table)
    assert noise_ceiling(asked, 4, 1) == noise_ceiling(asked, 4, 1) != noise_ceiling(asked, 4, 2)


def test_a_correlation_tells_the_ceiling_of_its_points() -> None:
    x, y = drawn(5, 2)
    several = [dataclasses.replace(p, seeds=(p.value, p.value)) for p in points(x, y)]
    assert found(several).ceiling == pytest.approx(1.0)
