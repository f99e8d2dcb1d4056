"""Spearman and Pearson of plain numbers, where there is a coefficient; else why there is none."""

import math

import numpy as np
from scipy import stats

from analysis.statistics.gains import ROUNDING, Floats

Four = tuple[float | None, float | None, float | None, float | None]


def levels(values: Floats) -> Floats:
    """Whole numbers in the order of the values; those that differ by rounding alone are equal.

    Args:
        values: [N]; may be infinite or NaN, which stays.
    """
    finite = np.abs(values[np.isfinite(values)])
    nearest = np.round(values / (finite.max(initial=0) or 1) / ROUNDING)
    ordered: Floats = np.unique(nearest, return_inverse=True)[1].astype(float)
    return np.where(np.isnan(values), np.nan, ordered)


def coefficients(x: Floats, y: Floats, sources: int, least: int) -> tuple[Four, str]:
    """Spearman, its p, Pearson, its p; and why there are none, empty where there are.

    Both p are SciPy's, by Student's t: too small of few values, for which there is `exact_p`.

    Args:
        x: [N] similarities.
        y: [N] values; where one is infinite there is no Pearson.
        sources: how many different ones these are of.
        least: sources below which there is no coefficient.
    """
    if why := _obstacle(x, y, sources, least):
        return (None, None, None, None), why
    ranked = stats.spearmanr(levels(x), levels(y))
    spearman = float(ranked.statistic), float(ranked.pvalue)
    if not np.isfinite([*x, *y]).all():
        return (*spearman, None, None), ""
    plain = stats.pearsonr(x, y)
    return (*spearman, float(plain.statistic), float(plain.pvalue)), ""


EXACT = 7
"""Values up to which every order is tried: SciPy's approximation calls four that agree beyond doubt."""


def exact_p(x: Floats, y: Floats) -> float:
    """Two-sided p of Spearman's coefficient, of all orders: twice the smaller tail, in (0, 1].

    Args:
        x: [N] few.
        y: [N].
    """
    a, b = (stats.rankdata(levels(side)) for side in (x, y))

    def product(order: Floats, axis: int) -> Floats:  # grows with the coefficient; of halves, so exact
        return (order * b).sum(axis=axis)

    tried = stats.permutation_test(
        (a,), product, permutation_type="pairings", vectorized=True, n_resamples=math.factorial(EXACT)
    )
    return float(tried.pvalue)


def _obstacle(x: Floats, y: Floats, sources: int, least: int) -> str:
    if sources < least:
        return f"{sources} source{'s' * (sources != 1)}: at least {least} are needed"
    same = [name for name, side in (("similarities", x), ("values", y)) if np.ptp(levels(side)) == 0]
    return f"all {' and all '.join(same)} are the same" if same else ""


def shares(values: Floats) -> Floats:
    """Share of the values below each, half of its equals and of itself among them, in (0, 1); NaN stays.

    Args:
        values: [N] of one target.
    """
    known, result = ~np.isnan(values), np.full(len(values), np.nan)
    result[known] = (stats.rankdata(levels(values[known])) - 0.5) / max(1, known.sum())
    return result
