"""How far measurements agree with themselves: the most that a prediction of them can be right."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from analysis.statistics.gains import ROUNDING, Floats
from analysis.statistics.resampling import pearson

SPLITS = 200
"""Splits of seeds and rows that are drawn."""


def noise_ceiling(measured: Sequence[tuple[str, Floats]], minimum: int, seed: int = 0) -> float | None:
    """Correlation of a measure with another measurement of it, with as many other seeds on as many other rows.

    Half the seeds on half the rows against the other half of both, per target over its sources; mean of targets and
    of splits, then corrected for the halves. Split by seeds alone, both halves would share the luck of the report
    rows, and agree where nothing is there. The correction comes last, since it has no bound for a split that is
    negative by chance; it is slightly too small, for halves of both lose more than half of what both do together.

    Args:
        measured: target and [K, N] what each report row adds to each seed's score, one per pair; N is 1 where
            seeds do not share rows. Pairs of another shape than most of their target's are left out.
        minimum: sources of a target that counts.
        seed: of the splits.

    Returns:
        Spearman's coefficient in [0, 1]; 0 where the halves do not agree; None with fewer than 2 seeds, or
        where no target has enough sources with different values.

    Source: Spearman (1910) and Brown (1910), the correlation of a lengthened test.
    """
    tables = [table for table in _tables(measured) if len(table) >= minimum and table.shape[1] > 1]
    generator = np.random.default_rng(seed)
    found = np.concatenate([_agreements(table, generator) for table in tables]) if tables else np.empty(0)
    if not np.isfinite(found).any():
        return None
    agreement = max(0.0, float(np.nanmean(found)))
    return 2 * agreement / (1 + agreement)


def _tables(measured: Sequence[tuple[str, Floats]]) -> list[Floats]:
    """[S, K, N] of each target: its pairs of the most frequent shape, all values finite."""
    by_target: dict[str, list[Floats]] = {}
    for target, values in measured:
        if values.size and np.isfinite(values).all():
            by_target.setdefault(target, []).append(values)
    shapes = {target: [values.shape for values in found] for target, found in by_target.items()}
    usual = {target: max(found, key=lambda shape: (found.count(shape), shape)) for target, found in shapes.items()}
    return [np.stack([v for v in found if v.shape == usual[target]]) for target, found in by_target.items()]


def _agreements(table: Floats, generator: np.random.Generator) -> Floats:
    """[SPLITS] Spearman's coefficient of two halves of [S, K, N]; NaN where a half does not vary."""
    _, seeds, rows = table.shape
    halves = zip(_halves(seeds, generator), _halves(rows, generator), strict=True)
    means = [np.einsum("skb,bk->bs", table @ of_rows.T, of_seeds) for of_seeds, of_rows in halves]
    x, y = (stats.rankdata((mean / ROUNDING).round(), axis=1) for mean in means)
    return pearson(x, y, np.ones(x.shape))


def _halves(count: int, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """[SPLITS, count] twice: shares of two halves, one left out of an odd number; of one, itself twice."""
    if count == 1:
        return np.ones((SPLITS, 1)), np.ones((SPLITS, 1))
    order = generator.permuted(np.tile(np.arange(count), (SPLITS, 1)), axis=1)
    half = count // 2
    first, second = (order < half) / half, ((order >= half) & (order < 2 * half)) / half
    return first, second
