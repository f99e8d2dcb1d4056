"""What each report row adds to a score, so that any score is a mean over rows."""

from collections.abc import Callable

import numpy as np

from analysis.statistics.gains import Floats


def contributions(rows: Floats, score: Callable[[Floats], float]) -> Floats:
    """What each row adds to the score: their mean is the score, their spread its standard error.

    Of an accuracy it is whether the row is right; of a score that is no mean (F1, a correlation) it is the
    jackknife's pseudo-value, shifted so that the mean is the score itself.

    Args:
        rows: [N, M] what the metric needs of each row.
        score: of some of them [n, M].

    Returns:
        [N] in score units.

    Source: Tukey (1958); Efron and Stein (1981) on its variance.
    """
    whole, count = score(rows), len(rows)
    if count < 2:
        return np.full(count, whole)
    _, places, members = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    without = np.array([score(np.delete(rows, place, axis=0)) for place in places])  # equal rows are left out alike
    pseudo = count * whole - (count - 1) * without[members.reshape(-1)]
    finite: Floats = np.where(np.isfinite(pseudo), pseudo, whole)
    return finite - finite.mean() + whole
