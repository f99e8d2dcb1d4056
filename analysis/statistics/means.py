"""Means over targets with their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from scipy import stats

from analysis.statistics.gains import LEVEL, ROUNDING

FEWEST = 3
"""Values below which an interval over them says nothing."""


@dataclass(frozen=True)
class Mean:
    """A mean over targets, or studies.

    Attributes:
        mean: in the unit of the values.
        low: lower end of its 95 % interval by Student's t; None for fewer than FEWEST.
        high: upper end.
        n: values.
        p: two-sided, of no mean, in (0, 1]; None for fewer than FEWEST.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    p: float | None = None

    @property
    def is_positive(self) -> bool:
        """Whether the interval lies above 0."""
        return self.low is not None and self.low > ROUNDING

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends; None where there is none."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def mean_of(values: Sequence[float]) -> Mean:
    """The mean of one value or more."""
    mean = fmean(values)
    if len(values) < FEWEST:
        return Mean(mean, None, None, len(values))
    error = stdev(values) / sqrt(len(values))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    p = 1.0 if abs(mean) <= ROUNDING else float(2 * stats.t.sf(abs(mean) / max(error, ROUNDING), len(values) - 1))
    return Mean(mean, mean - half, mean + half, len(values), max(p, 1e-300))
