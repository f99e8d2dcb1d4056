"""Task metrics: pure functions of logits and labels, over scikit-learn and SciPy."""

import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as sk

Array = NDArray[np.floating] | NDArray[np.integer]
Metric = Callable[[Array, Array], float]


def _of_classes(score: Callable[[Array, Array], float]) -> Metric:
    """A metric of logits [N, C] and labels [N] from one of labels and predictions [N]."""

    def metric(logits: Array, labels: Array) -> float:
        with warnings.catch_warnings():  # a class that is never predicted scores 0, which is the truth
            warnings.simplefilter("ignore")
            return float(score(labels, logits.argmax(1)))

    return metric


def _correlation(measure: Callable[[Array, Array], tuple[float, float]]) -> Metric:
    """A correlation of predictions [N, 1] and values [N], in [-1, 1]; 0 where predictions are constant."""

    def metric(logits: Array, labels: Array) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = float(measure(logits[:, 0], labels)[0])
        if np.isfinite(logits).all() and np.ptp(logits) == 0:
            return 0.0
        return value

    return metric


pearson = _correlation(stats.pearsonr)
spearman = _correlation(stats.spearmanr)


def pearson_spearman(logits: Array, labels: Array) -> float:
    """Mean of Pearson's and Spearman's correlation, in [-1, 1]. Source: GLUE, STS-B."""
    return (pearson(logits, labels) + spearman(logits, labels)) / 2


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "accuracy": _of_classes(lambda labels, predicted: float(np.mean(labels == predicted))),
        "f1": _of_classes(lambda labels, predicted: sk.f1_score(labels, predicted, zero_division=0)),
        "macro_f1": _of_classes(
            lambda labels, predicted: sk.f1_score(labels, predicted, average="macro", zero_division=0)
        ),
        "macro_recall": _of_classes(sk.balanced_accuracy_score),
        "matthews": _of_classes(sk.matthews_corrcoef),
        "pearson": pearson,
        "spearman": spearman,
        "pearson_spearman": pearson_spearman,
    }
)
"""Name -> function of logits [N, C] and labels [N]; larger is better."""


def constant_logits(labels: Array, outputs: int, n: int) -> NDArray[np.float32]:
    """[n, C] logits of the reference that ignores the text: the majority class, or a constant value."""
    logits = np.zeros((n, outputs), np.float32)
    if outputs > 1:
        logits[:, np.bincount(labels.astype(np.int64), minlength=outputs).argmax()] = 1
    return logits
