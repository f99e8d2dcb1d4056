"""How sure a difference is: against SciPy where one source of noise is alone, and by worlds with known truth."""

import math

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.contributions import contributions
from analysis.statistics.crossed import UNKNOWN, SeedNoise, gain, gains, seed_noise
from analysis.statistics.crossfit import first_best, grounds_of
from analysis.statistics.gains import NONE, Floats
from panda_trainable.training.metrics import METRICS


def draws(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


def test_a_gain_is_the_mean_of_the_differences_of_the_same_seeds() -> None:
    ours, theirs = np.array([[1.0, 0, 1, 1], [1, 1, 1, 1]]), np.array([[0.0, 0, 1, 1], [1, 0, 0, 1]])
    found = gain(ours, theirs)
    assert (found.mean, found.n) == (pytest.approx((0.25 + 0.5) / 2), 2)
    assert found.std == pytest.approx(math.sqrt(2) * 0.125)
    assert found.low < found.mean < found.high


def test_of_one_seed_it_is_the_t_test_over_rows() -> None:
    ours, theirs = draws(1, 40), draws(1, 40, seed=1)
    found, expected = gain(ours, theirs), stats.ttest_rel(ours[0], theirs[0])
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert (found.std, found.n) == (0.0, 1)


def test_where_rows_do_not_differ_it_is_the_t_test_over_seeds() -> None:
    by_seed = draws(4, 1)
    ours, theirs = np.repeat(by_seed, 30, axis=1), np.zeros((4, 30))
    found, expected = gain(ours, theirs), stats.ttest_1samp(by_seed[:, 0], 0)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_what_rows_do_for_all_seeds_alike_adds_its_variance() -> None:
    """d = r_n + s_k + e_kn: the variance of the mean is that of rows / N + that of seeds / K, from mean squares."""
    rows, seeds, both = draws(1, 50), draws(3, 1, seed=1), draws(3, 50, seed=2)
    d = rows + seeds + both
    found = gain(d, np.zeros((3, 50)))
    residual = d - d.mean(0) - d.mean(1, keepdims=True) + d.mean()
    together = (residual**2).sum() / (2 * 49)
    of_seeds, of_rows = 50 * d.mean(1).var(ddof=1), 3 * d.mean(0).var(ddof=1)
    parts = [of_seeds / 150, (of_rows - together) / 150]
    degrees = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 49)
    half = stats.t.ppf(0.975, degrees) * math.sqrt(sum(parts))
    assert (found.low, found.high) == pytest.approx((d.mean() - half, d.mean() + half))


def test_pairing_takes_out_what_seeds_and_rows_share() -> None:
    shared, own = draws(3, 60), 0.1 * draws(3, 60, seed=1)
    together, apart = gain(shared + own, shared), gain(shared + own, np.roll(shared, 1, axis=0))
    assert together.high - together.low < (apart.high - apart.low) / 5


def test_a_p_value_has_no_floor_and_is_that_of_the_interval() -> None:
    clear = gain(1 + 0.01 * draws(5, 100), np.zeros((5, 100)))
    assert 0 < clear.p < 1e-6
    for seed in range(20):
        found = gain(draws(3, 30, seed=seed) + 0.25, np.zeros((3, 30)))
        assert (found.p < 0.05) is (not found.low <= 0 <= found.high)


def test_no_difference_is_surer_than_half_a_row() -> None:
    same = gain(np.ones((2, 10)), np.ones((2, 10)))
    assert (same.mean, same.p) == (0.0, 1.0)
    assert same.low == -same.high
    assert same.high > 0.05
    assert math.isfinite(gain(np.ones((1, 1)), np.zeros((1, 1))).high)


def test_the_sides_must_have_the_same_rows_and_seeds() -> None:
    with pytest.raises(ValueError, match=r"paired by seed and row, but one side has \[2, 8\] and the other \[1, 8\]"):
        gain(np.ones((2, 8)), np.ones((1, 8)))
    with pytest.raises(ValueError, match=r"one side has \[2, 0\]"):
        gain(np.ones((2, 0)), np.ones((2, 0)))


# what all configurations of a target say of seeds


def test_little_is_known_of_the_seeds_of_few_configurations() -> None:
    assert seed_noise(draws(2, 3)) == UNKNOWN
    assert seed_noise(draws(9, 1)) == UNKNOWN


def test_configurations_of_one_deviation_are_pooled() -> None:
    """What all share in a seed, and how good each is, is no noise."""
    scores = draws(40, 3, seed=6) + 5 * draws(1, 3, seed=1) + 5 * draws(40, 1, seed=2)
    found = seed_noise(scores)
    residual = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    assert found == SeedNoise(pytest.approx((residual**2).sum() / (39 * 2)), math.inf, 78)


