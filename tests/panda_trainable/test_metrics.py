"""Metrics: every row by hand, what perfection scores, and the reference that ignores the text."""

import math
import warnings

import numpy as np
import pytest

from panda_trainable.metrics import METRICS, constant_logits
from panda_trainable.tasks import METRIC_NAMES

LABELS = np.array([1, 1, 1, 0, 0])
PREDICTED = np.eye(2, dtype=np.float32)[[1, 1, 0, 0, 1]]  # true positives 2, misses 1, false alarms 1, true negatives 1
VALUES = np.array([1, 2, 3, 10], np.float32)
GUESSES = np.array([[1], [2], [4], [3]], np.float32)
PEARSON, SPEARMAN = 7 / math.sqrt(5 * 50), 1 - 6 * (1 + 1) / (4 * 15)
BY_HAND = {
    "accuracy": 3 / 5,
    "f1": 2 * 2 / (2 * 2 + 1 + 1),
    "macro_f1": (2 / 3 + 1 / 2) / 2,
    "macro_recall": (2 / 3 + 1 / 2) / 2,
    "matthews": (2 * 1 - 1 * 1) / math.sqrt(3 * 3 * 2 * 2),
    "pearson": PEARSON,
    "spearman": SPEARMAN,
    "pearson_spearman": (PEARSON + SPEARMAN) / 2,
}
CORRELATIONS = METRIC_NAMES["regression"]


def test_every_row_of_the_table_has_a_value_by_hand() -> None:
    assert set(METRICS) == set(BY_HAND)


@pytest.mark.parametrize("name", METRICS)
def test_the_value_by_hand(name: str) -> None:
    pair = (GUESSES, VALUES) if name in CORRELATIONS else (PREDICTED, LABELS)
    assert METRICS[name](*pair) == pytest.approx(BY_HAND[name], abs=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_a_perfect_prediction_scores_one(name: str) -> None:
    pair = (VALUES[:, None], VALUES) if name in CORRELATIONS else (np.eye(2)[LABELS], LABELS)
    assert METRICS[name](*pair) == pytest.approx(1)


@pytest.mark.parametrize("name", METRICS)
def test_the_reference_that_ignores_the_text_is_scored_without_a_warning(name: str) -> None:
    labels = VALUES if name in CORRELATIONS else LABELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score = METRICS[name](constant_logits(labels, 1 if name in CORRELATIONS else 2, len(labels)), labels)
    of_majority = {"accuracy": 3 / 5, "f1": 3 / 4, "macro_f1": 3 / 8, "macro_recall": 1 / 2}
    assert score == pytest.approx(of_majority.get(name, 0.0))


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "macro_recall", "matthews"])
def test_a_class_that_is_never_predicted_is_scored_without_a_warning(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 0 < METRICS[name](np.eye(3)[[0, 1, 1, 0]], np.array([0, 1, 2, 0])) < 1


@pytest.mark.parametrize("name", CORRELATIONS)
def test_a_prediction_that_is_not_finite_has_no_correlation(name: str) -> None:
    assert math.isnan(METRICS[name](np.full((4, 1), np.nan), VALUES))


def test_constant_logits_choose_the_majority_class_of_the_given_labels() -> None:
    logits = constant_logits(np.array([2, 2, 0]), 4, 5)
    assert logits.shape == (5, 4)
    assert logits.argmax(1).tolist() == [2] * 5
