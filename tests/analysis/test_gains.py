"""Gains: paired by seed, with an interval that the seed of the bootstrap decides and nothing else."""

import math
from typing import Any

import numpy as np
import pytest

from analysis.gains import Gain, paired_gain, spread

LABELS = np.array([0, 1, 0, 1, 1, 0, 1, 0])


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(1) == labels).mean())


def right(*counts: int) -> np.ndarray:
    """[K, N, 2] logits that are right on the first so many rows."""
    logits = np.zeros((len(counts), len(LABELS), 2))
    for replica, count in enumerate(counts):
        said = np.where(np.arange(len(LABELS)) < count, LABELS, 1 - LABELS)
        logits[replica, np.arange(len(LABELS)), said] = 1.0
    return logits


def gain(ours: tuple[int, ...], theirs: tuple[int, ...], **changes: Any) -> Gain:
    scores, baseline = ([count / len(LABELS) for count in counts] for counts in (ours, theirs))
    return paired_gain(scores, baseline, right(*ours), right(*theirs), LABELS, accuracy, **changes)


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


def test_the_interval_depends_on_the_seed_and_on_nothing_else() -> None:
    ours, theirs = np.random.default_rng(0).normal(size=(2, 2, len(LABELS), 1))

    def mean(logits: np.ndarray, labels: np.ndarray) -> float:
        return float(logits.mean())

    def found(seed: int = 0) -> Gain:
        return paired_gain(list(ours.mean((1, 2))), list(theirs.mean((1, 2))), ours, theirs, LABELS, mean, seed)

    first = found()
    np.random.seed(1)  # nobody draws from there
    assert found() == first
    assert (found(1).mean, found(1).std, found(1).n) == (first.mean, first.std, first.n)
    assert (found(1).low, found(1).high) != (first.low, first.high)


def test_an_interval_holds_the_gain_and_grows_with_the_doubt() -> None:
    found = gain((6, 7, 6, 7), (4, 5, 4, 5))
    assert found.low <= found.mean <= found.high
    assert (gain((8, 8), (0, 0)).low, gain((8, 8), (0, 0)).high) == (1.0, 1.0)
    assert (gain((5, 5), (5, 5)).low, gain((5, 5), (5, 5)).high) == (0.0, 0.0)


def test_the_same_rows_are_drawn_for_both_sides() -> None:
    """Two systems that err on the same rows differ by nothing, however the rows are drawn."""
    same = paired_gain([0.5], [0.5], right(4), right(4), LABELS, accuracy)
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)


def test_a_single_seed_has_no_spread_but_an_interval_over_rows() -> None:
    found = gain((6,), (4,))
    assert (found.mean, found.std, found.n) == (pytest.approx(0.25), 0.0, 1)
    assert found.low < found.mean < found.high


def test_a_metric_that_is_undefined_on_a_draw_is_left_out_of_the_interval() -> None:
    def undefined(logits: np.ndarray, labels: np.ndarray) -> float:
        return accuracy(logits, labels) if labels[0] else math.nan

    found = paired_gain([0.75], [0.5], right(6), right(4), LABELS, undefined)
    assert math.isfinite(found.low)
    assert math.isfinite(found.high)


def test_different_numbers_of_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="paired by seed, but there are 2 scores and 1 of the baseline"):
        paired_gain([0.5, 0.6], [0.5], right(4, 4), right(4), LABELS, accuracy)


def test_the_spread_of_a_sample_is_its_standard_deviation() -> None:
    assert spread([1.0, 2.0, 4.0]) == pytest.approx(math.sqrt(7 / 3))
    assert spread([3.0]) == 0.0
