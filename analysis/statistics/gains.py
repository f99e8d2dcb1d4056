"""Gain over the baseline, paired by seed and row, with its interval, and corrected for many targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

RESAMPLES = 2000
LEVEL = 0.95
ROUNDING = 1e-9
"""Scores this close are equal: means of the same scores may differ in their last bits."""


@dataclass(frozen=True)
class Gain:
    """Report score minus another's on the same rows, with the same seeds.

    Attributes:
        mean: over seeds, in score units.
        std: over seeds' differences; 0 for one seed.
        low: lower end of the 95 % interval.
        high: upper end.
        p: two-sided p-value of no difference, in (0, 1]; not corrected.
        n: seeds.
    """

    mean: float
    std: float
    low: float
    high: float
    p: float
    n: int


NONE = Gain(0.0, 0.0, 0.0, 0.0, 1.0, 0)
"""The gain of the baseline over itself."""


def excess(mean: float, errors: Sequence[float], differences: Floats, seeds: int, tried: int) -> Gain:
    """How far a searched score is above a reference on selection rows, and whether that is more than luck.

    Args:
        mean: the best configuration's score in the search minus the reference's, mean over the search's seeds.
        errors: [K] standard error over rows of such a difference, of each of other K replicas.
        differences: [K] theirs; how they deviate counts where it is more than rows explain.
        seeds: of the search.
        tried: configurations of which it is the best: the interval is corrected for them by Bonferroni.

    Returns:
        The excess with its corrected interval, from the normal distribution.
    """
    rows = float(np.mean(np.square(errors)))
    variance = max(rows, float(np.var(differences, ddof=1)) if len(differences) > 1 else 0.0) / seeds
    error = max(variance**0.5, ROUNDING)
    half = float(stats.norm.isf((1 - LEVEL) / 2 / max(tried, 1))) * error
    p = min(1.0, tried * 2 * float(stats.norm.sf(abs(mean) / error)))
    return Gain(mean, 0.0, mean - half, mean + half, max(p, float(np.finfo(float).tiny)), seeds)


def relative_performance(ours: float, theirs: float) -> float | None:
    """A score as a multiple of another's; None where the other's is 0 or below.

    Args:
        ours: mean report score, in [-1, 1].
        theirs: that of the target's own prompt.

    Returns:
        1 is as good; below 0 where ours is.

    Source: Su et al. (NAACL 2022), relative performance of a prompt from another task.
    """
    return ours / theirs if theirs > 0 else None


def relative_error_reduction(ours: float, theirs: float) -> float | None:
    """The share of the baseline's error that is gone; None where the baseline has no error, at 1 or above.

    Args:
        ours: mean report score, in [-1, 1].
        theirs: the baseline's.

    Returns:
        1 is no error left, 0 the baseline's; negative where ours is worse, without a bound.

    Source: SPoT (arXiv:2110.07904), whose scores run to 100; its tables show the mean over targets.
    """
    return (ours - theirs) / (1 - theirs) if theirs < 1 else None


def gap_closed(student: float, ours: float, teacher: float) -> float | None:
    """The share of the way from student to teacher; None where the teacher is not better.

    Args:
        student: mean report score of the small PLM tuned alone, in [-1, 1].
        ours: of the small PLM distilled from the teacher.
        teacher: of the larger PLM.

    Returns:
        0 is the student, 1 the teacher; above 1 where the teacher is surpassed, negative where
        distillation hurts, without a bound.

    Source: performance gap recovered of Burns et al. (arXiv:2312.09390), for Yuan & Lang's students.
    """
    return (ours - student) / (teacher - student) if teacher - student > ROUNDING else None


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, in the order given.

    Source: Holm (1979): step down; controls the chance of any false finding.
    """
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(len(p_values))
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, p_values[i] * (len(p_values) - rank)))
        corrected[i] = highest
    return [float(p) for p in corrected]


def spread(values: list[float]) -> float:
    """Standard deviation of a sample; 0 for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
