"""How far measurements agree with themselves: the most that a prediction of them can be right."""

import itertools
import math
from collections.abc import Iterator, Sequence
from statistics import fmean

import numpy as np
from scipy import stats

from analysis.statistics.coefficients import levels
from analysis.statistics.gains import Floats

SPLITS = 200
"""Splits of seeds that are drawn where there are more."""


def noise_ceiling(measured: Sequence[tuple[str, Sequence[float]]], minimum: int, seed: int = 0) -> float | None:
    """Correlation of a measure with another measurement of it, with as many other seeds.

    Half the seeds against the other half, per target over its sources, mean of targets and of splits, then
    corrected for the halved number of seeds. With an odd number each split leaves one seed out. The
    correction comes last, since it has no bound for a split that is negative by chance.

    Args:
        measured: target and the value of every seed, one per pair; pairs that lack a seed are left out.
        minimum: sources of a target that counts.
        seed: of the splits, where not all are tried.

    Returns:
        Spearman's coefficient in [0, 1]; 0 where the halves do not agree; None with fewer than 2 seeds, or
        where no target has enough sources with different values.

    Source: Spearman (1910) and Brown (1910), the correlation of a lengthened test.
    """
    seeds = max((len(values) for _, values in measured), default=0)
    half = seeds // 2
    if not half:
        return None
    by_target: dict[str, list[Sequence[float]]] = {}
    for target, values in measured:
        if len(values) == seeds and all(map(math.isfinite, values)):
            by_target.setdefault(target, []).append(values)
    tables = [np.array(rows) for rows in by_target.values() if len(rows) >= minimum]  # [S, K] each
    found = [_agreement(table, *halves) for halves in _splits(seeds, half, seed) for table in tables]
    known = [agreement for agreement in found if agreement is not None]
    if not known:
        return None
    agreement, times = max(0.0, fmean(known)), seeds / half
    return times * agreement / (1 + (times - 1) * agreement)


def _splits(seeds: int, half: int, seed: int) -> Iterator[tuple[list[int], list[int]]]:
    """Two halves of the seeds, each once, or as many as are drawn."""
    if math.comb(seeds, half) * math.comb(seeds - half, half) / 2 <= SPLITS:
        for one in itertools.combinations(range(seeds), half):
            for other in itertools.combinations(sorted({*range(seeds)} - {*one}), half):
                if one < other:
                    yield list(one), list(other)
        return
    generator = np.random.default_rng(seed)
    for _ in range(SPLITS):
        order = [int(i) for i in generator.permutation(seeds)]
        yield order[:half], order[half : 2 * half]


def _agreement(table: Floats, one: list[int], other: list[int]) -> float | None:
    """Spearman's coefficient of two halves; None where a half does not vary."""
    x, y = (levels(table[:, half].mean(axis=1)) for half in (one, other))
    return float(stats.spearmanr(x, y)[0]) if np.ptp(x) > 0 and np.ptp(y) > 0 else None