def test_configurations_of_different_deviations_count_less_for_one_another() -> None:
    generator = np.random.default_rng(3)
    deviation = np.sqrt(4 / generator.chisquare(4, size=(4000, 1)))  # a prior of 4 degrees and variance 1
    found = seed_noise(deviation * generator.normal(size=(4000, 4)))
    assert found.weight == pytest.approx(4, rel=0.15)
    assert found.variance == pytest.approx(4 / (4 - 2), rel=0.2)  # the mean of that prior


def test_a_moderated_variance_is_the_weighted_mean_of_shared_and_own() -> None:
    by_seed = draws(3, 1)
    ours, theirs = np.repeat(by_seed, 20, axis=1), np.zeros((3, 20))
    found = gain(ours, theirs, SeedNoise(0.5, 6.0, 100))
    variance = (6 * 2 * 0.5 + 2 * by_seed.var(ddof=1)) / 8 / 3
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 8) * math.sqrt(variance))
    pooled = gain(ours, theirs, SeedNoise(0.5, math.inf, 78))
    assert pooled.high - pooled.mean == pytest.approx(stats.t.ppf(0.975, 78) * math.sqrt(2 * 0.5 / 3))


def test_the_gains_of_a_target_are_moderated_by_all_and_the_baseline_has_none() -> None:
    scores = [draws(3, 30, seed=i) for i in range(6)]
    found = gains(scores, scores[2])
    noise = seed_noise(np.stack([scores[i].mean(axis=1) for i in (2, 0, 1, 3, 4, 5)]))
    assert found[2] == NONE
    assert found[4] == gain(scores[4], scores[2], noise)


# what rows add to a score


@pytest.mark.parametrize("name", ["accuracy", "f1", "macro_f1", "matthews", "accuracy_f1", "macro_recall"])
def test_contributions_have_the_score_for_their_mean_and_its_error_for_their_spread(name: str) -> None:
    """The error against a bootstrap, which knows nothing of contributions."""
    generator, metric = np.random.default_rng(0), METRICS[name]
    gold = generator.integers(2, size=300)
    logits = np.eye(2)[np.where(generator.random(300) < 0.7, gold, 1 - gold)]
    rows = metric.rows(logits, gold)
    found = contributions(rows, metric.score)
    assert found.mean() == pytest.approx(metric.score(rows))
    drawn = [metric.score(rows[generator.integers(300, size=300)]) for _ in range(600)]
    assert found.std() / math.sqrt(300) == pytest.approx(np.std(drawn), rel=0.12)


def test_contributions_to_a_correlation() -> None:
    generator, metric = np.random.default_rng(0), METRICS["spearman"]
    gold = generator.normal(size=200)
    rows = metric.rows((gold + generator.normal(size=200))[:, None], gold)
    found = contributions(rows, metric.score)
    assert found.mean() == pytest.approx(metric.score(rows))
    drawn = [metric.score(rows[generator.integers(200, size=200)]) for _ in range(400)]
    assert found.std() / math.sqrt(200) == pytest.approx(np.std(drawn), rel=0.15)


def test_contributions_to_an_accuracy_are_the_hits() -> None:
    rows = METRICS["accuracy"].rows(np.eye(3)[[0, 1, 2, 2]], np.array([0, 1, 0, 2]))
    assert contributions(rows, METRICS["accuracy"].score).tolist() == pytest.approx([1, 1, 0, 1])
    assert contributions(rows[:1], METRICS["accuracy"].score).tolist() == [1.0]


# who chooses


def test_a_seed_is_chosen_for_by_the_others() -> None:
    selection = np.array([[0.9, 0.5, 0.1], [0.4, 0.6, 0.8]])
    grounds = grounds_of(selection, [0.0, 0.0])
    assert grounds == pytest.approx(np.array([[0.3, 0.5, 0.7], [0.7, 0.6, 0.5]]))
    assert first_best(grounds).tolist() == [1, 1, 0]
    assert grounds_of(selection[:, :1], [0.1, 0.3]).tolist() == [[0.1], [0.3]]


def test_of_equals_but_for_rounding_the_first_is_chosen() -> None:
    assert first_best(np.array([[0.3, 0.1], [0.1 + 0.2, 0.2]])).tolist() == [0, 1]


@pytest.mark.parametrize(("shape", "searched"), [((0, 2), []), ((2, 0), [0.1, 0.2]), ((2, 2), [0.1])])
def test_a_choice_needs_candidates_with_seeds(shape: tuple[int, int], searched: list[float]) -> None:
    with pytest.raises(ValueError, match=r"a choice needs candidates with seeds"):
        grounds_of(np.zeros(shape), searched)
