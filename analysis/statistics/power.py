"""How small a difference could have been seen."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from math import sqrt
from statistics import stdev

import numpy as np
from scipy import optimize, stats

from analysis.statistics.gains import LEVEL

POWER = 0.8
"""Chance to see a difference of the size that is called detectable."""
FEWEST = 5
"""Values of which a deviation says little: below, the detectable difference cannot be said."""


@dataclass(frozen=True)
class Detectable:
    """The smallest true mean that a two-sided t-test of so many values sees with a chance of POWER.

    Attributes:
        size: in the unit of the values; 0 or more.
        low: lower end of its 95 % interval, for the deviation is but estimated.
        high: upper end.
    """

    size: float
    low: float
    high: float


def minimum_detectable_effect(values: Iterable[float]) -> Detectable | None:
    """The smallest difference that an experiment like this one sees with a chance of POWER.

    The deviation of the values is an estimate, so that a power computed as if it were the truth is too low on
    average. The size given here is the one with POWER on average over what the deviation may be.

    Args:
        values: of targets, in any unit, as if from a normal distribution.

    Returns:
        None for fewer than FEWEST values.

    Source: Bloom (1995), minimum detectable effects, with the noncentral t-distribution in place of the normal
    one and the deviation integrated over its chi-squared distribution.
    """
    known = list(values)
    if len(known) < FEWEST:
        return None
    degrees = len(known) - 1
    size = _multiple(len(known)) * stdev(known) / sqrt(len(known))
    ends = (float(stats.chi2.ppf((1 + sign * LEVEL) / 2, degrees)) for sign in (1, -1))
    low, high = (size * sqrt(degrees / end) for end in ends)
    return Detectable(size, low, high)


@cache
def _multiple(count: int) -> float:
    """How many estimated standard errors a mean must be to be seen with a chance of POWER."""
    degrees = count - 1
    critical = float(stats.t.ppf((1 + LEVEL) / 2, degrees))
    ratios = np.sqrt(stats.chi2.ppf((np.arange(200) + 0.5) / 200, degrees) / degrees)  # estimated / true deviation

    def excess(multiple: float) -> float:
        away = multiple * ratios
        seen = stats.nct.sf(critical, degrees, away) + stats.nct.cdf(-critical, degrees, away)
        return float(np.nanmean(seen)) - POWER

    return float(optimize.brentq(excess, 0.5, 60))
