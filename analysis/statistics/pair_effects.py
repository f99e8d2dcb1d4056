"""Whether a similarity knows anything of the pair, beyond which source and which target it is."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.statistics.coefficients import shares
from analysis.statistics.gains import ROUNDING, Floats
from analysis.statistics.resampling import pearson

DRAWS = 1999
"""Relabellings that are drawn."""
FEWEST_SOURCES, FEWEST_TARGETS = 3, 2
"""Below, nothing is left once means are removed."""
SWEEPS = 50
"""Rounds in which means are removed: of complete tables the first does it."""


@dataclass(frozen=True)
class PairEffect:
    """One similarity against one measure, ranks within targets, means of sources removed from both.

    Attributes:
        coefficient: Pearson's, of what is left, in [-1, 1].
        p: two-sided, corrected for the number of similarities, in (0, 1].
        chance: what the best of these similarities comes to by chance on average.
    """

    coefficient: float
    p: float
    chance: float


def pair_effects(similarities: Mapping[str, Floats], values: Floats, seed: int = 0) -> dict[str, PairEffect]:
    """The coefficient of each similarity after removing source means, with its p-value.

    A good source helps every target, and may be similar to every target too: a similarity earns a coefficient so
    without knowing anything of the pair. What is left after the means of sources are removed, from ranks within
    targets, is of the pair alone. Names of sources and of targets are permuted, of all similarities alike, and the
    largest coefficient among them is what each must exceed.

    Args:
        similarities: name -> [S, T]; NaN where there is no pair.
        values: [S, T] of the measure; NaN where unknown.
        seed: of the permutations.

    Returns:
        Those that have one: at least 3 sources and 2 targets, and something left that varies.

    Source: Krackhardt (1988), the quadratic assignment procedure; Westfall and Young (1993), the largest statistic
    of each permutation.
    """
    if values.shape[0] < FEWEST_SOURCES or values.shape[1] < FEWEST_TARGETS:
        return {}
    y = residuals(values)
    left = {name: residuals(grid) for name, grid in similarities.items()}
    moved = _relabelled(y, seed)  # [1 + DRAWS, S, T], the first as it is
    found = {name: _coefficients(x, moved) for name, x in left.items()}
    found = {name: drawn for name, drawn in found.items() if np.isfinite(drawn[0])}
    if not found:
        return {}
    every = np.nan_to_num(np.stack(list(found.values())))
    largest, plain = np.abs(every).max(axis=0), every.max(axis=0)
    return {
        name: PairEffect(float(drawn[0]), float((largest >= abs(drawn[0]) - ROUNDING).mean()), float(plain[1:].mean()))
        for name, drawn in found.items()
    }


def _relabelled(grid: Floats, seed: int) -> Floats:
    """[1 + DRAWS, S, T] a grid as it is, and with the names of its sources and targets permuted."""
    generator = np.random.default_rng(seed)
    moved = (grid[generator.permutation(len(grid))][:, generator.permutation(grid.shape[1])] for _ in range(DRAWS))
    return np.stack([grid, *moved])


def _coefficients(x: Floats, moved: Floats) -> Floats:
    """[B] Pearson's coefficient with each of some grids, of the cells that both have; NaN where a side does not vary."""
    weights = (~np.isnan(moved) & ~np.isnan(x)).astype(float).reshape(len(moved), -1)
    flat = np.nan_to_num(moved).reshape(len(moved), -1)
    return pearson(np.broadcast_to(np.nan_to_num(x).ravel(), flat.shape), flat, weights)


def residuals(grid: Floats) -> Floats:
    """[S, T] ranks within targets without the means of sources and targets; NaN stays."""
    left = np.stack([shares(column) for column in grid.T], axis=1)
    for _ in range(SWEEPS if np.isnan(left).any() else 1):
        for axis in (0, 1):
            known = ~np.isnan(left)
            total = np.where(known, left, 0).sum(axis=axis, keepdims=True)
            left = left - total / np.maximum(known.sum(axis=axis, keepdims=True), 1)
    return left


def source_only(values: Floats) -> float | None:
    """How well a source's mean rank on the other targets orders a target's sources: mean Spearman over targets.

    What one gets who knows which sources are good, and nothing of the target.

    Args:
        values: [S, T] of the measure; NaN where unknown.

    Returns:
        In [-1, 1]; None of fewer than 2 targets or where nothing varies.
    """
    if values.shape[1] < FEWEST_TARGETS:
        return None
    ranks, found = np.stack([shares(column) for column in values.T], axis=1), []
    for target in range(values.shape[1]):
        others = np.delete(ranks, target, axis=1)
        counts = (~np.isnan(others)).sum(axis=1)
        mean = np.where(counts > 0, np.nansum(others, axis=1) / np.maximum(counts, 1), np.nan)
        known = ~np.isnan(mean) & ~np.isnan(ranks[:, target])
        one = _coefficients(shares(np.where(known, mean, np.nan))[known], ranks[known, target][None])[0]
        if known.sum() >= FEWEST_SOURCES and np.isfinite(one):
            found.append(float(one))
    return float(np.mean(found)) if found else None
